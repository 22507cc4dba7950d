"""The entropy of the labels of independent continuations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import SAMPLER, Estimator, Facts
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
    words = "forks: an estimate from the labels of independent continuations of each noisy image, by their entropy."
    facts = Facts(
        needs="a finite set of items, or a hierarchy",
        bias="upward, by what the correction for few continuations leaves; less with more --forks",
        cost="shared with posterior",
    )

    def curves(self, problem: ExactProblem, done: Mapping[str, Any]) -> list[Curve]:
        import torch

        from sigmascope.core import generator
        from sigmascope.information.forks import forks_at_once
        from sigmascope.streams import Use

        # A draw has its own uniform numbers, shared by levels and attributes.
        streams = (generator(problem.seed, i, Use.FORKED_LABELS_OF_DRAW) for i in range(len(problem.draws)))
        uniform = torch.stack([torch.rand(problem.children, generator=g, dtype=torch.float64) for g in streams])
        return [
            forks_at_once(a, problem.sigma, done[POSTERIORS].log_posterior(a.name)[problem.at], uniform)
            for a in problem.attributes
        ]


class ForksOfSampler(Estimator["SamplerProblem"]):
    """Labelled continuations by the model."""

    name, subjects, kind, usual, colour = FORKS, (SAMPLER,), "estimate", (SAMPLER,), 1
    label = "forks of the model"
    facts = Facts(
        needs="any model that generates, and a labeller or labelled data",
        bias="upward by few continuations, downward by wrong labels",
        cost="continuations times steps times two network calls, for each draw and level",
    )

    def jobs(self, problem: SamplerProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.forking import ForkJob

        p = problem

        def make() -> ForkJob:
            return ForkJob(
                p.model, p.draws, p.sigma, p.attributes, p.label, p.draws_are_items, p.down,
                children=p.children, seed=p.seed,
            )  # fmt: skip

        return {FORKS: p.job(FORKS, make)}

    def network_calls(self, problem: SamplerProblem) -> int:
        return problem.calls_of_forks

    def cost(self, problem: SamplerProblem) -> tuple[str, str] | None:
        return FORKS, f"about {problem.calls_of_forks:,} network calls"

    def curves(self, problem: SamplerProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.forks import forks

        return [forks(a, problem.sigma, done[FORKS].counts(a.name)) for a in problem.attributes]
