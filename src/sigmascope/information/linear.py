r"""The best linear denoiser of some data, in closed form: a correct denoiser has no larger error.

.. math:: D(y) = \mu + \sum_i \frac{\lambda_i}{\lambda_i + \sigma^2}\, u_i \langle u_i, y - \mu\rangle

With :math:`u_i, \lambda_i` the principal directions and variances of V it has the least squared error of all linear
denoisers.  Directions are fitted to one part of the items and variances to another, since the variances of the items
that directions were fitted to are too large along the first directions and zero beyond the rank.  Coordinates across
all fitted directions share one variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sigmascope.core import InputError

_SHARE = 2.0 / 3.0  # of the items, for the directions; the others give the variances
_FEWEST = 4
_NEGLIGIBLE = 1e-10  # share of the largest variance below which a direction is dropped
_VALUES = 5e7  # coordinates of the directions at most


@dataclass(frozen=True, eq=False)
class LinearDenoiser:
    """The best linear denoiser within fitted directions."""

    mean: Float64[Tensor, " size"]
    directions: Float64[Tensor, "size rank"]  # orthonormal
    variance: Float64[Tensor, " rank"]  # along each of them
    across: float  # variance of each coordinate across all of them

    @classmethod
    def fit(cls, items: Tensor) -> LinearDenoiser:
        """The best linear denoiser of items in random order, by an eigendecomposition of two thirds of them.

        Raises: InputError for fewer than 4.
        """
        if len(items) < _FEWEST:
            raise InputError(f"{len(items)} items came: pass {_FEWEST} or more")
        x = items.reshape(len(items), -1).double()
        mean = x.mean(0)
        x = x - mean
        count = min(max(round(_SHARE * len(x)), 2), max(int(_VALUES // x.shape[1]), 2))
        directions, others = _directions(x[:count]), x[count:]
        along = others @ directions
        rank, size = directions.shape[1], x.shape[1]
        left = float(((others**2).sum(1) - (along**2).sum(1)).clamp_min(0.0).mean())
        return cls(mean, directions, (along**2).mean(0), left / (size - rank) if size > rank else 0.0)

    def parts(self, v: Tensor, noise: Tensor) -> Errors:
        """The quantities from which the squared errors of draws follow at every level; shape (draws, ...)."""
        x = v.reshape(len(v), -1).double() - self.mean
        n = noise.reshape(len(noise), -1).double()
        a, b = x @ self.directions, n @ self.directions
        across = [(p * q).sum(1) - (c * d).sum(1) for p, q, c, d in ((x, x, a, a), (x, n, a, b), (n, n, b, b))]
        return Errors(self, a, b, (across[0].clamp_min(0.0), across[1], across[2].clamp_min(0.0)))


@dataclass(frozen=True, eq=False)
class Errors:
    """Squared errors of the linear denoiser and of the mean image for some draws."""

    denoiser: LinearDenoiser
    values: Float64[Tensor, "draws rank"]  # coordinates of v less the mean along the directions
    noises: Float64[Tensor, "draws rank"]  # coordinates of the noise
    # Across the directions: |v|², ⟨v, n⟩ and |n|² of each draw.
    across: tuple[Float64[Tensor, " draws"], Float64[Tensor, " draws"], Float64[Tensor, " draws"]]

    def linear(self, sigma: float) -> Float[np.ndarray, " draws"]:
        r""":math:`\|v - D(v + \sigma n)\|^2` of each draw."""
        gain = self.denoiser.variance / (self.denoiser.variance + sigma**2)
        along = ((1.0 - gain) * self.values - sigma * gain * self.noises) ** 2
        g = self.denoiser.across / (self.denoiser.across + sigma**2)
        vv, vn, nn = self.across
        across = (1.0 - g) ** 2 * vv - 2.0 * (1.0 - g) * g * sigma * vn + (g * sigma) ** 2 * nn
        return np.asarray(along.sum(1) + across)

    def mean(self) -> Float[np.ndarray, " draws"]:
        r""":math:`\|v - \mu\|^2` of each draw."""
        return np.asarray((self.values**2).sum(1) + self.across[0])


def _directions(x: Float64[Tensor, "items size"]) -> Float64[Tensor, "size rank"]:
    """Principal directions whose variance is not negligible, by the smaller of the two products."""
    wide = len(x) < x.shape[1]
    value, vector = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    leading: Tensor = vector[:, value > _NEGLIGIBLE * value[-1].clamp_min(1e-300)]
    return torch.linalg.qr(x.T @ leading)[0] if wide else leading
