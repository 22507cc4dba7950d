"""The class of estimators, and the register of all of them.  Imports nothing heavy: help and specifications read it."""

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
"""The population that a finite set comes from, measured with items held out."""
CONDITIONAL = "conditional model"
"""A network that can be conditioned on attributes."""
SAMPLER = "sampler"
"""An unconditional network, whose images are labelled."""
PATH_ESTIMATOR = "own_path"
"""Name of the estimators along the model's own path, and key of their jobs."""
PICTURES = "pictures"
"""Features of the pictures themselves, such as frequency bands."""
SUBJECTS = (EXACT, POPULATION, CONDITIONAL, SAMPLER, PICTURES)


@dataclass(frozen=True)
class Facts:
    """What a user should know of an estimator before choosing it, for the table of the documentation.

    Attributes:
        needs: what it needs of the model and of the data.
        bias: the direction of its bias, and what causes it.
        cost: what its time grows with.
    """

    needs: str = ""
    bias: str = ""
    cost: str = ""


P = TypeVar("P", contravariant=True)
"""The kind of problem that an estimator is given."""


class Estimator(ABC, Generic[P]):
    r"""One way to measure :math:`I(A; Y_\sigma)` of a kind of subject.

    It requests jobs from a problem, and turns them into curves once they are done.  Two estimators that need the same
    pass request the same key, and get the same job.  A new one is a subclass that sets ``name`` and ``subjects`` and
    defines :meth:`jobs` and :meth:`curves`; :func:`register` makes it known.

    Attributes:
        name: the name by which specifications, files and messages call it.
        subjects: the kinds of subject that it can measure: ``exact law``, ``population``, ``conditional model`` or
            ``sampler``.
        kind: whether its curves are ``exact``, an ``estimate`` or a ``lower bound``.
        words: a sentence or two for the page: what it measures, and how.
        help: the same in a few words, for ``--help``; empty where the name is enough.
        label: its name in the legend of a figure; empty: ``name``.
        called: its name within a sentence; empty: ``name``.
        colour: index of its colour in figures.
        usual: the kinds of subject that are measured with it by default.
        integrates: whether it integrates over levels, which must then be close to each other.
        needs: what a pass over the data must compute for it besides posteriors: ``gaps``, or nothing.
        measures_reals: whether it measures real-valued attributes, too.
        columns: for a model, what the columns of its curves are: the ``tested`` draws, ``all`` draws (those on which
            choices are made among them), or its ``own`` replicates, as many as curves of a model have.
        controls: for a model, where the classifier's control variates are evaluated: at the noisy ``draws`` or along
            ``paths``.
        facts: what it needs, its bias and its cost, for the table of the documentation.
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
    measures_reals: bool = False
    columns: Literal["tested", "all", "own"] = "tested"
    controls: Literal["draws", "paths"] = "draws"
    facts: Facts = Facts()

    def __str__(self) -> str:
        return self.name

    def refusal(self, subject: Any) -> str:
        """Why it cannot measure a subject of its kinds, and what to do, in one line; empty where it can."""
        return ""

    @abstractmethod
    def jobs(self, problem: P) -> Mapping[str, Job]:
        """The jobs that it waits for, by key, made with the problem's ``job`` so that they are shared."""

    def network_calls(self, problem: P) -> int:
        """Network calls of its jobs, about, where they are known before they are made; 0 for others."""
        return 0

    def cost(self, problem: P) -> tuple[str, str] | None:
        """The name and the size of its jobs for a dry run; None where other lines count them."""
        return None

    @abstractmethod
    def curves(self, problem: P, done: Mapping[str, Job]) -> Sequence[Curve]:
        """Its curves of every attribute of the problem, from jobs that are done."""


@dataclass(frozen=True)
class Derived:
    """A curve that is made from others or measured beside them.

    It is shown like an estimator's, and cannot be requested.  Its fields are those of an :class:`Estimator` with the
    same names.
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

    Args:
        estimator: an instance.

    Returns: the estimator.

    Raises: ValueError for a name that is registered for a kind of subject already.
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
    return tuple(name for name, kind in _REGISTER if kind == subject)


def usual(subject: str) -> tuple[str, ...]:
    """Those that a kind of subject is measured with by default."""
    return tuple(name for name in names(subject) if subject in _REGISTER[name, subject].usual)


def named(name: str, subject: str) -> Estimator[Any]:
    """The estimator of that name.

    Raises: InputError that lists the names, if there is none.
    """
    if (name, subject) not in _REGISTER:
        raise InputError(f"no estimator is called {name!r}: choose among {', '.join(names(subject))}")
    return _REGISTER[name, subject]


def every() -> list[tuple[str, Estimator[Any]]]:
    """All estimators with their kinds of subject, in the order in which they were registered."""
    return [(subject, estimator) for (_, subject), estimator in _REGISTER.items()]


def in_order(curves: Iterable[str], subject: str) -> list[str]:
    """Names of curves in the order in which they were registered; unknown ones come last."""
    places = {n: k for k, (n, kind) in enumerate((*_REGISTER, *_DERIVED)) if kind == subject}
    return sorted(curves, key=lambda name: places.get(name, len(_REGISTER) + len(_DERIVED)))


def look(name: str, subject: str = "") -> Estimator[Any] | Derived | None:
    """The estimator or derived curve of that name; of any kind of subject where none is given."""
    every: dict[tuple[str, str], Estimator[Any] | Derived] = {**_REGISTER, **_DERIVED}
    return every.get((name, subject)) or next((e for (n, _), e in every.items() if n == name), None)
