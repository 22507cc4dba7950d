r"""The pair (Y, π) from the filter alone: the hidden state is never drawn.

.. math:: dY_t = \pi_t(H)\,dt + dW^F_t, \qquad d\pi_t = \text{the filter's equation, driven by this } Y

The innovation is a Brownian motion of the measurements' own filtration, so the law of Y is that of the system with the
hidden state.  A diffusion model does precisely this when it generates.

References: Franzese et al. (2025); Bain & Crisan (2009), Prop. 2.30.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.filtering.filters import Filter, Filtered, drive
from sigmascope.filtering.systems import Path
from sigmascope.paths import brownian, check_times


def simulate_joint(
    filter: Filter[Any], times: Tensor, y0: Float[Tensor, "paths dim"], generator: torch.Generator
) -> tuple[Path, Filtered]:
    """Measurements and filter, simulated together from the innovation.

    Args:
        filter: any filter; its step makes π, its expected drift makes Y.
        times: grid, finite and increasing.
        y0: where the measurements begin, shape (paths, dim).
        generator: of the innovation.

    Returns: the path, whose state is the filter's mean, and the filter's results on it.

    Errors: order one in the step, in law.

    Raises: ValueError for times that do not increase or a ``y0`` of another dimension.
    """
    grid = check_times(times)
    if y0.ndim != 2 or y0.shape[1] != filter.system.dim:
        raise ValueError(f"y0 has shape {tuple(y0.shape)}: expected (paths, {filter.system.dim})")
    filter.check_steps(grid)
    noise = brownian(grid, len(y0), filter.system.dim, generator, device=y0.device).increments
    dt = grid.diff().to(y0.device)[:, None, None]
    account = drive(filter, grid, y0, lambda k, drift: drift * dt[k] + noise[k])
    y = torch.cat([y0[None], y0 + (account.drift[:-1] * dt + noise).cumsum(0)])
    return Path(filter.system, grid.to(y0.device), y, account.mean), account
