r"""The denoiser of a finite set in single precision, at the cost of its two products or, where few items count, of one.

.. math:: D(y, \sigma) = \frac{\sum_k w_k e^{\ell_k} v_k}{\sum_k w_k e^{\ell_k}}, \qquad
          \ell_k = \frac{\langle v_k - c, y - c\rangle - \tfrac12 \|v_k - c\|^2}{\sigma^2} .

The rounding of the first product enters the logits divided by sigma².  At large sigma float32 is used as it is.  At
small sigma the items whose logit comes within :data:`FAINT` (and the rounding) of the largest are listed, their logits
are computed again in float64 from differences, and only they enter the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sigmascope.core import LabelledData
from sigmascope.exact.common import Levels, Logits, Rows, blocks
from sigmascope.exact.finite.kernel import with_torch
from sigmascope.exact.finite.kernel.level_sums import compiler
from sigmascope.exact.finite.kernel.threads import full_precision, in_threads, workers

FAINT = 32.0
"""Items whose logit is further below the largest are left out: together at most N e^-32 of the weight."""

_LOGIT_ERROR = 5e-4  # of the bound below: the errors themselves are typically a tenth of it
_FEW = 0.15  # share of nonzero weights below which the second product is done pair by pair
_ROWS = 1024
_LISTED = 4096  # a row with more listed items is computed in float64
_CHUNK = 1 << 23  # numbers per block of differences


@runtime_checkable
class Finite(Protocol):
    """The part of :class:`~sigmascope.exact.finite.filter.FiniteDenoiser` that is used here."""

    data: LabelledData
    centre: Tensor
    log_weight: Tensor
    equal_weights: bool

    def squares_of_all(self) -> Tensor: ...

    def restricted(self, rows: slice, logit: Tensor, known: list[tuple[int, Tensor]]) -> Tensor: ...


@dataclass
class _Running:
    """Running sums of one thread, and the items that it has listed (item, row, logit)."""

    top: Levels
    mass: Levels
    total: Rows
    lists: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)


def single_precision(
    d: Finite, y: Rows, sigma: Levels, known: list[tuple[int, Tensor]]
) -> tuple[Rows, Bool[Tensor, " batch"]]:
    """The posterior mean less the centre, float64, and which rows need double precision instead.

    These are rows in which rounding reaches the logits of too many items that count, or no item has the ``known``
    attributes (as of :meth:`~sigmascope.exact.finite.filter.FiniteDenoiser.columns_known`).  y is less the centre.
    """
    run = _Pass(d, y, sigma, known)
    threads = workers(y.device)
    tiles = list(range(0, len(d.data), _ROWS))
    with full_precision():
        parts = in_threads([partial(run.of_tiles, tiles[i::threads]) for i in range(threads)], threads)
    top = torch.stack([p.top for p in parts]).amax(0)
    mean, left = torch.zeros_like(y), ~torch.isfinite(top)
    dense = ~run.exact & ~left
    if bool(dense.any()):
        scale = [torch.where(torch.isfinite(top), (p.top - top).exp(), 0.0) for p in parts]
        mass = sum((p.mass * s for p, s in zip(parts, scale, strict=True)), torch.zeros_like(top))
        total = sum((p.total.double() * s[:, None] for p, s in zip(parts, scale, strict=True)), mean)
        mean = torch.where(dense[:, None], total / mass.clamp_min(1e-300)[:, None] - d.centre.double(), mean)
    if bool((run.exact & ~left).any()):
        item, row, logit = (torch.cat(x) for x in zip(*(entry for p in parts for entry in p.lists), strict=True))
        keep = logit >= (top - FAINT - run.slack)[row]
        listed = item[keep], row[keep], logit[keep]
        crowded = torch.bincount(listed[1], minlength=len(y)) > _LISTED
        left = left | crowded
        keep = ~crowded[listed[1]]
        mean = mean + run.from_differences(*(x[keep] for x in listed))
    return mean, left


class _Pass:
    def __init__(self, d: Finite, y: Tensor, sigma: Tensor, known: list[tuple[int, Tensor]]) -> None:
        self._d, self._y, self._known = d, y, known
        self._u = y.float()
        on_cpu = y.device.type == "cpu"
        self._steps = (compiler() if on_cpu else None) or with_torch
        self._scale = sigma**-2.0
        self._offset = -(y @ d.centre.double())
        half_square = 0.5 * d.squares_of_all()
        self._half_square = half_square.float()
        # The products use the items as they are stored, whose norm is at most this.
        largest = float(2.0 * half_square.max()) ** 0.5 + float(torch.linalg.vector_norm(d.centre))
        products = largest * torch.linalg.vector_norm(y, dim=1) + half_square.max()
        rounding = 0.5 * torch.finfo(torch.float32).eps * products
        error = rounding * self._scale
        self.slack = 16.0 * error
        self.exact = error > _LOGIT_ERROR

    def of_tiles(self, starts: list[int]) -> _Running:
        d, batch = self._d, len(self._y)
        top = self._y.new_full((batch,), -torch.inf)
        running = _Running(top, torch.zeros_like(top), torch.zeros_like(self._u))
        all_exact, none_exact = bool(self.exact.all()), not bool(self.exact.any())
        for start in starts:
            stop = min(start + _ROWS, len(d.data))
            tile = d.data.source.read(start, stop).reshape(stop - start, -1).to(self._u.device)
            logit = self._logits(slice(start, stop), tile)
            new = torch.maximum(running.top, logit.amax(0).double())
            if not none_exact:
                floor = (new - FAINT - self.slack).float()
                floor[~self.exact] = torch.inf
                item, row = torch.nonzero(logit >= floor, as_tuple=True)
                running.lists.append((item + start, row, logit[item, row].double()))
            if not all_exact:
                self._add(running, logit, tile, new)
            running.top = new
        return running

    def _logits(self, rows: slice, tile: Tensor) -> Logits:
        d = self._d
        start = self._offset.float() - self._half_square[rows, None]
        logit = torch.addmm(start, tile, self._u.T).mul_(self._scale.float())
        if not d.equal_weights:
            logit += d.log_weight[rows, None].float()
        return d.restricted(rows, logit, self._known)

    def _add(self, running: _Running, logit: Tensor, tile: Tensor, new: Tensor) -> None:
        safe = torch.where(torch.isfinite(new), new, 0.0)
        if bool((running.top < new).any()):
            shrink = (running.top - safe).exp()
            running.mass *= shrink
            running.total *= shrink.float()[:, None]
        logit = logit - safe.float()
        logit[:, self.exact] = -torch.inf
        weight = torch.where(logit > -FAINT, logit.exp(), 0.0)
        count = int(torch.count_nonzero(weight))
        if count == 0:
            return
        running.mass += weight.sum(0, dtype=torch.float64)
        if count > _FEW * weight.numel():
            running.total.addmm_(weight.T, tile)
        else:
            self._steps.add_weighted(weight, tile, running.total)

    def from_differences(self, item: Tensor, row: Tensor, logit: Float[Tensor, " pairs"]) -> Rows:
        """The mean less the centre over listed items, with float64 logits relative to one of them (an anchor)."""
        d, y = self._d, self._y
        mean = torch.zeros_like(y)
        if not len(item):
            return mean
        order = torch.argsort(row, stable=True)
        item, row, logit = item[order], row[order], logit[order]
        best = torch.full_like(self._scale, -torch.inf).scatter_reduce(0, row, logit, "amax")
        position = torch.where(logit == best[row], torch.arange(len(row), device=row.device), len(row))
        first = torch.full_like(row[:1], len(row)).expand(len(y)).clone().scatter_reduce(0, row, position, "amin")
        has = first < len(row)
        anchor = torch.zeros_like(y)
        anchor[has] = self._items(item[first[has]])
        from_anchor = y - anchor
        exact = torch.empty_like(logit)
        for part in blocks(len(row), y.shape[1], _CHUNK):
            difference = self._items(item[part]) - anchor[row[part]]
            exact[part] = ((from_anchor[row[part]] - 0.5 * difference) * difference).sum(1)
        exact = exact * self._scale[row] + d.log_weight[item]
        top = torch.full_like(self._scale, -torch.inf).scatter_reduce(0, row, exact, "amax")
        weight = (exact - top[row]).exp()
        weight = weight / torch.zeros_like(self._scale).index_add_(0, row, weight)[row]
        counts = weight > 0.0
        item, row, weight = item[counts], row[counts], weight[counts]
        for part in blocks(len(row), y.shape[1], _CHUNK):
            mean.index_add_(0, row[part], weight[part, None] * self._items(item[part]))
        return mean

    def _items(self, item: Tensor) -> Float[Tensor, "items size"]:
        d = self._d
        values = d.data.source.take(item.cpu()).reshape(len(item), -1)
        return values.to(self._y.device).double() - d.centre.double()
