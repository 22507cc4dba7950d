"""Statements on the information about one or several attributes: sufficiency, data processing, the chain rule."""

from __future__ import annotations

import torch
from torch import Tensor

import sigmascope.filtering as f
from sigmascope.checks.rows import Effort, Outcome, average, check
from sigmascope.checks.systems import column, conditional, four_points, information

_BINS = 60


def _binned(score: Tensor, label: Tensor) -> Tensor:
    """ln p(label | bin) − ln p(label) of each path, in bins of equal counts of the score; unbiased to first order."""
    rank = score.argsort().argsort()
    cell = rank * _BINS // len(score)
    joint = torch.zeros(_BINS, int(label.max()) + 1, dtype=torch.float64)
    joint.index_put_((cell, label), torch.ones(len(label), dtype=torch.float64), accumulate=True)
    joint = joint / len(label)
    term = (joint / joint.sum(1, keepdim=True) / joint.sum(0)).log()[cell, label]
    return term - (_BINS - 1) * (joint.shape[1] - 1) / (2.0 * len(label))  # Miller & Madow


def _telegraph() -> f.FiniteSystem:
    rates = torch.tensor([[-0.8, 0.8], [1.2, -1.2]], dtype=torch.float64)
    return f.FiniteSystem(torch.tensor([0.3, 0.7]), column(-1.5, 1.5), rates)


@check(
    "sufficiency",
    "Franzese et al. 2025 (sufficiency)",
    "chain of two states",
    "the filter at half the time replaces π_t",
)
def _sufficiency(effort: Effort) -> Outcome:
    """The filter keeps all information about φ(X_t): I(π_t; φ(X_t)) − I(Y_[0,t]; φ(X_t)), nats"""
    system = _telegraph()
    path = f.simulate(system, f.uniform_times(2.0, 200), effort.paths(64_000), effort.generator())
    filtered, x = f.run(f.WonhamFilter(system), path), path.state[-1]
    prior = (system.prior @ system.transition(2.0))[x]  # type: ignore[operator]
    whole = (filtered.mean[-1].gather(1, x[:, None])[:, 0] / prior).log()
    kept = _binned(filtered.mean[100 if effort.broken else -1, :, 0], x)
    return average(kept - whole, allowance=2e-3)


@check(
    "sufficiency-initial",
    "Franzese et al. 2025 (sufficiency); Duncan 1970",
    "chain of two states, with its first state",
    "π_t, the law of X_t alone, replaces the joint law",
)
def _initial(effort: Effort) -> Outcome:
    """The joint law of (X_0, X_t) keeps all information about φ = X_0: its information less the integral's, nats"""
    system = _telegraph()
    eye = torch.eye(2, dtype=torch.float64)
    pair = f.FiniteSystem(  # state 2 x_0 + x_t
        torch.stack([system.prior[0], eye[0, 1], eye[0, 1], system.prior[1]]),
        column(-1.5, 1.5, -1.5, 1.5),
        torch.kron(eye, system.rates),  # type: ignore[arg-type]
    )
    path = f.simulate(pair, f.uniform_times(2.0, 200), effort.paths(64_000), effort.generator())
    first, began = path.state[0] // 2, torch.tensor([0, 0, 1, 1])
    filtered = f.run(f.WonhamFilter(pair), path)
    gap = f.information_by_gap(path, filtered, conditional(pair, path, began)).per_path[-1]
    law = filtered.mean[-1]
    if effort.broken:
        kept = _binned(law[:, 0] + law[:, 2], first)
    else:
        kept = (law[:, :2].sum(1).where(first == 0, law[:, 2:].sum(1)) / system.prior[first]).log()
    return average(kept - gap, allowance=2e-3)


@check(
    "independent",
    "Franzese et al. 2025; Duncan 1970",
    "a static sign and a static coin; only the sign is measured",
    "the coin is measured too",
)
def _independent(effort: Effort) -> Outcome:
    """I(Y; φ) = 0 for φ independent of the state, nats"""
    h = column(-1.0, 1.0, -1.0, 1.0)
    if effort.broken:
        h = h + column(0.0, 0.0, 1.0, 1.0)
    system = f.FiniteSystem(torch.full((4,), 0.25), h)
    path = f.simulate(system, f.uniform_times(1.0, 100), effort.paths(8000), effort.generator())
    coin = torch.tensor([0, 0, 1, 1])
    return Outcome(float(information(system, path, coin).mean()), 0.0, allowance=1e-12)


@check(
    "monotone",
    "Duncan 1970; Cover & Thomas 2006, §2.8",
    "four points, static",
    "the quarters are taken in reverse order",
)
def _monotone(effort: Effort) -> Outcome:
    """I(Y_[0,t]; φ) does not fall with time: smallest gain over a quarter of the time, nats"""
    system = four_points()
    path = f.simulate(system, f.uniform_times(2.0, 200), effort.paths(16_000), effort.generator())
    log_p = f.run(f.WonhamFilter(system), path).mean.log().gather(2, path.state[:, :, None])[:, :, 0]
    gains = log_p[::50].diff(dim=0)
    if effort.broken:
        gains = -gains
    worst = gains[int(gains.mean(1).argmin())]
    return average(worst, at_least=True)


@check("data-processing", "Cover & Thomas 2006, §2.8", "four points, static; f is the sign", "φ and f(φ) are exchanged")
def _processing(effort: Effort) -> Outcome:
    """A function of φ carries no more information, I(Y; f(φ)) ≤ I(Y; φ): difference, nats"""
    system = four_points()
    path = f.simulate(system, f.uniform_times(1.5, 150), effort.paths(16_000), effort.generator())
    point, sign = (information(system, path, torch.tensor(x)) for x in ([0, 1, 2, 3], [0, 0, 1, 1]))
    return average(sign - point if effort.broken else point - sign, at_least=True)


@check(
    "chain-rule",
    "Cover & Thomas 2006, §2.5; Franzese et al. 2025",
    "four points, static; φ₁ is the sign, φ₂ the size",
    "φ₁ is taken from another path",
)
def _chain_rule(effort: Effort) -> Outcome:
    """I(Y; φ₁, φ₂) = I(Y; φ₁) + I(Y; φ₂ | φ₁), each term from its own integral: difference, nats"""
    system = four_points()
    path = f.simulate(system, f.uniform_times(1.5, 150), effort.paths(32_000), effort.generator())
    sign = torch.tensor([0, 0, 1, 1])
    value = sign[path.state[0]]
    unconditional, both = f.run(f.WonhamFilter(system), path), conditional(system, path, torch.arange(4))
    first = conditional(system, path, sign, value.roll(1) if effort.broken else value)
    pairs = ((unconditional, both), (unconditional, first), (first, both))
    joint, of_first, of_second = (f.information_by_gap(path, *pair).per_path[-1] for pair in pairs)
    return average(joint - of_first - of_second, allowance=1e-3)
