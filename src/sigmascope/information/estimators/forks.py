"""The entropy of the labels of independent continuations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import SAMPLER, Estimator
from sigmascope.information.estimators.posterior import POSTERIORS, FromPosteriors

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import ExactProblem, SamplerProblem

FORKS = "forks"
"""Name, and key of the job of a sampler's continuations."""


class ForksOfLaw(FromPosteriors):
    """Continuations of the exact process, whose labels are drawn at once from the posterior."""

    name, kind = FORKS, "estimate"
    words = "forks: the entropy of the labels of independent continuations from the noisy image."

    def curves(self, problem: ExactProblem, done: Mapping[str, Any]) -> list[Curve]:
        import torch

        from sigmascope.core import generator
        from sigmascope.information.forks import forks_at_once
        from sigmascope.streams import Use

        job, found = done[POSTERIORS], []
        for a in problem.attributes:
            log_p = job.log_posterior(a.name)[problem.at]
            # A draw has its own uniform numbers, shared by levels.
            each = [
                torch.rand(
                    problem.children,
                    generator=generator(problem.seed, i, Use.FORKED_LABELS_OF_DRAW),
                    dtype=torch.float64,
                )
                for i in range(log_p.shape[1])
            ]
            found.append(forks_at_once(a, problem.sigma, log_p, torch.stack(each)))
        return found


class ForksOfSampler(Estimator["SamplerProblem"]):
    """Continuations by the model, labelled."""

    name, subjects, kind, usual, colour = FORKS, (SAMPLER,), "estimate", (SAMPLER,), 1
    label = "forks of the model"

    def refusal(self, subject: Any) -> str:
        return ""

    def jobs(self, problem: SamplerProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.forking import ForkJob

        p = problem

        def make() -> ForkJob:
            return ForkJob(
                p.model,
                p.draws,
                p.sigma,
                p.attributes,
                p.label,
                p.draws_are_items,
                p.down,
                children=p.children,
                seed=p.seed,
            )

        return {FORKS: p.job(FORKS, make)}

    def cost(self, problem: SamplerProblem) -> tuple[str, str] | None:
        return FORKS, f"about {problem.calls_of_forks:,} network calls"

    def curves(self, problem: SamplerProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.forks import forks

        return [forks(a, problem.sigma, done[FORKS].counts(a.name)) for a in problem.attributes]
