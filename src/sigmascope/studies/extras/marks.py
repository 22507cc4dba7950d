"""Verdicts on the curves of a network, and the choice of the main curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from sigmascope.analysis.trust import TOLERANCE, Trust, judge, rule
from sigmascope.core import Attribute, Curve
from sigmascope.information.problems import ModelProblem, SamplerProblem
from sigmascope.learn.settings import NULL, NULL_NUMBER
from sigmascope.studies.extras.models import LOSSES, OfGaps
from sigmascope.studies.marks import with_marks
from sigmascope.studies.subjects.extra import Jobless, Jobs

_GAPS = ("score_gap", "mmse_gap")
_OF_REALS = " For a real-valued attribute, its ceiling I(A + r N; A) stands in place of H(A), and there is no bound."
_MAIN = ("bound", "score_gap", "heldout", "mmse_gap")


class MarksOfModel(OfGaps):
    """Verdicts on gaps: by bounds, calibration, random labels, the bound from the data alone, and denoising losses."""

    def add(self, results: xr.Dataset, problem: ModelProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        measured, by = done["gaps"].curves(), {(c.attribute, c.estimator): c for c in curves}
        trusts = list[Trust]()
        for a in problem.studied:
            null = measured.get(NULL if isinstance(a, Attribute) else NULL_NUMBER)
            for name in (n for n in _GAPS if (a.name, n) in by):
                trusts.append(
                    judge(
                        by[a.name, name],
                        bound=by.get((a.name, "bound")),
                        calibration=measured[a.name].calibration,
                        null=None if null is None else getattr(null, name),
                        data_bound=by.get((a.name, "heldout")),
                        wrapping=done[LOSSES].warning(),
                        weak_end=done[LOSSES].weak_end(),
                        real=not isinstance(a, Attribute),
                    )
                )
        # The main curve is one of every attribute; of real-valued ones there are gaps alone.
        every = [n for n in _MAIN if all((a.name, n) in by for a in problem.studied)]
        results = with_marks(results, trusts, every)
        names = set(map(str, results.estimator.values))
        controlled = bool({NULL, NULL_NUMBER} & measured.keys())
        results.attrs |= {
            "trust_rule": rule(bound="bound" in names, null=controlled, data_bound="heldout" in names, losses=True),
            "trust_tolerance": TOLERANCE,
        }
        return results


class MarksOfSampler(Jobless):
    """Verdicts on forks: by denoising losses, by bounds of the data, and by the shares of values that the model makes.

    Args:
        against: for each attribute, the reason against its curve by forks, which :class:`Made` fills in.
    """

    def __init__(self, against: Mapping[str, str]) -> None:
        self._against = against

    def add(self, results: xr.Dataset, problem: SamplerProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        wrapping, by = done[LOSSES].warning(), {(c.attribute, c.estimator): c for c in curves}
        trusts = [
            judge(
                c,
                bound=by.get((c.attribute, "classifier")),
                data_bound=by.get((c.attribute, "heldout")),
                wrapping=wrapping or self._against[c.attribute],
                weak_end=done[LOSSES].weak_end(),
            )
            for c in curves
            if c.estimator == "forks"
        ]
        return with_marks(results, trusts, ("forks", "classifier", "heldout", "probes:noisy"))
