"""Kernel filters of other items, for items that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import POPULATION, Estimator

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import PopulationProblem


class HeldOut(Estimator["PopulationProblem"]):
    """A lower bound for the population that the items come from."""

    name, subjects, kind, usual = "heldout", (POPULATION,), "lower bound", (POPULATION,)

    def refusal(self, subject: Any) -> str:
        return ""

    def jobs(self, problem: PopulationProblem) -> Mapping[str, Job]:
        from sigmascope.exact.finite.heldout import HeldOutPass

        def make() -> Any:
            denoiser: Any = problem.denoiser
            return HeldOutPass(denoiser, problem.draws, problem.sigma)

        return {self.name: problem.job(self.name, make)}

    def curves(self, problem: PopulationProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.bounds import heldout_bound

        held, labels = done[self.name], problem.draws.labels
        levels = [j for j, _ in held.pairs]
        return [
            heldout_bound(a, problem.sigma, levels, held.own_probability(a.name), labels[a.name].numpy())
            for a in problem.attributes
        ]
