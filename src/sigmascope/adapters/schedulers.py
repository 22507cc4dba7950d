r"""What a scheduler of diffusers says of noise: its clock, and the states that its steps start from.

State k of a run *is* ``sigmas[k * order]``, and its network is given ``timesteps[k * order]``: both are read off the
scheduler once it is set to its steps.  A scheduler without ``sigmas`` has a table of :math:`\bar\alpha`, and there

.. math:: \sigma_k = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}, \qquad t = \text{timesteps}[k \cdot \text{order}] .

Between the states a clock turns a noise level into a timestep and back, and into the share of the training that lies
between the data and this noise.  Which clock it is follows from the scheduler's configuration and attributes, never
from the name of its class:

=========== ==================================== ========================================== ========================
clock       it is one with                       timestep                                   share
=========== ==================================== ========================================== ========================
flow        ``use_flow_sigmas``, or ``sigmas``   :math:`T s`, s the share of noise,         u before the shift,
            within 0 and 1 and no table          :math:`\sigma = s / (1 - s)`               s = a u / (1 + (a - 1) u)
table       ``alphas_cumprod``                   its index t; between two of them ln σ is   t / (T - 1)
                                                 linear
logarithmic ``sigma_min`` and ``sigma_max``      :math:`c \ln \sigma`                       even in ln σ
            in the configuration
=========== ==================================== ========================================== ========================

References: Karras et al. (2022); Esser et al. (2024), equation 23, for the shift a.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import InputError
from sigmascope.noise import Discrete, FlowMatching, Karras, Schedule

TRAINED = 1000.0
"""Timestep that networks of flow matching are given at noise alone, where the configuration does not say it."""
MOST_STEPS = 100_000
"""More steps, or more trained timesteps, are refused: no scheduler has them, and each takes memory."""


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

    def given(self) -> Callable[[Tensor], Tensor] | None:
        """From the time of the schedule to the timestep that a network is given; None where they are the same."""
        return None


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
        return _sigma_of_share(1 - noise if self.inverted else noise)

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
        self.least, self.most = 0.25 * math.log(lowest), 0.25 * math.log(highest)

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


def _sigma_of_share(noise: float) -> float:
    return math.inf if noise >= 1 else max(noise, 0.0) / (1 - noise)


def settings_of(scheduler: Any) -> Mapping[str, Any]:
    """The configuration of a scheduler; empty where it has none."""
    found = getattr(scheduler, "config", None)
    return found if isinstance(found, Mapping) else {}


def check_sizes(settings: Mapping[str, Any], name: str) -> None:
    """Refuse a configuration whose table would not fit into memory.

    Raises: InputError.
    """
    for key in ("num_train_timesteps", "original_inference_steps"):
        count = settings.get(key, 1)
        if isinstance(count, bool) or not isinstance(count, (int, float)) or not 1 <= count <= MOST_STEPS:
            raise InputError(f"{name}: its {key} is {_short(count)}: expected a number from 1 to {MOST_STEPS}")


def _short(value: object) -> str:
    """A value from someone's file, as part of one line."""
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


def words_of(error: BaseException) -> str:
    """What another library says, as part of one line."""
    said = " ".join(str(error).split())
    return (said if len(said) <= 200 else f"{said[:197]}...") or type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that diffusers and transformers print of configurations, and of each other's absence."""
    with contextlib.suppress(ImportError):
        importlib.import_module("transformers.utils.logging")  # which sets the level of its logger when it comes
    logs = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL)
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def is_flow(scheduler: Any) -> bool:
    """Whether the levels of a scheduler are shares of noise between data and noise.

    Args:
        scheduler: diffusers', or one with the same attributes.
    """
    settings = settings_of(scheduler)
    if settings.get("use_flow_sigmas"):
        return True
    if _table(scheduler) is not None or "sigma_data" in settings or "sigma_max" in settings:
        return False
    if str(settings.get("prediction_type", "")).startswith("flow"):
        return True
    sigmas = _numbers(getattr(scheduler, "sigmas", None))
    if sigmas is None:
        sigmas = _numbers(getattr(_set_somehow(scheduler), "sigmas", None))
    return sigmas is not None and len(sigmas) > 0 and not bool(np.any((sigmas < 0) | (sigmas > 1 + 1e-6)))


def _set_somehow(scheduler: Any) -> Any:
    """A copy, set to a few steps if it can be."""
    own = copy.deepcopy(scheduler)
    with contextlib.suppress(Exception):  # what cannot be set has no states: whoever sets it says so
        own.set_timesteps(8)
    return own


def _numbers(values: Any) -> Float[np.ndarray, " entries"] | None:
    if values is None:
        return None
    try:
        return np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        return None


def _table(scheduler: Any) -> Float[np.ndarray, " entries"] | None:
    return _numbers(getattr(scheduler, "alphas_cumprod", None))


def clock_of(scheduler: Any, name: str, mu: float | None = None) -> Clock:
    """The clock of a scheduler.

    Args:
        scheduler: diffusers', or one with ``sigmas`` or ``alphas_cumprod``.
        name: what to call it in complaints.
        mu: of a flow that shifts with the size of the image, the logarithm of its shift.

    Raises: InputError for a scheduler that says nothing of its noise levels.
    """
    settings, kind = settings_of(scheduler), type(scheduler).__name__
    table = _table(scheduler)
    try:
        if is_flow(scheduler):
            return _flow_clock(scheduler, settings, mu)
        if table is not None:
            return _table_clock(table, settings, kind)
        if hasattr(scheduler, "_alpha_cumprod"):
            return _cosine_clock(scheduler, kind)
        if "sigma_min" in settings and "sigma_max" in settings and getattr(scheduler, "sigmas", None) is not None:
            low, high = float(settings["sigma_min"]), float(settings["sigma_max"])
            own = getattr(scheduler, "sigma_to_t", None)  # a factor of the scheduler's own on the quarter of ln σ
            if own is not None:
                return LogClock(low, high, float(own(math.e)))
            return LogClock(low, high, 0.25 if "sigma_data" in settings else None)
        levels = _numbers(getattr(scheduler, "sigmas", None))
        if levels is not None and np.isfinite(levels).all() and (levels > 0).sum() > 1:
            known = np.unique(levels[levels > 0])
            return LogClock(float(known[0]), float(known[-1]), 0.25)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{name}: {error}") from error
        raise InputError(f"{name}: the levels of its scheduler ({kind}) cannot be read ({words_of(error)})") from error
    raise InputError(
        f"{name}: its scheduler ({kind}) has neither sigmas nor alphas_cumprod: its noise levels are not known; wrap "
        "the network in adapters.Foreign"
    )


def _flow_clock(scheduler: Any, settings: Mapping[str, Any], mu: float | None) -> FlowClock:
    key = "flow_shift" if settings.get("use_flow_sigmas") and "flow_shift" in settings else "shift"
    shift = float(getattr(scheduler, "shift", None) or settings.get(key, 1.0) if key == "shift" else settings[key])
    if mu is not None and settings.get("use_dynamic_shifting"):
        shift = mu if settings.get("time_shift_type", "exponential") == "linear" else math.exp(mu)
    trained, inverted = float(settings.get("num_train_timesteps", TRAINED)), bool(settings.get("invert_sigmas"))
    if "num_train_timesteps" not in settings:
        trained, inverted = _own_scale(scheduler, trained, inverted)
    return FlowClock(shift, trained, inverted)


def _own_scale(scheduler: Any, trained: float, inverted: bool) -> tuple[float, bool]:
    """Timestep at noise alone, and its direction, from the states of a scheduler that does not say it."""
    own = _set_somehow(scheduler)
    times, shares = _numbers(getattr(own, "timesteps", None)), _numbers(getattr(own, "sigmas", None))
    if times is None or shares is None or not len(times) or len(shares) < len(times) or np.ptp(times) == 0:
        return trained, inverted
    slope = float(np.polyfit(shares[: len(times)], times, 1)[0])
    return abs(slope), slope < 0


def _table_clock(table: Float[np.ndarray, " entries"], settings: Mapping[str, Any], kind: str) -> Clock:
    alone = bool(table[-1] == 0)
    # A table with zero terminal SNR may end with a small number in place of 0, which can be above the one before it.
    known = len(table) - 1 if alone or (len(table) > 2 and table[-1] >= table[-2]) else len(table)
    discrete = Discrete(table[:known], kind)
    with np.errstate(divide="ignore"):
        sigmas = np.maximum.accumulate(np.sqrt((1 - table) / table))
    if settings.get("timestep_type") == "continuous" and settings.get("prediction_type") == "v_prediction":
        low, high = (float(settings.get(k) or s) for k, s in (("sigma_min", sigmas[0]), ("sigma_max", sigmas[-1])))
        return LogClock(low, high, 0.25, LogPreserving(low, high))
    return TableClock(np.arange(len(table), dtype=np.float64), sigmas, discrete)


def _cosine_clock(scheduler: Any, kind: str) -> TableClock:
    """The clock of a scheduler that computes its table from a time between 0 and 1."""
    times = np.linspace(0.0, 1.0, 10_001)
    kept = scheduler._alpha_cumprod(torch.from_numpy(times).float(), "cpu").double().numpy()
    kept = np.minimum.accumulate(kept)
    falls = np.diff(kept, prepend=1.0) < 0  # it is cut off at both ends, where it does not fall
    return TableClock(times, np.sqrt((1 - kept) / kept), Discrete(kept[falls], kind), times[falls])


def order_of(scheduler: Any) -> int:
    """How many entries of a scheduler's lists one step takes."""
    return max(int(getattr(scheduler, "order", 1) or 1), 1)


def states_of(
    scheduler: Any, clock: Clock
) -> tuple[Float[np.ndarray, " entries"], Float[np.ndarray, " entries"]]:
    """Noise level and timestep of each entry of a scheduler that is set to its steps.

    Args:
        scheduler: set to its steps.
        clock: its clock.

    Returns: levels in the network's unit, and what the network is given; the state of step k is entry k * order.

    Raises: InputError where the scheduler has no step.
    """
    kind = type(scheduler).__name__
    times, sigmas = _numbers(getattr(scheduler, "timesteps", None)), _numbers(getattr(scheduler, "sigmas", None))
    if times is None or not len(times):
        raise InputError(f"{kind} has no timesteps once it is set: pass another number of steps")
    if sigmas is None or len(sigmas) < len(times):
        return np.array([clock.sigma(float(t)) for t in times]), times
    found = sigmas[: len(times)]
    order = order_of(scheduler)  # what lies between two states may be anything
    if np.isnan(found[::order]).any() or np.isnan(times[::order]).any():
        raise InputError(f"{kind} has levels that are no numbers once it is set: pass another number of steps")
    if isinstance(clock, FlowClock):
        inverted = bool(settings_of(scheduler).get("invert_sigmas"))
        found = np.array([_sigma_of_share(1 - s if inverted else s) for s in found.tolist()])
    return found, times
