"""The specification of a study: all options that decide its numbers, by the kind of study.  Imports nothing heavy.

Each kind has only the options that it can use; ``validate`` refuses values, ``resolve`` fills in defaults.
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
from sigmascope.adapters.naming import names_function, names_object, names_pipeline
from sigmascope.arguments import listed
from sigmascope.errors import InputError
from sigmascope.information.estimator import CONDITIONAL, EXACT, PICTURES, POPULATION, SAMPLER, names, usual
from sigmascope.limits import real, refuse, shown, whole
from sigmascope.studies.options import (
    ClassifierOptions,
    Common,
    ExactOptions,
    ForkOptions,
    GapOptions,
    PipelineOptions,
    Sampling,
    StudyOptions,
    WithModel,
    changed,
    first_difference,
    flat,
    of_features,
)

GENERATED = "generated"
"""The data of a study of images that the pipeline makes itself."""
(HELDOUT,) = names(POPULATION)
"""The one estimator of the held-out law: a lower bound."""
_LONGEST = 10_000_000  # bytes of a specification
STDERR = 0.02
"""Standard error that the gaps of a model aim at by default, nats."""
_FORKS, _FORKS_OF_PIPELINE = 64, 16  # children of a draw
_STEPS = 20  # of a continuation by a pipeline


@dataclass(frozen=True)
class Spec(Common, ABC):
    """The options that decide the numbers of a study, and the device; each kind of study has its own class."""

    def validate(self) -> None:
        """Refuse values that this study cannot use (raises InputError)."""
        self.validate_groups()
        self._validate()

    @abstractmethod
    def _validate(self) -> None:
        """Refuse values that the groups of options allow and this kind of study cannot use."""

    @abstractmethod
    def resolve(self) -> Spec:
        """A copy with defaults filled in, as far as this needs neither data nor model."""

    def options(self) -> StudyOptions:
        """The same as options of any kind of study, with defaults for those that this kind does not have."""
        law = {"law": "heldout"} if isinstance(self, HeldoutSpec) else {}
        return changed(StudyOptions(), **flat(self), **law)

    def to_toml(self) -> str:
        """The text of a TOML file that :func:`read_spec` reads back to the same specification."""
        law = {} if isinstance(self, SpecOfModel) else {"law": self.options().exact.law}
        table = {name: list(v) if isinstance(v, tuple) else v for name, v in (flat(self) | law).items()}
        return tomli_w.dumps({"study": table})

    def difference(self, other: Spec) -> str:
        """The first option that makes the numbers of two studies differ; empty: none.

        The device and the path of the data do not matter.
        """
        here, there = flat(self.options()), flat(other.options())
        return first_difference(here, {"law": there["law"]} | there, ("device", "data", "model"))


@dataclass(frozen=True)
class ExactSpec(Spec):
    """A study of data by their exact filter: the law of exactly these items."""

    pairs: bool = False
    chain: tuple[str, ...] = ()
    forks: int = 0

    def _validate(self) -> None:
        first, *others = names(EXACT)
        chosen = self.estimators or usual(EXACT)
        if first not in chosen or set(chosen) - {first, *others} or len(set(chosen)) < len(chosen):
            raise InputError(
                f"estimators are {', '.join(chosen)}: expected {first}, and optionally {', '.join(others[:-1])} and "
                f"{others[-1]}, each once, separated by commas"
            )
        if "forks" not in chosen:
            refuse(self, {"forks": "the estimator forks"}, f"--estimators {','.join(chosen)}")
        if self.forks == 1:
            raise InputError("forks is 1: at least 2 continuations are needed; pass e.g. --forks 64")

    def resolve(self) -> ExactSpec:
        """A copy with the usual estimators and number of forks."""
        spec = replace(self, estimators=self.estimators or usual(EXACT))
        return replace(spec, forks=self.forks or _FORKS) if "forks" in spec.estimators else spec


@dataclass(frozen=True)
class HeldoutSpec(Spec):
    """A study of data by held-out items: lower bounds for the population that the items come from."""

    def _validate(self) -> None:
        if self.sampling.draws < 16:
            raise InputError(
                f"draws is {self.sampling.draws}: the held-out law chooses its kernel on half of them; pass at least "
                "--draws 16"
            )
        if self.estimators not in ((), (HELDOUT,)):
            raise InputError(
                f"estimators are {', '.join(self.estimators)}: the held-out law has only one, {HELDOUT}: leave out "
                "--estimators, or --law heldout"
            )

    def resolve(self) -> HeldoutSpec:
        """A copy with its only estimator."""
        return replace(self, estimators=(HELDOUT,))


@dataclass(frozen=True)
class FeatureSpec(Spec):
    """A study of features of the pictures themselves, such as frequency bands."""

    def _validate(self) -> None:
        known = names(PICTURES)
        if set(self.estimators) - set(known) or len(set(self.estimators)) < len(self.estimators):
            raise InputError(
                f"estimators are {', '.join(self.estimators)}: features of the pictures have no classes, and are "
                f"measured by {' and '.join(known)}: leave out --estimators"
            )

    def resolve(self) -> FeatureSpec:
        """A copy with the usual estimators."""
        return replace(self, estimators=self.estimators or usual(PICTURES))


@dataclass(frozen=True)
class SpecOfModel(WithModel, Spec, ABC):
    """A study of a model."""

    def _validate_calls(self, estimators: Sequence[str], known: Sequence[str]) -> None:
        if set(estimators) - set(known) or len(set(estimators)) < len(estimators):
            raise InputError(
                f"estimators are {', '.join(estimators)}: expected, for a model, some of {', '.join(known)}, each once"
            )
        if self.gaps.target_stderr and self.gaps.budget:
            raise InputError("--target-stderr and --budget both set the number of network calls: pass one of them")
        if self.gaps.like and (self.gaps.target_stderr or self.gaps.budget):
            raise InputError("--like uses the draws of another study: leave out --target-stderr and --budget")


M = TypeVar("M", bound=SpecOfModel)


@dataclass(frozen=True)
class ModelSpec(SpecOfModel):
    """A study of a learned model of ``sigmascope train``."""

    def _validate(self) -> None:
        self._validate_calls(self.estimators, names(CONDITIONAL))

    def resolve(self) -> ModelSpec:
        """A copy with the usual estimators and target of the standard error."""
        return aimed(replace(self, estimators=self.estimators or usual(CONDITIONAL)))


@dataclass(frozen=True)
class ForeignSpec(SpecOfModel):
    """A study of another model: a pipeline of diffusers, what a function of the user returns, an object of Python.

    Once it is open, it is known whether it can be conditioned on attributes.
    """

    pipeline: PipelineOptions = field(default_factory=PipelineOptions)
    forking: ForkOptions = field(default_factory=ForkOptions)
    classifying: ClassifierOptions = field(default_factory=ClassifierOptions)

    def _validate(self) -> None:
        if self.inputs.data == GENERATED and not self.forking.labeller:
            raise InputError(
                "generated images have no labels of their own: pass --labeller MODULE:FUNCTION, or labelled data"
            )
        if self.forking.forks == 1:
            raise InputError("forks is 1: at least 2 continuations are needed; pass e.g. --forks 16")
        of_network = names(CONDITIONAL)
        self._validate_calls(self.estimators, (*of_network, *(n for n in names(SAMPLER) if n not in of_network)))

    def validate_conditional(self) -> None:
        """Refuse options of forks, for a study of a class-conditional pipeline (raises InputError)."""
        run = "a class-conditional pipeline (or add forks to --estimators, which continues images)"
        refuse(self.forking, _each(self.forking, "a pipeline that is measured by forks"), run)

    def validate_trained(self) -> None:
        """Refuse options that a model of ``sigmascope train`` does not have (raises InputError)."""
        run = "a learned model of sigmascope train"
        refuse(self.forking, _each(self.forking, "another model"), run)
        refuse(self.pipeline, _each(self.pipeline, "another model"), run)
        refuse(self.classifying, _each(self.classifying, "another model"), run)

    def validate_forked(self) -> None:
        """Refuse options of gaps and of classes, for a study by forks (raises InputError)."""
        run = "a pipeline that is measured by forks"
        refuse(self.gaps, _each(self.gaps, "a conditional model"), run)
        refuse(self.pipeline, {"classes": "a class-conditional pipeline"}, run)
        if self.inputs.data == GENERATED:
            refuse(self.classifying, _each(self.classifying, "labelled data"), "images that the model makes")

    def resolve(self) -> ForeignSpec:
        """Itself: its defaults are filled in once the pipeline is open."""
        return self

    def resolve_forked(self, estimators: Sequence[str]) -> ForeignSpec:
        """A copy with these estimators where it names none, and the usual numbers of forks and steps."""
        forking = replace(
            self.forking, forks=self.forking.forks or _FORKS_OF_PIPELINE, steps=self.forking.steps or _STEPS
        )
        return replace(self, estimators=self.estimators or tuple(estimators), forking=forking)


def aimed(spec: M, budget: int = 0) -> M:
    """The study of a model with the number of network calls for its gaps, where no option sets it.

    Args:
        spec: the study.
        budget: number of calls; 0: as many as bring the standard error down to the usual target.
    """
    if spec.gaps != GapOptions():
        return spec
    return replace(spec, gaps=GapOptions(budget=budget) if budget else GapOptions(target_stderr=STDERR))


def plan_of(stored: Spec, spec: Spec) -> dict[str, Any]:
    """The options that the plan of an earlier run of the same command has set; empty where it has no plan.

    Args:
        stored: the specification of the earlier run.
        spec: the command.
    """
    old, new = stored.options(), spec.options()
    if not isinstance(spec, SpecOfModel):
        return {}
    plan: dict[str, Any] = {}
    if not new.network.computed_in and old.network.precision == new.network.precision:
        plan |= {"computed_in": old.network.computed_in}
    if new.time.most_calls or old.time.minutes != new.time.minutes or not old.time.most_calls:
        return plan
    usual = Sampling()
    unset = [n for n in ("draws", "levels") if getattr(new.sampling, n) == getattr(usual, n)]
    plan |= {n: getattr(old.sampling, n) for n in unset}
    return plan | {"most_calls": old.time.most_calls, "batch": old.network.batch}


def spec_of(**options: Any) -> Spec:
    """The specification that options without groups ask for, as they come from a command line or a file.

    Args:
        options: by name, of any group; those left out have their defaults.

    Raises: InputError for a value that cannot be used, or an option that this kind of study does not have.
    """
    defaults = flat(StudyOptions())
    passed = changed(StudyOptions(), **{n: _typed(n, value, defaults.get(n, value)) for n, value in options.items()})
    passed.validate_groups()
    piped = any(named(passed.model) for named in (names_pipeline, names_function, names_object))
    if passed.model and passed.exact != ExactOptions():
        raise InputError("--pairs, --chain and --law are options of the exact filter: leave them out with --model")
    if passed.inputs.data == GENERATED and not piped:
        raise InputError("the data 'generated' need a model that makes images: pass --model, or other data")
    kind: Spec = HeldoutSpec() if passed.exact.law == "heldout" else ExactSpec()
    if of_features(passed.inputs.attributes):
        _refuse_for_features(passed)
        kind = FeatureSpec()
    if passed.model:
        kind = ForeignSpec() if piped else ModelSpec()
    _refuse_foreign(passed, kind)
    spec = changed(kind, **{name: value for name, value in flat(passed).items() if name in flat(kind)})
    spec.validate()
    return spec


def _refuse_for_features(passed: StudyOptions) -> None:
    """Refuse a model and options of the exact filter for features of the pictures."""
    if passed.model:
        raise InputError(
            f"attributes are {', '.join(passed.inputs.attributes)}: a study measures features of the pictures on data "
            "alone: leave out --model, or call sigmascope.information.resolved_shares with the model from Python"
        )
    if passed.exact != ExactOptions():
        raise InputError(
            "--pairs, --chain and --law heldout are for labels, not for features of the pictures: leave them out"
        )


def _refuse_foreign(passed: StudyOptions, kind: Spec) -> None:
    """Refuse options that were passed and that this kind of study does not have."""
    of_model, has = isinstance(kind, SpecOfModel), flat(kind)
    run = "a learned model of sigmascope train" if of_model else "a study of data alone"
    owners = (passed.forking, "a pipeline"), (passed.pipeline, "a pipeline"), (passed.classifying, "another model")
    of_models = (passed.gaps, "a model"), (passed.time, "a model"), (passed.network, "a model")
    for group, belongs in (*of_models, *owners):
        refuse(group, {n: owner for n, owner in _each(group, belongs).items() if n not in (*has, "forks")}, run)
    if isinstance(kind, ModelSpec):
        refuse(passed.forking, {"forks": "the exact filter, and of a pipeline"}, run)
    if isinstance(kind, HeldoutSpec):
        for option in ("pairs", "chain"):
            if getattr(passed.exact, option):
                raise InputError(f"--{option} cannot be used with lower bounds: leave out --{option}, or --law heldout")
        refuse(passed.forking, {"forks": "the estimator forks"}, "the held-out law")


def _each(group: object, belongs: str) -> dict[str, str]:
    """Every option of a group, with what it is an option of."""
    return dict.fromkeys(flat(group), belongs)


def _typed(name: str, value: Any, default: object) -> Any:
    """A value with the type of the default of its option; names may be one string separated by commas."""
    if isinstance(default, tuple):
        return listed(value)
    if isinstance(default, bool):
        return bool(value)
    if isinstance(default, int):
        return whole(name, value)
    return real(name, value) if isinstance(default, float) else str(value)


def read_spec(path: Path) -> Spec:
    """Read the specification of a study, and fill in its defaults.

    Args:
        path: a ``spec.toml``, as a study writes it.

    Returns: the specification, of the class of its kind of study.

    Raises: InputError for a file that is no specification.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no plain file")
        if path.stat().st_size > _LONGEST:
            raise OSError(f"it is longer than {_LONGEST:,} bytes")
        table = tomllib.loads(path.read_text(encoding="utf-8"))["study"]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: pass a spec.toml that a study has written") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:  # deep nesting, numbers without end
        reason = shown((str(error).splitlines() or [type(error).__name__])[0])
        raise InputError(f"{path}: not a specification ({reason}): expected TOML with a table [study]") from error
    return _from_table(table, path)


def _from_table(table: Any, path: Path) -> Spec:
    if not isinstance(table, dict):
        raise InputError(f"{path}: 'study' is not a table: expected [study] with one line per setting")
    known = flat(StudyOptions())
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{path}: unknown setting {shown(repr(key))}: expected {', '.join(known)}")
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
    """A value of a file, shortened to fit on a line."""
    if isinstance(value, int):
        return shown(value)
    return type(value).__name__ if isinstance(value, (dict, list)) else shown(repr(value))
