r"""Linear-Gaussian systems, sampled without error.

The pair (X, Y) is itself a linear diffusion, so its values on any grid form a Gaussian Markov chain whose transition is
known in closed form (Van Loan, 1978): simulation, refinement and the filter of sampled measurements are exact for
constant coefficients, whatever the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.filtering.doubling import Flow, advance, flow, square_root
from sigmascope.filtering.systems import Path, System, covariance_factor, expm, known_state, log_normal, same_step
from sigmascope.paths import places_in

Coefficient = Tensor | Callable[[float], Tensor]


class Transition(NamedTuple):
    """z(t + dt) = matrix z(t) + offset + noise of this covariance, z = (x, y); its square roots of z and of x."""

    matrix: Float[Tensor, "z z"]
    offset: Float[Tensor, " z"]
    covariance: Float[Tensor, "z z"]
    factor: Float[Tensor, "z z"]
    state_factor: Float[Tensor, "n n"]


@dataclass(frozen=True, eq=False)
class LinearSystem(System):
    r"""A linear diffusion, linearly measured.

    .. math:: dX = (A X + a)\,dt + B\,dV, \qquad dY = (C X + F Y + c)\,dt + dW, \qquad d\langle V, W\rangle = S\,dt

    Args:
        a_matrix: A, shape (n, n), or a function of time.  Zero for a static state.
        b_matrix: B, shape (n, q), or a function of time.
        c_matrix: C, shape (dim, n), or a function of time.
        mean: of :math:`X_0`, shape (n,).
        covariance: of :math:`X_0`, shape (n, n), positive semidefinite.
        feedback: F, shape (dim, dim); None for none.
        offset: a, shape (n,); None for zero.
        measured_offset: c, shape (dim,); None for zero.
        correlation: S, shape (q, dim): correlated noise, for which the information theorem does not hold.
        start_gain: of :math:`Y_0 = G X_0 + N(0, R)`, shape (dim, n); None starts at zero.
        start_covariance: R, shape (dim, dim).

    Coefficients that depend on time are taken at the middle of each step (second order).

    Raises: ValueError for shapes that disagree, a covariance that is none, a correlation above one; ArithmeticError,
        when simulated, for a state that overflows.
    References: Kalman & Bucy (1961); Van Loan (1978); Liptser & Shiryaev (2001), ch. 10-12.
    """

    a_matrix: Coefficient
    b_matrix: Coefficient
    c_matrix: Coefficient
    mean: Tensor
    covariance: Tensor
    feedback: Tensor | None = None
    offset: Tensor | None = None
    measured_offset: Tensor | None = None
    correlation: Tensor | None = None
    start_gain: Tensor | None = None
    start_covariance: Tensor | None = None
    dim: int = field(init=False)
    correlated: bool = field(init=False)
    _cache: dict[float, Transition] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("mean", "covariance", "feedback", "offset", "measured_offset", "correlation", "start_gain"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        a, b, c = self.coefficients(0.0)
        n, q, dim = len(self.mean), b.shape[-1], c.shape[0]
        for name, got, expected in (
            ("a_matrix", a, (n, n)),
            ("b_matrix", b, (n, q)),
            ("c_matrix", c, (dim, n)),
            ("feedback", self.feedback, (dim, dim)),
            ("offset", self.offset, (n,)),
            ("measured_offset", self.measured_offset, (dim,)),
            ("correlation", self.correlation, (q, dim)),
            ("start_gain", self.start_gain, (dim, n)),
        ):
            if got is not None and got.shape != expected:
                raise ValueError(f"{name} has shape {tuple(got.shape)}: expected {expected}")
            if got is not None and not bool(torch.isfinite(got).all()):
                raise ValueError(f"{name} must be finite")
        covariance_factor(self.covariance, "covariance", n)
        if (self.start_gain is None) != (self.start_covariance is None):
            raise ValueError("start_gain and start_covariance belong together: pass both or neither")
        if self.start_covariance is not None:
            r, _ = covariance_factor(self.start_covariance, "start_covariance", dim, definite=True)
            object.__setattr__(self, "start_covariance", r)
        if self.correlation is not None and float(torch.linalg.matrix_norm(self.correlation, 2)) > 1 + 1e-9:
            raise ValueError("correlation has a singular value above 1: two standard Brownian motions have none")
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "correlated", self.correlation is not None and bool((self.correlation != 0).any()))

    @property
    def feeds_back(self) -> bool:
        return self.feedback is not None

    @property
    def constant(self) -> bool:
        """Whether no coefficient depends on time."""
        return not any(callable(c) for c in (self.a_matrix, self.b_matrix, self.c_matrix))

    def coefficients(self, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """A, B, C at a time, float64."""
        values = ((c(t) if callable(c) else c) for c in (self.a_matrix, self.b_matrix, self.c_matrix))
        a, b, c = (torch.as_tensor(x, dtype=torch.float64) for x in values)
        return a, b, c

    def transition(self, t: float, dt: float) -> Transition:
        """The law of (X, Y) after a step, given it before."""
        dt = same_step(dt)
        if self.constant and dt in self._cache:
            return self._cache[dt]
        a, b, c = self.coefficients(t + 0.5 * dt)
        n, dim, device = len(self.mean), self.dim, a.device
        z = n + dim
        eye = torch.eye(dim, dtype=torch.float64, device=device)
        s = b.new_zeros(b.shape[1], dim) if self.correlation is None else self.correlation
        generator = a.new_zeros(z + 1, z + 1)  # of (x, y, 1)
        generator[:n, :n], generator[n:z, :n] = a, c
        if self.feedback is not None:
            generator[n:z, n:z] = self.feedback
        if self.offset is not None:
            generator[:n, z] = self.offset
        if self.measured_offset is not None:
            generator[n:z, z] = self.measured_offset
        spread = a.new_zeros(z + 1, z + 1)
        spread[:z, :z] = torch.cat([torch.cat([b @ b.T, b @ s], 1), torch.cat([s.T @ b.T, eye], 1)])
        # Van Loan's block holds exp(-G dt): over a short piece of the step it is harmless, and pieces are joined.
        doublings = max(0, math.ceil(math.log2(max(float(torch.linalg.matrix_norm(generator, 2)) * dt, 1e-300))))
        top = torch.cat([-generator, spread], 1)
        block = expm(torch.cat([top, torch.cat([0 * generator, generator.T], 1)]) * (dt / 2**doublings))
        matrix = block[z + 1 :, z + 1 :].T
        covariance = matrix @ block[: z + 1, z + 1 :]
        for _ in range(doublings):
            covariance = matrix @ covariance @ matrix.T + covariance
            matrix = matrix @ matrix
        if not bool(torch.isfinite(matrix).all() and torch.isfinite(covariance).all()):
            raise ArithmeticError(
                f"the state overflows within a step of {dt:g}: its unstable mode grows too far; end earlier"
            )
        covariance = 0.5 * (covariance + covariance.T)[:z, :z]
        _, factor = covariance_factor(covariance, "covariance", z)
        _, state_factor = covariance_factor(covariance[:n, :n], "covariance", n)
        transition = Transition(matrix[:z, :z], matrix[:z, z], covariance, factor, state_factor)
        if self.constant:
            if len(self._cache) >= 4096:
                self._cache.clear()
            self._cache[dt] = transition
        return transition

    def fastest(self, times: Float[Tensor, " times"]) -> float:
        if self.constant:
            return 0.0
        some = times[:: max(1, len(times) // 16)].tolist()
        return max(float(torch.linalg.matrix_norm(self.coefficients(t)[0], 2)) for t in some)

    def initial(self, paths: int, generator: torch.Generator) -> Tensor:
        _, factor = covariance_factor(self.covariance, "covariance", len(self.mean))
        return self.mean + _white(paths, len(self.mean), generator).to(factor.device) @ factor.T

    def propagate(self, state: Tensor, t: float, dt: float, generator: torch.Generator) -> Tensor:
        n = len(self.mean)
        step = self.transition(t, dt)
        white = torch.randn(state.shape, generator=generator, dtype=torch.float64).to(state.device)
        return state @ step.matrix[:n, :n].T + step.offset[:n] + white @ step.state_factor.T

    def drift(self, y: Tensor, state: Tensor, t: float) -> Tensor:
        h = state @ self.coefficients(t)[2].T
        if self.feedback is not None:
            h = h + y @ self.feedback.T
        return h if self.measured_offset is None else h + self.measured_offset

    def start_log_density(self, y: Tensor, state: Tensor) -> Tensor:
        if self.start_gain is None or self.start_covariance is None:
            return y.new_zeros(state.shape[:-1])
        return log_normal(y - state @ self.start_gain.T, torch.linalg.cholesky(self.start_covariance))

    def simulate(self, times: Float[Tensor, " times"], paths: int, generator: torch.Generator) -> Path:
        x0 = self.initial(paths, generator)
        y0 = x0.new_zeros(paths, self.dim)
        if self.start_gain is not None and self.start_covariance is not None:
            factor = torch.linalg.cholesky(self.start_covariance)
            y0 = x0 @ self.start_gain.T + _white(paths, self.dim, generator).to(factor.device) @ factor.T
        z = [torch.cat([x0, y0], 1)]
        grid = times.tolist()
        for t, following in pairwise(grid):
            step = self.transition(t, following - t)
            white = _white(paths, len(step.offset), generator).to(step.factor.device)
            z.append(z[-1] @ step.matrix.T + step.offset + white @ step.factor.T)
        return self._path(times, torch.stack(z))

    def refine(self, path: Path, times: Float[Tensor, " times"], generator: torch.Generator) -> Path:
        """Draws the new points from their law given the neighbours on both sides."""
        old = torch.cat([known_state(path), path.y], 2)
        place = places_in(times, path.times.cpu())
        z = old.new_empty(len(times), *old.shape[1:])
        z[place] = old
        grid, ends = times.tolist(), torch.searchsorted(place, torch.arange(len(times)), right=False)
        for k in range(len(grid)):
            right = int(place[ends[k]])
            if right == k:
                continue
            one, two = (self.transition(grid[i], grid[j] - grid[i]) for i, j in ((k - 1, k), (k, right)))
            mean = z[k - 1] @ one.matrix.T + one.offset
            total = two.matrix @ one.covariance @ two.matrix.T + two.covariance
            gain = one.covariance @ two.matrix.T @ torch.linalg.pinv(total, hermitian=True)
            left = torch.eye(len(total), dtype=torch.float64, device=total.device) - gain @ two.matrix
            given = left @ one.covariance @ left.T + gain @ two.covariance @ gain.T
            _, factor = covariance_factor(0.5 * (given + given.T), "covariance", len(total))
            white = _white(path.paths, len(total), generator).to(factor.device)
            ahead = z[right] - (mean @ two.matrix.T + two.offset)
            z[k] = mean + ahead @ gain.T + white @ factor.T
        return self._path(times, z)

    def _path(self, times: Tensor, z: Tensor) -> Path:
        n = len(self.mean)
        if not bool(torch.isfinite(z).all()):
            raise ArithmeticError("the state overflowed: its unstable mode grows too far; end earlier")
        return Path(self, times, z[:, :, n:], z[:, :, :n])


def _white(paths: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(paths, size, generator=generator, dtype=torch.float64)


def riccati(system: LinearSystem, times: Tensor, covariance: Tensor | None = None) -> Float[Tensor, "times n n"]:
    r"""Covariance of the filter of the *continuous* path, by the Riccati equation.

    .. math:: \dot P = A P + P A^\top + B B^\top - (P C^\top + B S)(P C^\top + B S)^\top

    Args:
        system: coefficients that depend on time are taken at the middle of each step.
        times: grid, shape (times,).
        covariance: at the first time; None takes that of :math:`X_0` given :math:`Y_0`.

    Returns: the covariance at every time, float64, shape (times, n, n).

    Solved by doubling (:mod:`~sigmascope.filtering.doubling`): the time that it takes grows with the logarithm of the
    step and of the coefficients, and the error is that of rounding.

    Raises: ArithmeticError where the covariance overflows, naming the time.
    """
    return riccati_and_gain(system, times, covariance)[0]


def riccati_and_gain(
    system: LinearSystem, times: Tensor, covariance: Tensor | None = None
) -> tuple[Float[Tensor, "times n n"], Float[Tensor, " times"]]:
    r"""The covariance, and :math:`\int \mathrm{tr}(C P C^\top)\,ds` up to each time, both from one flow.

    Raises: ArithmeticError where the covariance overflows, naming the time.
    """
    p = start_posterior(system)[1] if covariance is None else torch.as_tensor(covariance, dtype=torch.float64)
    root, covariances, gained = square_root(_numbers(p)), [_numbers(p)], [0.0]
    flows: dict[float, Flow] = {}
    for t, following in pairwise(torch.as_tensor(times, dtype=torch.float64).tolist()):
        key = same_step(following - t)
        try:
            step = flows.get(key) if system.constant else None
            if step is None:
                step = flow(*_riccati_terms(system, 0.5 * (t + following)), following - t)
                flows[key] = step
            root, gain = advance(step, root)
        except ArithmeticError as error:
            raise ArithmeticError(
                f"the filter's covariance overflowed before t = {following:g}: an unstable mode of A that C does "
                "not measure grows without bound; leave it out, or end earlier"
            ) from error
        covariances.append(root @ root.T)
        gained.append(gained[-1] + gain)
    return torch.from_numpy(np.stack(covariances)).to(p), torch.tensor(gained).to(p)


def _riccati_terms(system: LinearSystem, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A and roots of B Bᵀ and Cᵀ C of the equation, less the part of the noise that the measurement shares."""
    a, b, c = system.coefficients(t)
    if system.correlation is None:
        return _numbers(a), _numbers(b), _numbers(c.T)
    s = system.correlation
    own = torch.eye(b.shape[1], dtype=torch.float64, device=b.device) - s @ s.T
    return _numbers(a - b @ s @ c), _numbers(b) @ square_root(_numbers(own)), _numbers(c.T)


def _numbers(matrix: Tensor) -> np.ndarray:
    return np.asarray(matrix.cpu().numpy(), dtype=np.float64)


def start_posterior(
    system: LinearSystem, covariance: Tensor | None = None
) -> tuple[Float[Tensor, "n dim"] | None, Float[Tensor, "n n"]]:
    """Gain on :math:`Y_0` and covariance of :math:`X_0` given :math:`Y_0`; no gain where it is not random."""
    p = system.covariance if covariance is None else covariance
    if system.start_gain is None or system.start_covariance is None:
        return None, p
    g, r = system.start_gain, system.start_covariance
    gain = torch.linalg.solve(g @ p @ g.T + r, g @ p).T
    left = torch.eye(len(p), dtype=p.dtype, device=p.device) - gain @ g
    return gain, left @ p @ left.T + gain @ r @ gain.T
