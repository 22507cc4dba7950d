r"""The exact filter of a finite data set.

The law :math:`\sum_k w_k \delta_{v_k}` noised by sigma is a Gaussian mixture, so its posterior, its denoiser and every
conditional denoiser are computable with no network:

.. math:: p(k \mid y) \propto w_k \exp(-\|y - v_k\|^2 / 2\sigma^2), \qquad
          D(y, \sigma, a) = \frac{\sum_{k: A_k = a} p(k \mid y)\, v_k}{\sum_{k: A_k = a} p(k \mid y)}.

All items enter, in tiles; nothing is approximated by nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import UNKNOWN, InputError, LabelledData
from sigmascope.exact.common import (
    ExactDenoiser,
    Known,
    Levels,
    Logits,
    Rows,
    Values,
    check_known,
    check_possible,
    check_rows,
    grouped_logsumexp,
    set_buffers,
)
from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.passes import tile_rows
from sigmascope.exact.finite.streaming import single_precision

_CACHED_ROWS = 256  # of float64: a larger tile is read from memory twice


class FiniteDenoiser(ExactDenoiser):
    r"""Exact denoiser and posterior of a finite labelled data set: the law :math:`\sum_k w_k \delta_{v_k}` under noise.

    .. math:: p(k \mid y) \propto w_k \exp(-\|y - v_k\|^2 / 2\sigma^2), \qquad
              D(y, \sigma, a) = \frac{\sum_{k: A_k = a} p(k \mid y)\, v_k}{\sum_{k: A_k = a} p(k \mid y)}

    All items enter, at every sigma.  Everything is computed in float64, except :meth:`forward` for y in float32: its
    error is some 1e-6 of the range of the data.

    Args:
        data: items, labels and weights.
        device: where to compute.

    Attributes:
        columns: by the name of each attribute, the slice of its values where the values of all attributes are put side
            by side.
        width: number of the values of all attributes together.
        classes: for each attribute the column of each item's value, int64, shape (items, attributes).
        log_weight: ln w of each item, float64, shape (items,).
        centre: a mean of items, float32, shape (size,), which is subtracted from items and from y before products, so
            that rounding stays small.

    Raises: InputError, by its methods, for shapes that do not fit, numbers that are not finite, or sigma that is not
        above 0.

    Cost: of a call, some 4 · items · size · batch floating-point operations and one reading of the items.

    References: Robbins (1956); Miyasawa (1961); Franzese et al. (2025), Section 3.
    """

    centre: Tensor
    classes: Tensor
    log_weight: Tensor

    def __init__(self, data: LabelledData, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.data = data
        self.event = data.event
        self.attributes = data.attributes
        ends = list(accumulate(len(a.values) for a in data.attributes))
        self.columns = {a.name: slice(e - len(a.values), e) for a, e in zip(data.attributes, ends, strict=True)}
        self.width = sum(len(a.values) for a in data.attributes)
        columns = [data.labels[name] + part.start for name, part in self.columns.items()]
        # Any centre is exact; a mean keeps the products, and with them the rounding, small.
        sample = torch.linspace(0, len(data) - 1, min(len(data), 512), dtype=torch.float64).round().long()
        centre = data.source.take(sample).reshape(len(sample), -1).double().mean(0).float()
        classes = torch.stack(columns, 1) if columns else torch.zeros(len(data), 0, dtype=torch.int64)
        set_buffers(self, centre=centre, classes=classes, log_weight=data.weights.log())
        self._squares: Tensor | None = None
        self.equal_weights = bool((data.weights == data.weights[0]).all())
        self.to(device)

    def tiles(self, batch: int) -> Iterator[tuple[slice, Float[Tensor, "rows size"]]]:
        """The items less the centre, float64, tile by tile; a tile is overwritten by the next."""
        rows = min(tile_rows(self.data.size, 2 * batch), _CACHED_ROWS, len(self.data))
        buffer = torch.empty(rows, self.data.size, dtype=torch.float64, device=self.centre.device)
        centre = self.centre.double()
        for start in range(0, len(self.data), rows):
            stop = min(start + rows, len(self.data))
            tile = buffer[: stop - start]
            tile.copy_(self.data.source.read(start, stop).reshape(stop - start, -1)).sub_(centre)
            yield slice(start, stop), tile

    def rows(self, y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy values less the centre, and their levels, float64, on the device.

        Raises: InputError for shapes that do not fit or numbers that are not finite.
        """
        check_rows(y, sigma, self.event)
        flat = y.to(self.centre.device).reshape(len(y), -1).double() - self.centre
        return flat, sigma.to(self.centre.device).double()

    def logits(self, rows: slice, tile: Tensor, y: Tensor, sigma: Tensor) -> Logits:
        r""":math:`\ln w_k - \|y - v_k\|^2 / 2\sigma^2` of a tile of items, without its term in y alone.

        That term, :math:`\|y\|^2`, is the same for all items; without it digits are kept where y is far from the data.
        """
        distance2 = torch.addmm(self.squares(rows, tile)[:, None], tile, y.T, alpha=-2.0)
        return distance2.mul_(-0.5 / sigma**2).add_(self.log_weight[rows, None])

    def squares(self, rows: slice, tile: Tensor) -> Float[Tensor, " rows"]:
        """Squared norms of the items of a tile, less the centre; computed once."""
        if self._squares is None:
            self._squares = torch.full_like(self.log_weight, torch.nan)
        squares = self._squares[rows]
        if bool(squares.isnan().any()):
            squares.copy_(torch.linalg.vector_norm(tile, dim=1) ** 2)
        return squares

    def squares_of_all(self) -> Float[Tensor, " items"]:
        """Squared norms of all items less the centre; the first call reads the data."""
        if self._squares is None or bool(self._squares.isnan().any()):
            for rows, tile in self.tiles(1):
                self.squares(rows, tile)
        return cast(Tensor, self._squares)

    def forward(self, y: Values, sigma: Levels, known: Known = None) -> Values:
        """E[V | Y_sigma = y, known attributes], in the dtype of y.

        Args:
            y: noisy values, shape (batch, *event).
            sigma: one noise level per row, above 0, shape (batch,), in the unit of the data.
            known: by name, for some of the attributes: the index of the value of each row, int64, shape (batch,), -1
                where unknown.

        Returns: the posterior means, of the shape of y.  For y in float64 they are computed in float64; for float32 the
            error is some 1e-6 of the range of the data.

        Cost: 4 · items · size · batch floating-point operations, or half of that for y in float32 where few items count
            (:mod:`sigmascope.exact.finite.streaming`), and one reading of the items.

        Raises: InputError for shapes that do not fit, an unknown attribute or value, or a combination that no item has.
        """
        flat, level = self.rows(y, sigma)
        columns = self.columns_known(known or {}, len(y))
        if y.dtype != torch.float32:
            return (self._in_double(flat, level, columns) + self.centre).to(y.dtype).reshape(y.shape).to(y.device)
        mean, left = single_precision(self, flat, level, columns)
        if bool(left.any()):
            mean[left] = self._in_double(flat[left], level[left], [(c, value[left]) for c, value in columns])
        return (mean + self.centre).to(y.dtype).reshape(y.shape).to(y.device)

    def _in_double(self, flat: Rows, level: Levels, known: list[tuple[int, Tensor]]) -> Rows:
        """The posterior mean less the centre, all of it in float64."""
        top = torch.full_like(level, -torch.inf)
        mass = torch.zeros_like(level)
        total = torch.zeros_like(flat)
        for rows, tile in self.tiles(len(flat)):
            logit = self.restricted(rows, self.logits(rows, tile, flat, level), known)
            new = torch.maximum(top, logit.max(0).values)
            safe = torch.where(torch.isfinite(new), new, 0.0)
            weight = (logit - safe).exp()
            shrink = (top - safe).exp()
            mass = mass * shrink + weight.sum(0)
            total = total * shrink[:, None] + weight.T @ tile
            top = new
        check_possible(mass > 0)
        return total / mass[:, None]

    def columns_known(self, known: Mapping[str, Tensor], batch: int) -> list[tuple[int, Tensor]]:
        """For each known attribute its place among the attributes, and the column of each row's value, or UNKNOWN.

        Raises: InputError.
        """
        columns = []
        for name, value in known.items():
            check_known(name, value, batch, len(self.attribute(name).values))
            index = value.to(self.centre.device)
            place = list(self.columns).index(name)
            columns.append((place, torch.where(index == UNKNOWN, UNKNOWN, index + self.columns[name].start)))
        return columns

    def restricted(self, rows: slice, logit: Logits, known: list[tuple[int, Tensor]]) -> Logits:
        """Logits of a tile, -inf for items that lack a known attribute (as of :meth:`columns_known`)."""
        for place, column in known:
            possible = (column == UNKNOWN) | (self.classes[rows, place, None] == column)
            logit = logit.masked_fill(~possible, -torch.inf)
        return logit

    def means_by_value(self, y: Values, sigma: Levels, attribute: str) -> Float[Tensor, "values batch *event"]:
        """E[V | Y_sigma = y, A = a] for every value a of an attribute, in one pass, float64.

        A value that no item of positive weight has gets the mean of some items, which is finite and of no use.

        Raises: InputError for an unknown attribute, or y and sigma that do not fit.
        """
        a = self.attribute(attribute)
        place, first = list(self.columns).index(attribute), self.columns[attribute].start
        flat, level = self.rows(y, sigma)
        shape = (len(a.values), len(y))
        top, mass = level.new_full(shape, -torch.inf), level.new_zeros(shape)
        total = level.new_zeros(*shape, flat.shape[1])
        for rows, tile in self.tiles(len(y)):
            logit = self.logits(rows, tile, flat, level)
            index = self.classes[rows, place] - first
            new = top.scatter_reduce(0, index[:, None].expand_as(logit), logit, "amax")
            safe = torch.where(torch.isfinite(new), new, 0.0)
            weight, shrink = (logit - safe[index]).exp(), (top - safe).exp()
            mass = (mass * shrink).index_add_(0, index, weight)
            if bool((shrink != 1.0).any()):
                total *= shrink[:, :, None]
            ClassSums(index[:, None]).add(total, weight, tile)
            top = new
        return (total / mass.clamp_min(1e-300)[:, :, None] + self.centre).reshape(*shape, *self.event).to(y.device)

    def sample_items(self, y: Values, sigma: Levels, n: int, generator: torch.Generator) -> Int64[Tensor, "n batch"]:
        """n independent items from p(item | y) for each row, by inversion of its distribution function.

        Returns: indices of items, int64, shape (n, batch).

        Cost: one pass, and a second one over the tiles that hold a drawn item.
        """
        flat, level = self.rows(y, sigma)
        sums = [self.logits(rows, tile, flat, level).logsumexp(0) for rows, tile in self.tiles(len(y))]
        by_tile = torch.stack(sums).softmax(0).cumsum(0)
        u = torch.rand(n, len(y), generator=generator, dtype=torch.float64).to(flat.device) * by_tile[-1]
        chosen = torch.searchsorted(by_tile.T.contiguous(), u.T.contiguous(), right=True).T.clamp_max(len(sums) - 1)
        tiles = set(chosen.flatten().tolist())
        items = torch.zeros_like(chosen)
        for i, (rows, tile) in enumerate(self.tiles(len(y))):
            if i not in tiles:
                continue
            below = by_tile[i - 1] if i else torch.zeros_like(by_tile[0])
            share = ((u - below) / (by_tile[i] - below).clamp_min(1e-300)).clamp(0.0, 1.0)
            inside = self.logits(rows, tile, flat, level).softmax(0).cumsum(0).T.contiguous()
            pick = torch.searchsorted(inside, (share * inside[:, -1]).T.contiguous(), right=True).T
            items = torch.where(chosen == i, rows.start + pick.clamp_max(len(tile) - 1), items)
        return items

    def sample_posterior(
        self, y: Values, sigma: Levels, n: int, generator: torch.Generator
    ) -> Float[Tensor, "n batch *event"]:
        """n independent draws of V given Y_sigma = y, for each row: items of the data."""
        items = self.sample_items(y, sigma, n, generator)
        return self.data.source.take(items.flatten().cpu()).reshape(*items.shape, *self.event).to(y.device)

    def all_log_posteriors(self, y: Values, sigma: Levels) -> dict[str, Float[Tensor, "batch values"]]:
        """ln p(a | Y_sigma = y) of every attribute, in one pass, float64."""
        flat, level = self.rows(y, sigma)
        sums = self._no_sums(1, len(y))
        for rows, tile in self.tiles(len(y)):
            sums[0] = torch.logaddexp(sums[0], self.log_sums(rows, self.logits(rows, tile, flat, level)))
        return {name: log_p[0].to(y.device) for name, log_p in self.normalised(sums).items()}

    def posterior_levels(
        self, v: Values, noise: Values, sigmas: Float[Tensor, " levels"]
    ) -> dict[str, Float[Tensor, "levels batch values"]]:
        """ln p(a | v + sigma noise) for every attribute and level, float64, in one pass over the items.

        Args:
            v: clean values, shape (batch, *event), which need not be items.
            noise: standard normal, of the shape of v.
            sigmas: levels, above 0, shape (levels,).

        Raises: InputError for shapes that do not fit or numbers that are not finite.
        """
        if noise.shape != v.shape or not bool(torch.isfinite(noise).all()):
            raise InputError(f"noise has shape {tuple(noise.shape)}: expected finite numbers of shape {tuple(v.shape)}")
        if not bool((sigmas > 0).all()):
            raise InputError("sigmas must be greater than 0")
        flat, _ = self.rows(v, torch.ones(len(v), dtype=torch.float64))
        n = noise.to(self.centre.device).reshape(len(v), -1).double()
        sums = self._no_sums(len(sigmas), len(v))
        for rows, tile in self.tiles(len(v)):
            distance2 = (tile**2).sum(1, keepdim=True) - 2.0 * (tile @ flat.T)  # without the term that all items share
            along = tile @ n.T
            for j, sigma in enumerate(sigmas.tolist()):
                logit = distance2 * (-0.5 / sigma**2) + along / sigma + self.log_weight[rows, None]
                sums[j] = torch.logaddexp(sums[j], self.log_sums(rows, logit))
        return self.normalised(sums)

    def _no_sums(self, levels: int, batch: int) -> Float[Tensor, "levels columns batch"]:
        return torch.full((levels, self.width, batch), -torch.inf, dtype=torch.float64, device=self.centre.device)

    def log_sums(self, rows: slice, logit: Logits) -> Float[Tensor, "columns batch"]:
        """Log-sum-exp of a tile's logits over the items of each class."""
        ranges = zip(self.classes[rows].T, self.columns.values(), strict=True)
        return torch.cat([grouped_logsumexp(logit, c - r.start, r.stop - r.start) for c, r in ranges])

    def normalised(self, sums: Float[Tensor, "n columns batch"]) -> dict[str, Float[Tensor, "n batch values"]]:
        """ln p(a | y) of every attribute, from log-sums over the items of each class."""
        parts = {name: sums[:, part] for name, part in self.columns.items()}
        return {name: (x - x.logsumexp(1, keepdim=True)).movedim(1, 2) for name, x in parts.items()}
