"""How well the three estimators agree: the largest paired difference from `posterior` of each attribute, as CSV.

    python benchmarks/agreement.py scenes --draws 9216 > benchmarks/agreement-scenes.csv

Columns: draws, estimator, attribute, largest difference and its standard error in % of H(A), the level where it is, the
largest difference in standard errors over all levels, and the largest standard error over all levels in % of H(A).
"""

from __future__ import annotations

import argparse
import csv
import sys

import sigmascope
from sigmascope.studies.results import agreements_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--draws", type=int, default=1024)
    parser.add_argument("--levels", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attributes", default="", help="comma-separated; all by default")
    args = parser.parse_args()
    ways = ("posterior", "score_gap", "mmse_gap")
    results = sigmascope.study(
        args.data,
        attributes=args.attributes,
        estimators=ways,
        sampling=sigmascope.Sampling(draws=args.draws, levels=args.levels, seed=args.seed),
        progress=True,
    )
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(
        ["draws", "estimator", "attribute", "largest_%", "stderr_%", "sigma", "errors_apart", "most_stderr_%"]
    )
    for a in agreements_of(results):
        share, error, sigma = a.largest
        most = 100 * float((a.stderr / a.ceiling).max())
        numbers = [f"{100 * share:.3f}", f"{100 * error:.3f}", f"{sigma:.3g}", f"{a.errors_apart:.2f}", f"{most:.3f}"]
        writer.writerow([args.draws, a.estimator, a.attribute, *numbers])


if __name__ == "__main__":
    main()
