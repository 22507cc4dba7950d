"""Units of noise levels, as studies name them: when two are the same, and how one becomes the other."""

from __future__ import annotations

PIXELS = "the full range of a pixel, black to white"
"""Of pictures: 1 is from black to white."""
HALF = "half the range of a pixel (pictures from -1 to 1)"
"""Of pictures from -1 to 1: 2 is from black to white."""
LATENTS = "scaled latents"
"""Of an autoencoder's values; the name of its pipeline follows."""


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
