"""What a reproduction found, in the form that its figures and tables want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from sigmascope.analysis.onset import Onset
from sigmascope.core import Agreement, Attribute, Curve
from sigmascope.reproduction import curves as pc
from sigmascope.reproduction import tables as pt

Line = tuple[np.ndarray, np.ndarray, np.ndarray]
Lines = dict[str, dict[str, Line]]


@dataclass(frozen=True, eq=False)
class Found:
    """All that a reproduction found, in the form that figures want.

    Args:
        stages: what each stage found, by its name.
        attributes: of the data.
        exact: curves of the exact filter by estimator, random labels left out.
        null: curves of random labels, one of each estimator.
        agreements: of the other estimators of the exact filter with it, on the same draws.
        onsets: tables of onsets, by a name that the words explain.
        others: further curves by name: ``grain``, ``second-empirical``, ``second-heldout``, ``model:score_gap``, …
        data_words: the data in words.
        ends: smallest and largest sigma of the schedule.
        settings: all settings of the run.
    """

    stages: Mapping[str, xr.Dataset]
    attributes: Sequence[Attribute]
    exact: Mapping[str, Sequence[Curve]]
    null: Sequence[Curve]
    agreements: Sequence[Agreement]
    onsets: Mapping[str, Sequence[Onset]]
    others: Mapping[str, Sequence[Curve]]
    data_words: str
    ends: tuple[float, float]
    settings: Mapping[str, object]


WORDS = {
    "exact": "exact filter", "model": "learned model, best bound", "grain": "scenes with grain, exact filter",
    "second-empirical": "second data, exact filter of its items",
    "second-heldout": "second data, bound for its population",
}  # fmt: skip
"""What the curves of these names are."""


def lines_of(found: Found) -> Lines:
    """The three measurements in nats, each by attribute: sigma, value, standard error."""
    probes, lines = found.stages["probes"], {}
    lines["score gap"] = _lines(found.exact["score_gap"])
    lines["forks"] = _lines(found.exact["forks"])
    if "model" in found.stages:
        lines["model: score gap"] = _lines(found.others["model:score_gap"])
        lines["model: bound"] = _lines(found.others["model:bound"])
        forks = found.stages["model-forks"]
        lines["model: forks"] = {
            str(n): (
                forks.sigma.values,
                forks.information.sel(attribute=n).values,
                forks.stderr.sel(attribute=n).values,
            )
            for n in forks.attribute.values
        }
    for where in ("features", "noisy"):
        of = probes.sel(where=where)
        lines[f"probe: {pc.WHERE[where]}"] = {
            str(n): (probes.sigma.values, of.bound.sel(attribute=n).values, of.stderr.sel(attribute=n).values)
            for n in probes.attribute.values
        }
    return lines


def biased_gaps(found: Found) -> dict[str, np.ndarray]:
    """Of each attribute, at which levels the learned model's score gap is marked as biased; empty without a model."""
    if "model" not in found.stages:
        return {}
    of = found.stages["model"].trusted.sel(estimator="score_gap")
    return {str(n): ~of.sel(attribute=n).values.astype(bool) for n in of.attribute.values}


def _lines(curves: Sequence[Curve]) -> dict[str, Line]:
    return {c.attribute: (c.sigma, c.value, c.error) for c in curves}


def all_verdicts(found: Found) -> list[pt.Verdict]:
    """Every measurement against the exact filter."""
    exact = {c.attribute: c for c in found.exact["posterior"]}
    said = [pt.verdict_of(a) for a in found.agreements]
    for name, line in lines_of(found).items():
        if name in ("score gap", "forks"):
            continue
        bound = name.startswith("probe") or name == "model: bound"
        said += [pt.verdict_against(name, exact[n], of, bound=bound) for n, of in line.items() if n in exact]
    return said
