"""The information theorem, against closed forms."""

from __future__ import annotations

import torch

from sigmascope.checks.rows import Effort, Outcome, average, check
from sigmascope.checks.systems import chain, column, knowing, oscillator, two_points_information
from sigmascope.filtering import (
    FiniteSystem,
    KalmanBucyFilter,
    LinearSystem,
    WonhamFilter,
    gaussian_information,
    gaussian_state_information,
    information_by_gap,
    information_by_ratio,
    known_path,
    run,
    simulate,
    uniform_times,
)

_THEOREM = "I(Y_[0,t]; φ) = I(Y_0; φ) + ½ E ∫ ‖E[H | R] − E[H | F]‖² ds"
_SOURCE = "Duncan 1970; Mayer-Wolf & Zakai 1984; Franzese et al. 2025"


@check("information", f"{_THEOREM}: nats against quadrature", _SOURCE, "a sign, static, t = 1", "the ½ is dropped")
def _information(effort: Effort) -> Outcome:
    system = FiniteSystem(torch.tensor([0.5, 0.5]), column(-1.0, 1.0))
    path = simulate(system, uniform_times(1.0, 100), effort.paths(32_000), effort.generator())
    found = information_by_gap(
        path, run(WonhamFilter(system), path), knowing(system, path, torch.arange(system.states))
    ).per_path[-1]
    return average(2.0 * found if effort.broken else found, two_points_information(1.0), allowance=1e-3)


@check(
    "information-feedback",
    f"{_THEOREM}: with feedback and an informative Y_0, nats against quadrature",
    _SOURCE,
    "a sign, H = x − Y/2, Y_0 = x + noise of variance 2, t = 1",
    "what Y_0 tells is left out",
)
def _feedback(effort: Effort) -> Outcome:
    signs = column(-1.0, 1.0)
    system = FiniteSystem(
        torch.tensor([0.5, 0.5]),
        lambda y, t: signs - 0.5 * y[..., None, :],
        dim=1,
        start_mean=signs,
        start_covariance=torch.tensor([[2.0]]),
    )
    path = simulate(system, uniform_times(1.0, 100), effort.paths(32_000), effort.generator())
    found = information_by_gap(
        path, run(WonhamFilter(system), path), knowing(system, path, torch.arange(system.states))
    ).per_path
    total = found[-1] - found[0] if effort.broken else found[-1]
    return average(total, two_points_information(1.5), allowance=1e-3)


@check(
    "information-gaussian",
    f"{_THEOREM} for the whole path of the state: nats against the Riccati equation",
    _SOURCE,
    "linear, two dimensions, with feedback",
    "the ½ is dropped",
)
def _gaussian(effort: Effort) -> Outcome:
    system, times = oscillator(), uniform_times(2.0, 200)
    path = simulate(system, times, effort.paths(8000), effort.generator())
    found = information_by_gap(path, run(KalmanBucyFilter(system), path), known_path(path)).per_path[-1]
    expected = float(gaussian_information(system, times)[-1])
    return average(2.0 * found if effort.broken else found, expected, allowance=5e-3)


@check(
    "information-ratio",
    "E ln dP(Y | φ)/dP(Y) is that integral: paired difference",
    "Girsanov 1960; Duncan 1970",
    "chain of three states, φ = X_0",
    "the evidence of who knows φ loses its ½",
)
def _ratio(effort: Effort) -> Outcome:
    system = chain()
    path = simulate(system, uniform_times(1.5, 300), effort.paths(32_000), effort.generator())
    plain, account = run(WonhamFilter(system), path), knowing(system, path, torch.arange(3))
    gap = information_by_gap(path, plain, account).per_path[-1]
    ratio = information_by_ratio(path, plain, account).per_path[-1]
    if effort.broken:
        ratio = ratio + 0.5 * (account.drift[:-1] ** 2).sum(2).mean(0) * 1.5
    return average(ratio - gap, 0.0, allowance=2e-3)


@check(
    "moving-state",
    "For φ = X_t of a moving state the integral is not the information, which may fall: I(Y_[0,t]; X_t), nats",
    "Franzese et al. 2025 (φ fixed in time); Liptser & Shiryaev 2001, ch. 12",
    "linear, one dimension, whose state forgets",
    "the integral is taken for it",
)
def _moving(effort: Effort) -> Outcome:
    one = torch.ones(1, 1, dtype=torch.float64)
    system = LinearSystem(-1.5 * one, one, 1.5 * one, torch.zeros(1), 16.0 * one)
    times = uniform_times(2.0, 200)
    path = simulate(system, times, effort.paths(8000), effort.generator())
    account = run(KalmanBucyFilter(system), path)
    expected = gaussian_state_information(system, times)
    if float(expected.max() - expected[-1]) < 0.1:
        raise ArithmeticError("this state does not forget: the row would show nothing")
    if effort.broken:
        return average(information_by_gap(path, account, known_path(path)).per_path[-1], float(expected[-1]))
    x, free = path.state[-1, :, 0], path.state[-1, :, 0]
    variance = float(account.final.covariance[0, 0])
    spread = 16.0 * torch.exp(torch.tensor(-6.0)) + (1 - torch.exp(torch.tensor(-6.0))) / 3.0
    given = -0.5 * (x - account.mean[-1, :, 0]) ** 2 / variance - 0.5 * torch.log(torch.tensor(variance))
    return average(given + 0.5 * free**2 / spread + 0.5 * torch.log(spread), float(expected[-1]))
