"""The systems that the checks simulate."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import expm
from torch import Tensor

import sigmascope.filtering as f


def column(*values: float) -> Tensor:
    """A float64 column."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def chain() -> f.FiniteSystem:
    """A chain of three unevenly visited states, measured in one dimension; |H| differs between states."""
    rates = torch.tensor([[-1.0, 0.7, 0.3], [0.5, -1.0, 0.5], [0.2, 1.3, -1.5]], dtype=torch.float64)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return f.FiniteSystem(prior, column(-1.0, 0.5, 2.0), rates)


def four_points() -> f.FiniteSystem:
    """A static state with four values on a line, of unequal probabilities."""
    return f.FiniteSystem(torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64), column(-2.0, -0.5, 1.0, 2.0))


def oscillator() -> f.LinearSystem:
    """A damped oscillator whose position is measured with feedback."""
    a = torch.tensor([[0.0, 1.0], [-2.0, -0.6]], dtype=torch.float64)
    b = torch.tensor([[0.2, 0.0], [0.0, 1.0]], dtype=torch.float64)
    c = torch.tensor([[1.5, 0.5]], dtype=torch.float64)
    return f.LinearSystem(
        a, b, c, torch.zeros(2), torch.diag(torch.tensor([1.0, 0.5])), feedback=-0.3 * torch.ones(1, 1)
    )


def forward(system: f.FiniteSystem, path: f.Path) -> Tensor:
    """p(x | Y) of a chain measured at the middle of equal steps, by the forward algorithm, not by a filter of ours."""
    q, h = system.rates, system.h
    if q is None or not isinstance(h, Tensor):
        raise ValueError("expected a chain (rates are given) whose H is a table")
    p, dt = system.prior.expand(path.paths, -1), float(path.times.diff().mean())
    half = torch.from_numpy(expm(0.5 * dt * q.numpy()))
    for dy in path.increments:
        squares = ((dy[:, None] - h * dt) ** 2).sum(2) / dt
        p = (p @ half) * torch.exp(0.5 * (squares.min(1, keepdim=True).values - squares))
        p = (p / p.sum(1, keepdim=True)) @ half
    return p


def conditional(system: f.FiniteSystem, path: f.Path, labels: Tensor, values: Tensor | None = None) -> f.Filtered:
    """The filter given a function of X_0: ``labels`` of the path's first state, or other values."""
    value = labels[path.state[0]] if values is None else values
    return f.run(f.WonhamFilter(system, f.prior_given(system, labels, value)), path)


def information(system: f.FiniteSystem, path: f.Path, labels: Tensor, time: int = -1) -> Tensor:
    """I(Y; labels of X_0) at one time, nats: the contribution of each path, by the integral."""
    return f.information_by_gap(path, f.run(f.WonhamFilter(system), path), conditional(system, path, labels)).per_path[
        time
    ]


def two_points_information(snr: float) -> float:
    """I of a sign in Gaussian noise at this signal-to-noise ratio, nats, by quadrature.

    ln 2 − E ln(1 + exp(−2 (snr + √snr n))), n standard normal.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    lost = np.logaddexp(0.0, -2.0 * (snr + np.sqrt(snr) * nodes))
    return float(np.log(2.0) - (weights @ lost) / np.sqrt(2 * np.pi))
