r"""Noise levels: grids, integrals over ln sigma, and the schedules of other programs.

One coordinate serves every linear noising process: :math:`y = v + \sigma n`.  A :class:`Schedule` converts to and from
other times and scales.
"""

from sigmascope.noise.grids import check_ends, expect, integration_grid, karras_grid, sigma_grid
from sigmascope.noise.quadrature import integral_coarse, integral_from_the_top
from sigmascope.noise.schedules import (
    SCHEDULES,
    Cosine,
    Discrete,
    FlowMatching,
    Karras,
    Schedule,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)

__all__ = [
    "SCHEDULES",
    "Cosine",
    "Discrete",
    "FlowMatching",
    "Karras",
    "Schedule",
    "SubVariancePreserving",
    "VarianceExploding",
    "VariancePreserving",
    "check_ends",
    "expect",
    "integral_coarse",
    "integral_from_the_top",
    "integration_grid",
    "karras_grid",
    "sigma_grid",
]
