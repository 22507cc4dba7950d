"""The resolved shares of features of pictures, beside their curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from sigmascope.core import Curve
from sigmascope.information.estimators.gaussian import FIELD
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.field import FieldJob, ResolvedJob
from sigmascope.information.problems import PictureProblem
from sigmascope.information.resolved import contributions, shares_of
from sigmascope.studies.glossary import DRAWS
from sigmascope.studies.subjects.extra import Extra, Jobs

_RESOLVED = "resolved"


class Resolved(Extra):
    """How much of the power of each feature the exact filter resolves, beside a Gaussian model."""

    def jobs(self, problem: PictureProblem) -> Mapping[str, Job]:
        p = problem

        def make() -> ResolvedJob:
            return ResolvedJob(p.denoiser, p.draws, p.features, p.sigma)

        return {_RESOLVED: p.job(_RESOLVED, make)}

    def add(self, results: xr.Dataset, problem: PictureProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        job, axes = done[_RESOLVED], ("attribute", "sigma")
        errors, power = job.errors(), job.powers()
        share, stderr = shares_of(errors, power)
        results = results.assign(
            resolved_share=(axes, share), resolved_stderr=(axes, stderr),
            resolved_per_draw=(DRAWS, contributions(errors, power)),
            feature_power=("attribute", power.mean(1)),
            feature_size=("attribute", [f.size(problem.subject.event) for f in problem.features]),
        )  # fmt: skip
        field: FieldJob | None = done.get(FIELD)
        if field is None:
            return results
        results.attrs["field"] = field.field.words
        total = [field.field.total(float(s)) for s in problem.sigma]
        plug_in = [[v.plug_in for v in of_feature] for of_feature in field.values]
        return results.assign(
            gaussian_share=(axes, field.shares), gaussian_rate=(axes, field.rates), gaussian_plug_in=(axes, plug_in),
            gaussian_total=("sigma", total),
        )  # fmt: skip
