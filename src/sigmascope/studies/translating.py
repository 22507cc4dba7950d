"""One noise level in every unit, as a table."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import numpy as np

from sigmascope.adapters.units import Level, Ruler, ruler_of
from sigmascope.core import InputError

_ROWS = 9  # of the table, where no level is given
_HEADS = ("σ", "σ of the network", "SNR, dB", "timestep", "step", "σ of that step", "strength", "percent")


def translate(model: str, unit: str, value: str, steps: int, *, as_json: bool = False) -> str:
    """A level, or some, in every unit.

    Args:
        model: folder of a pipeline.
        unit: one of :data:`~sigmascope.adapters.units.UNITS`, or empty: a table of some levels.
        value: the level, as text; of ``step`` as ``17/50``.
        steps: of the sampler; those of a given step count.
        as_json: JSON in place of a table.

    Raises: InputError for a level that there is not.
    """
    found: list[Level]
    if unit == "step":
        read = re.fullmatch(r"(\d+)/(\d+)", value)
        if read is None:
            raise InputError(f"step is {value!r}: expected the step and how many there are, as 17/50")
        step, steps = int(read[1]), int(read[2])
        found = [ruler_of(model, steps).of_step(step, steps)]
    elif unit:
        try:
            level = float(value)
        except ValueError as error:
            raise InputError(f"{unit} is {value!r}: expected a number") from error
        found = [getattr(ruler_of(model, steps), f"of_{unit}")(level)]
    else:
        found = _some(ruler_of(model, steps))
    if as_json:
        return json.dumps([asdict(x) for x in found] if not unit else asdict(found[0]), indent=1)
    rows = [list(_HEADS)] + [
        [
            f"{x.sigma:.4g}", f"{x.model_sigma:.4g}", f"{x.decibels:.1f}", f"{x.timestep:.4g}", f"{x.step}/{x.steps}",
            f"{x.step_sigma:.4g}", f"{x.strength:.3g}", f"{x.percent:.1f}",
        ]
        for x in found
    ]  # fmt: skip
    widths = [max(len(r[c]) for r in rows) for c in range(len(_HEADS))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(r, widths, strict=True)) for r in rows]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def _some(ruler: Ruler) -> list[Level]:
    """Levels of the sampler's own steps, spread over them."""
    at = np.unique(np.linspace(0, ruler.steps - 1, min(_ROWS, ruler.steps)).round().astype(int))
    finite = [int(k) for k in at if np.isfinite(ruler.levels[k])]
    return [ruler.of_step(k, ruler.steps) for k in finite]
