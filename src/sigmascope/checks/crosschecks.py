"""The filters, compared with published closed forms and with one another."""

from __future__ import annotations

import torch
from scipy.linalg import solve_continuous_are

import sigmascope.filtering as f
from sigmascope.checks.rows import Effort, Outcome, check
from sigmascope.checks.systems import oscillator


@check(
    "riccati", "Kalman & Bucy 1961; Laub 1979", "linear, two dimensions", "the measurement is assumed half as strong"
)
def _riccati(effort: Effort) -> Outcome:
    """The Kalman–Bucy covariance converges to the solution of the algebraic Riccati equation: largest difference"""
    system = oscillator()
    a, b, c = system.coefficients(0.0)
    path = f.simulate(system, f.uniform_times(12.0, 6000), 2, effort.generator())
    p = f.run(f.KalmanBucyFilter(system), path).final.covariance
    c = 0.5 * c if effort.broken else c
    exact = solve_continuous_are(a.T.numpy(), c.T.numpy(), (b @ b.T).numpy(), torch.eye(1).numpy())
    return Outcome(float((p - torch.from_numpy(exact)).abs().max()), 0.0, allowance=1e-5)


@check(
    "benes",
    "Beneš 1981; Zakai 1969; Scharfetter & Gummel 1969",
    "dX = 1.5 tanh(1.5 X + 0.2) dt + dV, dY = X dt + dW",
    "the tilt of the closed form is left out",
)
def _benes(effort: Effort) -> Outcome:
    """Beneš' closed form agrees with Zakai's equation solved on a grid: largest difference of posterior means"""
    system = f.BenesSystem(1.5, torch.ones(1), shift=0.2, mean=0.1, variance=0.3)
    path = f.simulate(system, f.uniform_times(1.0, 500), 40, effort.generator())
    x = torch.linspace(-8.0, 8.0, 321, dtype=torch.float64)
    density = torch.cosh(1.5 * x + 0.2) * torch.exp(-0.5 * (x - 0.1) ** 2 / 0.3)
    grid = f.grid_system(x, lambda v: 1.5 * torch.tanh(1.5 * v + 0.2), 1.0, x[:, None], density)
    closed = f.run(f.BenesFilter(system), path)
    mean = closed.final.untilted[:, None] if effort.broken else closed.mean[-1]
    # Second order in the spacing, first in the time step.
    return Outcome(
        float((f.run(f.WonhamFilter(grid), path).mean[-1] @ x - mean[:, 0]).abs().max()), 0.0, allowance=0.006
    )


@check(
    "particle",
    "Gordon, Salmond & Smith 1993; Crisan & Lyons 1999",
    "linear, two dimensions",
    "the measurement has the wrong sign",
)
def _particle(effort: Effort) -> Outcome:
    """The particle filter agrees with Kalman–Bucy within its Monte Carlo error: squared difference over its variance"""
    system, repeats, count = oscillator(), 8, 500
    path = f.simulate(system, f.uniform_times(1.0, 200), effort.paths(320), effort.generator())
    exact = f.run(f.KalmanBucyFilter(system), path).mean[-1, :, 0]
    shown = path if not effort.broken else type(path)(system, path.times, -path.y, path.state)
    filters = (f.ParticleFilter(system, count, effort.generator(r)) for r in range(1, repeats + 1))
    means = torch.stack([f.run(each, shown).mean[-1, :, 0] for each in filters])
    # Independent clouds give the variance: with their mean, F(1, repeats - 1), whose own mean is not quite one.
    ratio = (means.mean(0) - exact) ** 2 / (means.var(0) / repeats)
    expected = (repeats - 1) / (repeats - 3)
    return Outcome(float(ratio.mean()), expected, float(ratio.std()) / len(ratio) ** 0.5, allowance=0.15)
