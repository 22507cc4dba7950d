"""Specifications of ``generate`` and ``fork``: what decides their numbers.  Imports nothing heavy."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass
from typing import Any

import tomli_w

from sigmascope.errors import InputError
from sigmascope.limits import (
    MOST_SEED,
    MOST_STEPS,
    check_levels,
    check_of_scenes,
    check_text,
    refuse,
    shown,
    within,
)

GENERATE_SAMPLERS = ("sde", "ode", "filter")
FORK_SAMPLERS = ("exact", "sde", "ode")


@dataclass(frozen=True)
class GenerateTask:
    """Images from noise, with what the filter knows on the way.

    Args:
        data: as for a study.
        abstractions: attributes to follow; empty means all.
        n: images.
        sampler: ``sde``, ``ode`` or ``filter`` (state and filter together).
        about: for ``filter``, the attribute whose values it holds a belief on; empty means the items themselves, or
            the root of a hierarchy.
        steps: between the levels, even in ln sigma, and one more to sigma 0.
        sigma_max: first level.
        sigma_min: last level above 0.
        seed: of the noise; each image has its own stream.
        size: side of the scenes in pixels.
        grain: whether the floor of the scenes has a texture.
        ground: what transparent pixels of pictures are laid on: ``white``, ``black`` or ``#rrggbb``.
        device: as for a study.
        fingerprint: of the data, once they have been read.
    """

    data: str
    abstractions: tuple[str, ...] = ()
    n: int = 16
    sampler: str = "sde"
    about: str = ""
    steps: int = 30
    sigma_max: float = 90.0
    sigma_min: float = 0.02
    seed: int = 0
    size: int = 32
    grain: bool = False
    ground: str = "white"
    device: str = "auto"
    fingerprint: str = ""

    @property
    def kind(self) -> str:
        return "generate"

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
        if self.about and self.sampler != "filter":
            raise InputError("--about says what the filter holds a belief on: it goes with --sampler filter")
        return self


@dataclass(frozen=True)
class ForkTask:
    """Continuations of noisy images.

    Args:
        data: as for a study.
        abstractions: attributes to compare; empty means all.
        sigma: noise level of the parents.
        forks: children of each.
        seeds: parents.
        sampler: ``exact`` (children drawn at once from the posterior), ``sde``, or ``ode`` (which needs ``renoise``).
        renoise: noise the parent further, to this level, before going down; 0 means not.
        steps: from ``sigma`` (or ``renoise``) to ``sigma_min``.
        sigma_min: last level above 0.
        seed: of parents and noise; each child has its own stream.
        size: side of the scenes in pixels.
        grain: whether the floor of the scenes has a texture.
        ground: what transparent pixels of pictures are laid on: ``white``, ``black`` or ``#rrggbb``.
        device: as for a study.
        fingerprint: of the data, once they have been read.
    """

    data: str
    abstractions: tuple[str, ...] = ()
    sigma: float = 3.0
    forks: int = 16
    seeds: int = 8
    sampler: str = "exact"
    renoise: float = 0.0
    steps: int = 30
    sigma_min: float = 0.02
    seed: int = 0
    size: int = 32
    grain: bool = False
    ground: str = "white"
    device: str = "auto"
    fingerprint: str = ""

    @property
    def kind(self) -> str:
        return "fork"

    def check(self) -> ForkTask:
        """Itself.

        Raises: InputError for a value that cannot be used.
        """
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise InputError(f"sigma is {self.sigma:g}: it must be finite and greater than 0; pass e.g. --sigma 3")
        check_levels("sigma", "sigma_min", self.sigma, self.sigma_min)
        _check_common(self)
        if self.forks < 2 or self.seeds < 2 or self.forks * self.seeds > 1 << 16:
            raise InputError(
                f"forks is {shown(self.forks)} and seeds {shown(self.seeds)}: at least 2 of each are needed to "
                "compare, and at most 65,536 children in all; pass e.g. --forks 16 --seeds 8"
            )
        if self.sampler not in FORK_SAMPLERS:
            raise InputError(f"sampler is {self.sampler!r}: expected {', '.join(FORK_SAMPLERS)}")
        if self.sampler == "ode" and not self.renoise:
            raise InputError(
                "the ode is deterministic, all forks of an image would be the same: use --sampler sde, or noise the "
                f"image further first with --renoise {2 * self.sigma:g}"
            )
        if self.renoise and not (math.isfinite(self.renoise) and self.renoise > self.sigma):
            raise InputError(f"renoise is {self.renoise:g}: it must be above sigma, which is {self.sigma:g}")
        if self.sampler == "exact":
            if self.renoise:
                raise InputError("exact children are drawn at once, without a path: --renoise goes with sde and ode")
            refuse(self, dict.fromkeys(("steps", "sigma_min"), "the samplers sde and ode"), "--sampler exact")
            return self
        _check_path("sigma", self.renoise or self.sigma, self.sigma_min, self.steps)
        if self.sigma_min >= self.sigma:
            raise InputError(f"sigma_min is {self.sigma_min:g}: it must be below sigma, which is {self.sigma:g}")
        return self


@dataclass(frozen=True)
class ReproduceTask:
    """The paper's experiments.

    Args:
        data: ``scenes`` or a data file, as for a study.
        model: ``exact``, ``bundled``, or the folder of a learned model, measured beside the exact filter.
        quick: with fewer draws.
        second: another data file, of which the page shows the curves under both laws; empty: none.
        abstractions: attributes; empty means all.
        size: side in pixels of the scenes, or to which pictures of a file are reduced; 0 leaves them as they are.
        seed: of everything.
        fingerprint: of the data, once they have been read.
    """

    data: str = "scenes"
    model: str = "exact"
    quick: bool = False
    second: str = ""
    abstractions: tuple[str, ...] = ()
    size: int = 16
    seed: int = 0
    fingerprint: str = ""

    @property
    def kind(self) -> str:
        return "reproduce"

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


Task = GenerateTask | ForkTask | ReproduceTask


def to_toml(task: Task) -> str:
    """The text of a file that holds the task."""
    return tomli_w.dumps({task.kind: asdict(task) | {"abstractions": list(task.abstractions)}})


def difference(text: str, task: Task) -> str:
    """How the task of a file's text differs from another (device and place of the data do not matter); empty: not."""
    try:
        table: dict[str, Any] = tomllib.loads(text)[task.kind]
        found = asdict(type(task)(**(table | {"abstractions": tuple(table["abstractions"])})))
    except (ValueError, KeyError, TypeError, RecursionError):
        return "its settings cannot be read"
    wanted = asdict(task)
    for name in wanted:
        if name not in ("device", "data", "fingerprint") and found[name] != wanted[name]:
            return f"its {name} is {found[name]!r}, not {wanted[name]!r}"
    return "" if found["fingerprint"] == wanted["fingerprint"] else "of other data"


def _check_common(task: GenerateTask | ForkTask) -> None:
    if not task.data:
        raise InputError("no data are named: pass 'scenes', 'hierarchy' or the path of a data file")
    check_text(task)
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
