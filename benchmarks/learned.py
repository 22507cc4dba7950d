"""Learned denoisers against closed forms: train a small network on each problem, measure its score gap, compare.

    python benchmarks/learned.py [--only two_points,four_points,gaussian,gaussian25] [--json FILE]

Truths: two and four points by quadrature of their posteriors; Gaussians by log-determinants.  Trained within 60 s each
on 2 cores.  The error is the largest |learned / true - 1| at levels where more than 5 % of H(A) (of a Gaussian: of the
information of the clean value) is known.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Attribute, generator
from sigmascope.exact.gaussian import GaussianDenoiser
from sigmascope.information.adaptive import GapJob
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Law
from sigmascope.learn.training import Trainer
from sigmascope.noise import sigma_grid


@dataclass(frozen=True)
class Problem:
    """A law with its true information, and how long to train.

    Args:
        law: what is drawn.
        truth: I(A; Y_sigma) by the attribute's name and sigma, nats.
        ceilings: what the share of 5 % is of.
        settings: of the training.
        levels: of the comparison.
    """

    law: Law
    truth: Callable[[str, float], float]
    ceilings: dict[str, float]
    settings: Settings
    levels: np.ndarray


def points(values: list[float], labels: dict[str, list[int]], settings: Settings, levels: np.ndarray) -> Problem:
    """Equally frequent points on a line."""
    at = torch.tensor(values)[:, None]
    label = {n: torch.tensor(x) for n, x in labels.items()}

    def draw(n: int, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        k = torch.randint(len(values), (n,), generator=g)
        return at[k], {name: x[k] for name, x in label.items()}

    made = []
    for name, x in label.items():
        prior = torch.bincount(x).double() / len(values)
        made.append(Attribute(name, tuple(map(str, range(len(prior)))), prior))
    entropy = {a.name: a.entropy for a in made}

    def truth(name: str, sigma: float) -> float:
        v, a = np.array(values), np.array(labels[name])
        y = np.linspace(v.min() - 12 * sigma, v.max() + 12 * sigma, 40_001)
        density = np.exp(-0.5 * ((y[:, None] - v) / sigma) ** 2) / (len(v) * sigma * math.sqrt(2 * math.pi))
        joint = np.stack([density[:, a == k].sum(1) for k in np.unique(a)], 1)
        p = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)
        still_open = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
        return entropy[name] - float((density.sum(1) * still_open).sum() * (y[1] - y[0]))

    return Problem(Law((1,), draw, tuple(made), null=2), truth, entropy, settings, levels)


def gaussian(size: int, dim: int, wanted: float, settings: Settings, seed: int = 0) -> Problem:
    """A random Gaussian V, and A = B V + noise, whose strength is such that I(A; V) is as wanted."""
    g = generator(seed, 1)
    root = torch.randn(size, size, generator=g, dtype=torch.float64) / size**0.5
    covariance = root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)
    gain = torch.randn(dim, size, generator=g, dtype=torch.float64) / size**0.5
    low, high = 1e-6, 1e6
    eye = torch.eye(dim, dtype=torch.float64)
    for _ in range(200):
        middle = math.sqrt(low * high)
        known = 0.5 * float(torch.logdet(gain @ covariance @ gain.T / middle + eye))
        low, high = (middle, high) if known > wanted else (low, middle)
    exact = GaussianDenoiser(torch.zeros(size, dtype=torch.float64), covariance, gain, middle * eye, "a")
    half = torch.linalg.cholesky(covariance)

    def draw(n: int, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        v = torch.randn(n, size, generator=g, dtype=torch.float64) @ half.T
        a = v @ gain.T + math.sqrt(middle) * torch.randn(n, dim, generator=g, dtype=torch.float64)
        return v.float(), {"a": a.float()}

    levels = sigma_grid(60.0, 0.02, 40)
    return Problem(Law((size,), draw), lambda _, s: exact.information(s), {"a": wanted}, settings, levels)


def problems() -> dict[str, Callable[[], Problem]]:
    """All of them, by name."""
    line = Settings(network="mlp", width=96, depth=2, steps=5000, batch=512, learning_rate=3e-3, warmup=100)
    normal = Settings(network="mlp", width=128, depth=1, steps=5000, batch=512, learning_rate=3e-3, warmup=100)
    four = {"point": [0, 1, 2, 3], "coarse": [0, 0, 1, 1], "alternate": [0, 1, 0, 1]}
    from dataclasses import replace

    return {
        "two_points": lambda: points(
            [-1.0, 1.0], {"sign": [0, 1]}, replace(line, sigma_min=0.05, sigma_max=60.0), sigma_grid(8.0, 0.1, 24)
        ),
        "four_points": lambda: points(
            [-8.0, -4.0, 6.0, 8.0], four, replace(line, sigma_min=0.1, sigma_max=400.0), sigma_grid(40.0, 0.25, 24)
        ),
        "gaussian": lambda: gaussian(2, 1, 1.5, replace(normal, sigma_min=0.01, sigma_max=100.0)),
        "gaussian25": lambda: gaussian(25, 15, 20.0, replace(normal, sigma_min=0.005, sigma_max=100.0)),
    }


def run(name: str) -> dict[str, Any]:
    """Train, measure, compare."""
    problem = problems()[name]()
    trainer = Trainer(problem.law, problem.settings)
    start = time.perf_counter()
    while trainer.done < problem.settings.steps:
        trainer.step()
    seconds = time.perf_counter() - start
    work = GapJob(
        trainer.averaged, problem.law.draw, problem.ceilings, problem.levels,
        target_stderr=0.001 * max(problem.ceilings.values()), batch=4096, top=problem.settings.sigma_max,
    )  # fmt: skip
    while not work.done:
        work.step()
    found: dict[str, Any] = {
        "problem": name,
        "seconds": seconds,
        "calls": work.calls,
        "levels": problem.levels.tolist(),
    }
    for attribute, gaps in work.curves().items():
        true = np.array([problem.truth(attribute, s) for s in problem.levels])
        some = true > 0.05 * problem.ceilings[attribute]
        for way in ("score_gap", "mmse_gap"):
            curve = getattr(gaps, way)
            off = np.where(some, curve.value / np.maximum(true, 1e-12) - 1.0, 0.0)
            worst = int(np.abs(off).argmax())
            found[f"{attribute} {way}"] = {
                "worst": float(off[worst]), "at": float(problem.levels[worst]),
                "stderr": float(curve.stderr[worst] / true[worst]), "last": float(curve.value[-1]),
                "true_last": float(true[-1]),
            }  # fmt: skip
    return found


def main() -> None:
    """Print the table; write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(problems()))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    heads = f"{'worst error':>12} {'stderr':>8} {'sigma':>8} {'last':>8} {'true':>8} {'s':>6}"
    print(f"{'problem':<12} {'attribute':<22} {heads}")
    for name in arguments.only.split(","):
        row = run(name)
        rows.append(row)
        for key, x in row.items():
            if isinstance(x, dict):
                print(
                    f"{name:<12} {key:<22} {100 * x['worst']:>11.2f}% {100 * x['stderr']:>7.2f}% {x['at']:>8.3g} "
                    f"{x['last']:>8.4f} {x['true_last']:>8.4f} {row['seconds']:>6.0f}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
