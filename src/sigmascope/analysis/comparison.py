"""Comparison of two curves of one attribute: which study decides it earlier, with paired errors for the same draws.

References: Efron & Tibshirani (1993), percentile intervals of paired differences; Hesterberg (2015), their ends for few
draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.interpolate import CubicSpline

from sigmascope.analysis.onset import RESAMPLES, Quantity, counts_of, crossings, ends_of, moved, mover, quantity, rising
from sigmascope.analysis.trust import biased_around
from sigmascope.core import Curve, InputError


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval: NaN where there is none, an infinite end where it lies beyond the levels."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """The curves of one attribute in two studies, A and B."""

    a: Curve  # each on its own levels
    b: Curve
    paired: bool  # whether column i of both is the same draw; errors of differences are then paired
    interpolated: bool  # whether the levels differed
    sigma: Float[np.ndarray, " levels"]  # decreasing levels of the differences, in the common range
    difference: Float[np.ndarray, " levels"]  # I_A - I_B in nats
    low: Float[np.ndarray, " levels"]  # ends of its 95 % interval at each level alone
    high: Float[np.ndarray, " levels"]
    half: tuple[Quantity, Quantity]  # sigma where half of H(A) is known, in A and in B, within the common range
    shift: Estimate  # ln sigma_A - ln sigma_B at half; above 0 where A decides earlier (generation runs down)
    a_earlier: float  # probability over resamples that A reaches half at a higher level; NaN where neither does
    same_data: bool = True
    doubts: tuple[str, str] = ("", "")  # for A and B, why the level of half is not reliable; empty where it is

    @property
    def attribute(self) -> str:
        return self.a.attribute

    @property
    def largest(self) -> tuple[Estimate, float]:
        """The largest difference, with the interval of its level alone, and that level."""
        j = int(np.abs(self.difference).argmax())
        return Estimate(float(self.difference[j]), float(self.low[j]), float(self.high[j])), float(self.sigma[j])

    @property
    def estimator(self) -> str:
        """The estimator of both, or ``A:B`` where they differ."""
        a, b = self.a.estimator, self.b.estimator
        return a if a == b else f"{a}:{b}"

    @property
    def kind(self) -> str:
        """The kind of both, or ``A:B`` where they differ."""
        return self.a.kind if self.a.kind == self.b.kind else f"{self.a.kind}:{self.b.kind}"

    @property
    def mixed(self) -> bool:
        """Whether one is a lower bound and the other is not."""
        return (self.a.kind == "lower bound") != (self.b.kind == "lower bound")

    @property
    def earlier(self) -> str:
        """``A`` or ``B``, whichever decides earlier by the 95 % interval of the shift; empty where that holds 0.

        A lower bound beside another kind of curve gives no order, and neither does a curve that is biased there.
        """
        if self.mixed or any(self.doubts):
            return ""
        reached = [q.reached for q in self.half]
        if all(reached):
            return "A" if self.shift.low > 0 else "B" if self.shift.high < 0 else ""
        return "A" if self.a_earlier >= 0.975 else "B" if self.a_earlier <= 0.025 else ""


@dataclass(frozen=True, eq=False)
class Side:
    """A curve of one study, at the levels and draws that have numbers."""

    curve: Curve
    trusted: Bool[np.ndarray, " levels"]  # where it is not marked as biased
    verdict: str  # the marks in words
    seed: int  # of the study
    drawn: bytes  # identifies the draws: items, seed, and the choice for a model; empty where it is not known
    data: str  # identifies the data


Sides = dict[str, dict[str, Side]]
"""The curves of a study, by estimator and attribute."""


def matched(a: Sides, b: Sides, estimator: str, mains: tuple[str, str]) -> list[tuple[Side, Side]]:
    """The curves to compare, of each attribute that both studies have, in the order of A.

    They are of the requested estimator (a name for both, or ``NAME:NAME`` for A and B), else of the main estimators of
    the studies, else of the best that both have.

    Raises: InputError where the studies have no attribute in common, or lack an estimator.
    """
    in_a, in_b = (list(dict.fromkeys(n for curves in s.values() for n in curves)) for s in (a, b))
    common = [n for n in in_a if n in in_b]
    if not common:
        raise InputError(
            f"no attribute is in both studies: A has {', '.join(in_a) or 'none'}, B has "
            f"{', '.join(sorted(in_b)) or 'none'}; compare studies of the same attributes"
        )
    pairs = []
    for name in common:
        have = [[e for e, curves in s.items() if name in curves] for s in (a, b)]
        first, second = mains
        if estimator:
            first, _, second = estimator.partition(":")
            second = second or first
            for study, wanted, names in zip("AB", (first, second), have, strict=True):
                if wanted not in names:
                    raise InputError(
                        f"study {study} has no estimator {wanted!r} of {name!r}: choose among {', '.join(names)}"
                    )
        elif first not in have[0] or second not in have[1]:
            shared = [e for e in have[0] if e in have[1]]
            if not shared:
                raise InputError(
                    f"{name!r} has no estimator in both studies (A: {', '.join(have[0])}; B: {', '.join(have[1])}): "
                    f"pass one of each, e.g. --estimator {have[0][0]}:{have[1][0]}"
                )
            first = second = min(shared, key=lambda e: _order(a[e][name], b[e][name]))
        pairs.append((a[first][name], b[second][name]))
    return pairs


def _order(a: Side, b: Side) -> tuple[int, float]:
    """A rank, of which the least is compared: exact curves, then the surest of the estimates that are trusted at all
    levels, then the largest lower bounds, then the surest of the other estimates."""
    ranks = {"exact": 0, "trusted": 1, "lower bound": 2, "estimate": 3}
    trusted = ("trusted" if s.curve.kind == "estimate" and s.trusted.all() else s.curve.kind for s in (a, b))
    if a.curve.kind == "exact":
        merit = 0.0
    elif "lower bound" in (a.curve.kind, b.curve.kind):
        merit = -float(a.curve.value.mean() + b.curve.value.mean())
    else:
        merit = float(np.square(a.curve.stderr).mean() + np.square(b.curve.stderr).mean())
    return max(ranks[k] for k in trusted), merit


def compared(first: Side, second: Side, resamples: int = RESAMPLES, pair: bool | None = None) -> Comparison:
    r"""Differences between two curves of one attribute, with intervals.

    .. math:: I_A(\sigma) - I_B(\sigma), \qquad \ln\sigma_A - \ln\sigma_B
              \ \text{ where } I_A(\sigma_A) = \tfrac12 H,\ I_B(\sigma_B) = \tfrac12 H

    Draws are resampled with replacement.  Where both curves have the same draws (items and seed) a resample takes the
    same ones of both, so that what they share cancels; otherwise each has its own resamples.  Pairs need only be
    independent of each other and have one law, so the data, the model and the levels of the curves may differ.  Levels
    are the same, or those of the coarser grid in the common range, to which curves are interpolated in ln sigma by a
    cubic spline (linear in each draw); onsets are read on each curve's own levels.  Errors that all draws share, and
    those of quadrature, are added in squares to the intervals of differences of I, and move the resamples of the shift.

    Args:
        first, second: the curves of A and B.
        resamples: of the bootstrap.
        pair: whether to pair the draws; None: where they are the same.

    Raises: InputError where the curves have no range of levels in common.
    """
    a, b = first.curve, second.curve
    sigma, interpolated = _levels(a, b)
    paired = first.drawn == second.drawn != b"" if pair is None else pair
    n, m = a.per_draw.shape[1], b.per_draw.shape[1]
    # The counts of A are those of the onsets of its own page; so are those of B where the draws are the same.
    counts = counts_of(np.random.default_rng(first.seed), n, resamples)
    others = counts if paired else counts_of(np.random.default_rng([second.seed, 1]), m, resamples)
    x, y = _at(sigma, a) @ a.per_draw, _at(sigma, b) @ b.per_draw
    drawn = counts @ (x - y).T / n if paired else counts @ x.T / n - others @ y.T / m
    difference = x.mean(1) - y.mean(1)
    quantiles = ends_of(min(n, m))
    low, high = np.quantile(drawn, quantiles, axis=0)
    missed = 1.96**2 * sum(_common_variance(sigma, c, paired) for c in (a, b))
    half_a, half_b = _halves(a, counts, sigma, mover(a, first.seed)), _halves(b, others, sigma, mover(b, second.seed))
    # Errors of B that draws do not show are independent of those of A: they move the resamples of B by themselves.
    shift, earlier = _shift(half_a, _halves(b, others, sigma, mover(b, second.seed, 1)), quantiles)
    return Comparison(
        a, b, paired, interpolated, sigma, difference,
        difference - np.hypot(difference - low, np.sqrt(missed)),
        difference + np.hypot(high - difference, np.sqrt(missed)),
        (quantity(half_a, n), quantity(half_b, m)), shift, earlier, first.data == second.data,
        (_doubt(first, half_a[0]), _doubt(second, half_b[0])),
    )  # fmt: skip


def _doubt(side: Side, half: float) -> str:
    """Why the level where half is known is not reliable; empty where it is."""
    at = math.exp(half) if math.isfinite(half) else None
    if side.curve.kind == "exact" or not side.verdict or not biased_around(side.trusted, side.curve.sigma, at):
        return ""
    return side.verdict


def _levels(a: Curve, b: Curve) -> tuple[Float[np.ndarray, " levels"], bool]:
    """Levels at which both can be read, and whether that needs interpolation."""
    if a.sigma.shape == b.sigma.shape and np.allclose(a.sigma, b.sigma, rtol=1e-9, atol=0.0):
        return a.sigma, False
    top, bottom = min(a.sigma[0], b.sigma[0]), max(a.sigma[-1], b.sigma[-1])
    if not bottom < top * (1 - 1e-9):
        ranges = " and ".join(f"{c.sigma[0]:g} to {c.sigma[-1]:g}" for c in (a, b))
        raise InputError(
            f"the noise levels of the studies do not overlap ({ranges}): compare studies of a common range"
        )
    inside = [s[(s < top * (1 - 1e-9)) & (s > bottom * (1 + 1e-9))] for s in (a.sigma, b.sigma)]
    return np.concatenate([[top], min(inside, key=len), [bottom]]), True


def _at(sigma: Float[np.ndarray, " levels"], curve: Curve) -> Float[np.ndarray, "levels nodes"]:
    """Weights that read a curve at levels within its own: the identity at its own."""
    nodes, unit = np.log(curve.sigma[::-1]), np.eye(len(curve.sigma))[::-1]
    x = np.clip(np.log(sigma), nodes[0], nodes[-1])
    if len(sigma) == len(curve.sigma) and np.allclose(x[::-1], nodes, rtol=0.0, atol=1e-9):
        return unit[::-1]
    if len(nodes) < 4:
        return np.stack([np.interp(x, nodes, column) for column in unit.T], 1)
    return np.asarray(CubicSpline(nodes, unit)(x))


def _common_variance(sigma: Float[np.ndarray, " levels"], c: Curve, paired: bool) -> Float[np.ndarray, " levels"]:
    """Squares of the errors that the spread of draws does not show; paired draws share the error of their tail."""
    shared, tail = c.beyond_draws
    extra = shared**2 + (0.0 if paired else tail**2)
    return np.asarray(np.interp(np.log(sigma), np.log(c.sigma[::-1]), extra[::-1]))


def _halves(
    c: Curve, counts: Float[np.ndarray, "resamples draws"], sigma: Float[np.ndarray, " levels"], by: np.random.Generator
) -> Float[np.ndarray, " curves"]:
    """ln sigma where half of H(A) is known: of the curve, then of each resample; ±inf beyond the levels of both."""
    means = moved(c, counts @ c.per_draw.T / c.per_draw.shape[1], by)
    at = crossings(np.log(c.sigma), rising(means), 0.5 * c.ceiling)
    at[at > np.log(sigma[0]) + 1e-9] = np.inf
    at[at < np.log(sigma[-1]) - 1e-9] = -np.inf
    return at


def _shift(
    a: Float[np.ndarray, " curves"], b: Float[np.ndarray, " curves"], quantiles: Sequence[float]
) -> tuple[Estimate, float]:
    """ln sigma_A - ln sigma_B with its interval, and the probability that it is positive."""
    nan = float("nan")
    probability = float(np.mean((a > b)[1:] + 0.5 * (a == b)[1:]))
    if not (np.isfinite(a[0]) and np.isfinite(b[0])):
        return Estimate(nan, nan, nan), nan if a[0] == b[0] else probability
    unknown = (a == b) & ~np.isfinite(a)  # both beyond the same end: their difference can have any value
    with np.errstate(invalid="ignore"):
        difference = a - b
    ends = [
        float(np.quantile(np.where(unknown, beyond, difference)[1:], q, method="closest_observation"))
        for q, beyond in zip(quantiles, (-np.inf, np.inf), strict=True)
    ]
    return Estimate(float(difference[0]), *ends), probability
