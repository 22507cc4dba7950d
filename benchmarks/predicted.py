"""Memory and time of studies of many shapes: predicted before they start, and measured in a process of their own.

    python benchmarks/predicted.py [NAME ...]

Memory is the largest resident set, the libraries included; time is that of the processor, page and figures included, so
that what else the machine does does not count (run it with OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A study by its sizes.

    Args:
        items: of the data; 0: the data are named.
        event: shape of an item.
        values: how many values each attribute has.
        options: of the study.
        data: its name, where there are no items.
    """

    items: int = 0
    event: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    data: str = ""


SHAPES = {
    "plain": Shape(2_000, (16, 16, 3), (10, 4)),
    "items": Shape(4_000, (64, 64, 3), (10,), {"draws": 64, "levels": 12}),
    "levels": Shape(1_000, (6, 6), (4, 3), {"levels": 2_000, "draws": 64, "estimators": "posterior"}),
    "draws": Shape(500, (6, 6), (4, 3), {"draws": 100_000, "levels": 12, "estimators": "posterior"}),
    "columns": Shape(500, (6, 6), (2,) * 300, {"draws": 64, "levels": 10, "estimators": "posterior"}),
    "classes": Shape(20_000, (6, 6), (10_000,), {"draws": 64, "levels": 10, "estimators": "posterior"}),
    "heldout": Shape(3_000, (12, 12), (10,), {"law": "heldout", "draws": 128}),
    "estimators": Shape(
        1_500, (8, 8), (5, 4), {"estimators": "posterior,score_gap,mmse_gap,filter,forks", "levels": 12}
    ),
    "pairs": Shape(3_000, (8, 8), (6,) * 6, {"pairs": True, "draws": 64, "levels": 20}),
    "many columns": Shape(500, (6, 6), (2,) * 3_000, {"draws": 32, "levels": 8, "estimators": "posterior"}),
    "classes, gaps": Shape(20_000, (6, 6), (10_000,), {"draws": 16, "levels": 10}),
    "levels, gaps": Shape(1_000, (6, 6), (4, 3), {"levels": 2_000, "draws": 32}),
    "hierarchy": Shape(data="hierarchy:v=8,m=4,s=2,L=4", options={"draws": 64, "levels": 16}),
}


def written(shape: Shape, folder: Path) -> str:
    """A file of data of this shape; labels show in the images."""
    if not shape.items:
        return shape.data
    rng = np.random.default_rng(0)
    labels: dict[str, Any] = {f"a{i}": rng.permutation(np.arange(shape.items) % v) for i, v in enumerate(shape.values)}
    images = rng.integers(0, 120, (shape.items, *shape.event), dtype=np.uint8)
    first = next(iter(labels.values())) * 100 // max(shape.values[0] - 1, 1)
    images += first.astype(np.uint8).reshape(-1, *[1] * len(shape.event))
    np.savez(folder / "data.npz", images=images, **labels)
    return str(folder / "data.npz")


_CHILD = """
import json, resource, sys, time
from pathlib import Path
from sigmascope.device import resolve_device
from sigmascope.studies.prediction import predict
from sigmascope.studies.run import open_subject, run_subject
from sigmascope.studies.spec import spec_of
from sigmascope.studies.timing import seconds_of
data, out, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
begun = time.process_time()
subject, spec = open_subject(spec_of(data=data, **options), out, False)
reading = time.process_time() - begun
work = predict(subject.data, spec)
seconds = reading + seconds_of(subject.data, subject.denoiser, spec, resolve_device(spec.device))
begun = time.process_time()
run_subject(subject, spec, out, False)
try:  # of this program alone: the maximum of getrusage begins with that of the process which started it
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
except (OSError, IndexError):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"memory": [work.memory, peak], "seconds": [seconds, time.process_time() - begun]}))
"""


def measured(shape: Shape) -> dict[str, list[float]]:
    """Memory in bytes and time in seconds of a study: predicted and measured."""
    with tempfile.TemporaryDirectory() as folder:
        data = written(shape, Path(folder))
        command = [sys.executable, "-c", _CHILD, data, str(Path(folder) / "out"), json.dumps(shape.options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}")
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="NAME", help=", ".join(SHAPES))
    names = parser.parse_args().shapes or list(SHAPES)
    print(f"{'shape':<14}" + "".join(f"{u + ' predicted':>14}{'measured':>10}{'ratio':>7}" for u in ("GB", "s")))
    for name in names:
        found = measured(SHAPES[name])
        (memory, peak), (said, took) = found["memory"], found["seconds"]
        print(
            f"{name:<14}{memory / 1e9:>14.2f}{peak / 1e9:>10.2f}{memory / peak:>7.2f}{said:>14.1f}{took:>10.1f}"
            f"{said / took:>7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
