"""One noise level in every unit, as a table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from sigmascope.adapters.diffusers.units import Level, Ruler, ruler_of
from sigmascope.console import spelled
from sigmascope.core import InputError

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
    """A level, or some, in every unit.

    Args:
        model: folder of a pipeline.
        unit: one of :data:`~sigmascope.adapters.diffusers.units.UNITS`, or empty: a table of some levels.
        value: the level, as text; of ``step`` as ``17/50``.
        steps: of the sampler; those of a given step count.
        height: of the images in pixels, for flows that shift with it; 0: the pipeline's own.
        width: likewise.
        timesteps: the user's own list, as text, in place of ``steps``.
        sigmas: likewise of levels, as the scheduler counts them.
        as_json: JSON in place of a table; an infinite level is written as Infinity.

    Raises: InputError for a level that there is not.
    """
    step = 0
    if unit == "step":
        read = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
        if read is None:
            raise InputError(f"step is {value!r}: expected the step and how many there are, as 17/50")
        step, steps = int(read[1]), int(read[2])
    lists = numbers("timesteps", timesteps), numbers("sigmas", sigmas)
    ruler = ruler_of(model, steps, height=height, width=width, timesteps=lists[0], sigmas=lists[1])
    if unit == "step":
        found = [ruler.of_step(step, steps)]
    elif unit:
        found = [getattr(ruler, f"of_{unit}")(number(unit.replace("_", "-"), value))]
    else:
        found = _some(ruler)
    if as_json:
        own, network = units_of(ruler)
        rows = [asdict(x) | {"unit": own, "network_unit": network} for x in found]
        return json.dumps(rows if not unit else rows[0], indent=1, ensure_ascii=False)
    return _table(ruler, found)


def number(name: str, value: str) -> float:
    """A number that was typed.

    Raises: InputError.
    """
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"{name} is {value!r:.60}: expected a number") from error


def numbers(name: str, value: str) -> list[float]:
    """Numbers that were typed, separated by commas or spaces.

    Raises: InputError.
    """
    found = [number(name, part) for part in re.split(r"[\s,]+", value.strip("[]() \t\n")) if part]
    if value and not found:
        raise InputError(f"{name} is {value!r:.60}: expected numbers, separated by commas")
    if not np.isfinite(found).all():
        raise InputError(f"{name} is {value!r:.60}: expected finite numbers")
    return found


def units_of(ruler: Ruler) -> tuple[str, str]:
    """In words, the unit of our sigma and that of the network's."""
    if ruler.unit.scale == 1:
        return "latents", "latents"
    return "pixels from 0 to 1", "pixels from -1 to 1"


def _table(ruler: Ruler, found: Sequence[Level]) -> str:
    own, network = (words.replace("from ", "").replace("-", "−") for words in units_of(ruler))
    rows = [[f"σ ({own})", f"network's σ ({network})", *_HEADS]] + [
        [
            f"{x.sigma:.4g}", f"{x.network_sigma:.4g}", f"{x.decibels:.1f}", f"{x.timestep:.5g}", f"{x.step}/{x.steps}",
            f"{x.step_sigma:.4g}", _strength(x.strength), f"{x.percent:.1f}", _strength(x.strength_at_most),
        ]
        for x in found
    ]  # fmt: skip
    rows = [[spelled(cell) for cell in r] for r in rows]
    widths = [max(len(r[c]) for r in rows) for c in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(r, widths, strict=True)) for r in rows]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def _strength(value: float | None) -> str:
    """A strength with all of its digits: what is printed begins where it says."""
    return "none" if value is None else f"{value:.6g}"


def _some(ruler: Ruler) -> list[Level]:
    """Levels of the sampler's own steps, spread over them."""
    at = np.unique(np.linspace(0, ruler.states - 1, min(_ROWS, ruler.states)).round().astype(int))
    return [ruler.of_step(int(k), ruler.steps) for k in at]
