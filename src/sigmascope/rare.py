"""Allowances in the error of a mean of few draws: for skewness, and for losses too rare to be drawn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtr, stdtrit

_HALVINGS = 30
_RARE_LOSS = 3.0  # nats below H(A): in simulations, the least with which 2.5 to 4 % of lower ends lie above the truth


def lower_allowance(per_draw: Float[np.ndarray, "levels draws"], ceiling: float) -> Float[np.ndarray, " levels"]:
    r"""Allowance in the error of a lower bound for losses that are too rare to have been drawn.

    Gains of draws are bounded above and skewed: near H(A) most draws gain all of it, and rare draws with large losses
    lower the mean.  A sample without them has too high a mean and too small a standard error.  The allowance assumes
    one more draw, 3 nats below H(A) or as low as the lowest draw:

    .. math:: d = \frac{\bar x - x_{n+1}}{n + 1}, \qquad low = \bar x - d - t_{.975,\,n-1} \sqrt{s^2/n + d^2}

    Where all draws are equal this is about the rule of three.  With the allowance, 1.96 errors reach ``low``.

    Args:
        per_draw: gains of independent draws, nats.
        ceiling: H(A).

    Returns: the allowance; 0 where every draw is 0.

    References: Hanley & Lippman-Hand (1983) on the rule of three.
    """
    n, mean = per_draw.shape[1], per_draw.mean(1)
    variance = per_draw.var(1, ddof=1) / n
    lost = np.maximum(mean - np.minimum(per_draw.min(1), ceiling - _RARE_LOSS), 0.0) / (n + 1)
    reach = (lost + stdtrit(n - 1, 0.975) * np.sqrt(variance + lost**2)) / ndtri(0.975)
    allowance: np.ndarray = np.where((per_draw != 0).any(1), np.sqrt(np.maximum(reach**2 - variance, 0.0)), 0.0)
    return allowance


def skew_allowance(per_draw: Float[np.ndarray, "levels draws"], *, even: bool = False) -> Float[np.ndarray, " levels"]:
    r"""Allowance in the error of a mean of few, skewed draws.

    Where draws are skewed, a sample without the rare large ones has a biased mean and too small a spread.  Hall's
    transform of Student's ratio removes the skewness :math:`\gamma`,

    .. math:: g(x) = x - \frac{e x^2}3 + \frac{e^2 x^3}{27} - \frac e6, \qquad
              e = \sqrt{\max(\gamma^2 - 6/n,\, 0)/n},

    where 6/n is the expected square of the skewness of n normal draws, and x is on the side of the tail.  A 95 %
    interval reaches x standard errors to that side, with :math:`g(x) = t_{.975,\,n-1}`, and less to the other side.
    A symmetric interval reaches equally far on both sides, to where both sides together leave out 5 %:

    .. math:: P(t_{n-1} > g(x)) + P(t_{n-1} < g(-x)) = .05

    With the allowance, 1.96 errors reach x.

    Args:
        per_draw: contributions of independent draws.
        even: whether the interval is symmetric.

    Returns: the allowance; 0 where all draws are equal.

    Valid when: some draws are in the tail; otherwise see :func:`unmet_allowance`.

    References: Hall (1992), J. R. Statist. Soc. B 54, 221–228; Johnson (1978).
    """
    n = per_draw.shape[1]
    off = per_draw - per_draw.mean(1, keepdims=True)
    second, third = (off**2).mean(1), (off**3).mean(1)
    spread = np.maximum(second, 1e-200) ** 1.5
    unbiased = np.sqrt(n * (n - 1.0)) / (n - 2.0) if n > 2 else 0.0
    e = np.sqrt(np.maximum((third / spread * unbiased) ** 2 - 6.0 / n, 0.0) / n)
    e = np.maximum(e, 1e-6)  # where the transform is the identity to nine digits
    reach = (_even_reach(e, n - 1) if even else _reach(e, float(stdtrit(n - 1, 0.975)))) / ndtri(0.975)
    allowance: np.ndarray = np.sqrt(second / (n - 1.0) * np.maximum(reach**2 - 1.0, 0.0))
    return allowance


def _reach(
    e: Float[np.ndarray, " levels"], target: Float[np.ndarray, " levels"] | float
) -> Float[np.ndarray, " levels"]:
    """The ratio x with g(x) = target."""
    ratio: np.ndarray = 3.0 / e * (1.0 - np.cbrt(1.0 - e * (target + e / 6.0)))
    return ratio


def _even_reach(e: Float[np.ndarray, " levels"], degrees: int) -> Float[np.ndarray, " levels"]:
    """The ratio beyond which both sides together leave out 5 %, by bisection."""
    low, high = (_reach(e, float(stdtrit(degrees, p))) for p in (0.95, 0.975))
    for _ in range(_HALVINGS):
        x = 0.5 * (low + high)
        tail, other = (side * x - e * x**2 / 3.0 + side * e**2 * x**3 / 27.0 - e / 6.0 for side in (1.0, -1.0))
        out = stdtr(degrees, -tail) + stdtr(degrees, other)
        low, high = np.where(out > 0.05, x, low), np.where(out > 0.05, high, x)
    return high


def unmet_allowance(
    per_draw: Float[np.ndarray, "levels draws"], draws_per_column: int = 1
) -> Float[np.ndarray, " levels"]:
    r"""Allowance in the error of a curve for losses that occur in no draw at a level, but at noisier levels.

    Near H(A) rare undecided draws carry all of the missing information, and a small sample may contain none.  Noisier
    levels show how much an undecided draw loses.  The allowance assumes one more draw, half-way to the lowest value
    :math:`x_{min}` of this level and all noisier ones:

    .. math:: \frac{\bar x - x_{min}}{2(n + 1)}

    Args:
        per_draw: contributions of independent draws, or of columns that are means of several, noisiest level first.
        draws_per_column: draws in each column; n is the number of all draws.

    Returns: the allowance; in simulations with 64 draws and a value of probability .05 it is enough for 95 % intervals
        up to .97 H(A).
    """
    lowest = np.minimum.accumulate(per_draw.min(1))
    allowance: np.ndarray = 0.5 * (per_draw.mean(1) - lowest) / (per_draw.shape[1] * draws_per_column + 1)
    return allowance


def tail_allowance(
    per_draw: Float[np.ndarray, "levels draws"], draws_per_column: int = 1
) -> Float[np.ndarray, " levels"]:
    """The larger of :func:`skew_allowance` and :func:`unmet_allowance`, negative where the tail is of low draws."""
    skewed, unmet = skew_allowance(per_draw), unmet_allowance(per_draw, draws_per_column)
    off = per_draw - per_draw.mean(1, keepdims=True)
    return np.where(unmet > skewed, -unmet, np.copysign(skewed, (off**3).mean(1)))


def even_allowance(
    per_draw: Float[np.ndarray, "levels draws"], draws_per_column: int = 1
) -> Float[np.ndarray, " levels"]:
    """The larger of both for a symmetric interval."""
    return np.asarray(np.maximum(skew_allowance(per_draw, even=True), unmet_allowance(per_draw, draws_per_column)))


def beyond_draws(
    per_draw: Float[np.ndarray, "levels draws"],
    common_variance: Float[np.ndarray, " levels"],
    quadrature_error: Float[np.ndarray, " levels"] | None,
    kind: str,
    draws_per_column: int = 1,
    *,
    even: bool = False,
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
    """Errors of a curve beyond the spread of its draws.

    Args:
        per_draw, common_variance, quadrature_error, kind, draws_per_column: as of a :class:`~sigmascope.core.Curve`.
        even: whether the interval is symmetric.

    Returns: the error that all draws share, with ``quadrature_error``; and the :func:`tail_allowance` (or
        :func:`even_allowance`), 0 for a lower bound, whose :func:`lower_allowance` is part of the first.
    """
    shared = np.sqrt(common_variance + (0.0 if quadrature_error is None else quadrature_error**2))
    if kind == "lower bound" or per_draw.shape[1] < 2:
        return shared, np.zeros_like(shared)
    allowance = even_allowance if even else tail_allowance
    return shared, allowance(per_draw, draws_per_column)
