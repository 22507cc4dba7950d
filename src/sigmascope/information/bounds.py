r"""Lower bounds from many classifiers of held-out draws, and the best of several lower bounds.

.. math:: I(A; Y_\sigma) \ge E\left[\ln q(a \mid y) - \ln p(a)\right]

for any classifier q that was made from other draws (Barber & Agakov 2003).  Adding noise cannot add information, so a
bound at :math:`\sigma' \ge \sigma` is one at :math:`\sigma`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from sigmascope.core import Attribute, Curve, InputError

_SURELY = 2.0  # standard errors of a paired difference
_PRIOR_SHARES = (1e-4, 1e-3, 1e-2, 0.05, 0.2)


def heldout_bound(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    level: Sequence[int],
    probability: Float[np.ndarray, "classifiers draws"],
    own: Int[np.ndarray, " draws"],
) -> Curve:
    r"""The best of many classifiers at each level, chosen on other draws than those that measure it.

    Candidates at a level are all classifiers of that level or of a higher one, each mixed with a share of the prior
    (so that no probability is zero), and the prior itself, whose bound is zero.  Draws are split in two, and each half
    chooses for the other, since the maximum of noisy bounds is biased upward.  As sigma falls, the choice changes only
    for a gain of more than two standard errors.

    Args:
        attribute: A, with the population's prior.
        sigma: decreasing levels.
        level: for each classifier, the index of the noise level at which it reads y.
        probability: q(a | y) at the true label of each draw.
        own: index of the true label of each draw.

    Returns: Curve of kind ``lower bound``; its standard error is that of the mean over draws at the choices made.

    References: Barber & Agakov (2003).
    """
    prior = attribute.prior.numpy()[own]
    gains = np.concatenate([np.log((1 - e) * probability / prior + e) for e in _PRIOR_SHARES])
    levels = np.tile(np.asarray(level), len(_PRIOR_SHARES))
    half = np.arange(len(own)) % 2 == 0
    per_draw = np.zeros((len(sigma), len(own)))
    for judged in (half, ~half):
        chosen = np.zeros(len(own))  # the prior's gain
        for j in range(len(sigma)):
            candidates = gains[levels == j]
            best = candidates[candidates[:, ~judged].mean(1).argmax()] if len(candidates) else chosen
            rise = (best - chosen)[~judged]
            if rise.mean() > 2 * rise.std(ddof=1) / np.sqrt(len(rise)):
                chosen = best
            per_draw[j, judged] = chosen[judged]
    return Curve.of_draws(attribute.name, "heldout", sigma, per_draw, attribute.entropy, kind="lower bound")


def best_bound(fits: Sequence[Curve], bounds: Sequence[Curve]) -> Curve:
    r"""At each level the best bound of any estimator at that level or a higher one, or none at all.

    .. math:: I(A; Y_\sigma) \ge I(A; Y_{\sigma'}) \ge b_e(\sigma'), \qquad \sigma' \ge \sigma

    The choice is made on other draws, since the maximum of noisy bounds is biased upward, and by the bound less its
    standard error, since a noisy bound is a poor choice.  Both halves of the draws use the choice of ``fits``.  A half
    uses another one only where ``fits`` and the other half together show it to be better by two standard errors of the
    paired difference; if each half followed its own noise, the result would be worse than either choice.

    Args:
        fits, bounds: bounds of one attribute by the same estimators over the same levels, on draws to choose on and on
            other draws.

    Returns: Curve of kind ``lower bound``, named ``bound``; 0 where no bound is surely above 0.

    Raises: InputError where the curves are not over the same levels, or of fewer than 4 draws.
    """
    if not bounds or len(fits) != len(bounds):
        raise InputError(
            f"{len(fits)} bounds to choose on and {len(bounds)} bounds came: pass as many of each, 1 or more"
        )
    first = bounds[0]
    if any(not np.array_equal(c.sigma, first.sigma) for c in (*fits, *bounds)):
        raise InputError("the bounds are over different levels: pass bounds over the same")
    if first.per_draw.shape[1] < 4:
        raise InputError(
            f"bounds of {first.per_draw.shape[1]} draws came: pass 4 or more, one half chooses for the other"
        )
    columns, allowance = np.zeros_like(first.per_draw), np.zeros(len(first.sigma))
    half = np.arange(columns.shape[1]) % 2 == 0
    fitted = np.stack([f.per_draw for f in fits])
    common = np.stack([f.value - f.stderr for f in fits])
    for judged in (half, ~half):
        evidence = _Evidence(fits, fitted, np.stack([b.per_draw[:, ~judged] for b in bounds]))
        for j in range(len(first.sigma)):
            chosen = _highest(common[:, : j + 1])
            rival = _highest(evidence.least[:, : j + 1])
            if rival != chosen and (evidence.least[chosen] <= 0 or evidence.surely(rival, chosen)):
                chosen = rival
            if evidence.least[chosen] > 0:
                e, k = chosen
                columns[j, judged] = bounds[e].per_draw[k, judged]
                extra = bounds[e].quadrature_error
                allowance[j] += 0.0 if extra is None else 0.5 * extra[k]
    # Columns may be means of many draws: the allowance for rare losses is that of the bounds, which hold their number.
    best = Curve.of_draws(first.attribute, "bound", first.sigma, columns, first.ceiling, kind="lower bound")
    return replace(best, quadrature_error=allowance)


class _Evidence:
    """The draws to choose on and the other half together, with equal weights; ``least`` is the bound less its error."""

    def __init__(
        self,
        fits: Sequence[Curve],
        fitted: Float[np.ndarray, "estimators levels fitted"],
        half: Float[np.ndarray, "estimators levels half"],
    ) -> None:
        self._fitted, self._half = fitted, half
        value, error = np.stack([f.value for f in fits]), np.stack([f.stderr for f in fits])
        self.least = 0.5 * (value + half.mean(2) - np.hypot(error, half.std(2, ddof=1) / half.shape[2] ** 0.5))

    def surely(self, rival: tuple[int, int], chosen: tuple[int, int]) -> bool:
        """Whether the rival is better by two standard errors of the paired difference."""
        gain, variance = float(self.least[rival] - self.least[chosen]), 0.0
        for draws in (self._fitted, self._half):
            difference = draws[rival] - draws[chosen]
            variance += 0.25 * float(difference.var(ddof=1)) / len(difference)
        return bool(gain > _SURELY * variance**0.5)


def _highest(table: Float[np.ndarray, "estimators levels"]) -> tuple[int, int]:
    e, k = divmod(int(table.argmax()), table.shape[1])
    return e, k


def grouped(curve: Curve, groups: int) -> Curve:
    """The same curve with its draws averaged in 2 or more groups of equal size, which are its columns.

    Raises: InputError where the number of groups does not divide the draws.
    """
    levels, draws = curve.per_draw.shape
    if groups < 2 or draws % groups:
        raise InputError(
            f"{draws} draws in {groups} groups came: pass 2 or more groups, and a multiple of them as draws"
        )
    columns = curve.per_draw.reshape(levels, groups, -1).mean(2)
    stderr = columns.std(1, ddof=1) / groups**0.5
    return replace(curve, per_draw=columns, stderr=stderr)
