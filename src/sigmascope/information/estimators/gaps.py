"""Gaps between conditional and unconditional denoisers, integrated over the levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigmascope.information.estimator import CONDITIONAL, EXACT, Estimator, Facts
from sigmascope.information.estimators.posterior import POSTERIORS, FromPosteriors

if TYPE_CHECKING:
    from sigmascope.core import Curve
    from sigmascope.information.jobs import Job
    from sigmascope.information.problems import ExactProblem, ModelProblem

GAPS = "gaps"
"""Key of the job that measures the gaps of a model."""


class _OfLaw(FromPosteriors):
    kind, integrates, needs = "estimate", True, frozenset({"gaps"})

    def curves(self, problem: ExactProblem, done: Mapping[str, Any]) -> list[Curve]:
        from sigmascope.information.gaps import GAPS as FORMULAS

        job, formula = done[POSTERIORS], FORMULAS[self.name]
        return [problem.on_levels(formula(a, problem.nodes, job.gap(a.name))) for a in problem.attributes]


class ScoreGap(_OfLaw):
    r""":math:`\int E\|D_A - D\|^2 / \sigma'^2\, d\ln\sigma'`, the paper's measure."""

    name, usual = "score_gap", (EXACT,)
    help = "the paper's measure, from the denoisers with and without the attribute"
    words = (
        "score_gap (the paper's measure): the mean squared difference between the denoiser that is given the attribute "
        "and the one that is not, over σ², integrated over ln σ."
    )
    facts = Facts(
        needs="a finite set of items, or a hierarchy",
        bias="none beyond the integral over levels, whose error is in its interval",
        cost="posterior means of every value, for every draw and level",
    )


class MmseGap(_OfLaw):
    r""":math:`\int (E\|V - D\|^2 - E\|V - D_A\|^2) / \sigma'^2\, d\ln\sigma'`."""

    name = "mmse_gap"
    words = "mmse_gap: the same integral of how much smaller the squared error of the first is."
    facts = Facts(
        needs="a finite set of items, or a hierarchy",
        bias="none beyond the integral over levels, whose error is in its interval; its draws scatter more",
        cost="shared with score_gap",
    )


class _OfModel(Estimator["ModelProblem"]):
    subjects, kind, usual, columns, measures_reals = (CONDITIONAL,), "estimate", (CONDITIONAL,), "own", True
    help = "an estimate that the network's error can bias"

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        return {GAPS: problem.job(GAPS, problem.gap_job)}

    def cost(self, problem: ModelProblem) -> tuple[str, str] | None:
        return "gaps", problem.aim

    def curves(self, problem: ModelProblem, done: Mapping[str, Any]) -> list[Curve]:
        measured = done[GAPS].curves()
        return [getattr(measured[a.name], self.name) for a in problem.studied]


class ScoreGapOfModel(_OfModel):
    """The paper's measure of a network."""

    name, colour = "score_gap", 1
    called = "the score gap"
    words = (
        "score_gap (the paper's measure): the mean squared difference between the network's outputs with and without "
        "the attribute, over σ², integrated over ln σ. The network's error can bias it in either direction."
    )
    facts = Facts(
        needs="a network that can be conditional on the attribute and unconditional",
        bias="either direction: upward where the unconditional output ignores what the image shows, downward where the "
        "network ignores its condition",
        cost="two network calls for each draw and level",
    )


class MmseGapOfModel(_OfModel):
    """The same in squared errors."""

    name, colour = "mmse_gap", 2
    called = "the gap of squared errors"
    words = (
        "mmse_gap: the same integral of how much smaller the network's squared error is when it is given the "
        "attribute. The network's error can bias it, too."
    )
    facts = Facts(
        needs="a network that can be conditional on the attribute and unconditional",
        bias="either direction: downward where the conditional output is worse than it could be, upward where the "
        "unconditional one is",
        cost="shared with score_gap; more draws for the same error",
    )
