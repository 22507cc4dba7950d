r"""The exact denoiser of a finite set at small noise, from few items, with a bound on what is left out.

An upper bound of an item's posterior weight is cheap: see
:mod:`sigmascope.exact.finite.kernel.projection_bounds`.  All are bounded with some leading principal directions, those
that may matter once more with many, and those that still may are compared in float64 from true differences.  What is
left out weighs less than a stated share of the posterior, for certain: this is not a choice of nearest neighbours.
Rows of which too much may matter are handed to the dense pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sigmascope.core import UNKNOWN, Denoiser, InputError
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel import pairs
from sigmascope.exact.finite.kernel.projection_bounds import (
    BLOCK,
    HALF_EPS64,
    RUN,
    TILE,
    ItemBounds,
    Projections,
    rounding,
)
from sigmascope.exact.finite.kernel.threads import full_precision

_ROWS = 64  # at a time
_SCORE_BYTES = 1 << 26
_VALUE_BYTES = 1 << 25
_CANDIDATES = 16  # candidates for the most probable item of a row
_FEW = 32  # items of a row that are always rescored
_CROWDED, _LISTED = 0.03, 0.2  # shares of the items of which a row is handed to the dense pass: rescored, and bounded
_NOTHING = 1e-20  # a weight that need not be added to a mean
_LARGEST, _OVERFLOW = 1e28, 1e300  # what fits float32, and float64


@dataclass(frozen=True, eq=False)
class Certified:
    r"""Posterior means with bounds on their error.

    Args:
        mean: of v, float64, shape (batch, *event).
        bound: on :math:`|\text{mean} - D(y, \sigma)|`, Euclidean norm, rounding included, shape (batch,).
        left_out: on the share of the posterior weight that was left out, shape (batch,).
        survivors: items whose weight was computed, shape (batch,).
        dense: rows handed to the dense pass, shape (batch,).
    """

    mean: Float[Tensor, "batch *event"]
    bound: Float[Tensor, " batch"]
    left_out: Float[Tensor, " batch"]
    survivors: Int64[Tensor, " batch"]
    dense: Bool[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Noisy values of a chunk: as they are, and as bounds need them."""

    raw: Float[Tensor, "rows size"]
    sigma: Float[Tensor, " rows"]
    variance: Float[Tensor, " rows"]
    projections: Projections
    least: Float[Tensor, " rows"]


@dataclass(frozen=True, eq=False)
class _Anchors:
    """For each row an item that is probable, the scores that matter beside it, and a lower bound of its own score."""

    item: Int64[Tensor, " rows"]
    value: Float[Tensor, "rows size"]
    score: Float[Tensor, " rows"]
    threshold: Float[Tensor, " rows"]


class ScreenedDenoiser(Denoiser):
    r"""The posterior mean of a finite data set, from the items that can matter.

    Args:
        denoiser: the exact denoiser; what it is told, and its data, are this one's.
        directions: how many principal directions bound all items, and how many bound those that are left.
        tolerance: what is left out moves the mean by less than this, Euclidean norm, in the unit of the data.
        compiled: whether to use numba; None: where it can be.

    Raises: InputError for directions or a tolerance that cannot be used.

    Cost: an eigendecomposition of a matrix of at most 4,096 rows and 2 · items · size · directions[1] operations in
        float64 at the start; items · (directions[0] + directions[1] + 11) numbers of 4 bytes are held (no more than
        1 GiB for the second stage, which is left out beyond).  A call: 2 · items · (directions[0] + 11) operations a
        row, and little more where few items matter; for a row handed to the dense pass, the cost of that pass.  The
        screening runs on the CPU, and no gradient goes through it.
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
        self._bounds = ItemBounds(denoiser.data.source, items, self._log_weight, centre, directions)
        share = min(0.5, tolerance / max(4.0 * self._bounds.reach, 1e-300))
        self._depth = float(torch.tensor(len(items) / share, dtype=torch.float64).log())
        self._compiled: ModuleType | None = pairs.compiler() if compiled is not False else None

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """E[V | Y_sigma = y, known attributes], in the dtype of y: the mean of :meth:`certified`."""
        return self.certified(y, sigma, known).mean.to(y.dtype)

    def certified(self, y: Tensor, sigma: Tensor, known: Mapping[str, Tensor] | None = None) -> Certified:
        r"""The posterior mean, how far it can be from the exact one, and why.

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
            raise InputError(f"row {row}: |y - v|² / sigma² overflows: pass other numbers")
        told = [(column, value.cpu()) for column, value in self.denoiser.columns_known(known or {}, len(y))]
        raw = y.detach().cpu().reshape(len(y), -1).double()
        found = Certified(
            mean=torch.empty_like(raw),
            bound=torch.zeros_like(level),
            left_out=torch.zeros_like(level),
            survivors=torch.zeros(len(y), dtype=torch.int64),
            dense=self._beyond(flat, level),
        )
        step = max(1, min(_ROWS, _SCORE_BYTES // (4 * TILE * len(self._bounds.tiles))))
        with full_precision(), torch.no_grad():
            allowed = self._allowed(told, len(y))
            screened = torch.nonzero(~found.dense)[:, 0]
            for rows in screened.split(step) if len(screened) else ():
                p = self._bounds.bands.project(flat[rows])
                variance = level[rows] ** 2
                chunk = _Rows(raw[rows], level[rows], variance, p, self._bounds.least(p, variance))
                self._screen(chunk, {i: allowed[int(r)] for i, r in enumerate(rows) if int(r) in allowed}, rows, found)
            self._pass_on(y, sigma, known or {}, flat, level, found)
        parts = found.mean.reshape(y.shape), found.bound, found.left_out, found.survivors, found.dense
        return Certified(*(x.to(y.device) for x in parts))

    def _beyond(self, flat: Float[Tensor, "batch size"], sigma: Float[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """Rows whose numbers single precision does not hold."""
        reach = 1.0 + self._bounds.reach
        size = (1.0 + flat.norm(dim=1)) * reach + reach**2 + sigma**2 * (1.0 - self._log_weight.min())
        return ~(size < _LARGEST)

    def _allowed(self, told: list[tuple[int, Tensor]], batch: int) -> dict[int, Tensor]:
        """For each row that is told something, which items agree.

        Raises: InputError where none does.
        """
        allowed = {}
        for row in range(batch) if told else ():
            mask = torch.ones(len(self._classes), dtype=torch.bool)
            for column, value in told:
                if value[row] != UNKNOWN:
                    mask &= self._classes[:, column] == value[row]
            if not bool(mask.any()):
                raise InputError(
                    f"row {row}: no item has the attributes that are said to be known: leave one unknown (-1)"
                )
            if not bool(mask.all()):
                allowed[row] = mask
        return allowed

    def _screen(self, y: _Rows, allowed: dict[int, Tensor], rows: Int64[Tensor, " rows"], found: Certified) -> None:
        """Fill in the rows of a chunk, or mark them for the dense pass."""
        scores, peaks = self._scores(y, allowed)
        anchors = self._anchors(y, self._candidates(y, scores, peaks))
        n, b = len(self._log_weight), self._bounds
        crowded = max(_FEW, int(_CROWDED * n))
        limit = crowded if b.wide is None else max(_FEW, int(_LISTED * n))
        # Rounded down, the threshold keeps more.
        least = anchors.threshold.float().nextafter(torch.tensor(-torch.inf))
        row, item, count = pairs.living(scores, peaks, least, limit, self._compiled)
        dense = count > limit
        threshold = least.double()
        if b.wide is not None:
            row, item, anchors, threshold = self._with_all_directions(b.wide, y, row, item, anchors, threshold)
            count = torch.bincount(row, minlength=len(rows))
            dense |= count > crowded
            kept = ~dense[row]
            row, item = row[kept], item[kept]
        mean, bound, left_out = self._rescored(y, row, item, anchors, threshold)
        found.dense[rows] = dense
        mine = rows[~dense]
        found.mean[mine], found.bound[mine], found.left_out[mine] = mean[~dense], bound[~dense], left_out[~dense]
        found.survivors[mine] = count[~dense]

    def _scores(self, y: _Rows, allowed: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Upper bounds of all scores, (tiles, rows, blocks, BLOCK), and the largest in every block."""
        b = self._bounds
        left = b.left(y.projections, y.variance)
        scores = torch.empty(len(b.tiles), len(left), TILE // BLOCK, BLOCK)
        peaks = torch.empty(len(b.tiles), len(left), TILE // BLOCK)

        def fill(part: slice) -> None:
            for tile in range(part.start, part.stop):
                mine = torch.mm(left, b.tiles[tile], out=scores[tile].flatten(1))
                for row, mask in allowed.items():
                    kept = mask[tile * TILE : (tile + 1) * TILE]
                    mine[row, : len(kept)].masked_fill_(~kept, -torch.inf)
                torch.amax(scores[tile], 2, out=peaks[tile])

        pairs.by_parts(fill, len(b.tiles))
        return scores, peaks

    def _candidates(self, y: _Rows, scores: Tensor, peaks: Tensor) -> Int64[Tensor, " rows"]:
        """An item for each row that is probably among the most probable ones."""
        by_row = peaks.transpose(0, 1).flatten(1)
        top = by_row.topk(min(_CANDIDATES, by_row.shape[1]), dim=1)
        tile, block = top.indices // peaks.shape[2], top.indices % peaks.shape[2]
        row = torch.arange(len(by_row))[:, None].expand_as(tile)
        inside = scores[tile, row, block].argmax(2)
        item = tile * TILE + block * BLOCK + inside
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
        return torch.nn.functional.pad(along, (0, -along.shape[1] % RUN)).unflatten(1, (-1, RUN))

    def _anchors(self, y: _Rows, item: Int64[Tensor, " rows"]) -> _Anchors:
        """True distances of one item for each row, and so the score below which nothing need be looked at."""
        value = self._values(item).double()
        square = ((y.raw - value) ** 2).sum(1)
        known = y.projections.square
        score = 0.5 * (known - square) + y.variance * self._log_weight[item]
        deep = y.variance * self._depth
        doubt = known + square + deep + y.variance * self._log_weight[item].abs()
        score = score - rounding(value.shape[1] + 32, HALF_EPS64) * doubt - 1e-15 * y.variance
        return _Anchors(item, value, score, score - deep - y.least)

    def _with_all_directions(
        self, wide: Tensor, y: _Rows, row: Tensor, item: Tensor, anchors: _Anchors, threshold: Tensor
    ) -> tuple[Tensor, Tensor, _Anchors, Tensor]:
        """Those of the pairs that still may matter with all directions, beside a better anchor where there is one."""
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

    def _blocks(self, count: int, size: int) -> Iterator[slice]:
        step = max(1, _VALUE_BYTES // (4 * size))
        for start in range(0, count, step):
            yield slice(start, min(start + step, count))

    def _rescored(
        self, y: _Rows, row: Tensor, item: Tensor, anchors: _Anchors, threshold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Means, bounds and shares left out, from true differences to the anchors r.

        With :math:`\delta` the largest error of a row's logits, the weights err by a factor :math:`e^{2\delta} - 1` at
        most, and so does the mean less the anchor; what is left out moves it by its share of the widest distance.
        """
        other = item != anchors.item[row]
        row, item = row[other], item[other]
        logit, length, doubt = self._logits(y, row, item, anchors)
        # The largest logit of a row may be the anchor's, 0.
        zero = torch.zeros_like(y.sigma)
        top = zero.scatter_reduce(0, row, logit, "amax")
        mine = (logit - top[row]).exp()
        share = mine / (-top).exp().index_add(0, row, mine)[row]
        mean = self._mean(row, item, share, anchors)
        count = torch.bincount(row, minlength=len(zero)).double()
        widest, n = 2.0 * self._bounds.reach, len(self._log_weight)
        error = 2.0 * zero.scatter_reduce(0, row, doubt, "amax")
        moved = zero.index_add(0, row, share * length) + count * 1e-300 * widest
        factor = error.clamp_max(600.0).expm1() + 2.0 * rounding(n + 64, HALF_EPS64)
        left_out = (n * ((threshold + y.least - anchors.score) / y.variance).exp()).clamp_max(1.0)
        bound = torch.where(error > 600.0, widest, factor * moved) + (left_out + count * _NOTHING) * widest
        last = 4.0 * HALF_EPS64 * (anchors.value.norm(dim=1) + widest)
        return mean, (bound * (1.0 + 1e-9)).clamp_max(widest) + last, left_out

    def _logits(self, y: _Rows, row: Tensor, item: Tensor, anchors: _Anchors) -> tuple[Tensor, Tensor, Tensor]:
        r"""Logits of pairs relative to the anchors, distances to these, and what rounding may do to the logits.

        .. math:: \ell_k - \ell_r = \frac{\langle y - v_r, v_k - v_r\rangle - \frac12\|v_k - v_r\|^2}{\sigma^2}
                  + \ln\frac{w_k}{w_r}
        """
        size, apart = y.raw.shape[1], y.raw - anchors.value
        along, square = torch.empty(len(row), dtype=torch.float64), torch.empty(len(row), dtype=torch.float64)
        for part in self._blocks(len(row), size):
            values = self._values(item[part])
            found = pairs.differences(values, anchors.value, apart, row[part], self._compiled)
            along[part], square[part] = found
        variance, mine, own = y.variance[row], self._log_weight[item], self._log_weight[anchors.item][row]
        logit = (along - 0.5 * square) / variance + (mine - own)
        length = square.sqrt()
        doubt = rounding(size + 16, HALF_EPS64) * (apart.norm(dim=1)[row] * length + square) / variance
        doubt += 8.0 * HALF_EPS64 * (logit.abs() + mine.abs() + own.abs() + 4.0)
        return logit, length, doubt

    def _mean(self, row: Tensor, item: Tensor, share: Tensor, anchors: _Anchors) -> Float[Tensor, "rows size"]:
        """The anchor and the shares of the differences to it, but for those that are nothing."""
        mean = anchors.value.clone()
        near = torch.nonzero(share > _NOTHING)[:, 0]
        for part in self._blocks(len(near), mean.shape[1]):
            chosen = near[part]
            step = self._values(item[chosen]).double() - anchors.value[row[chosen]]
            mean.index_add_(0, row[chosen], step.mul_(share[chosen, None]))
        return mean

    def _pass_on(
        self,
        y: Tensor,
        sigma: Tensor,
        known: Mapping[str, Tensor],
        flat: Float[Tensor, "batch size"],
        level: Float[Tensor, " batch"],
        found: Certified,
    ) -> None:
        """Fill in the rows of the dense pass, with the bound of its own arithmetic."""
        rows = torch.nonzero(found.dense)[:, 0]
        if not len(rows):
            return
        mine = rows.to(y.device)
        told = {name: value[rows.to(value.device)] for name, value in known.items()}
        mean = self.denoiser(y[mine].double(), sigma[rows.to(sigma.device)].double(), told)
        found.mean[rows] = mean.reshape(len(rows), -1).cpu()
        found.survivors[rows] = len(self._log_weight)
        size, reach = flat.shape[1], self._bounds.reach
        n = len(self.denoiser.data)
        # Logits err by gamma (|y| + |v|)² / 2 sigma², since distances are taken from products; weights by e to that.
        length2 = (flat[rows].norm(dim=1) + reach) ** 2 / level[rows] ** 2
        largest = float(self.denoiser.log_weight[torch.isfinite(self.denoiser.log_weight)].abs().max())
        error = 2.0 * (rounding(size + 32, HALF_EPS64) * length2 + 8.0 * HALF_EPS64 * (largest + 4.0))
        factor = error.clamp_max(600.0).expm1() + 4.0 * rounding(2 * n + 64, HALF_EPS64) + 1e-290
        bound = torch.where(error > 600.0, 2.0 * reach, 2.0 * reach * factor).clamp_max(2.0 * reach)
        last = 4.0 * HALF_EPS64 * (float(self._bounds.centre.norm()) + 2.0 * reach)
        found.bound[rows] = bound + last
