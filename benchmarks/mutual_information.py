"""Mutual information of benchmark tasks with known truth, beside published estimators.

    python benchmarks/mutual_information.py my-tasks [--only NAME] [--json FILE]

The folder holds .npz files with ``x``, ``y`` and the true ``nats``, e.g. samples of the tasks of the package
benchmark-mi (Czyż, Grabowski, Vogt, Beerenwinkel, Marx 2023, "Beyond Normal").  With --json, results are added to those
in FILE, and the table is of all of them.  A task takes one or two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import sigmascope


def measured(path: Path) -> dict[str, Any]:
    """The record of one task."""
    with np.load(path, allow_pickle=False) as file:
        x, y, truth = file["x"], file["y"], float(file["nats"])
    result = sigmascope.mutual_information(x, y)
    record = result.record()
    ways = {
        name: {k: v for k, v in record[name].items() if "gap" in k or k == "mean"}
        for name in record
        if "_noised" in name
    }
    ways = {name: {k: round(v, 4) for k, v in way.items() if not k.startswith("rate")} for name, way in ways.items()}
    kept = ("value", "low", "high", "stderr", "lower_bound", "lower_bound_stderr", "linear")
    numbers = {k: round(record[k], 4) for k in kept}
    return {"truth": round(truth, 4)} | numbers | {"verdict": result.verdict, "seconds": record["seconds"]} | ways


def table(records: dict[str, Any]) -> str:
    """The records as a table in Markdown, and the errors of all."""
    lines = ["| task | truth | value | interval | lower bound | verdict |", "|---|---|---|---|---|---|"]
    for name, r in sorted(records.items()):
        interval = f"{r['low']:.3f} to {r['high']:.3f}"
        verdict = "trusted" if r["verdict"].startswith("Trusted") else "may be biased"
        lines.append(
            f"| {name} | {r['truth']:.3f} | {r['value']:.3f} | {interval} | {r['lower_bound']:.3f} | {verdict} |"
        )
    errors = np.array([abs(r["value"] - r["truth"]) for r in records.values()])
    inside = sum(r["low"] <= r["truth"] <= r["high"] for r in records.values())
    honest = sum(
        r["low"] <= r["truth"] <= r["high"] or not r["verdict"].startswith("Trusted") for r in records.values()
    )
    lines += [
        "",
        f"absolute error: mean {errors.mean():.3f}, median {np.median(errors):.3f}, largest {errors.max():.3f}",
    ]
    lines.append(
        f"{inside} of {len(records)} intervals hold the truth; {honest} hold it or the verdict doubts the value"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", default="", help="part of the names of the tasks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    records = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for path in sorted(options.directory.glob("*.npz")):
        if options.only in path.stem:
            records[path.stem] = measured(path)
            if options.json:
                options.json.write_text(json.dumps(records, indent=1) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()
