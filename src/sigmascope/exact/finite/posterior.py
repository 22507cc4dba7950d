"""One pass over a data set for the posterior, and the posterior means by class, at all levels of shared draws."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import Draws, Gap, InputError
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.kernel.level_sums import LevelSums, is_steady
from sigmascope.exact.finite.kernel.sums import Sums
from sigmascope.exact.finite.kernel.threads import Pipeline, Turn, room, workers
from sigmascope.exact.finite.passes import TilePass, tile_rows
from sigmascope.exact.finite.reals import RealPosterior, RealSums
from sigmascope.exact.finite.sketch import Sketch, pooled

_TILE_ROWS = 1024
MEANS_ROWS = 2048
"""Items of a tile where means are computed, at most: with more rows, their large sums are touched less often."""
_LEADING = 16  # principal directions along which second moments of each value are kept
DOUBLE_COST = 4e10
"""Multiplications below which products are in float64: a second or two."""


class PosteriorPass(TilePass):
    """A pass over a data set for the posterior of every attribute at all levels of shared draws.

    On a CPU each thread has a tile of its own.

    Args:
        denoiser: the exact filter.
        draws: values and noise; items of the data set or, where ``draws.items`` is -1 throughout, other values.
        sigmas: decreasing levels.
        dtype: of the two products.  None is float64 where that costs a second or two, else float32; pairs whose logits
            rounding would change are then computed in float64 (:mod:`sigmascope.exact.finite.kernel.level_sums`).
        sketch: directions for :meth:`gaps`; None computes no posterior means.
        compiled: whether to use numba; None: where possible.
        noisy: the noisy values :math:`a_r` of the draws, by the names of real-valued attributes of the data, for
            :meth:`reals`; float64, shape (draws, columns).  They need draws that are items and no sketch.

    Raises: InputError where only some draws are items, or levels do not decrease.

    Cost: 4 · items · size · draws operations for the products and up to items · draws · levels exponentials; with a
        sketch, 2 · items · draws · directions operations more for each level and attribute.
    """

    def __init__(
        self,
        denoiser: FiniteDenoiser,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        dtype: torch.dtype | None = None,
        sketch: Sketch | None = None,
        compiled: bool | None = None,
        noisy: Mapping[str, Float[Tensor, "draws columns"]] | None = None,
    ) -> None:
        data, device = denoiser.data, denoiser.centre.device
        most = _TILE_ROWS if sketch is None else MEANS_ROWS
        super().__init__(len(data), tile_rows(data.size, len(draws), most))
        self._denoiser, self._draws, self._sketch = denoiser, draws, sketch
        inside = bool((draws.items >= 0).all())
        if not inside and bool((draws.items >= 0).any()):
            raise InputError("some draws are items and others (-1) are not: make a pass for each kind")
        levels = np.asarray(sigmas)
        if levels.ndim != 1 or not len(levels) or levels[-1] <= 0 or (np.diff(levels) >= 0).any():
            raise InputError("sigmas must be positive and decrease: pass levels such as those of sigma_grid")
        own = denoiser.log_weight[draws.items.to(device)] if inside else None
        heaviest = float(denoiser.log_weight.max())
        if dtype is None:
            small = 2.0 * len(data) * data.size * len(draws) < DOUBLE_COST
            dtype = torch.float64 if small or (sketch is not None and not is_steady(own, heaviest)) else torch.float32
        if sketch is not None and sketch.wide is None:
            self._sketch = sketch = sketch.of_draws(len(draws))
        v = draws.v.reshape(len(draws), -1).to(device)
        noise = draws.noise.reshape(len(draws), -1).to(device)
        columns, weights = self._add_reals(noisy)
        self._kernel = LevelSums(
            v, denoiser.centre, noise, sigmas, columns, own, dtype, heaviest, sketch, compiled, weights
        )
        self._moments = {} if sketch is None else self._no_moments(sketch, v)
        self._begun = 0  # tiles, some of which other threads may still have
        self._threads = workers(device)
        self._pipeline = Pipeline(self._threads)
        self._turns: dict[int, Turn] = {}  # the latest turn at each worker's sums
        self._each = [self._kernel.total]  # the sums of each worker
        self._broken = False

    def _no_moments(self, sketch: Sketch, v: Float[Tensor, "draws size"]) -> dict[str, Tensor]:
        """Empty moments by class; keeps the draws' own projections."""
        projected = (v.double() - self._denoiser.centre) @ sketch.mixed.to(v.device).double()
        coarse, index = sketch.coarse, self._kernel.total.inputs.means.index
        with_one = torch.cat([projected[:, :coarse], projected.new_ones(len(v), 1), projected[:, coarse:]], 1)
        self._projected = _without_one(with_one.take_along_dim(index, 1), coarse)
        zeros = projected.new_zeros(self._width, sketch.mixed.shape[1] + 1)
        lead = min(sketch.exact, _LEADING)
        return {"first": zeros, "second": zeros.new_zeros(self._width, lead, lead)}

    def _add_reals(self, noisy: Mapping[str, Tensor] | None) -> tuple[int, int]:
        """The real-valued attributes: columns of classes where few values are distinct, else weights of the items.

        Returns the number of all columns of classes, and of the weights that a draw has for an item.
        """
        noisy = noisy or {}
        d, device = self._denoiser, self._denoiser.centre.device
        if noisy and self._sketch is not None:
            raise ValueError("a pass with a sketch measures no real-valued attributes: make another one for them")
        by_name = {a.name: a for a in d.data.reals}
        self._reals = {n: RealSums(d.data, by_name[n], self._draws.items, x, device) for n, x in noisy.items()}
        self._weighting = [r for r in self._reals.values() if r.codes is None]
        self._columns, self._width, columns = {}, d.width, [d.classes]
        for name, real in self._reals.items():
            if real.codes is not None:
                self._columns[name] = slice(self._width, self._width + len(real.values))
                columns.append(real.codes[:, None] + self._width)
                self._width += len(real.values)
        if not self._width:  # all items are in one class, whose sum is that of all masses
            columns.append(torch.zeros(len(d.data), 1, dtype=torch.int64, device=device))
            self._width = 1
        self._classes = torch.cat(columns, 1) if len(columns) > 1 else d.classes
        return self._width, sum(r.rows for r in self._weighting)

    def step(self) -> None:
        """Add the next tile of items; with several threads, a few more are begun."""
        self._refuse(self._joined, "its results were asked for: begin another one")
        try:
            while self._begun < self.total and (self._begun == self.position or not self._pipeline.full):
                self._begin(self._begun)
                self._begun += 1
            self._pipeline.wait()
        except BaseException:
            self._broken = True
            raise
        self.position += 1

    def _refuse(self, now: bool, why: str) -> None:
        if now or self._broken:
            raise RuntimeError(f"this pass cannot go on: {'it was interrupted in a tile' if self._broken else why}")

    def _begin(self, tile: int) -> None:
        # Threads share the sums of means, which are large; without means each has sums of its own.
        each = 1 if self._sketch is not None else self._threads
        while len(self._each) < min(each, self.total):
            self._each.append(self._kernel.total.empty())
        worker = tile % each
        self._turns[worker] = Turn(self._turns.get(worker))
        self._pipeline.submit(partial(self._add, tile, self._each[worker], self._turns[worker]))

    def _add(self, tile: int, into: Sums, turn: Turn) -> None:
        d, rows = self._denoiser, self._tiles[tile]
        try:
            parts = [r.weights(rows) for r in self._weighting]
            weights = torch.cat(parts) if parts else None
            raw, log_weight = self._read(rows), d.log_weight[rows]
            projected = self._kernel.add(raw, self._classes[rows], log_weight, into, turn, weights)
            if self._sketch is not None:
                with turn.stage(into.inputs.levels + 1):
                    self._add_moments(self._sketch, rows, projected)
        finally:
            turn.leave()

    def _read(self, rows: slice) -> Float[Tensor, "rows size"]:
        """Items, read in pieces of the usual size: new memory for a much larger one would cost more than a copy."""
        source, device = self._denoiser.data.source, self._denoiser.centre.device
        size = self._denoiser.data.size
        if rows.stop - rows.start <= _TILE_ROWS or device.type != "cpu":
            return source.read(rows.start, rows.stop).reshape(-1, size).to(device)
        out = room("raw", (rows.stop - rows.start, size))
        for start, part in zip(range(rows.start, rows.stop, _TILE_ROWS), torch.split(out, _TILE_ROWS), strict=True):
            part.copy_(source.read(start, start + len(part)).reshape(-1, size))
        return out

    def _add_moments(self, sketch: Sketch, rows: slice, projected: Float[Tensor, "rows k"]) -> None:
        d = self._denoiser
        w = d.log_weight[rows].exp()[:, None]
        z = torch.cat([torch.ones_like(w).T, projected.T]).T
        lead = z[:, 1 + sketch.exact_columns[: self._moments["second"].shape[1]]]
        # The first and the second moments in one product each; the first hold masses too.
        by_class = ClassSums(d.classes[rows])
        by_class.add(self._moments["first"][:, None], w, z)
        by_class.add(self._moments["second"], w * lead, lead)

    def state(self) -> dict[str, np.ndarray]:
        """What a later pass needs to resume, to be stored before the next step (the arrays are in use)."""
        self._refuse(self._joined, "its results were asked for")
        self._pipeline.drain()
        self.position = self._begun
        return super().state()

    def _prepare(self, state: Mapping[str, np.ndarray]) -> None:
        self._each = [self._kernel.total]
        while f"worker{len(self._each)}.sums" in state:
            self._each.append(self._kernel.total.empty())
        self._begun = int(state["next_tile"])

    def _tensors(self) -> dict[str, Tensor]:
        return {f"worker{i}.{k}": v for i, s in enumerate(self._each) for k, v in s.tensors().items()} | self._moments

    def _total(self) -> Sums:
        """The sums of all workers and ranks; every rank must call this."""
        if not self._joined:
            self._refuse(not self.done, "ask for results once it is done")
            for other in self._each[1:]:
                self._kernel.total.merge(other)
            self._kernel.total.join()
            for moment in self._moments.values():
                distributed.add_up(moment)
            self._each, self._joined = [self._kernel.total], True
        return self._kernel.total

    def log_posterior(self) -> dict[str, Float[Tensor, "levels draws values"]]:
        """ln p(a | y) for every attribute and level, float64; the last level is the limit sigma → 0."""
        return self._denoiser.normalised(self._total().by_class.log())

    def effective_items(self) -> Float[Tensor, "levels draws"]:
        r"""The effective number of items, :math:`1 / \sum_k p(k \mid y)^2`; the last level is the limit sigma → 0."""
        return self._mass() ** 2 / self._total().squares.T

    def _mass(self) -> Float[Tensor, "levels draws"]:
        """The sum of the masses of all items: that over the classes of any attribute."""
        first = next(iter((*self._denoiser.columns.values(), *self._columns.values())), slice(0, 1))
        return self._total().by_class[:, first].sum(1)

    def reals(self) -> dict[str, RealPosterior]:
        """What the noisy values say of every real-valued attribute; the last level is the limit sigma → 0."""
        s, mass, first, known = self._total(), self._mass(), 0, {}
        by_class, weighted = s.by_class, s.weighted.permute(2, 1, 0)
        for name, real in self._reals.items():
            if real.codes is None:
                sums = weighted[:, first : first + real.rows]
                first += real.rows
            else:
                sums = real.of_values(by_class[:, self._columns[name]])
            known[name] = real.posterior(sums, mass)
        return known

    def gaps(self) -> dict[str, Gap]:
        r"""Squared gaps between the conditional and unconditional posterior means, for each attribute.

        For each draw and level, the score gap averaged over the posterior, :math:`\sum_a \pi(a|y) \|D_a - D\|^2`, and
        the gap of squared errors at the drawn label, :math:`\|v - D\|^2 - \|v - D_a\|^2`.
        """
        if self._sketch is None:
            raise ValueError("this pass has no sketch: pass one to get gaps")
        if bool((self._draws.items < 0).any()):
            raise InputError("draws from outside the data have no label: pass draws that are items to get gaps")
        sketch, d = self._sketch, self._denoiser
        gaps = {}
        for i, a in enumerate(d.attributes):
            part = d.columns[a.name]
            own = d.classes[self._draws.items.to(d.classes.device), i] - part.start
            levels = [self._gap_of_level(sketch, j, part, own) for j in range(self._total().inputs.levels)]
            score, mmse, score_directions, mmse_directions = (
                torch.stack(x).cpu().numpy() for x in zip(*levels, strict=True)
            )
            gaps[a.name] = Gap(score, mmse, score_directions, mmse_directions, *self._tail(sketch, part))
        return gaps

    def _gap_of_level(self, sketch: Sketch, j: int, part: slice, own: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""Score gap and error gap of each draw, and their estimates along each random direction, averaged over draws.

        .. math:: \sum_i \sum_a \pi(a|y) (D_a - D)_i^2, \qquad \sum_i\, (v - D)_i^2 - (v - D_A)_i^2

        over the directions i that serve the level: the first ones of the sketch, or all.
        """
        total = self._total()
        c, means = total.inputs.means, total.means[:, part, j].transpose(0, 1)
        sums, means = means[..., c.coarse], _without_one(means, c.coarse)
        exact, v = sketch.exact, self._projected
        if j < c.coarse_levels:
            exact, means, v = sketch.coarse - sketch.random, means[..., : c.coarse], v[:, : c.coarse]
        else:
            means, v = (
                torch.cat([sketch.sorted(x[..., p, :], k) for k, p in enumerate(c.parts)], -2) for x in (means, v)
            )
        mass = sums.sum(0)
        mean = means.sum(0) / mass[:, None]
        by_value = means / sums.clamp_min(1e-300)[:, :, None]
        score = ((sums / mass)[:, :, None] * (by_value - mean) ** 2).sum(0)
        conditional = by_value[own, torch.arange(len(own), device=own.device)]
        mmse = (v - mean) ** 2 - (v - conditional) ** 2
        of_score, of_mmse = (
            pooled([x[p, exact:].mean(0) * sketch.random for p in c.parts], self._weights) for x in (score, mmse)
        )
        return score.sum(1), mmse.sum(1), of_score, of_mmse

    @property
    def _weights(self) -> list[float]:
        """The share of the draws that each set of random directions serves."""
        return [(part.stop - part.start) / len(self._draws) for part in self._kernel.total.inputs.means.parts]

    def _tail(self, sketch: Sketch, part: slice) -> tuple[float, np.ndarray, float]:
        r"""For :math:`\sigma \to \infty`: :math:`E\|E[V|A]-E[V]\|^2`, its part along each random direction, and
        :math:`\|\Sigma_V\|_F^2 - E\|\Sigma_{V|A}\|_F^2` along the leading directions, which hold most of it."""
        first, second = (self._moments[k][part] for k in ("first", "second"))
        mass, first = first[:, :1], sketch.sorted(first[:, 1:])
        lead = second.shape[1]
        prior = mass[:, 0] / mass.sum()
        mean = first / mass.clamp_min(1e-300)
        overall = (prior[:, None] * mean).sum(0)
        spread = (prior[:, None] * (mean - overall) ** 2).sum(0)
        outer = mean[:, :lead, None] * mean[:, None, :lead]
        within = second / mass.clamp_min(1e-300)[:, :, None] - outer
        whole = second.sum(0) / mass.sum() - overall[:lead, None] * overall[None, :lead]
        frobenius = (whole**2).sum() - (prior * (within**2).sum((1, 2))).sum()
        each = spread[sketch.exact :].reshape(sketch.parts, -1) * sketch.random
        random = pooled(list(each), self._weights)
        along = float(random.mean()) if len(random) else 0.0
        return float(spread[: sketch.exact].sum()) + along, random.cpu().numpy(), float(frobenius)


def _without_one(x: Float[Tensor, "*shape directions_and_one"], coarse: int) -> Float[Tensor, "*shape directions"]:
    return torch.cat([x[..., :coarse], x[..., coarse + 1 :]], -1)
