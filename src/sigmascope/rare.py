"""What a mean of few skewed draws must allow for: losses that are too rare to have been drawn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import stats

_RARE_LOSS = 3.0  # nats below H(A): by simulation the least with which 2.5 to 4 % of lower ends lie above the truth


def lower_allowance(per_draw: Float[np.ndarray, "levels draws"], ceiling: float) -> Float[np.ndarray, " levels"]:
    r"""What a lower bound's error holds beside its standard error: for losses that are too rare to have been drawn.

    Gains of draws are bounded above and skewed: near H(A) most draws have it all, and the mean is lowered by a few that
    few draws need not hold.  Then the mean is high and its standard error small.  One more draw is taken to have come,
    3 nats below H(A) or as low as the lowest:

    .. math:: d = \frac{\bar x - x_{n+1}}{n + 1}, \qquad low = \bar x - d - t_{.975,\,n-1} \sqrt{s^2/n + d^2}

    Where all draws are alike this is about the rule of three.  The allowance is what makes 1.96 errors reach that far.

    Args:
        per_draw: gains of independent draws, nats.
        ceiling: H(A).

    Returns: 0 where every draw is 0, as of a bound that claims nothing.

    References: Hanley & Lippman-Hand (1983) on the rule of three.
    """
    n, mean = per_draw.shape[1], per_draw.mean(1)
    variance = per_draw.var(1, ddof=1) / n
    lost = np.maximum(mean - np.minimum(per_draw.min(1), ceiling - _RARE_LOSS), 0.0) / (n + 1)
    reach = (lost + stats.t.ppf(0.975, n - 1) * np.sqrt(variance + lost**2)) / stats.norm.ppf(0.975)
    found: np.ndarray = np.where((per_draw != 0).any(1), np.sqrt(np.maximum(reach**2 - variance, 0.0)), 0.0)
    return found
