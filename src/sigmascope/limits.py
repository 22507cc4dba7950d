"""Limits of what a command can be told, one line each where they are crossed.  Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from sigmascope.errors import InputError

LEAST_SIGMA, MOST_SIGMA = 1e-12, 1e12
"""Noise levels beyond these overflow once they are squared in single precision."""
MOST_LEVELS, MOST_DRAWS, MOST_STEPS, MOST_FORKS = 100_000, 10_000_000, 100_000, 100_000
MOST_CALLS = 10**15
MOST_SEED = 2**63 - 1
_SHOWN = 40  # characters of a value


def shown(value: object) -> str:
    """A value for a message of one line, cut where it is long."""
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "a number of more than 40 digits"
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def whole(name: str, value: object) -> int:
    """A number without a fraction.

    Raises: InputError for anything else.
    """
    try:
        found = int(value)  # type: ignore[call-overload]
        if found == value:
            return int(found)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} is {shown(value)}: expected a whole number")


def real(name: str, value: object) -> float:
    """A number.

    Raises: InputError for anything else.
    """
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is {shown(value)}: expected a number") from None


def within(name: str, value: float, low: float, high: float, remedy: str = "") -> None:
    """Refuse a number outside of an interval, and one that is not a number.

    Args:
        name: of the setting.
        value: what came.
        low: the least that can be used.
        high: the most.
        remedy: what to do, after a semicolon.

    Raises: InputError.
    """
    if not low <= value <= high:
        rest = f"; {remedy}" if remedy else ""
        raise InputError(f"{name} is {shown(value)}: expected a number from {low:,} to {high:,}{rest}")


def check_levels(first: str, last: str, high: float, low: float) -> None:
    """Refuse noise levels that single precision cannot square.

    Args:
        first: name of the first level.
        last: name of the last.
        high: the first level.
        low: the last.

    Raises: InputError.
    """
    for name, value in ((first, high), (last, low)):
        if not LEAST_SIGMA <= value <= MOST_SIGMA:
            raise InputError(
                f"{name} is {shown(value)}: expected a noise level from {LEAST_SIGMA:g} to {MOST_SIGMA:g}, in the unit "
                "of the data"
            )


def check_of_scenes(data: str, size: int, grain: bool) -> None:
    """Refuse the side and the texture of the scenes for other data.

    Raises: InputError.
    """
    if data == "scenes":
        return
    if grain:
        raise InputError(f"{data}: --grain is a texture of the scenes: leave it out for other data")
    if size != 32:
        raise InputError(
            f"size is {shown(size)}: it is the side of the scenes, and other data have a size of their own: leave out "
            "--size"
        )


def check_text(settings: object) -> None:
    """Refuse texts that no file can hold: with NUL, or, of a name of a file, with bytes that are not UTF-8.

    Args:
        settings: a dataclass.

    Raises: InputError.
    """
    for f in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, f.name)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and ("\0" in text or any("\ud800" <= c <= "\udfff" for c in text)):
                raise InputError(
                    f"{f.name} is {shown(ascii(text))}: it holds NUL or bytes that are no UTF-8: rename it"
                )


def refuse(settings: object, unused: Mapping[str, str], whose: str) -> None:
    """Refuse the settings that a run cannot use, where they are not what they are by default.

    Args:
        settings: a dataclass with defaults.
        unused: names of settings, each with what it belongs to.
        whose: what the run is.

    Raises: InputError, naming the first.
    """
    defaults: dict[str, Any] = {f.name: f.default for f in fields(settings) if f.default is not MISSING}  # type: ignore[arg-type]
    for name, belongs in unused.items():
        value = getattr(settings, name)
        if value != defaults[name] and not (isinstance(value, float) and math.isnan(value)):
            option = f"--{name.replace('_', '-')}"
            said = option if value is True else f"{option} {shown(value)}"
            raise InputError(f"{said} is of {belongs}: leave it out for {whose}")
