r"""The exact denoiser of a finite set at small noise, from few items, with a bound on the error of leaving others out.

An upper bound of an item's posterior weight is cheap: see :mod:`sigmascope.exact.finite.kernel.projection_bounds`.  All
items are bounded with some leading principal directions, those that may matter once more with many directions, and
those that still may matter are compared in float64 from true differences.  The items left out have less than a stated
share of the posterior: this is certain, unlike a choice of nearest neighbours.  A row goes to the dense pass where too
many items may matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sigmascope.core import UNKNOWN, Denoiser, InputError
from sigmascope.exact.common import Known, Levels, Values, blocks, check_possible
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel import pairs
from sigmascope.exact.finite.kernel import projection_bounds as bounds
from sigmascope.exact.finite.kernel.threads import full_precision

_ROWS = 64  # at a time
_SCORE_BYTES = 1 << 26
_VALUE_BYTES = 1 << 25
_CANDIDATES = 16  # candidates for the most probable item of a row
_FEW = 32  # items of a row that are always rescored
_CROWDED, _LISTED = 0.03, 0.2  # shares of the items beyond which a row is dense: of rescored and of bounded items
_NOTHING = 1e-20  # weights below this are not added to a mean
_LARGEST, _OVERFLOW = 1e28, 1e300  # the largest numbers for float32 and float64


@dataclass(frozen=True, eq=False)
class Certified:
    r"""Posterior means with bounds on their error.

    Args:
        mean: posterior mean of v, float64, shape (batch, *event).
        bound: upper bound of :math:`|\text{mean} - D(y, \sigma)|`, Euclidean norm, rounding included, shape (batch,).
        left_out: upper bound of the share of the posterior weight that is left out, shape (batch,).
        survivors: how many items had their weight computed, shape (batch,).
        dense: which rows went to the dense pass, shape (batch,).
    """

    mean: Float[Tensor, "batch *event"]
    bound: Float[Tensor, " batch"]
    left_out: Float[Tensor, " batch"]
    survivors: Int64[Tensor, " batch"]
    dense: Bool[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Noisy values of a chunk, and their projections."""

    raw: Float[Tensor, "rows size"]
    sigma: Float[Tensor, " rows"]
    variance: Float[Tensor, " rows"]
    projections: bounds.Projections
    least: Float[Tensor, " rows"]


@dataclass(frozen=True, eq=False)
class _Anchors:
    """For each row a probable item, a lower bound of its score, and the score below which other items do not matter."""

    item: Int64[Tensor, " rows"]
    value: Float[Tensor, "rows size"]
    score: Float[Tensor, " rows"]
    threshold: Float[Tensor, " rows"]


class ScreenedDenoiser(Denoiser):
    r"""The posterior mean of a finite data set, from the items that can matter.

    Args:
        denoiser: the exact denoiser, with its attributes and data.
        directions: how many principal directions bound all items, and how many bound those that are left.
        tolerance: the items left out move the mean by less than this, Euclidean norm, in the unit of the data.
        compiled: whether to use numba; None: where possible.

    Raises: InputError for directions or a tolerance that cannot be used.

    Cost: at the start an eigendecomposition of a matrix of at most 4,096 rows, and 2 · items · size · directions[1]
        operations in float64; memory for items · (directions[0] + directions[1] + 11) numbers of 4 bytes (beyond 1 GiB
        the second stage is left out).  A call: 2 · items · (directions[0] + 11) operations a row, and little more
        where few items matter; the cost of the dense pass for a row that goes there.  The screening runs on the CPU,
        and no gradient flows through it.
    """

    def __init__(
        self,
        denoiser: FiniteDenoiser,
        directions: tuple[int, int] = (128, 1024),
        tolerance: float = 1e-6,
        compiled: bool | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= directions[0] <= directions[1]:
            raise InputError(f"directions are {directions}: expected two numbers from 1 up, the second not the smaller")
        if not 0.0 < tolerance < float("inf"):
            raise InputError(f"tolerance is {tolerance}: expected a finite distance greater than 0, such as 1e-6")
        self.denoiser = denoiser
        self.event, self.attributes = denoiser.event, denoiser.attributes
        self._log_weight = denoiser.log_weight.cpu()
        items = torch.nonzero(torch.isfinite(self._log_weight))[:, 0]
        self._log_weight = self._log_weight[items] - self._log_weight.max()
        self._classes = denoiser.classes.cpu()[items]
        centre = denoiser.centre.cpu().double()
        self._bounds = bounds.ItemBounds(denoiser.data.source, items, self._log_weight, centre, directions)
        share = min(0.5, tolerance / max(4.0 * self._bounds.reach, 1e-300))
        self._depth = float(torch.tensor(len(items) / share, dtype=torch.float64).log())
        self._compiled: ModuleType | None = pairs.compiler() if compiled is not False else None

    def forward(self, y: Values, sigma: Levels, known: Known = None) -> Values:
        """E[V | Y_sigma = y, known attributes], in the dtype of y: the mean of :meth:`certified`."""
        return self.certified(y, sigma, known).mean.to(y.dtype)

    def certified(self, y: Tensor, sigma: Tensor, known: Known = None) -> Certified:
        r"""The posterior mean with a bound on its error.

        Args:
            y: noisy values, shape (batch, *event).
            sigma: one level per row, in the unit of the data.
            known: as in :meth:`forward`.

        Returns: the means and bounds, on the device of y.

        Raises: InputError for shapes that do not fit, numbers that are not finite, an unknown attribute or value, or a
            combination that no item has.
        """
        flat, level = (x.cpu() for x in self.denoiser.rows(y, sigma))
        fine = ((flat.norm(dim=1) + self._bounds.reach) ** 2 / level**2 < _OVERFLOW) & (level**2 < _OVERFLOW)
        if not bool(fine.all()):
            row = int(torch.nonzero(~fine)[0])
            raise InputError(f"row {row}: |y - v|² / sigma² overflows: pass a larger sigma or smaller values")
        columns = [(place, column.cpu()) for place, column in self.denoiser.columns_known(known or {}, len(y))]
        raw = y.detach().cpu().reshape(len(y), -1).double()
        result = Certified(
            mean=torch.empty_like(raw),
            bound=torch.zeros_like(level),
            left_out=torch.zeros_like(level),
            survivors=torch.zeros(len(y), dtype=torch.int64),
            dense=self._beyond(flat, level),
        )
        step = max(1, min(_ROWS, _SCORE_BYTES // (4 * bounds.TILE * len(self._bounds.tiles))))
        with full_precision(), torch.no_grad():
            allowed = self._allowed(columns, len(y))
            screened = torch.nonzero(~result.dense)[:, 0]
            for rows in torch.split(screened, step) if len(screened) else ():
                p = self._bounds.bands.project(flat[rows])
                variance = level[rows] ** 2
                chunk = _Rows(raw[rows], level[rows], variance, p, self._bounds.least(p, variance))
                self._screen(chunk, {i: allowed[int(r)] for i, r in enumerate(rows) if int(r) in allowed}, rows, result)
            self._dense(y, sigma, known or {}, flat, level, result)
        parts = result.mean.reshape(y.shape), result.bound, result.left_out, result.survivors, result.dense
        return Certified(*(x.to(y.device) for x in parts))

    def _beyond(self, flat: Float[Tensor, "batch size"], sigma: Float[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """Which rows have numbers too large for single precision."""
        reach = 1.0 + self._bounds.reach
        size = (1.0 + flat.norm(dim=1)) * reach + reach**2 + sigma**2 * (1.0 - self._log_weight.min())
        return torch.logical_not(size < _LARGEST)

    def _allowed(self, known: list[tuple[int, Tensor]], batch: int) -> dict[int, Tensor]:
        """For each row with known attributes, which items have them.

        Raises: InputError where none has.
        """
        allowed = {}
        for row in range(batch) if known else ():
            mask = torch.ones(len(self._classes), dtype=torch.bool)
            for place, column in known:
                if column[row] != UNKNOWN:
                    mask &= self._classes[:, place] == column[row]
            allowed[row] = mask
        check_possible(torch.tensor([bool(mask.any()) for mask in allowed.values()], dtype=torch.bool))
        return {row: mask for row, mask in allowed.items() if not bool(mask.all())}

    def _screen(self, y: _Rows, allowed: dict[int, Tensor], rows: Int64[Tensor, " rows"], result: Certified) -> None:
        """Fill in the results of a chunk's rows, or mark them for the dense pass."""
        scores, peaks = self._scores(y, allowed)
        anchors = self._anchors(y, self._candidates(y, scores, peaks))
        n, b = len(self._log_weight), self._bounds
        crowded = max(_FEW, int(_CROWDED * n))
        limit = crowded if b.wide is None else max(_FEW, int(_LISTED * n))
        # Rounded down, the threshold keeps more.
        least = anchors.threshold.float().nextafter(torch.tensor(-torch.inf))
        row, item, count = pairs.scores_above(scores, peaks, least, limit, self._compiled)
        dense = count > limit
        threshold = least.double()
        if b.wide is not None:
            row, item, anchors, threshold = self._with_all_directions(b.wide, y, row, item, anchors, threshold)
            count = torch.bincount(row, minlength=len(rows))
            dense |= count > crowded
            kept = ~dense[row]
            row, item = row[kept], item[kept]
        mean, bound, left_out = self._rescored(y, row, item, anchors, threshold)
        result.dense[rows] = dense
        kept = ~dense
        fields = (result.mean, mean), (result.bound, bound), (result.left_out, left_out), (result.survivors, count)
        for field, value in fields:
            field[rows[kept]] = value[kept]

    def _scores(self, y: _Rows, allowed: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Upper bounds of all scores, (tiles, rows, blocks, BLOCK), and the largest in every block."""
        b = self._bounds
        left = b.left(y.projections, y.variance)
        scores = torch.empty(len(b.tiles), len(left), bounds.TILE // bounds.BLOCK, bounds.BLOCK)
        peaks = torch.empty(len(b.tiles), len(left), bounds.TILE // bounds.BLOCK)

        def fill(part: slice) -> None:
            for tile in range(part.start, part.stop):
                upper = torch.mm(left, b.tiles[tile], out=scores[tile].flatten(1))
                for row, mask in allowed.items():
                    kept = mask[tile * bounds.TILE : (tile + 1) * bounds.TILE]
                    upper[row, : len(kept)].masked_fill_(~kept, -torch.inf)
                torch.amax(scores[tile], 2, out=peaks[tile])

        pairs.by_parts(fill, len(b.tiles))
        return scores, peaks

    def _candidates(self, y: _Rows, scores: Tensor, peaks: Tensor) -> Int64[Tensor, " rows"]:
        """For each row an item that is likely among the most probable ones."""
        by_row = peaks.transpose(0, 1).flatten(1)
        top = by_row.topk(min(_CANDIDATES, by_row.shape[1]), dim=1)
        tile, block = top.indices // peaks.shape[2], top.indices % peaks.shape[2]
        row = torch.arange(len(by_row))[:, None].expand_as(tile)
        inside = scores[tile, row, block].argmax(2)
        item = tile * bounds.TILE + block * bounds.BLOCK + inside
        b = self._bounds
        if b.wide is None:
            return item[:, 0]
        row, flat = row.flatten(), item.flatten().clamp_max(len(self._log_weight) - 1)
        product = pairs.products(b.wide, flat, self._wide(y), row, self._compiled)
        score, _ = b.wide_scores(product, y.projections, y.variance, row, flat)
        real = torch.isfinite(top.values) & (item < len(self._log_weight))
        best = torch.where(real, score.reshape(item.shape), -torch.inf).argmax(1)
        return item.gather(1, best[:, None])[:, 0]

    def _wide(self, y: _Rows) -> Float[Tensor, "rows runs run"]:
        along = y.projections.along.float()
        padded = torch.nn.functional.pad(along, (0, -along.shape[1] % bounds.RUN))
        return padded.reshape(len(padded), -1, bounds.RUN)

    def _anchors(self, y: _Rows, item: Int64[Tensor, " rows"]) -> _Anchors:
        """Exact scores of one item for each row, and so the score below which items do not matter."""
        value = self._values(item).double()
        square = ((y.raw - value) ** 2).sum(1)
        y_square = y.projections.square
        score = 0.5 * (y_square - square) + y.variance * self._log_weight[item]
        deep = y.variance * self._depth
        doubt = y_square + square + deep + y.variance * self._log_weight[item].abs()
        score = score - bounds.rounding(value.shape[1] + 32) * doubt - 1e-15 * y.variance
        return _Anchors(item, value, score, score - deep - y.least)

    def _with_all_directions(
        self, wide: Tensor, y: _Rows, row: Tensor, item: Tensor, anchors: _Anchors, threshold: Tensor
    ) -> tuple[Tensor, Tensor, _Anchors, Tensor]:
        """The pairs that still may matter by bounds with all directions, and better anchors where there are some."""
        product = pairs.products(wide, item, self._wide(y), row, self._compiled)
        score, upper = self._bounds.wide_scores(product, y.projections, y.variance, row, item)
        best = torch.full_like(threshold, -torch.inf).scatter_reduce(0, row, score, "amax")
        leader = anchors.item.clone()
        leads = score == best[row]
        leader[row[leads]] = item[leads]
        changed = torch.nonzero(leader != anchors.item)[:, 0]
        if len(changed):
            other = self._anchors(y, leader)
            better = other.score > anchors.score
            parts = zip(vars(other).values(), vars(anchors).values(), strict=True)
            anchors = _Anchors(*(torch.where(better if a.ndim == 1 else better[:, None], a, o) for a, o in parts))
        threshold = torch.maximum(threshold, anchors.threshold)
        kept = upper > threshold[row]
        return row[kept], item[kept], anchors, threshold

    def _values(self, position: Int64[Tensor, " rows"]) -> Float[Tensor, "rows size"]:
        source = self.denoiser.data.source
        return source.take(self._bounds.items[position]).reshape(len(position), -1)

    def _rescored(
        self, y: _Rows, row: Tensor, item: Tensor, anchors: _Anchors, threshold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Means, bounds and shares left out, from true differences to the anchors r.

        With :math:`\delta` the largest error of a row's logits, the weights err by a factor :math:`e^{2\delta} - 1` at
        most, and so does the mean less the anchor; the items left out move it by their share of the largest distance.
        """
        other = item != anchors.item[row]
        row, item = row[other], item[other]
        logit, length, doubt = self._logits(y, row, item, anchors)
        # The largest logit of a row may be the anchor's, 0.
        zero = torch.zeros_like(y.sigma)
        top = zero.scatter_reduce(0, row, logit, "amax")
        weight = (logit - top[row]).exp()
        share = weight / (-top).exp().index_add(0, row, weight)[row]
        mean = self._mean(row, item, share, anchors)
        count = torch.bincount(row, minlength=len(zero)).double()
        widest, n = 2.0 * self._bounds.reach, len(self._log_weight)
        error = 2.0 * zero.scatter_reduce(0, row, doubt, "amax")
        moved = zero.index_add(0, row, share * length) + count * 1e-300 * widest
        factor = error.clamp_max(600.0).expm1() + 2.0 * bounds.rounding(n + 64)
        left_out = (n * ((threshold + y.least - anchors.score) / y.variance).exp()).clamp_max(1.0)
        bound = torch.where(error > 600.0, widest, factor * moved) + (left_out + count * _NOTHING) * widest
        last = 4.0 * bounds.HALF_EPS64 * (anchors.value.norm(dim=1) + widest)
        return mean, (bound * (1.0 + 1e-9)).clamp_max(widest) + last, left_out

    def _logits(self, y: _Rows, row: Tensor, item: Tensor, anchors: _Anchors) -> tuple[Tensor, Tensor, Tensor]:
        r"""Logits of pairs relative to the anchors, distances to these, and bounds on the rounding of the logits.

        .. math:: \ell_k - \ell_r = \frac{\langle y - v_r, v_k - v_r\rangle - \frac12\|v_k - v_r\|^2}{\sigma^2}
                  + \ln\frac{w_k}{w_r}
        """
        size, difference = y.raw.shape[1], y.raw - anchors.value
        along, square = torch.empty(len(row), dtype=torch.float64), torch.empty(len(row), dtype=torch.float64)
        for part in blocks(len(row), size, _VALUE_BYTES // 4):
            values = self._values(item[part])
            products = pairs.differences(values, anchors.value, difference, row[part], self._compiled)
            along[part], square[part] = products
        variance, log_weight, of_anchor = y.variance[row], self._log_weight[item], self._log_weight[anchors.item][row]
        logit = (along - 0.5 * square) / variance + (log_weight - of_anchor)
        length = square.sqrt()
        doubt = bounds.rounding(size + 16) * (difference.norm(dim=1)[row] * length + square) / variance
        doubt += 8.0 * bounds.HALF_EPS64 * (logit.abs() + log_weight.abs() + of_anchor.abs() + 4.0)
        return logit, length, doubt

    def _mean(self, row: Tensor, item: Tensor, share: Tensor, anchors: _Anchors) -> Float[Tensor, "rows size"]:
        """The anchor plus the weighted differences to it, without negligible weights."""
        mean = anchors.value.clone()
        near = torch.nonzero(share > _NOTHING)[:, 0]
        for part in blocks(len(near), mean.shape[1], _VALUE_BYTES // 4):
            chosen = near[part]
            step = self._values(item[chosen]).double() - anchors.value[row[chosen]]
            mean.index_add_(0, row[chosen], step.mul_(share[chosen, None]))
        return mean

    def _dense(
        self, y: Tensor, sigma: Tensor, known: Mapping[str, Tensor], flat: Tensor, level: Tensor, result: Certified
    ) -> None:
        """Fill in the rows of the dense pass, with the bound of its own arithmetic."""
        rows = torch.nonzero(result.dense)[:, 0]
        if not len(rows):
            return
        of_rows = {name: value[rows.to(value.device)] for name, value in known.items()}
        mean = self.denoiser(y[rows.to(y.device)].double(), sigma[rows.to(sigma.device)].double(), of_rows)
        result.mean[rows] = mean.reshape(len(rows), -1).cpu()
        result.survivors[rows] = len(self._log_weight)
        size, reach = flat.shape[1], self._bounds.reach
        n = len(self.denoiser.data)
        # Logits err by gamma (|y| + |v|)² / 2 sigma², since distances come from products; weights by e to that power.
        length2 = (flat[rows].norm(dim=1) + reach) ** 2 / level[rows] ** 2
        largest = float(self.denoiser.log_weight[torch.isfinite(self.denoiser.log_weight)].abs().max())
        error = 2.0 * (bounds.rounding(size + 32) * length2 + 8.0 * bounds.HALF_EPS64 * (largest + 4.0))
        factor = error.clamp_max(600.0).expm1() + 4.0 * bounds.rounding(2 * n + 64) + 1e-290
        bound = torch.where(error > 600.0, 2.0 * reach, 2.0 * reach * factor).clamp_max(2.0 * reach)
        last = 4.0 * bounds.HALF_EPS64 * (float(self._bounds.centre.norm()) + 2.0 * reach)
        result.bound[rows] = bound + last
