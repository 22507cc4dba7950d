r"""Every unit in which programs say how much noise: sigma, decibels, timestep, step, strength, percent.

=========== ==================================================================================================
unit        what it is
=========== ==================================================================================================
sigma       standard deviation of the noise beside the data, :math:`y = v + \sigma n`, in our unit of values
model sigma the same in the network's own unit (pixels from -1 to 1: twice ours)
decibels    :math:`-20 \log_{10} \sigma`
timestep    of the training clock (0 .. 999 of 1,000; of flow matching 1000 times the share of noise; of EDM
            :math:`\tfrac14 \ln` of its sigma)
step        k of N: the state before the sampler's k-th step, k from 0; the scheduler's own spacing
strength    of an image-to-image pipeline of diffusers with N steps: it noises to the state that N·strength steps
            remain from (rounded down)
percent     of sampling that is done, as ComfyUI counts it: of the training clock, from noise alone
=========== ==================================================================================================

References: diffusers, ``get_timesteps`` of StableDiffusionImg2ImgPipeline; ComfyUI, ``percent_to_sigma``.
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sigmascope.adapters.foreign import Unit
from sigmascope.adapters.pipelines import INDEX, PREFIX, TRAINED, checked_index, schedule_of
from sigmascope.core import InputError
from sigmascope.noise import FlowMatching, Karras, Schedule

UNITS = ("sigma", "timestep", "step", "strength", "percent")
"""What a level can be given in."""


@dataclass(frozen=True)
class Level:
    """One noise level in every unit.

    Attributes:
        sigma: in our unit.
        model_sigma: in the network's.
        decibels: signal-to-noise ratio.
        timestep: of the training clock, perhaps between two.
        step: of the steps; the first state that has at most this noise.
        step_sigma: our sigma of that state.
        steps: how many there are.
        strength: the smallest with which an image-to-image run begins at this noise or above.
        percent: of the training clock that is done.
    """

    sigma: float
    model_sigma: float
    decibels: float
    timestep: float
    step: int
    step_sigma: float
    steps: int
    strength: float
    percent: float


class Ruler:
    """The units of one scheduler of diffusers.

    Args:
        scheduler: diffusers'; a copy of it is set to the steps.
        steps: of the sampler.
        unit: of the network's values.
        name: what to call it in complaints.

    Raises: InputError for a scheduler that is not known, or no step.
    """

    def __init__(self, scheduler: Any, steps: int = 50, unit: Unit | None = None, name: str = "scheduler") -> None:
        if steps < 1:
            raise InputError(f"steps is {steps}: at least 1 is needed; pass e.g. --steps 50")
        self.schedule: Schedule = schedule_of(scheduler, name)
        self.steps, self.unit = steps, unit or Unit()
        own: Any = copy.deepcopy(scheduler)
        try:
            own.set_timesteps(steps)
        except (ValueError, TypeError) as error:
            raise InputError(f"{name}: {type(own).__name__} cannot be set to {steps} steps ({error})") from error
        self.levels = self._of_steps(own)

    def _of_steps(self, scheduler: Any) -> Float[np.ndarray, " states"]:
        """The network's sigma of the state before each step, and 0 at the end."""
        sigmas = getattr(scheduler, "sigmas", None)
        if isinstance(self.schedule, FlowMatching):
            share = np.asarray(sigmas, dtype=np.float64)[: self.steps]
            with np.errstate(divide="ignore"):
                found = share / (1 - share)
        elif isinstance(self.schedule, Karras):
            found = np.asarray(sigmas, dtype=np.float64)[: self.steps]
        else:
            last = self.schedule.most
            found = self.schedule.sigma(np.minimum(np.asarray(scheduler.timesteps, dtype=np.float64), last))
        return np.append(found, 0.0)

    def of_sigma(self, sigma: float) -> Level:
        """A level given by our sigma.

        Raises: InputError for one that the schedule does not have.
        """
        if not (math.isfinite(sigma) and sigma > 0):
            raise InputError(f"sigma is {sigma:g}: it must be finite and above 0")
        own = self.unit.scale * sigma
        time = float(self.schedule.time(own))
        below = int(np.argmax(self.levels <= own * (1 + 1e-9)))
        reaching = int(np.flatnonzero(self.levels >= own * (1 - 1e-9)).max(initial=0))
        return Level(
            sigma=sigma,
            model_sigma=own,
            decibels=-20 * math.log10(sigma) + 0.0,
            timestep=self._told(time),
            step=below,
            step_sigma=float(self.levels[below]) / self.unit.scale,
            steps=self.steps,
            strength=(self.steps - reaching) / self.steps,
            percent=100 * (1 - self._clock(time)),
        )

    def of_timestep(self, timestep: float) -> Level:
        """A level given by what the network is told of it."""
        if isinstance(self.schedule, FlowMatching):
            return self.of_sigma(self._ours(float(self.schedule.sigma(timestep / TRAINED))))
        if isinstance(self.schedule, Karras):
            return self.of_sigma(self._ours(math.exp(4 * timestep)))
        return self.of_sigma(self._ours(float(self.schedule.sigma(timestep))))

    def of_step(self, step: int, steps: int) -> Level:
        """The state before a step of the sampler.

        Raises: InputError for a step that it does not have, or another number of steps than the ruler's.
        """
        if steps != self.steps or not 0 <= step < steps:
            raise InputError(f"step is {step} of {steps}: expected one from 0 to {self.steps - 1}, of {self.steps}")
        return self.of_sigma(self._ours(float(self.levels[step])))

    def of_strength(self, strength: float) -> Level:
        """The level to which an image-to-image pipeline noises.

        Raises: InputError for a strength that is none, or too little for one step.
        """
        if not 0 < strength <= 1:
            raise InputError(f"strength is {strength:g}: it must be above 0, and at most 1")
        remain = min(int(self.steps * strength), self.steps)
        if remain < 1:
            raise InputError(f"strength is {strength:g} of {self.steps} steps: no step remains; pass more --steps")
        return self.of_step(self.steps - remain, self.steps)

    def of_percent(self, percent: float) -> Level:
        """The level at which so much of the training clock is done.

        Raises: InputError for a percentage that is none.
        """
        if not 0 <= percent < 100:
            raise InputError(f"percent is {percent:g}: it must be at least 0 and below 100")
        if isinstance(self.schedule, Karras):
            low, high = math.log(self.levels[-2]), math.log(self.levels[0])
            return self.of_sigma(self._ours(math.exp(high + (low - high) * percent / 100)))
        share = 1 - percent / 100
        return self.of_sigma(self._ours(float(self.schedule.sigma(share * self.schedule.most))))

    def _ours(self, sigma: float) -> float:
        return sigma / self.unit.scale

    def _told(self, time: float) -> float:
        """What the network is told of the schedule's time."""
        if isinstance(self.schedule, FlowMatching):
            return TRAINED * time
        return 0.25 * math.log(time) if isinstance(self.schedule, Karras) else time

    def _clock(self, time: float) -> float:
        """The share of the training clock that is still to come; of EDM, of ln sigma between its ends."""
        if isinstance(self.schedule, Karras):
            low, high = math.log(self.levels[-2]), math.log(self.levels[0])
            return (math.log(time) - low) / (high - low)
        return time / self.schedule.most


def ruler_of(path: str | Path, steps: int = 50) -> Ruler:
    """The units of the scheduler of a pipeline's folder, whose weights are not looked at.

    Args:
        path: the folder, perhaps with ``diffusers:`` before it.
        steps: of the sampler.

    Raises: InputError for a folder without a scheduler that is known.
    """
    try:
        import diffusers
    except ImportError as error:
        raise InputError("a pipeline needs diffusers: pip install 'sigmascope[models]'") from error
    folder = Path(str(path).removeprefix(PREFIX))
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder: pass one that save_pretrained has written")
    index = checked_index(folder)
    config = folder / "scheduler" / "scheduler_config.json"
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
        kind: Any = getattr(diffusers, str(told["_class_name"]))
        scheduler = kind.from_config(told)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: it has no scheduler ({config.name} is missing): its levels are unknown") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{config}: it describes no scheduler of diffusers ({error})") from error
    latent = isinstance(index.get("vae"), list) and index["vae"][0] is not None
    return Ruler(scheduler, steps, Unit() if latent else Unit(2.0, -1.0), f"{folder}/{INDEX}")
