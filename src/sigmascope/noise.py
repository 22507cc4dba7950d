r"""The noise level and its relatives.

One coordinate serves every linear noising process: :math:`y = v + \sigma n`.  The signal-to-noise ratio
:math:`\lambda = \sigma^{-2}` is the time of the filter.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, Int64
from scipy.interpolate import CubicSpline

from sigmascope.core import InputError


def sigma_grid(sigma_max: float = 90.0, sigma_min: float = 0.01, levels: int = 40) -> Float[np.ndarray, " levels"]:
    r"""Noise levels evenly spaced in :math:`\ln\sigma`, decreasing.

    .. math:: \sigma_j = \sigma_{max} (\sigma_{min}/\sigma_{max})^{j/(levels-1)}

    Args:
        sigma_max: first level.
        sigma_min: last level.
        levels: how many.

    Returns: float64, shape (levels,).

    Raises: InputError if not 0 < sigma_min < sigma_max < inf, or levels < 2.
    """
    if not (np.isfinite(sigma_min) and np.isfinite(sigma_max)) or sigma_min <= 0:
        raise InputError(
            f"sigma_min is {sigma_min:g} and sigma_max {sigma_max:g}: both must be finite and greater than 0"
        )
    if sigma_min >= sigma_max:
        raise InputError(
            f"sigma_min is {sigma_min:g} and sigma_max is {sigma_max:g}: sigma_min must be the smaller; "
            "pass e.g. --sigma-min 0.01 --sigma-max 90"
        )
    if levels < 2:
        raise InputError(f"levels is {levels}: at least 2 noise levels are needed; pass e.g. --levels 40")
    grid = np.geomspace(sigma_max, sigma_min, levels, dtype=np.float64)
    if np.any(np.diff(grid) >= 0):
        raise InputError(f"{levels} levels between {sigma_max:g} and {sigma_min:g} coincide: pass fewer --levels")
    return grid


def integration_grid(
    sigma: Float[np.ndarray, " levels"], top: float, spacing: float = 0.3
) -> tuple[Float[np.ndarray, " nodes"], Int64[np.ndarray, " levels"]]:
    r"""A grid fit for integrals in :math:`\ln\sigma` that holds given levels.

    Args:
        sigma: decreasing levels.
        top: the grid goes up to this level at least.
        spacing: the largest step in ln sigma.

    Returns: decreasing nodes, and where among them the levels are.
    """
    x = np.log(sigma)
    above = max(0.0, np.log(top / sigma[0])) if top > 0 else 0.0
    steps = int(np.ceil(above / spacing))
    pieces = [x[0] + above * np.arange(steps, 0, -1) / max(steps, 1)]
    for left, right in itertools.pairwise(x):
        count = int(np.ceil((left - right) / spacing - 1e-9))
        pieces.append(np.linspace(left, right, count, endpoint=False))
    nodes = np.exp(np.concatenate([*pieces, x[-1:]]))
    where = np.searchsorted(-nodes, -sigma * (1 + 1e-12))
    nodes[where] = sigma
    return nodes, where.astype(np.int64)


def integral_from_the_top(sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, "levels levels"]:
    r"""Quadrature weights in :math:`\ln\sigma`: ``W @ f`` is :math:`\int_{\ln\sigma_j}^{\ln\sigma_0} f\, d\ln\sigma`.

    The integral is that of the cubic spline through f (fourth order), or of the polygon below four levels; it is linear
    in f, so it serves every draw.

    Args:
        sigma: decreasing levels.

    Returns: float64, shape (levels, levels); row 0 is zero.
    """
    return _spline_weights(np.log(sigma), np.log(sigma))


def integral_coarse(sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, "levels levels"]:
    """The same from every other level only, for an estimate of the quadrature's error."""
    x = np.log(sigma)
    kept = np.unique(np.concatenate([np.arange(0, len(x), 2), [len(x) - 1]]))
    weights = np.zeros((len(x), len(x)))
    weights[:, kept] = _spline_weights(x[kept], x)
    return weights


def _spline_weights(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Integral from each point of ``at`` up to the first node, of an interpolant through decreasing nodes."""
    unit = np.eye(len(nodes))
    if len(nodes) < 4:
        x = nodes[::-1]
        steps = (unit[1:] + unit[:-1]) / 2 * np.diff(nodes)[:, None] * -1.0
        cumulative = np.concatenate([np.zeros((1, len(nodes))), np.cumsum(steps, 0)])
        return np.stack([np.interp(at, x, c[::-1]) for c in cumulative.T], 1)
    antiderivative = CubicSpline(nodes[::-1], unit[::-1]).antiderivative()
    return antiderivative(nodes[0]) - antiderivative(at)
