"""The systems that the checks are tried on."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import expm
from torch import Tensor

from sigmascope.filtering import Filtered, FiniteSystem, LinearSystem, Path, WonhamFilter, prior_given, run


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


def forward(system: FiniteSystem, path: Path) -> Tensor:
    """Forward algorithm of a chain seen at the middle of equal steps, written apart from the filters: p(x | Y)."""
    q, h = system.rates, system.h
    if q is None or not isinstance(h, Tensor):
        raise ValueError("a chain with a table of H is needed")
    p, dt = system.prior.expand(path.paths, -1), float(path.times.diff().mean())
    half = torch.from_numpy(expm(0.5 * dt * q.numpy()))
    for dy in path.increments:
        squares = ((dy[:, None] - h * dt) ** 2).sum(2) / dt
        p = (p @ half) * torch.exp(0.5 * (squares.min(1, keepdim=True).values - squares))
        p = (p / p.sum(1, keepdim=True)) @ half
    return p


def knowing(system: FiniteSystem, path: Path, labels: Tensor, values: Tensor | None = None) -> Filtered:
    """The account of who is prior_given a function of X_0: its value on each path, or the values given."""
    of = labels[path.state[0]] if values is None else values
    return run(WonhamFilter(system, prior_given(system, labels, of)), path)


def two_points_information(snr: float) -> float:
    """I of a sign seen in Gaussian noise at this signal-to-noise ratio, by quadrature.

    ln 2 − E ln(1 + exp(−2 (snr + √snr n))), n standard normal.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    lost = np.logaddexp(0.0, -2.0 * (snr + np.sqrt(snr) * nodes))
    return float(np.log(2.0) - (weights @ lost) / np.sqrt(2 * np.pi))
