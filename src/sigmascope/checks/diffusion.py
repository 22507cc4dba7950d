"""A diffusion model as a filter: the time-reversed noising, and the denoiser."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

import sigmascope.filtering as f
from sigmascope.checks.rows import Effort, Outcome, check
from sigmascope.data import from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.paths import brownian


@check(
    "time-reversal",
    "Anderson 1982; Haussmann & Pardoux 1986; Franzese et al. 2025",
    "V on four points, σ from 0.1 to 8, 1,200 levels",
    "the drift has the wrong sign",
)
def _reversal(effort: Effort) -> Outcome:
    """Noising in reverse is a measurement of V: (dY − g²(V − Y)/σ² ds)/g is a Brownian motion: largest z-score"""
    g, paths = effort.generator(), effort.paths(16_000)
    v = torch.tensor([-1.0, -0.4, 0.5, 1.2], dtype=torch.float64)[torch.randint(4, (paths, 1), generator=g)]
    sigma = torch.tensor(np.geomspace(0.1, 8.0, 1201))
    variance = torch.cat([torch.zeros(1, dtype=torch.float64), sigma**2])
    noising = v + brownian(variance, paths, 1, g).values[1:]
    y, level = noising.flip(0), sigma.flip(0) ** 2
    clock = level[0] - level  # the time of the reversed process where g = 1
    pull = (v - y) / level[:, None, None]
    if effort.broken:
        pull = -pull
    # Given V, the pull is a martingale and Y a bridge: over a step it is normal with variance dt level'/level.
    residual = y.diff(dim=0) - pull[:-1] * clock.diff()[:, None, None]
    w = torch.cat([torch.zeros_like(y[:1]), (residual * (level[:-1] / level[1:]).sqrt()[:, None, None]).cumsum(0)])
    every = torch.arange(0, len(w), 60)
    tests = (
        f.martingale_test(w, clock, pull),
        f.martingale_test(w, clock, v.expand_as(w)),
        f.quadratic_variation_test(w[every], clock[every]),
    )
    return Outcome(float(stats.norm.isf(max(min(t.p_value for t in tests), 1e-300) / 2)), 0.0, 1.0)


@check(
    "denoiser",
    "Franzese et al. 2025; Montanari 2023 (stochastic localisation)",
    "200 random items of 12 numbers; t from 0.01 to 25",
    "the noise level is set to 1/t",
)
def _denoiser(effort: Effort) -> Outcome:
    """The denoiser is a filter: with z_t = tV + B_t, D(z_t/t, t^-½) = E[V | z_s, s ≤ t]: largest difference"""
    rng = np.random.default_rng(effort.seed)
    items = rng.standard_normal((200, 12)).astype(np.float32)
    data = from_array(items, {"half": (np.arange(200) % 2).astype(np.int64)}, name="random")
    denoiser = FiniteDenoiser(data)
    v = data.source.read(0, 200).double()
    system = f.FiniteSystem(torch.full((200,), 1 / 200, dtype=torch.float64), v)
    times = torch.cat([torch.zeros(1, dtype=torch.float64), torch.tensor(np.geomspace(0.01, 25.0, 40))])
    path = f.simulate(system, times, 32, effort.generator())
    means = f.run(f.WonhamFilter(system), path).mean @ v
    worst = 0.0
    for k, t in enumerate(times.tolist()):
        if k:
            sigma = torch.full((32,), 1.0 / t if effort.broken else t**-0.5, dtype=torch.float64)
            denoised = denoiser(path.y[k] / t, sigma).double()
            worst = max(worst, float((denoised - means[k]).abs().max()))
    return Outcome(worst, 0.0, allowance=1e-6)
