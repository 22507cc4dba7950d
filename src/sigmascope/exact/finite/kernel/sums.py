"""What the passes of the exact filter add up, and what a tile of items brings to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
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
class Sums:
    r"""Sums of :math:`e^{\ell - c}` by class, with :math:`\ell` relative to a reference item of each draw.

    Args:
        v: values of the draws, float32, shape (draws, size).
        noise: standard normal, float32, shape (draws, size).
        centre: subtracted from items before products, float32, shape (size,).
        half, inverse: :math:`-1/2\sigma^2` and :math:`1/\sigma` of decreasing levels, float64, shape (levels,).
        own: ln w of the draws' reference items, float64, shape (draws,).
        distance2, along: :math:`\|v - v_0\|^2` and :math:`\langle n, v_0 - v\rangle` of the reference item 0, float64,
            shape (draws,); the item nearest to v of those seen, so that no other one is nearer.
        shift: c, raised where a logit comes near to what a number can hold, float64, shape (draws, levels); it stays 0
            where draws are items and weights are alike.
        sums: :math:`\sum_{k \in C} e^{\ell_k - c}` for every class C of every abstraction, float64, shape
            (draws, columns, levels + 1); the last entry is the limit sigma → 0, where the nearest items are left.
        squares: :math:`\sum_k e^{2 (\ell_k - c)}`, float64, shape (draws, levels + 1).
        means: :math:`\sum_{k \in C} e^{\ell_k - c} (z_k, 1)` of the projected items z, with the one after the first
            ``few``, float64, shape (draws, columns, levels, directions + 1), instead of ``sums`` but for the limit; no
            entries where means are not wanted.
        few, few_levels: at that many leading levels, directions beyond the first ``few`` are left out.
        heaviest: the largest ln w of all items.
        steady: whether the shift may stay as it is: no logit is large.
        which: columns of :attr:`Tile.joined` of which each draw has means, shape (draws, directions + 1); consecutive
            draws that have the same ones are worked on together.  No entries where means are not wanted.
    """

    v: Float[Tensor, "draws size"]
    noise: Float[Tensor, "draws size"]
    centre: Float[Tensor, " size"]
    half: Float[Tensor, " levels"]
    inverse: Float[Tensor, " levels"]
    own: Float[Tensor, " draws"]
    distance2: Float[Tensor, " draws"]
    along: Float[Tensor, " draws"]
    shift: Float[Tensor, "draws levels"]
    sums: Float[Tensor, "draws columns levels_and_limit"]
    squares: Float[Tensor, "draws levels_and_limit"]
    means: Float[Tensor, "draws columns levels directions_and_one"]
    few: int
    few_levels: int
    heaviest: float
    steady: bool
    which: Int64[Tensor, "draws_or_none directions_and_one_or_none"] = field(
        default_factory=partial(torch.zeros, 0, 0, dtype=torch.long)
    )

    @cached_property
    def parts(self) -> list[slice]:
        """The draws, in runs that have means of the same columns."""
        sizes = torch.unique_consecutive(self.which, dim=0, return_counts=True)[1].tolist()
        return [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]

    @property
    def levels(self) -> int:
        return len(self.half)

    @property
    def dead(self) -> Float[Tensor, " draws"]:
        """The logit without weights below which even the heaviest item is left out."""
        return DEAD - (self.heaviest - self.own).clamp_min(0.0)

    @property
    def by_class(self) -> Float[Tensor, "levels_and_limit columns draws"]:
        """The sums, whether kept with means or not."""
        sums = torch.cat([self.means[..., self.few], self.sums[..., -1:]], 2) if self.means.numel() else self.sums
        return sums.permute(2, 1, 0)

    def held(self) -> dict[str, Tensor]:
        """The tensors that a pass changes."""
        names = ("own", "distance2", "along", "shift", "sums", "squares", "means")
        return {n: getattr(self, n) for n in names if getattr(self, n).numel()}

    def empty(self) -> Sums:
        """The same before any item was added, with memory of its own."""
        kept = ("own", "distance2", "along")
        fresh = {n: x.clone() if n in kept else torch.zeros_like(x) for n, x in self.held().items()}
        return self._with(fresh)

    def _own(self) -> Sums:
        """The same, with memory of its own."""
        return self._with({n: x.clone() for n, x in self.held().items()})

    def _with(self, held: dict[str, Tensor]) -> Sums:
        return replace(self, **held)  # type: ignore[arg-type]

    def refer(self, changed: Tensor, distance2: Tensor, along: Tensor, own: Tensor) -> None:
        """Take other reference items.

        Args:
            changed: of which draws, shape (draws,), bool.
            distance2, along, own: of the new references, none farther than the old.
        """
        which = torch.nonzero(changed)[:, 0]
        if not len(which):
            return
        old, new = ([x[which] for x in xs] for xs in ((self.distance2, self.along, self.own), (distance2, along, own)))
        first = torch.isinf(old[0])  # nothing was added yet
        apart, step, heavier = (torch.where(first, 0.0, a - b)[:, None] for a, b in zip(old, new, strict=True))
        self.shift[which] += apart * self.half + step * self.inverse + heavier
        limit = torch.where(apart == 0.0, heavier, -torch.inf).exp()  # only the nearest are left there
        self.sums[which, :, -1] *= limit
        self.squares[which, -1] *= limit[:, 0] ** 2
        for held, x in zip((self.distance2, self.along, self.own), new, strict=True):
            held[which] = x

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
        self.refer(other.distance2 < self.distance2, other.distance2, other.along, other.own)
        same = other._own() if self._apart(other).any() else other
        same.refer(self._apart(other), self.distance2, self.along, self.own)
        if not torch.equal(self.shift, same.shift):
            same = same if same is not other else other._own()
            self.raise_to(same.shift)
            same.raise_to(self.shift)
        self.sums.add_(same.sums)
        self.squares.add_(same.squares)
        if self.means.numel():
            self.means.add_(same.means)

    def join(self) -> None:
        """Add up over the ranks of this run."""
        if distributed.world() == 1:
            return
        for distance2, along, own in distributed.gathered((self.distance2, self.along, self.own)):
            self.refer(distance2 < self.distance2, distance2, along, own)
        # Of several nearest ones all take that of the first rank that has one.
        nearest = self.distance2.clone()
        for distance2, along, own in reversed(distributed.gathered((self.distance2, self.along, self.own))):
            self.refer(distance2 == nearest, distance2, along, own)
        self.raise_to(distributed.highest(self.shift.clone()))
        for tensor in (self.sums, self.squares, self.means):
            if tensor.numel():
                distributed.add_up(tensor)

    def _apart(self, other: Sums) -> Tensor:
        return (self.distance2 != other.distance2) | (self.along != other.along) | (self.own != other.own)


@dataclass(frozen=True, eq=False)
class Tile:
    """Items, and their products with the draws.

    Args:
        raw: the items as they were read, float32, shape (rows, size).
        product: of the items less the centre with v less the centre, the noise and the directions, shape
            (2 draws + directions, rows).
        norm: squared norms of the items less the centre, shape (rows,).
        vv, nv: what completes the products to the squared distance and the noise product, relative to the reference:
            :math:`\\|v\\|^2 - d_0^2` and :math:`\\langle n, v\\rangle + s_0`, shape (draws,).
        weight: ln w, shape (rows,).
        classes: for each abstraction the column of each item's value, shape (rows, abstractions).
        few: as of :class:`Sums`.
        rounding: size of the products' rounding errors.
        held: what steps keep for the next ones.
    """

    raw: Float[Tensor, "rows size"]
    product: Float[Tensor, "products rows"]
    norm: Float[Tensor, " rows"]
    vv: Float[Tensor, " draws"]
    nv: Float[Tensor, " draws"]
    weight: Float[Tensor, " rows"]
    classes: Int64[Tensor, "rows abstractions"]
    few: int
    rounding: float
    held: dict[str, Tensor] = field(default_factory=dict)

    @property
    def projected(self) -> Float[Tensor, "rows directions"]:
        return self.product[2 * len(self.vv) :].T

    @cached_property
    def joined(self) -> Float[Tensor, "rows directions_and_one"]:
        """Projected items, and after the first few a one, whose sums are the sums of the weights."""
        z = self.product[2 * len(self.vv) :]
        return torch.cat([z[: self.few], torch.ones_like(z[:1]), z[self.few :]]).T

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
