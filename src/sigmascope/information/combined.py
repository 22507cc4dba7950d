r"""The best of several lower bounds, chosen on other draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from sigmascope.core import Curve, InputError

_SURELY = 2.0  # standard errors of a paired difference


def best_bound(fits: Sequence[Curve], bounds: Sequence[Curve]) -> Curve:
    r"""At each level the best bound of any estimator at that level or a higher one, or none at all.

    .. math:: I(A; Y_\sigma) \ge I(A; Y_{\sigma'}) \ge b_e(\sigma'), \qquad \sigma' \ge \sigma

    The choice is made on other draws, by their bound less its standard error: the maximum of noisy bounds is biased
    upward, and a noisy one is a poor choice.  One choice by ``fits`` serves both halves of the draws.  A half leaves it
    only for one that ``fits`` and the other half together show to be better by two standard errors of their paired
    difference: two halves that each follow their own noise would end at a worse bound than either knows of.

    Args:
        fits: bounds of one attribute by several estimators, on draws to choose on.
        bounds: the same estimators' bounds on other draws, in the same order, over the same levels and draws.

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
        seen = _Evidence(fits, fitted, np.stack([b.per_draw[:, ~judged] for b in bounds]))
        for j in range(len(first.sigma)):
            chosen = _highest(common[:, : j + 1])
            rival = _highest(seen.least[:, : j + 1])
            if rival != chosen and (seen.least[chosen] <= 0 or seen.surely(rival, chosen)):
                chosen = rival
            if seen.least[chosen] > 0:
                e, k = chosen
                columns[j, judged] = bounds[e].per_draw[k, judged]
                extra = bounds[e].quadrature_error
                allowance[j] += 0.0 if extra is None else 0.5 * extra[k]
    # Columns may be means of many draws: what allows for rare losses is taken from the bounds, which know how many.
    best = Curve.of_draws(first.attribute, "bound", first.sigma, columns, first.ceiling, kind="lower bound")
    return replace(best, quadrature_error=allowance)


class _Evidence:
    """What the draws to choose on and the other half say together; they weigh as much.

    Attributes:
        least: bound less its standard error, shape (estimators, levels).
    """

    def __init__(
        self,
        fits: Sequence[Curve],
        fitted: Float[np.ndarray, "estimators levels fitted"],
        rest: Float[np.ndarray, "estimators levels rest"],
    ) -> None:
        self._fitted, self._rest = fitted, rest
        value, error = np.stack([f.value for f in fits]), np.stack([f.stderr for f in fits])
        other = rest.std(2, ddof=1) / rest.shape[2] ** 0.5
        self.least = 0.5 * (value + rest.mean(2) - np.hypot(error, other))

    def surely(self, one: tuple[int, int], other: tuple[int, int]) -> bool:
        """Whether one is better than another by more than their paired difference leaves to chance."""
        gain, variance = float(self.least[one] - self.least[other]), 0.0
        for draws in (self._fitted, self._rest):
            apart = draws[one] - draws[other]
            variance += 0.25 * float(apart.var(ddof=1)) / len(apart)
        return gain > _SURELY * variance**0.5


def _highest(table: Float[np.ndarray, "estimators levels"]) -> tuple[int, int]:
    e, k = divmod(int(table.argmax()), table.shape[1])
    return e, k


def grouped(curve: Curve, groups: int) -> Curve:
    """The same curve with its draws averaged in groups of equal size: as many independent columns.

    Args:
        curve: of draws whose number ``groups`` divides.
        groups: how many, at least 2.

    Raises: InputError where it does not divide.
    """
    levels, draws = curve.per_draw.shape
    if groups < 2 or draws % groups:
        raise InputError(f"{draws} draws in {groups} groups: pass a multiple of the number of groups, at least 2")
    columns = curve.per_draw.reshape(levels, groups, -1).mean(2)
    stderr = columns.std(1, ddof=1) / groups**0.5
    return replace(curve, per_draw=columns, stderr=stderr)
