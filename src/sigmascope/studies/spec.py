"""The specification of a study: what decides its numbers, by the kind of study.  Imports nothing heavy.

Each kind has the options that it can use, and no other; ``validate`` refuses, ``resolve`` fills in.
"""

from __future__ import annotations

import tomllib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

import sigmascope.information.estimators  # noqa: F401  (registers the built-in ones)
from sigmascope.arguments import listed
from sigmascope.errors import InputError
from sigmascope.information.estimator import CONDITIONAL, EXACT, POPULATION, SAMPLER, names, usual
from sigmascope.limits import real, refuse, shown, whole
from sigmascope.studies.options import (
    Common,
    ExactOptions,
    ForkOptions,
    GapOptions,
    PipelineOptions,
    StudyOptions,
    WithModel,
    changed,
    flat,
)

PIPELINE = "diffusers:"
"""What stands before the folder of a pipeline of diffusers, as a model."""
HUB = "hub:"
"""What stands before the id of a pipeline of a hub, as a model."""
GENERATED = "generated"
"""In place of data: images that the pipeline makes itself."""
(HELDOUT,) = names(POPULATION)
"""The one estimator of the held-out law: a lower bound."""
_LONGEST = 10_000_000  # bytes of a specification
_STDERR = 0.02  # nats, of a learned model's gaps
_FORKS, _FORKS_OF_PIPELINE = 64, 16  # children of a draw
_STEPS = 20  # of a continuation by a pipeline


@dataclass(frozen=True)
class Spec(Common, ABC):
    """What decides the numbers of a study, and the device that computes them; each kind of study has its own."""

    def validate(self) -> None:
        """Refuse a value that makes no study, or that this study cannot use.

        Raises: InputError.
        """
        self.validate_groups()
        self._validate()

    @abstractmethod
    def _validate(self) -> None:
        """What this kind of study refuses beyond its groups of options."""

    @abstractmethod
    def resolve(self) -> Spec:
        """Itself, with what it leaves open filled in, as far as this needs neither data nor model."""

    def options(self) -> StudyOptions:
        """The same as all that a study can be told, with defaults for what this kind has not."""
        law = {"law": "heldout"} if isinstance(self, HeldoutSpec) else {}
        return changed(StudyOptions(), **flat(self), **law)

    def to_toml(self) -> str:
        """The text of a file that :func:`read_spec` reads back to the same specification: what its kind has."""
        law = {} if isinstance(self, SpecOfModel) else {"law": self.options().exact.law}
        table = {name: list(v) if isinstance(v, tuple) else v for name, v in (flat(self) | law).items()}
        return tomli_w.dumps({"study": table})

    def same_numbers(self, other: Spec) -> bool:
        """Whether both give the same numbers (the device and the place of the data do not matter)."""
        return not self.difference(other)

    def difference(self, other: Spec) -> str:
        """How the numbers of this study differ from another's, for a message; empty: not at all."""
        mine, theirs = flat(self.options()), flat(other.options())
        for name in ("law", *mine):
            if name not in ("device", "data", "model", "fingerprint") and mine[name] != theirs[name]:
                return f"its {name} is {mine[name]!r}, not {theirs[name]!r}"
        return "" if self.fingerprint == other.fingerprint else "of other data"


@dataclass(frozen=True)
class ExactSpec(Spec):
    """A study of data by their exact filter, under the law of exactly these items."""

    pairs: bool = False
    forks: int = 0

    def _validate(self) -> None:
        first, *others = names(EXACT)
        chosen = self.estimators or usual(EXACT)
        if first not in chosen or set(chosen) - {first, *others} or len(set(chosen)) < len(chosen):
            raise InputError(
                f"estimators are {', '.join(chosen)}: expected {first}, and perhaps {', '.join(others[:-1])} and "
                f"{others[-1]}, each once, separated by commas"
            )
        if "forks" not in chosen:
            refuse(self, {"forks": "the estimator forks"}, f"--estimators {','.join(chosen)}")
        if self.forks == 1:
            raise InputError("forks is 1: at least 2 children are needed to differ; pass e.g. --forks 64")

    def resolve(self) -> ExactSpec:
        """Itself, with the usual estimators and as many children as usual."""
        found = replace(self, estimators=self.estimators or usual(EXACT))
        return replace(found, forks=self.forks or _FORKS) if "forks" in found.estimators else found


@dataclass(frozen=True)
class HeldoutSpec(Spec):
    """A study of data by items held out: lower bounds for the population that they come from."""

    def _validate(self) -> None:
        if self.sampling.draws < 16:
            raise InputError(
                f"draws is {self.sampling.draws}: the held-out law chooses on half of them; pass at least --draws 16"
            )
        if self.estimators not in ((), (HELDOUT,)):
            raise InputError(
                f"estimators are {', '.join(self.estimators)}: the held-out law has one of its own, {HELDOUT}: leave "
                "out --estimators, or --law heldout"
            )

    def resolve(self) -> HeldoutSpec:
        """Itself, with its one estimator."""
        return replace(self, estimators=(HELDOUT,))


@dataclass(frozen=True)
class SpecOfModel(WithModel, Spec, ABC):
    """A study of a model."""

    def _validate_calls(self, estimators: Sequence[str], known: Sequence[str]) -> None:
        if set(estimators) - set(known) or len(set(estimators)) < len(estimators):
            raise InputError(
                f"estimators are {', '.join(estimators)}: expected, for a model, among {', '.join(known)}, each once"
            )
        if self.gaps.target_stderr and self.gaps.budget:
            raise InputError("--target-stderr and --budget both say how many network calls to make: pass one of them")
        if self.gaps.like and (self.gaps.target_stderr or self.gaps.budget):
            raise InputError("--like takes the draws of another study: leave out --target-stderr and --budget")


M = TypeVar("M", bound=SpecOfModel)


@dataclass(frozen=True)
class ModelSpec(SpecOfModel):
    """A study of a learned model of ``sigmascope train``."""

    def _validate(self) -> None:
        self._validate_calls(self.estimators, names(CONDITIONAL))

    def resolve(self) -> ModelSpec:
        """Itself, with the usual estimators, and calls for the usual standard error."""
        return aimed(replace(self, estimators=self.estimators or usual(CONDITIONAL)))


@dataclass(frozen=True)
class PipelineSpec(SpecOfModel):
    """A study of a pipeline of diffusers; whether it is told classes or continues images is known once it is open."""

    pipeline: PipelineOptions = field(default_factory=PipelineOptions)
    forking: ForkOptions = field(default_factory=ForkOptions)

    def _validate(self) -> None:
        if self.inputs.data == GENERATED and not self.forking.labeller:
            raise InputError("generated images have no labels: pass --labeller MODULE:FUNCTION, or labelled data")
        if self.forking.forks == 1:
            raise InputError("forks is 1: at least 2 children are needed to differ; pass e.g. --forks 16")
        of_network = names(CONDITIONAL)
        self._validate_calls(self.estimators, (*of_network, *(n for n in names(SAMPLER) if n not in of_network)))

    def validate_conditional(self) -> None:
        """Refuse what is of continuations only.

        Raises: InputError.
        """
        whose = "a pipeline that is told classes (forks among --estimators continues images)"
        refuse(self.forking, _each(self.forking, "a pipeline that is measured by forks"), whose)

    def validate_forked(self) -> None:
        """Refuse what is of gaps and of classes only.

        Raises: InputError.
        """
        whose = "a pipeline that is measured by forks"
        refuse(self.gaps, _each(self.gaps, "a model that can be told attributes"), whose)
        refuse(self.pipeline, {"classes": "a pipeline that is told classes"}, whose)

    def resolve(self) -> PipelineSpec:
        """Itself: what it leaves open is filled in once the pipeline is open."""
        return self

    def resolve_forked(self, estimators: Sequence[str]) -> PipelineSpec:
        """Itself, with these estimators where it names none, and as many children and steps as usual."""
        forking = replace(
            self.forking,
            forks=self.forking.forks or _FORKS_OF_PIPELINE,
            steps=self.forking.steps or _STEPS,
        )
        return replace(self, estimators=self.estimators or tuple(estimators), forking=forking)


def aimed(spec: M, budget: int = 0) -> M:
    """The study of a model, with how many calls to make for its gaps, where nothing says it.

    Args:
        spec: the study.
        budget: so many; 0: as many as bring the standard error down to the usual one.
    """
    if spec.gaps != GapOptions():
        return spec
    return replace(spec, gaps=GapOptions(budget=budget) if budget else GapOptions(target_stderr=_STDERR))


def spec_of(**options: Any) -> Spec:
    """The specification of the kind of study that flat options ask for, as they come from a command line or a file.

    Args:
        options: by name, those of any group; what is left out is as it is by default.

    Raises: InputError for a value that makes no study, or an option that this kind of study does not have.
    """
    known = flat(StudyOptions())
    asked = changed(StudyOptions(), **{n: _typed(n, value, known.get(n, value)) for n, value in options.items()})
    asked.validate_groups()
    piped = asked.model.startswith((PIPELINE, HUB))
    if asked.model and asked.exact != ExactOptions():
        raise InputError("--pairs and --law are of the exact filter: leave them out with --model")
    if asked.inputs.data == GENERATED and not piped:
        raise InputError("the data 'generated' are of a pipeline: pass --model diffusers:FOLDER, or other data")
    kind: Spec = HeldoutSpec() if asked.exact.law == "heldout" else ExactSpec()
    if asked.model:
        kind = PipelineSpec() if piped else ModelSpec()
    _refuse_foreign(asked, kind)
    spec = changed(kind, **{name: value for name, value in flat(asked).items() if name in flat(kind)})
    spec.validate()
    return spec


def _refuse_foreign(asked: StudyOptions, kind: Spec) -> None:
    """Refuse options that were passed and that a kind of study does not have."""
    of_model, has = isinstance(kind, SpecOfModel), flat(kind)
    whose = "a learned model of sigmascope train" if of_model else "a study of data alone"
    for group, belongs in ((asked.gaps, "a model"), (asked.forking, "a pipeline"), (asked.pipeline, "a pipeline")):
        refuse(group, {n: of for n, of in _each(group, belongs).items() if n not in (*has, "forks")}, whose)
    if isinstance(kind, ModelSpec):
        refuse(asked.forking, {"forks": "the exact filter, and of a pipeline"}, whose)
    if isinstance(kind, HeldoutSpec):
        if asked.exact.pairs:
            raise InputError("differences of lower bounds are no bounds: leave out --pairs, or --law heldout")
        refuse(asked.forking, {"forks": "the estimator forks"}, "the held-out law")


def _each(group: object, belongs: str) -> dict[str, str]:
    """Every option of a group, with what it belongs to."""
    return dict.fromkeys(flat(group), belongs)


def _typed(name: str, value: Any, default: object) -> Any:
    """A value of an option, of the type of its default; names may come as one string separated by commas."""
    if isinstance(default, tuple):
        return listed(value)
    if isinstance(default, bool):
        return bool(value)
    if isinstance(default, int):
        return whole(name, value)
    return real(name, value) if isinstance(default, float) else str(value)


def read_spec(path: Path) -> Spec:
    """Read a specification, with what it leaves open filled in.

    Raises: InputError, in one line, for a file that is none.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no plain file")
        if path.stat().st_size > _LONGEST:
            raise OSError(f"it is longer than {_LONGEST:,} bytes")
        table = tomllib.loads(path.read_text(encoding="utf-8"))["study"]
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file: pass a spec.toml that a study has written") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:  # deep nesting, numbers without end
        said = shown((str(error).splitlines() or [type(error).__name__])[0])
        raise InputError(f"{path}: not a specification ({said}): expected TOML with a table [study]") from error
    return _from_table(table, path)


def _from_table(table: Any, path: Path) -> Spec:
    if not isinstance(table, dict):
        raise InputError(f"{path}: 'study' is no table: expected [study] with one line per setting")
    known = flat(StudyOptions())
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{path}: setting {shown(repr(key))} is not known: expected {', '.join(known)}")
        kind = type(known[key])
        good = isinstance(value, (int, float) if kind is float else list if kind is tuple else kind)
        if kind is tuple:
            good = good and all(isinstance(v, str) for v in value)
        if not good or (isinstance(value, bool) and kind is not bool):
            expected = "tuple[str, ...]" if kind is tuple else kind.__name__
            raise InputError(f"{path}: {key} is {_repr(value)}: expected {expected}")
        values[key] = real(f"{path}: {key}", value) if kind is float else value
    if "data" not in values:
        raise InputError(f'{path}: the table [study] names no data: add a line data = "…"')
    try:
        return spec_of(**values).resolve()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _repr(value: object) -> str:
    """A value of a file, as far as it fits on a line."""
    if isinstance(value, int):
        return shown(value)
    return type(value).__name__ if isinstance(value, (dict, list)) else shown(repr(value))
