r"""Network calls for one standard error of the score gap's information at sigma .01, of four ways to draw levels.

    python benchmarks/estimators.py --json benchmarks/estimators.json
    python benchmarks/estimators.py --models scenes --state scenes.npz --minutes 4 --json benchmarks/estimators.json

The second command calls a slow exact denoiser some ten thousand times; run it again until it prints a row.  Rows of a
JSON file that is there already are kept.

All measure :math:`\int f\, d\ln\sigma`, f = E|D_A - D|²/sigma², over [.01, 90], each sample with its own value, level
and noise, and a call of D and of D_A for each attribute:

- ``uniform tau``: plain Monte Carlo in the time of the paper's VE schedule, sigma = .01 · 9000^tau;
- ``uniform t``: plain Monte Carlo in the time of the VP schedule (beta from .1 to 20), between the times of both;
- ``MINDE``: t drawn in proportion to g²/sigma_t² of the VP schedule (Franzese, Bounoua, Michiardi 2024).  With
  g² = beta and sigma_t² = 1 - e^-B, the integral of beta/(1 - e^-B) is ln(e^B - 1) = 2 ln sigma: it is uniform in
  ln sigma, hence *the same law* as ``uniform tau``.  (Over its own t in [1e-5, 1] the range is 12 instead of 9.1.)
- ``levels``: ours with levels allocated by a pilot, to each attribute its own, and draws at a level as they come;
- ``ours``: with the gap that a surrogate expects of each draw as well.

Calls of ours hold the pilot.  Of the others, calls are the variance of a sample over the squared standard error that
ours reached, times the calls of a sample, one for D and one for each attribute; the variance comes from samples that
are even in ln sigma, and has an error.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sigmascope.core import Denoiser, generator
from sigmascope.data.scenes import load_scenes
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.gaussian import GaussianDenoiser, MixtureDenoiser
from sigmascope.information.adaptive import GapJob
from sigmascope.information.importance import Draw
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Items
from sigmascope.noise import VariancePreserving, sigma_grid

SIGMA = sigma_grid(90.0, 0.01, 40)
SPAN = math.log(SIGMA[0] / SIGMA[-1])


@dataclass(frozen=True)
class Problem:
    """A model, its draws, and what to measure."""

    denoiser: Denoiser
    draw: Draw
    ceilings: Mapping[str, float]
    target: float
    plain: int
    seeds: int


class Single(Denoiser):
    """An exact filter of a finite set as a network would be called: in float32."""

    def __init__(self, inner: FiniteDenoiser) -> None:
        super().__init__()
        self.inner, self.event, self.attributes = inner, inner.event, inner.attributes
        self.one = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(
        self, y: torch.Tensor, sigma: torch.Tensor, known: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        result: torch.Tensor = self.inner(y, sigma, known)
        return result


def line(points: list[float], labels: dict[str, list[int]], names: dict[str, int], target: float) -> Problem:
    n = len(points)
    denoiser = MixtureDenoiser(torch.full((n,), 1.0 / n), torch.tensor(points)[:, None], torch.zeros(n), labels)

    def draw(count: int, g: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        k = torch.randint(n, (count,), generator=g)
        return denoiser.means[k], {name: label[k] for name, label in denoiser.labels.items()}

    return Problem(denoiser, draw, {k: math.log(v) for k, v in names.items()}, target, 100_000, 6)


def gaussian() -> Problem:
    """15 dimensions that inform of 25: some 20 nats."""
    g = generator(0)
    gain = torch.randn(15, 25, generator=g, dtype=torch.float64) / 5
    denoiser = GaussianDenoiser(torch.zeros(25), torch.eye(25), gain, 0.05 * torch.eye(15))

    def draw(count: int, g: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        v = torch.randn(count, 25, generator=g, dtype=torch.float64)
        extra = torch.randn(count, 15, generator=g, dtype=torch.float64)
        return v, {"a": v @ denoiser.gain.T + 0.05**0.5 * extra}

    return Problem(denoiser, draw, {"a": math.nan}, 0.1, 50_000, 4)


def scenes() -> Problem:
    """16 × 16 scenes: two attributes that are decided at different levels, measured together."""
    data = load_scenes(16, ["floor_hue", "shape"])

    def draw(count: int, g: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        k = torch.randint(len(data), (count,), generator=g)
        return data.source.take(k), {name: label[k] for name, label in data.labels.items()}

    ceilings = {a.name: a.entropy for a in data.attributes}
    return Problem(Single(FiniteDenoiser(data)), draw, ceilings, 0.07, 1024, 1)


def bundled(*names: str, target: float = 0.02) -> Problem:
    """The learned model of these scenes that comes with the package, on scenes kept out of its training."""
    model = NeuralDenoiser.load("bundled")
    data = load_scenes(16)
    settings = Settings(**model.card["settings"])
    source = Items(data, holdout=settings.holdout, null=settings.null, seed=settings.seed)
    ceilings = {n: data.attribute(n).entropy for n in names or data.labels}
    return Problem(model, source.held_out, ceilings, target, 40_000, 4)


PROBLEMS = {
    "two points": lambda: line([-1.0, 1.0], {"sign": [0, 1]}, {"sign": 2}, 0.007),
    "four points": lambda: line([-8.0, -4.0, 6.0, 8.0], {"point": [0, 1, 2, 3]}, {"point": 4}, 0.014),
    "four points, coarse": lambda: line([-8.0, -4.0, 6.0, 8.0], {"coarse": [0, 0, 1, 1]}, {"coarse": 2}, 0.007),
    "gaussian": gaussian,
    "scenes": scenes,
    "bundled": lambda: bundled("floor_hue", "shape"),
    "bundled, all six": lambda: bundled(target=0.04),
}


def integrand(problem: Problem, x: np.ndarray, seed: int) -> np.ndarray:
    """f at levels of logarithm x, one draw each, (attributes, draws)."""
    v, labels = problem.draw(len(x), generator(seed, 0))
    noise = torch.randn(v.shape, generator=generator(seed, 1), dtype=torch.float64)
    sigma = torch.from_numpy(np.exp(x))
    wide = sigma.reshape(-1, *[1] * (v.ndim - 1))
    dtype = next((p.dtype for p in problem.denoiser.parameters()), torch.float64)
    y, level = (v.double() + wide * noise).to(dtype), sigma.to(dtype)
    with torch.no_grad():
        free = problem.denoiser(y, level).double()
        gaps = [problem.denoiser(y, level, {n: labels[n]}).double() - free for n in problem.ceilings]
    return np.stack([((g / wide) ** 2).flatten(1).sum(1).numpy() for g in gaps])


def variances(x: np.ndarray, f: np.ndarray) -> dict[str, np.ndarray]:
    """Variance of one plain sample of each way, for each attribute, from samples even in ln sigma."""
    vp, sigma = VariancePreserving(), np.exp(x)
    step = 1e-4
    per_time = (vp.time(sigma * math.exp(step)) - vp.time(sigma * math.exp(-step))) / (2 * step)
    density = per_time / float(vp.time(SIGMA[0]) - vp.time(SIGMA[-1]))
    mean = SPAN * f.mean(1)
    even = SPAN * SPAN * (f**2).mean(1) - mean**2
    in_time = SPAN * (f**2 / density).mean(1) - mean**2
    return {"uniform tau": even, "uniform t": in_time, "MINDE": even}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(PROBLEMS), default=[n for n in PROBLEMS if n != "scenes"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--state", type=Path, help="where to keep what is done of a slow model")
    parser.add_argument("--minutes", type=float, default=math.inf)
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    kept = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    for name in args.models:
        rows = measured(name, PROBLEMS[name](), args.state, end)  # type: ignore[no-untyped-call]
        for row in rows:
            words = (f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print("  ".join(words), flush=True)
        kept = [r for r in kept if r["model"] != name] + rows
        if args.json:
            args.json.write_text(json.dumps(kept, indent=1) + "\n")


def measured(name: str, problem: Problem, state: Path | None, end: float) -> list[dict[str, float | str]]:
    """A row for each attribute."""
    held = dict(np.load(state)) if state and state.exists() else {}
    reached: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
    for informed in (True, False) if problem.seeds > 1 else (True,):
        errors, calls = [], []
        for seed in range(1, problem.seeds + 1):
            options = {"target_stderr": problem.target * (1 if informed else 2), "seed": seed, "informed": informed}
            work = GapJob(problem.denoiser, problem.draw, problem.ceilings, SIGMA, **options)  # type: ignore[arg-type]
            if "gaps.position" in held:
                work.restore({k: v for k, v in held.items() if k.startswith("gaps.")})
            while not work.done:
                work.step()
                if state and time.monotonic() > end:
                    np.savez(state, **(held | work.state()))
                    sys.exit(f"{name}: {work.position} of {work.total} replicates; run the command again")
            if state:
                held |= work.state()
                np.savez(state, **held)
            errors.append([g.score_gap.stderr[-1] for g in work.curves().values()])
            calls.append(work.calls)
        reached[informed] = np.array(errors), np.array(calls)
    x = np.log(SIGMA[-1]) + SPAN * (np.arange(problem.plain) + 0.5) / problem.plain
    block = problem.plain if problem.seeds > 1 else 64
    parts = []
    for i, start in enumerate(range(0, len(x), block)):
        key = f"plain{i}"
        if key not in held:
            if state and time.monotonic() > end:
                sys.exit(f"{name}: {start} of {len(x)} plain samples; run the command again")
            # levels of a block are spread over all: samples are independent whatever their order
            held[key] = integrand(problem, x[i :: len(x) // block], 100 + i)
            if state:
                np.savez(state, **held)
        parts.append(held[key])
    x = np.concatenate([x[i :: len(x) // block] for i in range(len(parts))])
    plain, each = variances(x, np.concatenate(parts, 1)), 1 + len(problem.ceilings)
    rows = []
    for k, attribute in enumerate(problem.ceilings):
        error = np.sqrt((reached[True][0][:, k] ** 2).mean())
        # Calls times variance is what a way costs, whatever the error that a run ended at.
        cost = {informed: float((calls * errors[:, k] ** 2).mean()) for informed, (errors, calls) in reached.items()}
        row: dict[str, float | str] = {"model": name, "attribute": attribute, "stderr": float(error)}
        row |= {way: float(each * v[k] / error**2) for way, v in plain.items()}
        if False in reached:
            row["levels"] = cost[False] / error**2
        row["ours"] = spent = cost[True] / error**2
        row |= {"tau/ours": float(row["uniform tau"]) / spent, "t/ours": float(row["uniform t"]) / spent}
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
