"""The filtering equations, compared with Bayes' rule on every path, and their order of convergence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import sigmascope.filtering as f
from sigmascope.checks.rows import Effort, Outcome, check
from sigmascope.checks.systems import chain, forward, four_points

_GROUPS = 8


@check(
    "kushner-stratonovich",
    "Kushner 1967; Bain & Crisan 2009, Thm 3.30",
    "four points, static",
    "dY replaces the innovation dY − π(H) dt",
)
def _kushner(effort: Effort) -> Outcome:
    """dπ(φ) = (π(φH) − π(φ)π(H)) · (dY − π(H) dt) is Bayes' rule on every path: order of Euler's scheme"""
    system = four_points()
    fine = f.simulate(system, f.uniform_times(1.0, 2048), effort.paths(4000), effort.generator())
    exact = f.run(f.WonhamFilter(system), fine).mean[-1]

    def solved(path: f.Path) -> Tensor:
        filter, grid = f.KushnerFilter(system, scheme="euler"), path.times.tolist()
        state = filter.init(path.y[0])
        for k, dy in enumerate(path.increments):
            dt = grid[k + 1] - grid[k]
            wrong = filter.drift(state, grid[k]) * dt if effort.broken else 0.0
            state = filter.step(state, dy + wrong, grid[k], dt)
        return filter.mean(state)

    return _order(fine, exact, solved, (32, 128, 512, 2048), 0.5)


@check("zakai", "Zakai 1969; Bain & Crisan 2009, Thm 3.24", "chain of three states", "dY has the wrong sign")
def _zakai(effort: Effort) -> Outcome:
    """dρ(φ) = ρ(Aφ) dt + ρ(φH) · dY, normalised, is the filter: order of convergence of its logarithmic form"""
    system = chain()
    fine = f.simulate(system, f.uniform_times(1.0, 4096), effort.paths(3200), effort.generator())
    filter, sign = f.ZakaiFilter(system), -1.0 if effort.broken else 1.0

    def solved(path: f.Path) -> Tensor:
        return f.run(filter, f.Path(system, path.times, sign * path.y)).mean[-1]

    return _order(fine, forward(system, fine), solved, (16, 64, 256), 1.0)


@check("zakai-normalised", "Bain & Crisan 2009, Cor. 3.41", "chain of three states", "ρ is not normalised")
def _normalised(effort: Effort) -> Outcome:
    """π = ρ/ρ(1) on every path: largest difference from the forward algorithm, which normalises at each step"""
    system = chain()
    path = f.simulate(system, f.uniform_times(1.0, 100), effort.paths(800), effort.generator())
    zakai = f.run(f.ZakaiFilter(system), path)
    pi = zakai.final.log_weight.exp() if effort.broken else zakai.mean[-1]
    return Outcome(float((pi - forward(system, path)).abs().max()), 0.0, allowance=1e-11)


def _order(
    fine: f.Path, exact: Tensor, solved: Callable[[f.Path], Tensor], steps: tuple[int, ...], expected: float
) -> Outcome:
    """Slope of the log root-mean-square error against the log step, with its standard error over groups of paths."""
    squares = []
    for count in steps:
        every = torch.arange(0, len(fine.times), (len(fine.times) - 1) // count)
        squares.append(((solved(fine.at(every)) - exact) ** 2).sum(1))
    x = -np.log(np.asarray(steps, dtype=float))
    slopes = [
        np.polyfit(x, [0.5 * np.log(float(part[i].mean())) for part in (s.chunk(_GROUPS) for s in squares)], 1)[0]
        for i in range(_GROUPS)
    ]
    whole = np.polyfit(x, [0.5 * np.log(float(s.mean())) for s in squares], 1)[0]
    # The allowance is for coarse steps, whose slope is not yet that of the limit.
    return Outcome(float(whole), expected, float(np.std(slopes, ddof=1)) / _GROUPS**0.5, allowance=0.15)
