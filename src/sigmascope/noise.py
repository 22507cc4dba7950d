r"""The noise level and its relatives.

One coordinate serves every linear noising process: :math:`y = v + \sigma n`.  The signal-to-noise ratio
:math:`\lambda = \sigma^{-2}` is the time of the filter.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

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


def snr_db(sigma: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, " *shape"]:
    r"""Signal-to-noise ratio :math:`\lambda = \sigma^{-2}` in decibels, :math:`-20\log_{10}\sigma`."""
    return -20.0 * np.log10(sigma)
