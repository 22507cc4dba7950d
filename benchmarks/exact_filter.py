"""The exact filter against the arithmetic that it cannot do without: ratios, measured in one run.

    python benchmarks/exact_filter.py [CIFAR.parquet] [--json FILE] [--only NAME] [--repeat 5]

Each row of the table divides the time of something of ours by the time of the matrix products that it needs, or the
time of the usual way by ours; both are taken in this run, by turns, and the medians of the turns' ratios are printed.
The data are CIFAR-10 (default: ../shared/data/cifar10-train.parquet), pixels from 0 to 1, float32 in memory, and the
scenes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Draws, LabelledData
from sigmascope.data import draw_items, from_array, load, load_scenes
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.threads import in_threads, workers
from sigmascope.exact.finite.passes import tile_rows
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.exact.finite.screened import ScreenedDenoiser
from sigmascope.information.gaps import GAPS
from sigmascope.information.jobs.passes import sketch_of
from sigmascope.noise import sigma_grid

# The kernel's own count: getrusage would give a child the peak of this process.
_WITH_MEMORY = (
    "import sys; from sigmascope.cli import main; main(sys.argv[1:]); print(open('/proc/self/status').read())"
)
DRAWS, LEVELS, BATCH, HELD = 256, 40, 64, 1000
SIGMAS = sigma_grid(90.0, 0.01, LEVELS)


class Rows:
    """What was measured: printed at once, kept for the JSON."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def add(self, work: str, ratio: float, demanded: str, **more: Any) -> None:
        self.found.append({"work": work, "ratio": round(ratio, 3), "demanded": demanded, **more})
        extra = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in more.items())
        print(f"{work:<66} {ratio:8.2f}   {demanded:<10} {extra}", flush=True)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def by_turns(calls: dict[str, Callable[[], object]], repeat: int, device: torch.device) -> dict[str, np.ndarray]:
    """Seconds of each of several calls, taken by turns so that the machine's moods meet all of them."""
    for call in calls.values():
        timed(call, device)
    found: dict[str, list[float]] = {k: [] for k in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            found[name].append(timed(call, device))
    return {k: np.array(v) for k, v in found.items()}


def over(times: dict[str, np.ndarray], a: str, b: str) -> float:
    """Median over the turns of the time of a over that of b."""
    return float(np.median(times[a] / times[b]))


def products(items: Tensor, right: Tensor, rows: int) -> Callable[[], None]:
    """The two products of a posterior curve on its tiles: the faster of two ways to thread."""
    tiles = range(0, len(items), rows)
    threads = workers(items.device)

    def plain() -> None:
        for i in tiles:
            _ = right @ items[i : i + rows].T

    def threaded() -> None:
        in_threads([lambda i=i: right @ items[i : i + rows].T for i in tiles], threads)  # type: ignore[misc]

    times = by_turns({"plain": plain, "threaded": threaded}, 2, items.device)
    return plain if times["plain"].min() < times["threaded"].min() else threaded


def curve(denoiser: FiniteDenoiser, draws: Draws, **options: Any) -> PosteriorPass:
    """A posterior curve in float32."""
    work = PosteriorPass(denoiser, draws, options.pop("sigmas", SIGMAS), dtype=torch.float32, **options)
    while not work.done:
        work.step()
    work.log_posterior()
    return work


def softmax_per_level(denoiser: FiniteDenoiser, items: Tensor, draws: Draws, levels: np.ndarray) -> None:
    """The usual way: logits, softmax and class sums anew at every level."""
    v, n = (x.flatten(1).to(items) for x in (draws.v, draws.noise))
    v = v - denoiser.centre
    half = 0.5 * (items**2).sum(1)
    one_hot = torch.nn.functional.one_hot(denoiser.classes[:, 0]).float()
    for sigma in levels.tolist():
        logit = ((v + sigma * n) @ items.T - half) / sigma**2
        _ = torch.softmax(logit, 1) @ one_hot


def centred(denoiser: FiniteDenoiser) -> Tensor:
    """All items less the centre, in memory."""
    n = len(denoiser.data)
    return denoiser.data.source.read(0, n).reshape(n, -1).to(denoiser.centre.device) - denoiser.centre


def posterior_curves(rows: Rows, data: LabelledData, repeat: int, device: torch.device) -> None:
    """Posterior curves of one attribute, of six, of draws from outside, and by other ways."""
    labels = {f"a{i}": np.random.default_rng(i).integers(0, 10, len(data)) for i in range(6)}
    one = FiniteDenoiser(data, device)
    six = FiniteDenoiser(from_array(data.source.read(0, len(data)), labels), device)
    draws = draw_items(data, DRAWS, 0)
    shifted = draws.v + 0.1 * torch.randn(draws.v.shape, generator=torch.Generator().manual_seed(1))
    outside = Draws(torch.full((DRAWS,), -1), shifted, draws.noise)
    items, middle = centred(one), one.centre.cpu()
    right = torch.cat([draws.v.flatten(1) - middle, draws.noise.flatten(1)]).to(device)
    gemm = products(items, right, tile_rows(data.size, DRAWS))
    calls: dict[str, Callable[[], object]] = {
        "products": gemm,
        "curve": lambda: curve(one, draws),
        "six": lambda: curve(six, draws),
        "outside": lambda: curve(one, outside),
        "plain torch": lambda: curve(one, draws, compiled=False),
    }
    times = by_turns(calls, repeat, device)
    name = f"posterior curve, {len(data):,} x {data.size:,}, {DRAWS} draws, {LEVELS} levels"
    seconds = float(np.median(times["products"]))
    rows.add(f"{name}: over its products", over(times, "curve", "products"), "<= 1.3", products_s=seconds)
    rows.add("  of six attributes", over(times, "six", "products"), "<= 1.4")
    rows.add("  of draws from outside the data", over(times, "outside", "products"), "<= 1.4")
    rows.add("  in plain torch", over(times, "plain torch", "products"), "<= 5")
    few = SIGMAS[::8]
    slow = timed(lambda: softmax_per_level(one, items, draws, few), device) * LEVELS / len(few)
    rows.add("  a softmax per level, over ours", slow / float(np.median(times["curve"])), ">= 20")


def noisy(x: Tensor, sigma: float, seed: int) -> Tensor:
    """Values under noise."""
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def denoisers(rows: Rows, data: LabelledData, held: Tensor, repeat: int, device: torch.device) -> None:
    """One call of the denoiser, dense and screened."""
    denoiser = FiniteDenoiser(data, device)
    n, size = len(data), data.size
    items = data.source.read(0, n).reshape(n, size).to(device)
    half = 0.5 * (items**2).sum(1)
    start = time.perf_counter()
    screened = ScreenedDenoiser(denoiser) if device.type == "cpu" else None
    setup = time.perf_counter() - start
    inside = draw_items(data, BATCH, 3).v
    for sigma in (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0):
        level = torch.full((BATCH,), sigma, device=device)
        y, outside = (noisy(x, sigma, 5).to(device) for x in (inside, held[:BATCH]))
        flat = y.flatten(1)

        def gemms(flat: Tensor = flat) -> None:
            _ = (flat @ items.T) @ items

        def tiled(flat: Tensor = flat) -> None:
            threads = workers(items.device)
            starts = range(0, n, 1024)

            def some(first: int) -> Tensor:
                total = torch.zeros_like(flat)
                for i in starts[first::threads]:
                    total.addmm_(flat @ items[i : i + 1024].T, items[i : i + 1024])
                return total

            in_threads([lambda k=k: some(k) for k in range(threads)], threads)  # type: ignore[misc]

        def attention(flat: Tensor = flat, sigma: float = sigma) -> None:
            torch.nn.functional.scaled_dot_product_attention(
                flat[None], items[None], items[None], attn_mask=(-half / sigma**2)[None], scale=sigma**-2.0
            )

        calls: dict[str, Callable[[], object]] = {"products": gemms, "tiled": tiled, "attention": attention}
        calls["ours"] = lambda y=y, level=level: denoiser(y, level)  # type: ignore[misc]
        if screened is not None and sigma <= 0.2:
            calls["screened"] = lambda y=y, level=level: screened.certified(y, level)  # type: ignore[misc]
            calls["screened outside"] = lambda y=outside, level=level: screened.certified(y, level)  # type: ignore[misc]
        times = by_turns(calls, repeat, device)
        work = f"denoiser, batch {BATCH}, sigma {sigma:g}: over its products"
        apart = {"over_them_in_tiles": over(times, "ours", "tiled")}
        rows.add(work, over(times, "ours", "products"), "<= .65" if sigma <= 1 else "<= 1.3", **apart)
        rows.add("  over scaled_dot_product_attention", over(times, "ours", "attention"), "<= 1.2")
        if screened is not None and sigma <= 0.2:
            for name, value in (("screened", y), ("screened outside", outside)):
                found = screened.certified(value, level)
                least = 5 if name == "screened outside" and sigma == 0.2 else 10
                rows.add(
                    f"  the two products, over {name.replace('screened', 'the screened denoiser')}",
                    over(times, "products", name), f">= {least}", over_ours=over(times, "ours", name),
                    bound=float(found.bound.max()), survivors=float(found.survivors.double().mean()),
                    dense=int(found.dense.sum()), setup_s=setup,
                )  # fmt: skip


def gaps(rows: Rows, repeat: int, device: torch.device) -> None:
    """Posterior and score gap of the scenes together."""
    data = load_scenes(32)
    denoiser, draws, sketch = FiniteDenoiser(data, device), draw_items(data, DRAWS, 0), sketch_of(data, 0)
    last: list[PosteriorPass] = []

    def both() -> None:
        last[:] = [curve(denoiser, draws, sketch=sketch)]
        last[0].gaps()

    times = by_turns({"posterior": lambda: curve(denoiser, draws), "both": both}, max(repeat // 2, 1), device)
    share = 0.0
    for name, gap in last[0].gaps().items():
        found = GAPS["score_gap"](data.attribute(name), SIGMAS, gap)
        known = found.value > 0.05 * found.ceiling  # below, few draws carry anything, and no error says much
        share = max(share, float((found.common_variance**0.5 / found.stderr)[known].max()))
    seconds = float(np.median(times["posterior"]))
    work = "posterior and score gap of six attributes (scenes): over the posterior"
    rows.add(work, over(times, "both", "posterior"), "<= 2.5", posterior_s=seconds)
    rows.add("  error across sketches, as a part of the standard error", share, "<= .5")


def fresh(arguments: list[str], launcher: list[str] | None = None, threads: int | None = None) -> tuple[float, float]:
    """Seconds, and the largest resident memory in GB, of a study in fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
        how = launcher or ["-c", _WITH_MEMORY]
        module = ["-m", "sigmascope"] if launcher else []
        command = [sys.executable, *how, *module, "study", *arguments, "--out", f"{folder}/out"]
        start = time.perf_counter()
        said = subprocess.run(command, check=True, capture_output=True, env=environment, text=True).stdout
        seconds = time.perf_counter() - start
    found = re.search(r"VmHWM:\s*(\d+)", said)
    return seconds, float(found[1]) * 1024 / 1e9 if found else float("nan")


def large(rows: Rows) -> None:
    """Scenes of 12,288 numbers."""
    options = ["scenes", "--size", "64", "--draws", "64", "--levels", "24", "--estimators", "posterior"]
    seconds, memory = fresh(options)
    rows.add("study of 480,000 x 12,288, 64 draws, 24 levels: seconds", seconds, "<= 60")
    rows.add("  resident memory, GB", memory, "<= 1")


def ranks(rows: Rows, data: LabelledData, repeat: int) -> None:
    """Two processes of one thread against one process of two."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/images.npz"
        images = data.source.read(0, len(data)).numpy()
        np.savez(path, allow_pickle=False, images=images, label=data.labels[data.attributes[0].name].numpy())
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        pairs = []
        for _ in range(max(repeat // 2, 1)):
            # Of two sizes, so that what starting and drawing figures take falls out.
            seconds = []
            for how, threads in ((None, 2), (launcher, 1)):
                options = [[path, "--draws", draws, "--estimators", "posterior"] for draws in ("256", "8192")]
                few, many = (fresh(o, how, threads)[0] for o in options)
                seconds.append(many - few)
            pairs.append(seconds[1] / seconds[0])
    rows.add("2 ranks of one thread over one process of two, 7,936 draws", float(np.median(pairs)), "<= 1.1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10-train.parquet"
    parser.add_argument("data", nargs="?", default=str(default))
    parser.add_argument("--json", default="")
    parser.add_argument("--only", default="posterior,denoiser,gaps,large,ranks")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stored = load(args.data)
    images = stored.source.read(0, len(stored))
    labels = {a.name: stored.labels[a.name].numpy() for a in stored.attributes}
    data = from_array(images, labels)
    print(f"{platform.machine()}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'work':<66} {'ratio':>8}   demanded", flush=True)
    rows, only = Rows(), args.only.split(",")
    if "posterior" in only:
        posterior_curves(rows, data, args.repeat, device)
    if "denoiser" in only:
        rest = from_array(images[:-HELD], {k: v[:-HELD] for k, v in labels.items()})
        denoisers(rows, rest, images[-HELD:], args.repeat, device)
    if "gaps" in only:
        gaps(rows, args.repeat, device)
    if "large" in only and device.type == "cpu":
        large(rows)
    if "ranks" in only and device.type == "cpu":
        ranks(rows, data, args.repeat)
    if args.json:
        machine = {"machine": platform.machine(), "device": str(device), "threads": torch.get_num_threads()}
        Path(args.json).write_text(json.dumps({**machine, "torch": torch.__version__, "rows": rows.found}, indent=1))


if __name__ == "__main__":
    main()
