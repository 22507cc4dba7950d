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

_TINY = 1e-300


class FiniteState(NamedTuple):
    """Log weights (normalised for Wonham and Kushner), their normalisation, the measurement and the log evidence."""

    log_weight: Float[Tensor, "paths states"]
    probability: Float[Tensor, "paths states"]
    y: Float[Tensor, "paths dim"]
    log_evidence: Float[Tensor, " paths"]


class _FiniteFilter(Filter[FiniteState]):
    """What the three have in common.

    Args:
        system: the chain.
        prior: law of :math:`X_0` for each path, shape (paths, states), in place of the system's: so a filter is told
            something of the state.
    """

    def __init__(self, system: FiniteSystem, prior: Tensor | None = None) -> None:
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

    def init(self, y0: Float[Tensor, "paths dim"]) -> FiniteState:
        if len(self._prior) not in (1, len(y0)):
            raise ValueError(f"the prior is for {len(self._prior)} paths, {len(y0)} came: pass one row per path")
        weight = self._prior.log() + self.system.start_log_likelihood(y0)
        evidence = torch.logsumexp(weight, 1)
        log_pi = weight - evidence[:, None]
        return FiniteState(log_pi, log_pi.exp(), y0, evidence)

    def mean(self, state: FiniteState) -> Float[Tensor, "paths states"]:
        return state.probability

    def log_evidence(self, state: FiniteState) -> Float[Tensor, " paths"]:
        return state.log_evidence

    def drift(self, state: FiniteState, t: float) -> Float[Tensor, "paths dim"]:
        h = self.system.drifts(state.y, t)
        return state.probability @ h if h.ndim == 2 else (state.probability[:, None] @ h)[:, 0]

    def _log_likelihood(self, y: Tensor, dy: Tensor, t: float, dt: float) -> Float[Tensor, "paths states"]:
        """H · dy − ½ ‖H‖² dt of every state."""
        h = self.system.drifts(y, t)
        return _along(h, dy) - (0.5 * dt) * (h**2).sum(-1)


class WonhamFilter(_FiniteFilter):
    r"""The filter of a finite chain, in the log domain; Bayes' rule for a static state.

    Each step moves by :math:`e^{Q\,dt/2}`, weighs by :math:`e^{H_x \cdot dY - \frac12\|H_x\|^2 dt}` and moves again:
    the forward algorithm of the chain seen at the middles of the steps.  Of strong order one in the step, as any scheme
    that knows increments alone, but with no bias of that order; exact for a static state whose H is a table.

    Args:
        system: the chain.
        prior: law of :math:`X_0` for each path, shape (paths, states); None takes the system's.

    Errors: order one in the step for a chain; rounding for a static state.
    References: Wonham (1965).
    """

    def step(self, state: FiniteState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> FiniteState:
        half = self.system.transition(0.5 * dt)
        weight = state.log_weight if half is None else (state.probability @ half).log()
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
            :math:`e^{Q\,dt/2}` (strong order 1, never negative); ``euler`` moves ρ by
            :math:`Q^\top\rho\,dt + \rho H \cdot dY` (order ½; weights that would become negative are set to zero).

    References: Zakai (1969).
    """

    def __init__(self, system: FiniteSystem, prior: Tensor | None = None, scheme: str = "log") -> None:
        super().__init__(system, prior)
        if scheme not in ("log", "euler"):
            raise ValueError(f"scheme is {scheme!r}: expected 'log' or 'euler'")
        self._scheme = scheme

    def init(self, y0: Float[Tensor, "paths dim"]) -> FiniteState:
        s = super().init(y0)
        return s._replace(log_weight=s.log_weight + s.log_evidence[:, None])

    def step(self, state: FiniteState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> FiniteState:
        if self._scheme == "log":
            half = self.system.transition(0.5 * dt)
            weight = _moved(state.log_weight, half) + self._log_likelihood(state.y, dy, t, dt)
            weight = _moved(weight, half)
        else:
            top = state.log_weight.max(1, keepdim=True).values
            rho = (state.log_weight - top).exp()
            moved = rho + rho * _along(self.system.drifts(state.y, t), dy)
            if self.system.rates is not None:
                moved = moved + rho @ self.system.rates * dt
            weight = moved.clamp_min(0.0).log() + top
        mass = torch.logsumexp(weight, 1)
        return FiniteState(weight, (weight - mass[:, None]).exp(), state.y + dy, mass)


class KushnerFilter(_FiniteFilter):
    r"""The Kushner–Stratonovich equation by Euler's scheme: the filter driven by its own innovation.

    Strong order ½.  Probabilities that would become negative are set to zero and the rest is normalised.  Evidence:
    :math:`\int \pi(H)\,dY - \tfrac12 \int \|\pi(H)\|^2 dt`.  For work, prefer :class:`WonhamFilter`.

    Args:
        system: the chain.
        prior: as for :class:`WonhamFilter`.

    References: Kushner (1967); Stratonovich (1960).
    """

    def step(self, state: FiniteState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> FiniteState:
        pi, h = state.probability, self.system.drifts(state.y, t)
        expected = self.drift(state, t)
        innovation = dy - expected * dt
        centred = (h if h.ndim == 3 else h[None]) - expected[:, None]
        moved = pi + pi * (centred @ innovation[:, :, None])[:, :, 0]
        if self.system.rates is not None:
            moved = moved + pi @ self.system.rates * dt
        moved = moved.clamp_min(0.0)
        moved = moved / moved.sum(1, keepdim=True).clamp_min(_TINY)
        evidence = state.log_evidence + (expected * dy).sum(1) - 0.5 * (expected**2).sum(1) * dt
        return FiniteState(moved.log(), moved, state.y + dy, evidence)


def _along(h: Tensor, dy: Float[Tensor, "paths dim"]) -> Float[Tensor, "paths states"]:
    """H · dy of every state, H a table or one for each path."""
    return dy @ h.T if h.ndim == 2 else (h @ dy[:, :, None])[:, :, 0]


def _moved(log_weight: Float[Tensor, "paths states"], move: Tensor | None) -> Float[Tensor, "paths states"]:
    """ln of (weights @ move), without overflow."""
    if move is None:
        return log_weight
    top = log_weight.max(1, keepdim=True).values
    return ((log_weight - top).exp() @ move).log() + top


def told(system: FiniteSystem, labels: Tensor, values: Tensor) -> Float[Tensor, "paths states"]:
    """The law of :math:`X_0` given the value of a function of it, for each path: a prior for a filter that is told.

    Args:
        system: the chain.
        labels: the function, an integer for each state, shape (states,).
        values: its value on each path, shape (paths,); see ``labels[path.state[0]]``.

    Raises: ValueError for a value that has no probability.
    """
    if labels.shape != (system.states,):
        raise ValueError(f"labels have shape {tuple(labels.shape)}: expected ({system.states},), one for each state")
    prior = system.prior * (labels == values[:, None])
    mass = prior.sum(1, keepdim=True)
    if not bool((mass > 0).all()):
        raise ValueError(f"value {int(values[(mass[:, 0] <= 0).nonzero()[0, 0]])} of the labels has no probability")
    return prior / mass
