r"""Clocks: noise levels in a network's unit as timesteps and as shares of the training.

=========== ========================================== ========================================================
clock       timestep                                   share of the clock between the data and a level
=========== ========================================== ========================================================
flow        :math:`T s`, s the share of noise,         u before the shift, :math:`s = a u / (1 + (a - 1) u)`
            :math:`\sigma = s / (1 - s)`
table       its index t; between two of them ln σ is   t / (T - 1)
            linear
logarithmic :math:`c \ln \sigma`                       even in ln σ
=========== ========================================== ========================================================

References: Karras et al. (2022); Esser et al. (2024), equation 23, for the shift a.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import InputError
from sigmascope.noise import FlowMatching, Karras, Schedule


class Clock(ABC):
    """Noise levels in the network's unit, as timesteps and as shares of the training.

    Attributes:
        schedule: the same levels, for a network that is wrapped as a denoiser.
        lowest: the smallest noise level.
        highest: the largest; infinite where the first state is noise alone.
    """

    schedule: Schedule
    lowest: float
    highest: float

    @abstractmethod
    def timestep(self, sigma: float) -> float:
        """What the network is given at a noise level."""

    @abstractmethod
    def sigma(self, timestep: float) -> float:
        """The noise level at which the network is given a timestep.

        Raises: InputError for a timestep that the clock does not have.
        """

    @abstractmethod
    def share(self, sigma: float) -> float:
        """How much of the clock lies between the data and this level: 0 at the lowest level, 1 at the highest."""

    @abstractmethod
    def sigma_at(self, share: float) -> float:
        """The inverse of :meth:`share`."""

    @abstractmethod
    def given(self) -> Callable[[Tensor], Tensor] | None:
        """From the time of the schedule to the timestep that a network is given; None where they are the same."""


class TableClock(Clock):
    """The clock of a table of noise levels, one for each timestep.

    Args:
        times: rising timesteps.
        sigmas: noise levels that do not fall; the last may be infinite (zero terminal SNR).
        schedule: of the same table, its time the index of an entry.
        places: timestep of each entry of the schedule, where it is not its index.
    """

    def __init__(
        self,
        times: Float[np.ndarray, " entries"],
        sigmas: Float[np.ndarray, " entries"],
        schedule: Schedule,
        places: Float[np.ndarray, " places"] | None = None,
    ) -> None:
        self.schedule, self.times, self._places = schedule, times, places
        self._alone = bool(np.isinf(sigmas[-1]))
        self._finite = sigmas[:-1] if self._alone else sigmas
        self._logs, self._own = np.log(self._finite), times[: len(self._finite)]
        self.lowest, self.highest = float(sigmas[0]), float(sigmas[-1])

    def timestep(self, sigma: float) -> float:
        last = float(self._finite[-1])
        if self._alone and sigma > last:
            # Towards noise alone ln σ has no end: the angle arctan σ of the variance-preserving circle has one.
            low = math.atan(last)
            done = (math.atan(sigma) - low) / (math.pi / 2 - low)
            return float(self._own[-1] + done * (self.times[-1] - self._own[-1]))
        return float(np.interp(math.log(sigma), self._logs, self._own))

    def sigma(self, timestep: float) -> float:
        low, high = float(self.times[0]), float(self.times[-1])
        _within("timestep", timestep, low, high)
        if self._alone and timestep > self._own[-1]:
            if timestep >= high:
                return math.inf
            angle = math.atan(float(self._finite[-1]))
            done = (timestep - float(self._own[-1])) / (high - float(self._own[-1]))
            return math.tan(angle + done * (math.pi / 2 - angle))
        return float(np.exp(np.interp(timestep, self._own, self._logs)))

    def share(self, sigma: float) -> float:
        return (self.timestep(sigma) - float(self.times[0])) / float(self.times[-1] - self.times[0])

    def sigma_at(self, share: float) -> float:
        return self.sigma(float(self.times[0] + share * (self.times[-1] - self.times[0])))

    def given(self) -> Callable[[Tensor], Tensor] | None:
        places = self._places
        if places is None:
            return None
        at = np.arange(len(places))
        return lambda time: torch.from_numpy(np.interp(time.cpu().numpy(), at, places)).to(time)


class FlowClock(Clock):
    """The clock of a flow between noise and data.

    Args:
        shift: a, of the share of noise s = a u / (1 + (a - 1) u) over the clock u.
        trained: timestep at noise alone.
        inverted: whether timesteps count the share of the data instead of that of the noise.
    """

    def __init__(self, shift: float, trained: float, inverted: bool) -> None:
        if not 0 < shift < math.inf:
            raise InputError(f"the scheduler's shift is {shift:g}: it must be finite and above 0")
        self.shift, self.trained, self.inverted = shift, trained, inverted
        self.schedule, self.lowest, self.highest = FlowMatching(), 0.0, math.inf

    def timestep(self, sigma: float) -> float:
        noise = _share_of_noise(sigma)
        return self.trained * (1 - noise if self.inverted else noise)

    def sigma(self, timestep: float) -> float:
        _within("timestep", timestep, 0.0, self.trained)
        noise = timestep / self.trained
        return sigma_of_share(1 - noise if self.inverted else noise)

    def share(self, sigma: float) -> float:
        noise = _share_of_noise(sigma)
        return noise / (self.shift - (self.shift - 1) * noise)

    def sigma_at(self, share: float) -> float:
        return math.inf if share >= 1 else self.shift * share / (1 - share)

    def given(self) -> Callable[[Tensor], Tensor]:
        trained, inverted = self.trained, self.inverted
        return lambda time: trained * (1 - time if inverted else time)


class LogClock(Clock):
    """A clock even in ln σ between two levels.

    Args:
        lowest: the smallest level.
        highest: the largest.
        factor: of ln σ in the timestep; None: the timestep is the share itself.
        schedule: of the network.
    """

    def __init__(self, lowest: float, highest: float, factor: float | None, schedule: Schedule | None = None) -> None:
        if not 0 < lowest < highest < math.inf:
            raise InputError(
                f"the scheduler's sigma_min is {lowest:g} and its sigma_max {highest:g}: expected 0 < sigma_min < "
                "sigma_max"
            )
        self.lowest, self.highest, self.factor = lowest, highest, factor
        self.schedule = schedule or Karras()

    def timestep(self, sigma: float) -> float:
        return self.share(sigma) if self.factor is None else self.factor * math.log(sigma)

    def sigma(self, timestep: float) -> float:
        _within("timestep", timestep, *sorted((self.timestep(self.lowest), self.timestep(self.highest))))
        return self.sigma_at(timestep) if self.factor is None else math.exp(timestep / self.factor)

    def share(self, sigma: float) -> float:
        return math.log(sigma / self.lowest) / math.log(self.highest / self.lowest)

    def sigma_at(self, share: float) -> float:
        return self.lowest * (self.highest / self.lowest) ** share

    def given(self) -> Callable[[Tensor], Tensor] | None:
        factor = self.factor
        return None if factor is None or isinstance(self.schedule, LogPreserving) else lambda s: factor * s.log()


@final
class LogPreserving(Schedule):
    r"""A variance-preserving process whose time is :math:`\tfrac14 \ln \sigma`, as of Stable Video Diffusion.

    Args:
        lowest: the smallest noise level.
        highest: the largest.
    """

    name = "log-preserving"
    _alpha: ClassVar[Any] = staticmethod(lambda sigma: 1 / np.hypot(1, sigma))

    def __init__(self, lowest: float, highest: float) -> None:
        self.data_time, self.noise_time = 0.25 * math.log(lowest), 0.25 * math.log(highest)

    def _sigma(self, time: np.ndarray) -> np.ndarray:
        return np.exp(4 * time)

    def _time(self, sigma: np.ndarray) -> np.ndarray:
        return 0.25 * np.log(sigma)


def _within(what: str, value: float, low: float, high: float) -> None:
    slack = 1e-6 * max(abs(low), abs(high) if math.isfinite(high) else 0.0)
    if not low - slack <= value <= high + slack:  # NaN is not
        raise InputError(
            f"{what} is {value:.8g}: the scheduler has {what} from {low:.8g} to {high:.8g}; leave out what is outside"
        )


def _share_of_noise(sigma: float) -> float:
    return 1.0 if math.isinf(sigma) else sigma / (1 + sigma)


def sigma_of_share(noise: float) -> float:
    """The noise level of a flow's share of noise."""
    return math.inf if noise >= 1 else max(noise, 0.0) / (1 - noise)
