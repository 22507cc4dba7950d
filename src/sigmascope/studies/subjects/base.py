"""Subjects of studies, and the registry of the ways to open them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from sigmascope.core import Attribute, Curve, InputError, RealAttribute
from sigmascope.exact.features import Feature
from sigmascope.information.estimator import Estimator, named
from sigmascope.information.jobs import Job
from sigmascope.information.problem import Problem
from sigmascope.report.explorer import Explored
from sigmascope.studies.spec import Spec
from sigmascope.studies.subjects.extra import Extra

P = TypeVar("P", bound=Problem[Any])
Measured = Sequence[tuple[Estimator[Any], Sequence[Curve]]]


class Subject(ABC, Generic[P]):
    """What a study measures: an exact law, a population, a conditional model, a sampler.

    Attributes:
        kind: one of :data:`~sigmascope.information.estimator.SUBJECTS`, which decides the estimators that apply.
        data: the data; results hold their name, words, unit and fingerprint.
        attributes: the attributes studied that have values and a prior.
        real_attributes: the real-valued attributes studied.
        features: the features of the pictures themselves that are studied.
    """

    kind: str
    data: Any
    attributes: tuple[Attribute, ...]
    real_attributes: tuple[RealAttribute, ...] = ()
    features: tuple[Feature, ...] = ()

    @property
    def studied(self) -> tuple[Attribute | RealAttribute | Feature, ...]:
        """All attributes and features studied, in the order of results."""
        return (*self.attributes, *self.real_attributes, *self.features)

    @abstractmethod
    def problem(self, spec: Spec) -> P:
        """Draws, levels, seed and estimators of the specification."""

    @abstractmethod
    def extras(self, problem: P) -> Sequence[Extra]:
        """The variables of results beside the curves, in the order in which they are added."""

    @abstractmethod
    def dry_run(self, spec: Spec, reading: float) -> list[str]:
        """The lines of a dry run: data, cost, time, memory.

        Args:
            spec: the study.
            reading: seconds it took to open the subject.
        """

    def explored(self, problem: P, curves: Sequence[Curve]) -> Explored | None:
        """One image at many levels for the page's slider; None where the posterior is not known exactly.

        Args:
            problem: whose first draw is shown.
            curves: of the study's main estimator, in order of emergence.
        """
        return None

    @abstractmethod
    def beside(self, problem: P) -> Sequence[Estimator[Any]]:
        """Estimators that every study of it has, in addition to those of the specification."""

    @abstractmethod
    def joining(self, problem: P) -> Joins:
        """How the curves of estimators become those of the study; often :class:`Unjoined`."""

    def estimators(self, spec: Spec) -> tuple[Estimator[Any], ...]:
        """The estimators that the specification names.

        Raises: InputError for one that cannot measure this subject.
        """
        chosen = [named(name, self.kind) for name in spec.estimators]
        for e in chosen:
            if why := e.refusal(self):
                raise InputError(why)
        return tuple(chosen)


@runtime_checkable
class Joins(Protocol):
    """A function from the curves of estimators to the curves of a study, and the jobs that it needs."""

    def jobs(self) -> Mapping[str, Job]:
        """Its jobs."""

    def curves(self, measured: Measured, done: Mapping[str, Any], /) -> list[Curve]:
        """The curves of the study, in order."""


class Unjoined:
    """The curves of every estimator, unchanged."""

    def jobs(self) -> Mapping[str, Job]:
        return {}

    def curves(self, measured: Measured, done: Mapping[str, Any], /) -> list[Curve]:
        return [c for _, curves in measured for c in curves]


@dataclass(frozen=True)
class Opening:
    """A way to open a kind of subject.

    Args:
        words: the kind of subject, for messages.
        claims: whether a specification is for this kind.
        open: opens the subject, and fills in the specification.  It takes the specification, the folder of the study
            (where images may be kept) and whether to show progress.
        about: the lines of a dry run without opening the subject, where opening makes images; None: open it.
    """

    words: str
    claims: Callable[[Spec], bool]
    open: Callable[[Any, Path | None, bool], tuple[Subject[Any], Spec]]
    about: Callable[[Any], tuple[list[str], Spec] | None] = lambda spec: None


_OPENINGS: list[Opening] = []


def register(opening: Opening, *, last: bool = False) -> Opening:
    """Register a kind of subject, before those registered earlier or after all of them."""
    _OPENINGS.insert(len(_OPENINGS) if last else 0, opening)
    return opening


def unregister(opening: Opening) -> None:
    """Remove a kind of subject."""
    _OPENINGS.remove(opening)


def opening_of(spec: Spec) -> Opening:
    """The way to open the subject of a specification.

    Raises: InputError where there is none.
    """
    for opening in _OPENINGS:
        if opening.claims(spec):
            return opening
    words = ", ".join(o.words for o in _OPENINGS)
    raise InputError(f"{spec.inputs.data}: no kind of subject fits this specification: expected one of {words}")


def filled(spec: Spec, data: Any, names: Sequence[str]) -> Any:
    """The specification with the fingerprint of its data and the attributes studied."""
    return replace(spec, inputs=replace(spec.inputs, attributes=tuple(names)), fingerprint=data.fingerprint)
