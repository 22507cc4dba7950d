"""The exact posterior of the attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, EXACT, SAMPLER, Estimator, Facts

if TYPE_CHECKING:
    from sigmascope.core import Curve, RealAttribute
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import ExactProblem, ModelProblem, SamplerProblem

POSTERIORS = "posteriors"
"""Key of the pass for posteriors of an exact law."""
REALS = "reals"
"""Key of the pass for real-valued attributes."""
DATA = "posteriors of the data"
"""Key of the job that :class:`PosteriorOfData` waits for."""


class FromPosteriors(Estimator["ExactProblem"]):
    """One that reads the pass for posteriors of an exact law, and needs no other job."""

    subjects = (EXACT,)

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        return {POSTERIORS: problem.subject.posteriors(problem), **jobs_of_reals(problem)}


def jobs_of_reals(problem: ExactProblem) -> dict[str, Job]:
    """The pass for real-valued attributes, where there are some and that for posteriors does not serve them."""
    if not problem.real_attributes:
        return {}
    job: Job = problem.subject.reals(problem)
    shared: Job = problem.subject.posteriors(problem)
    return {} if job is shared else {REALS: job}


def reals_in(done: Mapping[str, Any]) -> Any:
    """The job with the real-valued attributes, among those that are done."""
    return done.get(REALS, done[POSTERIORS])


class Posterior(FromPosteriors):
    r""":math:`H(A) - E\,H(A \mid Y_\sigma)` from p(a | y) itself; of a real-valued attribute, from p(a_r | y)."""

    name, kind, usual, measures_reals = "posterior", "exact", (EXACT,), True
    help = "exact, measured always"
    facts = Facts(
        needs="a finite set of items, or a hierarchy",
        bias="none: its only error is that of the draws",
        cost="two matrix products of all items with all draws, for all levels together",
    )

    def curves(self, problem: ExactProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.posterior import posterior
        from sigmascope.information.reals import information

        job, curves = done[POSTERIORS], []
        for a in problem.attributes:
            curves.append(posterior(a, problem.sigma, job.log_posterior(a.name)[problem.at]))
        for real in problem.real_attributes:
            known = reals_in(done).real(real.name)
            curves.append(information(real, problem.sigma, known.log_ratio[:-1], known.log_ceiling))
        return curves


class PosteriorOfData(Estimator["ModelProblem | SamplerProblem"]):
    """The exact filter of the data that a model is measured on, for comparison."""

    name, subjects, kind, usual, colour = "posterior", (CONDITIONAL, SAMPLER), "exact", (SAMPLER,), 6
    words = "posterior: the exact filter of the data, for comparison. The verdicts do not use it."
    help = "the exact filter of the data, for comparison"
    label, measures_reals = "exact", True
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
        from sigmascope.learn.reals import noisy_of

        p = problem
        noisy = {a.name: noisy_of(a, p.test.labels[a.name]) for a in _reals(problem)}
        return {DATA: p.job(DATA, lambda: Posteriors(FiniteDenoiser(p.data), p.test, p.sigma, noisy))}

    def curves(self, problem: ModelProblem | SamplerProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.posterior import posterior
        from sigmascope.information.reals import information

        # The last row is the limit, which is at no level of the study.
        job, sigma = done[DATA], problem.sigma
        curves = [posterior(a, sigma, job.log_posterior(a.name)[:-1]) for a in problem.attributes]
        known = [(a, job.real(a.name)) for a in _reals(problem)]
        return curves + [information(a, sigma, x.log_ratio[:-1], x.log_ceiling) for a, x in known]


def _reals(problem: ModelProblem | SamplerProblem) -> Sequence[RealAttribute]:
    """The real-valued attributes of a problem; a sampler has none."""
    return getattr(problem, "real_attributes", ())
