r"""Kernel classifiers of held-out items, for lower bounds on the information of a population.

A held-out draw y = v + σ' n meets a filter made of the *other* items, with a kernel of width h ≥ σ':

.. math:: q_{\sigma', h}(a \mid y) \propto \sum_{k: A_k = a} w_k \exp(-\|y - v_k\|^2 / 2h^2).

With h = σ' this is the filter of the empirical law, which on natural images is sure of the wrong item; wider kernels
hedge.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import Draws, InputError
from sigmascope.exact.finite.filter import FiniteDenoiser, own_tiles, tile_rows
from sigmascope.exact.finite.kernel.threads import full_precision


def widths_for(sigmas: Float[np.ndarray, " levels"]) -> list[tuple[int, float]]:
    """Pairs (level, width): for each level its own sigma, and every other level above it."""
    pairs = []
    for j, sigma in enumerate(sigmas):
        pairs += [(j, float(s)) for s in sigmas[j % 2 : j : 2]] + [(j, float(sigma))]
    return pairs


class HeldOutPass:
    """One pass over the items that were not drawn, for every level and width; resumable between steps.

    Of several processes (see :mod:`sigmascope.distributed`), each passes over the items that it holds.

    Args:
        denoiser: the filter of all items; those drawn, and exact copies of them, are left out.
        draws: held-out items and noise.
        sigmas: decreasing levels.

    Raises: InputError if leaving the drawn items out leaves some value of an attribute without items.
    """

    def __init__(self, denoiser: FiniteDenoiser, draws: Draws, sigmas: Float[np.ndarray, " levels"]) -> None:
        self._denoiser, self._draws = denoiser, draws
        data, device = denoiser.data, denoiser.centre.device
        self.pairs = widths_for(sigmas)
        self._sigmas = sigmas
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
        self._vv, self._nv = (v * v).sum(1), (noise * v).sum(1)
        self._right = torch.cat([v, noise]).T.contiguous()
        shape = (len(self.pairs), denoiser.width, len(draws))
        self._top = torch.full((shape[0], shape[2]), -torch.inf, dtype=torch.float64, device=device)
        self._sums = torch.zeros(shape, dtype=torch.float64, device=device)
        self._tiles = own_tiles(len(data), tile_rows(data.size, len(draws)))
        self.total = len(self._tiles)
        self.position = 0
        self._joined = False

    @property
    def done(self) -> bool:
        return self.position >= self.total

    def step(self) -> None:
        """Add the next tile of items."""
        d = self._denoiser
        rows = self._tiles[self.position]
        self.position += 1
        kept = self._kept[rows].clone()
        read = d.data.source.read(rows.start, rows.stop)
        for i in torch.nonzero(kept)[:, 0].tolist():  # a copy of a held-out item would know it
            kept[i] = _bytes(read[i]) not in self._drawn
        if not bool(kept.any()):
            return
        tile = read[kept].reshape(int(kept.sum()), -1).to(d.centre.device)
        with full_precision():
            self._add(tile - d.centre, d.classes[rows][kept], d.log_weight[rows][kept].float())

    def _add(self, tile: Tensor, classes: Tensor, log_weight: Tensor) -> None:
        draws = len(self._vv)
        product = tile @ self._right
        distance2 = (tile * tile).sum(1, keepdim=True) + self._vv - 2.0 * product[:, :draws]
        along = product[:, draws:] - self._nv
        one_hot = tile.new_zeros(len(tile), self._sums.shape[1]).scatter_(1, classes, 1.0).T.contiguous()
        logit = torch.empty_like(distance2)
        plain = self._denoiser.equal_weights
        for i, (j, width) in enumerate(self.pairs):
            torch.mul(distance2, -0.5 / width**2, out=logit)
            logit.add_(along, alpha=float(self._sigmas[j]) / width**2)
            if not plain:
                logit.add_(log_weight[:, None])
            highest = logit.max(0).values
            mass = (one_hot @ logit.sub_(highest).clamp_min_(-85.0).exp_()).double()
            self._raise(i, torch.maximum(self._top[i], highest.double()))
            self._sums[i] += mass * (highest.double() - self._top[i]).exp()

    def _raise(self, i: int, top: Float[Tensor, " draws"]) -> None:
        """Let the sums of a pair be relative to another logit."""
        self._sums[i] *= torch.where(self._top[i] == top, 1.0, (self._top[i] - top).exp())
        self._top[i] = top

    def _join(self) -> None:
        """Add up over the ranks of this run."""
        if distributed.world() > 1 and not self._joined:
            highest = distributed.highest(self._top.clone())
            for i in range(len(self.pairs)):
                self._raise(i, highest[i])
            distributed.add_up(self._sums)
        self._joined = True

    def state(self) -> dict[str, np.ndarray]:
        """What a later pass needs to go on from here."""
        return {
            "top": self._top.cpu().numpy(),
            "heldout": self._sums.cpu().numpy(),
            "next_tile": np.array(self.position),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same pass."""
        if "heldout" not in state or state["heldout"].shape != self._sums.shape:
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")
        self._top.copy_(torch.from_numpy(state["top"]))
        self._sums.copy_(torch.from_numpy(state["heldout"]))
        self.position = int(state["next_tile"])

    def own_probability(self, name: str) -> Float[np.ndarray, "pairs draws"]:
        """q(a | y) at the true label of each draw, for each level and width; every rank must ask."""
        self._join()
        d = self._denoiser
        part = self._sums[:, d.columns[name]]
        own = d.data.labels[name][self._draws.items].to(part.device)
        told = part[:, own, torch.arange(len(own), device=part.device)]
        return (told / part.sum(1)).cpu().numpy()


def _bytes(v: Tensor) -> bytes:
    """What two equal items have in common: 0 is -0."""
    return (v + 0.0).numpy().tobytes()
