r"""A chain of attributes: what each adds to those before it, and the share of each in what all of them say.

.. math:: I(A_1, \dots, A_k; Y_\sigma) = \sum_{i=1}^k I(A_i; Y_\sigma \mid A_1, \dots, A_{i-1})
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sigmascope.core import Curve
from sigmascope.information.pairs import conditional

Subset = tuple[int, ...]
"""Indices of some attributes of a chain, increasing."""


@dataclass(frozen=True, eq=False)
class Density:
    r"""Information that a chain's link gains for each unit of ln σ, over noise levels, in nats, float64."""

    sigma: Float[np.ndarray, " levels"]  # decreasing
    value: Float[np.ndarray, " levels"]
    stderr: Float[np.ndarray, " levels"]


def subsets(count: int) -> Iterator[Subset]:
    """All subsets of so many attributes but the empty one, by their size."""
    for size in range(1, count + 1):
        yield from itertools.combinations(range(count), size)


def links(curves: Mapping[Subset, Curve], names: Sequence[str]) -> list[Curve]:
    r"""The information that each attribute adds to those before it, :math:`I(A_i; Y \mid A_1, \dots, A_{i-1})`.

    Args:
        curves: of the subsets (0,), (0, 1), … of the attributes, exact and on the same draws.
        names: of the attributes, in the order of the chain.

    Returns: a curve for each attribute, the first unconditional; their values add up to those of all attributes. The
        ceiling is :math:`H(A_i \mid A_1, \dots, A_{i-1})`.

    Raises: ValueError if the curves are not on the same draws, or are bounds.
    """
    whole = [curves[tuple(range(i + 1))] for i in range(len(names))]
    later = [conditional(whole[i], whole[i - 1], f"{names[i]} | {', '.join(names[:i])}") for i in range(1, len(names))]
    return [whole[0], *later]


def shapley(curves: Mapping[Subset, Curve], names: Sequence[str]) -> list[Curve]:
    r"""The share of each attribute in the information about all of them: what it adds, averaged over all orders.

    .. math:: \phi_i = \sum_{S \not\ni i} \frac{|S|!\,(k - 1 - |S|)!}{k!}\,
              \left(I(A_{S \cup i}; Y_\sigma) - I(A_S; Y_\sigma)\right)

    Args:
        curves: of every subset of the attributes, exact and on the same draws.
        names: of the attributes.

    Returns: a curve for each attribute; their values add up to those of all attributes. The ceiling is the share of
        the attribute in the entropy of all.

    Cost: 2^k curves.

    References: Shapley (1953).
    """
    count, shares = len(names), []
    whole = curves[tuple(range(count))]
    for i, name in enumerate(names):
        per_draw, ceiling = np.zeros_like(whole.per_draw), 0.0
        for s in [(), *subsets(count)]:
            if i in s:
                continue
            weight = math.factorial(len(s)) * math.factorial(count - 1 - len(s)) / math.factorial(count)
            more = curves[tuple(sorted((*s, i)))]
            per_draw += weight * (more.per_draw - (curves[s].per_draw if s else 0.0))
            ceiling += weight * (more.ceiling - (curves[s].ceiling if s else 0.0))
        shares.append(Curve.of_draws(name, whole.estimator, whole.sigma, per_draw, ceiling))
    return shares


def density(curve: Curve) -> Density:
    r"""The slope :math:`-dI/d\ln\sigma`: where, along the noise levels, information is gained.

    It is the slope of the parabola through three neighbouring levels, for each draw: its error is that of the draws
    and does not hold the curvature beyond the parabola. Over ln σ it integrates to the information.

    Args:
        curve: exact, over three levels or more.
    """
    slope = -np.gradient(curve.per_draw, np.log(curve.sigma), axis=0, edge_order=2)
    return Density(curve.sigma, slope.mean(1), slope.std(1, ddof=1) / math.sqrt(slope.shape[1]))
