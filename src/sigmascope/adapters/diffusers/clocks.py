r"""Clocks: noise levels in a network's unit as timesteps and as shares of the training clock.

=========== ========================================== ========================================================
clock       timestep                                   share of the clock between the lowest level and a level
=========== ========================================== ========================================================
flow        :math:`T s`, s the share of noise,         u before the shift, :math:`s = a u / (1 + (a - 1) u)`
            :math:`\sigma = s / (1 - s)`
table       the index t of an entry; ln σ is linear    t / (T - 1)
            between two entries
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
from torch import Tensor

from sigmascope.core import InputError
from sigmascope.noise import FlowMatching, Karras, Schedule


class Clock(ABC):
    """Noise levels in the network's unit, as timesteps and as shares of the training clock.

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
        """The timestep that the network takes at a noise level."""

    @abstractmethod
    def sigma(self, timestep: float) -> float:
        """The noise level at which the network takes a timestep; InputError for one outside the clock."""

    @abstractmethod
    def share(self, sigma: float) -> float:
        """The share of the clock below a level: 0 at the lowest level, 1 at the highest."""

    @abstractmethod
    def sigma_at(self, share: float) -> float:
        """The inverse of :meth:`share`."""

    @abstractmethod
    def network_time(self) -> Callable[[Tensor], Tensor] | None:
        """From the time of the schedule to the timestep that a network takes; None where they are equal."""


class TableClock(Clock):
    """The clock of a table of noise levels, one for each rising timestep.

    The last level may be infinite (zero terminal SNR).  The time of the schedule is the index of an entry;
    ``schedule_times`` gives its timestep, where it is not the index.
    """

    def __init__(
        self, times: np.ndarray, sigmas: np.ndarray, schedule: Schedule, schedule_times: np.ndarray | None = None
    ) -> None:
        self.schedule, self.times, self._schedule_times = schedule, times, schedule_times
        self._infinite = bool(np.isinf(sigmas[-1]))
        finite = sigmas[:-1] if self._infinite else sigmas
        self._logs, self._finite_times = np.log(finite), times[: len(finite)]
        self._last_sigma, self._last_time = float(finite[-1]), float(self._finite_times[-1])
        self.lowest, self.highest = float(sigmas[0]), float(sigmas[-1])

    def timestep(self, sigma: float) -> float:
        if self._infinite and sigma > self._last_sigma:
            # Up to infinite σ, the angle arctan σ of the variance-preserving circle is linear in the timestep.
            angle = math.atan(self._last_sigma)
            share = (math.atan(sigma) - angle) / (math.pi / 2 - angle)
            return self._last_time + share * (float(self.times[-1]) - self._last_time)
        return float(np.interp(math.log(sigma), self._logs, self._finite_times))

    def sigma(self, timestep: float) -> float:
        low, high = float(self.times[0]), float(self.times[-1])
        _require_within("timestep", timestep, low, high)
        if self._infinite and timestep > self._last_time:
            if timestep >= high:
                return math.inf
            angle = math.atan(self._last_sigma)
            share = (timestep - self._last_time) / (high - self._last_time)
            return math.tan(angle + share * (math.pi / 2 - angle))
        return float(np.exp(np.interp(timestep, self._finite_times, self._logs)))

    def share(self, sigma: float) -> float:
        return (self.timestep(sigma) - float(self.times[0])) / float(self.times[-1] - self.times[0])

    def sigma_at(self, share: float) -> float:
        return self.sigma(float(self.times[0] + share * (self.times[-1] - self.times[0])))

    def network_time(self) -> Callable[[Tensor], Tensor] | None:
        times = self._schedule_times
        if times is None:
            return None
        indices = np.arange(len(times))
        return lambda time: torch.from_numpy(np.interp(time.cpu().numpy(), indices, times)).to(time)


class FlowClock(Clock):
    """The clock of a flow between noise and data, with the shift a and the timestep ``trained`` at noise alone.

    Inverted timesteps count the share of the data instead of the share of noise.
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
        _require_within("timestep", timestep, 0.0, self.trained)
        noise = timestep / self.trained
        return sigma_of_share(1 - noise if self.inverted else noise)

    def share(self, sigma: float) -> float:
        noise = _share_of_noise(sigma)
        return noise / (self.shift - (self.shift - 1) * noise)

    def sigma_at(self, share: float) -> float:
        return math.inf if share >= 1 else self.shift * share / (1 - share)

    def network_time(self) -> Callable[[Tensor], Tensor]:
        trained, inverted = self.trained, self.inverted
        return lambda time: trained * (1 - time if inverted else time)


class LogClock(Clock):
    """A clock even in ln σ between two levels; without a factor of ln σ, the timestep is the share itself."""

    def __init__(self, lowest: float, highest: float, factor: float | None, schedule: Schedule | None = None) -> None:
        if not 0 < lowest < highest < math.inf:
            raise InputError(f"sigma_min is {lowest:g} and sigma_max {highest:g}: expected 0 < sigma_min < sigma_max")
        self.lowest, self.highest, self.factor = lowest, highest, factor
        self.schedule = schedule or Karras()

    def timestep(self, sigma: float) -> float:
        return self.share(sigma) if self.factor is None else self.factor * math.log(sigma)

    def sigma(self, timestep: float) -> float:
        _require_within("timestep", timestep, *sorted((self.timestep(self.lowest), self.timestep(self.highest))))
        return self.sigma_at(timestep) if self.factor is None else math.exp(timestep / self.factor)

    def share(self, sigma: float) -> float:
        return math.log(sigma / self.lowest) / math.log(self.highest / self.lowest)

    def sigma_at(self, share: float) -> float:
        return float(self.lowest * (self.highest / self.lowest) ** share)

    def network_time(self) -> Callable[[Tensor], Tensor] | None:
        factor = self.factor
        return None if factor is None or isinstance(self.schedule, LogPreserving) else lambda s: factor * s.log()


@final
class LogPreserving(Schedule):
    r"""A variance-preserving process whose time is :math:`\tfrac14 \ln \sigma`, as in Stable Video Diffusion."""

    name = "log-preserving"
    _alpha: ClassVar[Any] = staticmethod(lambda sigma: 1 / np.hypot(1, sigma))

    def __init__(self, lowest: float, highest: float) -> None:
        self.data_time, self.noise_time = 0.25 * math.log(lowest), 0.25 * math.log(highest)

    def _sigma(self, time: np.ndarray) -> np.ndarray:
        sigma: np.ndarray = np.exp(4 * time)
        return sigma

    def _time(self, sigma: np.ndarray) -> np.ndarray:
        time: np.ndarray = 0.25 * np.log(sigma)
        return time


def _require_within(name: str, value: float, low: float, high: float) -> None:
    slack = 1e-6 * max(abs(low), abs(high) if math.isfinite(high) else 0.0)
    if not low - slack <= value <= high + slack:  # NaN is not
        raise InputError(
            f"{name} is {value:.8g}: the scheduler has {name} from {low:.8g} to {high:.8g}; leave out what is outside"
        )


def _share_of_noise(sigma: float) -> float:
    return 1.0 if math.isinf(sigma) else sigma / (1 + sigma)


def sigma_of_share(noise: float) -> float:
    """The noise level of a flow's share of noise."""
    return math.inf if noise >= 1 else max(noise, 0.0) / (1 - noise)
