r"""Kernel classifiers of held-out items, for lower bounds on the information of a population.

A held-out draw y = v + σ' n is classified by the *other* items, with a kernel of width h ≥ σ':

.. math:: q_{\sigma', h}(a \mid y) \propto \sum_{k: A_k = a} w_k \exp(-\|y - v_k\|^2 / 2h^2).

With h = σ' this is the filter of the empirical law, which on natural images is sure of the wrong item; wider kernels
spread their probability.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import Draws, InputError
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.threads import full_precision
from sigmascope.exact.finite.passes import TilePass, tile_rows


def kernel_widths(sigmas: Float[np.ndarray, " levels"]) -> list[tuple[int, float]]:
    """Pairs (level, width): for each level its own sigma, and every other level above it."""
    return [(j, float(s)) for j, sigma in enumerate(sigmas) for s in (*sigmas[j % 2 : j : 2], sigma)]


class HeldOutPass(TilePass):
    """A pass over the items that were not drawn, for every level and kernel width.

    Args:
        denoiser: the filter of all items; the drawn items, and exact copies of them, are left out.
        draws: held-out items and noise.
        sigmas: decreasing levels.

    Attributes:
        kernels: the level (its index) and the width of each kernel.

    Raises: InputError if some value of an attribute has no item left.
    """

    def __init__(self, denoiser: FiniteDenoiser, draws: Draws, sigmas: Float[np.ndarray, " levels"]) -> None:
        self._denoiser, self._draws = denoiser, draws
        data, device = denoiser.data, denoiser.centre.device
        super().__init__(len(data), tile_rows(data.size, len(draws)))
        self.kernels, self._sigmas = kernel_widths(sigmas), sigmas
        self._kept = data.weights > 0
        self._kept[draws.items] = False
        for a in data.attributes:
            left = torch.bincount(data.labels[a.name][self._kept], minlength=len(a.values))
            gone = (left == 0) & (a.prior > 0)
            if bool(gone.any()):
                value = a.values[int(gone.nonzero()[0])]
                raise InputError(
                    f"holding {len(draws)} items out leaves none with {a.name} = {value}: use fewer "
                    "--draws, or more data"
                )
        self._drawn = {_bytes(v) for v in draws.v}
        v = draws.v.reshape(len(draws), -1).to(device) - denoiser.centre
        noise = draws.noise.reshape(len(draws), -1).to(device)
        self._v_square, self._v_noise = (v * v).sum(1), (noise * v).sum(1)
        self._right = torch.cat([v, noise]).T.contiguous()
        shape = (len(self.kernels), denoiser.width, len(draws))
        self._top = torch.full((shape[0], shape[2]), -torch.inf, dtype=torch.float64, device=device)
        self._sums = torch.zeros(shape, dtype=torch.float64, device=device)

    def step(self) -> None:
        """Add the next tile of items."""
        d = self._denoiser
        rows = self._tiles[self.position]
        self.position += 1
        kept = self._kept[rows].clone()
        read = d.data.source.read(rows.start, rows.stop)
        for i in torch.nonzero(kept)[:, 0].tolist():  # a copy of a held-out item would give its label away
            kept[i] = _bytes(read[i]) not in self._drawn
        if not bool(kept.any()):
            return
        tile = read[kept].reshape(int(kept.sum()), -1).to(d.centre.device)
        with full_precision():
            self._add(tile - d.centre, d.classes[rows][kept], d.log_weight[rows][kept].float())

    def _add(self, tile: Tensor, classes: Tensor, log_weight: Tensor) -> None:
        draws = len(self._v_square)
        product = tile @ self._right
        distance2 = (tile * tile).sum(1, keepdim=True) + self._v_square - 2.0 * product[:, :draws]
        along = product[:, draws:] - self._v_noise
        one_hot = tile.new_zeros(len(tile), self._sums.shape[1]).scatter_(1, classes, 1.0).T.contiguous()
        logit = torch.empty_like(distance2)
        for i, (j, width) in enumerate(self.kernels):
            torch.mul(distance2, -0.5 / width**2, out=logit)
            logit.add_(along, alpha=float(self._sigmas[j]) / width**2)
            if not self._denoiser.equal_weights:
                logit.add_(log_weight[:, None])
            highest = logit.max(0).values
            mass = (one_hot @ logit.sub_(highest).clamp_min_(-85.0).exp_()).double()
            self._raise(i, torch.maximum(self._top[i], highest.double()))
            self._sums[i] += mass * (highest.double() - self._top[i]).exp()

    def _raise(self, i: int, top: Float[Tensor, " draws"]) -> None:
        """Make the sums of a kernel relative to larger logits."""
        self._sums[i] *= torch.where(self._top[i] == top, 1.0, (self._top[i] - top).exp())
        self._top[i] = top

    def _tensors(self) -> dict[str, Tensor]:
        return {"top": self._top, "heldout": self._sums}

    def own_probability(self, name: str) -> Float[np.ndarray, "kernels draws"]:
        """q(a | y) of each draw's own label, for each kernel."""
        if distributed.world() > 1 and not self._joined:
            highest = distributed.highest(self._top.clone())
            for i in range(len(self.kernels)):
                self._raise(i, highest[i])
            distributed.add_up(self._sums)
        self._joined = True
        d = self._denoiser
        sums = self._sums[:, d.columns[name]]
        own = d.data.labels[name][self._draws.items].to(sums.device)
        return (sums[:, own, torch.arange(len(own), device=sums.device)] / sums.sum(1)).cpu().numpy()


def _bytes(v: Tensor) -> bytes:
    """The same bytes for equal items, where 0 equals -0."""
    return (v + 0.0).numpy().tobytes()
