"""What a subject is, all that a study knows of it, and the register of how subjects are opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from sigmascope.core import Attribute, Curve, InputError
from sigmascope.information.estimator import Estimator, named
from sigmascope.information.jobs import Job
from sigmascope.information.problem import Problem
from sigmascope.report.explorer import Explored
from sigmascope.studies.spec import Spec
from sigmascope.studies.subjects.extra import Extra

P = TypeVar("P", bound=Problem[Any])
Found = Sequence[tuple[Estimator[Any], Sequence[Curve]]]


class Subject(ABC, Generic[P]):
    """What is studied.

    Everything that a study does with it is here; nothing else in the house asks what kind it is.

    Attributes:
        kind: one of :data:`~sigmascope.information.estimator.SUBJECTS`: which estimators can measure it.
        data: what draws are made of; its name, words, unit and fingerprint stand in results.
        attributes: those studied.
    """

    kind: str
    data: Any
    attributes: tuple[Attribute, ...]

    @abstractmethod
    def problem(self, spec: Spec) -> P:
        """Draws of it and levels, as the specification asks for."""

    @abstractmethod
    def extras(self, problem: P) -> Sequence[Extra]:
        """What a study of it leaves beside its curves, in the order in which the results get them."""

    @abstractmethod
    def dry_run(self, spec: Spec, reading: float) -> list[str]:
        """What a study of it would take, a line each.

        Args:
            spec: the study.
            reading: seconds that it took to open the subject.
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
        """Estimators that measure it whatever is asked for; none, as a rule."""

    @abstractmethod
    def joining(self, problem: P) -> Joins:
        """What joins the curves of its estimators; :class:`AsTheyAre`, as a rule."""

    def estimators(self, spec: Spec) -> tuple[Estimator[Any], ...]:
        """Those that the specification names.

        Raises: InputError for one that cannot measure it.
        """
        found = [named(name, self.kind) for name in spec.estimators]
        for e in found:
            if why := e.refusal(self):
                raise InputError(why)
        return tuple(found)


@runtime_checkable
class Joins(Protocol):
    """Functions from the curves of estimators to those of a study."""

    def jobs(self) -> Mapping[str, Job]:
        """What they wait for."""

    def curves(self, found: Found, done: Mapping[str, Any]) -> list[Curve]:
        """The curves of the study, in its order."""


class AsTheyAre:
    """The curves of every estimator, in its order."""

    def jobs(self) -> Mapping[str, Job]:
        return {}

    def curves(self, found: Found, done: Mapping[str, Any]) -> list[Curve]:
        return [c for _, curves in found for c in curves]


@dataclass(frozen=True)
class Opening:
    """How a kind of subject is opened.

    Args:
        words: what it is, in a few words, for complaints.
        claims: whether a specification is of it.
        open: the subject and the specification, filled in; given the folder of the study where images may be kept, and
            whether to show progress.
        about: what can be said of it before it is opened, where opening makes images: lines of a dry run; None: opening
            is cheap.
    """

    words: str
    claims: Callable[[Spec], bool]
    open: Callable[[Any, Path | None, bool], tuple[Subject[Any], Spec]]
    about: Callable[[Any], tuple[list[str], Spec] | None] = lambda spec: None


_OPENINGS: list[Opening] = []


def register(opening: Opening, *, last: bool = False) -> Opening:
    """Make a kind of subject known: it is asked before those that were registered earlier, or after all of them."""
    _OPENINGS.insert(len(_OPENINGS) if last else 0, opening)
    return opening


def unregister(opening: Opening) -> None:
    """Forget a kind of subject."""
    _OPENINGS.remove(opening)


def opening_of(spec: Spec) -> Opening:
    """How the subject of a specification is opened.

    Raises: InputError where nothing claims it.
    """
    found = next((o for o in _OPENINGS if o.claims(spec)), None)
    if found is None:
        known = ", ".join(o.words for o in _OPENINGS)
        raise InputError(f"{spec.inputs.data}: no kind of subject takes this specification: expected one of {known}")
    return found


def filled(spec: Spec, data: Any, names: Sequence[str]) -> Any:
    """The specification with the fingerprint of its data and the attributes studied."""
    return replace(spec, inputs=replace(spec.inputs, attributes=tuple(names)), fingerprint=data.fingerprint)
