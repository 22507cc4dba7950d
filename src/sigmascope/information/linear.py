r"""The best linear denoiser of some data, in closed form, and the mean image: what any denoiser must not be worse than.

.. math:: D(y) = \mu + \sum_i \frac{\lambda_i}{\lambda_i + \sigma^2}\, u_i \langle u_i, y - \mu\rangle

With :math:`u_i, \lambda_i` the principal directions and variances of V it has the least squared error of all linear
denoisers.  Directions are those of one part of the items, variances along them are of another part: variances along
directions that were fitted to the same items are too large along the first and zero beyond the rank.  What lies across
all fitted directions shares one variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sigmascope.core import InputError

_SHARE = 2.0 / 3.0  # of the items, whose directions are taken; the others give the variances
_FEWEST = 4
_NOTHING = 1e-10  # of the largest variance: a direction that none of the items shows
_VALUES = 5e7  # coordinates of the directions, at most


@dataclass(frozen=True, eq=False)
class LinearDenoiser:
    """The best linear denoiser within fitted directions.

    Args:
        mean: of the items, shape (size,).
        directions: orthonormal, shape (size, rank).
        variance: along each of them, shape (rank,).
        across: variance of each coordinate across all of them.
    """

    mean: Float64[Tensor, " size"]
    directions: Float64[Tensor, "size rank"]
    variance: Float64[Tensor, " rank"]
    across: float

    @classmethod
    def fit(cls, items: Tensor) -> LinearDenoiser:
        """Fitted to items, shape (items, ...); their order must be random.

        Raises: InputError for fewer than 4.

        Cost: a singular value decomposition of two thirds of them.
        """
        if len(items) < _FEWEST:
            raise InputError(f"{len(items)} items came: pass {_FEWEST} or more, a part gives the directions")
        x = items.reshape(len(items), -1).double()
        mean = x.mean(0)
        x = x - mean
        count = min(max(round(_SHARE * len(x)), 2), max(int(_VALUES // x.shape[1]), 2))
        directions, rest = _directions(x[:count]), x[count:]
        along = rest @ directions
        rank, size = directions.shape[1], x.shape[1]
        left = float(((rest**2).sum(1) - (along**2).sum(1)).clamp_min(0.0).mean())
        return cls(mean, directions, (along**2).mean(0), left / (size - rank) if size > rank else 0.0)

    def parts(self, v: Tensor, noise: Tensor) -> Errors:
        """What the squared errors of some draws follow from, at every level; v and noise of shape (draws, ...)."""
        x = v.reshape(len(v), -1).double() - self.mean
        n = noise.reshape(len(noise), -1).double()
        a, b = x @ self.directions, n @ self.directions
        across = [(p * q).sum(1) - (c * d).sum(1) for p, q, c, d in ((x, x, a, a), (x, n, a, b), (n, n, b, b))]
        return Errors(self, a, b, (across[0].clamp_min(0.0), across[1], across[2].clamp_min(0.0)))


@dataclass(frozen=True, eq=False)
class Errors:
    """Squared errors of the linear denoiser and of the mean image for some draws.

    Args:
        of: the denoiser.
        values: coordinates of v less the mean along the directions, shape (draws, rank).
        noises: the same of the noise.
        across: squares of the rest of v, of its product with that of the noise, and of that of the noise, each of
            shape (draws,).
    """

    of: LinearDenoiser
    values: Float64[Tensor, "draws rank"]
    noises: Float64[Tensor, "draws rank"]
    across: tuple[Float64[Tensor, " draws"], Float64[Tensor, " draws"], Float64[Tensor, " draws"]]

    def linear(self, sigma: float) -> Float[np.ndarray, " draws"]:
        r""":math:`\|v - D(v + \sigma n)\|^2` of each draw."""
        gain = self.of.variance / (self.of.variance + sigma**2)
        along = ((1.0 - gain) * self.values - sigma * gain * self.noises) ** 2
        g = self.of.across / (self.of.across + sigma**2)
        vv, vn, nn = self.across
        rest = (1.0 - g) ** 2 * vv - 2.0 * (1.0 - g) * g * sigma * vn + (g * sigma) ** 2 * nn
        found: np.ndarray = (along.sum(1) + rest).numpy()
        return found

    def mean(self) -> Float[np.ndarray, " draws"]:
        r""":math:`\|v - \mu\|^2` of each draw."""
        found: np.ndarray = ((self.values**2).sum(1) + self.across[0]).numpy()
        return found


def _directions(x: Float64[Tensor, "items size"]) -> Float64[Tensor, "size rank"]:
    """Principal directions that differ from nothing; by the smaller of the two products."""
    wide = len(x) < x.shape[1]
    value, vector = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    found: Tensor = vector[:, value > _NOTHING * value[-1].clamp_min(1e-300)]
    if wide:
        found, _ = torch.linalg.qr(x.T @ found)
    return found
