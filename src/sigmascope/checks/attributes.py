"""What knowing one attribute or another is worth: sufficiency, data processing, the chain rule."""

from __future__ import annotations

import torch
from torch import Tensor

from sigmascope.checks.rows import Effort, Outcome, average, check
from sigmascope.checks.systems import column, four_points, knowing
from sigmascope.filtering import (
    FiniteSystem,
    WonhamFilter,
    information_by_gap,
    run,
    simulate,
    uniform_times,
)

_BINS = 60


def _binned(score: Tensor, label: Tensor) -> Tensor:
    """ln p(label | bin) − ln p(label) of each path, bins of equal count of the score; unbiased to first order."""
    rank = score.argsort().argsort()
    cell = rank * _BINS // len(score)
    joint = torch.zeros(_BINS, int(label.max()) + 1, dtype=torch.float64)
    joint.index_put_((cell, label), torch.ones(len(label), dtype=torch.float64), accumulate=True)
    joint = joint / len(label)
    term = (joint / joint.sum(1, keepdim=True) / joint.sum(0)).log()[cell, label]
    return term - (_BINS - 1) * (joint.shape[1] - 1) / (2.0 * len(label))  # Miller & Madow


def _telegraph() -> FiniteSystem:
    rates = torch.tensor([[-0.8, 0.8], [1.2, -1.2]], dtype=torch.float64)
    return FiniteSystem(torch.tensor([0.3, 0.7]), column(-1.5, 1.5), rates)


@check(
    "sufficiency",
    "The filter keeps all information on φ(X_t): I(π_t; φ(X_t)) − I(Y_[0,t]; φ(X_t)), nats",
    "Franzese et al. 2025 (sufficiency)",
    "chain of two states",
    "the filter of half the time is taken for π_t",
)
def _sufficiency(effort: Effort) -> Outcome:
    system = _telegraph()
    path = simulate(system, uniform_times(2.0, 200), effort.paths(64_000), effort.generator())
    account, x = run(WonhamFilter(system), path), path.state[-1]
    prior = (system.prior @ system.transition(2.0))[x]  # type: ignore[operator]
    whole = (account.mean[-1].gather(1, x[:, None])[:, 0] / prior).log()
    kept = _binned(account.mean[100 if effort.broken else -1, :, 0], x)
    return average(kept - whole, allowance=2e-3)


@check(
    "sufficiency-initial",
    "For φ = X_0 the law of (X_0, X_t) keeps all information: I from it, less the integral, nats",
    "Franzese et al. 2025 (sufficiency); Duncan 1970",
    "chain of two states and where it began",
    "π_t, the law of X_t alone, is taken",
)
def _initial(effort: Effort) -> Outcome:
    system = _telegraph()
    eye = torch.eye(2, dtype=torch.float64)
    pair = FiniteSystem(  # state 2 x_0 + x_t
        torch.stack([system.prior[0], eye[0, 1], eye[0, 1], system.prior[1]]),
        column(-1.5, 1.5, -1.5, 1.5),
        torch.kron(eye, system.rates),  # type: ignore[arg-type]
    )
    path = simulate(pair, uniform_times(2.0, 200), effort.paths(64_000), effort.generator())
    first, began = path.state[0] // 2, torch.tensor([0, 0, 1, 1])
    account = run(WonhamFilter(pair), path)
    gap = information_by_gap(path, account, knowing(pair, path, began)).per_path[-1]
    law = account.mean[-1]
    if effort.broken:
        kept = _binned(law[:, 0] + law[:, 2], first)
    else:
        kept = (law[:, :2].sum(1).where(first == 0, law[:, 2:].sum(1)) / system.prior[first]).log()
    return average(kept - gap, allowance=2e-3)


@check(
    "independent",
    "I(Y; φ) = 0 for φ independent of the state, nats",
    "Franzese et al. 2025; Duncan 1970",
    "a sign and a coin, static; only the sign is measured",
    "the coin is measured too",
)
def _independent(effort: Effort) -> Outcome:
    h = column(-1.0, 1.0, -1.0, 1.0)
    if effort.broken:
        h = h + column(0.0, 0.0, 1.0, 1.0)
    system = FiniteSystem(torch.full((4,), 0.25), h)
    path = simulate(system, uniform_times(1.0, 100), effort.paths(8000), effort.generator())
    coin = torch.tensor([0, 0, 1, 1])
    found = information_by_gap(path, run(WonhamFilter(system), path), knowing(system, path, coin)).per_path[-1]
    return Outcome(float(found.mean()), 0.0, allowance=1e-12)


@check(
    "monotone",
    "I(Y_[0,t]; φ) does not fall: smallest gain over a quarter of the time, nats, by posterior probabilities",
    "Duncan 1970; Cover & Thomas 2006, §2.8",
    "four points, static",
    "the quarters are taken backwards",
)
def _monotone(effort: Effort) -> Outcome:
    system = four_points()
    path = simulate(system, uniform_times(2.0, 200), effort.paths(16_000), effort.generator())
    found = run(WonhamFilter(system), path).mean.log().gather(2, path.state[:, :, None])[:, :, 0]
    gains = found[::50].diff(dim=0)
    if effort.broken:
        gains = -gains
    worst = gains[int(gains.mean(1).argmin())]
    return average(worst, at_least=True)


@check(
    "data-processing",
    "I(Y; f(φ)) ≤ I(Y; φ): the difference, nats",
    "Cover & Thomas 2006, §2.8",
    "four points, static; f the sign",
    "φ and f(φ) are exchanged",
)
def _processing(effort: Effort) -> Outcome:
    system = four_points()
    path = simulate(system, uniform_times(1.5, 150), effort.paths(16_000), effort.generator())
    plain, sign = run(WonhamFilter(system), path), torch.tensor([0, 0, 1, 1])
    whole = information_by_gap(path, plain, knowing(system, path, torch.arange(4))).per_path[-1]
    part = information_by_gap(path, plain, knowing(system, path, sign)).per_path[-1]
    return average(part - whole if effort.broken else whole - part, at_least=True)


@check(
    "chain-rule",
    "I(Y; φ₁, φ₂) = I(Y; φ₁) + I(Y; φ₂ | φ₁), each by its own integral: difference, nats",
    "Cover & Thomas 2006, §2.5; Franzese et al. 2025",
    "four points, static; sign and size",
    "φ₁ is another path's",
)
def _chain_rule(effort: Effort) -> Outcome:
    system = four_points()
    path = simulate(system, uniform_times(1.5, 150), effort.paths(32_000), effort.generator())
    sign = torch.tensor([0, 0, 1, 1])
    value = sign[path.state[0]]
    plain, both = run(WonhamFilter(system), path), knowing(system, path, torch.arange(4))
    one = knowing(system, path, sign, value.roll(1) if effort.broken else value)
    joint = information_by_gap(path, plain, both).per_path[-1]
    first, second = information_by_gap(path, plain, one).per_path[-1], information_by_gap(path, one, both).per_path[-1]
    return average(joint - first - second, allowance=1e-3)
