r"""Lower bounds :math:`E[\ln q(A \mid y) - \ln p(A)]`, from posteriors q that a network gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, EXACT, Estimator

if TYPE_CHECKING:
    from torch import Tensor

    from sigmascope.core import Attribute, Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.jobs.networks import ClassifierJob
    from sigmascope.information.problems import ExactProblem, ModelProblem


class Filter(Estimator["ExactProblem"]):
    """The filter carried along one path of falling noise, by an exact denoiser."""

    name, subjects, kind, integrates = "filter", (EXACT,), "lower bound", True
    words = (
        "filter: a lower bound, by the filter carried along one path of falling noise, on denoisers alone; what its "
        "steps lose is in its band."
    )
    help = "a lower bound, and the slowest by far"

    def refusal(self, subject: Any) -> str:
        return ""

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        return {"paths": problem.subject.paths(problem)}

    def cost(self, problem: ExactProblem) -> tuple[str, str] | None:
        return None

    def curves(self, problem: ExactProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.path import path_bound

        found, own = [], problem.draws.labels
        for a in problem.attributes:
            fine, rough = done["paths"].log_q(a.name)
            found.append(problem.on_levels(path_bound(a, problem.nodes, fine, rough, own[a.name])))
        return found


class BoundOfModel(Estimator["ModelProblem"]):
    """A posterior q of every draw, its temperature fitted on those that curves are not of.

    Its curves are of all draws of the problem, and of the null too: what joins them takes the two parts apart.
    """

    subjects, kind, columns = (CONDITIONAL,), "lower bound", "all"

    @abstractmethod
    def attributes(self, problem: ModelProblem) -> Sequence[Attribute]:
        """Those that it gives a bound of."""

    @abstractmethod
    def log_q(self, job: Any, name: str) -> Tensor:
        """ln q(a | y) from its job, which need not be normalised, shape (levels, draws, values)."""

    def curves(self, problem: ModelProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.core import Curve
        from sigmascope.information.likelihood import tempered

        found, sigma, n = [], problem.sigma, problem.tested
        for a in self.attributes(problem):
            q, own = self.log_q(done[self.name], a.name), problem.draws.labels[a.name]
            per_draw = tempered(a, sigma, q[:, n:], own[n:], q, own).per_draw
            found.append(Curve.of_draws(a.name, self.name, sigma, per_draw, a.entropy, kind="lower bound"))
        return found


class _OfNetwork(BoundOfModel):
    """By the network that is measured: of every attribute that is asked about."""

    def refusal(self, subject: Any) -> str:
        return ""

    def attributes(self, problem: ModelProblem) -> Sequence[Attribute]:
        return problem.with_null


class FilterOfModel(_OfNetwork):
    """The network's own posterior along one path."""

    name, colour, usual, controls = "filter", 3, (CONDITIONAL,), "paths"
    words = (
        "filter: the network's own posterior, carried along one path of falling noise. A lower bound whatever the "
        "network's error."
    )
    help = "a lower bound whatever its error"

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.levels import PathJob

        def make() -> PathJob:
            return PathJob(problem.model, problem.draws, problem.sigma, problem.with_null, problem.seed)

        return {self.name: problem.job(self.name, make)}

    def cost(self, problem: ModelProblem) -> tuple[str, str] | None:
        return self.name, f"{_told(problem):,} network calls"

    def log_q(self, job: Any, name: str) -> Tensor:
        q: Tensor = job.log_q(name)[0]
        return q


class Likelihood(_OfNetwork):
    """The network's own posterior from further noise."""

    name, colour = "likelihood", 5
    words = (
        "likelihood: the network's own posterior, from how well it predicts the noisy image back. A lower bound "
        "whatever its error."
    )
    help = "another lower bound whatever its error"

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.networks import LikelihoodJob

        def make() -> LikelihoodJob:
            return LikelihoodJob(
                problem.model,
                problem.draws,
                problem.sigma,
                problem.with_null,
                problem.scale,
                problem.highest,
                problem.seed,
            )

        return {self.name: problem.job(self.name, make)}

    def cost(self, problem: ModelProblem) -> tuple[str, str] | None:
        return self.name, f"{12 * _told(problem):,} network calls"

    def log_q(self, job: Any, name: str) -> Tensor:
        q: Tensor = job.log_q(name)
        return q


class Classifier(BoundOfModel):
    """A classifier of noisy values that was trained along with the network."""

    name, colour, usual = "classifier", 4, (CONDITIONAL,)
    words = (
        "classifier: a classifier of noisy images trained along. A lower bound, of what noisy images tell at least, by "
        "another network."
    )
    help = "a lower bound by another network"

    def refusal(self, subject: Any) -> str:
        return "" if getattr(subject, "classifier", None) is not None else "it has no classifier of noisy images"

    def attributes(self, problem: ModelProblem) -> Sequence[Attribute]:
        known = {a.name for a in getattr(problem.classifier, "attributes", ())}
        return [a for a in problem.with_null if a.name in known]

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        return {self.name: problem.job(self.name, lambda: classified(problem))}

    def cost(self, problem: ModelProblem) -> tuple[str, str] | None:
        return None  # what joins the curves asks it, too, and says how often

    def log_q(self, job: Any, name: str) -> Tensor:
        q: Tensor = job.log_q(name)
        return q


def classified(problem: ModelProblem) -> ClassifierJob:
    """What the classifier of a problem says of all its draws."""
    from sigmascope.information.jobs.networks import ClassifierJob

    assert problem.classifier is not None
    known = {a.name for a in getattr(problem.classifier, "attributes", ())}
    mine = [a for a in problem.with_null if a.name in known]
    return ClassifierJob(problem.classifier, problem.draws, problem.sigma, mine)


def _told(problem: ModelProblem) -> int:
    """Calls of a network that is told each value of every attribute once, for all draws and levels."""
    return len(problem.draws) * len(problem.sigma) * sum(len(a.values) for a in problem.with_null)
