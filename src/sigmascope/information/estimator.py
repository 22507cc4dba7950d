"""What an estimator is, and the register of all of them.  Imports nothing heavy: help and specifications read it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from sigmascope.errors import InputError

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job

Kind = Literal["exact", "estimate", "lower bound"]
EXACT = "exact law"
"""A subject whose posterior is known exactly: a finite set, or a hierarchy."""
POPULATION = "population"
"""The population that a finite set comes from: it is known by items held out."""
CONDITIONAL = "conditional model"
"""A network that can be told attributes."""
SAMPLER = "sampler"
"""A network that is told nothing: it makes images, which are labelled."""
PATH_ESTIMATOR = "own_path"
"""Name of the estimators along the model's own path, and key of their jobs."""
SUBJECTS = (EXACT, POPULATION, CONDITIONAL, SAMPLER)


P = TypeVar("P", contravariant=True)
"""The kind of problem that an estimator sees."""


class Estimator(ABC, Generic[P]):
    r"""One way to measure :math:`I(A; Y_\sigma)` of a kind of subject.

    It asks a problem for jobs and turns them into curves once they are done.  Two estimators that need the same pass
    ask for the same key, and get the same job.

    Attributes:
        name: in specifications, files and messages.
        subjects: the kinds of subject that it can measure.
        kind: of its curves.
        words: what it measures and how, a sentence or two, for the page.
        help: the same in a few words, for ``--help``; empty: its name says enough.
        label: in the legend of a figure; empty: its name.
        called: how a sentence names it; empty: its name.
        colour: index of its colour in figures.
        usual: the kinds of subject that are measured with it where nothing else is asked for.
        integrates: whether it integrates over levels, which must then be near to each other.
        needs: what its pass must hold besides posteriors, ``gaps``, or nothing.
        columns: of a model, what its curves hold a column of: each ``tested`` draw; ``all`` draws, those that choices
            are made on among them; or its ``own``, as many as curves of a model have.
        controls: of a model, what a classifier would say of the same draws: of their own noise, or along ``paths``.
    """

    name: str
    subjects: tuple[str, ...]
    kind: Kind = "estimate"
    words: str = ""
    help: str = ""
    label: str = ""
    called: str = ""
    colour: int = 0
    usual: tuple[str, ...] = ()
    integrates: bool = False
    needs: frozenset[str] = frozenset()
    columns: Literal["tested", "all", "own"] = "tested"
    controls: Literal["draws", "paths"] = "draws"

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def refusal(self, subject: Any) -> str:
        """Why it cannot measure a subject of its kinds, in one line that says what to do; empty where it can."""

    @abstractmethod
    def jobs(self, problem: P) -> Mapping[str, Job]:
        """The pieces of work that it waits for, by their key, made with its ``job`` so that they are shared."""

    @abstractmethod
    def cost(self, problem: P) -> tuple[str, str] | None:
        """What a dry run says of its work: of what, and how much; None: it shares the work of others."""

    @abstractmethod
    def curves(self, problem: P, done: Mapping[str, Job]) -> Sequence[Curve]:
        """Its curves of every attribute of the problem, from jobs that are done."""


@dataclass(frozen=True)
class Derived:
    """A curve that is made of others, or beside them: it is shown like an estimator's, and cannot be asked for.

    Args:
        name: of the curve, as it stands in results.
        subjects: the kinds of subject whose studies hold it.
        kind: of the curve.
        words: for the page.
        label: in legends; empty: its name.
        called: in sentences; empty: its name.
        colour: index of its colour.
    """

    name: str
    subjects: tuple[str, ...]
    kind: Kind
    words: str = ""
    label: str = ""
    called: str = ""
    colour: int = 0


_REGISTER: dict[tuple[str, str], Estimator[Any]] = {}
_DERIVED: dict[tuple[str, str], Derived] = {}


def register(estimator: Estimator[Any]) -> Estimator[Any]:
    """Make an estimator known: specifications, help, dry run, studies, pages and comparisons then have it.

    Returns: the estimator.

    Raises: ValueError for a name that a kind of subject has already.
    """
    for subject in estimator.subjects:
        if (estimator.name, subject) in _REGISTER:
            raise ValueError(f"{estimator.name!r} is registered for {subject} already: choose another name")
        _REGISTER[estimator.name, subject] = estimator
    return estimator


def unregister(estimator: Estimator[Any]) -> None:
    """Forget an estimator."""
    for subject in estimator.subjects:
        _REGISTER.pop((estimator.name, subject), None)


def derived(curve: Derived) -> Derived:
    """Make a derived curve known to pages."""
    _DERIVED.update({(curve.name, subject): curve for subject in curve.subjects})
    return curve


def names(subject: str) -> tuple[str, ...]:
    """Names of the estimators of a kind of subject, in the order in which they were registered."""
    return tuple(name for name, of in _REGISTER if of == subject)


def usual(subject: str) -> tuple[str, ...]:
    """Those that a kind of subject is measured with where nothing else is asked for."""
    return tuple(name for name in names(subject) if subject in _REGISTER[name, subject].usual)


def named(name: str, subject: str) -> Estimator[Any]:
    """The estimator of that name.

    Raises: InputError, with those that there are.
    """
    if (name, subject) not in _REGISTER:
        raise InputError(f"no estimator is called {name!r}: choose among {', '.join(names(subject))}")
    return _REGISTER[name, subject]


def in_order(found: Iterable[str], subject: str) -> list[str]:
    """Names of curves in the order in which they were registered; those that nothing made known come last."""
    places = {n: k for k, (n, of) in enumerate((*_REGISTER, *_DERIVED)) if of == subject}
    return sorted(found, key=lambda name: places.get(name, len(_REGISTER) + len(_DERIVED)))


def look(name: str, subject: str = "") -> Estimator[Any] | Derived | None:
    """How a curve is shown: an estimator's, or a derived one; of any kind of subject where none is named."""
    every: dict[tuple[str, str], Estimator[Any] | Derived] = {**_REGISTER, **_DERIVED}
    return every.get((name, subject)) or next((e for (n, _), e in every.items() if n == name), None)
