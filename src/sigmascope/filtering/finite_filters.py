r"""Filters of a finite state: Wonham's, and the equations of Zakai and Kushner–Stratonovich.

.. math:: d\pi_t(x) = (Q^\top \pi_t)(x)\,dt + \pi_t(x)\,(H_x - \pi_t(H)) \cdot (dY_t - \pi_t(H)\,dt)
          \qquad\text{(Wonham; Kushner–Stratonovich)}

.. math:: d\rho_t(x) = (Q^\top \rho_t)(x)\,dt + \rho_t(x)\,H_x \cdot dY_t, \qquad \pi = \rho / \rho(1)
          \qquad\text{(Zakai)}

A diffusion in one dimension is filtered by them on a grid: see :func:`~sigmascope.filtering.diffusion.grid_system`.

References: Wonham (1965); Kushner (1967); Zakai (1969); Bain & Crisan (2009), §3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.filtering.filters import Filter
from sigmascope.filtering.finite import FiniteSystem
from sigmascope.filtering.systems import feedback_gain

_LEAST = 0.1  # Euler's factor 1 + z of a weight, below which the exponential that it stands for is taken
_EULER_RATE = 8.0  # times max ‖H_x - H_x'‖²: at the step that is then called coarse, 1 + z < 0 is four deviations away


class FiniteState(NamedTuple):
    """Log weights (normalised for Wonham and Kushner), probabilities, the measurement and the log evidence."""

    log_weight: Float[Tensor, "paths states"]
    mean: Float[Tensor, "paths states"]
    y: Float[Tensor, "paths dim"]
    log_evidence: Float[Tensor, " paths"]


class _FiniteFilter(Filter[FiniteState]):
    """The common part of the three filters.

    Args:
        system: the chain.
        prior: law of :math:`X_0` for each path, shape (paths, states), in place of the system's; it may hold
            knowledge of the state.
        scheme: ``log`` or ``euler``, of those that have both.
    """

    _normalised = True

    def __init__(self, system: FiniteSystem, prior: Tensor | None = None, scheme: str = "log") -> None:
        self.system: FiniteSystem = system
        p = system.prior[None] if prior is None else torch.as_tensor(prior).to(system.prior)
        if (
            p.ndim != 2
            or p.shape[1] != system.states
            or not bool((p >= 0).all())
            or not bool(((p.sum(1) - 1).abs() < 1e-6).all())
        ):
            raise ValueError(
                f"prior has shape {tuple(p.shape)}: expected (paths, {system.states}), rows of probabilities"
            )
        self._prior = p / p.sum(1, keepdim=True)
        if scheme not in ("log", "euler"):
            raise ValueError(f"scheme is {scheme!r}: expected 'log' or 'euler'")
        self._scheme = scheme
        if scheme == "euler":
            self.rate = lambda times: _EULER_RATE * system.stiffness(times)

    def init(self, y0: Float[Tensor, "paths dim"]) -> FiniteState:
        if len(self._prior) not in (1, len(y0)):
            raise ValueError(f"the prior is for {len(self._prior)} paths, {len(y0)} came: pass one row per path")
        weight = self._prior.log() + self.system.start_log_likelihood(y0)
        evidence = torch.logsumexp(weight, 1)
        log_pi = weight - evidence[:, None]
        carried = log_pi if self._normalised else log_pi + evidence[:, None]
        return FiniteState(carried, log_pi.exp(), y0, evidence)

    def drift(self, state: FiniteState, t: float) -> Float[Tensor, "paths dim"]:
        h = self.system.drifts(state.y, t)
        return state.mean @ h if h.ndim == 2 else (state.mean[:, None] @ h)[:, 0]

    def _log_likelihood(self, y: Tensor, dy: Tensor, t: float, dt: float) -> Float[Tensor, "paths states"]:
        """H · dy − ½ ‖H‖² dt of every state."""
        h = self.system.drifts(y, t)
        value = _along(h, dy) - (0.5 * dt) * (h**2).sum(-1)
        if self.system.feeds_back:
            value = value + feedback_gain(lambda v: self.system.drifts(v, t), h, y, dy, dt)
        return value


class WonhamFilter(_FiniteFilter):
    r"""The filter of a finite chain, in the log domain; Bayes' rule for a static state.

    Each step moves by :math:`e^{Q\,dt/2}`, weighs by :math:`e^{H_x \cdot dY - \frac12\|H_x\|^2 dt}` and moves again:
    the forward algorithm of the chain measured at the middles of the steps.  It has strong order one in the step, the
    best for a scheme that uses increments alone, with no bias of that order, and is exact for a static state whose H is
    a table.

    Args:
        system: the chain.
        prior: law of :math:`X_0` for each path, shape (paths, states); None takes the system's.

    Errors: order one in the step for a chain; rounding for a static state.  Where H is a function of the measurement,
        order one too if :math:`\partial_j H_i = \partial_i H_j` (one coordinate, or a gradient), else ½: see
        :func:`~sigmascope.filtering.systems.feedback_gain`.
    References: Wonham (1965).
    """

    def __init__(self, system: FiniteSystem, prior: Tensor | None = None) -> None:
        super().__init__(system, prior)

    def step(self, state: FiniteState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> FiniteState:
        half = self.system.transition(0.5 * dt)
        weight = state.log_weight if half is None else (state.mean @ half).log()
        weight = weight + self._log_likelihood(state.y, dy, t, dt)
        gain = torch.logsumexp(weight, 1, keepdim=True)
        log_pi = weight - gain
        pi = log_pi.exp()
        if half is not None:
            pi = pi @ half
            log_pi = pi.log()
        return FiniteState(log_pi, pi, state.y + dy, state.log_evidence + gain[:, 0])


class ZakaiFilter(_FiniteFilter):
    r"""The unnormalised filter: ρ is carried without ever being normalised; π and the evidence are read from it.

    Args:
        system: the chain.
        prior: as for :class:`WonhamFilter`.
        scheme: ``log`` moves ln ρ by :math:`H \cdot dY - \tfrac12\|H\|^2 dt` between two moves by
            :math:`e^{Q\,dt/2}` (order as for :class:`WonhamFilter`, never negative); ``euler`` moves ρ by
            :math:`Q^\top\rho\,dt + \rho H \cdot dY` (order ½; where a factor 1 + z would be nearly zero or negative the
            weight takes the exponential of ``log`` for that step, so that no state is lost).

    Warns: CoarseStepWarning, where ``euler`` is driven by steps in which :math:`\|H_x - H_{x'}\|^2 dt` is not small.
    References: Zakai (1969).
    """

    _normalised = False

    def step(self, state: FiniteState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> FiniteState:
        if self._scheme == "log":
            half = self.system.transition(0.5 * dt)
            weight = _moved(state.log_weight, half) + self._log_likelihood(state.y, dy, t, dt)
            weight = _moved(weight, half)
        else:
            h = self.system.drifts(state.y, t)
            weight = _euler_step(state.log_weight, _along(h, dy), (h**2).sum(-1) * dt, self.system.rates, dt)
        mass = torch.logsumexp(weight, 1)
        return FiniteState(weight, (weight - mass[:, None]).exp(), state.y + dy, mass)


class KushnerFilter(_FiniteFilter):
    r"""The Kushner–Stratonovich equation: the filter driven by its own innovation :math:`dI = dY - \pi(H)\,dt`.

    Args:
        system: the chain.
        prior: as for :class:`WonhamFilter`.
        scheme: ``log`` moves :math:`\ln \pi(x)` by
            :math:`(H_x - \pi(H)) \cdot dI - \tfrac12\|H_x - \pi(H)\|^2 dt` between two moves by :math:`e^{Q\,dt/2}` and
            normalises, which is Bayes' rule for the step: the result, its errors and its evidence are those of
            :class:`WonhamFilter`.  ``euler`` moves π itself by Euler's scheme (strong order ½; where a factor 1 + z
            would be nearly zero or negative the probability takes the exponential of ``log`` for that step, so that no
            state is lost), with the evidence :math:`\int \pi(H)\,dY - \tfrac12 \int \|\pi(H)\|^2 dt`.

    Warns: CoarseStepWarning, where ``euler`` is driven by steps in which :math:`\|H_x - H_{x'}\|^2 dt` is not small.
    References: Kushner (1967); Stratonovich (1960).
    """

    def step(self, state: FiniteState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> FiniteState:
        half = self.system.transition(0.5 * dt) if self._scheme == "log" else None
        log_pi = _moved(state.log_weight, half)
        pi, h = log_pi.exp(), self.system.drifts(state.y, t)
        expected = (pi[:, None] @ h)[:, 0] if h.ndim == 3 else pi @ h
        centred = (h if h.ndim == 3 else h[None]) - expected[:, None]
        gain = (centred @ (dy - expected * dt)[:, :, None])[:, :, 0]
        square = (centred**2).sum(2) * dt
        evidence = state.log_evidence + (expected * dy).sum(1) - 0.5 * (expected**2).sum(1) * dt
        if self._scheme == "log":
            weight = log_pi + gain - 0.5 * square
            if self.system.feeds_back:
                weight = weight + feedback_gain(lambda v: self.system.drifts(v, t), h, state.y, dy, dt)
            weight = _moved(weight, half)
        else:
            weight = _euler_step(log_pi, gain, square, self.system.rates, dt)
        mass = torch.logsumexp(weight, 1)
        if self._scheme == "log":
            evidence = evidence + mass
        weight = weight - mass[:, None]
        return FiniteState(weight, weight.exp(), state.y + dy, evidence)


def _euler_step(
    log_weight: Float[Tensor, "paths states"],
    gain: Float[Tensor, "paths states"],
    square: Tensor,
    rates: Tensor | None,
    dt: float,
) -> Float[Tensor, "paths states"]:
    """ln of weight · (1 + gain) + (weights @ rates) dt, with exp(gain − ½ square) where that factor is nearly 0.

    A factor set to zero would lose the state for good, and a static state cannot come back.
    """
    if rates is not None:
        gain = gain + torch.diagonal(rates) * dt
    kept = log_weight + torch.where(gain > _LEAST - 1.0, torch.log1p(gain.clamp_min(_LEAST - 1.0)), gain - 0.5 * square)
    if rates is None:
        return kept
    top = log_weight.max(1, keepdim=True).values
    came = (log_weight - top).exp() @ (rates - torch.diag(torch.diagonal(rates))) * dt
    return torch.logaddexp(kept, came.log() + top)


def _along(h: Tensor, dy: Float[Tensor, "paths dim"]) -> Float[Tensor, "paths states"]:
    """H · dy of every state, H a table or one for each path."""
    return dy @ h.T if h.ndim == 2 else (h @ dy[:, :, None])[:, :, 0]


def _moved(log_weight: Float[Tensor, "paths states"], move: Tensor | None) -> Float[Tensor, "paths states"]:
    """ln of (weights @ move), without overflow."""
    if move is None:
        return log_weight
    top = log_weight.max(1, keepdim=True).values
    return ((log_weight - top).exp() @ move).log() + top


def prior_given(system: FiniteSystem, labels: Tensor, values: Tensor) -> Float[Tensor, "paths states"]:
    """The law of :math:`X_0` given the value of a function of it, for each path: the prior of a conditional filter.

    Args:
        system: the chain.
        labels: the function, an integer for each state, shape (states,).
        values: its value on each path, shape (paths,); see ``labels[path.state[0]]``.

    Returns: the probabilities, float64, shape (paths, states).

    Raises: ValueError for a value that has no probability.
    """
    if labels.shape != (system.states,):
        raise ValueError(f"labels have shape {tuple(labels.shape)}: expected ({system.states},), one for each state")
    prior = system.prior * (labels == values[:, None])
    mass = prior.sum(1, keepdim=True)
    if not bool((mass > 0).all()):
        raise ValueError(f"value {int(values[(mass[:, 0] <= 0).nonzero()[0, 0]])} of the labels has no probability")
    return prior / mass
