"""The options of a study, each declared once, in groups.  Imports nothing heavy.

The command line, files (TOML) and Python read these; :mod:`sigmascope.studies.spec` has the kinds of study.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any, TypeVar

import sigmascope.information.estimators  # noqa: F401  (registers the built-in ones)
from sigmascope.arguments import AsText, Device, Flag, Flat, Hidden, Names, Place, arg, group
from sigmascope.data.loaders import data_words
from sigmascope.errors import InputError
from sigmascope.information.estimator import CONDITIONAL, EXACT, POPULATION, SAMPLER, named, names, usual
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
    shown,
    within,
)

LAWS = ("empirical", "heldout")
_RUNS_CODE = "what it runs"  # of an option's metadata: what a file that sets it does, and how to allow it
T = TypeVar("T")


def _sources(_: str) -> str:
    """The sources of data that are registered, for the help."""
    return f"{data_words()}."


def _ways(_: str) -> str:
    """The estimators that are registered, for the help."""
    said, explained = [], set[str]()
    kinds = {EXACT: "Of data", POPULATION: "Of --law heldout", CONDITIONAL: "Of a model", SAMPLER: "Of forks"}
    for kind, whose in kinds.items():
        each = []
        for name in names(kind):
            words = named(name, kind).help
            each.append(name if words in {"", *explained} else f"{name} ({words})")
            explained.add(words)
        said.append(f"{whose}: {', '.join(each)} (default: {','.join(usual(kind))}).")
    return " ".join(said)


@dataclass(frozen=True)
class DataOptions:
    """The data, and how they are read."""

    data: Annotated[str, Place, arg("DATA", _sources)] = ""
    """The data:"""
    attributes: Annotated[Names, arg("A,B", "(default: all)")] = ()
    """Attributes, separated by commas. A real-valued one is cut into quantile bins with name:bins=8;
    shape+scale is the joint value of two (not of a hierarchy), and gives the information of each given the other."""
    size: int = 32
    """Side of the scenes in pixels: 16, 32 or 64."""
    grain: Flag = False
    """Give the floor of the scenes a fine texture, one more attribute of four values: 1,920,000 images."""
    ground: Annotated[str, arg("COLOUR", "(default: white)")] = "white"
    """What transparent pixels of pictures are laid on: white, black or #rrggbb."""

    def validate(self) -> None:
        """Refuse what names no data, and settings of the scenes for others.

        Raises: InputError.
        """
        if not self.data:
            raise InputError("no data are named: pass 'scenes' or the path of a data file, or --spec FILE")
        check_text(self)
        check_of_scenes(self.data, self.size, self.grain)


@dataclass(frozen=True)
class Sampling:
    """Draws and noise levels."""

    draws: int = 256
    """Noisy images drawn. Standard errors fall with its square root, time grows in proportion."""
    levels: int = 40
    """Noise levels between --sigma-max and --sigma-min, evenly spaced in ln sigma."""
    sigma_min: float = 0.01
    """Last noise level, in the unit of the data (8-bit pixels: of the full range, black to white)."""
    sigma_max: float = 90.0
    """First noise level."""
    seed: int = 0
    """Seed of the draws: the same seed gives the same numbers."""

    def validate(self) -> None:
        """Refuse numbers that make no study.

        Raises: InputError.
        """
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


@dataclass(frozen=True)
class ExactOptions:
    """Of the exact filter: whose information, and of what."""

    law: Annotated[str, arg("LAW", None)] = "empirical"
    """Whose information: empirical (of exactly these items; exact), or heldout (of the population that they come
    from; lower bounds, by items held out and a filter made of the rest; for natural images)."""
    pairs: Flag = False
    """Study every pair of attributes too: what the noisy image tells of both twice, and what only together. Takes
    another pass over the data."""

    def validate(self) -> None:
        """Refuse a law that there is not.

        Raises: InputError.
        """
        if self.law not in LAWS:
            raise InputError(f"law is {self.law!r}: expected empirical or heldout")


@dataclass(frozen=True)
class GapOptions:
    """Of a model: how many network calls to make for its gaps."""

    target_stderr: Annotated[float, arg("NATS", "(default: 0.02)")] = 0.0
    """Make as many network calls as bring the standard error of its score gaps down to this."""
    budget: Annotated[int, arg("CALLS", "(default: by --target-stderr)")] = 0
    """Make so many network calls for its gaps, where they tell most."""
    like: Annotated[str, arg("STUDY")] = ""
    """Measure its gaps on the same draws as this earlier study of another model, for sigmascope compare."""

    def validate(self) -> None:
        """Refuse numbers that say nothing.

        Raises: InputError.
        """
        check_text(self)
        within("budget", self.budget, 0, MOST_CALLS, "pass e.g. --budget 100000")
        if not (math.isfinite(self.target_stderr) and self.target_stderr >= 0):
            raise InputError(
                f"target_stderr is {self.target_stderr:g}: it must be finite and not negative; pass e.g. "
                "--target-stderr 0.02"
            )


@dataclass(frozen=True)
class ForkOptions:
    """Continuations of noisy images."""

    forks: Annotated[int, arg("K", "(default: 64; of a pipeline 16)")] = 0
    """Children of each draw, for the estimator forks: at least as many as the attribute has values."""
    steps: Annotated[int, arg("N", "(default: 20)")] = 0
    """Of a pipeline's forks: steps of the sampler, of two calls each, from --sigma-max down."""
    labeller: Annotated[str, arg("MODULE:FUNCTION", "(default: the nearest other item)")] = field(
        default="",
        metadata={_RUNS_CODE: "it runs the function {value!r} as its labeller: add --labeller {value} if you trust it"},
    )
    """Of a pipeline's forks, in place of the nearest item of the data but their parent's own and near copies of it:
    your function that labels images, from a tensor of pixels between 0 and 1, shape (rows, channels, height, width), to
    one index of a value per row (or a dict of such by attribute). With it the data may be
    the word 'generated': images that the pipeline makes itself."""

    def validate(self) -> None:
        """Refuse numbers that make no continuations.

        Raises: InputError.
        """
        check_text(self)
        within("forks", self.forks, 0, MOST_FORKS, "pass e.g. --forks 64")
        within("steps", self.steps, 0, MOST_STEPS, "pass e.g. --steps 20")


@dataclass(frozen=True)
class PipelineOptions:
    """How a pipeline of diffusers is opened."""

    null_class: Annotated[int, arg("INDEX")] = -1
    """Of a class-conditional pipeline: the index of the class that stands for none, where it does not say it itself.
    Without such a class, what it says unconditional is the mixture over its classes, by its own likelihood."""
    classes: Annotated[Any, AsText, arg("FILE", "(default: the names that the pipeline gives)")] = ""
    """Of a class-conditional pipeline: the names of its classes, by which values of the attribute are matched to them:
    a file with one name a line, in their order, or JSON (a list, or an object as id2label); or the word 'by-order', if
    the values of the attribute are in the order of the classes. (From Python also the names, or a mapping of them.)"""
    allow_pickle: Flag = field(
        default=False,
        metadata={
            _RUNS_CODE: "it reads pickles, which can run any code: add --allow-pickle if you trust where they come from"
        },
    )
    """Read a pipeline's weights from pickles, too, which can run any code: if you trust where they are from."""
    variant: Annotated[str, arg("NAME", "(default: the plain ones)")] = ""
    """Which of its weights to read, e.g. fp16."""

    def validate(self) -> None:
        """Refuse the index of no class.

        Raises: InputError.
        """
        check_text(self)
        within("null_class", self.null_class, -1, 10**9, "pass the index of a class")


Group = DataOptions | ExactOptions | GapOptions | ForkOptions | PipelineOptions
"""What a study can be told besides its data, model, estimators and sampling."""


@dataclass(frozen=True)
class Common:
    """What every study is told."""

    inputs: Annotated[DataOptions, Flat, group("data")] = DataOptions()
    sampling: Annotated[Sampling, Flat, group("sampling")] = Sampling()
    estimators: Annotated[Names, arg("A,B", _ways)] = ()
    """Ways to measure, separated by commas. They must agree; the page shows how well they do."""
    device: Device = "auto"
    fingerprint: Hidden = ""
    """Of the data, once they have been read."""

    def validate_groups(self) -> None:
        """Refuse what no study can use, group by group.

        Raises: InputError.
        """
        check_text(self)
        for f in fields(self):
            group = getattr(self, f.name)
            if is_dataclass(group):
                group.validate()  # type: ignore[union-attr]


@dataclass(frozen=True)
class WithModel(Common):
    """What a study of a model is told besides."""

    model: Annotated[str, arg("FOLDER", "(default: the exact filter)")] = ""
    """Measure a learned model in place of the exact filter: a folder of sigmascope train, or 'bundled', the model of
    the scenes that comes with the package. It is measured on items kept out of its training. diffusers:FOLDER is a
    pipeline of diffusers, hub:OWNER/NAME one that is fetched from the hub: one that can be told classes is measured on
    labelled data whose attribute is its class; any other by forks, whose images are labelled, and by probes."""
    gaps: Annotated[GapOptions, Flat, group("gap")] = GapOptions()
    model_fingerprint: Hidden = ""
    """Of the model's weights, once they have been read."""


@dataclass(frozen=True)
class StudyOptions(WithModel):
    """All that a study can be told, whatever its kind."""

    exact: Annotated[ExactOptions, Flat, group("exact filter")] = ExactOptions()
    forking: Annotated[ForkOptions, Flat, group("fork")] = ForkOptions()
    pipeline: Annotated[PipelineOptions, Flat, group("pipeline")] = PipelineOptions()


def flat(options: object) -> dict[str, Any]:
    """Every option by its own name, in whatever group of a dataclass it is."""
    found: dict[str, Any] = {}
    for f in fields(options):  # type: ignore[arg-type]
        value = getattr(options, f.name)
        found |= flat(value) if is_dataclass(value) else {f.name: value}
    return found


def changed(options: T, **new: Any) -> T:
    """A copy of a dataclass with other values of some options, each by its own name in whatever group it is.

    Raises: TypeError for a name that it does not have.
    """
    if unknown := new.keys() - flat(options).keys():
        raise TypeError(f"{type(options).__name__} has no option {sorted(unknown)[0]!r}")
    values = {}
    for f in fields(options):  # type: ignore[arg-type]
        value = getattr(options, f.name)
        if is_dataclass(value):
            values[f.name] = changed(value, **{n: v for n, v in new.items() if n in flat(value)})
        else:
            values[f.name] = new.get(f.name, value)
    return replace(options, **values)  # type: ignore[type-var]


def what_it_runs(options: object) -> dict[str, str]:
    """Options by which a study runs code of others, with a sentence each of what it does and how to allow it."""
    found: dict[str, str] = {}
    for f in fields(options):  # type: ignore[arg-type]
        value = getattr(options, f.name)
        if is_dataclass(value):
            found |= what_it_runs(value)
        elif value and _RUNS_CODE in f.metadata:
            found[f.name] = f.metadata[_RUNS_CODE].format(value=value)
    return found
