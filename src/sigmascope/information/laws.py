"""Laws that are known exactly, as estimators see them: a finite set, or any denoiser that has a posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

import sigmascope.information.estimators  # noqa: F401  (registers the built-in ones)
from sigmascope.core import Curve, Denoiser, Draws, HasAllPosteriors, HasPosterior, InputError
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.sketch import Sketch
from sigmascope.information.estimator import EXACT, Estimator, named
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.levels import FinitePathJob, LevelJob, PathJob
from sigmascope.information.jobs.passes import Collected, sketch_of
from sigmascope.information.problems import ExactLaw, ExactProblem

FEW_VALUES = 16
"""Values of an attribute of a law whose posterior costs a denoising each: of more the gap is that of the drawn one."""


class FiniteLaw:
    """A finite set: one pass over its items serves all draws, levels and attributes.

    Args:
        denoiser: its exact filter.
    """

    def __init__(self, denoiser: FiniteDenoiser) -> None:
        self.denoiser = denoiser
        self._sketches: dict[int, Sketch] = {}  # by seed: both passes of a problem look along the same directions

    def _sketch(self, problem: ExactProblem) -> Sketch:
        if problem.seed not in self._sketches:
            self._sketches[problem.seed] = sketch_of(self.denoiser.data, problem.seed)
        return self._sketches[problem.seed]

    def posteriors(self, problem: ExactProblem) -> Collected:
        """The pass for posteriors, which holds gaps where an estimator of the problem needs them."""

        def make() -> Collected:
            sketch = self._sketch(problem) if problem.needs("gaps") else None
            return Collected(self.denoiser, problem.draws, problem.nodes, sketch)

        return problem.job("posteriors", make)

    def paths(self, problem: ExactProblem) -> FinitePathJob:
        """The filters along paths."""

        def make() -> FinitePathJob:
            sketch = self._sketch(problem)
            return FinitePathJob(self.denoiser, problem.draws, problem.nodes, sketch, problem.seed)

        return problem.job("paths", make)


class DenoiserLaw:
    """Any denoiser that has a posterior, asked at every draw and level.

    Args:
        denoiser: exact.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def posteriors(self, problem: ExactProblem) -> LevelJob:
        """Posteriors level by level, with gaps where an estimator of the problem needs them."""

        def make() -> LevelJob:
            few = max(len(a.values) for a in problem.attributes) <= FEW_VALUES
            gaps = problem.needs("gaps")
            return LevelJob(self.denoiser, problem.draws, problem.nodes, problem.attributes, gaps, average=few)

        return problem.job("posteriors", make)

    def paths(self, problem: ExactProblem) -> PathJob:
        """The filters along paths."""

        def make() -> PathJob:
            return PathJob(self.denoiser, problem.draws, problem.nodes, problem.attributes, problem.seed)

        return problem.job("paths", make)


def law_of(denoiser: Denoiser) -> ExactLaw:
    """The law of an exact denoiser."""
    return FiniteLaw(denoiser) if isinstance(denoiser, FiniteDenoiser) else DenoiserLaw(denoiser)


def problem_of(
    denoiser: Denoiser,
    draws: Draws,
    sigma: Float[np.ndarray, " levels"],
    attributes: Sequence[str],
    estimators: Sequence[str],
    *,
    seed: int = 0,
    children: int = 64,
) -> ExactProblem:
    """The problem of an exact denoiser at given draws and levels.

    Args:
        denoiser: with a posterior.
        draws: with labels.
        sigma: decreasing levels; where an estimator integrates, near enough to each other (steps of ln sigma of 0.3 or
            less), from one at which little is known down.
        attributes: names of those to measure.
        estimators: names of those of an exact law.
        seed: of the noise of paths, of sketches, and of the labels of children.
        children: of each draw, for ``forks``.

    Raises: InputError for an attribute or an estimator that there is not.
    """
    of = {a.name: a for a in denoiser.attributes}
    missing = [n for n in attributes if n not in of]
    if missing or not isinstance(denoiser, (HasPosterior, HasAllPosteriors)):
        name = (missing or list(attributes))[0]
        raise InputError(f"a {type(denoiser).__name__} has no posterior of {name!r}: measure an exact denoiser")
    return ExactProblem(
        subject=law_of(denoiser), attributes=tuple(of[n] for n in attributes), draws=draws, sigma=sigma, seed=seed,
        estimators=tuple(named(e, EXACT) for e in estimators), nodes=sigma, at=np.arange(len(sigma)), children=children,
    )  # fmt: skip


def measure(problem: ExactProblem) -> list[Curve]:
    """The curves of every estimator of a problem, whose jobs are done one after the other.

    Args:
        problem: with its estimators.
    """
    estimators = [e for e in problem.estimators if isinstance(e, Estimator)]
    jobs: dict[str, Job] = {}
    for e in estimators:
        jobs |= e.jobs(problem)
    for job in jobs.values():
        while not job.done:
            job.step()
    return [c for e in estimators for c in e.curves(problem, jobs)]
