"""The filter is a conditional law, its innovation is a Brownian motion, and (Y, π) needs no hidden state."""

from __future__ import annotations

from typing import Any

import torch
from scipy import stats
from torch import Tensor

from sigmascope.checks.rows import Effort, Outcome, average, check
from sigmascope.checks.systems import chain, four_points, knowing, oscillator
from sigmascope.filtering import (
    Filter,
    Filtered,
    FiniteSystem,
    KalmanBucyFilter,
    Path,
    System,
    WonhamFilter,
    innovation,
    martingale_test,
    normality_test,
    quadratic_variation_test,
    run,
    simulate,
    simulate_joint,
    uniform_times,
    whiteness_test,
)
from sigmascope.paths import brownian


@check(
    "bayes",
    "The filter exists and is π = ρ/ρ(1), ρ(φ) = E_ref[φ(X) Z | Y]: mean squared error of Monte Carlo over its own",
    "Bain & Crisan 2009, Thm 2.1, Prop. 3.16; Kallianpur & Striebel 1968; Franzese et al. 2025, Thm 1",
    "chain of three states",
    "the ½ of the likelihood ratio is dropped",
)
def _bayes(effort: Effort) -> Outcome:
    g, system = effort.generator(), chain()
    times, paths, count = uniform_times(1.0, 50), effort.paths(1600), 1000
    path = simulate(system, times, paths, g)
    x, weight, half = system.initial(paths * count, g).reshape(paths, count), 0.0, 0.0 if effort.broken else 0.5
    grid = times.tolist()
    for k, dy in enumerate(path.increments):
        dt = grid[k + 1] - grid[k]
        x = system.propagate(x, grid[k], 0.5 * dt, g)  # seen at the middle of the step, as by the filter
        h = system.drift(path.y[k, :, None], x, grid[k])
        weight = weight + (h * dy[:, None]).sum(2) - half * (h**2).sum(2) * dt
        x = system.propagate(x, grid[k] + 0.5 * dt, 0.5 * dt, g)
    share = torch.softmax(torch.as_tensor(weight), 1)
    hit = (x == 2).double()
    mean = (share * hit).sum(1)
    variance = (share**2 * (hit - mean[:, None]) ** 2).sum(1)
    exact = run(WonhamFilter(system), path).mean[-1, :, 2]
    return average((mean - exact) ** 2 / variance, 1.0, allowance=0.1)


@check(
    "tower",
    "E[H(X_t) | π_t(H)] = π_t(H): slope of the regression of H(X_t) on π_t(H)",
    "Bain & Crisan 2009, Thm 2.1",
    "chain of three states",
    "the filter takes the state for static",
)
def _tower(effort: Effort) -> Outcome:
    system = chain()
    path = simulate(system, uniform_times(1.5, 150), effort.paths(32_000), effort.generator())
    believed = FiniteSystem(system.prior, system.h) if effort.broken else system
    expected = run(WonhamFilter(believed), path).drift[-1, :, 0]
    h, centred = system.drift(path.y[-1], path.state[-1], 1.5)[:, 0], expected - expected.mean()
    slope = float((centred * h).sum() / (centred**2).sum())
    residual = h - h.mean() - slope * centred
    error = float((centred**2 * residual**2).sum().sqrt() / (centred**2).sum())
    return Outcome(slope, 1.0, error, allowance=0.01)


@check(
    "innovation",
    "W = Y − Y_0 − ∫π(H) ds is a Brownian motion of the measurements: largest z of four tests",
    "Kailath 1968; Bain & Crisan 2009, Prop. 2.30",
    "chain of three states",
    "E[H] is taken in place of π(H): the filtration that sees nothing",
)
def _innovation(effort: Effort) -> Outcome:
    system = chain()
    path = simulate(system, uniform_times(2.0, 400), effort.paths(16_000), effort.generator())
    account = run(WonhamFilter(system), path)
    blind = account.drift.mean(1, keepdim=True).expand_as(account.drift)
    return _brownian(path, account, blind if effort.broken else account.drift)


@check(
    "innovation-told",
    "W^R = Y − Y_0 − ∫E[H | R] ds is a Brownian motion of any larger filtration R: largest z of four tests",
    "Franzese et al. 2025; Bain & Crisan 2009, Prop. 2.30",
    "chain of three states, R = F ∨ σ(X_0)",
    "the filter of F alone is taken, which R sees through",
)
def _innovation_conditional(effort: Effort) -> Outcome:
    system = chain()
    path = simulate(system, uniform_times(2.0, 400), effort.paths(16_000), effort.generator())
    account, plain = knowing(system, path, torch.arange(3)), run(WonhamFilter(system), path)
    return _brownian(path, account, plain.drift if effort.broken else account.drift)


@check(
    "change-of-measure",
    "Z_t has mean one where Y is a Brownian motion (bounded H, Novikov)",
    "Girsanov 1960; Novikov 1972; Bain & Crisan 2009, §3.3",
    "chain of three states, observed by pure noise",
    "the ½ of the likelihood ratio is dropped",
)
def _mean_one(effort: Effort) -> Outcome:
    system, times = chain(), uniform_times(1.0, 100)
    w = brownian(times, effort.paths(64_000), system.dim, effort.generator()).values
    nothing = Path(system, times, w, torch.zeros(w.shape[:2], dtype=torch.int64))
    account = run(WonhamFilter(system), nothing)
    evidence = account.log_evidence[-1]
    if effort.broken:
        evidence = evidence + 0.5 * (account.drift**2).sum(2).mean(0)
    return average(evidence.exp(), 1.0)


def _brownian(path: Path, knows: Filtered, drift: Tensor) -> Outcome:
    """The worst of four tests as a z-score; of the slow ones on a grid of 20 steps, where a drift would show."""
    w = innovation(path, Filtered(path.times, knows.mean, drift, knows.log_evidence))
    every = torch.arange(0, len(path.times), (len(path.times) - 1) // 20)
    slow, times = w[every], path.times[every]
    tests = (
        martingale_test(w, path.times, knows.drift - knows.drift.mean(1, keepdim=True)),
        quadratic_variation_test(slow, times),
        whiteness_test(slow, times),
        normality_test(slow, times),
    )
    worst = min(t.p_value for t in tests)
    return Outcome(float(stats.norm.isf(max(worst, 1e-300) / 2)), 0.0, 1.0)


class _Reversed(Filter[Any]):
    """A filter whose expectation of the measurement has the wrong sign."""

    def __init__(self, inner: Filter[Any]) -> None:
        self.system: System = inner.system
        self._inner = inner

    def init(self, y0: Tensor) -> Any:
        return self._inner.init(y0)

    def step(self, state: Any, dy: Tensor, t: float, dt: float) -> Any:
        return self._inner.step(state, dy, t, dt)

    def mean(self, state: Any) -> Tensor:
        return self._inner.mean(state)

    def drift(self, state: Any, t: float) -> Tensor:
        return -self._inner.drift(state, t)

    def log_evidence(self, state: Any) -> Tensor:
        return self._inner.log_evidence(state)


def _same_law(effort: Effort, filter: Filter[Any]) -> Outcome:
    """The worst z-score of features of Y, simulated with the hidden state and from the filter alone."""
    times, paths = uniform_times(1.5, 150), effort.paths(24_000)
    hidden = simulate(filter.system, times, paths, effort.generator(0))
    y0 = torch.zeros(paths, filter.system.dim, dtype=torch.float64)
    alone, _ = simulate_joint(_Reversed(filter) if effort.broken else filter, times, y0, effort.generator(1))
    scores = []
    for feature in (_early, _late, _product, _square, _largest):
        a, b = feature(hidden.y), feature(alone.y)
        spread = (a.var() / len(a) + b.var() / len(b)).sqrt()
        scores.append(float((a.mean() - b.mean()).abs() / spread))
    test = stats.ks_2samp(_late(hidden.y).numpy(), _late(alone.y).numpy())
    scores.append(float(stats.norm.isf(max(test.pvalue, 1e-300) / 2)))
    return Outcome(max(scores), 0.0, 1.0)


def _early(y: Tensor) -> Tensor:
    return y[len(y) // 3, :, 0]


def _late(y: Tensor) -> Tensor:
    return y[-1, :, 0]


def _product(y: Tensor) -> Tensor:
    return y[-1, :, 0] * y[len(y) // 2, :, 0]


def _square(y: Tensor) -> Tensor:
    return y[-1, :, -1] ** 2


def _largest(y: Tensor) -> Tensor:
    return y[:, :, 0].max(0).values


_JOINT = "dY = π(H) dt + dW^F with π from its own equation has the law of Y: largest z of six comparisons"
_JOINT_SOURCE = "Franzese et al. 2025 (joint dynamics); Bain & Crisan 2009, Prop. 2.30"
_JOINT_SPOILED = "the drift has the wrong sign"


@check("joint-chain", _JOINT, _JOINT_SOURCE, "chain of three states", _JOINT_SPOILED)
def _joint_chain(effort: Effort) -> Outcome:
    return _same_law(effort, WonhamFilter(chain()))


@check("joint-static", _JOINT, _JOINT_SOURCE, "four points, static", _JOINT_SPOILED)
def _joint_static(effort: Effort) -> Outcome:
    return _same_law(effort, WonhamFilter(four_points()))


@check("joint-linear", _JOINT, _JOINT_SOURCE, "linear, two dimensions", _JOINT_SPOILED)
def _joint_linear(effort: Effort) -> Outcome:
    return _same_law(effort, KalmanBucyFilter(oscillator()))
