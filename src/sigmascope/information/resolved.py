r"""The resolved share: how much of the power of a feature of the picture a denoiser knows at a noise level.

.. math:: s_B(\sigma) = 1 - \frac{E\|P(V - D(Y_\sigma))\|^2}{E\|P(V - E[V])\|^2}

For the exact filter this is the share of the variance of B = P V that the noisy picture explains, exact for the finite
law; for any other denoiser it is not larger than that, up to the errors of the draws, since the posterior mean has the
least squared error.  It is negative where a denoiser is worse than the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Curve, Denoiser, Draws, InputError
from sigmascope.exact.features import Feature, picture_shape, to_frequencies
from sigmascope.sample.schemes import home_of

_ROWS = 256


@dataclass(frozen=True, eq=False)
class ResolvedShares:
    """Resolved shares of features at noise levels.

    Attributes:
        features: their names.
        sigma: noise levels.
        share: of the power that is resolved, shape (features, levels).
        stderr: its standard error over the draws.
        error: squared error of each draw, shape (features, levels, draws).
        power: squared distance of each draw from the mean, shape (features, draws).
    """

    features: tuple[str, ...]
    sigma: Float[np.ndarray, " levels"]
    share: Float[np.ndarray, "features levels"]
    stderr: Float[np.ndarray, "features levels"]
    error: Float[np.ndarray, "features levels draws"]
    power: Float[np.ndarray, "features draws"]


def resolved_shares(
    denoiser: Callable[[Tensor, Tensor], Tensor],
    draws: Draws,
    features: Sequence[Feature],
    sigma: Sequence[float] | Float[np.ndarray, " levels"],
    *,
    mean: Float[Tensor, " *event"] | None = None,
) -> ResolvedShares:
    r"""The share of the power of each feature that a denoiser resolves, :math:`1 - E\|P(V - D)\|^2 / E\|P(V - m)\|^2`.

    Numerator and denominator are means over the same draws; the standard error is that of their ratio to first order.

    Args:
        denoiser: D(y, sigma), an exact filter, a network, or any function of y, shape (batch, \*event), and one level
            for each row.
        draws: clean pictures and their noise, shared by all levels.
        features: of :func:`~sigmascope.exact.features.parse_features`.
        sigma: noise levels, in the unit of the pictures.
        mean: m, the mean picture of the law; None: that of the draws, with n/(n - 1) for the power.

    Raises: InputError for values that are no pictures, or fewer than two draws.

    Cost: a denoising of every draw at every level.
    """
    if len(draws) < 2:
        raise InputError(f"{len(draws)} draws came: at least 2 are needed for a standard error")
    power = powers(draws, features, mean)
    levels = np.asarray(sigma, dtype=np.float64)
    error = np.stack([errors_at(denoiser, draws, features, float(s)) for s in levels], 1)
    share, stderr = shares_of(error, power)
    return ResolvedShares(tuple(f.name for f in features), levels, share, stderr, error, power)


def powers(
    draws: Draws, features: Sequence[Feature], mean: Float[Tensor, " *event"] | None = None
) -> Float[np.ndarray, "features draws"]:
    """Squared distance of each draw from the mean, in each feature."""
    v = draws.v.double()
    centre, scale = (v.mean(0), len(v) / (len(v) - 1)) if mean is None else (mean.to(v), 1.0)
    return scale * _squares(v - centre, features)


def errors_at(
    denoiser: Callable[[Tensor, Tensor], Tensor], draws: Draws, features: Sequence[Feature], sigma: float
) -> Float[np.ndarray, "features draws"]:
    """Squared error of each draw at a level, in each feature."""
    device = home_of(denoiser)[0] if isinstance(denoiser, Denoiser) else draws.v.device
    parts = []
    for start in range(0, len(draws), _ROWS):
        rows = slice(start, start + _ROWS)
        v = draws.v[rows]
        y = v + sigma * draws.noise[rows].to(v)
        with torch.no_grad():
            denoised = denoiser(y.to(device), torch.full((len(y),), sigma, dtype=torch.float64, device=device))
        parts.append(_squares(v.double() - denoised.to(v.device).double(), features))
    return np.concatenate(parts, 1)


def shares_of(
    error: Float[np.ndarray, "features levels draws"], power: Float[np.ndarray, "features draws"]
) -> tuple[Float[np.ndarray, "features levels"], Float[np.ndarray, "features levels"]]:
    """Resolved shares and their standard errors, from squared errors and squared distances of the same draws.

    A feature without power is resolved: its share is 1.
    """
    n, whole = power.shape[1], power.mean(1)
    some = np.where(whole > 0, whole, 1.0)
    lost = np.where(whole[:, None] > 0, error.mean(2) / some[:, None], 0.0)
    residual = (error - lost[:, :, None] * power[:, None]) / some[:, None, None]
    return 1.0 - lost, np.where(whole[:, None] > 0, residual.std(2, ddof=1) / n**0.5, 0.0)


def share_curves(
    names: Sequence[str], sigma: Float[np.ndarray, " levels"], per_draw: Float[np.ndarray, "features levels draws"]
) -> list[Curve]:
    """Resolved shares as curves with the ceiling 1, so that levels and their intervals are read off them like onsets.

    Args:
        names: of the features.
        sigma: decreasing levels.
        per_draw: contributions of :func:`contributions`.
    """
    return [Curve.of_draws(n, "resolved", sigma, each, 1.0) for n, each in zip(names, per_draw, strict=True)]


def contributions(
    error: Float[np.ndarray, "features levels draws"], power: Float[np.ndarray, "features draws"]
) -> Float[np.ndarray, "features levels draws"]:
    """What each draw adds to the resolved shares, to first order; the mean over draws is the share."""
    share, _ = shares_of(error, power)
    whole = power.mean(1)[:, None, None]
    residual = (error - (1.0 - share)[:, :, None] * power[:, None]) / np.where(whole > 0, whole, 1.0)
    return np.asarray(share[:, :, None] - residual)


def _squares(x: Tensor, features: Sequence[Feature]) -> Float[np.ndarray, "features batch"]:
    """Squared length of each row in each feature."""
    coefficients = to_frequencies(x)
    _, height, width = picture_shape(tuple(x.shape[1:]), features[0].name)
    return np.stack([f.of(coefficients, height, width).square().sum(1).cpu().numpy() for f in features])
