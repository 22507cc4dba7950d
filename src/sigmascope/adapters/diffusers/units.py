r"""Units of noise levels in other programs: sigma, decibels, timestep, step, strength, percent.

============= ================================================================================================
unit          definition
============= ================================================================================================
sigma         standard deviation of the noise in :math:`y = v + \sigma n`, in the unit of the data: pixels from 0 to 1
              (black to white is 1), or latents
network sigma the same in the network's own unit (for pixels from -1 to 1: twice that)
decibels      signal-to-noise ratio, :math:`-20 \log_{10} \sigma`
timestep      the time that the network takes
step          k of N: the state before the sampler's k-th step, k from 0
strength      of an image-to-image pipeline of diffusers with N steps
percent       progress of sampling in ComfyUI: share of the training clock that is done, from noise alone
============= ================================================================================================

Levels, timesteps and strengths follow from the scheduler and the pipeline's class
(:mod:`sigmascope.adapters.diffusers.schedulers`, :mod:`sigmascope.adapters.diffusers.scheduler_setup`).

References: ComfyUI, ``percent_to_sigma``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sigmascope.adapters.diffusers.calls import pipeline_class
from sigmascope.adapters.diffusers.folders import (
    checked_index,
    described,
    home_of,
    in_one_line,
    quiet,
    read_config,
)
from sigmascope.adapters.diffusers.opening import Pipeline
from sigmascope.adapters.diffusers.pipelines import in_latents
from sigmascope.adapters.diffusers.scheduler_setup import SchedulerSetup, Starts, reads_patch_size
from sigmascope.adapters.diffusers.schedulers import check_sizes, clock_of, order_of, states_of
from sigmascope.adapters.foreign import Unit
from sigmascope.adapters.naming import INDEX
from sigmascope.core import InputError

UNITS = ("sigma", "network_sigma", "timestep", "step", "strength", "percent")
"""Units in which a level can be given."""
_SAME = 1e-9  # largest relative difference of levels that count as equal
_DIGITS = 6  # of strengths


@dataclass(frozen=True)
class Level:
    """One noise level in every unit.

    Attributes:
        sigma: in the unit of the data; infinite at noise alone.
        network_sigma: in the unit of the network's values.
        decibels: signal-to-noise ratio, -20 log10 sigma.
        timestep: of the network; perhaps between two timesteps of the training clock.
        step: the first state with at most this noise; the number of states where there is none.
        step_sigma: sigma of that state, in the unit of the data.
        steps: number of steps.
        strength: the smallest strength of an image-to-image run that begins at this level or above, or None.
        percent: share of the training clock that is done, from 0 to 100.
        strength_at_most: the largest strength of a run that begins at this level or below, or None.
    """

    sigma: float
    network_sigma: float
    decibels: float
    timestep: float
    step: int
    step_sigma: float
    steps: int
    strength: float | None
    percent: float
    strength_at_most: float | None


class Ruler:
    """The units of one scheduler of diffusers, as a pipeline uses it.

    Args:
        scheduler: of diffusers, or one with the same attributes; a copy of it is set to the steps.
        steps: of the sampler.
        unit: of the network's values.
        name: of the scheduler in messages.
        pipeline: name of the pipeline's class, which determines levels, shift and strengths; None: Stable Diffusion.
        patches: tokens of an image, which shift the levels of some flows; 0: those of 1024 × 1024 pixels.
        sides: height and width in pixels; 0: the pipeline's own.
        index: settings of the pipeline, from its ``model_index.json``.
        timesteps: a list of the user in place of ``steps``.
        sigmas: a list of levels of the user, in the scheduler's unit.

    Attributes:
        lowest: the smallest noise level of the scheduler, in the unit of the data.
        highest: the largest, in the unit of the data; infinite where a state is noise alone.

    Raises: InputError, in one line, for a scheduler whose levels are not known, or that cannot be set.
    """

    def __init__(
        self,
        scheduler: Any,
        steps: int = 50,
        unit: Unit | None = None,
        name: str = "scheduler",
        *,
        pipeline: str | None = None,
        patches: int = 0,
        sides: tuple[int, int] = (0, 0),
        index: Mapping[str, Any] | None = None,
        timesteps: Sequence[float] = (),
        sigmas: Sequence[float] = (),
    ) -> None:
        self._scheduler, self._pipeline = copy.deepcopy(scheduler), pipeline
        setup = SchedulerSetup(pipeline, patches, sides, index)
        try:
            mu = setup.set(self._scheduler, steps, timesteps, sigmas)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        self.clock = clock_of(self._scheduler, name, mu)
        self.schedule, self.unit = self.clock.schedule, unit or Unit()
        self._sigmas, self._timesteps = states_of(self._scheduler, self.clock)
        self._order = order_of(self._scheduler)
        self.states = -(-len(self._timesteps) // self._order)
        own = bool(timesteps or sigmas)
        self.steps = self.states if own else steps
        self._counted = len(self._timesteps) if own else steps
        self.levels = np.append(self._sigmas[:: self._order], 0.0)

        self.lowest = self._ours(min(self.clock.lowest, float(self._sigmas.min())))
        self.highest = self._ours(max(self.clock.highest, float(self._sigmas.max())))

    def of_sigma(self, sigma: float) -> Level:
        """The level of a sigma in the unit of the data; InputError for one outside the scheduler."""
        if not sigma > 0:  # NaN is not
            raise InputError(f"sigma is {sigma:g}: it must be above 0 (inf: noise alone)")
        if not self.lowest * (1 - 1e-6) <= sigma <= self.highest * (1 + 1e-6):
            network = "" if self.unit.scale == 1 else f" ({self.unit.scale:g} times as much in the network's unit)"
            raise InputError(
                f"sigma is {sigma:.8g}: the scheduler has sigma from {self.lowest:.8g} to {self.highest:.8g}{network}; "
                "leave out what is outside"
            )
        return self._level(self.unit.scale * sigma, sigma=sigma)

    def of_network_sigma(self, sigma: float) -> Level:
        """The level of a sigma in the network's unit; InputError for one outside the scheduler."""
        low, high = self.unit.scale * self.lowest, self.unit.scale * self.highest
        if not low * (1 - 1e-6) <= sigma <= high * (1 + 1e-6) or sigma <= 0:
            raise InputError(
                f"network-sigma is {sigma:.8g}: the network has sigma from {low:.8g} to {high:.8g} in its own unit; "
                "leave out what is outside"
            )
        return self._level(sigma)

    def of_timestep(self, timestep: float) -> Level:
        """The level of a timestep of the network: that of a state with this timestep, or else of the training clock.

        Raises: InputError for one outside the scheduler.
        """
        at = np.flatnonzero(np.isclose(self._timesteps[:: self._order], timestep, rtol=1e-9, atol=1e-9))
        levels = self.levels[at]
        if len(at) and (len(at) == 1 or np.ptp(levels[np.isfinite(levels)]) == 0):
            return self._level(float(levels[0]), entry=int(at[0]) * self._order, timestep=timestep)
        return self._level(self.clock.sigma(timestep), timestep=timestep)

    def of_step(self, step: int, steps: int) -> Level:
        """The level of the state before a step of the sampler; InputError for a step that it does not have."""
        if steps != self.steps or not 0 <= step < self.states:
            raise InputError(f"step is {step} of {steps}: expected one from 0 to {self.states - 1}, of {self.steps}")
        entry = step * self._order
        return self._level(float(self._sigmas[entry]), entry=entry)

    def of_strength(self, strength: float) -> Level:
        """The level at which an image-to-image run of a strength begins; InputError where no step remains."""
        if not 0 < strength <= 1:
            raise InputError(f"strength is {strength:g}: it must be above 0, and at most 1")
        start = self._start(strength)
        if start is None:
            raise InputError(f"strength is {strength:g} of {self.steps} steps: no step remains; pass more --steps")
        return self._level(start[0], timestep=start[1], entry=start[2])

    def of_percent(self, percent: float) -> Level:
        """The level at which a share of the training clock, in percent, is done; InputError outside 0 to 100."""
        if not 0 <= percent < 100:
            raise InputError(f"percent is {percent:g}: it must be at least 0 and below 100")
        return self._level(self.clock.sigma_at(1 - percent / 100), percent=percent)

    def _ours(self, sigma: float) -> float:
        return sigma / self.unit.scale

    def _level(
        self,
        network: float,
        *,
        entry: int | None = None,
        timestep: float | None = None,
        sigma: float | None = None,
        percent: float | None = None,
    ) -> Level:
        """The level of a sigma in the network's unit; the other arguments are taken where they are known."""
        if entry is None:
            same = np.flatnonzero(_near(self.levels[: self.states], network))
            entry = int(same[0]) * self._order if len(same) else None
        if timestep is None:
            timestep = float(self._timesteps[entry]) if entry is not None else self.clock.timestep(network)
        step = self._first_at_most(network) if entry is None else entry // self._order
        if percent is None:
            percent = 100 * (1 - min(max(self.clock.share(network), 0.0), 1.0))
        sigma = self._ours(network) if sigma is None else sigma
        at_least, at_most = self._strengths(network, entry)
        return Level(
            sigma=sigma,
            network_sigma=network,
            decibels=-math.inf if math.isinf(sigma) else math.inf if sigma == 0 else -20 * math.log10(sigma) + 0.0,
            timestep=timestep,
            step=step,
            step_sigma=self._ours(float(self.levels[step])),
            steps=self.steps,
            strength=at_least,
            percent=percent,
            strength_at_most=at_most,
        )

    def _first_at_most(self, network: float) -> int:
        """The first state with at most this noise, or the last one in a run that adds noise."""
        fits = (self.levels <= network) | _near(self.levels, network)
        rising = self.states > 1 and self.levels[0] < self.levels[self.states - 1]
        return int(np.flatnonzero(fits[: self.states]).max(initial=0)) if rising else int(np.argmax(fits))

    @cached_property
    def _starts(self) -> Starts:
        return Starts(self._pipeline, copy.deepcopy(self._scheduler), self._counted)

    def _start(self, strength: float) -> tuple[float, float, int | None] | None:
        """Level, timestep and entry at which a run of a strength begins; None where no step remains."""
        if self._starts.changes_steps:
            timestep = self._starts.timestep(strength)
            return None if timestep is None else (self.clock.sigma(timestep), timestep, None)
        entry = self._starts.entry(strength)
        return None if entry is None else (float(self._sigmas[entry]), float(self._timesteps[entry]), entry)

    @cached_property
    def _tried(self) -> list[tuple[float, float, int | None]]:
        """Strengths with the level and entry at which a run of each begins: the hundredths, and one for every step."""
        n = self._counted
        strengths = {round(j / 100, 2) for j in range(1, 101)} | {round((j + 0.5) / n, _DIGITS) for j in range(n)}
        try:
            starts = [(s, self._start(s)) for s in sorted(strengths) if 0 < s <= 1]
        except InputError:  # the pipeline has no strengths
            return []
        return [(s, start[0], start[2]) for s, start in starts if start is not None]

    def _strengths(self, network: float, entry: int | None) -> tuple[float | None, float | None]:
        """The smallest strength that begins at a level or above, and the largest that begins there or below.

        Among strengths that begin at the same state, the one with the fewest digits is taken.
        """
        levels = np.array([level for _, level, _ in self._tried])
        near = _near(levels, network)
        above, below = levels[(levels >= network) | near], levels[(levels <= network) | near]

        def shortest(level: float) -> float:
            alike = [(s, start) for s, at, start in self._tried if at == level]
            same_entry = [s for s, start in alike if start == entry]
            return min(same_entry or [s for s, _ in alike], key=lambda s: (len(f"{s:g}"), s))

        smallest = shortest(float(above.min())) if len(above) else None
        return smallest, shortest(float(below.max())) if len(below) else None


def _near(levels: np.ndarray, level: float) -> np.ndarray:
    """Which levels are equal to one, up to rounding; infinity equals itself."""
    return np.asarray(np.isclose(levels, level, rtol=_SAME, atol=0.0))


def ruler_of(
    path: str | Path,
    steps: int = 50,
    *,
    height: int = 0,
    width: int = 0,
    timesteps: Sequence[float] = (),
    sigmas: Sequence[float] = (),
) -> Ruler:
    """The units of the scheduler of a pipeline's folder; no weights are read.

    Args:
        path: the folder, perhaps with ``diffusers:`` before it; from ``hub:owner/name`` only configurations are
            fetched.
        steps: of the sampler.
        height: of the images in pixels, for flows that shift with it; 0: the pipeline's own.
        width: of the images in pixels.
        timesteps: a list of the user in place of ``steps``.
        sigmas: a list of levels of the user, in the scheduler's unit.

    Returns: the :class:`Ruler`, which converts a level of any unit to all others.

    Raises: InputError, in one line, for a folder without a known scheduler.
    """
    folder = described(path)
    index = checked_index(folder)
    scheduler = _scheduler_of(folder, index)
    latent = in_latents(folder, index)
    kind = index.get("_class_name")
    return Ruler(
        scheduler, steps, Unit() if latent else Unit(2.0, -1.0), f"{folder}/{INDEX}",
        pipeline=kind if isinstance(kind, str) else None, patches=_patches(folder, kind, height, width),
        sides=(height, width), index=index, timesteps=timesteps, sigmas=sigmas,
    )  # fmt: skip


def ruler_of_pipe(
    pipe: Pipeline,
    steps: int = 50,
    *,
    sides: tuple[int, int] = (0, 0),
    timesteps: Sequence[float] = (),
    sigmas: Sequence[float] = (),
) -> Ruler:
    """The units of the scheduler of a pipeline that is open; arguments as of :func:`ruler_of`.

    Raises: InputError, in one line, for a scheduler whose levels are not known, or that cannot be set.
    """
    height, width = pipe.denoiser.event[-2:]
    return Ruler(
        pipe.scheduler, steps, pipe.denoiser.unit, pipe.name, pipeline=pipe.kind, patches=(height // 2) * (width // 2),
        sides=sides, timesteps=timesteps, sigmas=sigmas,
    )  # fmt: skip


def _scheduler_of(folder: Path, index: Mapping[str, Any]) -> Any:
    """The scheduler of a pipeline's folder, of the class that the index names."""
    try:
        import diffusers  # noqa: F401
    except ImportError as error:
        raise InputError("a pipeline needs diffusers: pip install 'sigmascope[models]'") from error
    config = home_of(folder, "scheduler") / "scheduler_config.json"
    if not config.is_file():
        raise InputError(f"{folder}: it has no scheduler ({config.name} is missing): its levels are unknown")
    settings = read_config(config)
    home = index.get("scheduler")
    own = home[1] if isinstance(home, list) and len(home) == 2 else None
    classes: list[Any] = [pipeline_class(name) for name in (own, settings.get("_class_name"))]
    # A class whose own requirements are missing raises ImportError at any access.
    with in_one_line(str(config), "its scheduler cannot be used here"):
        cls = next((c for c in classes if hasattr(c, "set_timesteps") and hasattr(c, "from_config")), None)
    if cls is None:
        name = own if pipeline_class(own) else settings.get("_class_name")
        raise InputError(f"{config}: it describes no scheduler of diffusers ({name!r:.60}): expected its class's name")
    check_sizes(settings, str(config))
    with quiet(), in_one_line(str(config), "it describes no scheduler of diffusers"):
        return cls.from_config(settings)


def _patches(folder: Path, kind: object, height: int, width: int) -> int:
    """Tokens of an image of a size in pixels, by the configurations of the folder's parts, or else by defaults."""
    for name, value in (("height", height), ("width", width)):
        if value < 0:
            raise InputError(f"{name} is {value}: it must be a number of pixels")
    network = _part(folder, "transformer")
    blocks = _part(folder, "vae").get("block_out_channels")
    scale = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and 0 < len(blocks) < 10 else 8
    side, patch = network.get("sample_size"), network.get("patch_size")
    smallest = 1 if reads_patch_size(kind) else 2  # other pipelines pack two by two latents in any case
    patch = patch if isinstance(patch, int) and smallest <= patch < 64 else 2
    own = side if isinstance(side, int) and 0 < side < 100_000 else 128
    sides = ((height // scale) if height else own, (width // scale) if width else own)
    return (sides[0] // patch) * (sides[1] // patch)


def _part(folder: Path, part: str) -> dict[str, Any]:
    """The configuration of a part of a pipeline; empty where there is none."""
    path = folder / part / "config.json"
    return read_config(path) if path.is_file() else {}
