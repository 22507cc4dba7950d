"""Advice against what happens: all 480,000 scenes at 16 x 16, their exact filter, by simulation.

    python benchmarks/advice.py [--images 96] [--keep floor_hue] [--json FILE]

Redraws images from the advised editing strength by the generative SDE, and compares how often each attribute stays with
what the advice says; checks, at the level of the early exit, how often the likeliest label is the true one; and steps
the ODE by Euler at the advised levels, at levels even in ln sigma and at those of EDM, against a fine solution.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sigmascope.data import draw_items, load
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.noise import karras_grid, sigma_grid
from sigmascope.sample import Euler, Heun, Streams, final, rows, sample, start
from sigmascope.sample.forks import levels_below
from sigmascope.studies.advising import Advisor
from sigmascope.studies.options import Sampling
from sigmascope.studies.study import study

_LAST, _TOP, _STEPS = 0.02, 60.0, 20


def labels(exact: FiniteDenoiser, y: Tensor, sigma: float) -> dict[str, Tensor]:
    """The likeliest value of every attribute."""
    found = exact.all_log_posteriors(y.double(), torch.full((len(y),), sigma, dtype=torch.float64))
    return {n: p.argmax(1) for n, p in found.items()}


def share(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Share that agrees, with its standard error."""
    p = float((a == b).double().mean())
    q = (p * len(a) + 0.5) / (len(a) + 1)
    return p, (q * (1 - q) / len(a)) ** 0.5


def main() -> None:
    """Print the comparisons; write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--keep", default="floor_hue")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    data = load("scenes", size=16)
    exact = FiniteDenoiser(data)
    sampling = Sampling(a.draws, sigma_max=_TOP, sigma_min=_LAST)
    results = study(data, estimators="posterior", sampling=sampling, progress=True)
    advisor = Advisor(results)
    others = [x.name for x in data.attributes if x.name != a.keep]
    advice, _ = advisor.keep(a.keep, others)
    assert advice.high is not None
    found: dict[str, Any] = {"keep": a.keep, "images": a.images, "sigma": advice.high.value, "stays": {}}
    d = draw_items(data, a.images, 99)
    y = d.v.double() + advice.high.value * d.noise.double()
    print(f"redraws from sigma {advice.high.value:.3g}", file=sys.stderr)
    noise = Streams(5, rows(a.images), data.event)
    after = labels(exact, final(sample(exact, y, levels_below(advice.high.value, _LAST, _STEPS), noise=noise)).y, _LAST)
    for name in (a.keep, *others):
        said = (1 - advice.redraws[name][0], advice.redraws[name][1]) if name in advice.redraws else (0.9, 0.0)
        seen = share(after[name], d.labels[name])
        found["stays"][name] = {"said": said, "seen": seen}
        print(f"{name:<12} stays: said {said[0]:.3f} ± {said[1]:.3f}, seen {seen[0]:.3f} ± {seen[1]:.3f}")
    at = advisor.early_exit(a.keep).high
    assert at is not None
    many = draw_items(data, 4 * a.images, 7)
    right = share(
        labels(exact, many.v.double() + at.value * many.noise.double(), at.value)[a.keep], many.labels[a.keep]
    )
    found["early_exit"] = {"sigma": at.value, "right": right}
    print(f"early exit at sigma {at.value:.3g}: said 0.9, right in {right[0]:.3f} ± {right[1]:.3f}")
    count = 12
    few = max(a.images // 3, 2)
    y = start(exact, _TOP, Streams(11, rows(few), data.event)())
    print("a fine solution of the ODE", file=sys.stderr)
    fine = final(sample(exact, y, [*sigma_grid(_TOP, _LAST, 40).tolist(), 0.0], Heun())).y
    grids = {"advised": np.array(advisor.steps(count).levels), "even": sigma_grid(_TOP, _LAST, count)}
    grids["edm"] = karras_grid(_TOP, _LAST, count)
    found["steps"] = {}
    for name, levels in grids.items():
        off = ((final(sample(exact, y, [*map(float, levels), 0.0], Euler())).y - fine) ** 2).flatten(1).sum(1)
        error = float(off.std()) / few**0.5
        found["steps"][name] = (float(off.mean()), error)
        print(f"{count} Euler steps, {name}: squared error {float(off.mean()):.3f} ± {error:.3f}")
    if a.json:
        a.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
