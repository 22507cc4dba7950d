"""What a GPU makes of the work: network calls per second, the exact filter over its products, a study, a training.

    python benchmarks/gpu.py --out gpu
    python benchmarks/gpu.py --quick --out gpu

The network is the U-Net of ``sigmascope train --network unet`` at 32 x 32 pixels.  Its calls are timed by batch and
precision, with the root mean squared difference that a precision makes, as a share of sigma.  The exact filter is timed
over the two products that it needs.  A study of the network that is not yet trained shows what a study costs.  Then the
network is trained on the scenes for the minutes that are left, and studied.  A part that fails leaves the others as
they are.  The folder gets ``gpu.json`` and ``model/`` (``model1/`` where that is there), whose weights take 5 MB.
Without a GPU everything runs on the CPU, where ``--quick`` is meant for tests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exact_filter import by_turns, curve, over, products, timed

import sigmascope
from sigmascope.core import generator
from sigmascope.data import draw_items, from_array, load_scenes
from sigmascope.device import resolve_device
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.passes import tile_rows
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Items
from sigmascope.learn.training import Trainer
from sigmascope.noise import sigma_grid
from sigmascope.studies.options import GapOptions, Sampling
from sigmascope.studies.tasks import TrainSpec
from sigmascope.studies.training import train

LEVELS = (0.1, 1.0, 10.0)  # at which a precision is compared with float32
STUDIED = 75.0  # seconds that the study of the trained network may take
LEAST = 60.0  # seconds of training
LARGEST = 8e6  # bytes of the weights that are kept


@dataclass
class Sizes:
    """How large everything is."""

    side: int = 32
    batches: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    seconds: float = 1.5  # of each timing
    items: tuple[int, int] = (50_000, 3072)
    draws: int = 256
    levels: int = 40
    repeat: int = 3
    network: Settings = field(default_factory=lambda: Settings(network="unet", width=32, depth=3, batch=512))
    sampling: Sampling = field(default_factory=lambda: Sampling(draws=128, levels=12))
    budget: int = 40_000
    attributes: tuple[str, ...] = ("shape", "scale")


QUICK = Sizes(
    side=16, batches=(2,), seconds=0.01, items=(200, 48), draws=8, levels=4, repeat=1,
    network=Settings(network="unet", width=8, depth=1, batch=8, steps=4, warmup=1),
    sampling=Sampling(draws=12, levels=3), budget=4000,
)  # fmt: skip


class Report:
    """What was measured: printed at once, and written after every part."""

    def __init__(self, file: Path, device: torch.device) -> None:
        self._file, self._rows, self.failed = file, [], 0  # type: tuple[Path, list[dict[str, Any]], int]
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        self._machine = {"device": str(device), "name": name, "torch": torch.__version__,
                         "threads": torch.get_num_threads()}  # fmt: skip
        print(", ".join(f"{k} {v}" for k, v in self._machine.items()), flush=True)
        print(f"{'work':<58} {'value':>12}  unit", flush=True)

    def add(self, work: str, value: float, unit: str, **more: Any) -> None:
        self._rows.append({"work": work, "value": value, "unit": unit, **more})
        extra = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in more.items())
        print(f"{work:<58} {value:12.4g}  {unit:<14} {extra}", flush=True)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part that may fail: what it raises is noted, and the next one begins."""
        begun = time.monotonic()
        try:
            yield
        except Exception as error:  # whatever it is, the other parts have their numbers
            traceback.print_exc()
            self.failed += 1
            self._rows.append({"work": name, "error": f"{type(error).__name__}: {error}"})
            print(f"{name:<58} failed: {type(error).__name__}", flush=True)
        self.add(f"{name}, all of it", time.monotonic() - begun, "s")
        text = json.dumps({**self._machine, "failed": self.failed, "rows": self._rows}, indent=1)
        self._file.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Products in a precision: float32 to its last bit, tf32, or 16 bits by autocast."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name != "float32"
    low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name)
    try:
        with torch.autocast(device.type, dtype=low or torch.bfloat16, enabled=low is not None):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


def untrained(sizes: Sizes, device: torch.device) -> Trainer:
    """The training of the U-Net on the scenes, before its first step."""
    settings = replace(sizes.network, precision="bfloat16" if device.type == "cuda" else "float32")
    return Trainer(Items(load_scenes(sizes.side), seed=0), settings, device)


def calls(report: Report, sizes: Sizes, device: torch.device, trainer: Trainer) -> None:
    """Calls of the network per second, by batch and precision."""
    model, event = trainer.averaged, trainer.averaged.event
    for p in model.parameters():  # a last layer of zeros would hide what a precision does
        p.add_(0.02 * torch.randn(p.shape, generator=generator(1)).to(p.device))
    names = ("float32", "tf32", "bfloat16", "float16") if device.type == "cuda" else ("float32", "bfloat16")
    exact: dict[int, list[torch.Tensor]] = {}
    for name in names:
        for batch in sizes.batches:
            v = torch.rand(batch, *event, generator=generator(0), dtype=torch.float64)
            noise = torch.randn(v.shape, generator=generator(0, 1), dtype=torch.float64)
            known = {"shape": torch.arange(batch) % 2}
            with torch.no_grad(), precision(name, device):
                found = [model(v + s * noise, torch.full((batch,), s).double(), known) for s in LEVELS]
                y, level = (v + noise).float().to(device), torch.ones(batch, device=device)
                there = {k: x.to(device) for k, x in known.items()}
                call = partial(model, y, level, there)
                count = max(int(sizes.seconds / max(timed(call, device), 1e-6)), 1)
                seconds = timed(lambda: [call() for _ in range(count)], device)  # noqa: B023
            exact.setdefault(batch, found)
            off = {
                f"off_at_{s:g}": float((a - b).square().mean().sqrt() / s)
                for s, a, b in zip(LEVELS, found, exact[batch], strict=True)
            }
            report.add(f"network, {name}, batch {batch}", count * batch / seconds, "images/s", **off)
    if device.type == "cuda":
        report.add("network, memory at its largest", torch.cuda.max_memory_allocated(device) / 1e9, "GB")


def exact_filter(report: Report, sizes: Sizes, device: torch.device) -> None:
    """A posterior curve of random pictures over the two products that it needs."""
    count, size = sizes.items
    rng = np.random.default_rng(0)
    data = from_array(rng.random((count, size), dtype=np.float32), {"label": rng.integers(0, 10, count)})
    denoiser, draws = FiniteDenoiser(data, device), draw_items(data, sizes.draws, 0)
    sigmas = sigma_grid(90.0, 0.01, sizes.levels)
    items = data.source.read(0, count).to(device) - denoiser.centre
    middle = denoiser.centre.cpu()
    right = torch.cat([draws.v.flatten(1) - middle, draws.noise.flatten(1)]).to(device)
    work: dict[str, Callable[[], object]] = {
        "products": products(items, right, tile_rows(size, sizes.draws)),
        "curve": lambda: curve(denoiser, draws, sigmas=sigmas),
        "copies": lambda: data.source.read(0, count).to(device),
    }
    times = by_turns(work, sizes.repeat, device)
    name = f"exact filter, {count:,} x {size:,}, {sizes.draws} draws, {sizes.levels} levels"
    report.add(name, float(np.median(times["curve"])), "s", products_s=float(np.median(times["products"])))
    report.add("  over its products", over(times, "curve", "products"), "ratio")
    report.add("  copies of the items to the device, over the products", over(times, "copies", "products"), "ratio")
    y, level = draws.v[: sizes.draws // 4].to(device), torch.full((sizes.draws // 4,), 0.5, device=device)
    times = by_turns({"denoise": lambda: denoiser(y, level)}, sizes.repeat, device)
    report.add("exact denoiser", len(y) / float(np.median(times["denoise"])), "images/s")


def studied(report: Report, sizes: Sizes, device: torch.device, name: str, model: Any, estimators: str) -> None:
    """A study of a network, with its network calls per second."""
    begun = time.monotonic()
    folder = isinstance(model, str)  # a folder of a training opens its own data
    data = "scenes" if folder else sigmascope.load("scenes", sizes.attributes, size=sizes.side)
    results = sigmascope.study(
        data, model, attributes=sizes.attributes if folder else (), estimators=estimators, sampling=sizes.sampling,
        options=GapOptions(budget=sizes.budget), device=str(device),
    )  # fmt: skip
    seconds = time.monotonic() - begun
    made = int(results.attrs["network_calls"])
    report.add(f"study of the {name} network", seconds, "s", gap_calls=made, gap_calls_per_s=made / seconds)
    for attribute in results.attribute.values.tolist():
        for estimator in results.estimator.values.tolist():
            some = results.information.sel(attribute=attribute, estimator=estimator)
            error = float(results.stderr.sel(attribute=attribute, estimator=estimator)[-1])
            if np.isfinite(some[-1]):
                report.add(f"  {attribute}, {estimator}, at the lowest level", float(some[-1]), "nats", stderr=error)


def trained(report: Report, sizes: Sizes, device: torch.device, out: Path, seconds: float, trainer: Trainer) -> Path:
    """The network, trained for about so many seconds, in half precision."""
    for _ in range(3):
        trainer.step()
    tried = 2 if seconds < 30 else 40
    rate = tried / timed(lambda: [trainer.step() for _ in range(tried)], device)
    steps = max(min(int(0.85 * rate * seconds), 10**6), sizes.network.warmup + 1) if seconds >= 30 else 4
    report.add("training", rate, "steps/s", images_per_s=rate * sizes.network.batch, steps=steps)
    settings = replace(sizes.network, steps=steps, warmup=min(sizes.network.warmup, steps // 4), precision="auto")
    spec = TrainSpec(data="scenes", size=sizes.side, settings=settings, half=True, device=str(device))
    folder = next(f for f in (out / f"model{k or ''}" for k in range(1000)) if not f.exists())
    words, _ = train(spec, folder, progress=False)
    print(words, flush=True)
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    report.add("weights kept", size / 1e6, "MB")
    if size > LARGEST:
        weights.unlink()
        raise ValueError(f"the weights take {size:,} bytes, more than {LARGEST:,.0f}: they were not kept")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder for gpu.json and the trained model")
    parser.add_argument("--minutes", type=float, default=7.5, help="of all parts together")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, which any CPU can take")
    args = parser.parse_args()
    ends = time.monotonic() + 60 * args.minutes
    sizes, device = QUICK if args.quick else Sizes(), resolve_device("auto")
    args.out.mkdir(parents=True, exist_ok=True)
    report = Report(args.out / "gpu.json", device)
    trainer = untrained(sizes, device)
    with report.part("calls"):
        calls(report, sizes, device, trainer)
    with report.part("exact filter"):
        exact_filter(report, sizes, device)
    with report.part("study"):
        studied(report, sizes, device, "untrained", trainer.averaged, "score_gap")
    with report.part("training"):
        left = 0.0 if args.quick else max(ends - time.monotonic() - STUDIED, LEAST)
        model = trained(report, sizes, device, args.out, left, untrained(sizes, device))
        with report.part("study of the trained"):
            studied(report, sizes, device, "trained", str(model), "score_gap,filter,posterior")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
