"""What the passes of the exact filter add up, and what a tile of items brings to it."""

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
"""A logit may be above the shift by this: the square of e^40 fits into float32."""

LOGIT_ERROR = 1e-4
"""Where rounding of the products could reach this in a logit, they are taken again from true differences."""


@dataclass(frozen=True, eq=False)
class Columns:
    """The directions along which each draw has posterior means.

    Items are projected on the mixed directions of a :class:`~sigmascope.exact.finite.sketch.Sketch`.  After the first
    ``few`` of these stands a column of ones, whose mean is the sum of the weights itself.

    Args:
        few: how many directions serve large sigma.
        few_levels: how many leading levels are served by these alone.
        which: columns, the one of ones among them, of which each draw has means; consecutive draws that have the same
            ones are worked on together.  No entries where means are not wanted.
    """

    few: int
    few_levels: int
    which: Int64[Tensor, "draws_or_none directions_and_one_or_none"]

    @property
    def count(self) -> int:
        """How many columns a draw has."""
        return self.which.shape[1]

    @cached_property
    def parts(self) -> list[slice]:
        """The draws, in runs that have means of the same columns."""
        sizes = torch.unique_consecutive(self.which, dim=0, return_counts=True)[1].tolist()
        return [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]


@dataclass(frozen=True, eq=False)
class Given:
    r"""What a pass is given, and every tile of items meets: draws :math:`y = v + \sigma n` at decreasing levels.

    Args:
        v: values of the draws, float32.
        noise: n, standard normal, float32.
        half: :math:`-1/2\sigma^2`, float64.
        inverse: :math:`1/\sigma`, float64.
        heaviest: the largest ln w of all items.
        steady: whether the shift of :class:`Sums` may stay as it is: no logit is large.
        columns: of the posterior means.
    """

    v: Float[Tensor, "draws size"]
    noise: Float[Tensor, "draws size"]
    half: Float[Tensor, " levels"]
    inverse: Float[Tensor, " levels"]
    heaviest: float
    steady: bool
    columns: Columns

    @property
    def levels(self) -> int:
        return len(self.half)


@dataclass(frozen=True, eq=False)
class Reference:
    r"""The item 0 of each draw that logits are relative to: the nearest to v of those seen, so that none is nearer.

    Args:
        distance2: :math:`d_0^2 = \|v - v_0\|^2`, float64; infinite where no item was seen yet.
        along: :math:`s_0 = \langle n, v_0 - v\rangle`, float64.
        own: :math:`\ln w_0`, float64.
    """

    distance2: Float[Tensor, " draws"]
    along: Float[Tensor, " draws"]
    own: Float[Tensor, " draws"]

    def clone(self) -> Reference:
        """The same, with memory of its own."""
        return Reference(self.distance2.clone(), self.along.clone(), self.own.clone())

    def differs(self, other: Reference) -> Tensor:
        """Of which draws another item is the reference."""
        return (self.distance2 != other.distance2) | (self.along != other.along) | (self.own != other.own)


@dataclass(frozen=True, eq=False)
class Sums:
    r"""Sums of :math:`e^{\ell_k - c}` over the items k by class, for every draw and level.

    .. math:: \ell_k = -\frac{d_k^2 - d_0^2}{2\sigma^2} + \frac{s_k - s_0}{\sigma} + \ln\frac{w_k}{w_0}

    Args:
        given: the draws and the levels.
        reference: the items 0.
        shift: c, raised where a logit comes near to what a number can hold, float64; it stays 0 where draws are items
            and weights are alike.
        sums: :math:`\sum_{k \in C} e^{\ell_k - c}` for every class C of every attribute, float64; the last entry is
            the limit sigma → 0, where the nearest items are left.
        squares: :math:`\sum_k e^{2 (\ell_k - c)}`, float64.
        means: :math:`\sum_{k \in C} e^{\ell_k - c} z_k` of the projected items z, one of which is 1 (see
            :class:`Columns`), float64, instead of ``sums`` but for the limit; no entries where means are not wanted.
    """

    given: Given
    reference: Reference
    shift: Float[Tensor, "draws levels"]
    sums: Float[Tensor, "draws columns levels_and_limit"]
    squares: Float[Tensor, "draws levels_and_limit"]
    means: Float[Tensor, "draws columns levels directions_and_one"]

    @classmethod
    def none(cls, given: Given, reference: Reference, classes: int) -> Sums:
        """Nothing added up yet, of so many classes."""
        draws, levels = len(given.v), given.levels
        shapes = (draws, levels), (draws, classes, levels + 1), (draws, levels + 1)
        zeros = [given.half.new_zeros(s) for s in (*shapes, (draws, classes, levels, given.columns.count))]
        return cls(given, reference, *zeros)

    @property
    def dead(self) -> Float[Tensor, " draws"]:
        """The logit without weights below which even the heaviest item is left out."""
        return DEAD - (self.given.heaviest - self.reference.own).clamp_min(0.0)

    @property
    def by_class(self) -> Float[Tensor, "levels_and_limit columns draws"]:
        """The sums, whether kept with means or not."""
        few = self.given.columns.few
        sums = torch.cat([self.means[..., few], self.sums[..., -1:]], 2) if self.means.numel() else self.sums
        return sums.permute(2, 1, 0)

    def held(self) -> dict[str, Tensor]:
        """The tensors that a pass changes."""
        held = vars(self.reference) | {n: getattr(self, n) for n in ("shift", "sums", "squares", "means")}
        return {n: x for n, x in held.items() if x.numel()}

    def empty(self) -> Sums:
        """The same before any item was added, with memory of its own."""
        return Sums.none(self.given, self.reference.clone(), self.sums.shape[1])

    def refer(self, changed: Tensor, new: Reference) -> None:
        r"""Take other reference items.

        .. math:: \ell_k' = \ell_k + \frac{d_0'^2 - d_0^2}{2\sigma^2} - \frac{s_0' - s_0}{\sigma} - \ln\frac{w_0'}{w_0},
                  \qquad c' = c + \ell_k' - \ell_k

        Args:
            changed: of which draws, shape (draws,), bool.
            new: these references, none farther than the old; of other draws, anything.
        """
        draws = torch.nonzero(changed)[:, 0]
        if not len(draws):
            return
        old = self.reference
        first = torch.isinf(old.distance2[draws])  # nothing was added yet
        nearer, step, heavier = (
            torch.where(first, 0.0, x[draws] - y[draws])[:, None]
            for x, y in ((old.distance2, new.distance2), (old.along, new.along), (old.own, new.own))
        )
        self.shift[draws] += nearer * self.given.half + step * self.given.inverse + heavier
        limit = torch.where(nearer == 0.0, heavier, -torch.inf).exp()  # only the nearest are left there
        self.sums[draws, :, -1] *= limit
        self.squares[draws, -1] *= limit[:, 0] ** 2
        for x, y in ((old.distance2, new.distance2), (old.along, new.along), (old.own, new.own)):
            x[draws] = y[draws]

    def raise_to(self, shift: Float[Tensor, "draws levels"]) -> None:
        """Raise the shift, where it is lower."""
        higher = torch.maximum(self.shift, shift)
        scale = (self.shift - higher).exp()
        self.sums[:, :, :-1] *= scale[:, None]
        self.squares[:, :-1] *= scale**2
        if self.means.numel():
            self.means.mul_(scale[:, None, :, None])
        self.shift.copy_(higher)

    def merge(self, other: Sums) -> None:
        """Add what another pass with the same draws has added."""
        self.refer(other.reference.distance2 < self.reference.distance2, other.reference)
        added = (x.clone() for x in (other.shift, other.sums, other.squares, other.means))
        same = Sums(self.given, other.reference.clone(), *added)
        same.refer(self.reference.differs(other.reference), self.reference)
        self.raise_to(same.shift)
        same.raise_to(self.shift)
        for mine, theirs in ((self.sums, same.sums), (self.squares, same.squares), (self.means, same.means)):
            mine.add_(theirs)

    def join(self) -> None:
        """Add up over the ranks of this run."""
        if distributed.world() == 1:
            return
        mine = self.reference
        for theirs in _of_ranks(mine):
            self.refer(theirs.distance2 < mine.distance2, theirs)
        # Of several nearest ones all take that of the first rank that has one.
        nearest = mine.distance2.clone()
        for theirs in reversed(_of_ranks(mine)):
            self.refer(theirs.distance2 == nearest, theirs)
        self.raise_to(distributed.highest(self.shift.clone()))
        for tensor in (self.sums, self.squares, self.means):
            if tensor.numel():
                distributed.add_up(tensor)


def _of_ranks(mine: Reference) -> list[Reference]:
    """The references of every rank, in order."""
    return [Reference(*x) for x in distributed.gathered((mine.distance2, mine.along, mine.own))]


@dataclass(frozen=True, eq=False)
class Tile:
    r"""Items k, and their products with the draws.

    .. math:: d_k^2 - d_0^2 = \|v_k\|^2 - 2\langle v, v_k\rangle + (\|v\|^2 - d_0^2), \qquad
              s_k - s_0 = \langle n, v_k\rangle - (\langle n, v\rangle + s_0),

    with items and v less the centre.

    Args:
        raw: the items as they were read, float32.
        product: of the items with v, the noise and the directions, shape (2 draws + directions, rows).
        norm: :math:`\|v_k\|^2`.
        vv, nv: the brackets, which complete the products.
        weight: :math:`\ln w_k`.
        classes: for each attribute the column of each item's value.
        columns: of the posterior means.
        rounding: size of the products' rounding errors.
    """

    raw: Float[Tensor, "rows size"]
    product: Float[Tensor, "products rows"]
    norm: Float[Tensor, " rows"]
    vv: Float[Tensor, " draws"]
    nv: Float[Tensor, " draws"]
    weight: Float[Tensor, " rows"]
    classes: Int64[Tensor, "rows attributes"]
    columns: Columns
    rounding: float

    @property
    def projected(self) -> Float[Tensor, "rows directions"]:
        return self.product[2 * len(self.vv) :].T

    @cached_property
    def joined(self) -> Float[Tensor, "rows directions_and_one"]:
        """Projected items, and after the first few a one, whose sums are the sums of the weights."""
        z, few = self.product[2 * len(self.vv) :], self.columns.few
        return torch.cat([z[:few], torch.ones_like(z[:1]), z[few:]]).T

    @cached_property
    def joined_by_part(self) -> Float[Tensor, "parts rows directions_and_one"]:
        """The same columns that each part of the draws has means of."""
        joined, c = self.joined.T, self.columns
        return torch.stack([joined.index_select(0, c.which[part.start]).T for part in c.parts])

    def slack(self, half: float) -> float:
        """Bound on what rounding does to a logit: a pair this near to the threshold is kept, so rounding kills none."""
        return -16.0 * self.rounding * half

    def exact_from(self, half: Tensor) -> int:
        """The first level at which rounding could reach the logits."""
        return int((-2.0 * self.rounding * half < LOGIT_ERROR).sum())


@dataclass(frozen=True, eq=False)
class Pairs:
    """Living pairs (row of the tile, draw), their squared distance and noise product relative to the reference."""

    row: Int64[Tensor, " pairs"]
    draw: Int64[Tensor, " pairs"]
    distance2: Float[Tensor, " pairs"]
    along: Float[Tensor, " pairs"]

    @classmethod
    def of(cls, tile: Tile, row: Tensor, draw: Tensor) -> Pairs:
        """From the products."""
        draws = len(tile.vv)
        distance2 = (tile.norm[row] + tile.vv[draw] - 2.0 * tile.product[draw, row]).clamp_min_(0.0)
        return cls(row, draw, distance2.double(), (tile.product[draws + draw, row] - tile.nv[draw]).double())

    def __len__(self) -> int:
        return len(self.row)

    def keep(self, mask: Tensor) -> Pairs:
        kept = torch.nonzero(mask)[:, 0]
        return Pairs(*(x.index_select(0, kept) for x in (self.row, self.draw, self.distance2, self.along)))

    def relative(self, reference: Reference) -> Pairs:
        """The same pairs relative to the reference, where they were relative to v itself."""
        distance2, along = reference.distance2[self.draw], reference.along[self.draw]
        return Pairs(self.row, self.draw, self.distance2 - distance2, self.along - along)

    def logit(self, half: float, inverse: float) -> Float[Tensor, " pairs"]:
        """Without weights."""
        return self.distance2 * half + self.along * inverse


class TooMany(Exception):
    """More pairs live where rounding reaches the logits than a list is made for.

    Args:
        level: from which on they are left.
    """

    def __init__(self, level: int) -> None:
        super().__init__("too many pairs live")
        self.level = level
