"""The jobs of laws that are known exactly: a finite set, or any denoiser that has a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

import sigmascope.information.estimators  # noqa: F401  (registers the built-in ones)
from sigmascope.core import Curve, Denoiser, Draws, HasAllPosteriors, HasPosterior, InputError
from sigmascope.data import noisy_numbers
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.sketch import Sketch
from sigmascope.information.estimator import EXACT, Estimator, named
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.levels import FinitePathJob, LevelJob, PathJob
from sigmascope.information.jobs.passes import Collected, sketch_of
from sigmascope.information.problems import ExactLaw, ExactProblem

FEW_VALUES = 16
"""Most values over which the score gap is averaged where each costs a denoising; else the drawn value alone is used."""


class FiniteLaw:
    """A finite set, by its exact filter: one pass over the items serves all draws, levels and attributes."""

    def __init__(self, denoiser: FiniteDenoiser) -> None:
        self.denoiser = denoiser
        self._sketches: dict[int, Sketch] = {}  # by seed: both passes of a problem use the same directions

    def _sketch(self, problem: ExactProblem) -> Sketch:
        if problem.seed not in self._sketches:
            self._sketches[problem.seed] = sketch_of(self.denoiser.data, problem.seed)
        return self._sketches[problem.seed]

    def posteriors(self, problem: ExactProblem) -> Collected:
        """The pass for posteriors, with gaps where an estimator of the problem needs them."""
        p, sketch = problem, self._sketch(problem) if problem.needs("gaps") else None
        noisy = self._noisy(p) if self._together(p) else {}
        return p.job("posteriors", lambda: Collected(self.denoiser, p.draws, p.nodes, sketch, noisy))

    def reals(self, problem: ExactProblem) -> Collected:
        """The pass for real-valued attributes: that for posteriors, or one of its own where that has gaps."""
        if self._together(problem):
            return self.posteriors(problem)
        p, alone = problem, replace(self.denoiser.data, attributes=(), labels={})

        def make() -> Collected:
            denoiser = FiniteDenoiser(alone, self.denoiser.centre.device)
            return Collected(denoiser, p.draws, p.sigma, None, self._noisy(p))

        return p.job("reals", make)

    def _together(self, problem: ExactProblem) -> bool:
        """Whether one pass serves both kinds of attributes: without gaps, and at the levels of the study alone."""
        return not problem.needs("gaps") and np.array_equal(problem.nodes, problem.sigma)

    def _noisy(self, problem: ExactProblem) -> dict[str, Tensor]:
        noisy = noisy_numbers(self.denoiser.data, problem.draws.items, problem.seed)
        return {a.name: noisy[a.name] for a in problem.real_attributes}

    def paths(self, problem: ExactProblem) -> FinitePathJob:
        """The filters along paths."""
        p, sketch = problem, self._sketch(problem)
        return p.job("paths", lambda: FinitePathJob(self.denoiser, p.draws, p.nodes, sketch, p.seed))


class DenoiserLaw:
    """Any exact denoiser that has a posterior, called at every draw and level."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def posteriors(self, problem: ExactProblem) -> LevelJob:
        """Posteriors level by level, with gaps where an estimator of the problem needs them."""
        p, few = problem, max(len(a.values) for a in problem.attributes) <= FEW_VALUES

        def make() -> LevelJob:
            return LevelJob(self.denoiser, p.draws, p.nodes, p.attributes, p.needs("gaps"), average=few)

        return p.job("posteriors", make)

    def reals(self, problem: ExactProblem) -> Collected:
        """Raises InputError: such a law has no items with numbers."""
        raise InputError("real-valued attributes are of the items of a finite set: leave them out for this law")

    def paths(self, problem: ExactProblem) -> PathJob:
        """The filters along paths."""
        p = problem
        return p.job("paths", lambda: PathJob(self.denoiser, p.draws, p.nodes, p.attributes, p.seed))


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
        sigma: decreasing levels; where an estimator integrates, in steps of ln sigma of 0.3 or less, from a level at
            which little is known.
        attributes, estimators: names.
        seed: of the noise of paths, of sketches, and of the labels of children.
        children: of each draw, for ``forks``.

    Raises: InputError for an unknown attribute or estimator.
    """
    by_name = {a.name: a for a in denoiser.attributes}
    missing = [n for n in attributes if n not in by_name]
    if missing or not isinstance(denoiser, (HasPosterior, HasAllPosteriors)):
        name = (missing or list(attributes))[0]
        raise InputError(f"a {type(denoiser).__name__} has no posterior of {name!r}: measure an exact denoiser")
    return ExactProblem(
        subject=law_of(denoiser), attributes=tuple(by_name[n] for n in attributes), draws=draws, sigma=sigma, seed=seed,
        estimators=tuple(named(e, EXACT) for e in estimators), nodes=sigma, at=np.arange(len(sigma)), children=children,
    )  # fmt: skip


def measure(problem: ExactProblem) -> list[Curve]:
    """The curves of every estimator of a problem, once its jobs are done, one after the other."""
    estimators = [e for e in problem.estimators if isinstance(e, Estimator)]
    jobs: dict[str, Job] = {}
    for e in estimators:
        jobs |= e.jobs(problem)
    for job in jobs.values():
        while not job.done:
            job.step()
    return [c for e in estimators for c in e.curves(problem, jobs)]
