"""Speed of the exact filter of a random hierarchy: exact denoisings per second, on two threads.

    python benchmarks/hierarchy.py

A datum has 64 leaves (v = 32, m = 8, s = 2, L = 6); the batch is 1024 and belief propagation passes all levels.  One
line: the denoiser (upward and downward), posteriors of the first node of every level (upward), and beliefs of all nodes
with the entropy of every level, in data per second, beside the aim; and the denoiser on one thread, which
other programs on the same cores disturb less.  Each is the best of the rounds: whatever else runs only slows them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from sigmascope.data.hierarchy import random_hierarchy
from sigmascope.exact.hierarchy import HierarchyDenoiser

BATCH, ROUNDS, SIGMA, AIM = 1024, 7, 0.5, 2000


def per_second(call: Callable[[], Any]) -> float:
    call()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return BATCH / min(seconds)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(2)
    data = random_hierarchy(32, 8, 2, 6)
    denoiser = HierarchyDenoiser(data.rules, data.vectors, data.attributes)
    g = torch.Generator().manual_seed(0)
    v, _ = data.sample(BATCH, g)
    y = v.double() + SIGMA * torch.randn(v.shape, generator=g, dtype=torch.float64)
    sigma = torch.full((BATCH,), SIGMA, dtype=torch.float64)
    denoised = per_second(lambda: denoiser(y, sigma))
    posteriors = per_second(lambda: denoiser.all_log_posteriors(y, sigma))
    beliefs = per_second(lambda: denoiser.level_entropies(y, sigma))
    torch.set_num_threads(1)
    alone = per_second(lambda: denoiser(y, sigma))
    print(
        f"{data.name}, 2 threads, float64: {denoised:.0f} exact denoisings/s, "
        f"{denoised / AIM:.1f} times the aim of {AIM}/s; posteriors {posteriors:.0f}/s, beliefs and level "
        f"entropies {beliefs:.0f}/s; one thread: {alone:.0f} denoisings/s"
    )


if __name__ == "__main__":
    main()
