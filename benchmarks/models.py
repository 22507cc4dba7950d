"""Time of studies of a model, as ratios that do not depend on the speed of the machine.

    python benchmarks/models.py [--only study,ranks,foreign,filters] [--json FILE]

The model is a class-conditional convolutional network that predicts the noise, 28 × 28 pixels, 10 classes, about half a
million parameters, with random weights, made on the spot.

study     seconds of a study over those of its bare network calls at the best batch
ranks     seconds of a study by two ranks of one thread each over those by one
foreign   seconds of a call of the denoiser over those of the bare network, 64 rows
filters   outputs of the network for one step of each filter, over K + 1
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sigmascope
import sigmascope.distributed as distributed
from sigmascope.adapters.diffusers.pipelines import load_pipeline
from sigmascope.adapters.foreign import Foreign
from sigmascope.information.path import path_posterior
from sigmascope.sample import Streams, ValueBelief, joint, rows
from sigmascope.studies.options import DataOptions, GapOptions, PipelineOptions, Sampling

GOALS = {"study": 3.0, "ranks": 0.6, "foreign": 1.05, "filters": 1.0}
CLASSES, SIDE, BATCH, BEST = 10, 28, 64, (64, 128, 256)
SAMPLING = Sampling(draws=32, levels=8)
ESTIMATORS = ("score_gap", "filter")
BUDGET = 6000


def pipeline(folder: Path) -> None:
    """The network, with the schedule of a DDPM, as a pipeline of diffusers."""
    diffusers: Any = importlib.import_module("diffusers")
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        sample_size=SIDE, in_channels=1, out_channels=1, block_out_channels=(16, 48), layers_per_block=1,
        norm_num_groups=8, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        num_class_embeds=CLASSES + 1,
    )  # fmt: skip
    diffusers.DDPMPipeline(net, diffusers.DDIMScheduler(clip_sample=False)).save_pretrained(
        folder, safe_serialization=True
    )


def images(path: Path) -> None:
    """Pictures of a bright bar, whose place is the class, in noise."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, 2000)
    pixels = rng.integers(0, 60, (len(label), SIDE, SIDE), dtype=np.uint8)
    for k, place in enumerate(label):
        pixels[k, 4 + 2 * place : 7 + 2 * place, 6:22] += 180
    np.savez(path, images=pixels, digit=label.astype(str))


def study(folder: Path) -> float:
    """Seconds of a study of the pipeline of a folder."""
    begun = time.perf_counter()
    sigmascope.study(
        str(folder / "images.npz"), f"diffusers:{folder / 'pipe'}", attributes=("digit",), estimators=ESTIMATORS,
        sampling=SAMPLING,
        options=[DataOptions(), GapOptions(budget=BUDGET), PipelineOptions(null_class=CLASSES, classes="by-order")],
    )  # fmt: skip
    return time.perf_counter() - begun


def opened(folder: Path) -> Foreign:
    """The denoiser of the pipeline."""
    denoiser: Foreign = load_pipeline(f"diffusers:{folder / 'pipe'}", null=CLASSES).denoiser
    return denoiser


def seconds(call: Callable[[], object], repeats: int = 9) -> float:
    """Median time of a call."""
    call()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def bare(denoiser: Foreign, batch: int) -> Callable[[], object]:
    """A call of the bare network."""
    x, at = torch.randn(batch, 1, SIDE, SIDE), torch.full((batch,), 500.0)
    label = torch.arange(batch) % CLASSES
    network: Any = denoiser.network

    def call() -> object:
        with torch.no_grad():
            return network(x, at, label)

    return call


class Counted:
    """Rows that networks of this kind are given within the block."""

    def __init__(self) -> None:
        self.rows = 0
        self._kind: Any = importlib.import_module("diffusers").UNet2DModel

    def __enter__(self) -> Counted:
        forward = self._kind.forward

        def counting(net: Any, sample: torch.Tensor, *args: Any, **given: Any) -> Any:
            self.rows += len(sample)
            return forward(net, sample, *args, **given)

        self._forward, self._kind.forward = forward, counting
        return self

    def __exit__(self, *_: object) -> None:
        self._kind.forward = self._forward


def of_study(folder: Path) -> dict[str, float]:
    """A study against its bare network calls."""
    study(folder)  # what is loaded and compiled once
    with Counted() as counted:
        took = study(folder)
    denoiser = opened(folder)
    each = min(seconds(bare(denoiser, b)) / b for b in BEST)
    return {"ratio": took / (each * counted.rows), "seconds": took, "calls": counted.rows, "a call": each}


def of_ranks(folder: Path) -> dict[str, float]:
    """Two ranks against one: in seconds, and in processor time of the rank that has most of it."""
    (one, busy_of_one), (two, busy_of_two) = (_launched(folder, n) for n in (1, 2))
    return {"ratio": two / one, "one": one, "two": two, "of processor time": busy_of_two / busy_of_one}


def _launched(folder: Path, ranks: int) -> list[float]:
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [sys.executable, *run, __file__, "--rank-of", str(folder)]
    subprocess.run(command, env=env, check=True, capture_output=True)
    return [float(x) for x in (folder / f"seconds-{ranks}").read_text().split()]


def _as_rank(folder: Path) -> None:
    with distributed.joined():
        begun = time.process_time()
        took, busy = study(folder), time.process_time() - begun
        most = [max(x) for x in zip(*distributed.gathered((took, busy)), strict=True)]
        if not distributed.rank():
            (folder / f"seconds-{distributed.world()}").write_text(" ".join(map(str, most)))


def of_foreign(folder: Path) -> dict[str, float]:
    """A call of the denoiser against one of the network, in turn."""
    denoiser = opened(folder)
    y, sigma = torch.randn(BATCH, 1, SIDE, SIDE), torch.full((BATCH,), 1.0)
    known = {denoiser.attributes[0].name: torch.arange(BATCH) % CLASSES}

    def whole() -> object:
        with torch.no_grad():
            return denoiser(y, sigma, known)

    network = bare(denoiser, BATCH)
    pairs = [(seconds(whole, 3), seconds(network, 3)) for _ in range(9)]
    return {"ratio": statistics.median(a / b for a, b in pairs), "a call": statistics.median(b for _, b in pairs)}


def of_filters(folder: Path) -> dict[str, float]:
    """Outputs for a step of the filter along a path, and of the filter along the model's own path."""
    denoiser, levels, draws = opened(folder), np.geomspace(5.0, 1.0, 6), 4
    name = denoiser.attributes[0].name
    values = len(denoiser.attributes[0].values)
    noise = Streams(0, rows(draws), denoiser.event)
    path, counts = torch.stack([noise() for _ in levels]), []
    for run in (
        lambda some: path_posterior(denoiser, name, path[: len(some)], some),
        lambda some: list(joint(ValueBelief(denoiser, name), path[0], some, noise)),
    ):
        taken = []
        for some in (levels[:-2], levels):  # two more steps
            with Counted() as counted:
                run(some)
            taken.append(counted.rows)
        counts.append((taken[1] - taken[0]) / (2 * draws))
    return {"ratio": max(counts) / (values + 1), "filter": counts[0], "own path": counts[1], "K": values}


PARTS = {"study": of_study, "ranks": of_ranks, "foreign": of_foreign, "filters": of_filters}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the status is 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--rank-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.rank_of is not None:
        _as_rank(given.rank_of)
        return 0
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pipeline(folder / "pipe")
        images(folder / "images.npz")
        for part in given.only.split(","):
            found[part] = PARTS[part](folder)
            n = found[part]
            rest = ", ".join(f"{k} {v:.4g}" for k, v in n.items() if k != "ratio")
            print(f"{part:<10}{n['ratio']:>8.3f}   goal {GOALS[part]:<6g}{rest}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(n["ratio"] > GOALS[part] for part, n in found.items()))


if __name__ == "__main__":
    sys.exit(main())
