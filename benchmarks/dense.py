"""The gaps' integrals of some draws, recomputed densely: all items, the whole space, float64 logits, no sketch.

    python benchmarks/dense.py scenes shape --draws 96 > benchmarks/dense-scenes-shape.csv

Columns: estimator, draws, mean over draws of the integral over 0.1 < sigma < 12 (nats), dense and by the library, and
their paired difference and its standard error over draws, in % of H(A).
"""

from __future__ import annotations

import argparse
import csv
import sys

import numpy as np
import torch

from sigmascope.data import draw_items, load
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.information.jobs.passes import series_level, sketch_of
from sigmascope.noise import integration_grid, sigma_grid

ROWS = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("attribute")
    parser.add_argument("--draws", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = load(args.data, (args.attribute,))
    denoiser, draws, n = FiniteDenoiser(data), draw_items(data, args.draws, args.seed), args.draws
    grid = integration_grid(sigma_grid(90.0, 0.01, 24), series_level(data))[0]
    levels = grid[(grid > 0.1) & (grid < 12.0)]
    sigma, count, classes = torch.tensor(levels), len(levels), denoiser.classes[:, 0]
    v = draws.v.reshape(n, -1).double() - denoiser.centre
    noise = draws.noise.reshape(n, -1).double()
    values = int(classes.max()) + 1
    mass = torch.zeros(values, count, n, dtype=torch.float64)
    sums = torch.zeros(values, count * n, data.size)
    for start in range(0, len(data), ROWS):
        stop = min(start + ROWS, len(data))
        x = data.source.read(start, stop).reshape(stop - start, -1).double() - denoiser.centre
        apart = (v**2).sum(1)[:, None] + (x**2).sum(1) - 2 * v @ x.T
        along = noise @ x.T - (noise * v).sum(1)[:, None]
        for a in range(values):
            own = classes[start:stop] == a
            scale = sigma[:, None, None]
            weight = (along[:, own] / scale - apart[:, own] / (2 * scale**2)).exp()
            weight = weight * denoiser.log_weight[start:stop][own].exp()
            mass[a] += weight.sum(2)
            sums[a] += weight.reshape(count * n, -1).float() @ x[own].float()
    means, given = sums.reshape(values, count, n, -1), classes[draws.items]
    dense = {"score_gap": np.zeros((count, n)), "mmse_gap": np.zeros((count, n))}
    for j in range(count):
        total = mass[:, j].sum(0)
        mean = means[:, j].double().sum(0) / total[:, None]
        by_value = means[:, j].double() / mass[:, j, :, None].clamp_min(1e-300)
        dense["score_gap"][j] = ((mass[:, j] / total)[:, :, None] * (by_value - mean) ** 2).sum((0, 2))
        known = by_value[given, torch.arange(n)]
        dense["mmse_gap"][j] = ((v - mean) ** 2 - (v - known) ** 2).sum(1)
    work = PosteriorPass(denoiser, draws, levels, sketch=sketch_of(data, args.seed))
    while not work.done:
        work.step()
    gap = work.gaps()[args.attribute]
    step = np.abs(np.gradient(np.log(levels)))[:, None] / levels[:, None] ** 2
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["estimator", "draws", "dense_nats", "library_nats", "difference_%", "stderr_%"])
    for name, found in (("score_gap", gap.score), ("mmse_gap", gap.mmse)):
        exact, ours = (step * dense[name]).sum(0), (step * found).sum(0)
        off = 100 * (ours - exact) / data.attribute(args.attribute).entropy
        row = [f"{exact.mean():.4f}", f"{ours.mean():.4f}", f"{off.mean():.3f}", f"{off.std(ddof=1) / n**0.5:.3f}"]
        writer.writerow([name, n, *row])


if __name__ == "__main__":
    main()
