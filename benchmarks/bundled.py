"""A learned model against the exact filter of its data: bounds, gaps, order of emergence, and the verdicts.

    python benchmarks/bundled.py [--model bundled] [--data scenes] [--draws 512] [--target-stderr 0.01]
        [--out FOLDER] [--json FILE]

Half-information sigma of every attribute by the best bound against the exact one; the score gap against the exact
curve at levels where more than 5 % of H(A) is known; the order of emergence by both; how often the marks trusted and
biased, which do not use the exact curve, are right: a gap is truly biased where it is off by more than 10 % of H(A);
the standard errors where 10 to 90 % of H(A) is known.  With --out the study is kept, and gone on with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sigmascope.analysis.onset import onsets
from sigmascope.studies.options import GapOptions, Sampling
from sigmascope.studies.results import to_curves
from sigmascope.studies.study import study

_OFF, _KNOWN = 0.1, 0.05  # shares of H(A)


def halves(results: xr.Dataset, estimator: str) -> dict[str, float]:
    """Half-information sigma of each attribute, in order of emergence."""
    return {o.attribute: o.at[1].value for o in onsets(to_curves(results, estimator), resamples=10)}


def marks(results: xr.Dataset, estimator: str) -> dict[str, list[int]]:
    """Of the truly trusted and the truly biased (attribute, level) pairs: how many are marked so, and of how many."""
    of = results.sel(estimator=estimator)
    truth = results.information.sel(estimator="posterior")
    off = (np.abs(of.information - truth) / results.ceiling).transpose("attribute", "sigma").values > _OFF
    trusted = of.trusted.transpose("attribute", "sigma").values.astype(bool)
    return {
        "trusted": [int((trusted & ~off).sum()), int((~off).sum())],
        "biased": [int((~trusted & off).sum()), int(off.sum())],
    }


def compared(results: xr.Dataset) -> dict[str, Any]:
    """All numbers."""
    exact, bound, gap = (halves(results, e) for e in ("posterior", "bound", "score_gap"))
    found: dict[str, Any] = {"half": {n: {"exact": exact[n], "bound": bound[n], "score_gap": gap[n]} for n in exact}}
    found["order"] = {"exact": list(exact), "bound": list(bound), "score_gap": list(gap)}
    found["gap"] = {}
    for name in results.attribute.values:
        one = results.sel(attribute=name)
        true = one.information.sel(estimator="posterior").values
        value = one.information.sel(estimator="score_gap").values
        some = true > _KNOWN * float(one.ceiling)
        off = np.where(some, value / np.maximum(true, 1e-9) - 1, 0.0)
        k = int(np.abs(off).argmax())
        found["gap"][str(name)] = {"worst": float(off[k]), "at": float(results.sigma[k])}
    found["marks"] = {e: marks(results, e) for e in ("score_gap", "mmse_gap")}
    over = {}
    for name in results.attribute.values:
        one = results.sel(attribute=name)
        for e in ("filter", "likelihood", "classifier", "bound"):
            if e in results.estimator.values:
                apart = one.information_per_draw.sel(estimator=e) - one.information_per_draw.sel(estimator="posterior")
                error = apart.std("draw", ddof=1) / apart.sizes["draw"] ** 0.5
                over[f"{name} {e}"] = float((apart.mean("draw") / error.clip(1e-9)).max())
    known = results.information.sel(estimator="posterior") / results.ceiling
    shares = (results.stderr / results.ceiling).where((known > _OFF) & (known < 1 - _OFF))
    found["stderr"] = {str(e): float(shares.sel(estimator=e).mean()) for e in results.estimator.values}
    found["bounds_above_in_errors"] = max(over.values())
    found["calls"] = int(results.attrs["network_calls"])
    return found


def main() -> None:
    """Print the table; write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--draws", type=int, default=512)
    parser.add_argument("--target-stderr", type=float, default=0.01)
    parser.add_argument("--estimators", default="score_gap,mmse_gap,filter,classifier,posterior")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    results = study(
        a.data,
        a.model,
        estimators=a.estimators,
        sampling=Sampling(draws=a.draws),
        options=GapOptions(target_stderr=a.target_stderr),
        out=a.out,
        progress=True,
    )
    found = compared(results)
    print(f"{'attribute':<12} {'exact':>7} {'bound':>7} {'off':>7}   {'score gap: worst':>16} {'at sigma':>9}")
    for name, half in found["half"].items():
        gap = found["gap"][name]
        off = 100 * (half["bound"] / half["exact"] - 1)
        worst = f"{100 * gap['worst']:>15.1f}% {gap['at']:>9.3g}"
        print(f"{name:<12} {half['exact']:>7.3f} {half['bound']:>7.3f} {off:>6.1f}%   {worst}")
    for way, order in found["order"].items():
        print(f"order by {way}: {', '.join(order)}")
    for e, m in found["marks"].items():
        right = " and ".join(f"{good} of {all_} {kind}" for kind, (good, all_) in m.items())
        print(f"{e}: marked rightly are {right}")
    errors = ", ".join(f"{e} {100 * x:.2f} %" for e, x in found["stderr"].items())
    print(f"standard errors, of H(A): {errors}")
    print(f"bounds above the exact curve by at most {found['bounds_above_in_errors']:.1f} paired standard errors")
    print(f"network calls for the gaps: {found['calls']:,}")
    if a.json:
        a.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
