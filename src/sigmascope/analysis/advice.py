r"""The quantities that advice uses: levels at which curves of one law cross thresholds, with their resamples.

I is the information about an attribute A, :math:`I_0` that of a clean image (H(A), or less where equal images carry
different labels), :math:`P_{keep}` the probability that a redraw from a level keeps A, and :math:`P_{sure}` that the
likeliest label there is the final one (:mod:`sigmascope.information.keeping`).  Where bounds of I alone are known,
:math:`e^{I - H}` replaces both, since neither is smaller: advice is then on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from sigmascope.analysis import onset
from sigmascope.analysis.onset import Quantity, moved, mover, rising
from sigmascope.core import Curve, InputError
from sigmascope.information.keeping import kept_at_least
from sigmascope.limits import shown
from sigmascope.rare import tail_allowance

EDGE, EVEN = 0.05, 0.2
"""Share of the information outside each end of a window; share of a sampler's levels that is even in ln σ."""
_GROUPS = 4096  # most groups of draws that are resampled
_TAIL = 2  # use of a seed

Rising = Float[np.ndarray, "resamples levels"]


class View:
    """Curves of one law, over resamples of their draws.

    Args:
        curves: of each attribute, over the same levels and draws.
        whole: the information of a clean image about each, nats.
        kept: under ``kept`` and ``sure``, the probabilities that a redraw keeps each attribute and that its likeliest
            label is right, for each draw; empty where only their bound e^(I − H) is known.
        law: the law that they describe, in words.
        seed: of the resampling.
        entropies: H(A) of each attribute, where curves may exceed it; those of a network's own path can.

    Raises: InputError for a curve that has no number at some levels.
    """

    def __init__(
        self,
        curves: Mapping[str, Curve],
        whole: Mapping[str, float],
        kept: Mapping[str, Mapping[str, Float[np.ndarray, "levels draws"]]],
        law: str,
        seed: int,
        entropies: Mapping[str, float] | None = None,
    ) -> None:
        self.entropies = dict(entropies or {})
        self.curves, self.whole, self._kept, self.law, self._seed = curves, whole, kept, law, seed
        measured = [x for x in kept.get("kept", {}).values() if not np.isnan(x).all()]
        self.bounded = not measured  # whether only a bound of these probabilities is known
        first = next(iter(curves.values()))
        for name, c in curves.items():
            if not np.isfinite(c.per_draw).all():
                curve = f"{shown(first.estimator)} of {shown(name)!r}"
                raise InputError(f"{curve} has no number at some levels: choose another --estimator")
        self.estimator, self.sigma, self.lower = first.estimator, first.sigma, first.kind == "lower bound"
        draws = first.per_draw.shape[1]
        # Very many draws are resampled in groups, whose mean has the same variance.
        self._starts = np.linspace(0, draws, min(draws, _GROUPS), endpoint=False).astype(np.int64)
        groups = len(self._starts)
        drawn = onset.counts_of(np.random.default_rng(seed), groups, onset.RESAMPLES_OF_ADVICE)
        counts = np.concatenate([np.ones((1, groups)), drawn])
        self._shares = counts / (counts @ np.diff(self._starts, append=draws))[:, None]
        self._cache: dict[tuple[str, str], Rising] = {}

    def known(self, name: str) -> Rising:
        """I of an attribute: the estimate, then each resample, rising as the noise falls."""
        if (name, "known") not in self._cache:
            self._cache[name, "known"] = self._information(self.curves[name])
        return self._cache[name, "known"]

    def _information(self, c: Curve) -> Rising:
        return rising(moved(c, self._mean(c.per_draw)[1:], mover(c, self._seed)))

    def has_values(self, name: str) -> bool:
        """Whether an attribute has values that a redraw can keep; those of a real-valued one are NaN."""
        return not any(np.isnan(each[name]).all() for each in self._kept.values() if name in each)

    def keeping(self, name: str, event: str = "kept") -> Rising:
        """The probability that it is kept, or that its likeliest label is right (``sure``), or a lower bound of it."""
        if (name, event) not in self._cache:
            self._cache[name, event] = self._keeping(name, event)
        return self._cache[name, event]

    def _keeping(self, name: str, event: str) -> Rising:
        for known in (event, "kept"):
            if name in self._kept.get(known, {}):
                return self._probability(self._kept[known][name])
        c = self.curves[name]
        if c.kind != "lower bound" and c.estimator in ("posterior", "forks"):
            return self._probability(kept_at_least(c.per_draw, c.ceiling))
        return kept_at_least(self.known(name), c.ceiling)

    def _probability(self, per_draw: Float[np.ndarray, "levels draws"]) -> Rising:
        """The mean of a probability over draws, then of each resample, with an allowance for a rare tail."""
        means = self._mean(per_draw)
        rng = np.random.default_rng([self._seed, _TAIL])
        return rising(np.concatenate([means[:1], onset.towards_tail(means[1:], tail_allowance(per_draw), rng)]))

    def _mean(self, per_draw: Float[np.ndarray, "levels draws"]) -> Rising:
        return np.asarray(self._shares @ np.add.reduceat(per_draw, self._starts, axis=1).T)

    def _reached(self, curves: Rising, target: float) -> Quantity:
        return onset.quantity(onset.crossings(np.log(self.sigma), curves, target), self._shares.shape[1])

    def window(self, name: str) -> tuple[Quantity, Quantity]:
        r"""Between which levels an attribute is decided.

        .. math:: I(A; Y_{high}) = .05\, \min(I_0, H(A)), \qquad I(A; Y_{low}) = .95\, I_0

        Only a biased curve ends above H(A).  It then begins at 5 % of H(A), above the level of 5 % of its own end.
        """
        known, whole = self.known(name), self.whole[name]
        first = EDGE * min(whole, self.entropies.get(name, whole))
        return self._reached(known, first), self._reached(known, (1.0 - EDGE) * whole)

    def excess(self, name: str, sigma: float) -> tuple[float, float] | None:
        """The information at a level and H(A), where it exceeds H(A) by more than three standard errors."""
        value, error = self.at(self.known(name), sigma)
        entropy = self.entropies.get(name, math.inf)
        return (value, entropy) if value > entropy + 3.0 * error else None

    def half(self, name: str, other: Curve | None = None) -> Quantity:
        """Where :math:`I = I_0 / 2`, by the curve of an attribute or by another one of the same draws."""
        known = self.known(name) if other is None else self._information(other)
        return self._reached(known, 0.5 * self.whole[name])

    def kept_from(self, name: str, probability: float, event: str = "kept") -> Quantity:
        r"""The highest level from which an attribute is kept, or its likeliest label right, with a probability p.

        .. math:: \max\{\sigma: P_{keep}(\sigma) \ge p\}
        """
        return self._reached(self.keeping(name, event), probability)

    def redrawn(self, name: str, sigma: float) -> tuple[float, float]:
        """:math:`1 - P_{keep}`, the probability that a redraw from a level changes an attribute, and its error."""
        value, error = self.at(self.keeping(name), sigma)
        return 1.0 - value, error

    def at(self, curves: Rising, sigma: float) -> tuple[float, float]:
        """The value of a curve at a level, interpolated between those of the study, and its standard error."""
        x, at = np.log(self.sigma), math.log(sigma)
        k = int(np.clip(np.searchsorted(-x, -at, side="right"), 1, len(x) - 1))  # the first level below
        share = float(np.clip((x[k - 1] - at) / (x[k - 1] - x[k]), 0.0, 1.0))
        values = (1.0 - share) * curves[:, k - 1] + share * curves[:, k]
        return float(values[0]), float(values[1:].std(ddof=1))


def sampler_levels(
    view: View, names: Sequence[str], count: int, span: tuple[float, float] | None = None
) -> tuple[float, ...]:
    r"""Levels of a first-order sampler (DDIM, Euler), close to each other where attributes are decided.

    They lie at equal shares of

    .. math:: .2 \ln\frac{\sigma_{first}}{\sigma} + .8 \int_\sigma \sqrt{-\frac{d \Sigma I}{d \ln \sigma'}} d\ln\sigma'

    each integral divided by its value over all levels.  The error of a step h goes as h² times the rate of information,
    and a density of levels in proportion to the root makes the sum of errors least.

    Information is summed over the attributes.  The span is the sampler's highest and lowest level, or None.

    Raises: InputError where the levels of the sampler and of the curves have no common range.
    """
    x, total = np.log(view.sigma), np.sum([view.known(n)[0] for n in names], axis=0)
    if span is not None:
        high, low = min(x[0], math.log(span[0])), max(x[-1], math.log(span[1]))
        if low >= high:
            raise InputError(
                f"the sampler's levels go from {span[1]:.3g} to {span[0]:.3g} and the study's from "
                f"{view.sigma[-1]:.3g} to {view.sigma[0]:.3g}: they do not overlap, so its steps cannot be placed"
            )
        nodes = np.concatenate([[high], x[(x < high) & (x > low)], [low]])
        x, total = nodes, np.interp(nodes[::-1], x[::-1], total[::-1])[::-1]
    root = np.sqrt(np.maximum(-np.gradient(total, x), 0.0))
    gained = np.concatenate([[0.0], np.cumsum(0.5 * (root[1:] + root[:-1]) * -np.diff(x))])
    even = (x[0] - x) / (x[0] - x[-1])
    share = EVEN * even + (1.0 - EVEN) * gained / max(float(gained[-1]), 1e-12)
    return tuple(map(float, np.exp(np.interp(np.linspace(0.0, 1.0, count), share, x))))
