"""Limits of the options of commands, and the messages where they are exceeded.  Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from sigmascope.errors import InputError

LEAST_SIGMA, MOST_SIGMA = 1e-12, 1e12
"""Smaller or larger noise levels underflow or overflow when they are squared in single precision."""
MOST_LEVELS, MOST_DRAWS, MOST_STEPS, MOST_FORKS = 100_000, 10_000_000, 100_000, 100_000
MOST_CALLS = 10**15
MOST_LINKS = 5
"""Attributes of a chain: the shares of more are averages over too many orders."""
MOST_SEED = 2**63 - 1
_SHOWN = 40  # characters of a value in a message


def shown(value: object) -> str:
    """A value as text for a message of one line, shortened where it is long."""
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "a number of more than 40 digits"
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def whole(name: str, value: object) -> int:
    """The value as a whole number.

    Raises: InputError for anything else.
    """
    try:
        number = int(value)  # type: ignore[call-overload]
        if number == value:
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} is {shown(value)}: expected a whole number")


def real(name: str, value: object) -> float:
    """The value as a number.

    Raises: InputError for anything else.
    """
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is {shown(value)}: expected a number") from None


def within(name: str, value: float, low: float, high: float, remedy: str = "") -> None:
    """Refuse a number outside an interval, and NaN.

    Args:
        name: of the setting.
        value: of the setting.
        low: smallest value allowed.
        high: largest value allowed.
        remedy: what to do, which the message appends after a semicolon.

    Raises: InputError.
    """
    if not low <= value <= high:
        advice = f"; {remedy}" if remedy else ""
        raise InputError(f"{name} is {shown(value)}: expected a number from {low:,} to {high:,}{advice}")


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
    """Refuse --size and --grain, options of the scenes, for other data (raises InputError)."""
    if data == "scenes":
        return
    if grain:
        raise InputError(f"{data}: --grain is an option of the scenes: leave it out for other data")
    if size != 32:
        raise InputError(
            f"size is {shown(size)}: it is an option of the scenes, other data have their own size: leave it out"
        )


def check_text(settings: object) -> None:
    """Refuse texts that cannot be written to a file: with NUL, or with bytes that are not UTF-8.

    Args:
        settings: a dataclass.

    Raises: InputError.
    """
    for f in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, f.name)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and ("\0" in text or any("\ud800" <= c <= "\udfff" for c in text)):
                raise InputError(
                    f"{f.name} is {shown(ascii(text))}: it contains NUL or bytes that are not UTF-8: rename it"
                )


def refuse(settings: object, unused: Mapping[str, str], run: str) -> None:
    """Refuse settings that a run cannot use, where they differ from their defaults.

    Args:
        settings: a dataclass with defaults.
        unused: names of settings, each with what it is an option of.
        run: the kind of run, in words.

    Raises: InputError for the first such setting.
    """
    defaults: dict[str, Any] = {f.name: f.default for f in fields(settings) if f.default is not MISSING}  # type: ignore[arg-type]
    for name, belongs in unused.items():
        value = getattr(settings, name)
        if value != defaults[name] and not (isinstance(value, float) and math.isnan(value)):
            option = f"--{name.replace('_', '-')}"
            given = option if value is True else f"{option} {shown(value)}"
            raise InputError(f"{given} is an option of {belongs}: leave it out for {run}")
