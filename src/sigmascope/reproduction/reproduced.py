"""The results of a reproduction in the form that its figures and tables read."""

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
class Reproduced:
    """All results of a reproduction.

    Args:
        stages: the results of each stage, by its name.
        attributes: of the data.
        exact: curves of the exact filter by estimator, random labels left out.
        null: curves of random labels, one for each estimator.
        agreements: of the other estimators of the exact filter with it, on the same draws.
        onsets: tables of onsets, by the names in :data:`WORDS`.
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
"""The curves of these names in words."""


def lines_of(results: Reproduced) -> Lines:
    """The three measurements in nats, each by attribute: sigma, value, standard error."""
    probes, lines = results.stages["probes"], {}
    lines["score gap"] = _lines(results.exact["score_gap"])
    lines["forks"] = _lines(results.exact["forks"])
    if "model" in results.stages:
        lines["model: score gap"] = _lines(results.others["model:score_gap"])
        lines["model: bound"] = _lines(results.others["model:bound"])
        forks = results.stages["model-forks"]
        lines["model: forks"] = {
            str(n): (
                forks.sigma.values,
                forks.information.sel(attribute=n).values,
                forks.stderr.sel(attribute=n).values,
            )
            for n in forks.attribute.values
        }
    for where in ("features", "noisy"):
        probe = probes.sel(where=where)
        lines[f"probe: {pc.WHERE[where]}"] = {
            str(n): (probes.sigma.values, probe.bound.sel(attribute=n).values, probe.stderr.sel(attribute=n).values)
            for n in probes.attribute.values
        }
    return lines


def biased_gaps(results: Reproduced) -> dict[str, np.ndarray]:
    """For each attribute the levels at which the model's score gap is marked as biased; empty without a model."""
    if "model" not in results.stages:
        return {}
    trusted = results.stages["model"].trusted.sel(estimator="score_gap")
    return {str(n): ~trusted.sel(attribute=n).values.astype(bool) for n in trusted.attribute.values}


def _lines(curves: Sequence[Curve]) -> dict[str, Line]:
    return {c.attribute: (c.sigma, c.value, c.error) for c in curves}


def all_verdicts(results: Reproduced) -> list[pt.Verdict]:
    """Every measurement against the exact filter."""
    exact = {c.attribute: c for c in results.exact["posterior"]}
    verdicts = [pt.verdict_of(a) for a in results.agreements]
    for name, line in lines_of(results).items():
        if name in ("score gap", "forks"):
            continue
        bound = name.startswith("probe") or name == "model: bound"
        verdicts += [pt.verdict_against(name, exact[n], x, bound=bound) for n, x in line.items() if n in exact]
    return verdicts
