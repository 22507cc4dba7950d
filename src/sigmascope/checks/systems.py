"""The systems that the checks are tried on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sigmascope.filtering import FiniteSystem, LinearSystem


def column(*values: float) -> Tensor:
    """A float64 column."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def chain() -> FiniteSystem:
    """Three states that the chain visits unevenly, measured in one dimension, each state with its own size of H."""
    rates = torch.tensor([[-1.0, 0.7, 0.3], [0.5, -1.0, 0.5], [0.2, 1.3, -1.5]], dtype=torch.float64)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return FiniteSystem(prior, column(-1.0, 0.5, 2.0), rates)


def four_points() -> FiniteSystem:
    """A static state, four values on a line, of unequal probability."""
    return FiniteSystem(torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64), column(-2.0, -0.5, 1.0, 2.0))


def oscillator() -> LinearSystem:
    """A damped oscillator, its position measured with feedback."""
    a = torch.tensor([[0.0, 1.0], [-2.0, -0.6]], dtype=torch.float64)
    b = torch.tensor([[0.2, 0.0], [0.0, 1.0]], dtype=torch.float64)
    c = torch.tensor([[1.5, 0.5]], dtype=torch.float64)
    return LinearSystem(a, b, c, torch.zeros(2), torch.diag(torch.tensor([1.0, 0.5])), feedback=-0.3 * torch.ones(1, 1))


def two_points_information(snr: float) -> float:
    """I of a sign seen in Gaussian noise at this signal-to-noise ratio, by quadrature.

    ln 2 − E ln(1 + exp(−2 (snr + √snr n))), n standard normal.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    lost = np.logaddexp(0.0, -2.0 * (snr + np.sqrt(snr) * nodes))
    return float(np.log(2.0) - (weights @ lost) / np.sqrt(2 * np.pi))
