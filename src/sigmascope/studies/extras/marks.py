"""Verdicts on the curves of a network, and which of them the study is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from sigmascope.analysis.trust import TOLERANCE, Trust, judge, rule
from sigmascope.core import Curve
from sigmascope.information.jobs import Job
from sigmascope.information.problems import ModelProblem, SamplerProblem
from sigmascope.learn.settings import NULL
from sigmascope.studies.extras.models import LOSSES
from sigmascope.studies.marks import with_marks
from sigmascope.studies.subjects.extra import Extra

_GAPS = ("score_gap", "mmse_gap")


class MarksOfModel(Extra):
    """Gaps against bounds, calibration, random labels, the data's own bound and the denoising loss."""

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        return {"gaps": problem.job("gaps", problem.gap_job)}

    def add(
        self, results: xr.Dataset, problem: ModelProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        measured, by = done["gaps"].curves(), {(c.attribute, c.estimator): c for c in curves}
        null, trusts = measured.get(NULL), list[Trust]()
        for a in problem.attributes:
            for name in (n for n in _GAPS if (a.name, n) in by):
                trusts.append(
                    judge(
                        by[a.name, name],
                        bound=by.get((a.name, "bound")),
                        calibration=measured[a.name].calibration,
                        null=None if null is None else getattr(null, name),
                        data_bound=by.get((a.name, "heldout")),
                        wrapping=done[LOSSES].warning(),
                    )
                )
        results = with_marks(results, trusts, ("bound", "score_gap", "heldout", "mmse_gap"))
        held = list(map(str, results.estimator.values))
        results.attrs |= {
            "trust_rule": rule(bound="bound" in held, null=null is not None, data_bound="heldout" in held, losses=True),
            "trust_tolerance": TOLERANCE,
        }
        return results


class MarksOfSampler(Extra):
    """Forks against the denoising loss, and against the proportions in which the images are made.

    Args:
        against: after the extras before it, what speaks against the forks of each attribute.
    """

    def __init__(self, against: Mapping[str, str]) -> None:
        self._against = against

    def jobs(self, problem: SamplerProblem) -> Mapping[str, Job]:
        return {}

    def add(
        self, results: xr.Dataset, problem: SamplerProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        wrapping = done[LOSSES].warning()
        trusts = [judge(c, wrapping=wrapping or self._against[c.attribute]) for c in curves if c.estimator == "forks"]
        return with_marks(results, trusts, ("forks", "heldout", "probes:noisy"))
