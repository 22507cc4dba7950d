"""The options of ``generate``, ``fork``, ``reproduce`` and ``train``.  Imports nothing heavy."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar

import tomli_w

from sigmascope.arguments import Device, Flag, Flat, Hidden, Names, arg, group
from sigmascope.errors import InputError
from sigmascope.learn.settings import Settings
from sigmascope.limits import (
    MOST_FORKS,
    MOST_SEED,
    MOST_STEPS,
    check_levels,
    check_of_scenes,
    check_text,
    refuse,
    shown,
    within,
)
from sigmascope.studies.options import DataOptions, OpeningOptions, PipelineOptions, changed, first_difference, flat

GENERATE_SAMPLERS = ("sde", "ode", "filter")
FORK_SAMPLERS = ("exact", "sde", "ode")


@dataclass(frozen=True)
class ModelOptions(OpeningOptions):
    """The model that makes the images."""

    model: Annotated[str, arg("MODEL", "(default: the exact filter of DATA)")] = ""
    """Make the images with a model instead of the exact filter: 'bundled', a folder of sigmascope train,
    diffusers:FOLDER or hub:OWNER/NAME, a pipeline of diffusers, or MODULE:FUNCTION, your own function without arguments
    that returns a model. DATA may then be left out."""
    labeller: Annotated[str, arg("MODULE:FUNCTION", "(default: the nearest item)")] = ""
    """With --model: your function that labels images. It takes a tensor of pixels between 0 and 1, shape (rows,
    channels, height, width), and returns the index of a value for each row (or a dict of them by attribute)."""

    def refuse_without_model(self) -> None:
        """Refuse options that only a model has (raises InputError)."""
        refuse(self, dict.fromkeys(flat(self), "a model"), "the exact filter: add --model")


@dataclass(frozen=True)
class FollowedModel(ModelOptions, PipelineOptions):
    """The model that makes the images, and which of its classes are which values."""


@dataclass(frozen=True)
class GenerateTask(DataOptions):
    """The options of ``sigmascope generate``: images from noise, with the posteriors of attributes on the way."""

    n: int = 16
    """Number of images."""
    sampler: Annotated[str, arg("SAMPLER", None)] = "sde"
    """sde (the generative SDE, second order), ode (the probability-flow ODE, Heun), or filter (simulates the noisy
    image and the belief of the filter together; the denoiser is computed from the belief alone)."""
    watch: Annotated[Names, arg("A,B", "(default: all)")] = ()
    """With --model: the attributes of the model whose belief is followed, one output of the network a step for each of
    their values. With --sampler filter: the one attribute that the belief is about (by default the items, or the root
    of a hierarchy)."""
    steps: int = 30
    """Steps between --sigma-max and --sigma-min, evenly spaced in ln sigma; for a pipeline, those of its scheduler."""
    sigma_max: float = 90.0
    """First noise level: well above the standard deviation of the data."""
    sigma_min: float = 0.02
    """Last noise level above 0."""
    seed: int = 0
    """Seed of the noise; each image has its own stream."""
    by: Annotated[FollowedModel, Flat, group("model")] = FollowedModel()
    forks: Annotated[int, arg("K", "(default: 16)")] = 0
    """With --model, for attributes of DATA that the model is not conditional on: continuations of each image at some
    levels, whose labels show what is decided there."""
    device: Device = "auto"
    fingerprint: Hidden = ""
    """Fingerprint of the data, once they have been read."""

    kind: ClassVar[str] = "generate"

    @property
    def watch_one(self) -> str:
        """The attribute that the belief of the exact filter is about; empty: the items, or the root of a hierarchy."""
        return self.watch[0] if self.watch else ""

    def check(self) -> GenerateTask:
        """Itself.

        Raises: InputError for a value that cannot be used.
        """
        _check_common(self)
        _check_path("sigma_max", self.sigma_max, self.sigma_min, self.steps)
        if not 1 <= self.n <= 4096:
            raise InputError(f"n is {shown(self.n)}: from 1 to 4096 images can be generated; pass e.g. --n 16")
        if self.sampler not in GENERATE_SAMPLERS:
            raise InputError(f"sampler is {self.sampler!r}: expected {', '.join(GENERATE_SAMPLERS)}")
        if self.by.model:
            within("forks", self.forks, 0, MOST_FORKS, "pass e.g. --forks 16")
            if self.watch and self.sampler == "ode":
                raise InputError("--watch follows the path of the SDE: leave out --sampler ode")
            return self
        refuse(self, {"forks": "a model"}, "a study of data alone")
        self.by.refuse_without_model()
        if self.watch and self.sampler != "filter":
            raise InputError("--watch is the attribute of the filter's belief: it goes with --sampler filter")
        if len(self.watch) > 1:
            raise InputError(f"watch is {', '.join(self.watch)}: the filter's belief is about one attribute")
        return self


@dataclass(frozen=True)
class ForkTask(DataOptions):
    """The options of ``sigmascope fork``: independent continuations of noisy images."""

    sigma: float = 3.0
    """Noise level of the parents."""
    forks: int = 16
    """Continuations of each parent."""
    seeds: int = 8
    """Number of parents: noisy images of the data."""
    sampler: Annotated[str, arg("SAMPLER", "(default: exact; with --model sde)")] = ""
    """exact (draws clean images from the posterior in one step), sde (follows the generative SDE down the levels, and
    draws labels from the posterior at --sigma-min), or ode (deterministic, so it needs --renoise). A model has no
    exact sampler."""
    renoise: float = 0.0
    """Add noise to the parent, up to this level, before going down (a U-turn); 0: do not."""
    steps: int = 30
    """Steps down to --sigma-min, evenly spaced in ln sigma."""
    sigma_min: float = 0.02
    """Last noise level above 0."""
    seed: int = 0
    """Seed of parents and noise; each continuation has its own stream."""
    by: Annotated[ModelOptions, Flat, group("model")] = ModelOptions()
    device: Device = "auto"
    fingerprint: Hidden = ""
    """Fingerprint of the data, once they have been read."""

    kind: ClassVar[str] = "fork"

    def check(self) -> ForkTask:
        """Itself, with the sampler filled in.

        Raises: InputError for a value that cannot be used.
        """
        if not self.sampler:
            return replace(self, sampler="sde" if self.by.model else "exact").check()
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise InputError(f"sigma is {self.sigma:g}: it must be finite and greater than 0; pass e.g. --sigma 3")
        check_levels("sigma", "sigma_min", self.sigma, self.sigma_min)
        _check_common(self)
        if self.forks < 2 or self.seeds < 2 or self.forks * self.seeds > 1 << 16:
            raise InputError(
                f"forks is {shown(self.forks)} and seeds {shown(self.seeds)}: expected at least 2 of each, and at "
                "most 65,536 continuations in all; pass e.g. --forks 16 --seeds 8"
            )
        if self.sampler not in FORK_SAMPLERS:
            raise InputError(f"sampler is {self.sampler!r}: expected {', '.join(FORK_SAMPLERS)}")
        self._check_sampler()
        return self

    def _check_sampler(self) -> None:
        if self.by.model and self.sampler == "exact":
            raise InputError("sampler is 'exact': a model has no exact sampler; pass --sampler sde, or no --sampler")
        if not self.by.model:
            self.by.refuse_without_model()
        if self.sampler == "ode" and not self.renoise:
            raise InputError(
                "the ode is deterministic, so all continuations of an image would be the same: use --sampler sde, or "
                f"add noise first, with --renoise {2 * self.sigma:g}"
            )
        if self.renoise and not (math.isfinite(self.renoise) and self.renoise > self.sigma):
            raise InputError(f"renoise is {self.renoise:g}: it must be above sigma, which is {self.sigma:g}")
        if self.sampler == "exact":
            if self.renoise:
                raise InputError("--sampler exact draws continuations in one step: --renoise goes with sde and ode")
            refuse(self, dict.fromkeys(("steps", "sigma_min"), "the samplers sde and ode"), "--sampler exact")
            return
        _check_path("sigma", self.renoise or self.sigma, self.sigma_min, self.steps)
        if self.sigma_min >= self.sigma:
            raise InputError(f"sigma_min is {self.sigma_min:g}: it must be below sigma, which is {self.sigma:g}")


@dataclass(frozen=True)
class ReproduceTask:
    """The experiments of the paper."""

    data: Annotated[str, arg("DATA", None)] = "scenes"
    """The word 'scenes', or a data file as for a study, e.g. 3dshapes.h5."""
    model: Annotated[str, arg("MODEL", None)] = "exact"
    """exact (only the exact filter of the data); or also measure 'bundled' or a folder of sigmascope train."""
    quick: Flag = False
    """Use fewer draws: minutes instead of a quarter of an hour, with wider bands."""
    second: Annotated[str, arg("FILE", "(default: none)")] = ""
    """Another data file, whose curves are shown under both laws; for the classes of CIFAR-10, also whether they are
    animals or vehicles."""
    attributes: Annotated[Names, arg("A,B", "(default: all)")] = ()
    """Attributes, as for a study."""
    size: int = 16
    """Side of the scenes in pixels; larger pictures of a file are averaged down to it, 0 keeps their size. With a
    model: the side of its training images."""
    seed: int = 0
    """Seed; the same seed gives the same numbers."""
    fingerprint: Hidden = ""
    """Fingerprint of the data, once they have been read."""

    kind: ClassVar[str] = "reproduce"

    def check(self) -> ReproduceTask:
        """Itself.

        Raises: InputError for a value that cannot be used.
        """
        if not self.data or not self.model:
            raise InputError("no data or no model is named: pass e.g. --data scenes --model exact")
        check_text(self)
        if self.size < 0:
            raise InputError(f"size is {shown(self.size)}: it must not be negative; pass e.g. --size 16")
        within("size", self.size, 0, 100_000, "pass e.g. --size 16")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"seed is {shown(self.seed)}: it must not be negative, and less than 2^31")
        return self


@dataclass(frozen=True)
class TrainSpec(DataOptions):
    """The options of ``sigmascope train``."""

    settings: Annotated[Settings, Flat, group("training")] = field(default_factory=Settings)
    classifier_steps: int = 0
    """First train a classifier of noisy images, for this many steps. Its lower bound checks the score gaps; and where
    an attribute is unknown, the denoiser uses its predictions, which makes the gaps far less biased."""
    half: Flag = False
    """Store the finished model in 16 bits."""
    checkpoint_seconds: float = 60.0
    """Seconds between two checkpoints."""
    device: Device = "auto"
    fingerprint: Hidden = ""
    """Fingerprint of the data, once they have been read."""

    def to_toml(self) -> str:
        """The text of a file that holds it."""
        table = asdict(self) | {"attributes": list(self.attributes)}
        settings = table.pop("settings")
        return tomli_w.dumps({"train": table, "settings": settings})

    def differs(self, text: str) -> str:
        """The first difference from the training in the text of a file; empty: none that changes the result."""
        try:
            stored, own = (tomllib.loads(x) for x in (text, self.to_toml()))
            old, new = ({"ground": DataOptions.ground} | x["train"] | x["settings"] for x in (stored, own))
        except (KeyError, TypeError, ValueError, RecursionError):
            return "its settings cannot be read"
        return first_difference(old, new, ("device", "data", "checkpoint_seconds"))


Task = GenerateTask | ForkTask | ReproduceTask


def to_toml(task: Task) -> str:
    """The text of a file that holds the task."""
    table = {n: list(v) if isinstance(v, tuple) else v for n, v in flat(task).items()}
    return tomli_w.dumps({task.kind: table})


def difference(text: str, task: Task) -> str:
    """The first difference from the task in the text of a file; empty: none that changes the result."""
    try:
        table: dict[str, Any] = tomllib.loads(text)[task.kind]
        stored = flat(changed(type(task)(), **{n: tuple(v) if isinstance(v, list) else v for n, v in table.items()}))
    except (ValueError, KeyError, TypeError, RecursionError):
        return "its settings cannot be read"
    return first_difference(stored, flat(task), ("device", "data", "model"))


def _check_common(task: GenerateTask | ForkTask) -> None:
    if not task.data and not task.by.model:
        raise InputError(
            "no data are named: pass 'scenes', 'hierarchy' or the path of a data file, or a model with --model"
        )
    check_text(task)
    task.by.validate()
    if task.data:
        check_of_scenes(task.data, task.size, task.grain)
    if not 0 <= task.seed <= MOST_SEED:
        raise InputError(f"seed is {shown(task.seed)}: it must not be negative, and less than 2^63")


def _check_path(name: str, first: float, last: float, steps: int) -> None:
    if not 1 <= steps <= MOST_STEPS:
        raise InputError(f"steps is {shown(steps)}: from 1 to {MOST_STEPS}; pass e.g. --steps 30")
    if not (math.isfinite(first) and math.isfinite(last) and 0 < last < first):
        raise InputError(
            f"the levels go from {first:g} down to {last:g}: both must be finite, the last above 0 and lower"
        )
    check_levels(name, "sigma_min", first, last)
