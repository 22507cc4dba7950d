r"""The noise levels of a scheduler of diffusers: its clock, and the states that its steps start from.

State k of a run has the noise level ``sigmas[k * order]``, and the network takes ``timesteps[k * order]``: both are
lists of the scheduler once it is set to its steps.  A scheduler without ``sigmas`` has a table of :math:`\bar\alpha`,
and

.. math:: \sigma_k = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}, \qquad t = \text{timesteps}[k \cdot \text{order}] .

Between the states a clock (:mod:`sigmascope.adapters.diffusers.clocks`) converts noise levels and timesteps.  The kind
of clock follows from the scheduler's configuration and attributes, never from the name of its class: a flow has
``use_flow_sigmas``, or ``sigmas`` within 0 and 1 and no table; a table is ``alphas_cumprod``; a logarithmic clock has
``sigma_min`` and ``sigma_max`` in its configuration.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from sigmascope.adapters.diffusers.clocks import Clock, FlowClock, LogClock, LogPreserving, TableClock, sigma_of_share
from sigmascope.adapters.diffusers.folders import line_of
from sigmascope.adapters.diffusers.settings import short
from sigmascope.core import InputError
from sigmascope.noise import Discrete

TRAINED = 1000.0
"""Timestep of networks of flow matching at noise alone, where the configuration has none."""
MOST_STEPS = 100_000
"""Largest number of steps, and of trained timesteps: no scheduler has more, and each takes memory."""


def settings_of(scheduler: Any) -> Mapping[str, Any]:
    """The configuration of a scheduler; empty where it has none."""
    config = getattr(scheduler, "config", None)
    return config if isinstance(config, Mapping) else {}


def check_sizes(settings: Mapping[str, Any], name: str) -> None:
    """Refuse a configuration whose table would not fit into memory."""
    for key in ("num_train_timesteps", "original_inference_steps"):
        count = settings.get(key, 1)
        if isinstance(count, bool) or not isinstance(count, (int, float)) or not 1 <= count <= MOST_STEPS:
            raise InputError(f"{name}: its {key} is {short(count)}: expected a number from 1 to {MOST_STEPS}")


def is_flow(scheduler: Any) -> bool:
    """Whether the levels of a scheduler are shares of noise between data and noise."""
    settings = settings_of(scheduler)
    if settings.get("use_flow_sigmas"):
        return True
    if _table(scheduler) is not None or "sigma_data" in settings or "sigma_max" in settings:
        return False
    if str(settings.get("prediction_type", "")).startswith("flow"):
        return True
    sigmas = _numbers(getattr(scheduler, "sigmas", None))
    if sigmas is None:
        sigmas = _numbers(getattr(_set_copy(scheduler), "sigmas", None))
    return sigmas is not None and len(sigmas) > 0 and not bool(np.any((sigmas < 0) | (sigmas > 1 + 1e-6)))


def _set_copy(scheduler: Any) -> Any:
    """A copy of a scheduler, set to a few steps if that is possible."""
    own = copy.deepcopy(scheduler)
    with contextlib.suppress(Exception):  # a scheduler that cannot be set is refused later
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
    """The clock of a scheduler; InputError where its noise levels cannot be read.

    mu is the logarithm of the shift of a flow that shifts with the size of the image.
    """
    kind = type(scheduler).__name__
    try:
        clock = _read_clock(scheduler, kind, mu)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise InputError(f"{name}: the levels of its scheduler ({kind}) cannot be read ({line_of(error)})") from error
    if clock is None:
        raise InputError(
            f"{name}: its scheduler ({kind}) has neither sigmas nor alphas_cumprod: its noise levels are not known; "
            "wrap the network in adapters.Foreign"
        )
    return clock


def _read_clock(scheduler: Any, kind: str, mu: float | None) -> Clock | None:
    """The clock from a scheduler's configuration and attributes; None where they have no noise levels."""
    settings, table = settings_of(scheduler), _table(scheduler)
    if table is not None and not len(table):
        raise InputError("its alphas_cumprod is empty: expected one number for each trained timestep")
    if is_flow(scheduler):
        return _flow_clock(scheduler, settings, mu)
    if table is not None:
        return _table_clock(table, settings, kind)
    if hasattr(scheduler, "_alpha_cumprod"):
        return _cosine_clock(scheduler, kind)
    if "sigma_min" in settings and "sigma_max" in settings and getattr(scheduler, "sigmas", None) is not None:
        return _log_clock(scheduler, settings)
    levels = _numbers(getattr(scheduler, "sigmas", None))
    if levels is None or not len(levels):
        return None
    if "shift" in settings:  # of flows alone, whose levels are shares
        low, high = levels.min(), levels.max()
        raise InputError(f"its shares of noise go from {low:g} to {high:g}: expected them within 0 and 1")
    if np.isfinite(levels).all() and (levels > 0).sum() > 1:
        known = np.unique(levels[levels > 0])
        return LogClock(float(known[0]), float(known[-1]), 0.25)
    return None


def _log_clock(scheduler: Any, settings: Mapping[str, Any]) -> LogClock:
    """A clock in ln σ; a scheduler can have a factor of its own in place of a quarter."""
    low, high = float(settings["sigma_min"]), float(settings["sigma_max"])
    own = getattr(scheduler, "sigma_to_t", None)
    factor = float(own(math.e)) if own is not None else 0.25 if "sigma_data" in settings else None
    return LogClock(low, high, factor)


def _flow_clock(scheduler: Any, settings: Mapping[str, Any], mu: float | None) -> FlowClock:
    if settings.get("use_flow_sigmas") and "flow_shift" in settings:
        shift = float(settings["flow_shift"])
    elif isinstance(getattr(type(scheduler), "shift", None), property):  # it can differ from the configuration
        shift = float(scheduler.shift)
    else:
        shift = float(settings.get("shift", 1.0))
    if mu is not None and settings.get("use_dynamic_shifting"):
        shift = mu if settings.get("time_shift_type", "exponential") == "linear" else math.exp(mu)
    trained, inverted = float(settings.get("num_train_timesteps", TRAINED)), bool(settings.get("invert_sigmas"))
    if "num_train_timesteps" not in settings:
        trained, inverted = _own_scale(scheduler, trained, inverted)
    return FlowClock(shift, trained, inverted)


def _own_scale(scheduler: Any, trained: float, inverted: bool) -> tuple[float, bool]:
    """Timestep at noise alone, and its direction, from the states of a scheduler."""
    own = _set_copy(scheduler)
    times, shares = _numbers(getattr(own, "timesteps", None)), _numbers(getattr(own, "sigmas", None))
    if times is None or shares is None or not len(times) or len(shares) < len(times) or np.ptp(times) == 0:
        return trained, inverted
    slope = float(np.polyfit(shares[: len(times)], times, 1)[0])
    return abs(slope), slope < 0


def _table_clock(table: Float[np.ndarray, " entries"], settings: Mapping[str, Any], kind: str) -> Clock:
    # A table with zero terminal SNR may end with a small number in place of 0, which can be above the one before it.
    last = table[-1] == 0 or (len(table) > 2 and table[-1] >= table[-2])
    known = len(table) - 1 if last else len(table)
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
    table = scheduler._alpha_cumprod(torch.from_numpy(times).float(), "cpu").double().numpy()
    table = np.minimum.accumulate(table)
    falls = np.diff(table, prepend=1.0) < 0  # at both ends it is constant
    return TableClock(times, np.sqrt((1 - table) / table), Discrete(table[falls], kind), times[falls])


def order_of(scheduler: Any) -> int:
    """Number of entries of a scheduler's lists in one step."""
    return max(int(getattr(scheduler, "order", 1) or 1), 1)


def states_of(scheduler: Any, clock: Clock) -> tuple[Float[np.ndarray, " entries"], Float[np.ndarray, " entries"]]:
    """Noise level, in the network's unit, and timestep of each entry of a scheduler that is set to its steps.

    The state of step k is entry k * order.
    """
    kind = type(scheduler).__name__
    times, sigmas = _numbers(getattr(scheduler, "timesteps", None)), _numbers(getattr(scheduler, "sigmas", None))
    if times is None or not len(times):
        raise InputError(f"{kind} has no timesteps once it is set: pass another number of steps")
    if hasattr(scheduler, "_alpha_cumprod") and len(times) > 1:  # its list ends with the time after the last step
        times = times[:-1]
    if sigmas is None or len(sigmas) < len(times):
        return np.array([clock.sigma(float(t)) for t in times]), times
    levels = sigmas[: len(times)]
    order = order_of(scheduler)  # entries between two states may be anything
    if np.isnan(levels[::order]).any() or np.isnan(times[::order]).any():
        raise InputError(f"{kind} has levels that are no numbers once it is set: pass another number of steps")
    if isinstance(clock, FlowClock):
        inverted = bool(settings_of(scheduler).get("invert_sigmas"))
        levels = np.array([sigma_of_share(1 - s if inverted else s) for s in levels.tolist()])
    return levels, times


def points_to_data(scheduler: Any, clock: FlowClock) -> bool | None:
    r"""Whether the output of a flow's network is :math:`v - n` and not :math:`n - v`; None where no step tells.

    A step moves a state by the output times the rise of the share of the data, or by the opposite.
    """
    own = _set_copy(scheduler)
    moved = []
    with contextlib.suppress(Exception):  # a scheduler that cannot be set, or whose step wants more
        levels, _ = states_of(own, clock)
        first, second = (1 / (1 + float(s)) for s in levels[:2])
        for output in (0.0, 1.0):
            state = torch.zeros(1, 1, 1, 1)
            after = copy.deepcopy(own).step(torch.full_like(state, output), own.timesteps[0], state).prev_sample
            moved.append(float(after))
        rise, slope = second - first, moved[1] - moved[0]
        if rise > 0 and math.isclose(abs(slope), rise, rel_tol=1e-3):
            return slope > 0
    return None
