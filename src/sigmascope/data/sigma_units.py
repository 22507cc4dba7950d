"""Units of noise levels, as studies name them, and the factors between them."""

from __future__ import annotations

PIXELS = "the full range of a pixel, black to white"
"""Of pictures with pixels from 0 to 1."""
HALF = "half the range of a pixel (pictures from -1 to 1)"
"""Of pictures with pixels from -1 to 1."""
LATENTS = "scaled latents"
"""Of the latents of an autoencoder; the name of its pipeline follows."""
STORED = "the unit in which the data are stored"
"""Of floats that are no pictures."""
_NEAR = 0.5  # the lightest pixel of pictures is at least this, and the darkest at most minus this


def unit_of(shape: tuple[int, ...], whole: bool, span: tuple[float, float]) -> str:
    """The unit of noise levels of data, in words, by their shape (items, ...) and the span of their coordinates.

    Floats count as pictures by their shape and by their range: from 0 to 1, or from -1 to 1.
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
    """Size of a unit, as a share of the range of a pixel from black to white; None where it is not known."""
    return 1.0 if unit.startswith(PIXELS) else 0.5 if unit.startswith(HALF) else None


def factor(unit: str, other: str) -> float | None:
    """The factor that converts a noise level in one unit to another; None where it is not known."""
    ranges = range_of(unit), range_of(other)
    if ranges[0] is not None and ranges[1] is not None:
        return ranges[0] / ranges[1]
    return 1.0 if unit == other else None
