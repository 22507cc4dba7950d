r"""Signals with a continuously observed measurement, :math:`dY_t = H(Y_t, X_t, t)\,dt + dW_t`.

X is the hidden state, Y the measurement in :math:`R^N`, W a standard Brownian motion independent of
:math:`(X, Y_0)`.  H may depend on Y itself (feedback), and :math:`Y_0` may depend on :math:`X_0`.

References: Bain & Crisan, Fundamentals of Stochastic Filtering (2009), ch. 2-3; Franzese et al. (2025).
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.paths import BrownianPath, check_times

COARSE = 0.5
"""A step is too coarse where it times the fastest rate of the system exceeds this."""


class CoarseStepWarning(UserWarning):
    """The time step is too long for the dynamics."""


class NoInformation(ValueError):
    """The information theorem does not hold for this system."""


@dataclass(frozen=True, eq=False)
class Path:
    """Measurements on a time grid, and the states that made them where they are known.

    Your own measurements are ``Path(system, times, y)``.

    Args:
        system: what they are of.
        times: shape (times,).
        y: measurement, shape (times, paths, dim).
        state: of a finite system the index of the state, int64, shape (times, paths); else shape (times, paths, n);
            empty where it is not known.
        drawn: the other random numbers of the simulation, needed to refine the path; depends on the system.
    """

    system: System
    times: Float[Tensor, " times"]
    y: Float[Tensor, "times paths dim"]
    state: Tensor = field(default_factory=lambda: torch.empty(0))
    drawn: Any = None

    @property
    def paths(self) -> int:
        return self.y.shape[1]

    @property
    def increments(self) -> Float[Tensor, "steps paths dim"]:
        """Differences of the measurement."""
        return self.y.diff(dim=0)

    def refined(self, times: Tensor, generator: torch.Generator) -> Path:
        """The same paths on a finer grid: nothing that was drawn changes.

        States and measurements at the old times stay as they are, but for systems that are solved by a scheme (a
        feedback drift, a nonlinear diffusion): there the Brownian motions stay, and the solution improves.

        Args:
            times: a grid that holds every time of the old one, with the same ends.
            generator: of the new points.

        Raises: ValueError if an old time is missing or the ends differ, or the path was not simulated.
        """
        finer = self.system.refine(self, check_times(times), generator)
        return replace(finer, times=finer.times.to(finer.y.device))

    def at(self, index: Tensor) -> Path:
        """The path at some of its times only; it can no longer be refined."""
        state = self.state[index] if len(self.state) else self.state
        return replace(self, times=self.times[index], y=self.y[index], state=state, drawn=None)


class System(ABC):
    """A state and its measurement.

    Attributes:
        dim: number N of measured coordinates.
        correlated: whether the noises of state and measurement are correlated.
    """

    dim: int
    correlated: bool = False

    @property
    @abstractmethod
    def feeds_back(self) -> bool:
        """Whether H may depend on the measurement itself."""

    @abstractmethod
    def simulate(self, times: Float[Tensor, " times"], paths: int, generator: torch.Generator) -> Path:
        """Independent paths on a checked grid."""

    @abstractmethod
    def refine(self, path: Path, times: Float[Tensor, " times"], generator: torch.Generator) -> Path:
        """The same paths on a finer grid, as :meth:`Path.refined` describes it."""

    @abstractmethod
    def initial(self, paths: int, generator: torch.Generator) -> Tensor:
        """Independent draws of :math:`X_0`, one for each path."""

    @abstractmethod
    def propagate(self, state: Tensor, t: float, dt: float, generator: torch.Generator) -> Tensor:
        """Draws of :math:`X_{t+dt}` given :math:`X_t`, elementwise over all leading dimensions."""

    @abstractmethod
    def drift(self, y: Tensor, state: Tensor, t: float) -> Tensor:
        """H(y, x, t), shape (..., dim), for y of shape (..., dim) and states with the same leading dimensions."""

    def start_log_density(self, y: Tensor, state: Tensor) -> Tensor:
        r""":math:`\ln p(y_0 \mid x_0)` with respect to Lebesgue measure; zero where :math:`Y_0` is not random."""
        return y.new_zeros(state.shape[:-1])

    def fastest(self, times: Float[Tensor, " times"]) -> float:
        """The fastest rate that a step must resolve, per unit of time; 0 where the scheme is exact."""
        return 0.0

    def check_steps(self, times: Float[Tensor, " times"], least: float = 0.0) -> None:
        """Warn where a step is too coarse for the system's rates, or for the rate ``least`` of a filter's scheme."""
        rate, step = max(self.fastest(times), least), float(times.diff().max())
        if rate * step > COARSE:
            warnings.warn(
                f"the largest step is {step:.3g} where the fastest rate is {rate:.3g}: use steps of "
                f"{0.1 / rate:.2g} or less",
                CoarseStepWarning,
                stacklevel=3,
            )


def simulate(system: System, times: Tensor, paths: int, generator: torch.Generator) -> Path:
    """Independent paths of state and measurement on an explicit, possibly irregular grid.

    Args:
        system: what to simulate.
        times: finite and strictly increasing; the first is the time of :math:`X_0` and :math:`Y_0`.
        paths: how many.
        generator: of everything random.

    Returns: the paths, with their states.

    Raises: ValueError for times that are not so, or no paths.
    Warns: CoarseStepWarning, naming the step to use.
    """
    grid = check_times(times)
    if paths < 1:
        raise ValueError(f"paths is {paths}: at least 1 is needed")
    system.check_steps(grid)
    path = system.simulate(grid, paths, generator)
    return replace(path, times=path.times.to(path.y.device))


def uniform_times(end: float, steps: int, start: float = 0.0) -> Float[Tensor, " times"]:
    """A grid of ``steps`` equal steps from ``start`` to ``end``.

    Returns: ``steps + 1`` times, float64.

    Raises: ValueError for no step, or an end that is not after the start.
    """
    if steps < 1 or not (math.isfinite(start) and math.isfinite(end)) or end <= start:
        raise ValueError(f"{steps} steps from {start:g} to {end:g}: expected at least one step and start < end")
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)


def covariance_factor(
    covariance: Tensor, name: str, size: int, *, definite: bool = False
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    """A checked covariance and a square root of it.

    Raises: ValueError if it is not square of that size, finite, symmetric and positive (semi)definite.
    """
    c = torch.as_tensor(covariance, dtype=torch.float64)
    if c.shape != (size, size):
        raise ValueError(f"{name} has shape {tuple(c.shape)}: expected ({size}, {size})")
    if not bool(torch.isfinite(c).all()) or not torch.allclose(c, c.T, rtol=1e-10, atol=1e-12):
        raise ValueError(f"{name} must be finite and symmetric: use (c + c.T) / 2")
    values, vectors = torch.linalg.eigh(c)
    floor = -1e-12 * float(values.abs().max().clamp_min(1.0))
    if float(values[0]) < floor or (definite and float(values[0]) <= 0):
        kind = "positive definite" if definite else "positive semidefinite"
        raise ValueError(f"{name} has the eigenvalue {float(values[0]):.3g}: a covariance must be {kind}")
    return c, vectors * values.clamp_min(0.0).sqrt()


def feedback_gain(
    h: Callable[[Tensor], Tensor],
    here: Tensor,
    y: Float[Tensor, "*batch dim"],
    dy: Float[Tensor, "*batch dim"],
    dt: float,
) -> Tensor:
    r"""The difference of :math:`\int H(Y_s) \cdot dY_s` over a step from :math:`H(Y_t) \cdot dY`, by Milstein's scheme.

    .. math:: \tfrac12 \sum_{ij} \partial_j H_i\,(dY_i\,dY_j - \delta_{ij}\,dt)

    With it the integral has strong order one where :math:`\partial_j H_i = \partial_i H_j` (one coordinate, or a
    gradient).  Otherwise the areas between two coordinates matter, which increments do not determine: the order is
    ½, the best for a scheme that uses increments alone (Clark & Cameron, 1980).

    Args:
        h: maps y to H, whose shape may have a dimension of states before its last one.
        here: H at ``y``.
        y, dy: the measurement at the left of the step and its increment.
        dt: the step.

    Returns: one value for each H, its last dimension summed.
    References: Milstein (1974); Kloeden & Platen (1992), ch. 10.
    """
    ahead = h(y + dy)
    if torch.equal(ahead, here):  # H does not depend on the measurement here
        return torch.zeros_like(here[..., 0])
    half = 0.5 * dt**0.5
    along = dy if here.ndim == dy.ndim else dy[..., None, :]
    gain = ((ahead - here) * along).sum(-1)
    for i, e in enumerate(torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)):
        gain = gain - (h(y + half * e) - h(y - half * e))[..., i] * (dt / (2.0 * half))
    return 0.5 * gain


def same_step(dt: float) -> float:
    """The step to twelve digits, so that all steps of a uniform grid are equal and share cached matrices."""
    return float(f"{dt:.12g}")


def expm(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Matrix exponential by scipy: torch's own is good to ten digits only."""
    return torch.from_numpy(np.asarray(scipy.linalg.expm(matrix.cpu().numpy()))).to(matrix)


def known_state(path: Path) -> Tensor:
    """The state of a path.

    Raises: ValueError where it is not known.
    """
    if len(path.state) != len(path.times):
        raise ValueError("the state of this path is not known: simulate one, or pass its state to Path")
    return path.state


def was_drawn(path: Path) -> Any:
    """The random numbers of a simulated path.

    Raises: ValueError for one that was not simulated, or was thinned.
    """
    if path.drawn is None:
        raise ValueError("this path cannot be refined: refine a path from simulate, before it is thinned")
    return path.drawn


def log_normal(residual: Float[Tensor, "*batch n"], chol: Float[Tensor, "n n"]) -> Float[Tensor, "*batch"]:
    """Log density of a centred normal law with covariance ``chol @ chol.T``."""
    white = torch.linalg.solve_triangular(chol, residual.reshape(-1, residual.shape[-1]).T, upper=False)
    log_det = torch.diagonal(chol).log().sum()
    value: Tensor = -0.5 * (white**2).sum(0) - log_det - 0.5 * residual.shape[-1] * math.log(2 * math.pi)
    return value.reshape(residual.shape[:-1])


def euler(
    drift: Any, y0: Float[Tensor, "paths dim"], times: Float[Tensor, " times"], noise: BrownianPath
) -> Float[Tensor, "times paths dim"]:
    """Solve dY = drift(y, k) dt + dW, the drift taken at the left end of step k."""
    y = y0.new_empty(len(times), *y0.shape)
    y[0] = y0
    dt, dw = times.diff().tolist(), noise.increments
    for k, step in enumerate(dt):
        y[k + 1] = y[k] + drift(y[k], k) * step + dw[k]
    return y
