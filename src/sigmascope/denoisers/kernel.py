r"""The inner kernel of the exact filter: class sums of a Gaussian mixture at all noise levels from two products.

For a draw :math:`y = v + \sigma n` whose v is an item, the log-weight of item k relative to the item itself is

.. math:: \ell_k(\sigma) = -\frac{\|v - v_k\|^2}{2\sigma^2} + \frac{\langle n, v_k - v\rangle}{\sigma}
          + \ln\frac{w_k}{w_{self}},

so the products :math:`\langle v, v_k\rangle` and :math:`\langle n, v_k\rangle` serve every level, and no running
maximum is needed: the sum is at least 1, and :math:`\ell` exceeds t anywhere with probability
:math:`\le N Q(\sqrt{2t})`.

Two facts make small levels cheap and exact.  *Dead stays dead*: without weights, :math:`\ell(x) = -d^2x^2/2 + sx` in
:math:`x = 1/\sigma` is negative only beyond twice its peak, so a pair below :math:`e^{-40}` stays there as sigma falls
(what is left out of a sum is at most :math:`e^{-40}/w_{self}`).  *Few are alive*: they are listed, and rescored in
float64 from true differences before the rounding of the products could reach their logits.

This is plain torch, and the only place to replace by a faster kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.denoisers.classes import ByClass, add_rows

DEAD = -40.0
"""Pairs whose logit is below this are left out: a mass of at most e^-40 each."""

_LOGIT_ERROR = 1e-4  # above the level where rounding reaches this, float32 products are used as they are
_SPARSE = 0.04  # share of living pairs below which a tile is handled as a list
_SPARSE_MEANS = 0.005  # the same where means are wanted too: each pair then costs a row
_CHUNK = 1 << 24  # numbers per block of true differences


@dataclass
class _Pairs:
    """Living pairs (row of the tile, draw), their squared distance and noise product in float64."""

    row: Tensor
    draw: Tensor
    distance2: Tensor
    product: Tensor
    exact: bool

    def keep(self, mask: Tensor) -> _Pairs:
        return _Pairs(self.row[mask], self.draw[mask], self.distance2[mask], self.product[mask], self.exact)


@contextmanager
def full_precision() -> Iterator[None]:
    """No product in TF32 or bfloat16, whatever the caller has set: they ruin logits at small sigma."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class LevelSums:
    r"""Sums of :math:`e^{\ell_k(\sigma)}` by class, for all levels of shared draws.

    Args:
        v: items drawn, float32, shape (draws, size).
        centre: subtracted from items before products, shape (size,); any is exact, a mean keeps rounding small.
        noise: standard normal, shape (draws, size).
        sigmas: decreasing levels.
        columns: number of classes of all abstractions together.
        log_weight: :math:`\ln w_{self}` of each draw, or None when all weights are equal.
        dtype: of the products, float32 or float64.
        directions: project items on these to get posterior means by class too, shape (size, directions); None: do not.

    Attributes:
        sums: float64, shape (levels + 1, columns, draws); the last row is the limit sigma → 0, where only items
            equal to the draw's are left.
        means: with directions, the sums of e^l times the projected item (less the centre), float32, shape
            (levels, columns, draws, directions).
    """

    def __init__(
        self,
        v: Float[Tensor, "draws size"],
        centre: Float[Tensor, " size"],
        noise: Float[Tensor, "draws size"],
        sigmas: Float[np.ndarray, " levels"],
        columns: int,
        log_weight: Float[Tensor, " draws"] | None = None,
        dtype: torch.dtype = torch.float32,
        directions: Float[Tensor, "size directions"] | None = None,
    ) -> None:
        self._v, self._n = v.double(), noise.double()
        self._centre, self._dtype = centre, dtype
        middle = self._v - centre
        along = [] if directions is None else [directions.T.double()]
        self._right = torch.cat([middle, self._n, *along]).to(dtype).T.contiguous()
        self._vv = (middle**2).sum(1)
        self._nv = (middle * self._n).sum(1)
        self._sigmas = [float(s) for s in sigmas]
        self._log_weight = log_weight
        self._columns = columns
        self._rounding = 0.5 * torch.finfo(dtype).eps * float(self._vv.max())
        self._exact_below = (self._rounding / _LOGIT_ERROR) ** 0.5
        self.sums = torch.zeros(len(sigmas) + 1, columns, len(v), dtype=torch.float64, device=v.device)
        self.means: Tensor | None = None
        if directions is not None:
            self.means = torch.zeros(len(sigmas), columns, len(v), directions.shape[1], device=v.device)

    def add(
        self,
        tile: Float[Tensor, "rows size"],
        classes: Int64[Tensor, "rows abstractions"],
        log_weight: Float[Tensor, " rows"] | None = None,
    ) -> Float[Tensor, "rows directions"]:
        """Add a tile of items.

        Args:
            tile: items, float32.
            classes: for each abstraction, the column of each item's value.
            log_weight: ln w of each item, where weights differ.

        Returns: the items less the centre, projected on the directions.
        """
        draws = len(self._v)
        middle = tile.to(self._dtype) - self._centre
        product = middle @ self._right
        norm = torch.linalg.vector_norm(middle, dim=1, keepdim=True) ** 2
        distance2 = torch.add(norm + self._vv.to(self._dtype), product[:, :draws], alpha=-2.0).clamp_min_(0.0)
        along = product[:, draws : 2 * draws] - self._nv.to(self._dtype)
        projected = product[:, 2 * draws :]
        joined = torch.nn.functional.pad(projected, (0, 1), value=1.0)  # the ones give the sums of the weights
        by_class = ByClass(classes) if self.means is not None else None
        sparse = _SPARSE if by_class is None else _SPARSE_MEANS
        weight = None
        if log_weight is not None and self._log_weight is not None:
            weight = log_weight[:, None] - self._log_weight
        one_hot = middle.new_zeros(len(tile), self._columns).scatter_(1, classes, 1.0).T.contiguous()
        typical = float(distance2.mean())
        logit = torch.empty_like(distance2)
        pairs: _Pairs | None = None
        for j, sigma in enumerate(self._sigmas):
            if pairs is None:
                torch.mul(distance2, -0.5 / sigma**2, out=logit).add_(along, alpha=1.0 / sigma)
                exact = sigma <= self._exact_below
                if exact or typical > 20.0 * sigma**2:
                    alive = logit > DEAD - self._slack(sigma)
                    if exact or int(torch.count_nonzero(alive)) <= sparse * logit.numel():
                        row, draw = torch.nonzero(alive, as_tuple=True)
                        pairs = _Pairs(row, draw, distance2[row, draw].double(), along[row, draw].double(), False)
                if pairs is None:
                    if weight is not None:
                        logit.add_(weight)
                    # Denormal numbers slow a product down; e^-80 is below float32's resolution of the sums.
                    mass = logit.clamp_min_(2 * DEAD).exp_()
                    if self.means is None or by_class is None:
                        self.sums[j] += one_hot @ mass
                    else:
                        for columns, part in by_class.products(mass, joined):
                            add_rows(self.means[j], columns, part[..., :-1])
                            add_rows(self.sums[j], columns, part[..., -1])
                    continue
            pairs = self._living(pairs, sigma, tile)
            if len(pairs.row) == 0:
                return projected
            value = -0.5 / sigma**2 * pairs.distance2 + pairs.product / sigma
            mass = self._scatter(j, value, pairs, classes, weight)
            if self.means is not None:
                rows = (mass[:, None] * projected[pairs.row]).float()
                flat = self.means[j].view(-1, rows.shape[1])
                for column in classes.T:
                    flat.index_add_(0, column[pairs.row] * draws + pairs.draw, rows)
        self._limit(pairs, distance2, tile, classes, weight)
        return projected

    def _slack(self, sigma: float) -> float:
        """Bound on what rounding does to a logit: a pair this near to the threshold is kept, so rounding kills none."""
        return 8.0 * self._rounding / sigma**2

    def _living(self, pairs: _Pairs, sigma: float, tile: Tensor) -> _Pairs:
        """Drop the dead, and rescore once the products' rounding would show."""
        logit = -0.5 / sigma**2 * pairs.distance2 + pairs.product / sigma
        pairs = pairs.keep(logit > DEAD - (0.0 if pairs.exact else self._slack(sigma)))
        if not pairs.exact and sigma <= self._exact_below:
            pairs = self._rescored(pairs, tile)
        return pairs

    def _rescored(self, pairs: _Pairs, tile: Tensor) -> _Pairs:
        """Squared distances and noise products from differences taken in float64."""
        distance2, product = torch.empty_like(pairs.distance2), torch.empty_like(pairs.product)
        step = max(1, _CHUNK // tile.shape[1])
        for start in range(0, len(pairs.row), step):
            part = slice(start, start + step)
            draw = pairs.draw[part]
            difference = tile[pairs.row[part]].double() - self._v[draw]
            distance2[part] = (difference * difference).sum(1)
            product[part] = (difference * self._n[draw]).sum(1)
        return _Pairs(pairs.row, pairs.draw, distance2, product, True)

    def _scatter(self, j: int, logit: Tensor, pairs: _Pairs, classes: Tensor, weight: Tensor | None) -> Tensor:
        if weight is not None:
            logit = logit + weight[pairs.row, pairs.draw]
        where = classes[pairs.row] * self.sums.shape[2] + pairs.draw[:, None]
        mass = logit.exp()
        self.sums[j].view(-1).index_add_(0, where.reshape(-1), mass[:, None].expand(where.shape).reshape(-1))
        return mass

    def _limit(
        self, pairs: _Pairs | None, distance2: Tensor, tile: Tensor, classes: Tensor, weight: Tensor | None
    ) -> None:
        """The level sigma → 0: items at distance exactly zero."""
        if pairs is None:
            row, draw = torch.nonzero(distance2 <= 64.0 * self._rounding, as_tuple=True)
            empty = torch.zeros(len(row), dtype=torch.float64, device=row.device)
            pairs = _Pairs(row, draw, empty, empty, False)
        if not pairs.exact:
            near = pairs.keep(pairs.distance2 <= 64.0 * self._rounding)
            pairs = self._rescored(near, tile)
        pairs = pairs.keep(pairs.distance2 == 0.0)
        self._scatter(len(self._sigmas), torch.zeros_like(pairs.distance2), pairs, classes, weight)
