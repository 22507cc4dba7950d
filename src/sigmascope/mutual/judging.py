"""What speaks against a measured information, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sigmascope.mutual.results import Way

__all__ = ["doubts_of"]

_APART = 0.05  # nats by which two measures may differ,
_SHARE = 0.1  # or this share of the value, if that is more
_RISING = 0.05  # -dI/d ln sigma at the lowest level, in nats
_SAMPLES_PER_PAIR = 50  # samples for each pair of a column of X and one of Y, at least


def doubts_of(
    samples: Float[np.ndarray, "folds samples"],
    stderr: float,
    ways: Sequence[Way],
    bound: tuple[float, float],
    widths: tuple[int, int, int],
) -> tuple[str, ...]:
    """Why the mean of these samples may be biased; empty where nothing speaks against it.

    Args:
        samples: information of each sample in nats.
        stderr: standard error of their mean.
        ways: the measures by the denoiser of each array.
        bound: a lower bound and its standard error.
        widths: columns of x, y and z.
    """
    value = float(samples.mean())
    allowed = max(_APART, _SHARE * abs(value), 3 * stderr)
    doubts = []
    gaps = [abs(w.score - w.mmse) for w in ways]
    if max(gaps) > allowed:
        doubts.append(f"the score gap and the gap of squared errors differ by up to {max(gaps):.2f} nats")
    between = abs(ways[0].mean - ways[-1].mean)
    if between > allowed:
        doubts.append(f"with noise on x and with noise on y the values differ by {between:.2f} nats")
    spread = float(samples.mean(1).std(ddof=1))
    if spread > max(allowed, 3 * stderr * np.sqrt(len(samples))):
        doubts.append(f"the trainings differ by {spread:.2f} nats")
    if bound[0] - 2 * bound[1] > value + 2 * stderr:
        doubts.append(f"the lower bound, {bound[0]:.2f} nats, is above the value")
    rising = max(float(np.abs(w.rate[1, 0])) for w in ways)
    if rising > _RISING:
        doubts.append(
            f"the arrays are nearly functions of each other: {rising:.2f} nats more by each factor e of less noise"
        )
    if np.abs(samples - value).max() / samples.size > max(stderr, 1e-3):
        doubts.append("a single sample moves the value by more than its standard error")
    pairs = widths[0] * (widths[1] + widths[2])
    if samples.size < _SAMPLES_PER_PAIR * pairs:
        doubts.append(
            f"{samples.size:,} samples are few for {pairs:,} pairs of columns: "
            "dependence that is not linear may be missed"
        )
    return tuple(doubts)
