"""The problems of each kind of subject, and protocols for what they need of a subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, Draws, Gap, HasAllPosteriors, LabelledData, RealAttribute
from sigmascope.exact.features import Feature
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.reals import RealPosterior
from sigmascope.information.adaptive import GapJob
from sigmascope.information.forks import LabelChildren
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.forking import Descent
from sigmascope.information.problem import Problem, part


@runtime_checkable
class PosteriorJob(Job, Protocol):
    """Posteriors of all draws at all nodes of a problem, and their gaps where an estimator needs them."""

    def log_posterior(self, name: str) -> Float[Tensor, "nodes draws values"]:
        """ln p(a | y); a finite set has one more row, the limit sigma → 0."""

    def gap(self, name: str) -> Gap:
        """The gaps of all draws."""


@runtime_checkable
class RealsJob(Job, Protocol):
    """What the noisy values of all draws say of real-valued attributes, at the levels of a study."""

    def real(self, name: str) -> RealPosterior:
        """Of one attribute; the last level is the limit sigma → 0."""


@runtime_checkable
class PathsJob(Job, Protocol):
    """Filters along Markov paths of all draws."""

    def log_q(self, name: str) -> tuple[Tensor, Tensor]:
        """ln q along the paths, by single and by double steps, each of shape (nodes, draws, values)."""


@runtime_checkable
class ExactLaw(Protocol):
    """A law whose posterior is known."""

    def posteriors(self, problem: ExactProblem) -> PosteriorJob:
        """The pass for posteriors, which holds gaps where an estimator of the problem needs them."""

    def reals(self, problem: ExactProblem) -> RealsJob:
        """The pass for real-valued attributes at the levels of the study."""

    def paths(self, problem: ExactProblem) -> PathsJob:
        """The filters along paths."""


@dataclass(eq=False, kw_only=True)
class ExactProblem(Problem[ExactLaw]):
    """The problem of a law that is known exactly."""

    nodes: Float[np.ndarray, " nodes"]  # levels of the study, and between and above them those that an integral needs
    at: Int64[np.ndarray, " levels"]  # where among the nodes the levels of the study are
    children: int = 0  # of each draw, for forks
    pairs: bool = False  # whether pairs of attributes are studied, too
    real_attributes: tuple[RealAttribute, ...] = ()
    chain: tuple[Attribute, ...] = ()  # attributes of which each is studied given those before it, too

    def on_levels(self, curve: Curve) -> Curve:
        """A curve over the nodes, read at the levels of the study."""
        return curve.at_levels(self.at)


@dataclass(eq=False, kw_only=True)
class PopulationProblem(Problem[LabelledData]):
    """The problem of the population that items come from; the draws are items, held out."""

    denoiser: Denoiser  # the exact filter of all items


@dataclass(eq=False, kw_only=True)
class PictureProblem(Problem[LabelledData]):
    """The problem of features of pictures."""

    features: tuple[Feature, ...]
    denoiser: FiniteDenoiser  # the exact filter of the pictures


@dataclass(eq=False, kw_only=True)
class ModelProblem(Problem[Any]):
    """The problem of a network that can be conditioned on attributes."""

    model: Denoiser
    classifier: HasAllPosteriors | None  # of noisy values
    data: Any  # that it is measured on
    tested: int  # curves are of the first so many draws; temperatures and choices are made on the others
    null: Attribute | None  # the spare attribute of random labels, if the network was trained with one
    train: Callable[[], Draws]  # makes draws to train probes on
    gap_job: Callable[[], GapJob]  # makes the job that measures gaps
    scale: float  # square root of the trace of the data's covariance
    highest: float  # the largest noise level that the network was trained on; infinity: there is none
    begins_at: float  # the level at which its generations begin
    unconditional_calls: int = 1  # network calls of an unconditional output
    real_attributes: tuple[RealAttribute, ...] = ()
    aim: str = ""  # how many calls are made for the gaps, in words

    @property
    def with_null(self) -> tuple[Attribute, ...]:
        """The attributes studied, and the null."""
        return self.attributes if self.null is None else (*self.attributes, self.null)

    @property
    def studied(self) -> tuple[Attribute | RealAttribute, ...]:
        """The attributes studied, in the order of results."""
        return (*self.attributes, *self.real_attributes)

    @property
    def test(self) -> Draws:
        """The draws of the curves."""
        return part(self.draws, slice(0, self.tested))


@dataclass(eq=False, kw_only=True)
class SamplerProblem(Problem[Any]):
    """The problem of an unconditional network."""

    model: Denoiser
    data: LabelledData
    train: Callable[[], Draws]  # makes draws to train probes on
    label: LabelChildren
    draws_are_items: bool  # then the labels of children must not be read off the item of their parent
    down: Descent  # levels of continuations
    children: int  # of each draw
    top: float  # the level at which its generations begin
    unconditional_calls: int = 1  # network calls of one output
    classifier: HasAllPosteriors | None = None  # of noisy values
    fit: Draws | None = None  # draws outside the curves, on which the temperature of the classifier is chosen

    @property
    def calls_of_forks(self) -> int:
        """Network calls for the children of all draws, about: two a step, over half of the steps on average."""
        return len(self.draws) * len(self.sigma) * self.children * self.down.steps * self.unconditional_calls

    @property
    def test(self) -> Draws:
        """The draws of the curves."""
        return self.draws
