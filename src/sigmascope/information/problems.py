"""The problems of each kind of subject, and what a subject must be able to do for them, as protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, Draws, Gap, HasAllPosteriors, LabelledData
from sigmascope.information.adaptive import GapJob
from sigmascope.information.forks import LabelChildren
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.forking import Descent
from sigmascope.information.problem import Problem, part


@runtime_checkable
class PosteriorJob(Job, Protocol):
    """Posteriors of all draws at all nodes of a problem, and their gaps where they are asked for."""

    def log_posterior(self, name: str) -> Float[Tensor, "nodes draws values"]:
        """ln p(a | y); a finite set has one more row, its limit at sigma → 0."""

    def gap(self, name: str) -> Gap:
        """The gaps of all draws."""


@runtime_checkable
class PathsJob(Job, Protocol):
    """Filters along Markov paths of all draws."""

    def log_q(self, name: str) -> tuple[Tensor, Tensor]:
        """ln q along the paths, and its coarser twin, each of shape (nodes, draws, values)."""


@runtime_checkable
class ExactLaw(Protocol):
    """A law whose posterior is known."""

    def posteriors(self, problem: ExactProblem) -> PosteriorJob:
        """The pass for posteriors, which holds gaps where an estimator of the problem needs them."""

    def paths(self, problem: ExactProblem) -> PathsJob:
        """The filters along paths."""


@dataclass(eq=False, kw_only=True)
class ExactProblem(Problem[ExactLaw]):
    """Of a law that is known exactly.

    Args:
        nodes: levels to work at: those of the study, and others between and above them where an integral asks for it.
        at: where among the nodes the levels of the study are.
        children: of each draw, for forks.
        pairs: whether pairs of attributes are studied, too.
    """

    nodes: Float[np.ndarray, " nodes"]
    at: Int64[np.ndarray, " levels"]
    children: int = 0
    pairs: bool = False

    def on_levels(self, curve: Curve) -> Curve:
        """A curve over the nodes at the levels of the study."""
        return curve.at_levels(self.at)


@dataclass(eq=False, kw_only=True)
class PopulationProblem(Problem[LabelledData]):
    """Of the population that items come from: the draws are items, held out.

    Args:
        denoiser: the exact filter of all items.
    """

    denoiser: Denoiser


@dataclass(eq=False, kw_only=True)
class ModelProblem(Problem[Any]):
    """Of a network that can be told attributes.

    Args:
        model: the network.
        classifier: of noisy values, if there is one.
        data: what it is measured on.
        tested: how many draws, from the first on, curves are of; temperatures and choices are made on the others.
        null: the spare attribute of random labels, if the network was told one.
        train: makes draws to train probes on.
        gap_job: makes the job that measures gaps.
        scale: square root of the trace of the data's covariance.
        highest: the largest noise level that the network knows; infinity: there is none.
        begins_at: the level at which its generations begin.
        unconditional_calls: network calls of an answer without knowledge.
        aim: how many calls are made for the gaps, in words.
    """

    model: Denoiser
    classifier: HasAllPosteriors | None
    data: Any
    tested: int
    null: Attribute | None
    train: Callable[[], Draws]
    gap_job: Callable[[], GapJob]
    scale: float
    highest: float
    begins_at: float
    unconditional_calls: int = 1
    aim: str = ""

    @property
    def with_null(self) -> tuple[Attribute, ...]:
        """The attributes that the network is told: those studied, and the null."""
        return self.attributes if self.null is None else (*self.attributes, self.null)

    @property
    def test(self) -> Draws:
        """The draws that curves are of."""
        return part(self.draws, slice(0, self.tested))


@dataclass(eq=False, kw_only=True)
class SamplerProblem(Problem[Any]):
    """Of a network that is told nothing.

    Args:
        model: the network.
        data: images, labelled.
        train: makes draws to train probes on.
        label: labels of clean values, given the items that their parents are.
        draws_are_items: whether the draws are items of the data, whose own labels the children's must not be read off.
        down: how continuations go down.
        children: of each draw.
        top: the level at which its generations begin.
        unconditional_calls: network calls of an answer.
    """

    model: Denoiser
    data: LabelledData
    train: Callable[[], Draws]
    label: LabelChildren
    draws_are_items: bool
    down: Descent
    children: int
    top: float
    unconditional_calls: int = 1

    @property
    def calls_of_forks(self) -> int:
        """Network calls of the children of all draws, about: two a step, of half the way on average."""
        return len(self.draws) * len(self.sigma) * self.children * self.down.steps * self.unconditional_calls

    @property
    def test(self) -> Draws:
        """The draws that curves are of."""
        return self.draws
