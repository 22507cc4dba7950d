r"""Onsets: at which noise levels an attribute emerges, its window, peak rate and order, from curves alone.

The onset at share q is the noise level where I(A; Y_sigma) crosses q H(A) on the way down; the window runs from 10 to
90 %.  The peak rate is the maximum of :math:`-dI/d\ln\sigma`.  (The literature names other transitions, too: see the
README.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.optimize import isotonic_regression
from scipy.special import ndtr, stdtrit

from sigmascope.core import Curve

SHARES = (0.1, 0.5, 0.9)
RESAMPLES, RESAMPLES_OF_ADVICE = 2000, 1000
"""Resamples for a table of onsets or a comparison, and for advice, which resamples three curves of each attribute."""
_FINE = 32  # points per interval between levels
RESAMPLED_BYTES = 64_000_000
"""Memory of the curves that are resampled at once."""


@dataclass(frozen=True)
class Quantity:
    """A noise level with its 95 % interval, in the unit of the data.

    Args:
        value: the estimate.
        low: the lower end of the interval.
        high: the upper end of the interval.

    0 stands for a level below the last one studied (the curve does not reach it), infinity for one above the first (the
    curve begins beyond it), NaN for a peak that is not clear.
    """

    value: float
    low: float
    high: float

    @property
    def reached(self) -> bool:
        """Whether the value lies within the levels."""
        return 0.0 < self.value < float("inf")


@dataclass(frozen=True)
class Onset:
    """Emergence of one attribute.

    Attributes:
        attribute: its name.
        ceiling: H(A) in nats.
        at: the levels where I reaches 10, 50 and 90 % of H(A) on the way down, each a :class:`Quantity` with ``value``,
            ``low`` and ``high``.
        peak: sigma where -dI/d ln sigma is largest; NaN where the curve rises by less than 5 % of H(A), or the rate is
            largest at an end of the levels.
        peak_rate: that rate, nats per unit of ln sigma.
        before_next: probability over resamples that this attribute reaches half of its entropy at a higher noise
            level than the next one in order; NaN for the last, or when either is not reached.
        state: "reached", "not reached" (the last level leaves it below half) or "beyond" (the first is above half).
    """

    attribute: str
    ceiling: float
    at: tuple[Quantity, Quantity, Quantity]
    peak: Quantity
    peak_rate: float
    before_next: float
    state: str


def onsets(curves: Sequence[Curve], *, resamples: int = RESAMPLES, seed: int = 0) -> list[Onset]:
    r"""Onsets in order of emergence, with bootstrap intervals.

    Draws are resampled with replacement, the same for all attributes (they share items and noise), so the order of
    two attributes is judged by their paired difference.  True information never falls as sigma falls; each resampled
    curve is projected on that constraint (isotonic regression) and interpolated monotonically in ln sigma.  An error
    that all draws share (random directions, an integral over levels, the gauge of a bias) moves a resampled curve up or
    down as a whole, as a normal number that is its own for each attribute and resample.  An
    allowance for a rare tail that few, skewed draws may lack (:func:`~sigmascope.rare.tail_allowance`) moves half of
    the resamples, to the side of the tail alone.

    Args:
        curves: of one estimator, over the same levels and draws.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns: decreasing in the half-information sigma; those not reached come last.

    Raises: ValueError if the curves are not over the same levels and draws.

    References: Efron & Tibshirani (1993), percentile intervals.
    """
    if not curves:
        return []
    sigma, draws = curves[0].sigma, curves[0].per_draw.shape[1]
    for c in curves:
        if not c.same_draws(curves[0]):
            raise ValueError("the curves differ in levels or draws: onsets are compared on the same ones")
    x = np.log(sigma)
    table = []
    for c, means in zip(curves, _resampled(curves, draws, resamples, seed), strict=True):
        up = rising(means)
        levels = np.stack([crossings(x, up, share * c.ceiling) for share in SHARES])
        peaks, rates = _peaks(x, means)
        table.append((c, levels, peaks, rates))
    table.sort(key=lambda row: -row[1][1, 0])  # infinities sort: beyond first, not reached last
    result = []
    for i, (c, levels, peaks, rates) in enumerate(table):
        probability = float("nan")
        if i + 1 < len(table):
            this, following = levels[1], table[i + 1][1][1]
            if np.isfinite(this[0]) and np.isfinite(following[0]):
                probability = float(np.mean((this > following)[1:] + 0.5 * (this == following)[1:]))
        half = levels[1, 0]
        state = "reached" if np.isfinite(half) else ("beyond" if half > 0 else "not reached")
        at = (quantity(levels[0], draws), quantity(levels[1], draws), quantity(levels[2], draws))
        rises = float(c.value.max() - c.value.min()) > 0.05 * c.ceiling
        clear = rises and x[-1] + 1e-9 < peaks[0] < x[0] - 1e-9
        peak = quantity(peaks, draws) if clear else Quantity(float("nan"), float("nan"), float("nan"))
        result.append(Onset(c.attribute, c.ceiling, at, peak, float(rates[0]), probability, state))
    return result


def _resampled(
    curves: Sequence[Curve], draws: int, resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "curves levels"]]:
    """The mean of each curve, then of each resample with its other errors; few resamples at a time for many draws."""
    rng = np.random.default_rng(seed)
    rows = max(RESAMPLED_BYTES // (8 * draws), 1)
    means: list[list[np.ndarray]] = [[] for _ in curves]
    for first in range(0, resamples, rows):
        counts = counts_of(rng, draws, min(rows, resamples - first))
        for parts, c in zip(means, curves, strict=True):
            parts.append(counts @ c.per_draw.T / draws)
    for c, parts in zip(curves, means, strict=True):
        yield moved(c, np.concatenate(parts), mover(c, seed))


def counts_of(rng: np.random.Generator, draws: int, resamples: int) -> Float[np.ndarray, "resamples draws"]:
    """How often each draw is in each resample, drawn with replacement."""
    return rng.multinomial(draws, np.full(draws, 1.0 / draws), size=resamples).astype(np.float64)


def rising(means: Float[np.ndarray, "curves levels"]) -> Float[np.ndarray, "curves levels"]:
    """The nearest curves that do not fall as sigma falls, like true information (isotonic regression)."""
    return np.stack([isotonic_regression(m).x for m in means])


def mover(c: Curve, seed: int, *streams: int) -> np.random.Generator:
    """The generator that moves the resamples of a curve, the same beside whatever curves; streams are independent."""
    return np.random.default_rng([seed, *streams, *c.attribute.encode()])


def moved(
    c: Curve, resampled: Float[np.ndarray, "resamples levels"], rng: np.random.Generator
) -> Float[np.ndarray, "curves levels"]:
    """The curve, then its resamples, moved by the error that all draws share and by the allowance for a rare tail."""
    shared, tail = c.beyond_draws
    if shared.max() > 1e-9 * c.ceiling:
        resampled = resampled + rng.normal(size=(len(resampled), 1)) * shared
    return np.concatenate([c.value[None], towards_tail(resampled, tail, rng)])


def towards_tail(
    resampled: Float[np.ndarray, "resamples levels"], tail: Float[np.ndarray, " levels"], rng: np.random.Generator
) -> Float[np.ndarray, "resamples levels"]:
    """Resamples, half of them moved to the side of a tail that few draws may lack.

    ``tail`` is the :func:`~sigmascope.rare.tail_allowance` of the resampled curve.
    """
    return np.asarray(resampled + np.maximum(rng.normal(size=(len(resampled), 1)), 0.0) * tail)


def ends_of(draws: int) -> list[float]:
    """Ends of a 95 % percentile interval, corrected for few draws (Student's t, and n for n - 1)."""
    end = float(ndtr(-stdtrit(draws - 1, 0.975) * (draws / (draws - 1)) ** 0.5)) if draws > 1 else 0.0
    return [end, 1.0 - end]


def quantity(log_sigma: Float[np.ndarray, " resamples"], draws: int) -> Quantity:
    """The level of an estimate with its percentile interval; ``log_sigma`` holds the estimate, then each resample."""
    low, high = np.quantile(log_sigma[1:], ends_of(draws), method="closest_observation")
    return Quantity(float(np.exp(log_sigma[0])), float(np.exp(low)), float(np.exp(high)))


def crossings(
    x: Float[np.ndarray, " levels"], rising: Float[np.ndarray, "curves levels"], target: float
) -> Float[np.ndarray, " curves"]:
    """The levels at which curves rise to a target as the noise falls, by monotone cubic interpolation in ln sigma.

    Args:
        x: ln sigma of the levels, decreasing, shape (levels,).
        rising: the curves, shape (curves, levels), none of which falls from one level to the next, as from an isotonic
            regression.
        target: the value to reach, in the unit of the curves.

    Returns: ln sigma of each crossing, shape (curves,); +inf for a curve that begins above the target, -inf for one
        that stays below it.
    """
    rows = max(RESAMPLED_BYTES // (64 * len(x)), 1)  # splines take several times the memory of their points
    if len(rising) > rows:
        return np.concatenate([crossings(x, rising[i : i + rows], target) for i in range(0, len(rising), rows)])
    out = np.full(len(rising), -np.inf)
    above = rising >= target
    out[above[:, 0]] = np.inf
    cross = np.flatnonzero(above[:, -1] & ~above[:, 0])
    if len(cross) == 0:
        return out
    after = above[cross].argmax(1)
    spline = PchipInterpolator(np.arange(len(x)), rising[cross], axis=1)
    coefficients = spline.c[:, after - 1, np.arange(len(cross))]  # of the interval that holds the crossing
    t = np.linspace(0.0, 1.0, _FINE + 1)
    inside = ((coefficients[0, :, None] * t + coefficients[1, :, None]) * t + coefficients[2, :, None]) * t
    inside += coefficients[3, :, None]
    k = np.clip((inside >= target).argmax(1), 1, _FINE)
    row = np.arange(len(cross))
    low, high = inside[row, k - 1], inside[row, k]
    share = np.clip((target - low) / np.maximum(high - low, 1e-300), 0.0, 1.0)
    where = (after - 1) + (k - 1 + share) / _FINE
    out[cross] = np.interp(where, np.arange(len(x)), x)
    return out


def _peaks(
    x: Float[np.ndarray, " levels"], means: Float[np.ndarray, "curves levels"]
) -> tuple[Float[np.ndarray, " curves"], Float[np.ndarray, " curves"]]:
    """ln sigma and value of the largest -dI/d ln sigma of a cubic spline through each curve."""
    if len(x) < 4:
        slopes = np.diff(means, axis=1) / -np.diff(x)
        k = slopes.argmax(1)
        return (x[k] + x[k + 1]) / 2, slopes.max(1)
    fine = np.linspace(x[-1], x[0], _FINE * (len(x) - 1) + 1)
    if len(means) > (rows := max(RESAMPLED_BYTES // (24 * len(fine)), 1)):
        parts = [_peaks(x, means[i : i + rows]) for i in range(0, len(means), rows)]
        return np.concatenate([at for at, _ in parts]), np.concatenate([rate for _, rate in parts])
    rate = -CubicSpline(x[::-1], means[:, ::-1], axis=1)(fine, 1)
    k = rate.argmax(1)
    return fine[k], rate[np.arange(len(k)), k]
