"""A noise level in every unit, as a table."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch

from sigmascope.adapters.diffusers.units import Level, Ruler
from sigmascope.adapters.foreign import Foreign
from sigmascope.adapters.models import LoadedModel
from sigmascope.console import spelled
from sigmascope.core import InputError
from sigmascope.report.table import aligned
from sigmascope.studies.rulers import NO_SCHEDULER, ruler_of_any

_ROWS = 9  # of the table, where no level is given
_HEADS = ("SNR, dB", "timestep", "step", "σ of that step", "strength", "percent", "strength at most")


def translate(
    model: str,
    unit: str,
    value: str,
    steps: int,
    *,
    height: int = 0,
    width: int = 0,
    timesteps: str = "",
    sigmas: str = "",
    as_json: bool = False,
) -> str:
    """A noise level in every unit, or a table of some levels of the sampler.

    Args:
        model: a pipeline, or a function of the user that returns one or a network with a schedule.
        unit: the unit of ``value``; empty: a table of some levels.  The units are

            - ``sigma``: standard deviation of the noise in y = v + σ n, in the unit of the data: pixels from 0 to 1, or
              latents; ``inf`` is noise alone;
            - ``network_sigma``: the same in the unit of the network's values, which is twice that for pixels from −1
              to 1;
            - ``timestep``: the number that the network gets for the level;
            - ``step``: the state before step k of n steps, k from 0, as ``17/50``;
            - ``strength``: that of an image-to-image run of these steps, from 0 to 1;
            - ``percent``: share of the training clock that is done, from 0 at noise alone to 100.
        value: the level in that unit, as text.
        steps: steps of the sampler; ``step`` brings its own.
        height: of the images in pixels, for flows that shift with it; 0: the pipeline's own.
        width: likewise.
        timesteps: a list of timesteps, as text, instead of ``steps``.
        sigmas: a list of levels of the scheduler, as text, instead of ``steps``.
        as_json: JSON instead of a table; an infinite level is written as Infinity.

    Returns: the text to print: a table with one row per level, or JSON, which is one object where a level is given and
        a list of them where none is.  A network without a scheduler has no step and no strength.

    Raises: InputError for a level that the scheduler does not have, or a number that cannot be read.
    """
    step = 0
    if unit == "step":
        read = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
        if read is None:
            raise InputError(f"step is {value!r}: expected the step and their number, as 17/50")
        step, steps = int(read[1]), int(read[2])
    lists = numbers("timesteps", timesteps), numbers("sigmas", sigmas)
    ruler = ruler_of_any(model, steps, height=height, width=width, timesteps=lists[0], sigmas=lists[1])
    if isinstance(ruler, LoadedModel):
        return _of_network(ruler, unit, value, as_json)
    if unit == "step":
        levels = [ruler.of_step(step, steps)]
    elif unit:
        levels = [getattr(ruler, f"of_{unit}")(number(unit.replace("_", "-"), value))]
    else:
        levels = _spread(ruler)
    if as_json:
        own, network = units_of(ruler)
        rows = [asdict(x) | {"unit": own, "network_unit": network} for x in levels]
        return json.dumps(rows if not unit else rows[0], indent=1, ensure_ascii=False)
    return _table(ruler, levels)


def _of_network(model: LoadedModel, unit: str, value: str, as_json: bool) -> str:
    """A noise level of a network with a schedule and no sampler: its sigmas, timestep and percent."""
    network = model.denoiser
    if not isinstance(network, Foreign):
        raise InputError(f"{model.name}: {NO_SCHEDULER}")
    own, scale = network.schedule, network.unit.scale
    ends = own.data_time, own.noise_time
    if unit in ("step", "strength"):
        raise InputError(f"{model.name}: it has no scheduler, so no {unit}: pass a sigma, a timestep or a percent")
    given = number(unit.replace("_", "-"), value) if unit else 0.0
    times = [ends[0] + (ends[1] - ends[0]) * k / (_ROWS - 1) for k in range(_ROWS)][::-1]
    if unit in ("sigma", "network_sigma"):
        times = [float(own.time(given * (scale if unit == "sigma" else 1.0)))]
    elif unit == "timestep":
        times = [given]
    elif unit == "percent":
        times = [ends[1] + (ends[0] - ends[1]) * given / 100]
    rows = [_row(network, t) for t in times if np.isfinite(t)]
    if as_json:
        return json.dumps(rows[0] if unit else rows, indent=1)
    heads = ["σ (data)", "network's σ", "SNR, dB", "timestep", "percent"]
    cells = [heads, *([f"{x:.4g}" for x in row.values()] for row in rows)]
    lines = aligned(cells)
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def _row(network: Foreign, time: float) -> dict[str, float]:
    """A time of a network's schedule in its other units."""
    own = network.schedule
    sigma, ends = float(own.sigma(time)), (own.data_time, own.noise_time)
    taken = time if network.clock is None else float(network.clock(torch.tensor([time], dtype=torch.float64)))
    ours = sigma / network.unit.scale
    decibels = -20 * math.log10(ours) if 0 < ours < math.inf else math.copysign(math.inf, -ours if ours else 1.0)
    percent = 100 * (ends[1] - time) / (ends[1] - ends[0]) if np.isfinite(ends[1]) else math.nan
    return {"sigma": ours, "network_sigma": sigma, "decibels": decibels, "timestep": taken, "percent": percent}


def number(name: str, value: str) -> float:
    """A number from text (raises InputError)."""
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"{name} is {value!r:.60}: expected a number") from error


def numbers(name: str, value: str) -> list[float]:
    """Numbers from text, separated by commas or spaces (raises InputError)."""
    values = [number(name, part) for part in re.split(r"[\s,]+", value.strip("[]() \t\n")) if part]
    if value and not values:
        raise InputError(f"{name} is {value!r:.60}: expected numbers, separated by commas")
    if not np.isfinite(values).all():
        raise InputError(f"{name} is {value!r:.60}: expected finite numbers")
    return values


def units_of(ruler: Ruler) -> tuple[str, str]:
    """The units of sigma and of the network's sigma, in words."""
    if ruler.unit.scale == 1:
        return "latents", "latents"
    return "pixels from 0 to 1", "pixels from -1 to 1"


def _table(ruler: Ruler, levels: Sequence[Level]) -> str:
    unit, network = (words.replace("from ", "").replace("-", "−") for words in units_of(ruler))
    rows = [[f"σ ({unit})", f"network's σ ({network})", *_HEADS]] + [
        [
            f"{x.sigma:.4g}", f"{x.network_sigma:.4g}", f"{x.decibels:.1f}", f"{x.timestep:.5g}", f"{x.step}/{x.steps}",
            f"{x.step_sigma:.4g}", _strength(x.strength), f"{x.percent:.1f}", _strength(x.strength_at_most),
        ]
        for x in levels
    ]  # fmt: skip
    rows = [[spelled(cell) for cell in r] for r in rows]
    widths = [max(len(r[c]) for r in rows) for c in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(r, widths, strict=True)) for r in rows]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def _strength(value: float | None) -> str:
    """A strength with enough digits to begin at the printed step."""
    return "none" if value is None else f"{value:.6g}"


def _spread(ruler: Ruler) -> list[Level]:
    """Some of the levels of the sampler."""
    at = np.unique(np.linspace(0, ruler.states - 1, min(_ROWS, ruler.states)).round().astype(int))
    return [ruler.of_step(int(k), ruler.steps) for k in at]
