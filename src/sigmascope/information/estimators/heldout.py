"""Kernel filters of other items, for items that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, POPULATION, SAMPLER, Estimator, Facts

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import ModelProblem, PopulationProblem, SamplerProblem


class HeldOut(Estimator["PopulationProblem"]):
    """A lower bound for the population that the items come from."""

    name, subjects, kind, usual = "heldout", (POPULATION,), "lower bound", (POPULATION,)
    called = "the lower bound of items held out"
    facts = Facts(
        needs="labelled items of a population",
        bias="downward: a filter of the other items is not the best classifier",
        cost="two matrix products of all items with all draws",
    )

    def jobs(self, problem: PopulationProblem) -> Mapping[str, Job]:
        from sigmascope.exact.finite.heldout import HeldOutPass

        denoiser: Any = problem.denoiser
        return {self.name: problem.job(self.name, lambda: HeldOutPass(denoiser, problem.draws, problem.sigma))}

    def curves(self, problem: PopulationProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.bounds import heldout_bound

        held, labels = done[self.name], problem.draws.labels
        levels = [j for j, _ in held.kernels]
        return [
            heldout_bound(a, problem.sigma, levels, held.own_probability(a.name), labels[a.name].numpy())
            for a in problem.attributes
        ]


class DataBoundOf(Estimator["ModelProblem | SamplerProblem"]):
    """The lower bound that the labelled data give without a network, measured beside every curve of a model.

    Args:
        width: number of columns of the study's curves.
    """

    name, subjects, kind, columns = "heldout", (CONDITIONAL, SAMPLER), "lower bound", "own"

    def __init__(self, width: int) -> None:
        self._width = width

    def jobs(self, problem: ModelProblem | SamplerProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.data_bound import data_bound_job

        job = data_bound_job(problem.data, problem.sigma, self._width, problem.seed)
        return {} if job is None else {self.name: problem.job(self.name, lambda: job)}

    def cost(self, problem: ModelProblem | SamplerProblem) -> tuple[str, str] | None:
        from sigmascope.information.jobs.data_bound import bound_size

        if getattr(problem.subject, "items", None) is None:
            return None
        size = bound_size(problem.data, self._width, len(problem.sigma))
        return None if size is None else (self.name, f"about {size.exponentials:.2g} exponentials, no network calls")

    def curves(self, problem: ModelProblem | SamplerProblem, done: Mapping[str, Any]) -> list[Curve]:
        job = done.get(self.name)
        return [] if job is None else [job.curve(a, self._width) for a in problem.attributes]
