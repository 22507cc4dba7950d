r"""The denoiser of a finite set in single precision: as fast as its two products, and the second only where it matters.

.. math:: D(y, \sigma) = \frac{\sum_k w_k e^{\ell_k} v_k}{\sum_k w_k e^{\ell_k}}, \qquad
          \ell_k = \frac{\langle v_k - c, y - c\rangle - \tfrac12 \|v_k - c\|^2}{\sigma^2} .

Rounding of the first product reaches the logits as 1/sigma² grows.  Above that level float32 is used as it is.  Below,
items whose logit comes within :data:`FAINT` (and the rounding) of the largest are listed, their logits are taken again
in float64 from differences, and only they enter the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sigmascope.core import UNKNOWN, LabelledData
from sigmascope.exact.finite.kernel import with_torch as plain
from sigmascope.exact.finite.kernel.level_sums import compiler
from sigmascope.exact.finite.kernel.threads import full_precision, in_threads, workers

FAINT = 32.0
"""Items whose logit is below the largest by more are left out: together at most N e^-32 of the weight."""

_LOGIT_ERROR = 5e-4  # of the bound below: the errors themselves are typically a tenth of it
_FEW = 0.15  # share of weights below which the second product is done pair by pair
_ROWS = 1024
_LISTED = 4096  # items of a row beyond which it is redone in float64
_CHUNK = 1 << 23  # numbers per block of differences


@runtime_checkable
class Finite(Protocol):
    """What is needed of a :class:`~sigmascope.exact.finite.filter.FiniteDenoiser`."""

    data: LabelledData
    centre: Tensor
    classes: Tensor
    log_weight: Tensor
    equal_weights: bool

    def squares_of_all(self) -> Tensor: ...


@dataclass
class _Running:
    """What one thread has found of its tiles."""

    top: Float[Tensor, " batch"]
    mass: Float[Tensor, " batch"]
    total: Float[Tensor, "batch size"]
    lists: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)


def single_precision(
    d: Finite,
    y: Float[Tensor, "batch size"],
    sigma: Float[Tensor, " batch"],
    told: list[tuple[int, Tensor]],
) -> tuple[Float[Tensor, "batch size"], Bool[Tensor, " batch"]]:
    """The posterior mean, and which rows it could not be found for.

    Args:
        d: the denoiser.
        y: noisy values less the centre, float64.
        sigma: levels, float64.
        told: column and value of what is known.

    Returns: the mean, float64, and rows that are left to double precision: too many items count where rounding reaches
        their logits, or no item has the attributes.
    """
    run = _Pass(d, y, sigma, told)
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
    def __init__(self, d: Finite, y: Tensor, sigma: Tensor, told: list[tuple[int, Tensor]]) -> None:
        self._d, self._y, self._told = d, y, told
        self._u = y.float()
        on_cpu = y.device.type == "cpu"
        self._steps = (compiler() if on_cpu else None) or plain
        self._scale = sigma**-2.0
        self._offset = -(y @ d.centre.double())
        half_square = 0.5 * d.squares_of_all()
        self._half_square = half_square.float()
        # Products are taken with the items as they are stored, whose norm is at most this.
        largest = float(2.0 * half_square.max()) ** 0.5 + float(torch.linalg.vector_norm(d.centre))
        products = largest * torch.linalg.vector_norm(y, dim=1) + half_square.max()
        rounding = 0.5 * torch.finfo(torch.float32).eps * products
        error = rounding * self._scale
        self.slack = 16.0 * error
        self.exact = error > _LOGIT_ERROR

    def of_tiles(self, starts: list[int]) -> _Running:
        d, batch = self._d, len(self._y)
        found = _Running(
            torch.full((batch,), -torch.inf, dtype=torch.float64, device=self._y.device),
            torch.zeros(batch, dtype=torch.float64, device=self._y.device),
            torch.zeros_like(self._u),
        )
        all_exact, none_exact = bool(self.exact.all()), not bool(self.exact.any())
        for start in starts:
            stop = min(start + _ROWS, len(d.data))
            tile = d.data.source.read(start, stop).reshape(stop - start, -1).to(self._u.device)
            logit = self._logits(slice(start, stop), tile)
            new = torch.maximum(found.top, logit.amax(0).double())
            if not none_exact:
                floor = (new - FAINT - self.slack).float()
                floor[~self.exact] = torch.inf
                item, row = torch.nonzero(logit >= floor, as_tuple=True)
                found.lists.append((item + start, row, logit[item, row].double()))
            if not all_exact:
                self._add(found, logit, tile, new)
            found.top = new
        return found

    def _logits(self, rows: slice, tile: Tensor) -> Float[Tensor, "rows batch"]:
        d = self._d
        start = self._offset.float() - self._half_square[rows, None]
        logit = torch.addmm(start, tile, self._u.T).mul_(self._scale.float())
        if not d.equal_weights:
            logit += d.log_weight[rows, None].float()
        for column, value in self._told:
            possible = (value == UNKNOWN) | (d.classes[rows, column, None] == value)
            logit = logit.masked_fill(~possible, -torch.inf)
        return logit

    def _add(self, found: _Running, logit: Tensor, tile: Tensor, new: Tensor) -> None:
        safe = torch.where(torch.isfinite(new), new, 0.0)
        if bool((found.top < new).any()):
            shrink = (found.top - safe).exp()
            found.mass *= shrink
            found.total *= shrink.float()[:, None]
        logit = logit - safe.float()
        logit[:, self.exact] = -torch.inf
        weight = torch.where(logit > -FAINT, logit.exp(), 0.0)
        count = int(torch.count_nonzero(weight))
        if count == 0:
            return
        found.mass += weight.sum(0, dtype=torch.float64)
        if count > _FEW * weight.numel():
            found.total.addmm_(weight.T, tile)
        else:
            self._steps.add_weighted(weight, tile, found.total)

    def from_differences(
        self, item: Tensor, row: Tensor, logit: Float[Tensor, " pairs"]
    ) -> Float[Tensor, "batch size"]:
        """The mean over listed items, less the centre, with logits in float64 relative to one of them."""
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
        away = y - anchor
        exact = torch.empty_like(logit)
        step = max(1, _CHUNK // y.shape[1])
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            apart = self._items(item[part]) - anchor[row[part]]
            exact[part] = ((away[row[part]] - 0.5 * apart) * apart).sum(1)
        exact = exact * self._scale[row] + d.log_weight[item]
        top = torch.full_like(self._scale, -torch.inf).scatter_reduce(0, row, exact, "amax")
        weight = (exact - top[row]).exp()
        weight = weight / torch.zeros_like(self._scale).index_add_(0, row, weight)[row]
        counts = weight > 0.0
        item, row, weight = item[counts], row[counts], weight[counts]
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            mean.index_add_(0, row[part], weight[part, None] * self._items(item[part]))
        return mean

    def _items(self, item: Tensor) -> Float[Tensor, "items size"]:
        d = self._d
        values = d.data.source.take(item.cpu()).reshape(len(item), -1)
        return values.to(self._y.device).double() - d.centre.double()
