"""Grids of noise levels."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, Int64

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
    check_ends(sigma_max, sigma_min)
    expect(levels >= 2, f"levels is {levels}: at least 2 noise levels are needed; pass e.g. --levels 40")
    grid = np.geomspace(sigma_max, sigma_min, levels, dtype=np.float64)
    if np.any(np.diff(grid) >= 0):
        raise InputError(f"{levels} levels between {sigma_max:g} and {sigma_min:g} coincide: pass fewer --levels")
    return grid


def karras_grid(
    sigma_max: float = 80.0, sigma_min: float = 0.002, steps: int = 32, rho: float = 7.0
) -> Float[np.ndarray, " steps"]:
    r"""Noise levels evenly spaced in :math:`\sigma^{1/\rho}`, decreasing: the grid of EDM, without its last level 0.

    .. math:: \sigma_i = \left(\sigma_{max}^{1/\rho}
              + \tfrac{i}{N - 1} (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho})\right)^\rho, \quad i = 0, \ldots, N - 1

    Of the default 32, the levels 17 to 22, counted from 0, are 1.609, 1.174, .845, .598, .415 and .283.

    Args:
        sigma_max: first level.
        sigma_min: last level.
        steps: N, the number of levels.
        rho: the larger, the denser are the low levels; 1 is an even grid.

    Returns: float64, shape (steps,), from sigma_max to sigma_min.

    Raises: InputError if not 0 < sigma_min < sigma_max < inf, steps < 2, or rho is not positive and finite.

    References: Karras et al. (2022), equation 5.
    """
    check_ends(sigma_max, sigma_min)
    expect(steps >= 2, f"steps is {steps}: at least 2 noise levels are needed; pass e.g. steps=32")
    expect(0 < rho < np.inf, f"rho is {rho:g}: it must be finite and greater than 0; pass e.g. rho=7")
    grid = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps) ** rho
    grid[0], grid[-1] = sigma_max, sigma_min  # the powers do not quite cancel
    expect(np.all(np.diff(grid) < 0), f"{steps} steps from {sigma_max:g} to {sigma_min:g} coincide: pass fewer")
    return grid


def check_ends(sigma_max: float, sigma_min: float) -> None:
    """Refuse a highest and a lowest noise level that are not finite, not positive, or not in order.

    Raises: InputError unless 0 < sigma_min < sigma_max < inf.
    """
    received = f"sigma_min is {sigma_min:g} and sigma_max"
    good = 0 < sigma_min < np.inf and np.isfinite(sigma_max)
    expect(good, f"{received} {sigma_max:g}: both must be finite and greater than 0")
    advice = "sigma_min must be the smaller; pass e.g. --sigma-min 0.01 --sigma-max 90"
    expect(sigma_min < sigma_max, f"{received} is {sigma_max:g}: {advice}")


def expect(good: bool | np.bool_, message: str) -> None:
    """Raise an error with a message unless a condition holds.

    Args:
        good: the condition.
        message: what came, what was expected and what to do, in one line.

    Raises: InputError with the message.
    """
    if not good:
        raise InputError(message)


def integration_grid(
    sigma: Float[np.ndarray, " levels"], top: float, spacing: float = 0.3
) -> tuple[Float[np.ndarray, " nodes"], Int64[np.ndarray, " levels"]]:
    r"""A grid for integrals over :math:`\ln\sigma` that contains given levels and is nowhere coarser than a spacing.

    Args:
        sigma: decreasing levels, shape (levels,).
        top: a level that the grid must reach from below; one under the first of ``sigma`` adds nothing.
        spacing: the largest step in ln sigma.

    Returns: the grid, decreasing, float64, shape (nodes,), and the index of each level in it, int64, shape (levels,).
    """
    x = np.log(sigma)
    above = max(0.0, np.log(top / sigma[0])) if top > 0 else 0.0
    steps = int(np.ceil(above / spacing))
    pieces = [x[0] + above * np.arange(steps, 0, -1) / max(steps, 1)]
    for left, right in itertools.pairwise(x):
        count = int(np.ceil((left - right) / spacing - 1e-9))
        pieces.append(np.linspace(left, right, count, endpoint=False))
    nodes = np.exp(np.concatenate([*pieces, x[-1:]]))
    index = np.searchsorted(-nodes, -sigma * (1 + 1e-12))
    nodes[index] = sigma
    return nodes, index.astype(np.int64)
