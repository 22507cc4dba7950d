"""The exact posterior of the attribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, EXACT, SAMPLER, Estimator, Facts

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import ExactProblem, ModelProblem, SamplerProblem

POSTERIORS = "posteriors"
"""Key of the pass for posteriors of an exact law."""
DATA = "posteriors of the data"
"""Key of the job that :class:`PosteriorOfData` waits for."""


class FromPosteriors(Estimator["ExactProblem"]):
    """One that reads the pass for posteriors of an exact law, and needs no other job."""

    subjects = (EXACT,)

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        return {POSTERIORS: problem.subject.posteriors(problem)}


class Posterior(FromPosteriors):
    r""":math:`H(A) - E\,H(A \mid Y_\sigma)` from p(a | y) itself."""

    name, kind, usual = "posterior", "exact", (EXACT,)
    help = "exact, measured always"
    facts = Facts(
        needs="a finite set of items, or a hierarchy",
        bias="none: its only error is that of the draws",
        cost="two matrix products of all items with all draws, for all levels together",
    )

    def curves(self, problem: ExactProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.posterior import posterior

        job = done[POSTERIORS]
        return [posterior(a, problem.sigma, job.log_posterior(a.name)[problem.at]) for a in problem.attributes]


class PosteriorOfData(Estimator["ModelProblem | SamplerProblem"]):
    """The exact filter of the data that a model is measured on, for comparison."""

    name, subjects, kind, usual, colour = "posterior", (CONDITIONAL, SAMPLER), "exact", (SAMPLER,), 6
    words = "posterior: the exact filter of the data, for comparison. The verdicts do not use it."
    help = "the exact filter of the data, for comparison"
    label = "exact"
    facts = Facts(
        needs="labelled data that are a finite set",
        bias="none for the law of these items; it says nothing about the network",
        cost="two matrix products of all items with all draws, for all levels together",
    )

    def refusal(self, subject: Any) -> str:
        if getattr(subject, "items", None) is None:
            return "the exact posterior is of a finite set: leave 'posterior' out of --estimators"
        return ""

    def jobs(self, problem: ModelProblem | SamplerProblem) -> Mapping[str, Job]:
        from sigmascope.exact.finite.filter import FiniteDenoiser
        from sigmascope.information.jobs.passes import Posteriors

        p = problem
        return {DATA: p.job(DATA, lambda: Posteriors(FiniteDenoiser(p.data), p.test, p.sigma))}

    def curves(self, problem: ModelProblem | SamplerProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.posterior import posterior

        # The last row is the limit, which is at no level of the study.
        return [posterior(a, problem.sigma, done[DATA].log_posterior(a.name)[:-1]) for a in problem.attributes]
