"""Information along the model's own path, which is of another law and so stands beside the other curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, PATH_ESTIMATOR, SAMPLER, Estimator, Facts, P

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import ModelProblem, SamplerProblem


class _OwnPath(Estimator[P]):
    name, kind = PATH_ESTIMATOR, "estimate"
    help = "the information in the states that the model's own generation visits"

    def curves(self, problem: Any, done: Mapping[str, Any]) -> list[Curve]:
        return []


class OwnPathOfModel(_OwnPath["ModelProblem"]):
    """The gap along conditional generations."""

    subjects = (CONDITIONAL,)
    facts = Facts(
        needs="a network that can be conditional on the attribute and unconditional",
        bias="either direction, as score_gap; the states are those that the model generates",
        cost="two network calls for each draw, attribute and step of the generation",
    )

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.conditional_path import ConditionalPathJob

        p = problem
        if not p.attributes:  # of a real-valued attribute it is not measured
            return {}

        def make() -> ConditionalPathJob:
            return ConditionalPathJob(p.model, p.begins_at, p.sigma, p.attributes, p.tested, p.seed)

        return {PATH_ESTIMATOR: p.job(PATH_ESTIMATOR, make)}

    def network_calls(self, problem: ModelProblem) -> int:
        from sigmascope.information.jobs.conditional_path import path_calls

        p = problem
        return path_calls(p.begins_at, p.sigma, len(p.attributes), p.tested, p.unconditional_calls)

    def cost(self, problem: ModelProblem) -> tuple[str, str] | None:
        return "own path", f"{self.network_calls(problem):,} network calls"


class OwnPathOfSampler(_OwnPath["SamplerProblem"]):
    """Forks of the states that generations visit."""

    subjects, usual = (SAMPLER,), (SAMPLER,)
    facts = Facts(
        needs="any model that generates, and a labeller or labelled data",
        bias="as forks; the states are those that the model generates",
        cost="as forks, and the generations themselves",
    )

    def jobs(self, problem: SamplerProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.forking import OwnPathJob

        p = problem

        def make() -> OwnPathJob:
            return OwnPathJob(
                p.model, p.top, p.sigma, p.attributes, p.label, p.down,
                draws=len(p.draws), children=p.children, seed=p.seed,
            )  # fmt: skip

        return {PATH_ESTIMATOR: p.job(PATH_ESTIMATOR, make)}

    def network_calls(self, problem: SamplerProblem) -> int:
        p = problem
        return p.calls_of_forks + 2 * len(p.draws) * p.down.steps * p.unconditional_calls

    def cost(self, problem: SamplerProblem) -> tuple[str, str] | None:
        return "own path", f"about {self.network_calls(problem):,} network calls"
