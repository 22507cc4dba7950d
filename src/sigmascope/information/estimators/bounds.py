r"""Lower bounds :math:`E[\ln q(A \mid y) - \ln p(A)]`, from posteriors q that a network gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, EXACT, SAMPLER, Estimator, Facts

if TYPE_CHECKING:
    from torch import Tensor

    from sigmascope.core import Attribute, Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.jobs.networks import ClassifierJob
    from sigmascope.information.problems import ExactProblem, ModelProblem, SamplerProblem


class Filter(Estimator["ExactProblem"]):
    """The filter along one path of falling noise, by an exact denoiser."""

    name, subjects, kind, integrates = "filter", (EXACT,), "lower bound", True
    words = (
        "filter: a lower bound by a filter that follows one path of falling noise and uses denoisers alone. Its band "
        "includes what the steps lose."
    )
    help = "a lower bound, by far the slowest"
    facts = Facts(
        needs="an exact denoiser",
        bias="downward: finite steps along the path lose information",
        cost="a posterior mean of every value for every draw and level, one level after the other",
    )

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        return {"paths": problem.subject.paths(problem)}

    def curves(self, problem: ExactProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.path import path_bound

        curves, labels = [], problem.draws.labels
        for a in problem.attributes:
            fine, coarse = done["paths"].log_q(a.name)
            curves.append(problem.on_levels(path_bound(a, problem.nodes, fine, coarse, labels[a.name])))
        return curves


class BoundOfModel(Estimator["ModelProblem"]):
    """A posterior q of every draw, with a temperature that is fitted on draws outside the curves.

    Its curves are of all draws of the problem, and of the null attribute too; :class:`~.joining.Joining` separates the
    draws.
    """

    subjects, kind, columns = (CONDITIONAL,), "lower bound", "all"

    def attributes(self, problem: ModelProblem) -> Sequence[Attribute]:
        """Those that it bounds."""
        return problem.with_null

    @abstractmethod
    def log_q(self, job: Any, name: str) -> Tensor:
        """ln q(a | y) from its job, which need not be normalised, shape (levels, draws, values)."""

    def curves(self, problem: ModelProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.core import Curve
        from sigmascope.information.likelihood import tempered

        curves, sigma, n = [], problem.sigma, problem.tested
        for a in self.attributes(problem):
            q, own = self.log_q(done[self.name], a.name), problem.draws.labels[a.name]
            per_draw = tempered(a, sigma, q[:, n:], own[n:], q, own).per_draw
            curves.append(Curve.of_draws(a.name, self.name, sigma, per_draw, a.entropy, kind="lower bound"))
        return curves


class FilterOfModel(BoundOfModel):
    """The posterior that the network's denoisers give along one path."""

    name, colour, usual, controls = "filter", 3, (CONDITIONAL,), "paths"
    words = (
        "filter: a lower bound whatever the network's error, from the posterior that its conditional outputs give "
        "along one path of falling noise."
    )
    help = "a lower bound whatever the network's error"
    facts = Facts(
        needs="a network that can be conditional on every value",
        bias="downward: finite steps and the network's error lose information",
        cost="a network call for every value, draw and level",
    )

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.levels import PathJob

        p = problem
        return {self.name: p.job(self.name, lambda: PathJob(p.model, p.draws, p.sigma, p.with_null, p.seed))}

    def network_calls(self, problem: ModelProblem) -> int:
        return _calls_of_every_value(problem)

    def cost(self, problem: ModelProblem) -> tuple[str, str] | None:
        return self.name, f"{self.network_calls(problem):,} network calls"

    def log_q(self, job: Any, name: str) -> Tensor:
        q: Tensor = job.log_q(name)[0]
        return q


class _OneJob(BoundOfModel):
    """A bound whose job gives ln q itself."""

    def log_q(self, job: Any, name: str) -> Tensor:
        q: Tensor = job.log_q(name)
        return q


class Likelihood(_OneJob):
    """The posterior from the network's denoising errors at further noise."""

    name, colour = "likelihood", 5
    words = (
        "likelihood: a lower bound whatever the network's error, from how well its conditional outputs predict the "
        "noisy image back from more noise."
    )
    help = "a second bound of this kind"
    facts = Facts(
        needs="a network that can be conditional on every value",
        bias="downward: the network's error loses information",
        cost="twelve network calls for every value, draw and level",
    )

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        from sigmascope.information.jobs.networks import LikelihoodJob

        p = problem

        def make() -> LikelihoodJob:
            return LikelihoodJob(p.model, p.draws, p.sigma, p.with_null, p.scale, p.highest, p.seed)

        return {self.name: p.job(self.name, make)}

    def network_calls(self, problem: ModelProblem) -> int:
        return 12 * _calls_of_every_value(problem)

    def cost(self, problem: ModelProblem) -> tuple[str, str] | None:
        return self.name, f"{self.network_calls(problem):,} network calls"


class Classifier(_OneJob):
    """A classifier of noisy values that was trained along with the network."""

    name, colour, usual = "classifier", 4, (CONDITIONAL,)
    words = (
        "classifier: a lower bound by a second network, a classifier of noisy images that was trained with the first."
    )
    help = "a lower bound by a second network"
    facts = Facts(
        needs="a classifier of noisy images: of sigmascope train, or of --classifier-steps",
        bias="downward: a classifier that is not the best one loses information",
        cost="a call of the classifier for each draw and level, after its training",
    )

    def refusal(self, subject: Any) -> str:
        return _without_classifier(subject)

    def attributes(self, problem: ModelProblem) -> Sequence[Attribute]:
        return classified_attributes(problem)

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        return {self.name: problem.job(self.name, lambda: classifier_job(problem))}


class ClassifierOfSampler(Estimator["SamplerProblem"]):
    """A classifier of noisy values that was trained for the study, beside continuations of a network."""

    name, subjects, kind, colour = Classifier.name, (SAMPLER,), "lower bound", 3
    words = (
        "classifier: a lower bound by a classifier of noisy images that was trained on labelled items outside the "
        "study. It holds whatever the model."
    )
    help = "with --classifier-steps"
    label, called = "classifier (bound)", "the classifier of the data"
    facts = Facts(
        needs="labelled items, four fifths of which train the classifier, by --classifier-steps",
        bias="downward: a classifier that is not the best one loses information",
        cost="a call of the classifier for each draw and level, after its training",
    )

    def refusal(self, subject: Any) -> str:
        return _without_classifier(subject)

    def jobs(self, problem: SamplerProblem) -> Mapping[str, Job]:
        return {self.name: problem.job(self.name, lambda: _job_of_sampler(problem))}

    def cost(self, problem: SamplerProblem) -> tuple[str, str] | None:
        rows = len(problem.draws) + (0 if problem.fit is None else len(problem.fit))
        return self.name, f"{rows * len(problem.sigma):,} calls"

    def curves(self, problem: SamplerProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.core import Curve
        from sigmascope.information.likelihood import tempered

        curves, n, fit = [], len(problem.draws), problem.fit
        assert fit is not None
        for a in problem.attributes:
            q, own = done[self.name].log_q(a.name), problem.draws.labels[a.name]
            per_draw = tempered(a, problem.sigma, q[:, n:], fit.labels[a.name], q[:, :n], own).per_draw
            curves.append(Curve.of_draws(a.name, self.name, problem.sigma, per_draw, a.entropy, kind="lower bound"))
        return curves


def _without_classifier(subject: Any) -> str:
    """Why a subject cannot be measured by a classifier; empty where it can."""
    return "" if getattr(subject, "classifier", None) is not None else "it has no classifier of noisy images"


def _job_of_sampler(problem: SamplerProblem) -> ClassifierJob:
    """The posteriors of the problem's classifier for its draws, and after them those that it is fitted on."""
    from sigmascope.information.jobs.networks import ClassifierJob
    from sigmascope.information.problem import joined

    assert problem.classifier is not None
    assert problem.fit is not None
    return ClassifierJob(problem.classifier, joined(problem.draws, problem.fit), problem.sigma, problem.attributes)


def classified_attributes(problem: ModelProblem) -> list[Attribute]:
    """Attributes of a problem that its classifier gives posteriors of."""
    known = {a.name for a in getattr(problem.classifier, "attributes", ())}
    return [a for a in problem.with_null if a.name in known]


def classifier_job(problem: ModelProblem) -> ClassifierJob:
    """The posteriors of the problem's classifier for all its draws."""
    from sigmascope.information.jobs.networks import ClassifierJob

    assert problem.classifier is not None
    return ClassifierJob(problem.classifier, problem.draws, problem.sigma, classified_attributes(problem))


def _calls_of_every_value(problem: ModelProblem) -> int:
    """Network calls that condition on each value of every attribute once, for all draws and levels."""
    return len(problem.draws) * len(problem.sigma) * sum(len(a.values) for a in problem.with_null)
