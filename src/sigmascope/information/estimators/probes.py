"""Linear probes on noisy values, and on what the network sees in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, SAMPLER, Estimator

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import ModelProblem, SamplerProblem


class Probes(Estimator["ModelProblem | SamplerProblem"]):
    """Logistic regression, trained on draws of its own; its curves are named by where they read."""

    name, subjects, kind, usual = "probes", (CONDITIONAL, SAMPLER), "lower bound", (SAMPLER,)
    help = "linear ones, on noisy values and on the network's features: lower bounds too"

    def refusal(self, subject: Any) -> str:
        return ""

    def jobs(self, problem: ModelProblem | SamplerProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.networks import ProbeJob
        from sigmascope.information.probes import HasFeatures

        read = problem.model if isinstance(problem.model, HasFeatures) else None
        places = ("noisy",) if read is None else ("noisy", "features")
        train: list[Any] = []

        def make(where: str) -> ProbeJob:
            if not train:
                train.append(problem.train())
            return ProbeJob(read, train[0], problem.test, problem.sigma, problem.attributes, where, problem.seed)

        return {f"probes:{w}": problem.job(f"probes:{w}", lambda w=w: make(w)) for w in places}  # type: ignore[misc]

    def cost(self, problem: ModelProblem | SamplerProblem) -> tuple[str, str] | None:
        return None

    def curves(self, problem: ModelProblem | SamplerProblem, done: Mapping[str, Any]) -> list[Curve]:
        return [job.curve(a) for key, job in done.items() if key.startswith("probes:") for a in problem.attributes]
