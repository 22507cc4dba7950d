"""Statements on the filter itself: its law, its innovation, and the pair (Y, π)."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from scipy import stats
from torch import Tensor

import sigmascope.filtering as f
from sigmascope.checks.rows import Effort, Outcome, average, check
from sigmascope.checks.systems import chain, conditional, four_points, oscillator
from sigmascope.paths import brownian


@check(
    "bayes",
    "Bain & Crisan 2009, Thm 2.1, Prop. 3.16; Kallianpur & Striebel 1968; Franzese et al. 2025, Thm 1",
    "chain of three states",
    "the factor ½ in the likelihood ratio is dropped",
)
def _bayes(effort: Effort) -> Outcome:
    """The filter is Bayes' rule, π = ρ/ρ(1) with ρ(φ) = E_ref[φ(X) Z | Y]: squared Monte Carlo error over variance"""
    g, system = effort.generator(), chain()
    times, paths, count = f.uniform_times(1.0, 50), effort.paths(1600), 1000
    path = f.simulate(system, times, paths, g)
    x, weight, half = system.initial(paths * count, g).reshape(paths, count), 0.0, 0.0 if effort.broken else 0.5
    grid = times.tolist()
    for k, dy in enumerate(path.increments):
        dt = grid[k + 1] - grid[k]
        x = system.propagate(x, grid[k], 0.5 * dt, g)  # measured at the middle of the step, as in the filter
        h = system.drift(path.y[k, :, None], x, grid[k])
        weight = weight + (h * dy[:, None]).sum(2) - half * (h**2).sum(2) * dt
        x = system.propagate(x, grid[k] + 0.5 * dt, 0.5 * dt, g)
    share = torch.softmax(torch.as_tensor(weight), 1)
    hit = (x == 2).double()
    mean = (share * hit).sum(1)
    variance = (share**2 * (hit - mean[:, None]) ** 2).sum(1)
    exact = f.run(f.WonhamFilter(system), path).mean[-1, :, 2]
    return average((mean - exact) ** 2 / variance, 1.0, allowance=0.1)


@check("tower", "Bain & Crisan 2009, Thm 2.1", "chain of three states", "the filter assumes a static state")
def _tower(effort: Effort) -> Outcome:
    """The filter is a conditional mean, E[H(X_t) | π_t(H)] = π_t(H): slope of the regression of H(X_t) on π_t(H)"""
    system = chain()
    path = f.simulate(system, f.uniform_times(1.5, 150), effort.paths(32_000), effort.generator())
    believed = f.FiniteSystem(system.prior, system.h) if effort.broken else system
    expected = f.run(f.WonhamFilter(believed), path).drift[-1, :, 0]
    h, centred = system.drift(path.y[-1], path.state[-1], 1.5)[:, 0], expected - expected.mean()
    slope = float((centred * h).sum() / (centred**2).sum())
    residual = h - h.mean() - slope * centred
    error = float((centred**2 * residual**2).sum().sqrt() / (centred**2).sum())
    return Outcome(slope, 1.0, error, allowance=0.01)


@check(
    "innovation",
    "Kailath 1968; Bain & Crisan 2009, Prop. 2.30",
    "chain of three states",
    "the unconditional mean E[H] replaces π(H)",
)
def _innovation(effort: Effort) -> Outcome:
    """The innovation W = Y − Y_0 − ∫π(H) ds is a Brownian motion: largest z-score of four tests"""
    system = chain()
    path = f.simulate(system, f.uniform_times(2.0, 400), effort.paths(16_000), effort.generator())
    filtered = f.run(f.WonhamFilter(system), path)
    constant = filtered.drift.mean(1, keepdim=True).expand_as(filtered.drift)
    return _brownian(path, filtered, constant if effort.broken else filtered.drift)


@check(
    "innovation-conditional",
    "Franzese et al. 2025; Bain & Crisan 2009, Prop. 2.30",
    "chain of three states; R is the measurements and X_0",
    "the filter of the measurements alone replaces E[H | R]",
)
def _innovation_conditional(effort: Effort) -> Outcome:
    """With more information R, W^R = Y − Y_0 − ∫E[H | R] ds is a Brownian motion too: largest z-score of four tests"""
    system = chain()
    path = f.simulate(system, f.uniform_times(2.0, 400), effort.paths(16_000), effort.generator())
    filtered, unconditional = conditional(system, path, torch.arange(3)), f.run(f.WonhamFilter(system), path)
    return _brownian(path, filtered, unconditional.drift if effort.broken else filtered.drift)


@check(
    "change-of-measure",
    "Girsanov 1960; Novikov 1972; Bain & Crisan 2009, §3.3",
    "chain of three states; Y is pure noise",
    "the factor ½ in the likelihood ratio is dropped",
)
def _mean_one(effort: Effort) -> Outcome:
    """The likelihood ratio Z_t has mean 1 where Y is a Brownian motion (bounded H, Novikov)"""
    system, times = chain(), f.uniform_times(1.0, 100)
    w = brownian(times, effort.paths(64_000), system.dim, effort.generator()).values
    nothing = f.Path(system, times, w, torch.zeros(w.shape[:2], dtype=torch.int64))
    filtered = f.run(f.WonhamFilter(system), nothing)
    evidence = filtered.log_evidence[-1]
    if effort.broken:
        evidence = evidence + 0.5 * (filtered.drift**2).sum(2).mean(0)
    return average(evidence.exp(), 1.0)


def _brownian(path: f.Path, filtered: f.Filtered, drift: Tensor) -> Outcome:
    """The worst of four tests, as a z-score; three of them run on 20 coarse steps, where a drift would show."""
    w = f.innovation(path, f.Filtered(path.times, filtered.mean, drift, filtered.log_evidence))
    every = torch.arange(0, len(path.times), (len(path.times) - 1) // 20)
    slow, times = w[every], path.times[every]
    tests = (
        f.martingale_test(w, path.times, filtered.drift - filtered.drift.mean(1, keepdim=True)),
        f.quadratic_variation_test(slow, times),
        f.whiteness_test(slow, times),
        f.normality_test(slow, times),
    )
    worst = min(t.p_value for t in tests)
    return Outcome(float(stats.norm.isf(max(worst, 1e-300) / 2)), 0.0, 1.0)


def _same_law(effort: Effort, filter: f.Filter[Any]) -> Outcome:
    """The worst z-score among features of Y, simulated with a hidden state and from the filter alone."""
    times, paths = f.uniform_times(1.5, 150), effort.paths(24_000)
    hidden = f.simulate(filter.system, times, paths, effort.generator(0))
    y0 = torch.zeros(paths, filter.system.dim, dtype=torch.float64)
    if effort.broken:
        drift, filter = filter.drift, copy(filter)
        filter.drift = lambda state, t: -drift(state, t)  # type: ignore[method-assign]
    autonomous, _ = f.simulate_joint(filter, times, y0, effort.generator(1))
    scores = []
    for feature in _FEATURES:
        a, b = feature(hidden.y), feature(autonomous.y)
        spread = (a.var() / len(a) + b.var() / len(b)).sqrt()
        scores.append(float((a.mean() - b.mean()).abs() / spread))
    test = stats.ks_2samp(hidden.y[-1, :, 0].numpy(), autonomous.y[-1, :, 0].numpy())
    scores.append(float(stats.norm.isf(max(test.pvalue, 1e-300) / 2)))
    return Outcome(max(scores), 0.0, 1.0)


_FEATURES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda y: y[-1, :, 0],
    lambda y: y[len(y) // 3, :, 0],
    lambda y: y[-1, :, 0] * y[len(y) // 2, :, 0],
    lambda y: y[-1, :, -1] ** 2,
    lambda y: y[:, :, 0].max(0).values,
)


_JOINT = "dY = π(H) dt + dW, with π from the filter's own equation, gives Y its law: largest z-score of six comparisons"
_JOINT_SOURCE = "Franzese et al. 2025 (joint dynamics); Bain & Crisan 2009, Prop. 2.30"
_JOINT_SPOILED = "the drift has the wrong sign"


@check("joint-chain", _JOINT_SOURCE, "chain of three states", _JOINT_SPOILED, _JOINT)
def _joint_chain(effort: Effort) -> Outcome:
    return _same_law(effort, f.WonhamFilter(chain()))


@check("joint-static", _JOINT_SOURCE, "four points, static", _JOINT_SPOILED, _JOINT)
def _joint_static(effort: Effort) -> Outcome:
    return _same_law(effort, f.WonhamFilter(four_points()))


@check("joint-linear", _JOINT_SOURCE, "linear, two dimensions", _JOINT_SPOILED, _JOINT)
def _joint_linear(effort: Effort) -> Outcome:
    return _same_law(effort, f.KalmanBucyFilter(oscillator()))
