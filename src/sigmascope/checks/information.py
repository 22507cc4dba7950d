"""The information theorem, compared with closed forms and quadrature."""

from __future__ import annotations

import torch

import sigmascope.filtering as f
from sigmascope.checks.rows import Effort, Outcome, average, check
from sigmascope.checks.systems import chain, column, conditional, information, oscillator, two_points_information

_THEOREM = "I(Y_[0,t]; φ) = I(Y_0; φ) + ½ E ∫ ‖E[H | R] − E[H | F]‖² ds"
_SOURCE = "Duncan 1970; Mayer-Wolf & Zakai 1984; Franzese et al. 2025"


@check(
    "information",
    _SOURCE,
    "a static sign, t = 1",
    "the factor ½ is dropped",
    f"{_THEOREM}: nats, compared with quadrature",
)
def _information(effort: Effort) -> Outcome:
    system = f.FiniteSystem(torch.tensor([0.5, 0.5]), column(-1.0, 1.0))
    path = f.simulate(system, f.uniform_times(1.0, 100), effort.paths(32_000), effort.generator())
    measured = information(system, path, torch.arange(2))
    return average(2.0 * measured if effort.broken else measured, two_points_information(1.0), allowance=1e-3)


@check(
    "information-feedback",
    _SOURCE,
    "a static sign x, H = x − Y/2, Y_0 = x + noise of variance 2, t = 1",
    "the information in Y_0 is left out",
    f"{_THEOREM}, with feedback and an informative Y_0: nats, compared with quadrature",
)
def _feedback(effort: Effort) -> Outcome:
    signs = column(-1.0, 1.0)
    system = f.FiniteSystem(
        torch.tensor([0.5, 0.5]),
        lambda y, t: signs - 0.5 * y[..., None, :],
        dim=1,
        start_mean=signs,
        start_covariance=torch.tensor([[2.0]]),
    )
    path = f.simulate(system, f.uniform_times(1.0, 100), effort.paths(32_000), effort.generator())
    measured = information(system, path, torch.arange(2))
    if effort.broken:
        measured = measured - information(system, path, torch.arange(2), time=0)
    return average(measured, two_points_information(1.5), allowance=1e-3)


@check(
    "information-gaussian",
    _SOURCE,
    "linear, two dimensions, with feedback",
    "the factor ½ is dropped",
    f"{_THEOREM}, φ the whole path of the state: nats, compared with the Riccati equation",
)
def _gaussian(effort: Effort) -> Outcome:
    system, times = oscillator(), f.uniform_times(2.0, 200)
    path = f.simulate(system, times, effort.paths(8000), effort.generator())
    measured = f.information_by_gap(path, f.run(f.KalmanBucyFilter(system), path), f.known_path(path)).per_path[-1]
    expected = float(f.gaussian_information(system, times)[-1])
    return average(2.0 * measured if effort.broken else measured, expected, allowance=5e-3)


@check(
    "information-ratio",
    "Girsanov 1960; Duncan 1970",
    "chain of three states, φ = X_0",
    "the log-evidence given φ loses its factor ½",
)
def _ratio(effort: Effort) -> Outcome:
    """The mean log-likelihood ratio E ln dP(Y | φ)/dP(Y) equals the same integral: paired difference, nats"""
    system = chain()
    path = f.simulate(system, f.uniform_times(1.5, 300), effort.paths(32_000), effort.generator())
    accounts = f.run(f.WonhamFilter(system), path), conditional(system, path, torch.arange(3))
    gap = f.information_by_gap(path, *accounts).per_path[-1]
    ratio = f.information_by_ratio(path, *accounts).per_path[-1]
    if effort.broken:
        ratio = ratio + 0.5 * (accounts[1].drift[:-1] ** 2).sum(2).mean(0) * 1.5
    return average(ratio - gap, 0.0, allowance=2e-3)


@check(
    "moving-state",
    "Franzese et al. 2025 (φ fixed in time); Liptser & Shiryaev 2001, ch. 12",
    "linear, one dimension; the state forgets its start",
    "the integral is used instead",
)
def _moving(effort: Effort) -> Outcome:
    """For φ = X_t of a moving state the integral is not I(Y_[0,t]; X_t), which can fall: nats, from densities"""
    one = torch.ones(1, 1, dtype=torch.float64)
    system = f.LinearSystem(-1.5 * one, one, 1.5 * one, torch.zeros(1), 16.0 * one)
    times = f.uniform_times(2.0, 200)
    path = f.simulate(system, times, effort.paths(8000), effort.generator())
    filtered = f.run(f.KalmanBucyFilter(system), path)
    expected = f.gaussian_state_information(system, times)
    if float(expected.max() - expected[-1]) < 0.1:
        raise ArithmeticError("the information does not fall with these parameters, so this row would test nothing")
    if effort.broken:
        return average(f.information_by_gap(path, filtered, f.known_path(path)).per_path[-1], float(expected[-1]))
    x, variance = path.state[-1, :, 0], filtered.final.covariance[0, 0]
    prior_variance = 16.0 * torch.exp(torch.tensor(-6.0)) + (1 - torch.exp(torch.tensor(-6.0))) / 3.0
    posterior = -0.5 * (x - filtered.mean[-1, :, 0]) ** 2 / variance - 0.5 * variance.log()
    return average(posterior + 0.5 * x**2 / prior_variance + 0.5 * prior_variance.log(), float(expected[-1]))
