"""The sums that the passes of the exact filter add up, and the contribution of a tile of items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from jaxtyping import Float, Int64
from torch import Tensor

import sigmascope.distributed as distributed

DEAD = -40.0
"""Pairs whose logit is below this, whatever their weight, are left out: a mass of at most e^-40 each."""

ROOM = 40.0
"""How far a logit may be above the shift: the square of e^40 fits into float32."""

LOGIT_ERROR = 1e-4
"""Where rounding of the products could reach this in a logit, the pair is computed again from true differences."""


@dataclass(frozen=True, eq=False)
class MeanColumns:
    """The directions along which each draw has posterior means.

    Items are projected on the mixed directions of a :class:`~sigmascope.exact.finite.sketch.Sketch`.  After the first
    ``coarse`` of these stands a column of ones, whose mean is the sum of the weights.

    Args:
        coarse: how many directions serve large sigma.
        coarse_levels: how many leading levels use only these.
        index: the columns of each draw, that of ones among them; empty where no means are computed.  Consecutive draws
            with the same columns are handled together.
    """

    coarse: int
    coarse_levels: int
    index: Int64[Tensor, "draws_or_none directions_and_one_or_none"]

    @property
    def count(self) -> int:
        """The number of columns of a draw."""
        return self.index.shape[1]

    @cached_property
    def parts(self) -> list[slice]:
        """The runs of draws with the same columns."""
        sizes = torch.unique_consecutive(self.index, dim=0, return_counts=True)[1].tolist()
        return [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]


@dataclass(frozen=True, eq=False)
class Inputs:
    r"""The draws :math:`y = v + \sigma n` of a pass at decreasing levels.

    Args:
        v: values of the draws, float32.
        noise: n, standard normal, float32.
        half: :math:`-1/2\sigma^2`, float64.
        inverse: :math:`1/\sigma`, float64.
        largest_log_weight: the largest ln w of all items.
        steady: whether no logit is large, so that the shift of :class:`Sums` stays 0.
        means: the columns of the posterior means.
    """

    v: Float[Tensor, "draws size"]
    noise: Float[Tensor, "draws size"]
    half: Float[Tensor, " levels"]
    inverse: Float[Tensor, " levels"]
    largest_log_weight: float
    steady: bool
    means: MeanColumns

    @property
    def levels(self) -> int:
        return len(self.half)


@dataclass(frozen=True, eq=False)
class Reference:
    r"""The item 0 of each draw to which logits are relative: the nearest to v among those added so far.

    Args:
        distance2: :math:`d_0^2 = \|v - v_0\|^2`, float64; infinite before the first item.
        along: :math:`s_0 = \langle n, v_0 - v\rangle`, float64.
        log_weight: :math:`\ln w_0`, float64.
    """

    distance2: Float[Tensor, " draws"]
    along: Float[Tensor, " draws"]
    log_weight: Float[Tensor, " draws"]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.distance2, self.along, self.log_weight

    def clone(self) -> Reference:
        return Reference(*(x.clone() for x in self.tensors()))


@dataclass(frozen=True, eq=False)
class Sums:
    r"""Sums of :math:`e^{\ell_k - c}` over the items k by class, for every draw and level.

    .. math:: \ell_k = -\frac{d_k^2 - d_0^2}{2\sigma^2} + \frac{s_k - s_0}{\sigma} + \ln\frac{w_k}{w_0}

    Args:
        inputs: the draws and the levels.
        reference: the items 0.
        shift: c, raised where a logit approaches the largest that a number can hold, float64; it stays 0 where draws
            are items of similar weights.
        sums: :math:`\sum_{k \in C} e^{\ell_k - c}` for every class C of every attribute, float64; the last entry is
            the limit sigma → 0, to which only the nearest items contribute.
        squares: :math:`\sum_k e^{2 (\ell_k - c)}`, float64.
        means: :math:`\sum_{k \in C} e^{\ell_k - c} z_k` of the projected items z, one of which is 1 (see
            :class:`MeanColumns`), float64; it replaces ``sums`` except for the limit.  Empty without means.
        weighted: :math:`\sum_k e^{\ell_k - c} g_k` for the weights g that each draw gives to the items, float64; the
            last entry is the limit.
    """

    inputs: Inputs
    reference: Reference
    shift: Float[Tensor, "draws levels"]
    sums: Float[Tensor, "draws columns levels_and_limit"]
    squares: Float[Tensor, "draws levels_and_limit"]
    means: Float[Tensor, "draws columns levels directions_and_one"]
    weighted: Float[Tensor, "draws weights levels_and_limit"]

    @classmethod
    def zeros(cls, inputs: Inputs, reference: Reference, classes: int, weights: int = 0) -> Sums:
        """Sums of so many classes, and with so many weights of each draw, to which nothing is added yet."""
        draws, levels = len(inputs.v), inputs.levels
        means = (draws, classes, levels, inputs.means.count)
        shapes = (draws, levels), (draws, classes, levels + 1), (draws, levels + 1), means, (draws, weights, levels + 1)
        return cls(inputs, reference, *(inputs.half.new_zeros(s) for s in shapes))

    @property
    def threshold(self) -> Float[Tensor, " draws"]:
        """The logit without weights below which even the item of largest weight is left out."""
        return DEAD - (self.inputs.largest_log_weight - self.reference.log_weight).clamp_min(0.0)

    @property
    def by_class(self) -> Float[Tensor, "levels_and_limit columns draws"]:
        """The sums, from the means where there are means."""
        coarse = self.inputs.means.coarse
        sums = torch.cat([self.means[..., coarse], self.sums[..., -1:]], 2) if self.means.numel() else self.sums
        return sums.permute(2, 1, 0)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a pass changes, by name."""
        tensors = vars(self.reference) | {
            n: getattr(self, n) for n in ("shift", "sums", "squares", "means", "weighted")
        }
        return {n: x for n, x in tensors.items() if x.numel()}

    def empty(self) -> Sums:
        """Empty sums for the same draws, with memory of their own."""
        return Sums.zeros(self.inputs, self.reference.clone(), self.sums.shape[1], self.weighted.shape[1])

    def change_reference(self, changed: Tensor, new: Reference) -> None:
        r"""Make the sums relative to other reference items.

        .. math:: \ell_k' = \ell_k + \frac{d_0'^2 - d_0^2}{2\sigma^2} - \frac{s_0' - s_0}{\sigma} - \ln\frac{w_0'}{w_0},
                  \qquad c' = c + \ell_k' - \ell_k

        for the draws of the mask ``changed``; no new reference may be farther than the old one.
        """
        draws = torch.nonzero(changed)[:, 0]
        if not len(draws):
            return
        first = torch.isinf(self.reference.distance2[draws])  # nothing is added yet
        references = list(zip(self.reference.tensors(), new.tensors(), strict=True))
        steps = [torch.where(first, 0.0, old[draws] - other[draws])[:, None] for old, other in references]
        self.shift[draws] += steps[0] * self.inputs.half + steps[1] * self.inputs.inverse + steps[2]
        limit = torch.where(steps[0] == 0.0, steps[2], -torch.inf).exp()  # the limit keeps the nearest items only
        self.sums[draws, :, -1] *= limit
        self.weighted[draws, :, -1] *= limit
        self.squares[draws, -1] *= limit[:, 0] ** 2
        for old, other in references:
            old[draws] = other[draws]

    def raise_to(self, shift: Float[Tensor, "draws levels"]) -> None:
        """Raise the shift where it is lower."""
        higher = torch.maximum(self.shift, shift)
        scale = (self.shift - higher).exp()
        self.sums[:, :, :-1] *= scale[:, None]
        self.weighted[:, :, :-1] *= scale[:, None]
        self.squares[:, :-1] *= scale**2
        if self.means.numel():
            self.means.mul_(scale[:, None, :, None])
        self.shift.copy_(higher)

    def merge(self, other: Sums) -> None:
        """Add the sums of another worker with the same draws."""
        self.change_reference(other.reference.distance2 < self.reference.distance2, other.reference)
        added = (x.clone() for x in (other.shift, other.sums, other.squares, other.means, other.weighted))
        same = Sums(self.inputs, other.reference.clone(), *added)
        references = zip(self.reference.tensors(), other.reference.tensors(), strict=True)
        same.change_reference(torch.stack([a != b for a, b in references]).any(0), self.reference)
        self.raise_to(same.shift)
        same.raise_to(self.shift)
        for name in ("sums", "squares", "means", "weighted"):
            getattr(self, name).add_(getattr(same, name))

    def join(self) -> None:
        """Add up over the ranks of this run."""
        if distributed.world() == 1:
            return
        reference = self.reference
        for other in _of_ranks(reference):
            self.change_reference(other.distance2 < reference.distance2, other)
        # Where several ranks have an equally near item, all take that of the first.
        nearest = reference.distance2.clone()
        for other in reversed(_of_ranks(reference)):
            self.change_reference(other.distance2 == nearest, other)
        self.raise_to(distributed.highest(self.shift.clone()))
        for tensor in (self.sums, self.squares, self.means, self.weighted):
            if tensor.numel():
                distributed.add_up(tensor)


def _of_ranks(reference: Reference) -> list[Reference]:
    """The references of every rank, in order."""
    return [Reference(*x) for x in distributed.gathered(reference.tensors())]


@dataclass(frozen=True, eq=False)
class Tile:
    r"""Items k, and their products with the draws.

    .. math:: d_k^2 - d_0^2 = \|v_k\|^2 - 2\langle v, v_k\rangle + (\|v\|^2 - d_0^2), \qquad
              s_k - s_0 = \langle n, v_k\rangle - (\langle n, v\rangle + s_0),

    with items and v less the centre.

    Args:
        raw: the items as they were read, float32.
        product: of the items with v, the noise and the directions, shape (2 draws + directions, rows).
        square: :math:`\|v_k\|^2`.
        v_term, noise_term: the brackets.
        log_weight: :math:`\ln w_k`.
        classes: for each attribute the column of each item's value.
        means: the columns of the posterior means.
        rounding: size of the products' rounding errors.
        weights: that each draw gives to the items, float64; see :attr:`Sums.weighted`.
    """

    raw: Float[Tensor, "rows size"]
    product: Float[Tensor, "products rows"]
    square: Float[Tensor, " rows"]
    v_term: Float[Tensor, " draws"]
    noise_term: Float[Tensor, " draws"]
    log_weight: Float[Tensor, " rows"]
    classes: Int64[Tensor, "rows attributes"]
    means: MeanColumns
    rounding: float
    weights: Float[Tensor, "weights draws rows"]

    @property
    def projected(self) -> Float[Tensor, "rows directions"]:
        return self.product[2 * len(self.v_term) :].T

    @cached_property
    def with_one(self) -> Float[Tensor, "rows directions_and_one"]:
        """Projected items, with a column of ones after the first few, whose sums are the sums of the weights."""
        z, coarse = self.product[2 * len(self.v_term) :], self.means.coarse
        return torch.cat([z[:coarse], torch.ones_like(z[:1]), z[coarse:]]).T

    @cached_property
    def with_one_by_part(self) -> Float[Tensor, "parts rows directions_and_one"]:
        """The columns that each part of the draws has means of."""
        columns, c = self.with_one.T, self.means
        return torch.stack([columns.index_select(0, c.index[part.start]).T for part in c.parts])

    def slack(self, half: float) -> float:
        """Bound on the rounding of a logit: a pair this near to the threshold is kept, so that rounding drops none."""
        return -16.0 * self.rounding * half

    def exact_from(self, half: Tensor) -> int:
        """The first level at which rounding could reach the logits."""
        return int((-2.0 * self.rounding * half < LOGIT_ERROR).sum())


@dataclass(frozen=True, eq=False)
class LivePairs:
    """A list of pairs (row of the tile, draw) whose logit is above the threshold.

    Args:
        row, draw: the pairs.
        distance2: squared distance of the item to v, less that of the reference.
        along: product of the noise with the item less v, less that of the reference.
    """

    row: Int64[Tensor, " pairs"]
    draw: Int64[Tensor, " pairs"]
    distance2: Float[Tensor, " pairs"]
    along: Float[Tensor, " pairs"]

    @classmethod
    def from_products(cls, tile: Tile, row: Tensor, draw: Tensor) -> LivePairs:
        draws = len(tile.v_term)
        distance2 = (tile.square[row] + tile.v_term[draw] - 2.0 * tile.product[draw, row]).clamp_min_(0.0)
        return cls(row, draw, distance2.double(), (tile.product[draws + draw, row] - tile.noise_term[draw]).double())

    def __len__(self) -> int:
        return len(self.row)

    def keep(self, mask: Tensor) -> LivePairs:
        kept = torch.nonzero(mask)[:, 0]
        return LivePairs(*(x.index_select(0, kept) for x in (self.row, self.draw, self.distance2, self.along)))

    def relative(self, reference: Reference) -> LivePairs:
        """The same pairs relative to the reference, from pairs relative to v itself."""
        distance2, along = reference.distance2[self.draw], reference.along[self.draw]
        return LivePairs(self.row, self.draw, self.distance2 - distance2, self.along - along)

    def logit(self, half: float, inverse: float) -> Float[Tensor, " pairs"]:
        """The logits without weights."""
        return self.distance2 * half + self.along * inverse
