r"""The filter along paths, from conditional posterior means of a finite set: all levels in one pass.

For every value a and step of a path the filter needs two numbers of :math:`D_a` (less a common centre),

.. math:: \langle D_a, \Delta z\rangle = \frac{\sum_{k: A_k = a} p(k \mid y)\, \langle v_k, \Delta z\rangle}
          {\sum_{k: A_k = a} p(k \mid y)}, \qquad \|D_a\|^2 .

The first is a class sum of products that the posterior needs anyway; the second is measured along the directions of a
:class:`~sigmascope.exact.finite.sketch.Sketch`.  The means themselves are never formed in the whole space.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.passes import TilePass
from sigmascope.exact.finite.sketch import Sketch

ROWS = 512
"""Items of a tile."""
_LEAST_LOGIT = -690.0  # relative to the path's own item: the smallest whose exponential is a normal float64


class PathPass(TilePass):
    """A pass over a data set for the filter of every attribute along the paths of a block of draws.

    Args:
        denoiser: the exact filter.
        own: the items at which the paths begin, shape (draws,).
        path: the paths at decreasing levels, float64, shape (levels, draws, *event).
        sigmas: the levels.
        sketch: directions along which squared norms are measured.

    Cost: 2 · items · size · levels · draws operations in float64, and a fraction of it for the classes.
    """

    def __init__(
        self,
        denoiser: FiniteDenoiser,
        own: Tensor,
        path: Float[Tensor, "levels draws *event"],
        sigmas: Float[np.ndarray, " levels"],
        sketch: Sketch,
    ) -> None:
        d = denoiser
        super().__init__(len(d.data), ROWS)
        self._denoiser = d
        self._levels, self._draws = path.shape[:2]
        centre = d.centre.double()
        y = path.to(centre.device).flatten(2) - centre
        self._snr = snr = torch.as_tensor(sigmas, dtype=torch.float64, device=centre.device) ** -2.0
        v = d.data.source.take(own.cpu()).reshape(len(own), -1).to(centre) - centre
        # Logits are relative to the path's own item, whose logit never falls far below the largest.
        self._offset = snr[:, None] * ((y * v).sum(2) - 0.5 * (v**2).sum(1)) + d.log_weight[own.to(centre.device)]
        directions = sketch.directions.to(centre)
        self._right = torch.cat([y.flatten(0, 1), directions.T]).T.contiguous()
        columns, k = d.width, directions.shape[1]
        cells = self._levels * self._draws
        # Class sums.  Of the weights: with projections (and 1), with the products of one and of two steps ahead.
        # Of the prior masses: with projections (and 1), with the products of the first level.
        shapes = {"means": (cells, k + 1), "ahead": (2 * cells,), "law": (k + 1,), "first": (self._draws,)}
        self._sums = {n: torch.zeros(columns, *s, dtype=torch.float64, device=y.device) for n, s in shapes.items()}

    def step(self) -> None:
        """Add the next tile of items."""
        d, levels, draws = self._denoiser, self._levels, self._draws
        rows = self._tiles[self.position]
        tile = d.data.source.read(rows.start, rows.stop).reshape(rows.stop - rows.start, -1).to(self._right)
        product = tile.sub_(d.centre.double()) @ self._right
        projected = torch.nn.functional.pad(product[:, levels * draws :], (0, 1), value=1.0)
        scaled = product[:, : levels * draws].reshape(-1, levels, draws) * self._snr[:, None]
        logit = scaled - 0.5 * d.squares(rows, tile)[:, None, None] * self._snr[:, None]
        logit += d.log_weight[rows, None, None] - self._offset
        weight = logit.clamp_min_(_LEAST_LOGIT).exp_()
        ahead = torch.zeros(2, *scaled.shape, dtype=scaled.dtype, device=scaled.device)
        ahead[0, :, :-1] = (scaled[:, 1:] - scaled[:, :-1]) * weight[:, :-1]
        ahead[1, :, :-2] = (scaled[:, 2:] - scaled[:, :-2]) * weight[:, :-2]
        by_class = ClassSums(d.classes[rows])
        prior = d.log_weight[rows].exp()[:, None]
        by_class.add(self._sums["means"], weight.flatten(1), projected)
        by_class.add(self._sums["law"][:, None], prior, projected)
        ones = torch.ones(len(tile), 1, dtype=torch.float64, device=tile.device)
        by_class.add(self._sums["ahead"][:, None], ones, ahead.movedim(0, 1).flatten(1))
        by_class.add(self._sums["first"][:, None], prior, scaled[:, 0])
        self.position += 1

    def _tensors(self) -> dict[str, Tensor]:
        return self._sums

    def log_q(self) -> dict[str, tuple[Tensor, Tensor]]:
        """For every attribute ln q along the paths, (levels, draws, values), and the same in steps twice as long."""
        if not self._joined:
            for sums in self._sums.values():
                distributed.add_up(sums)
            self._joined = True
        d, levels, draws = self._denoiser, self._levels, self._draws
        curves = {}
        for a in d.attributes:
            means, ahead, law, first = (self._sums[n][d.columns[a.name]] for n in ("means", "ahead", "law", "first"))
            mass = means[..., -1].clamp_min(1e-300)
            norm2 = ((means[..., :-1] / mass[..., None]) ** 2).sum(2).reshape(-1, levels, draws)
            ahead = (ahead.reshape(-1, 2, levels * draws) / mass[:, None]).reshape(-1, 2, levels, draws)
            share = law[:, -1].clamp_min(1e-300)
            centre2 = ((law[:, :-1] / share[:, None]) ** 2).sum(1)
            first = first / share[:, None] - 0.5 * self._snr[0] * centre2[:, None]
            log_p = (a.prior.to(first).log()[:, None] + first).log_softmax(0)
            curves[a.name] = self._carried(log_p, ahead, norm2)
        return curves

    def _carried(
        self, first: Float[Tensor, "values draws"], ahead: Tensor, norm2: Float[Tensor, "values levels draws"]
    ) -> tuple[Tensor, Tensor]:
        """The filter from its first value down the levels, by single steps and by double ones."""
        fine, coarse = [first], [first]
        anchor, at_anchor = 0, first
        for k in range(1, self._levels):
            change = self._snr[k] - self._snr[k - 1]
            gain = ahead[:, 0, k - 1] - 0.5 * change * norm2[:, k - 1]
            fine.append((fine[-1] + gain).log_softmax(0))
            double = k - anchor - 1  # 0: one step from the anchor, 1: two
            change = self._snr[k] - self._snr[anchor]
            coarse.append((at_anchor + ahead[:, double, anchor] - 0.5 * change * norm2[:, anchor]).log_softmax(0))
            if double:
                anchor, at_anchor = k, coarse[-1]
        return torch.stack(fine).movedim(1, 2).cpu(), torch.stack(coarse).movedim(1, 2).cpu()
