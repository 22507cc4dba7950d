r"""What a scheduler of diffusers says of noise: its clock, and the states that its steps start from.

State k of a run *is* ``sigmas[k * order]``, and its network is given ``timesteps[k * order]``: both are read off the
scheduler once it is set to its steps.  A scheduler without ``sigmas`` has a table of :math:`\bar\alpha`, and there

.. math:: \sigma_k = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}, \qquad t = \text{timesteps}[k \cdot \text{order}] .

Between the states a clock (:mod:`sigmascope.adapters.diffusers.clocks`) turns a noise level into a timestep and
back.  Which one it is follows from the scheduler's configuration and attributes, never from its class' name: a flow has
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
"""Timestep that networks of flow matching are given at noise alone, where the configuration does not say it."""
MOST_STEPS = 100_000
"""More steps, or more trained timesteps, are refused: no scheduler has them, and each takes memory."""


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
            raise InputError(f"{name}: its {key} is {short(count)}: expected a number from 1 to {MOST_STEPS}")


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
    kind = type(scheduler).__name__
    try:
        found = _read_clock(scheduler, kind, mu)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise InputError(f"{name}: the levels of its scheduler ({kind}) cannot be read ({line_of(error)})") from error
    if found is None:
        raise InputError(
            f"{name}: its scheduler ({kind}) has neither sigmas nor alphas_cumprod: its noise levels are not known; "
            "wrap the network in adapters.Foreign"
        )
    return found


def _read_clock(scheduler: Any, kind: str, mu: float | None) -> Clock | None:
    """The clock that a scheduler's configuration and attributes say; None where they say none.

    Raises: InputError, without the scheduler's name, for levels that are none.
    """
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
    """A clock in ln σ; some schedulers have a factor of their own on the quarter of it."""
    low, high = float(settings["sigma_min"]), float(settings["sigma_max"])
    own = getattr(scheduler, "sigma_to_t", None)
    factor = float(own(math.e)) if own is not None else 0.25 if "sigma_data" in settings else None
    return LogClock(low, high, factor)


def _flow_clock(scheduler: Any, settings: Mapping[str, Any], mu: float | None) -> FlowClock:
    if settings.get("use_flow_sigmas") and "flow_shift" in settings:
        shift = float(settings["flow_shift"])
    elif isinstance(getattr(type(scheduler), "shift", None), property):  # it can be set after the configuration is read
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


def states_of(scheduler: Any, clock: Clock) -> tuple[Float[np.ndarray, " entries"], Float[np.ndarray, " entries"]]:
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
    if hasattr(scheduler, "_alpha_cumprod") and len(times) > 1:  # its list also holds the time at which it ends
        times = times[:-1]
    if sigmas is None or len(sigmas) < len(times):
        return np.array([clock.sigma(float(t)) for t in times]), times
    found = sigmas[: len(times)]
    order = order_of(scheduler)  # what lies between two states may be anything
    if np.isnan(found[::order]).any() or np.isnan(times[::order]).any():
        raise InputError(f"{kind} has levels that are no numbers once it is set: pass another number of steps")
    if isinstance(clock, FlowClock):
        inverted = bool(settings_of(scheduler).get("invert_sigmas"))
        found = np.array([sigma_of_share(1 - s if inverted else s) for s in found.tolist()])
    return found, times
