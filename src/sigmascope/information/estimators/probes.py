"""Linear probes on noisy values, and on a network's features of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, SAMPLER, Estimator, Facts

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import ModelProblem, SamplerProblem


class Probes(Estimator["ModelProblem | SamplerProblem"]):
    """Logistic regression, trained on draws of its own; its curves are named by what they read."""

    name, subjects, kind, usual = "probes", (CONDITIONAL, SAMPLER), "lower bound", (SAMPLER,)
    help = "linear classifiers of noisy values and of the network's features: lower bounds too"
    facts = Facts(
        needs="labelled data; for probes of features a network whose blocks can be read",
        bias="downward: only what a linear classifier can use is counted",
        cost="a regression for each level, and a network call for each draw and level for the features",
    )

    def jobs(self, problem: ModelProblem | SamplerProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.networks import ProbeJob
        from sigmascope.information.probes import HasFeatures

        p, train = problem, cache(problem.train)
        if not p.attributes:  # only real-valued ones are studied
            return {}
        network = p.model if isinstance(p.model, HasFeatures) else None

        def make(where: str) -> ProbeJob:
            return ProbeJob(network, train(), p.test, p.sigma, p.attributes, where, p.seed)

        places = ("noisy",) if network is None else ("noisy", "features")
        return {f"probes:{where}": p.job(f"probes:{where}", partial(make, where)) for where in places}

    def curves(self, problem: ModelProblem | SamplerProblem, done: Mapping[str, Any]) -> list[Curve]:
        return [job.curve(a) for key, job in done.items() if key.startswith("probes:") for a in problem.attributes]
