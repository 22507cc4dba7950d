"""The bootstrap particle filter, for any system."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.filtering.filters import Filter
from sigmascope.filtering.systems import System, feedback_gain


class WeightsVanished(ArithmeticError):
    """The weights of all particles of a path are zero."""


class ParticleState(NamedTuple):
    """Particles of each path, their normalised log weights, the measurement and the log evidence."""

    particles: Tensor
    log_weight: Float[Tensor, "paths particles"]
    y: Float[Tensor, "paths dim"]
    log_evidence: Float[Tensor, " paths"]


class ParticleFilter(Filter[ParticleState]):
    r"""Particles that follow the state's own dynamics, weighed by the measurements.

    .. math:: w \leftarrow w\, e^{H(Y_t, x_t) \cdot dY - \frac12 \|H\|^2 dt}

    Particles are resampled, systematically, on the paths whose effective sample size has fallen below ``threshold``
    times their number.  Resampling makes no new values of a static state: use an exact filter or many particles.

    Args:
        system: a system with uncorrelated noises.
        particles: for each path.
        generator: of the particles; it advances with every step.
        threshold: share of the particles, in [0, 1]; 0 never resamples (importance sampling).
        finite_states: number of states where the system is finite, so that the mean is a vector of probabilities.

    Errors: of order particles^-1/2, and one in the step (½ for a feedback of several coordinates that is no
        gradient).  The evidence is unbiased (not its logarithm).
    Raises: ValueError for correlated noises; WeightsVanished where all weights of a path are zero.
    References: Gordon, Salmond & Smith (1993); Kitagawa (1996); Crisan & Lyons (1999).
    """

    def __init__(
        self, system: System, particles: int, generator: torch.Generator, threshold: float = 0.5, finite_states: int = 0
    ) -> None:
        if particles < 2:
            raise ValueError(f"particles is {particles}: at least 2 are needed")
        if not 0.0 <= threshold <= 1.0:
            raise ValueError(f"threshold is {threshold:g}: expected a share of the particles, between 0 and 1")
        if system.correlated:
            raise ValueError(
                "the noises of state and measurement are correlated: particles that move by the state's own law "
                "are then no filter; use KalmanBucyFilter"
            )
        self.system = system
        self._count, self._generator, self._threshold = particles, generator, threshold
        self._states = finite_states
        self.watched = {"effective_sample_size": self.effective_sample_size}

    def init(self, y0: Float[Tensor, "paths dim"]) -> ParticleState:
        drawn = self.system.initial(len(y0) * self._count, self._generator)
        particles = drawn.reshape(len(y0), self._count, *drawn.shape[1:]).to(y0.device)
        weight = self.system.start_log_density(y0[:, None], particles) - math.log(self._count)
        return self._weighed(particles, weight, y0, y0.new_zeros(len(y0)), 0.0)

    def step(self, state: ParticleState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> ParticleState:
        state = self._resampled(state)
        h = self.system.drift(state.y[:, None], state.particles, t)
        weight = state.log_weight + (h * dy[:, None]).sum(-1) - 0.5 * dt * (h**2).sum(-1)
        if self.system.feeds_back:
            drift = partial(self.system.drift, state=state.particles, t=t)
            weight = weight + feedback_gain(drift, h, state.y[:, None], dy[:, None], dt)
        particles = self.system.propagate(state.particles, t, dt, self._generator)
        return self._weighed(particles, weight, state.y + dy, state.log_evidence, t + dt)

    def _weighed(self, particles: Tensor, weight: Tensor, y: Tensor, evidence: Tensor, t: float) -> ParticleState:
        gain = torch.logsumexp(weight, 1)
        lost = ~torch.isfinite(gain)
        if bool(lost.any()):
            raise WeightsVanished(
                f"all weights of path {int(lost.nonzero()[0])} vanished at t = {t:g}: use more particles, smaller "
                "steps, or check that the measurements are of this system"
            )
        return ParticleState(particles, weight - gain[:, None], y, evidence + gain)

    def _resampled(self, state: ParticleState) -> ParticleState:
        few = self.effective_sample_size(state) < self._threshold * self._count
        if not bool(few.any()):
            return state
        weight = state.log_weight[few].exp()
        offset = torch.rand(len(weight), 1, generator=self._generator, dtype=torch.float64).to(weight.device)
        ladder = (torch.arange(self._count, device=weight.device) + offset) / self._count
        total = weight.cumsum(1)
        index = torch.searchsorted(total / total[:, -1:], ladder).clamp_max(self._count - 1)
        kept = state.particles[few]
        shape = index.reshape(*index.shape, *(1,) * (kept.ndim - 2))
        particles, log_weight = state.particles.clone(), state.log_weight.clone()
        particles[few] = torch.take_along_dim(kept, shape.expand(*index.shape, *kept.shape[2:]), dim=1)
        log_weight[few] = -math.log(self._count)
        return state._replace(particles=particles, log_weight=log_weight)

    def effective_sample_size(self, state: ParticleState) -> Float[Tensor, " paths"]:
        """1 / Σ w², between 1 and the number of particles."""
        return torch.exp(-torch.logsumexp(2.0 * state.log_weight, 1))

    def mean(self, state: ParticleState) -> Tensor:
        weight = state.log_weight.exp()
        if self._states:
            return weight.new_zeros(len(weight), self._states).scatter_add_(1, state.particles, weight)
        return (weight[:, None] @ state.particles)[:, 0]

    def drift(self, state: ParticleState, t: float) -> Float[Tensor, "paths dim"]:
        h = self.system.drift(state.y[:, None], state.particles, t)
        return (state.log_weight.exp()[:, None] @ h)[:, 0]
