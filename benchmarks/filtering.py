"""Speed of the filters: paths × steps per second, beside a plain loop of the same arithmetic and beside filterpy.

    python benchmarks/filtering.py > benchmarks/filtering.csv

Columns: filter, paths, steps, million path-steps a second, time over that of a plain torch loop (median of the rounds'
ratios, taken turn by turn), time of filterpy over ours on the same paths (extrapolated from a few of them).
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from sigmascope import filtering as f

PATHS, STEPS, ROUNDS = 1000, 500, 7


def chain() -> f.FiniteSystem:
    rates = torch.tensor([[-1.0, 0.7, 0.3], [0.5, -1.0, 0.5], [0.2, 1.3, -1.5]])
    return f.FiniteSystem(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[-1.0], [0.5], [2.0]]), rates)


def plane() -> f.LinearSystem:
    return f.LinearSystem(
        torch.tensor([[0.0, 1.0], [-2.0, -0.6]]),
        0.5 * torch.eye(2),
        torch.tensor([[1.5, 0.5]]),
        torch.zeros(2),
        torch.eye(2),
    )


def plain_wonham(system: f.FiniteSystem, path: f.Path) -> torch.Tensor:
    h, dt = system.h, 1.0 / STEPS
    assert isinstance(h, torch.Tensor)
    half, dy = system.transition(dt / 2), path.increments
    assert half is not None
    p = system.prior.expand(PATHS, -1)
    z = torch.zeros(PATHS, dtype=torch.float64)
    means, drifts, evidence = (torch.empty(STEPS, *s, dtype=torch.float64) for s in ((PATHS, 3), (PATHS, 1), (PATHS,)))
    for k in range(STEPS):
        w = (p @ half).log() + dy[k] @ h.T - 0.5 * dt * (h**2).sum(1)
        gain = torch.logsumexp(w, 1, keepdim=True)
        p = (w - gain).exp() @ half
        z = z + gain[:, 0]
        means[k], drifts[k], evidence[k] = p, p @ h, z
    return means


def plain_kushner(system: f.FiniteSystem, path: f.Path) -> torch.Tensor:
    h, q, dt, dy = system.h, system.rates, 1.0 / STEPS, path.increments
    assert isinstance(h, torch.Tensor)
    assert q is not None
    p, z = system.prior.expand(PATHS, -1), torch.zeros(PATHS, dtype=torch.float64)
    means, drifts, evidence = (torch.empty(STEPS, *s, dtype=torch.float64) for s in ((PATHS, 3), (PATHS, 1), (PATHS,)))
    for k in range(STEPS):
        m = p @ h
        p = p + p * ((h - m[:, None]) @ (dy[k] - m * dt)[:, :, None])[:, :, 0] + p @ q * dt
        p = p.clamp_min(0.0)
        p = p / p.sum(1, keepdim=True)
        z = z + (m * dy[k]).sum(1) - 0.5 * (m**2).sum(1) * dt
        means[k], drifts[k], evidence[k] = p, p @ h, z
    return means


def plain_kalman(system: f.LinearSystem, path: f.Path) -> torch.Tensor:
    n, dt, dy = 2, 1.0 / STEPS, path.increments
    move = system.transition(0.0, dt)
    fx, fy = move.matrix[:n, :n], move.matrix[n:, :n]
    qx, qy, qxy = move.covariance[:n, :n], move.covariance[n:, n:], move.covariance[:n, n:]
    c = system.coefficients(0.0)[2]
    m, p, z = system.mean.expand(PATHS, -1), system.covariance.double(), torch.zeros(PATHS, dtype=torch.float64)
    means, drifts, evidence = (torch.empty(STEPS, *s, dtype=torch.float64) for s in ((PATHS, 2), (PATHS, 1), (PATHS,)))
    for k in range(STEPS):
        r = dy[k] - m @ fy.T
        s = fy @ p @ fy.T + qy
        gain = torch.linalg.solve(s, (fx @ p @ fy.T + qxy).T).T
        left, crossed = fx - gain @ fy, gain @ qxy.T
        p = left @ p @ left.T + qx - crossed - crossed.T + gain @ qy @ gain.T
        p = 0.5 * (p + p.T)
        m = m @ fx.T + r @ gain.T
        z = z - 0.5 * (r * torch.linalg.solve(s, r.T).T).sum(1) - 0.5 * torch.log(torch.linalg.det(s) / dt)
        z = z + 0.5 * (dy[k] ** 2).sum(1) / dt
        means[k], drifts[k], evidence[k] = m, m @ c.T, z
    return means


def plain_zakai(system: f.FiniteSystem, path: f.Path) -> torch.Tensor:
    h, dt, dy = system.h, 1.0 / STEPS, path.increments
    half = system.transition(dt / 2)
    assert isinstance(h, torch.Tensor)
    assert half is not None
    w = system.prior.log().expand(PATHS, -1)
    means, drifts, evidence = (torch.empty(STEPS, *s, dtype=torch.float64) for s in ((PATHS, 3), (PATHS, 1), (PATHS,)))
    for k in range(STEPS):
        top = w.max(1, keepdim=True).values
        w = ((w - top).exp() @ half).log() + top + dy[k] @ h.T - 0.5 * dt * (h**2).sum(1)
        top = w.max(1, keepdim=True).values
        w = ((w - top).exp() @ half).log() + top
        mass = torch.logsumexp(w, 1)
        p = (w - mass[:, None]).exp()
        means[k], drifts[k], evidence[k] = p, p @ h, mass
    return means


def plain_benes(system: f.BenesSystem, path: f.Path) -> torch.Tensor:
    dt, dy, mu, c = 1.0 / STEPS, path.increments, system.mu, system.shift
    m, p, z = torch.zeros(PATHS, dtype=torch.float64), 0.0, torch.zeros(PATHS, dtype=torch.float64)
    means, drifts, evidence = (torch.empty(STEPS, *s, dtype=torch.float64) for s in ((PATHS, 1), (PATHS, 1), (PATHS,)))
    for k in range(STEPS):
        given = dy[k] @ system.gain.double()
        r = given - m * dt
        s = dt**2 * p + dt + dt**3 / 3
        gain = (p * dt + dt**2 / 2) / s
        p = (1 - gain * dt) ** 2 * p + dt - gain * dt**2 + gain**2 * (dt + dt**3 / 3)
        m = m + gain * r
        z = z + 0.5 * (given**2 / dt - r**2 / s) - 0.5 * math.log(s / dt) - 0.5 * mu**2 * dt
        arm = mu * m + c
        means[k] = (m + mu * p * torch.tanh(arm))[:, None]
        drifts[k] = means[k] * system.gain
        evidence[k] = z + torch.logaddexp(arm, -arm) + 0.5 * mu**2 * p
    return means


def plain_particle(system: f.LinearSystem, path: f.Path, count: int, g: torch.Generator) -> torch.Tensor:
    n, dt, dy, paths = 2, 1.0 / STEPS, path.increments, path.paths
    move, c = system.transition(0.0, dt), system.coefficients(0.0)[2]
    fx, root = move.matrix[:n, :n], move.state_factor
    x = torch.randn(paths, count, n, generator=g, dtype=torch.float64)
    w, z = torch.full((paths, count), -float(torch.tensor(count).log()), dtype=torch.float64), torch.zeros(paths)
    means, drifts = torch.empty(STEPS, paths, n, dtype=torch.float64), torch.empty(STEPS, paths, 1, dtype=torch.float64)
    for k in range(STEPS):
        few = torch.exp(-torch.logsumexp(2 * w, 1)) < 0.5 * count
        if bool(few.any()):
            total = w[few].exp().cumsum(1)
            ladder = (torch.arange(count) + torch.rand(len(total), 1, generator=g, dtype=torch.float64)) / count
            index = torch.searchsorted(total / total[:, -1:], ladder).clamp_max(count - 1)
            x[few] = torch.take_along_dim(x[few], index[:, :, None].expand(-1, -1, n), 1)
            w[few] = -float(torch.tensor(count).log())
        h = x @ c.T
        w = w + (h * dy[k][:, None]).sum(-1) - 0.5 * dt * (h**2).sum(-1)
        x = x @ fx.T + torch.randn(x.shape, generator=g, dtype=torch.float64) @ root.T
        gain = torch.logsumexp(w, 1)
        w, z = w - gain[:, None], z + gain
        means[k] = (w.exp()[:, None] @ x)[:, 0]
        drifts[k] = (w.exp()[:, None] @ (x @ c.T))[:, 0]
    return means


def filterpy_seconds(system: f.LinearSystem, path: f.Path, some: int = 10) -> float:
    import numpy as np
    from filterpy.common import van_loan_discretization
    from filterpy.kalman import KalmanFilter

    a, b, c = (x.numpy() for x in system.coefficients(0.0))
    phi, q = van_loan_discretization(a, b, 1.0 / STEPS)
    start = time.perf_counter()
    for i in range(some):
        kf = KalmanFilter(dim_x=2, dim_z=1)
        kf.x, kf.P = np.zeros((2, 1)), np.eye(2)
        kf.F, kf.Q, kf.H, kf.R = phi, q, c, np.eye(1) * STEPS
        for dy in path.increments[:, i].numpy():
            kf.update(dy[:, None] * STEPS)
            kf.predict()
    return (time.perf_counter() - start) * PATHS / some


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    g = torch.Generator().manual_seed(0)
    times = f.uniform_times(1.0, STEPS)
    finite, linear, benes = chain(), plane(), f.BenesSystem(1.0, torch.ones(1))
    seen, moved, bent = (f.simulate(s, times, PATHS, g) for s in (finite, linear, benes))
    wonham, zakai, kushner = f.WonhamFilter(finite), f.ZakaiFilter(finite), f.KushnerFilter(finite, scheme="euler")
    kalman, tilted = f.KalmanBucyFilter(linear), f.BenesFilter(benes)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["filter", "paths", "steps", "million_path_steps_per_s", "over_plain_loop", "filterpy_over_ours"])
    jobs: list[tuple[str, Callable[[], Any], Callable[[], Any] | None]] = [
        ("wonham", lambda: f.run(wonham, seen), lambda: plain_wonham(finite, seen)),
        ("zakai", lambda: f.run(zakai, seen), lambda: plain_zakai(finite, seen)),
        ("kushner", lambda: f.run(kushner, seen), lambda: plain_kushner(finite, seen)),
        ("kalman_bucy", lambda: f.run(kalman, moved), lambda: plain_kalman(linear, moved)),
        ("benes", lambda: f.run(tilted, bent), lambda: plain_benes(benes, bent)),
    ]
    for name, ours, plain in jobs:
        ours()
        mine, theirs = [], []
        for _ in range(ROUNDS):
            mine.append(seconds(ours))
            if plain is not None:
                theirs.append(seconds(plain))
        best = statistics.median(mine)
        ratio = f"{statistics.median(a / b for a, b in zip(mine, theirs, strict=True)):.2f}" if theirs else ""
        other = f"{filterpy_seconds(linear, moved) / best:.0f}" if name == "kalman_bucy" else ""
        writer.writerow([name, PATHS, STEPS, f"{PATHS * STEPS / best / 1e6:.2f}", ratio, other])
        sys.stdout.flush()
    some = f.simulate(linear, times, 50, g)
    pairs = [
        (
            seconds(lambda: f.run(f.ParticleFilter(linear, 1000, g), some)),
            seconds(lambda: plain_particle(linear, some, 1000, g)),
        )
        for _ in range(3)
    ]
    speed = 50 * STEPS * 1000 / min(a for a, _ in pairs) / 1e6
    against = statistics.median(a / b for a, b in pairs)
    writer.writerow(["particle (1000 each)", 50, STEPS, f"{speed:.2f} (particles)", f"{against:.2f}", ""])


if __name__ == "__main__":
    main()
