"""Integrals over ln sigma from values at given levels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline


def integral_from_the_top(sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, "levels levels"]:
    r"""Quadrature weights in :math:`\ln\sigma`: ``W @ f`` is :math:`\int_{\ln\sigma_j}^{\ln\sigma_0} f\, d\ln\sigma`.

    The integral is that of the cubic spline through f (fourth order), or of the polygon below four levels; it is
    linear in f, so the weights serve every draw.

    Args:
        sigma: decreasing levels.

    Returns: float64, shape (levels, levels); row 0 is zero.
    """
    return _spline_weights(np.log(sigma), np.log(sigma))


def integral_coarse(sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, "levels levels"]:
    """Weights like those of :func:`integral_from_the_top` that use every other level only, and the last.

    The difference of both integrals gauges the error of the quadrature: a fourth-order rule errs about 16 times as much
    on half of the levels.

    Args:
        sigma: decreasing levels.

    Returns: float64, shape (levels, levels), with zeros in the columns of the levels that are left out.
    """
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
    return np.asarray(antiderivative(nodes[0]) - antiderivative(at))
