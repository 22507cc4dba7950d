"""A Gaussian model of the pictures, for features of the pictures themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import PICTURES, Estimator, Facts

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import PictureProblem

FIELD = "gaussian"
"""Key of the job that fits the model and reads it at every level."""


class Gaussian(Estimator["PictureProblem"]):
    r""":math:`\tfrac12 \ln\det(\Sigma + \sigma^2) - \tfrac12 \ln\det(\Sigma_{V|B} + \sigma^2)` of a fitted Gaussian."""

    name, subjects, kind, usual = FIELD, (PICTURES,), "estimate", (PICTURES,)
    words = (
        "gaussian: the information that the noisy picture carries about the feature if the pictures are Gaussian with "
        "the covariance of the data. Real pictures are not Gaussian, and the truth may be more or less."
    )
    help = "a Gaussian model of these images"
    label, called = "Gaussian model", "a Gaussian model of these images"
    facts = Facts(
        needs="pictures; 8 for each coordinate, or only their power spectrum is used",
        bias="either way, because pictures are not Gaussian; that of an estimated covariance is corrected",
        cost="items times the square of the coordinates, and an eigendecomposition",
    )

    def jobs(self, problem: PictureProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.field import FieldJob

        p = problem
        return {FIELD: p.job(FIELD, lambda: FieldJob(p.subject, p.draws, p.features, p.sigma))}

    def curves(self, problem: PictureProblem, done: Mapping[str, Any]) -> list[Curve]:
        return [done[FIELD].curve(i, problem.sigma) for i in range(len(problem.features))]
