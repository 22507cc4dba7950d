r"""Sums over the items for real-valued attributes of a finite set, known up to a resolution r.

For a draw with the value a and the noisy value :math:`a_r = a + r N`,

.. math:: \frac{p(a_r \mid y)}{p(a_r)} = \frac{\sum_k p(k \mid y)\, K(a_r - a_k)}{\sum_k w_k K(a_r - a_k)},
          \qquad K(d) = e^{-|d|^2 / 2r^2},

and :math:`E[A \mid y] - a = \sum_k p(k \mid y) (a_k - a)`.  So each draw weights the items with numbers of its own:
K, and the differences :math:`a_k - a`, which vanish for the draw's own item and so keep their digits at small sigma.
On a circle K is summed over all turns, and the differences are the cosine, less 1, and the sine of the angle between
a_k and a.  Where few values are distinct, the weights are applied to the posterior of the values instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import InputError, LabelledData, RealAttribute
from sigmascope.exact.common import blocks

MOST_DISTINCT = 128
"""Distinct values up to which the posterior of the values serves for all sums."""
_TURNS = 9.0  # images of a circle further away than so many resolutions are left out: e^-40
_CHUNK = 1 << 17  # numbers of a block of differences, which stay in the cache


@dataclass(frozen=True, eq=False)
class RealPosterior:
    r"""What the noisy values of some draws say of a real-valued attribute, float64.

    Args:
        log_ratio: :math:`\ln p(a_r \mid y) / p(a_r)`; the last level is the limit sigma → 0.
        squared_error: :math:`|a - E[A \mid y]|^2`; on a circle, the square of the wrapped difference of a from the
            direction of :math:`E[e^{iA} \mid y]`.
        log_ceiling: :math:`\ln p(a_r \mid a) / p(a_r)`, whose mean is :math:`I(A_r; A)`.
    """

    log_ratio: Float[Tensor, "levels draws"]
    squared_error: Float[Tensor, "levels draws"]
    log_ceiling: Float[Tensor, " draws"]


def smoothing(a: RealAttribute, apart: Float[Tensor, "*shape columns"]) -> Float[Tensor, "*shape"]:
    r"""The kernel :math:`e^{-|d|^2 / 2r^2}` of differences d; on a circle, summed over all turns."""
    if a.period is None:
        return (-0.5 * (apart / a.resolution).square().sum(-1)).exp()
    d, turns = wrapped(apart[..., 0], a.period), math.ceil(_TURNS * a.resolution / a.period + 0.5)
    total = torch.zeros_like(d)
    for turn in range(-turns, turns + 1):
        total += (-0.5 * ((d + turn * a.period) / a.resolution).square()).exp()
    return total


def log_density(
    a: RealAttribute,
    noisy: Float[Tensor, "draws columns"],
    values: Float[Tensor, "n columns"],
    mass: Float[Tensor, " n"],
) -> Float[Tensor, " draws"]:
    r""":math:`\ln \sum_k w_k K(a_r - a_k)` of noisy values, with weights in proportion to a mass."""
    total = torch.empty(len(noisy), dtype=torch.float64, device=noisy.device)
    for rows in blocks(len(noisy), values.numel(), _CHUNK):
        total[rows] = smoothing(a, noisy[rows, None] - values) @ mass
    return (total / mass.sum()).log()


def wrapped(d: Float[Tensor, "*shape"], period: float) -> Float[Tensor, "*shape"]:
    """Differences on a circle, between minus half and half of the period."""
    return d - period * torch.round(d / period)


def sums_of(data: LabelledData, attribute: RealAttribute) -> int:
    """How many sums of a pass a real-valued attribute needs for each draw and level."""
    distinct = len(torch.unique(data.numbers[attribute.name], dim=0))
    return distinct if distinct <= MOST_DISTINCT else rows_of(attribute)


def rows_of(attribute: RealAttribute) -> int:
    """How many weights each draw gives to an item: the kernel, and one for each difference."""
    return 1 + (len(attribute.columns) if attribute.period is None else 2)


class RealSums:
    """The weights of the items for each draw, and what their sums say.

    Args:
        data: the items, with their numbers.
        attribute: one of the data's real-valued attributes.
        items: the item of each draw.
        noisy: its noisy value :math:`a_r`, float64, shape (draws, columns).
        device: where to compute.

    Attributes:
        codes: the index of each item's value among the distinct ones; None where too many are distinct.
        values: the distinct values, or those of all items.
        rows: how many weights a draw has for each item or value: K, and one for each difference.

    Raises: InputError for draws that are no items.
    """

    def __init__(
        self,
        data: LabelledData,
        attribute: RealAttribute,
        items: Int64[Tensor, " draws"],
        noisy: Float[Tensor, "draws columns"],
        device: torch.device | str = "cpu",
    ) -> None:
        if bool((items < 0).any()):
            raise InputError(
                f"draws from outside the data have no number {attribute.name!r}: pass draws that are items"
            )
        self.attribute = attribute
        numbers = data.numbers[attribute.name].double()
        distinct, codes = torch.unique(numbers, dim=0, return_inverse=True)
        few = len(distinct) <= MOST_DISTINCT
        self.codes = codes.to(device) if few else None
        self.values = (distinct if few else numbers).to(device)
        mass = data.weights.double()
        self._mass = (mass.new_zeros(len(distinct)).index_add_(0, codes, mass) if few else mass).to(device)
        self._own, self._noisy = numbers[items.cpu()].to(device), noisy.double().to(device)
        self.rows = rows_of(attribute)

    def weights(self, rows: slice) -> Float[Tensor, "rows_of_a_draw draws n"]:
        """The weights of some items (or of some of the distinct values), float64."""
        values, a = self.values[rows], self.attribute
        kernel = smoothing(a, self._noisy[:, None] - values)
        if a.period is None:
            return torch.stack([kernel, *(values[:, k] - self._own[:, k, None] for k in range(values.shape[1]))])
        turn = (values[:, 0] - self._own) * (2.0 * math.pi / a.period)
        return torch.stack([kernel, -2.0 * (0.5 * turn).sin().square(), turn.sin()])  # cos x - 1 = -2 sin²(x/2)

    def of_values(self, by_value: Float[Tensor, "levels values draws"]) -> Float[Tensor, "levels rows_of_a_draw draws"]:
        """The weighted sums, from the sums of the masses of the items of each distinct value."""
        return torch.einsum("lvd,fdv->lfd", by_value, self.weights(slice(None)))

    def posterior(
        self, sums: Float[Tensor, "levels rows_of_a_draw draws"], mass: Float[Tensor, "levels draws"]
    ) -> RealPosterior:
        """What the weighted sums and the sum of all masses say."""
        a = self.attribute
        density = log_density(a, self._noisy, self.values, self._mass)
        mean = sums[:, 1:] / mass[:, None]
        if a.period is None:
            squared_error = mean.square().sum(1)
        else:
            squared_error = (torch.atan2(mean[:, 1], 1.0 + mean[:, 0]) * (a.period / (2.0 * math.pi))).square()
        ceiling = smoothing(a, self._noisy - self._own).log() - density
        return RealPosterior((sums[:, 0] / mass).log() - density, squared_error, ceiling)
