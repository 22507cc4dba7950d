"""Advice as text and as JSON, in the units of a pipeline's scheduler where there is one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sigmascope.studies.advising import Advice


def as_words(found: Sequence[Advice]) -> str:
    """Advice as text, attribute by attribute."""
    lines: list[str] = []
    for name in dict.fromkeys(a.abstraction for a in found):
        lines += ["", name or "sampler"]
        for a in found:
            if a.abstraction == name:
                lines.append(f"  {a.kind.replace('_', ' ')}: {a.words}{_in_units(a)}")
                lines.append(f"      [{a.formula}]")
    return "\n".join(lines[1:])


def _in_units(a: Advice) -> str:
    """The levels in the scheduler's units, as they are handed to a pipeline."""
    high, low = a.units.get("high"), a.units.get("low")
    if a.kind in ("guidance_interval", "training_range"):
        if high is None or low is None:
            return ""
        clock = f"timestep {high['timestep']:.4g} to {low['timestep']:.4g}"
        if a.kind == "training_range":
            return f" — {clock}"
        first, last = high["step"], low["step"] - (0 if math.isclose(low["step_sigma"], low["sigma"]) else 1)
        steps = low["steps"]
        span = f"steps {first} to {last} of {steps}" if first <= last else f"no step of {steps} lies there"
        return f" — {span} ({clock}; {high['percent']:.0f} to {low['percent']:.0f} % done)"
    if high is None:
        return ""
    k, n = high["step"], high["steps"]
    where = f"timestep {high['timestep']:.4g}, {high['percent']:.0f} % done"
    if a.kind == "sdedit_strength":
        strength = high["strength"]
        if strength is None:
            return f" — no strength of {n} steps begins so low: pass more --steps ({where})"
        return f" — strength {strength:.6g} of {n} steps ({where})"
    if a.kind == "negative_prompt":
        return f" — {f'in the steps before {k}' if k else 'before the first step'} of {n} ({where})"
    return f" — {f'before step {k}' if k < n else 'after the last step'} of {n} ({where})"


def as_json(found: Sequence[Advice]) -> str:
    """Advice as JSON; levels that are not reached are null."""

    def plain(value: object) -> object:
        if isinstance(value, float):
            return value if math.isfinite(value) and value != 0.0 else None
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value

    return json.dumps([plain(asdict(a)) for a in found], indent=1, ensure_ascii=False)
