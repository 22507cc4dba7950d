r"""More draws where a measurement's standard error is larger than was asked for.

A pilot seldom meets the rarest of the large gaps, and then predicts too small an error.  The measurement knows better:
with the standard error s that it found and the target t, each column of an attribute gets

.. math:: n\left(s^2/t^2 - 1\right)

draws more, n being those that it has, and again until s is t at most.  Draws of a round are at most as many as were
held at first, and columns stay as many as they are.  To look at s is to stop a little more often where the rare gaps
were missed; that moves the mean by a small part of t, as s varies by a small part of itself.

References: Stein (1945) on samples in two stages.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from sigmascope.information.allocation import FEWEST
from sigmascope.information.choice import Allocation

_ROUNDS = 64  # at most: errors that do not fall are those of a law without variance


def further(
    allocation: Allocation, columns: Float[np.ndarray, "columns goals attributes levels"], target: float
) -> Allocation | None:
    """The allocation with one round more, or None where the target is met.

    Args:
        allocation: all of it was measured.
        columns: of the curves that the target is for.
        target: largest standard error, nats.
    """
    stderr = np.sqrt(columns.var(0, ddof=1).max((0, 2)) / len(columns))
    if stderr.max() <= target or len(allocation.added) == _ROUNDS:
        return None
    draws = allocation.parts * allocation.draws + allocation.added.sum(0)
    wanted = np.ceil(draws * ((stderr / target) ** 2 - 1.0))
    most = np.maximum(allocation.draws, FEWEST)
    more = np.where(stderr > target, np.clip(wanted, FEWEST, most), 0).astype(int)
    return replace(allocation, added=np.concatenate([allocation.added, more[None]]))
