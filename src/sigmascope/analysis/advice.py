r"""What advice is read off: curves of one law with their resamples, and the levels at which they say what to do.

I is the information about an attribute A, :math:`I_0` what a clean image tells of it (H(A), or less where equal images
carry different labels), :math:`P_{keep}` the probability that a redraw from a level keeps A, and :math:`P_{sure}` that
the likeliest label there is the final one (:mod:`sigmascope.information.keeping`).  Where bounds of I alone are known,
:math:`e^{I - H}` stands for both, which are at least that: advice is then on the safe side.
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
"""Share of a window that is left out at each of its ends; of a sampler's levels, the share that is even in ln σ."""
_GROUPS = 4096
_MOVED = 2  # use of a seed

Rising = Float[np.ndarray, "resamples levels"]


class View:
    """Curves of one law, over resamples of their draws.

    Args:
        curves: of each attribute, over the same levels and draws.
        whole: what a clean image tells of each, nats.
        kept: under ``kept`` and ``sure``, the probability that a redraw keeps each attribute, and that it can be read
            off, for each draw; empty where only their bound e^(I − H) is known.
        law: of what they are true.
        seed: of the resampling.

    Raises: InputError for a curve that has no number at some levels.
    """

    def __init__(
        self,
        curves: Mapping[str, Curve],
        whole: Mapping[str, float],
        kept: Mapping[str, Mapping[str, Float[np.ndarray, "levels draws"]]],
        law: str,
        seed: int,
    ) -> None:
        self.curves, self.whole, self._kept, self.law, self._seed = curves, whole, kept, law, seed
        self.bounded = "kept" not in kept  # whether what is kept is known by a bound only
        first = next(iter(curves.values()))
        for name, c in curves.items():
            if not np.isfinite(c.per_draw).all():
                said = f"{shown(first.estimator)} of {shown(name)!r}"
                raise InputError(f"{said} has no number at some levels: choose another --estimator")
        self.estimator, self.sigma, self.lower = first.estimator, first.sigma, first.kind == "lower bound"
        draws = first.per_draw.shape[1]
        # Very many draws are resampled in groups, whose mean has the same variance.
        self._starts = np.linspace(0, draws, min(draws, _GROUPS), endpoint=False).astype(np.int64)
        groups = len(self._starts)
        drawn = onset.counts_of(np.random.default_rng(seed), groups, onset.RESAMPLES_OF_ADVICE)
        counts = np.concatenate([np.ones((1, groups)), drawn])
        self._shares = counts / (counts @ np.diff(self._starts, append=draws))[:, None]
        self._found: dict[tuple[str, str], Rising] = {}

    def known(self, name: str) -> Rising:
        """I of an attribute, over resamples (the first: the estimate), rising as the noise falls."""
        if (name, "known") not in self._found:
            self._found[name, "known"] = self._informed(self.curves[name])
        return self._found[name, "known"]

    def _informed(self, c: Curve) -> Rising:
        return rising(moved(c, self._mean(c.per_draw)[1:], mover(c, self._seed)))

    def keeping(self, name: str, which: str = "kept") -> Rising:
        """The probability that it is kept, or (``sure``) can be read off; or what it is at least."""
        if (name, which) not in self._found:
            self._found[name, which] = self._keeping(name, which)
        return self._found[name, which]

    def _keeping(self, name: str, which: str) -> Rising:
        for found in (which, "kept"):
            if found in self._kept:
                return self._chance(self._kept[found][name])
        c = self.curves[name]
        if c.kind != "lower bound" and c.estimator in ("posterior", "forks"):
            return self._chance(kept_at_least(c.per_draw, c.ceiling))
        return kept_at_least(self.known(name), c.ceiling)

    def _chance(self, per_draw: Float[np.ndarray, "levels draws"]) -> Rising:
        """The mean of a probability over draws, then of each resample, with what few draws may have missed."""
        means = self._mean(per_draw)
        rng = np.random.default_rng([self._seed, _MOVED])
        return rising(np.concatenate([means[:1], onset.towards_tail(means[1:], tail_allowance(per_draw), rng)]))

    def _mean(self, per_draw: Float[np.ndarray, "levels draws"]) -> Rising:
        return self._shares @ np.add.reduceat(per_draw, self._starts, axis=1).T

    def _reached(self, curves: Rising, target: float) -> Quantity:
        return onset.quantity(onset.crossings(np.log(self.sigma), curves, target), self._shares.shape[1])

    def window(self, name: str) -> tuple[Quantity, Quantity]:
        r"""Between which levels an attribute is decided.

        .. math:: I(A; Y_{high}) = .05\, I_0, \qquad I(A; Y_{low}) = .95\, I_0
        """
        known, whole = self.known(name), self.whole[name]
        return self._reached(known, EDGE * whole), self._reached(known, (1.0 - EDGE) * whole)

    def half(self, name: str, other: Curve | None = None) -> Quantity:
        """Where :math:`I = I_0 / 2`, by the curve of an attribute or by another one of the same draws."""
        known = self.known(name) if other is None else self._informed(other)
        return self._reached(known, 0.5 * self.whole[name])

    def kept_from(self, name: str, probability: float, which: str = "kept") -> Quantity:
        r"""The highest level from which an attribute is kept (or can be read off) with a probability p.

        .. math:: \max\{\sigma: P_{keep}(\sigma) \ge p\}
        """
        return self._reached(self.keeping(name, which), probability)

    def redrawn(self, name: str, sigma: float) -> tuple[float, float]:
        """:math:`1 - P_{keep}`: how often a redraw from a level changes an attribute, and its standard error."""
        value, error = self.at(self.keeping(name), sigma)
        return 1.0 - value, error

    def at(self, curves: Rising, sigma: float) -> tuple[float, float]:
        """The value of a curve at a level, perhaps between two studied ones, and its standard error."""
        x, at = np.log(self.sigma), math.log(sigma)
        k = int(np.clip(np.searchsorted(-x, -at, side="right"), 1, len(x) - 1))  # the first level below
        share = float(np.clip((x[k - 1] - at) / (x[k - 1] - x[k]), 0.0, 1.0))
        values = (1.0 - share) * curves[:, k - 1] + share * curves[:, k]
        return float(values[0]), float(values[1:].std(ddof=1))


def sampler_levels(
    view: View, names: Sequence[str], count: int, span: tuple[float, float] | None = None
) -> tuple[float, ...]:
    r"""Levels of a first-order sampler (DDIM, Euler), near to each other where attributes are decided.

    They lie at equal shares of

    .. math:: .2 \ln\frac{\sigma_{first}}{\sigma} + .8 \int_\sigma \sqrt{-\frac{d \Sigma I}{d \ln \sigma'}} d\ln\sigma'

    each term over its whole.  A step h errs as h² times the rate of information, and density in proportion to the root
    makes the sum least.

    Args:
        view: the curves.
        names: the attributes over which information is summed.
        count: of levels.
        span: highest and lowest level that the sampler has; None: those of the curves.

    Raises: InputError where the sampler has none of the levels of the curves.
    """
    x, total = np.log(view.sigma), np.sum([view.known(n)[0] for n in names], axis=0)
    if span is not None:
        high, low = min(x[0], math.log(span[0])), max(x[-1], math.log(span[1]))
        if low >= high:
            raise InputError(
                f"the sampler's levels go from {span[1]:.3g} to {span[0]:.3g} and the study's from "
                f"{view.sigma[-1]:.3g} to {view.sigma[0]:.3g}: none is common, so its steps cannot be placed"
            )
        kept = np.concatenate([[high], x[(x < high) & (x > low)], [low]])
        x, total = kept, np.interp(kept[::-1], x[::-1], total[::-1])[::-1]
    root = np.sqrt(np.maximum(-np.gradient(total, x), 0.0))
    gained = np.concatenate([[0.0], np.cumsum(0.5 * (root[1:] + root[:-1]) * -np.diff(x))])
    even = (x[0] - x) / (x[0] - x[-1])
    share = EVEN * even + (1.0 - EVEN) * gained / max(float(gained[-1]), 1e-12)
    return tuple(map(float, np.exp(np.interp(np.linspace(0.0, 1.0, count), share, x))))
