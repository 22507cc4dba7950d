"""Systems and an independent reference for tests of filtering."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import expm

from sigmascope.filtering import FiniteSystem, LinearSystem


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def chain() -> FiniteSystem:
    rates = torch.tensor([[-2.0, 1.5, 0.5], [0.3, -0.5, 0.2], [1.0, 1.0, -2.0]], dtype=torch.float64)
    h = torch.tensor([[-1.0, 0.0], [0.5, 1.0], [2.0, -0.5]], dtype=torch.float64)
    return FiniteSystem(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), h, rates)


def plane(correlation: float = 0.0, feedback: bool = True) -> LinearSystem:
    """Two states, one measurement, everything switched on."""
    return LinearSystem(
        torch.tensor([[-0.4, 1.0], [-1.0, -0.7]]),
        torch.tensor([[0.5, 0.1], [0.0, 0.9]]),
        torch.tensor([[1.2, -0.4]]),
        torch.tensor([0.5, -0.2]),
        torch.tensor([[1.0, 0.3], [0.3, 0.6]]),
        feedback=torch.tensor([[-0.6]]) if feedback else None,
        offset=torch.tensor([0.2, 0.1]),
        measured_offset=torch.tensor([0.3]),
        correlation=torch.tensor([[correlation], [-0.5 * correlation]]) if correlation else None,
        start_gain=torch.tensor([[0.7, 0.1]]),
        start_covariance=torch.tensor([[0.8]]),
    )


def forward_algorithm(prior, h, rates, times, y):
    """Forward algorithm of a chain whose state at the middle of each step makes its increment; one path, numpy."""
    p, log_z = np.array(prior, dtype=float), 0.0
    for k, dt in enumerate(np.diff(times)):
        half, dy = expm(np.asarray(rates) * dt / 2), y[k + 1] - y[k]
        p = p @ half
        density = np.exp(-0.5 * ((dy - h * dt) ** 2).sum(1) / dt)
        p = p * density
        log_z += np.log(p.sum()) + 0.5 * (dy**2).sum() / dt  # over the density of the increment of pure noise
        p = p / p.sum() @ half
    return p, log_z
