r"""The filter on the items of a finite set, updated along a path by Bayes' rule in :math:`\lambda = \sigma^{-2}`.

.. math:: \ln\pi'(k) = \ln\pi(k) + \langle v_k, \Delta z\rangle - \tfrac12\|v_k\|^2 \Delta\lambda + c,
          \qquad z = \lambda y

An item does not change along the path, so this is exact at any step, given the path of Y.  (In joint generation the
path itself has the error of :class:`~sigmascope.sample.schemes.Ancestral`.)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.exact.finite.filter import FiniteDenoiser


class ItemBelief:
    r"""The belief π on the items of a finite data set, a filter for :func:`~sigmascope.sample.joint.joint`.

    .. math:: \ln\pi'(k) = \ln\pi(k) + \langle v_k, \Delta z\rangle - \tfrac12\|v_k\|^2 \Delta\lambda + c,
              \qquad z = \lambda y, \quad \lambda = \sigma^{-2}

    Given the path of Y it is exact at any step, since an item does not change along the path.

    Args:
        denoiser: the exact filter of the set.

    Cost: a step reads the data twice; memory for rows · items numbers of 8 bytes.
    """

    def __init__(self, denoiser: FiniteDenoiser) -> None:
        self.denoiser = denoiser

    def first(self, y: Float[Tensor, "rows *event"], sigma: float) -> Float[Tensor, "rows items"]:
        """ln p(item | Y_sigma = y) of every item, float64, where generation begins."""
        d = self.denoiser
        flat, level = d.rows(y, torch.full((len(y),), sigma, dtype=torch.float64))
        parts = [d.logits(rows, tile, flat, level) for rows, tile in d.tiles(len(y))]
        return torch.cat(parts).log_softmax(0).T.to(y.device)

    def denoised(
        self, log_pi: Float[Tensor, "rows items"], y: Float[Tensor, "rows *event"], sigma: float
    ) -> Float[Tensor, "rows *event"]:
        """The mean under π, Σ_k π(k) v_k, float64; sigma is not used."""
        d = self.denoiser
        total = torch.zeros(len(y), d.data.size, dtype=torch.float64, device=d.centre.device)
        for rows, tile in d.tiles(len(y)):
            total += log_pi[:, rows].to(tile.device).exp() @ tile
        return (total + d.centre).reshape(y.shape).to(y.device)

    def update(
        self, log_pi: Float[Tensor, "rows items"], y: Tensor, sigma: float, after_y: Tensor, after: float
    ) -> Float[Tensor, "rows items"]:
        """ln π after the measurement has moved from (y, sigma) to (after_y, after)."""
        d = self.denoiser
        change = after**-2 - sigma**-2
        dz = (after_y / after**2 - y / sigma**2).flatten(1).to(d.centre.device) - change * d.centre
        gain = [tile @ dz.T - 0.5 * change * d.squares(rows, tile)[:, None] for rows, tile in d.tiles(len(y))]
        return (log_pi + torch.cat(gain).T.to(log_pi.device)).log_softmax(1)

    def marginals(self, log_pi: Float[Tensor, "rows items"]) -> dict[str, Float[Tensor, "rows values"]]:
        """The probabilities of the values of every attribute."""
        d = self.denoiser
        marginals = {}
        for classes, (name, part) in zip(d.classes.T, d.columns.items(), strict=True):
            mass = torch.zeros(part.stop - part.start, len(log_pi), dtype=torch.float64, device=log_pi.device)
            marginals[name] = mass.index_add_(0, (classes - part.start).to(log_pi.device), log_pi.exp().T).T
        return marginals
