"""One pass over a data set for the posterior, and the posterior means by class, at all levels of shared draws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Draws, Gap, InputError
from sigmascope.denoisers.classes import ByClass
from sigmascope.denoisers.finite import FiniteDenoiser, tile_rows
from sigmascope.denoisers.kernel import LevelSums, full_precision
from sigmascope.denoisers.sketch import Sketch

_LEADING = 16  # principal directions along which second moments of each value are kept
_DOUBLE_WORK = 4e10  # multiplications below which products are taken in float64: a second or two


class PosteriorPass:
    """One pass over a data set that gives the posterior of every abstraction at all levels of shared draws.

    Iterate :meth:`step` until :attr:`done`; between steps :meth:`state` can be stored, and a new pass that is given it
    by :meth:`restore` ends with the same numbers as an unbroken one.

    Args:
        denoiser: the exact filter.
        draws: items of its data set and noise.
        sigmas: decreasing levels.
        dtype: of the two products; None takes float64 where that costs a second or two, else float32, whose pairs are
            rescored in float64 where rounding would reach the logits (see :mod:`sigmascope.denoisers.kernel`).
        sketch: directions for :meth:`gaps`; None leaves the posterior means out.

    Cost: 4 · items · size · draws operations for the products and up to items · draws · levels exponentials; with a
        sketch, 2 · items · draws · directions operations more for each level and abstraction.
    """

    def __init__(
        self,
        denoiser: FiniteDenoiser,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        dtype: torch.dtype | None = None,
        sketch: Sketch | None = None,
    ) -> None:
        data, device = denoiser.data, denoiser.centre.device
        self._denoiser, self._draws, self._sketch = denoiser, draws, sketch
        if dtype is None:
            dtype = torch.float64 if 2.0 * len(data) * data.size * len(draws) < _DOUBLE_WORK else torch.float32
        self._dtype = dtype
        self._rows = tile_rows(data.size, len(draws))
        v = draws.v.reshape(len(draws), -1).to(device)
        noise = draws.noise.reshape(len(draws), -1).to(device)
        own = None if denoiser.equal_weights else denoiser.log_weight[draws.items.to(device)]
        columns = int(denoiser.first_column[-1])
        along = None if sketch is None else sketch.directions.to(device)
        self._kernel = LevelSums(v, denoiser.centre, noise, sigmas, columns, own, dtype, along)
        self._moments: dict[str, Tensor] = {}
        if along is not None and sketch is not None:
            self._projected = (v.double() - denoiser.centre) @ along.double()
            zeros = torch.zeros(columns, along.shape[1], device=device, dtype=torch.float64)
            self._moments["mass"] = zeros[:, :1].clone()
            self._moments["first"] = zeros
            lead = min(sketch.exact, _LEADING)
            self._moments["second"] = zeros.new_zeros(columns, lead, lead)
        self.tiles = -(-len(data) // self._rows)
        self.next_tile = 0

    @property
    def done(self) -> bool:
        return self.next_tile >= self.tiles

    def step(self) -> None:
        """Add the next tile of items."""
        d = self._denoiser
        start = self.next_tile * self._rows
        rows = slice(start, min(start + self._rows, len(d.data)))
        tile = d.data.source.read(rows.start, rows.stop).reshape(rows.stop - rows.start, -1).to(d.centre.device)
        weight = None if d.equal_weights else d.log_weight[rows].to(self._dtype)
        with full_precision():
            projected = self._kernel.add(tile, d.classes[rows], weight)
        if self._sketch is not None:
            z, w = projected.double(), d.log_weight[rows].exp()[:, None]
            by_class, lead = ByClass(d.classes[rows]), z[:, : self._moments["second"].shape[1]]
            by_class.add(self._moments["mass"][:, :, None], w, torch.ones_like(w))
            by_class.add(self._moments["first"][:, None], w, z)
            by_class.add(self._moments["second"], w * lead, lead)
        self.next_tile += 1

    def state(self) -> dict[str, np.ndarray]:
        """What a later pass needs to go on from here."""
        held = {"sums": self._kernel.sums, **self._moments}
        if self._kernel.means is not None:
            held["means"] = self._kernel.means
        return {k: v.cpu().numpy() for k, v in held.items()} | {"next_tile": np.array(self.next_tile)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of a pass with the same data, draws and levels."""
        held = {"sums": self._kernel.sums, **self._moments}
        if self._kernel.means is not None:
            held["means"] = self._kernel.means
        for name, tensor in held.items():
            if name not in state or state[name].shape != tensor.shape:
                raise InputError(f"the checkpoint does not hold {name!r} of this study: delete it and run again")
            tensor.copy_(torch.from_numpy(state[name]))
        self.next_tile = int(state["next_tile"])

    def log_posterior(self) -> dict[str, Float[Tensor, "levels draws values"]]:
        """ln p(a | y) for every abstraction and level, float64; the last row is the limit sigma → 0."""
        sums = self._kernel.sums
        if not bool(torch.isfinite(sums).all()):
            raise ArithmeticError("the sums overflowed: the weights of the items differ too widely")
        return self._denoiser.normalised(sums.log())

    def gaps(self) -> dict[str, Gap]:
        r"""Squared gaps between the posterior means with and without knowledge of each abstraction.

        For each draw and level, the score gap averaged over the posterior, :math:`\sum_a \pi(a|y) \|D_a - D\|^2`, and
        the gap of squared errors at the drawn label, :math:`\|v - D\|^2 - \|v - D_a\|^2`.
        """
        if self._sketch is None or self._kernel.means is None:
            raise ValueError("this pass has no sketch: give it one to get gaps")
        d, means, sums = self._denoiser, self._kernel.means, self._kernel.sums
        found = {}
        for i, a in enumerate(d.abstractions):
            part = slice(int(d.first_column[i]), int(d.first_column[i + 1]))
            own = d.classes[self._draws.items.to(d.classes.device), i] - part.start
            levels = [self._gap_of_level(means[j, part], sums[j, part], own) for j in range(len(means))]
            score, mmse, score_directions, mmse_directions = (
                torch.stack(x).cpu().numpy() for x in zip(*levels, strict=True)
            )
            found[a.name] = Gap(score, mmse, score_directions, mmse_directions, *self._tail(part))
        return found

    def _gap_of_level(
        self, means: Float[Tensor, "values draws k"], sums: Float[Tensor, "values draws"], own: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score gap and error gap per draw, and the mean over draws of each random direction's share of them."""
        total = sums.sum(0)
        mean = means.sum(0).double() / total[:, None]
        by_value = means.double() / sums.clamp_min(1e-300)[:, :, None]
        score = ((sums / total)[:, :, None] * (by_value - mean) ** 2).sum(0)
        told = by_value[own, torch.arange(len(own), device=own.device)]
        mmse = (self._projected - mean) ** 2 - (self._projected - told) ** 2
        return score.sum(1), mmse.sum(1), self._random_share(score.mean(0)), self._random_share(mmse.mean(0))

    def _random_share(self, per_direction: Float[Tensor, " k"]) -> Float[Tensor, " random"]:
        """Contributions of the random directions, each an estimate of their sum."""
        sketch = self._sketch
        if sketch is None:
            raise ValueError("there is no sketch")
        return per_direction[sketch.exact :] * sketch.random

    def _tail(self, part: slice) -> tuple[float, np.ndarray, float]:
        r"""For :math:`\sigma \to \infty`: :math:`E\|E[V|A]-E[V]\|^2`, its random directions, and
        :math:`\|\Sigma_V\|_F^2 - E\|\Sigma_{V|A}\|_F^2` along the leading directions, which hold most of it."""
        mass, first, second = (self._moments[k][part] for k in ("mass", "first", "second"))
        lead = second.shape[1]
        prior = mass[:, 0] / mass.sum()
        mean = first / mass.clamp_min(1e-300)
        overall = (prior[:, None] * mean).sum(0)
        spread = (prior[:, None] * (mean - overall) ** 2).sum(0)
        outer = mean[:, :lead, None] * mean[:, None, :lead]
        within = second / mass.clamp_min(1e-300)[:, :, None] - outer
        whole = second.sum(0) / mass.sum() - overall[:lead, None] * overall[None, :lead]
        frobenius = (whole**2).sum() - (prior * (within**2).sum((1, 2))).sum()
        return float(spread.sum()), self._random_share(spread).cpu().numpy(), float(frobenius)
