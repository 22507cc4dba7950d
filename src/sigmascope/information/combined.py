r"""The best of several lower bounds, chosen on other draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sigmascope.core import Curve, InputError


def best_bound(fits: Sequence[Curve], bounds: Sequence[Curve]) -> Curve:
    r"""At each level the best bound of any estimator at that level or a higher one, or none at all.

    .. math:: I(A; Y_\sigma) \ge I(A; Y_{\sigma'}) \ge b_e(\sigma'), \qquad \sigma' \ge \sigma

    The choice is made on other draws, by their bound less its standard error: the maximum of noisy bounds is biased
    upward, and a noisy one is a poor choice.  Each half of the draws is judged by a choice on the other half and on
    the draws of ``fits``, which weigh as much.

    Args:
        fits: bounds of one abstraction by several estimators, on draws to choose on.
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
    columns = np.zeros_like(first.per_draw)
    half = np.arange(columns.shape[1]) % 2 == 0
    for judged in (half, ~half):
        rest = [b.per_draw[:, ~judged] for b in bounds]
        errors = [np.hypot(f.stderr, r.std(1, ddof=1) / r.shape[1] ** 0.5) for f, r in zip(fits, rest, strict=True)]
        seen = np.stack([f.value + r.mean(1) - e for f, r, e in zip(fits, rest, errors, strict=True)])
        for j in range(len(first.sigma)):
            e, k = divmod(int(seen[:, : j + 1].argmax()), j + 1)
            if seen[e, k] > 0:
                columns[j, judged] = bounds[e].per_draw[k, judged]
    return Curve.of_draws(first.abstraction, "bound", first.sigma, columns, first.ceiling, kind="lower bound")


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
