"""Nonlinear diffusions, the Beneš system, and a diffusion on a grid as a finite chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.filtering.finite import FiniteSystem
from sigmascope.filtering.linear import LinearSystem
from sigmascope.filtering.systems import Path, System, euler, was_drawn
from sigmascope.paths import BrownianPath, brownian


@dataclass(frozen=True, eq=False)
class _Drawn:
    state: BrownianPath
    measurement: BrownianPath


@dataclass(frozen=True, eq=False)
class DiffusionSystem(System):
    r"""A nonlinear diffusion with additive noise, :math:`dX = f(X, t)\,dt + B\,dV`, :math:`dY = H(Y, X, t)\,dt + dW`.

    Args:
        f: maps states (..., n) and a time to (..., n).
        b_matrix: B, shape (n, q).
        h: maps y (..., dim), states (..., n) and a time to (..., dim).
        draw: maps a number and a generator to draws of :math:`X_0`, shape (number, n).
        dim: number of measured coordinates.
        rate: the fastest rate of the dynamics, for the warning of a coarse step; None takes the steepest slope of f at
            64 draws of :math:`X_0`, 0 warns of nothing.

    Solved by Euler's scheme, whose strong order is one where the noise is additive.
    """

    f: Callable[[Tensor, float], Tensor]
    b_matrix: Float[Tensor, "n q"]
    h: Callable[[Tensor, Tensor, float], Tensor]
    draw: Callable[[int, torch.Generator], Tensor]
    dim: int
    rate: float | None = None

    @property
    def feeds_back(self) -> bool:
        return True

    def fastest(self, times: Float[Tensor, " times"]) -> float:
        if self.rate is not None:
            return self.rate
        x, small, steepest = self.initial(64, torch.Generator().manual_seed(0)), 1e-4, 0.0
        for t in times[:: max(1, len(times) // 4)].tolist():
            for e in torch.eye(x.shape[1], dtype=x.dtype, device=x.device):
                steepest = max(steepest, float((self.f(x + small * e, t) - self.f(x, t)).norm(dim=1).max()) / small)
        return steepest

    def initial(self, paths: int, generator: torch.Generator) -> Tensor:
        x = self.draw(paths, generator).double()
        if x.shape != (paths, len(self.b_matrix)):
            raise ValueError(f"draw gave shape {tuple(x.shape)}: expected ({paths}, {len(self.b_matrix)})")
        return x

    def propagate(self, state: Tensor, t: float, dt: float, generator: torch.Generator) -> Tensor:
        white = torch.randn(*state.shape[:-1], self.b_matrix.shape[1], generator=generator, dtype=torch.float64)
        noise: Tensor = dt**0.5 * white.to(state.device) @ self.b_matrix.double().T
        return state + self.f(state, t) * dt + noise

    def drift(self, y: Tensor, state: Tensor, t: float) -> Tensor:
        h = self.h(y, state, t)
        if h.shape[-1] != self.dim:
            raise ValueError(f"h gave shape {tuple(h.shape)}: expected the last dimension to be {self.dim}")
        return h

    def simulate(self, times: Float[Tensor, " times"], paths: int, generator: torch.Generator) -> Path:
        device = self.b_matrix.device
        x0 = self.initial(paths, generator).to(device)
        v = brownian(times, paths, self.b_matrix.shape[1], generator, device=device)
        w = brownian(times, paths, self.dim, generator, device=device)
        return self._solved(x0, _Drawn(v, w))

    def refine(self, path: Path, times: Float[Tensor, " times"], generator: torch.Generator) -> Path:
        d: _Drawn = was_drawn(path)
        finer = _Drawn(d.state.refined(times, generator), d.measurement.refined(times, generator))
        return self._solved(path.state[0], finer)

    def _solved(self, x0: Tensor, drawn: _Drawn) -> Path:
        times, grid = drawn.state.times, drawn.state.times.tolist()
        pushed = BrownianPath(times, drawn.state.values @ self.b_matrix.double().T)
        x = euler(lambda v, k: self.f(v, grid[k]), x0, times, pushed)
        y0 = x.new_zeros(x.shape[1], self.dim)
        y = euler(lambda v, k: self.drift(v, x[k], grid[k]), y0, times, drawn.measurement)
        if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
            raise ValueError("the solution overflowed: use smaller steps, or a drift that does not explode")
        return Path(self, times, y, x, drawn)


@dataclass(frozen=True, eq=False)
class BenesSystem(System):
    r"""The system of Beneš, whose nonlinear filter is known in closed form.

    .. math:: dX = \mu \tanh(\mu X + c)\,dt + dV, \qquad dY = (h X + h_0)\,dt + dW

    This X is a Brownian motion whose constant drift, :math:`\pm\mu`, is hidden, so paths are drawn without error.

    Args:
        mu: slope of the drift.
        gain: h, shape (dim,).
        shift: c.
        offset: :math:`h_0`, shape (dim,); None for zero.
        mean: centre of the law of :math:`X_0`, whose density is proportional to
            :math:`\cosh(\mu x + c)\,N(x; mean, variance)`.
        variance: of that normal law; 0 is the point ``mean``.

    References: Beneš (1981); Bain & Crisan (2009), §6.1.
    """

    mu: float
    gain: Tensor
    shift: float = 0.0
    offset: Tensor | None = None
    mean: float = 0.0
    variance: float = 0.0
    dim: int = field(init=False)

    def __post_init__(self) -> None:
        if self.gain.ndim != 1 or (self.offset is not None and self.offset.shape != self.gain.shape):
            raise ValueError(f"gain has shape {tuple(self.gain.shape)}: expected (dim,), and offset the same")
        if self.variance < 0:
            raise ValueError(f"variance is {self.variance:g}: it must not be negative")
        object.__setattr__(self, "dim", len(self.gain))

    @property
    def feeds_back(self) -> bool:
        return False

    def with_drift(self, slope: float) -> LinearSystem:
        """The linear system with a constant drift in place of the hyperbolic tangent."""
        one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
        mean, offset = self.mean + slope * self.variance, slope * one[0]
        gain = self.gain.double()[:, None]
        return LinearSystem(zero, one, gain, mean * one[0], self.variance * one, None, offset, self.offset)

    def _up(self) -> float:
        """Probability that the hidden drift is positive."""
        return float(torch.sigmoid(torch.tensor(2.0 * (self.mu * self.mean + self.shift), dtype=torch.float64)))

    def initial(self, paths: int, generator: torch.Generator) -> Tensor:
        up = torch.rand(paths, generator=generator, dtype=torch.float64) < self._up()
        white = torch.randn(paths, generator=generator, dtype=torch.float64)
        x: Tensor = self.mean + torch.where(up, self.mu, -self.mu) * self.variance + self.variance**0.5 * white
        return x[:, None]

    def propagate(self, state: Tensor, t: float, dt: float, generator: torch.Generator) -> Tensor:
        up = torch.rand(state.shape, generator=generator, dtype=torch.float64).to(state.device)
        white = torch.randn(state.shape, generator=generator, dtype=torch.float64).to(state.device)
        slope = torch.where(up < torch.sigmoid(2.0 * (self.mu * state + self.shift)), self.mu, -self.mu)
        noise: Tensor = dt**0.5 * white
        return state + slope * dt + noise

    def drift(self, y: Tensor, state: Tensor, t: float) -> Tensor:
        h = state * self.gain
        return h if self.offset is None else h + self.offset

    def simulate(self, times: Float[Tensor, " times"], paths: int, generator: torch.Generator) -> Path:
        up = torch.rand(paths, generator=generator, dtype=torch.float64) < self._up()
        plus = self.with_drift(self.mu).simulate(times, paths, generator)
        minus = self.with_drift(-self.mu).simulate(times, paths, generator)
        pick = up[None, :, None]
        return Path(self, times, torch.where(pick, plus.y, minus.y), torch.where(pick, plus.state, minus.state))

    def refine(self, path: Path, times: Float[Tensor, " times"], generator: torch.Generator) -> Path:
        """Between two points the path is a Brownian bridge, whatever the hidden drift."""
        free = self.with_drift(0.0).refine(path, times, generator)
        return Path(self, times, free.y, free.state)


def grid_system(
    points: Float[Tensor, " points"],
    f: Float[Tensor, " points"] | Callable[[Tensor], Tensor],
    scale: float,
    h: Tensor,
    prior: Float[Tensor, " points"],
) -> FiniteSystem:
    r"""A diffusion in one dimension, :math:`dX = f(X)\,dt + s\,dV`, as a Markov chain on a uniform grid.

    Rates between neighbours by exponential fitting (Scharfetter & Gummel, 1969): never negative, second order in the
    spacing, and the stationary law is kept.  The ends reflect.

    .. math:: q_{i,i\pm1} = \frac{D}{\delta^2}\, b\!\left(\mp \frac{f \delta}{D}\right), \quad
              b(z) = \frac{z}{e^z - 1}, \quad D = s^2/2

    Args:
        points: uniform grid of the state.
        f: drift, a function or its values.
        scale: s.
        h: measurement of each point, shape (points, dim).
        prior: density of :math:`X_0` at the points, up to a factor.

    Returns: the chain, whose states are the points.

    Raises: ValueError for a grid that is not uniform and increasing.
    """
    x = points.double()
    spacing = x.diff()
    if x.ndim != 1 or len(x) < 3 or not bool((spacing > 0).all()) or not torch.allclose(spacing, spacing[0], rtol=1e-4):
        raise ValueError("points must be a uniform, increasing grid of at least 3: use torch.linspace")
    middle = 0.5 * (x[1:] + x[:-1])
    force = f(middle) if callable(f) else 0.5 * (f[1:] + f[:-1]).double()
    step, d = float(spacing[0]), 0.5 * scale**2
    z = force * step / d
    rates = torch.zeros(len(x), len(x), dtype=torch.float64)
    rates.diagonal(1)[:] = d / step**2 * _bernoulli(-z)
    rates.diagonal(-1)[:] = d / step**2 * _bernoulli(z)
    rates.diagonal()[:] = -rates.sum(1)
    p = prior.double()
    return FiniteSystem(p / p.sum(), h.double(), rates)


def _bernoulli(z: Tensor) -> Tensor:
    """z / (exp(z) - 1), with its limit 1 at 0."""
    small = z.abs() < 1e-8
    safe = torch.where(small, 1.0, z)
    return torch.where(small, 1.0 - 0.5 * z, safe / torch.expm1(safe))
