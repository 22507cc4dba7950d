"""The specification of a study: what decides its numbers, as a TOML file.  Imports nothing heavy."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from sigmascope.errors import InputError
from sigmascope.limits import (
    MOST_CALLS,
    MOST_DRAWS,
    MOST_FORKS,
    MOST_LEVELS,
    MOST_SEED,
    MOST_STEPS,
    check_levels,
    check_of_scenes,
    check_text,
    real,
    refuse,
    shown,
    within,
)

LAWS = ("empirical", "heldout")
ESTIMATORS = ("posterior", "score_gap", "mmse_gap", "filter", "forks")
OF_MODEL = ("score_gap", "mmse_gap", "filter", "likelihood", "classifier", "probes", "posterior", "own_path")
_USUAL = ("posterior", "score_gap")
USUAL_OF_MODEL = ("score_gap", "mmse_gap", "filter", "classifier")
OF_PIPELINE = (*OF_MODEL, "forks")
PIPELINE = "diffusers:"
"""What stands before the folder of a pipeline of diffusers, as a model."""
HUB = "hub:"
"""What stands before the id of a pipeline of a hub, as a model."""
GENERATED = "generated"
"""In place of data: images that the pipeline makes itself."""
_LONGEST = 10_000_000  # bytes of a specification
HELDOUT = "heldout"
"""The one estimator of the held-out law: a lower bound."""
_STDERR = 0.02  # nats, of a learned model's gaps
_FORKS, _FORKS_OF_PIPELINE = 64, 16  # children of a draw
_STEPS = 20  # of a continuation by a pipeline
_OF_GAPS = dict.fromkeys(("target_stderr", "budget", "like"), "a model that can be told attributes")
_OF_CLASSES = {"classes": "a pipeline that is told classes"}
_OF_MODEL = dict.fromkeys(_OF_GAPS, "a model")
_OF_FORKS = dict.fromkeys(("forks", "labeller", "steps"), "a pipeline that is measured by forks")
_OF_PIPELINE = dict.fromkeys(("labeller", "steps", "null_class", "classes", "allow_pickle", "variant"), "a pipeline")


@dataclass(frozen=True)
class Spec:
    """Everything that decides the numbers of a study, and the device that computes them.

    Args:
        data: ``scenes``, ``hierarchy`` (perhaps with sizes), or the path of a data file.
        abstractions: attributes to study, in order; empty means all of the data.
        draws: items and noises drawn, shared by all levels.
        levels: noise levels, evenly spaced in ln sigma.
        sigma_min: last level.
        sigma_max: first level.
        seed: of draws and bootstrap.
        size: side of the scenes in pixels.
        grain: whether the floor of the scenes has a texture.
        ground: what transparent pixels of pictures are laid on: ``white``, ``black`` or ``#rrggbb``.
        law: ``empirical``, the law of the finite set, known exactly, or ``heldout``, lower bounds for the population.
        estimators: among ``posterior``, ``score_gap``, ``mmse_gap``, ``filter``, ``forks``; of a learned model among
            ``score_gap``, ``mmse_gap``, ``filter``, ``likelihood``, ``classifier``, ``posterior``,
            ``own_path``; empty: the usual.
        forks: children of each draw, for the estimator ``forks``; 0: 64 of the exact filter, 16 of a pipeline.
        pairs: whether to study every pair of attributes too.
        model: folder of a learned model, ``bundled``, ``diffusers:`` and the folder of a pipeline, or ``hub:`` and the
            id of one; empty: the exact filter of the data.
        labeller: of a pipeline, ``module:function`` that labels clean images; empty: the nearest items of the data do.
        steps: of a pipeline's continuations, from the first level down; 0: 20.
        null_class: of a class-conditional pipeline, the index of its empty class; -1: what the pipeline says.
        classes: of a class-conditional pipeline, the names of its classes as
            :func:`~sigmascope.studies.classes.read_classes` gives them; empty: those that the pipeline gives.
        allow_pickle: whether a pipeline's weights may be pickles.
        variant: of a pipeline's weights, e.g. ``fp16``; empty: the plain ones.
        target_stderr: largest standard error of a learned model's gaps, nats; 0 where ``budget`` says how much to do.
        budget: network calls for the gaps; 0 where ``target_stderr`` says.
        like: an earlier study of a model, whose draws are used for the gaps; empty: draws of its own.
        device: ``auto``, ``cpu``, ``cuda`` or another torch device.
        fingerprint: of the data, once they have been read.
        model_fingerprint: of the model's weights, once they have been read.
    """

    data: str
    abstractions: tuple[str, ...] = ()
    draws: int = 256
    levels: int = 40
    sigma_min: float = 0.01
    sigma_max: float = 90.0
    seed: int = 0
    size: int = 32
    grain: bool = False
    ground: str = "white"
    law: str = "empirical"
    estimators: tuple[str, ...] = ()
    forks: int = 0
    pairs: bool = False
    model: str = ""
    target_stderr: float = 0.0
    budget: int = 0
    like: str = ""
    labeller: str = ""
    steps: int = 0
    null_class: int = -1
    classes: str = ""
    allow_pickle: bool = False
    variant: str = ""
    device: str = "auto"
    fingerprint: str = ""
    model_fingerprint: str = ""

    def check(self) -> Spec:
        """Itself.

        Raises: InputError for a value that makes no study, or that this kind of study cannot use.
        """
        if not self.data:
            raise InputError("no data are named: pass 'scenes' or the path of a data file, or --spec FILE")
        check_text(self)
        self._check_numbers()
        if self.law not in LAWS:
            raise InputError(f"law is {self.law!r}: expected empirical or heldout")
        check_of_scenes(self.data, self.size, self.grain)
        if self.model:
            if self.pairs or self.law != "empirical":
                raise InputError("--pairs and --law are of the exact filter: leave them out with --model")
            return self._checked_model()
        if self.data == GENERATED:
            raise InputError("the data 'generated' are of a pipeline: pass --model diffusers:FOLDER, or other data")
        refuse(self, _OF_MODEL | _OF_PIPELINE, "a study of data alone")
        return self._checked_heldout() if self.law == "heldout" else self._checked_estimators()

    def _check_numbers(self) -> None:
        if self.draws < 2:
            raise InputError(
                f"draws is {shown(self.draws)}: at least 2 are needed for a standard error; pass e.g. --draws 256"
            )
        if self.levels < 2:
            raise InputError(
                f"levels is {shown(self.levels)}: at least 2 noise levels are needed; pass e.g. --levels 40"
            )
        within("draws", self.draws, 2, MOST_DRAWS, "pass e.g. --draws 256")
        within("levels", self.levels, 2, MOST_LEVELS, "pass e.g. --levels 40")
        if not all(math.isfinite(s) and s > 0 for s in (self.sigma_min, self.sigma_max)):
            raise InputError(
                f"sigma_min is {self.sigma_min:g} and sigma_max {self.sigma_max:g}: both must be finite and "
                "greater than 0"
            )
        if self.sigma_min >= self.sigma_max:
            raise InputError(
                f"sigma_min is {self.sigma_min:g} and sigma_max is {self.sigma_max:g}: sigma_min must be the "
                "smaller; pass e.g. --sigma-min 0.01 --sigma-max 90"
            )
        check_levels("sigma_max", "sigma_min", self.sigma_max, self.sigma_min)
        if not 0 <= self.seed <= MOST_SEED:
            raise InputError(f"seed is {shown(self.seed)}: it must not be negative, and less than 2^63")
        within("forks", self.forks, 0, MOST_FORKS, "pass e.g. --forks 64")
        within("steps", self.steps, 0, MOST_STEPS, "pass e.g. --steps 20")
        within("null_class", self.null_class, -1, 10**9, "pass the index of a class")
        within("budget", self.budget, 0, MOST_CALLS, "pass e.g. --budget 100000")
        if not (math.isfinite(self.target_stderr) and self.target_stderr >= 0):
            raise InputError(
                f"target_stderr is {self.target_stderr:g}: it must be finite and not negative; pass e.g. "
                "--target-stderr 0.02"
            )

    @property
    def of_pipeline(self) -> bool:
        """Whether the model is a pipeline of diffusers."""
        return self.model.startswith((PIPELINE, HUB))

    def told(self) -> Spec:
        """Itself, for a pipeline that is told classes.

        Raises: InputError for what is of continuations only.
        """
        refuse(self._asked(), _OF_FORKS, "a pipeline that is told classes (forks among --estimators continues images)")
        return self

    def forked(self) -> Spec:
        """Itself, for a pipeline that is told nothing.

        Raises: InputError for what is of gaps only.
        """
        refuse(self._asked(), _OF_GAPS | _OF_CLASSES, "a pipeline that is measured by forks")
        return self

    def _asked(self) -> Spec:
        """The specification with zeros for what was filled in."""
        return replace(
            self,
            target_stderr=0.0 if self.target_stderr == _STDERR else self.target_stderr,
            steps=0 if self.steps == _STEPS else self.steps,
            forks=0 if self.forks == _FORKS_OF_PIPELINE else self.forks,
        )

    def _checked_model(self) -> Spec:
        if not self.of_pipeline:
            if self.data == GENERATED:
                raise InputError("the data 'generated' are of a pipeline: pass --model diffusers:FOLDER, or other data")
            refuse(self, _OF_PIPELINE, "a learned model of sigmascope train")
            refuse(self, {"forks": "the exact filter, and of a pipeline"}, "a learned model of sigmascope train")
            return self._checked_calls(self.estimators or USUAL_OF_MODEL, OF_MODEL)
        if self.data == GENERATED and not self.labeller:
            raise InputError("generated images have no labels: pass --labeller MODULE:FUNCTION, or labelled data")
        if self.forks == 1:
            raise InputError("forks is 1: at least 2 children are needed to differ; pass e.g. --forks 16")
        found = replace(self, steps=self.steps or _STEPS, forks=self.forks or _FORKS_OF_PIPELINE)
        return found._checked_calls(self.estimators, OF_PIPELINE)

    def _checked_calls(self, estimators: tuple[str, ...], known: tuple[str, ...]) -> Spec:
        if set(estimators) - set(known) or len(set(estimators)) < len(estimators):
            raise InputError(
                f"estimators are {', '.join(estimators)}: expected, for a model, among {', '.join(known)}, each once"
            )
        if self.target_stderr and self.budget:
            raise InputError("--target-stderr and --budget both say how many network calls to make: pass one of them")
        if self.like and (self.target_stderr or self.budget):
            raise InputError("--like takes the draws of another study: leave out --target-stderr and --budget")
        found = replace(self, estimators=estimators)
        return found if self.of_pipeline else found.aimed()  # of a pipeline it is known once that is opened

    def aimed(self, budget: int = 0) -> Spec:
        """Itself, with how many calls to make for the gaps of a model, where nothing says it.

        Args:
            budget: so many; 0: as many as bring the standard error down to the usual one.
        """
        if self.target_stderr or self.budget or self.like:
            return self
        return replace(self, budget=budget) if budget else replace(self, target_stderr=_STDERR)

    def _checked_heldout(self) -> Spec:
        """A bound has one way to be measured."""
        if self.draws < 16:
            raise InputError(
                f"draws is {self.draws}: the held-out law chooses on half of them; pass at least --draws 16"
            )
        if self.pairs:
            raise InputError("differences of lower bounds are no bounds: leave out --pairs, or --law heldout")
        if self.estimators not in ((), (HELDOUT,)):
            raise InputError(
                f"estimators are {', '.join(self.estimators)}: the held-out law has one of its own, {HELDOUT}: leave "
                "out --estimators, or --law heldout"
            )
        refuse(self, {"forks": "the estimator forks"}, "the held-out law")
        return replace(self, estimators=(HELDOUT,))

    def _checked_estimators(self) -> Spec:
        if not self.estimators:
            return replace(self, estimators=_USUAL)._checked_estimators()
        unknown = [e for e in self.estimators if e not in ESTIMATORS]
        if unknown or "posterior" not in self.estimators or len(set(self.estimators)) < len(self.estimators):
            raise InputError(
                f"estimators are {', '.join(self.estimators)}: expected posterior, and perhaps score_gap, "
                "mmse_gap, filter and forks, each once, separated by commas"
            )
        if "forks" not in self.estimators:
            refuse(self, {"forks": "the estimator forks"}, f"--estimators {','.join(self.estimators)}")
            return self
        if self.forks == 1:
            raise InputError("forks is 1: at least 2 children are needed to differ; pass e.g. --forks 64")
        return replace(self, forks=self.forks or _FORKS)

    def to_toml(self) -> str:
        """The text of a file that :func:`read_spec` reads back to the same specification."""
        table = asdict(self)
        table |= {"abstractions": list(self.abstractions), "estimators": list(self.estimators)}
        return tomli_w.dumps({"study": table})

    def same_numbers(self, other: Spec) -> bool:
        """Whether both give the same numbers (the device and the place of the data do not matter)."""
        return self._bare() == other._bare()

    def _bare(self) -> Spec:
        return replace(self, device="", data="", model="")


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """A tuple of names, which may come as one string separated by commas."""
    return tuple(n.strip() for n in names.split(",") if n.strip()) if isinstance(names, str) else tuple(names)


def read_spec(path: Path) -> Spec:
    """Read a specification.

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
    kinds = {f.name: f.type for f in fields(Spec)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in kinds:
            raise InputError(f"{path}: setting {shown(repr(key))} is not known: expected {', '.join(kinds)}")
        kind = str(kinds[key])
        good = {
            "str": isinstance(value, str),
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, (int, float)) and not isinstance(value, bool),
            "tuple[str, ...]": isinstance(value, list) and all(isinstance(v, str) for v in value),
        }[kind]
        if not good:
            raise InputError(f"{path}: {key} is {_repr(value)}: expected {kind}")
        if kind == "float":
            value = real(f"{path}: {key}", value)
        values[key] = tuple(value) if isinstance(value, list) else value
    if "data" not in values:
        raise InputError(f'{path}: the table [study] names no data: add a line data = "…"')
    try:
        return Spec(**values).check()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _repr(value: object) -> str:
    """A value of a file, as far as it fits on a line."""
    if isinstance(value, int):
        return shown(value)
    return type(value).__name__ if isinstance(value, (dict, list)) else shown(repr(value))
