r"""The linear part of information, and the coordinates in which both linear denoisers are diagonal.

With :math:`C_0 = \mathrm{Cov}(X | Z)` and :math:`C_1 = \mathrm{Cov}(X | Y, Z)` of the best linear predictions, the new
coordinates of X make :math:`C_0 = 1` and :math:`C_1 = \mathrm{diag}(1 - \rho^2)`, :math:`\rho` the (partial) canonical
correlations, and

.. math:: I_{linear} = -\tfrac12 \sum_i \ln(1 - \rho_i^2).

References: Hotelling (1936).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["Coordinates", "coordinates"]

_SMALLEST = 1e-8  # share of the variance below which a direction counts as constant
_CLOSEST = 1e-6  # least variance that a prediction leaves


@dataclass(frozen=True)
class Coordinates:
    """X in the new coordinates, and its two linear predictions.

    Attributes:
        x: shape (samples, directions).
        without: prediction from Z, same shape; its errors have variance 1 in each direction.
        within: prediction from (Y, Z), same shape.
        left: variance of the errors of ``within`` in each direction, :math:`1 - \\rho^2`.
        bias: expected excess of :math:`I_{linear}` that comes from fitting, for Gaussian samples.
    """

    x: Float[np.ndarray, "samples directions"]
    without: Float[np.ndarray, "samples directions"]
    within: Float[np.ndarray, "samples directions"]
    left: Float[np.ndarray, " directions"]
    bias: float

    def information(self, sigma: float = 0.0) -> float:
        """The linear part of I(X + sigma N; Y | Z) in nats, without the bias of the fit."""
        noise = sigma**2
        return float(0.5 * np.log((1 + noise) / (self.left + noise)).sum()) - self.bias


def coordinates(
    x: Float[np.ndarray, "samples xs"], y: Float[np.ndarray, "samples ys"], z: Float[np.ndarray, "samples zs"]
) -> Coordinates:
    """The coordinates of X in which the linear predictions from Z and from (Y, Z) have independent errors."""
    x = x - x.mean(0)
    first, rank = _predicted(x, z)
    second, more = _predicted(x, np.concatenate([z, y], 1))
    values, vectors = np.linalg.eigh(np.cov((x - first).T, bias=True).reshape(x.shape[1], -1))
    kept = values > _SMALLEST * max(values.max(), 1e-300)
    white = vectors[:, kept] / np.sqrt(values[kept])
    error = (x - second) @ white
    left, turn = np.linalg.eigh(error.T @ error / len(x))
    to = white @ turn
    bias = len(left) * (more - rank) / (2 * len(x))
    return Coordinates(x @ to, first @ to, second @ to, left.clip(_CLOSEST, 1.0), bias)


def _predicted(x: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, int]:
    """The linear prediction of x from what is known, and the number of independent columns that it uses."""
    known = known - known.mean(0)
    if not known.shape[1]:
        return np.zeros_like(x), 0
    left, singular, _ = np.linalg.svd(known, full_matrices=False)
    left = left[:, singular > singular.max() * 1e-7]
    return left @ (left.T @ x), left.shape[1]
