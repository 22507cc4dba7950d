"""Time and memory of a study, as a fresh process.

    python benchmarks/study.py [sigmascope study's arguments; default: scenes]

Prints one line of JSON: wall seconds, peak resident memory, threads, and the speed relative to the floor of the method
(the two products alone, timed in the same run).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import torch


def products_per_second() -> float:
    """Operations per second of a float32 product of the shape that the scenes need."""
    tile, draws = torch.rand(1000, 3072), torch.rand(3072, 512)
    _ = tile @ draws
    start = time.perf_counter()
    for _ in range(20):
        _ = tile @ draws
    return 20 * 2.0 * 1000 * 3072 * 512 / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="those of sigmascope study; default: scenes")
    arguments = parser.parse_args().arguments or ["scenes"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "sigmascope", "study", *arguments, "--out", os.path.join(folder, "out")],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    report = {"arguments": arguments, "seconds": round(seconds, 1), "peak_gb": round(peak / 1e9, 2)}
    report["threads"] = torch.get_num_threads()
    if arguments == ["scenes"]:
        floor = 4.0 * 480_000 * 3072 * 256 / products_per_second()
        report |= {"products_alone_seconds": round(floor, 1), "ratio": round(seconds / floor, 2)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
