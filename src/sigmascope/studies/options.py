"""The options of a study, each declared once, in groups.  Imports nothing heavy.

The command line, TOML files and Python share them; :mod:`sigmascope.studies.spec` has the kinds of study.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any, TypeVar

import sigmascope.information.estimators  # noqa: F401  (registers the built-in ones)
from sigmascope.adapters.naming import names_function
from sigmascope.arguments import AsText, Device, Flag, Flat, Hidden, HiddenNumber, Names, Place, arg, group
from sigmascope.data.loaders import data_words
from sigmascope.errors import InputError
from sigmascope.information.estimator import CONDITIONAL, EXACT, PICTURES, POPULATION, SAMPLER, named, names, usual
from sigmascope.limits import (
    MOST_CALLS,
    MOST_DRAWS,
    MOST_FORKS,
    MOST_LEVELS,
    MOST_LINKS,
    MOST_SEED,
    MOST_STEPS,
    check_levels,
    check_of_scenes,
    check_text,
    shown,
    within,
)
from sigmascope.studies.network_options import NetworkOptions

LAWS = ("empirical", "heldout")
MOST_MINUTES = 1_000_000
_RUNS_CODE = "runs code"  # key of an option's metadata: which code it runs, and how to allow it
_WHERE = "where"  # key of an option's metadata: for which of its values it runs code; all where there is none
_FEATURE = re.compile(r"(bands?|lowpass):[\d./-]*|gray")
T = TypeVar("T")


def _sources(_: str) -> str:
    """The registered sources of data, for the help."""
    return f"{data_words()}."


def _estimators(_: str) -> str:
    """The registered estimators, for the help."""
    sentences, explained = [], set[str]()
    kinds = {
        EXACT: "For data", POPULATION: "With --law heldout", CONDITIONAL: "For a model with conditions",
        SAMPLER: "For a model without them, by forks", PICTURES: "For features of pictures",
    }  # fmt: skip
    for kind, heading in kinds.items():
        each = []
        for name in names(kind):
            words = named(name, kind).help
            each.append(name if words in {"", *explained} else f"{name} ({words})")
            explained.add(words)
        others = "; of another program: own_path in place of classifier" if kind == CONDITIONAL else ""
        sentences.append(f"{heading}: {', '.join(each)} (default: {','.join(usual(kind))}{others}).")
    return " ".join(sentences)


@dataclass(frozen=True)
class DataOptions:
    """The data and how to read them."""

    data: Annotated[str, Place, arg("DATA", _sources, "The data:")] = ""
    """The word ``scenes``, the word ``hierarchy`` (alone or with its sizes, ``hierarchy:v=16,m=4,s=2,L=6,seed=1``), or
    the path of an ``.npz``, ``.parquet`` or ``.h5`` file or of a folder of pictures.  :func:`sigmascope.study` takes
    the data and the attributes as arguments of its own, and refuses them here."""
    attributes: Annotated[Names, arg("A,B", "(default: all)")] = ()
    """Attributes, separated by commas. name:bins=8 cuts a real-valued attribute into quantile bins; shape+scale is the
    joint attribute of two (not for a hierarchy), which also gives the information about each given the other.
    angle:resolution=5:period=360 measures an angle as a number, up to noise of 5 degrees, and pose=x+y+z:resolution=0.1
    a vector (finite data sets: by the exact filter, or by a network of sigmascope train). Features of the pictures
    themselves: bands:8 for eight frequency bands, band:1/8, band:2-4/8, lowpass:.25, gray."""
    size: int = 32
    """Side of the scenes in pixels: 16, 32 or 64."""
    grain: Flag = False
    """Give the floor of the scenes a fine texture: one more attribute with four values, 1,920,000 images."""
    ground: Annotated[str, arg("COLOUR", "(default: white)")] = "white"
    """Background of transparent pixels: white, black or #rrggbb."""

    def validate(self) -> None:
        """Refuse missing data, and options of the scenes for other data (raises InputError)."""
        if not self.data:
            raise InputError("no data are named: pass 'scenes' or the path of a data file, or --spec FILE")
        check_text(self)
        check_of_scenes(self.data, self.size, self.grain)


@dataclass(frozen=True)
class Sampling:
    """Draws and noise levels."""

    draws: int = 256
    """Number of noisy images. Standard errors fall with its square root, time grows in proportion."""
    levels: int = 40
    """Number of noise levels between --sigma-max and --sigma-min, evenly spaced in ln sigma."""
    sigma_min: float = 0.01
    """Lowest noise level, in the unit of the data (for 8-bit pixels: 1 is the range from black to white)."""
    sigma_max: float = 90.0
    """Highest noise level."""
    seed: int = 0
    """Seed of the draws; the same seed gives the same numbers."""

    def validate(self) -> None:
        """Refuse numbers with which no study can be made (raises InputError)."""
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
    """Options of the exact filter."""

    law: Annotated[str, arg("LAW", None)] = "empirical"
    """empirical: the law of exactly these items, with exact values; heldout: the population that the items come from,
    with lower bounds from held-out items and a filter of the other items (for natural images)."""
    pairs: Flag = False
    """Also measure the interaction information of every pair of attributes: positive where both carry the same
    information, negative where it appears only when both are known. Takes another pass over the data."""
    chain: Annotated[Names, arg("A,B,C", None)] = ()
    """Also measure what each of two to five attributes adds to those before it: I(A; Y), I(B; Y | A),
    I(C; Y | A, B), and the share of each over all orders. Takes another pass over the data."""

    def validate(self) -> None:
        """Refuse an unknown law and a chain that is none (raises InputError)."""
        if self.law not in LAWS:
            raise InputError(f"law is {self.law!r}: expected empirical or heldout")
        if self.chain and not 2 <= len(self.chain) <= MOST_LINKS:
            raise InputError(f"chain has {len(self.chain)} attributes: expected 2 to {MOST_LINKS}, e.g. --chain A,B,C")
        if len(set(self.chain)) < len(self.chain):
            raise InputError(f"chain is {', '.join(map(shown, self.chain))}: name each attribute once")


@dataclass(frozen=True)
class GapOptions:
    """How many network calls to make for the score gaps of a model."""

    target_stderr: Annotated[float, arg("NATS", "(default: 0.02)")] = 0.0
    """Make as many network calls as it takes to bring the standard error of the score gaps down to this, in nats,
    as far as --minutes allow where it is left out."""
    budget: Annotated[int, arg("CALLS", "(default: by --target-stderr)")] = 0
    """Make this many network calls for the gaps, at the noise levels where they reduce the error most."""
    like: Annotated[str, arg("STUDY")] = ""
    """Measure the gaps on the same draws as this earlier study of another model, for sigmascope compare."""

    def validate(self) -> None:
        """Refuse numbers out of range (raises InputError)."""
        check_text(self)
        within("budget", self.budget, 0, MOST_CALLS, "pass e.g. --budget 100000")
        if not (math.isfinite(self.target_stderr) and self.target_stderr >= 0):
            raise InputError(
                f"target_stderr is {self.target_stderr:g}: it must be finite and not negative; pass e.g. "
                "--target-stderr 0.02"
            )


@dataclass(frozen=True)
class TimeOptions:
    """How long a study of a model may take."""

    minutes: float = 10.0
    """About how many minutes the network may compute, where neither --budget nor --target-stderr says otherwise; 0: as
    long as it takes. The network's speed is measured first. Then fewer calls are made for the gaps, and fewer draws and
    levels are measured where these were not passed. The plan is stored, so that a repetition gives the same numbers on
    any machine. The training of a classifier is not counted."""
    most_calls: HiddenNumber = 0
    """Network calls for the gaps, at most, once they have been planned."""

    def validate(self) -> None:
        """Refuse numbers out of range (raises InputError)."""
        if not 0 <= self.minutes <= MOST_MINUTES:  # NaN is not
            raise InputError(f"minutes is {self.minutes:g}: expected a number from 0 to {MOST_MINUTES:,}; e.g. 10")
        within("most_calls", self.most_calls, 0, MOST_CALLS)


@dataclass(frozen=True)
class ForkOptions:
    """Continuations of noisy images."""

    forks: Annotated[int, arg("K", "(default: 64; for a pipeline 16)")] = 0
    """Continuations of each draw, for the estimator forks: at least as many as the attribute has values."""
    steps: Annotated[int, arg("N", "(default: 20)")] = 0
    """For the forks of a pipeline: steps of the sampler from --sigma-max down, two network calls each."""
    labeller: Annotated[str, arg("MODULE:FUNCTION", "(default: the nearest other item)")] = field(
        default="",
        metadata={_RUNS_CODE: "it runs the function {value!r} as labeller: add --labeller {value} if you trust it"},
    )
    """For the forks of a pipeline: your function that labels images. It takes a tensor of pixels between 0 and 1, shape
    (rows, channels, height, width), and returns the index of a value for each row (or a dict of them by attribute).
    The default label is that of the nearest item of the data, except for the parent's item and near copies of it.
    With a labeller, DATA may be the word 'generated': images that the pipeline makes itself."""

    def validate(self) -> None:
        """Refuse numbers out of range (raises InputError)."""
        check_text(self)
        within("forks", self.forks, 0, MOST_FORKS, "pass e.g. --forks 64")
        within("steps", self.steps, 0, MOST_STEPS, "pass e.g. --steps 20")


@dataclass(frozen=True)
class OpeningOptions:
    """How to open a pipeline of diffusers."""

    null_class: Annotated[int, arg("INDEX")] = -1
    """For a class-conditional pipeline: the index of the class that means no class, where the pipeline does not define
    it; -1: there is none. Without such a class, the unconditional denoiser is the mixture over the classes, weighted by
    the likelihood that the network itself gives."""
    allow_pickle: Flag = field(
        default=False,
        metadata={_RUNS_CODE: "it reads pickles, which can run any code: add --allow-pickle if you trust their source"},
    )
    """Also read weights from pickles, which can run any code: only if you trust their source."""
    variant: Annotated[str, arg("NAME", "(default: none)")] = ""
    """Variant of the weights to read, e.g. fp16."""

    def validate(self) -> None:
        """Refuse an index out of range (raises InputError)."""
        check_text(self)
        within("null_class", self.null_class, -1, 10**9, "pass the index of a class")

    def as_passed(self) -> dict[str, Any]:
        """The arguments of :func:`~sigmascope.adapters.models.load_model`."""
        null = self.null_class if self.null_class >= 0 else None
        return {"null": null, "allow_pickle": self.allow_pickle, "variant": self.variant}


@dataclass(frozen=True)
class PipelineOptions(OpeningOptions):
    """How to open a pipeline of diffusers, and which of its classes are which values."""

    classes: Annotated[Any, AsText, arg("FILE", "(default: the names that the model gives)")] = ""
    """For a class-conditional model: the names of its classes, which are matched to the values of the attribute: a
    file with one name per line, in the order of the classes, or JSON (a list, or an object such as id2label); or the
    word 'by-order', if the values of the attribute are in the order of the classes. (In Python also a list of the
    names, or a mapping from values to classes.)"""


@dataclass(frozen=True)
class ClassifierOptions:
    """A classifier of noisy images that is trained for the study."""

    classifier_steps: int = 0
    """For a model of another program: first train a classifier of noisy images on four fifths of the items, for this
    many steps, and measure everything on the items that it was not trained on. Its lower bound checks the score gaps,
    or the forks, and with a model that knows attributes its predictions make the other bounds more precise. 2000 is a
    good number for small images."""

    def validate(self) -> None:
        """Refuse numbers out of range (raises InputError)."""
        within("classifier_steps", self.classifier_steps, 0, 10**9, "pass e.g. --classifier-steps 2000")


Group = (
    DataOptions | ExactOptions | GapOptions | TimeOptions | NetworkOptions | ForkOptions | PipelineOptions
    | ClassifierOptions
)  # fmt: skip
"""The groups of options of a study besides its sampling."""


@dataclass(frozen=True)
class Common:
    """Options of every study."""

    inputs: Annotated[DataOptions, Flat, group("data")] = DataOptions()
    sampling: Annotated[Sampling, Flat, group("sampling")] = Sampling()
    estimators: Annotated[Names, arg("A,B", _estimators)] = ()
    """Estimators, separated by commas. The page shows how well they agree."""
    device: Device = "auto"
    fingerprint: Hidden = ""
    """Fingerprint of the data, once they have been read."""

    def validate_groups(self) -> None:
        """Refuse values that no study can use, group by group (raises InputError)."""
        check_text(self)
        for f in fields(self):
            group = getattr(self, f.name)
            if is_dataclass(group):
                group.validate()  # type: ignore[union-attr]


@dataclass(frozen=True)
class WithModel(Common):
    """Options of a study of a model."""

    model: Annotated[str, arg("MODEL", "(default: the exact filter)")] = field(
        default="",
        metadata={
            _RUNS_CODE: "it runs the function {value!r} as model: add --model {value} if you trust it",
            _WHERE: names_function,
        },
    )
    """Measure a learned model instead of the exact filter: a folder of sigmascope train, or 'bundled', the model of the
    scenes that comes with the package, on items kept out of its training; diffusers:FOLDER, a pipeline of diffusers;
    hub:OWNER/NAME, a pipeline of the hub; or MODULE:FUNCTION, your own function without arguments that returns a model
    (a Foreign, any Denoiser, a pipeline object). A model with classes is measured on labelled data whose attribute is
    the class; any other model by labels of its continuations (forks) and by probes."""
    gaps: Annotated[GapOptions, Flat, group("gap")] = GapOptions()
    time: Annotated[TimeOptions, Flat, group("time")] = TimeOptions()
    network: Annotated[NetworkOptions, Flat, group("network")] = field(default_factory=NetworkOptions)
    model_fingerprint: Hidden = ""
    """Fingerprint of the model's weights, once they have been read."""


@dataclass(frozen=True)
class StudyOptions(WithModel):
    """All options of all kinds of study."""

    exact: Annotated[ExactOptions, Flat, group("exact filter")] = ExactOptions()
    forking: Annotated[ForkOptions, Flat, group("fork")] = ForkOptions()
    pipeline: Annotated[PipelineOptions, Flat, group("pipeline")] = PipelineOptions()
    classifying: Annotated[ClassifierOptions, Flat, group("classifier")] = ClassifierOptions()


def of_features(attributes: Sequence[str]) -> bool:
    """Whether entries of ``--attributes`` name features of the pictures themselves.

    Raises: InputError where some of them do and others do not.
    """
    named_so = [bool(_FEATURE.fullmatch(entry.strip())) for entry in attributes]
    if all(named_so) or not any(f for f, entry in zip(named_so, attributes, strict=True) if entry != "gray"):
        return bool(named_so) and all(named_so)
    feature, label = attributes[named_so.index(True)], attributes[named_so.index(False)]
    raise InputError(
        f"attributes are {', '.join(attributes)}: {feature} is a feature of the pictures and {label} is a label; "
        "measure them in two studies"
    )


def flat(options: object) -> dict[str, Any]:
    """Every option by its name, without its group."""
    values: dict[str, Any] = {}
    for f in fields(options):  # type: ignore[arg-type]
        value = getattr(options, f.name)
        values |= flat(value) if is_dataclass(value) else {f.name: value}
    return values


def changed(options: T, **new: Any) -> T:
    """A copy of options with new values of some, each by its name, without its group.

    Raises: TypeError for an unknown name.
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


def first_difference(stored: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Sequence[str]) -> str:
    """The first setting in which two runs differ, for a message; empty: none but those that are ignored."""
    for name, value in wanted.items():
        if name not in (*ignored, "fingerprint") and stored.get(name) != value:
            return f"its {name} is {stored.get(name)!r}, not {value!r}"
    return "" if stored.get("fingerprint") == wanted.get("fingerprint") else "of other data"


def code_that_runs(options: object) -> dict[str, str]:
    """The options that make a study run foreign code, each with a sentence: what it runs, and how to allow it."""
    sentences: dict[str, str] = {}
    for f in fields(options):  # type: ignore[arg-type]
        value = getattr(options, f.name)
        if is_dataclass(value):
            sentences |= code_that_runs(value)
        elif value and _RUNS_CODE in f.metadata and f.metadata.get(_WHERE, bool)(value):
            sentences[f.name] = f.metadata[_RUNS_CODE].format(value=value)
    return sentences
