"""Entries of ``--attributes`` for real-valued attributes: columns with a resolution, a period and a unit."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from sigmascope.core import InputError

_ENTRY = re.compile(r"(?P<columns>.+?)(?P<options>(?::(?:resolution|period|unit)=[^:]*)+)", re.DOTALL)
_NAMED = re.compile(r"(?P<name>[^=]+)=(?P<columns>.+)", re.DOTALL)
FORM = "name:resolution=5, name:resolution=5:period=360, or pose=x+y+z:resolution=0.1"
"""How such an entry is written."""


@dataclass(frozen=True)
class RealEntry:
    """The columns of a real-valued attribute, its resolution, and perhaps its period and unit."""

    name: str
    columns: tuple[str, ...]
    resolution: float
    period: float | None = None
    unit: str = ""


def parse_real(text: str, columns: Collection[str] = ()) -> RealEntry | None:
    """Parse ``angle:resolution=5:period=360:unit=degrees`` or ``pose=x+y+z:resolution=0.1``; None for other entries.

    Raises: InputError for options that cannot be read.
    """
    match = _ENTRY.fullmatch(text)
    if match is None:
        return None
    given = [option.split("=", 1) for option in match["options"][1:].split(":")]
    options = dict(given)
    if len(options) < len(given):
        raise InputError(f"attribute {text!r} names an option twice: write {FORM}")
    if "resolution" not in options:
        raise InputError(f"attribute {text!r} has no resolution: write {FORM}")
    numbers = {name: _number(text, name, options[name]) for name in ("resolution", "period") if name in options}
    whole, name = match["columns"].strip(), ""
    if whole not in columns and (named := _NAMED.fullmatch(whole)):
        name, whole = named["name"].strip(), named["columns"].strip()
    parts = (whole,) if whole in columns else tuple(part.strip() for part in whole.split("+"))
    if len(set(parts)) < len(parts):
        raise InputError(f"attribute {text!r} joins a column with itself: name each once")
    return RealEntry(
        name or "+".join(parts), parts, numbers["resolution"], numbers.get("period"), options.get("unit", "").strip()
    )


def _number(text: str, name: str, written: str) -> float:
    try:
        number = float(written)
    except ValueError:
        number = -1.0
    if not 0.0 < number < float("inf"):
        raise InputError(f"attribute {text!r}: {name} is {written!r}, expected a number greater than 0: write {FORM}")
    return number
