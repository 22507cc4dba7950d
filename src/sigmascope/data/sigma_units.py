"""Units of noise levels, as studies name them: when two are the same, and how one becomes the other."""

from __future__ import annotations

PIXELS = "the full range of a pixel, black to white"
"""Of pictures: 1 is from black to white."""
HALF = "half the range of a pixel (pictures from -1 to 1)"
"""Of pictures from -1 to 1: 2 is from black to white."""
LATENTS = "scaled latents"
"""Of an autoencoder's values; the name of its pipeline follows."""


STORED = "the unit in which the data are stored"
"""Of floats that are no pictures."""
_NEAR = 0.5  # how far from the middle the darkest and lightest pixel of pictures reach, at least


def unit_of(shape: tuple[int, ...], whole: bool, span: tuple[float, float]) -> str:
    """The unit of noise levels of some data, in words.

    Floats are recognised as pictures by their shape and by their range: from 0 to 1, or from -1 to 1.

    Args:
        shape: of all items, (items, ...).
        whole: whether they are 8-bit pixels.
        span: smallest and largest coordinate.
    """
    low, high = span
    if whole:
        return f"{PIXELS} (8-bit pixels divided by 255)"
    if len(shape) < 3 or high > 1 or high < _NEAR:
        return STORED
    if low >= 0:
        return f"{PIXELS} (floats from 0 to 1)"
    return HALF if -1 <= low <= -_NEAR else STORED


def range_of(unit: str) -> float | None:
    """What one unit is of the full range of a pixel, black to white; None where it is not known.

    Args:
        unit: in words, ``unit_of_sigma`` of the results of a study.
    """
    return 1.0 if unit.startswith(PIXELS) else 0.5 if unit.startswith(HALF) else None


def factor(unit: str, other: str) -> float | None:
    """What a noise level in one unit must be multiplied by to be one in the other; None where that is not known.

    Args:
        unit: in words.
        other: likewise.
    """
    own, their = range_of(unit), range_of(other)
    if own is not None and their is not None:
        return own / their
    return 1.0 if unit == other else None
