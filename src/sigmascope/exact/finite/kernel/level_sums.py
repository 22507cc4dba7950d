r"""The inner kernel of the exact filter: class sums of a Gaussian mixture at all noise levels from two products.

For a draw :math:`y = v + \sigma n` and a reference item 0, the log-weight of item k relative to the reference is

.. math:: \ell_k(\sigma) = -\frac{\|v - v_k\|^2 - \|v - v_0\|^2}{2\sigma^2} + \frac{\langle n, v_k - v_0\rangle}{\sigma}
          + \ln\frac{w_k}{w_0},

so the products :math:`\langle v, v_k\rangle` and :math:`\langle n, v_k\rangle` serve every level.  The reference is the
item nearest to v: v itself where v is an item, else the nearest one seen so far.  Where v is an item, the sum is at
least 1 and no running maximum is needed: :math:`\ell` exceeds t anywhere with probability
:math:`\le N Q(\sqrt{2t})`.

Two facts make small levels cheap and exact.  *Dead stays dead*: without weights, :math:`\ell(x) = -d^2x^2/2 + sx` in
:math:`x = 1/\sigma` is concave and 0 at 0, so {l > -40} is an interval that begins at 0, and a pair below
:math:`e^{-40}` stays there as sigma falls (what is left out of a sum is at most :math:`e^{-40}/w_0`).  *Few are alive*:
they are listed, and rescored in float64 from true differences before the rounding of the products could reach their
logits.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.exact.finite.kernel import with_torch as plain
from sigmascope.exact.finite.kernel.sums import Columns, Given, Pairs, Reference, Sums, Tile, TooMany
from sigmascope.exact.finite.kernel.threads import Turn, room
from sigmascope.exact.finite.sketch import Sketch

_SPREAD = 10.0  # nats between weights beyond which logits could be large


def is_steady(own: Float[Tensor, " draws"] | None, heaviest: float) -> bool:
    """Whether no logit is large: draws are items, of weights that are not far below the largest one."""
    return own is not None and heaviest - float(own.min()) < _SPREAD


@cache
def compiler() -> ModuleType | None:
    """The compiled steps, or None where numba cannot be used."""
    try:
        from sigmascope.exact.finite.kernel import with_numba as fused
    except ImportError:
        return None
    return fused


class LevelSums:
    r"""Sums of :math:`e^{\ell_k(\sigma)}` by class, for all levels of shared draws.

    Args:
        v: values of the draws, float32, shape (draws, size).
        centre: subtracted from items before products, shape (size,); any is exact, a mean keeps rounding small.
        noise: standard normal, shape (draws, size).
        sigmas: decreasing levels.
        classes: how many, of all attributes together.
        own: :math:`\ln w` of each draw's item, shape (draws,), float64; None where v are not items.
        dtype: of the products, float32 or float64.
        heaviest: the largest :math:`\ln w` of all items.
        sketch: directions to project items on, to get posterior means by class too; None: do not.
        compiled: whether to use numba; None: where it can be (float32 on a CPU).

    Attributes:
        total: what has been added up.
    """

    def __init__(
        self,
        v: Float[Tensor, "draws size"],
        centre: Float[Tensor, " size"],
        noise: Float[Tensor, "draws size"],
        sigmas: Float[np.ndarray, " levels"],
        classes: int,
        own: Float[Tensor, " draws"] | None = None,
        dtype: torch.dtype = torch.float32,
        heaviest: float = 0.0,
        sketch: Sketch | None = None,
        compiled: bool | None = None,
    ) -> None:
        self._inside, self._centre = own is not None, centre
        middle, n = v.double() - centre, noise.double()
        along = [] if sketch is None else [sketch.mixed.to(middle).T]
        self._exact_right = torch.cat([middle, n, *along])
        self._right = self._exact_right.to(dtype)
        self._vv, self._nv = (middle**2).sum(1), (middle * n).sum(1)
        device = v.device
        level = torch.as_tensor(np.asarray(sigmas, dtype=np.float64), device=device)
        columns = Columns(0, 0, torch.zeros(0, 0, dtype=torch.long, device=device))
        if sketch is not None:
            few_levels = int((level >= sketch.first_above).sum())
            columns = Columns(sketch.few, few_levels, sketch.columns(len(v)).to(device))
        steady = is_steady(own, heaviest)
        given = Given(v.contiguous(), noise.contiguous(), -0.5 / level**2, 1.0 / level, heaviest, steady, columns)
        none = torch.zeros_like(self._vv)
        reference = Reference(torch.full_like(none, torch.inf), none, none.clone())
        if own is not None:
            reference = Reference(none.clone(), none, own.double().clone())
        self.total = Sums.none(given, reference, classes)
        usable = dtype == torch.float32 and device.type == "cpu" and compiler() is not None
        self._steps = compiler() if (usable if compiled is None else compiled) else None

    def add(
        self,
        raw: Float[Tensor, "rows size"],
        classes: Int64[Tensor, "rows attributes"],
        log_weight: Float[Tensor, " rows"],
        into: Sums | None = None,
        turn: Turn | None = None,
    ) -> Float[Tensor, "rows directions"]:
        """Add a tile of items.

        Args:
            raw: items, float32; left as they are.
            classes: for each attribute, the column of each item's value.
            log_weight: ln w of each item.
            into: where to add; None: :attr:`total`.
            turn: of this tile, where others are added to the same sums meanwhile.

        Returns: the items less the centre, along the sketch's mixed directions; overwritten by the thread's next tile.
        """
        s = self.total if into is None else into
        turn = Turn() if turn is None else turn
        tile = self._tile(raw, classes, log_weight, self._right)
        # Sums of means take turns stage by stage, as they take most of the time; others, and those whose references or
        # shifts move, tile by tile.
        with nullcontext() if s.means.numel() and s.given.steady else turn.stage(s.given.levels + 1):
            if bool(torch.isfinite(log_weight).any()):
                self._add_tile(s, tile, turn)
        return tile.projected

    def _add_tile(self, s: Sums, tile: Tile, turn: Turn) -> None:
        """All pairs at the levels at which many live, then the list of those that live on."""
        # The compiled means know no shift.
        fit = tile.product.dtype == torch.float32 and (s.given.steady or not s.means.numel())
        engine = self._steps if self._steps is not None and fit else plain
        tile = self._related(s, tile) if self._inside else self._referred(s, tile, engine)
        crowded: int | None = None
        try:
            pairs, level = engine.dense(s, tile, turn)
        except TooMany as many:
            crowded = many.level
        with turn.stage(s.given.levels):
            if crowded is not None:  # items so near one another that most live where rounding reaches them
                tile = self._related(s, self._tile(tile.raw, tile.classes, tile.weight, self._exact_right))
                pairs, level = plain.dense(s, tile, Turn(), crowded)
            self._add_listed(s, tile, pairs, level, engine)

    def _add_listed(self, s: Sums, tile: Tile, pairs: Pairs, level: int, engine: ModuleType) -> None:
        """Listed pairs from a level on: as products have them while rounding allows it, then from true differences."""
        given, reference = s.given, s.reference
        exact = max(level, tile.exact_from(given.half))
        if level < exact:
            engine.scatter(s, tile, pairs, level, exact)
            at = min(exact, given.levels - 1)
            half, inverse = float(given.half[at]), float(given.inverse[at])
            pairs = pairs.keep(pairs.logit(half, inverse) > s.dead[pairs.draw] - tile.slack(half))
        pairs = engine.rescored(given, tile, pairs).relative(reference)
        engine.scatter(s, tile, pairs, exact, given.levels)
        nearest = pairs.keep(pairs.distance2 <= 1e-12 * reference.distance2[pairs.draw])  # of the reference, 0
        weight = tile.weight[nearest.row].double() - reference.own[nearest.draw]
        plain.add_masses(s, tile, nearest, weight.exp(), given.levels)

    def _tile(self, raw: Tensor, classes: Tensor, log_weight: Tensor, right: Float[Tensor, "products size"]) -> Tile:
        """The products of a tile, relative to v itself."""
        dtype, centre = right.dtype, self._centre
        middle = room("middle", raw.shape, dtype) if raw.device.type == "cpu" else torch.empty_like(raw, dtype=dtype)
        compiled = self._steps if dtype == torch.float32 else None
        norm = (plain if compiled is None else compiled).centred(raw, centre, middle)
        largest = max(float(self._vv.max()), float(norm.max()))
        if raw.device.type == "cpu":
            product = torch.mm(right, middle.T, out=room("product", (len(right), len(raw)), dtype))
        else:
            product = right @ middle.T
        return Tile(
            raw=raw,
            product=product,
            norm=norm,
            vv=self._vv.to(dtype),
            nv=self._nv.to(dtype),
            weight=log_weight,
            classes=classes,
            columns=self.total.given.columns,
            rounding=0.5 * torch.finfo(dtype).eps * largest,
        )

    def _related(self, s: Sums, tile: Tile) -> Tile:
        """The same relative to the reference items."""
        r = s.reference
        known = torch.isfinite(r.distance2)
        vv = self._vv - torch.where(known, r.distance2, 0.0)
        nv = self._nv + torch.where(known, r.along, 0.0)
        return replace(tile, vv=vv.to(tile.norm), nv=nv.to(tile.norm))

    def _referred(self, s: Sums, tile: Tile, engine: ModuleType) -> Tile:
        """Take nearer items of this tile for references: those that rounding leaves in doubt are measured anew."""
        draws, known = len(self._vv), s.reference.distance2
        distance2 = torch.add(tile.norm, tile.product[:draws], alpha=-2.0) + self._vv.to(tile.norm)[:, None]
        distance2[:, torch.isinf(tile.weight)] = torch.inf
        margin = 2.0 * tile.slack(-0.5)
        least = distance2.min(1).values
        candidate = (distance2 <= (least + margin)[:, None]) & (least < known + margin)[:, None]
        draw, row = torch.nonzero(candidate, as_tuple=True)
        none = torch.zeros(len(row), dtype=torch.float64, device=row.device)
        found = engine.rescored(s.given, tile, Pairs(row, draw, none, none))
        nearest = torch.full_like(known, torch.inf).scatter_reduce(0, draw, found.distance2, "amin")
        changed = nearest < known
        if bool(changed.any()):
            # Of several nearest items the first: its place among the candidates, anything where nothing changes.
            place = torch.arange(len(row), device=row.device)
            place = torch.where(found.distance2 == nearest[draw], place, len(row))
            first = torch.full_like(known, len(row)).long().scatter_reduce(0, draw, place, "amin")
            first = torch.where(changed, first, 0)
            s.refer(changed, Reference(nearest, found.along[first], tile.weight[row[first]].double()))
        return self._related(s, tile)
