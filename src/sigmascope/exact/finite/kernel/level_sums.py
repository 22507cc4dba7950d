r"""The inner kernel of the exact filter: class sums of a Gaussian mixture at all noise levels from two products.

For a draw :math:`y = v + \sigma n` and a reference item 0, the log-weight of item k relative to the reference is

.. math:: \ell_k(\sigma) = -\frac{\|v - v_k\|^2 - \|v - v_0\|^2}{2\sigma^2} + \frac{\langle n, v_k - v_0\rangle}{\sigma}
          + \ln\frac{w_k}{w_0},

so the products :math:`\langle v, v_k\rangle` and :math:`\langle n, v_k\rangle` serve every level.  The reference is the
item nearest to v: v itself where v is an item, else the nearest one so far.  Where v is an item, the sum is at least 1
and no running maximum is needed: :math:`\ell` exceeds t anywhere with probability :math:`\le N Q(\sqrt{2t})`.

Two facts make small levels cheap and exact.  *A pair below the threshold stays below*: without weights,
:math:`\ell(x) = -d^2x^2/2 + sx` in :math:`x = 1/\sigma` is concave and 0 at 0, so {l > -40} is an interval that begins
at 0, and a pair below :math:`e^{-40}` stays there as sigma falls (what is left out of a sum is at most
:math:`e^{-40}/w_0`).  *Few pairs are above it*: they are listed, and computed again in float64 from true differences
before the rounding of the products could reach their logits.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.exact.finite.kernel import with_torch
from sigmascope.exact.finite.kernel.sums import Inputs, LivePairs, MeanColumns, Reference, Sums, Tile
from sigmascope.exact.finite.kernel.threads import Turn, compiled_module, room
from sigmascope.exact.finite.sketch import Sketch

_SPREAD = 10.0  # beyond this difference of log-weights, nats, logits could be large


def is_steady(own: Float[Tensor, " draws"] | None, largest_log_weight: float) -> bool:
    """Whether no logit is large: the draws are items, with weights not far below the largest."""
    return own is not None and largest_log_weight - float(own.min()) < _SPREAD


def compiler() -> ModuleType | None:
    """The compiled steps, or None where numba cannot be used."""
    return compiled_module("with_numba")


class LevelSums:
    r"""Sums of :math:`e^{\ell_k(\sigma)}` by class (:attr:`total`), for draws v + σ n at decreasing levels.

    ``own`` is :math:`\ln w` of each draw's item, None where draws are not items.  The centre is subtracted from items
    and draws.  With a sketch there are posterior means too.  ``weights`` is how many weights each draw gives to every
    item.  None for ``compiled`` uses numba where possible (float32 on a CPU).
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
        largest_log_weight: float = 0.0,
        sketch: Sketch | None = None,
        compiled: bool | None = None,
        weights: int = 0,
    ) -> None:
        self._inside, self._centre = own is not None, centre
        middle, n = v.double() - centre, noise.double()
        along = [] if sketch is None else [sketch.mixed.to(middle).T]
        self._exact_right = torch.cat([middle, n, *along])
        self._right = self._exact_right.to(dtype)
        self._v_term, self._noise_term = (middle**2).sum(1), (middle * n).sum(1)
        device = v.device
        level = torch.as_tensor(np.asarray(sigmas, dtype=np.float64), device=device)
        columns = MeanColumns(0, 0, torch.zeros(0, 0, dtype=torch.long, device=device))
        if sketch is not None:
            coarse_levels = int((level >= sketch.coarse_above).sum())
            columns = MeanColumns(sketch.coarse, coarse_levels, sketch.columns(len(v)).to(device))
        steady = is_steady(own, largest_log_weight)
        inputs = Inputs(
            v.contiguous(), noise.contiguous(), -0.5 / level**2, 1.0 / level, largest_log_weight, steady, columns
        )
        zero = torch.zeros_like(self._v_term)
        reference = Reference(torch.full_like(zero, torch.inf), zero, zero.clone())
        if own is not None:
            reference = Reference(zero.clone(), zero, own.double().clone())
        self.total = Sums.zeros(inputs, reference, classes, weights)
        usable = dtype == torch.float32 and device.type == "cpu" and compiler() is not None
        self._steps = compiler() if (usable if compiled is None else compiled) else None

    def add(
        self,
        raw: Float[Tensor, "rows size"],
        classes: Int64[Tensor, "rows attributes"],
        log_weight: Float[Tensor, " rows"],
        into: Sums | None = None,
        turn: Turn | None = None,
        weights: Float[Tensor, "weights draws rows"] | None = None,
    ) -> Float[Tensor, "rows directions"]:
        """Add a tile of items (as read, with their columns and log-weights) to :attr:`total`, or to other sums.

        ``turn`` is that of the tile where other threads add to the same sums, ``weights`` are those that the draws give
        to the items.  Returns the items less the centre, along the sketch's mixed directions; the thread's next tile
        overwrites them.
        """
        s = self.total if into is None else into
        turn = Turn() if turn is None else turn
        if weights is None:
            weights = log_weight.new_zeros(0, len(self._v_term), len(raw))
        tile = self._tile(raw, classes, log_weight, self._right, weights)
        # Means take most of the time: threads add them in turn at every level.  Without means, or where references or
        # shifts change, they add tile after tile.
        with nullcontext() if s.means.numel() and s.inputs.steady else turn.stage(s.inputs.levels + 1):
            if bool(torch.isfinite(log_weight).any()):
                self._add_tile(s, tile, turn)
        return tile.projected

    def _add_tile(self, s: Sums, tile: Tile, turn: Turn) -> None:
        """Add all pairs at the levels where many are above the threshold, then a list of those that stay above it."""
        # The compiled means have no shift.
        fit = tile.product.dtype == torch.float32 and (s.inputs.steady or not s.means.numel())
        engine = self._steps if self._steps is not None and fit else with_torch
        tile = self._related(s, tile) if self._inside else self._referred(s, tile, engine)
        pairs, level = engine.dense(s, tile, turn)
        with turn.stage(s.inputs.levels):
            if pairs is None:  # items so close together that most pairs remain where rounding reaches the logits
                tile = self._related(
                    s, self._tile(tile.raw, tile.classes, tile.log_weight, self._exact_right, tile.weights)
                )
                pairs, level = with_torch.dense(s, tile, Turn(), level)
            self._add_listed(s, tile, pairs, level, engine)

    def _add_listed(self, s: Sums, tile: Tile, pairs: LivePairs, level: int, engine: ModuleType) -> None:
        """Add listed pairs from a level on: from the products while rounding allows it, then from true differences."""
        inputs, reference = s.inputs, s.reference
        exact = max(level, tile.exact_from(inputs.half))
        if level < exact:
            engine.scatter(s, tile, pairs, level, exact)
            at = min(exact, inputs.levels - 1)
            half, inverse = float(inputs.half[at]), float(inputs.inverse[at])
            pairs = pairs.keep(pairs.logit(half, inverse) > s.threshold[pairs.draw] - tile.slack(half))
        pairs = engine.rescored(inputs, tile, pairs).relative(reference)
        engine.scatter(s, tile, pairs, exact, inputs.levels)
        nearest = pairs.keep(pairs.distance2 <= 1e-12 * reference.distance2[pairs.draw])  # that of the reference is 0
        weight = tile.log_weight[nearest.row].double() - reference.log_weight[nearest.draw]
        with_torch.add_masses(s, tile, nearest, weight.exp(), inputs.levels)

    def _tile(
        self, raw: Tensor, classes: Tensor, log_weight: Tensor, right: Float[Tensor, "products size"], weights: Tensor
    ) -> Tile:
        """The products of a tile, relative to v itself."""
        dtype, device = right.dtype, raw.device
        middle = room("middle", raw.shape, dtype, device)
        engine = self._steps if self._steps is not None and dtype == torch.float32 else with_torch
        square = engine.centred(raw, self._centre, middle)
        largest = max(float(self._v_term.max()), float(square.max()))
        return Tile(
            raw=raw,
            product=torch.mm(right, middle.T, out=room("product", (len(right), len(raw)), dtype, device)),
            square=square,
            v_term=self._v_term.to(dtype),
            noise_term=self._noise_term.to(dtype),
            log_weight=log_weight,
            classes=classes,
            means=self.total.inputs.means,
            rounding=0.5 * torch.finfo(dtype).eps * largest,
            weights=weights,
        )

    def _related(self, s: Sums, tile: Tile) -> Tile:
        """The same tile, with products relative to the reference items."""
        r = s.reference
        known = torch.isfinite(r.distance2)
        v_term = self._v_term - torch.where(known, r.distance2, 0.0)
        noise_term = self._noise_term + torch.where(known, r.along, 0.0)
        return replace(tile, v_term=v_term.to(tile.square), noise_term=noise_term.to(tile.square))

    def _referred(self, s: Sums, tile: Tile, engine: ModuleType) -> Tile:
        """Make nearer items of this tile the references; distances that rounding leaves in doubt are computed again."""
        draws, known = len(self._v_term), s.reference.distance2
        distance2 = torch.add(tile.square, tile.product[:draws], alpha=-2.0) + self._v_term.to(tile.square)[:, None]
        distance2[:, torch.isinf(tile.log_weight)] = torch.inf
        margin = 2.0 * tile.slack(-0.5)
        least = distance2.min(1).values
        candidate = (distance2 <= (least + margin)[:, None]) & (least < known + margin)[:, None]
        draw, row = torch.nonzero(candidate, as_tuple=True)
        zero = torch.zeros(len(row), dtype=torch.float64, device=row.device)
        exact = engine.rescored(s.inputs, tile, LivePairs(row, draw, zero, zero))
        nearest = torch.full_like(known, torch.inf).scatter_reduce(0, draw, exact.distance2, "amin")
        changed = nearest < known
        if bool(changed.any()):
            # The first of several nearest items: its place among the candidates; any place where nothing changes.
            place = torch.arange(len(row), device=row.device)
            place = torch.where(exact.distance2 == nearest[draw], place, len(row))
            first = torch.full_like(known, len(row)).long().scatter_reduce(0, draw, place, "amin")
            first = torch.where(changed, first, 0)
            s.change_reference(changed, Reference(nearest, exact.along[first], tile.log_weight[row[first]].double()))
        return self._related(s, tile)
