"""Systems with finitely many states: a Markov chain, or a static state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.filtering.systems import Path, System, covariance_factor, euler, expm, log_normal, same_step, was_drawn
from sigmascope.paths import BrownianPath, brownian

Drifts = Callable[[Tensor, float], Tensor]
"""H of every state: maps y of shape (..., dim) and a time to shape (..., states, dim)."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    noise: BrownianPath
    jumps: Float[Tensor, "jumps paths"]  # the first at the starting time, then the times of jumps, inf after the last
    states: Int64[Tensor, "jumps paths"]  # the state from that time on


@dataclass(frozen=True, eq=False)
class FiniteSystem(System):
    r"""A Markov chain of finitely many states, or a static state, observed through :math:`H(Y, X, t)`.

    Args:
        prior: law of :math:`X_0`, shape (states,).
        h: H of each state, shape (states, dim); or a function of (y, t) that returns (..., states, dim).
        rates: generator Q of the chain, shape (states, states), rows summing to zero; None for a static state.
        dim: number of measured coordinates, needed where ``h`` is a function.
        start_mean: mean of :math:`Y_0` in each state, shape (states, dim); None starts at zero.
        start_covariance: of :math:`Y_0` given the state, shape (dim, dim); needed with ``start_mean``.

    Simulation is exact (jump times are drawn, H is integrated between them) where h is a table; where it is a function,
    the measurement is solved by Euler's scheme with the exact times spent in each state.

    Raises: ValueError for shapes that disagree, a prior that is no distribution, rates that are none.
    References: Wonham (1965); Bain & Crisan (2009), §3.
    """

    prior: Tensor
    h: Tensor | Drifts
    rates: Tensor | None = None
    dim: int = 0
    start_mean: Tensor | None = None
    start_covariance: Tensor | None = None
    _moves: dict[float, Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        p = torch.as_tensor(self.prior, dtype=torch.float64)
        if p.ndim != 1 or not bool((p >= 0).all()) or abs(float(p.sum()) - 1.0) > 1e-6:
            raise ValueError(f"prior is {p.tolist()}: expected probabilities, not negative, with sum one")
        object.__setattr__(self, "prior", p / p.sum())  # float32 probabilities round at 1e-7
        if isinstance(self.h, Tensor):
            if self.h.ndim != 2 or len(self.h) != len(p) or self.dim not in (0, self.h.shape[1]):
                raise ValueError(f"h has shape {tuple(self.h.shape)} for {len(p)} states: expected (states, dim)")
            if not bool(torch.isfinite(self.h).all()):
                raise ValueError("h must be finite")
            object.__setattr__(self, "h", self.h.to(p))
            object.__setattr__(self, "dim", self.h.shape[1])
        elif self.dim < 1:
            raise ValueError("h is a function: pass dim, the number of measured coordinates")
        if self.rates is not None:
            object.__setattr__(self, "rates", _checked_rates(torch.as_tensor(self.rates).to(p), len(p)))
        if (self.start_mean is None) != (self.start_covariance is None):
            raise ValueError("start_mean and start_covariance belong together: pass both or neither")
        if self.start_mean is not None and self.start_covariance is not None:
            mean = self.start_mean.to(p)
            if mean.shape != (len(p), self.dim):
                raise ValueError(f"start_mean has shape {tuple(mean.shape)}: expected ({len(p)}, {self.dim})")
            cov, _ = covariance_factor(self.start_covariance, "start_covariance", self.dim, definite=True)
            object.__setattr__(self, "start_mean", mean)
            object.__setattr__(self, "start_covariance", cov.to(p))

    @property
    def states(self) -> int:
        return len(self.prior)

    @property
    def feeds_back(self) -> bool:
        return not isinstance(self.h, Tensor)

    @property
    def table(self) -> Float[Tensor, "states dim"] | None:
        """H of each state where it depends on the state alone."""
        return self.h if isinstance(self.h, Tensor) else None

    def drifts(self, y: Float[Tensor, "*batch dim"], t: float) -> Tensor:
        """H of every state, shape (*batch or nothing, states, dim)."""
        if isinstance(self.h, Tensor):
            return self.h
        h = self.h(y, t)
        if h.shape != (*y.shape[:-1], self.states, self.dim):
            expected = (*y.shape[:-1], self.states, self.dim)
            raise ValueError(f"h(y, t) has shape {tuple(h.shape)} for y {tuple(y.shape)}: expected {expected}")
        return h

    def transition(self, dt: float) -> Float[Tensor, "states states"] | None:
        """exp(Q dt), or None for a static state."""
        if self.rates is None:
            return None
        step = same_step(dt)
        if step not in self._moves:
            if len(self._moves) >= 64:
                self._moves.clear()
            self._moves[step] = expm(self.rates * step).clamp_min(0.0)
        return self._moves[step]

    def start_log_likelihood(self, y: Float[Tensor, "paths dim"]) -> Float[Tensor, "paths states"]:
        r""":math:`\ln p(y_0 | x)` of every state; zero where Y_0 is not random."""
        if self.start_mean is None or self.start_covariance is None:
            return y.new_zeros(len(y), self.states)
        return log_normal(y[:, None] - self.start_mean, torch.linalg.cholesky(self.start_covariance))

    def fastest(self, times: Float[Tensor, " times"]) -> float:
        """The largest rate: of H along the chain, relative to its range, of detecting a jump, or a feedback's slope."""
        if not isinstance(self.h, Tensor):
            y, small, t = self.prior.new_zeros(1, self.dim), 1e-4, float(times[0])
            moved = [self.drifts(y + small * e, t) for e in torch.eye(self.dim, dtype=y.dtype, device=y.device)]
            slope = torch.stack([(m - self.drifts(y, t)).norm(dim=-1).max() for m in moved]).max() / small
            return max(float(slope), 0.0 if self.rates is None else float(self.rates.abs().max()))
        if self.rates is None:
            return 0.0
        jump = (self.h[:, None] - self.h).norm(dim=2)
        spread = float(jump.max())
        if spread == 0.0:
            return 0.0
        off = self.rates - torch.diag(torch.diagonal(self.rates))
        drift = float((self.rates @ self.h).norm(dim=1).max()) / spread
        spreading = float((off * jump**2).sum(1).max()) / spread**2
        return max(drift, spreading, 0.1 * float(jump[off > 0].square().max()) if bool((off > 0).any()) else 0.0)

    def stiffness(self, times: Float[Tensor, " times"]) -> float:
        """How fast measurements separate two states: max ‖H_x − H_x'‖² at the first time, at Y = 0 for a feedback."""
        h = self.drifts(self.prior.new_zeros(self.dim), float(times[0]))
        return float((h[:, None] - h).square().sum(2).max())

    def initial(self, paths: int, generator: torch.Generator) -> Int64[Tensor, " paths"]:
        return torch.multinomial(self.prior.cpu(), paths, replacement=True, generator=generator).to(self.prior.device)

    def propagate(self, state: Tensor, t: float, dt: float, generator: torch.Generator) -> Tensor:
        p = self.transition(dt)
        if p is None:
            return state
        u = torch.rand(state.shape, generator=generator, dtype=torch.float64).to(p.device)
        return (u[..., None] > p.cumsum(1)[state]).sum(-1).clamp_max(self.states - 1)

    def drift(self, y: Tensor, state: Tensor, t: float) -> Tensor:
        h = self.drifts(y, t)
        if h.ndim == 2:
            return h[state]
        index = state[..., None, None].expand(*state.shape, 1, self.dim)
        return torch.take_along_dim(h.expand(*state.shape, -1, -1), index, dim=-2)[..., 0, :]

    def start_log_density(self, y: Tensor, state: Tensor) -> Tensor:
        if self.start_mean is None or self.start_covariance is None:
            return y.new_zeros(state.shape)
        return log_normal(y - self.start_mean[state], torch.linalg.cholesky(self.start_covariance))

    def simulate(self, times: Float[Tensor, " times"], paths: int, generator: torch.Generator) -> Path:
        x0 = self.initial(paths, generator)
        jumps, states = self._jumps(x0, float(times[0]), float(times[-1]), generator)
        noise = brownian(times, paths, self.dim, generator, device=self.prior.device)
        y0 = self.prior.new_zeros(paths, self.dim)
        if self.start_mean is not None and self.start_covariance is not None:
            factor = torch.linalg.cholesky(self.start_covariance)
            white = torch.randn(paths, self.dim, generator=generator, dtype=torch.float64).to(factor.device)
            y0 = self.start_mean[x0] + white @ factor.T
        return self._solved(noise, jumps, states, y0)

    def refine(self, path: Path, times: Float[Tensor, " times"], generator: torch.Generator) -> Path:
        drawn: _Drawn = was_drawn(path)
        return self._solved(drawn.noise.refined(times, generator), drawn.jumps, drawn.states, path.y[0])

    def _jumps(self, x0: Tensor, start: float, end: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times of jumps and the states after them, by competing exponential clocks."""
        now = torch.full(x0.shape, start, dtype=torch.float64)
        state, times, states = x0.cpu(), [now], [x0.cpu()]
        while self.rates is not None:
            q = self.rates.cpu()
            out = -torch.diagonal(q)
            wait = torch.empty_like(now).exponential_(generator=generator) / out[state]
            now = now + torch.where(out[state] > 0, wait, torch.inf)
            if bool((now > end).all()):
                break
            to = (q - torch.diag(torch.diagonal(q)))[state].clamp_min(0.0)
            to[out[state] <= 0, 0] = 1.0  # no jump: the target does not matter
            state = torch.where(now <= end, torch.multinomial(to, 1, generator=generator)[:, 0], state)
            times.append(now.clone())
            states.append(state)
        device = self.prior.device
        return torch.stack(times).to(device), torch.stack(states).to(device)

    def _solved(self, noise: BrownianPath, jumps: Tensor, states: Tensor, y0: Tensor) -> Path:
        times = noise.times
        place = torch.searchsorted(jumps.T.contiguous(), times.expand(jumps.shape[1], -1).contiguous(), right=True) - 1
        state = torch.gather(states, 0, place.T)
        spent = self._spent(times, jumps, states)
        if isinstance(self.h, Tensor):
            y = y0 + torch.cat([y0[None] * 0, (spent @ self.h).cumsum(0)]) + noise.values
        else:
            share, grid = spent / times.diff()[:, None, None], times.tolist()
            y = euler(lambda v, k: (share[k, :, None] @ self.drifts(v, grid[k]))[:, 0], y0, times, noise)
        if not bool(torch.isfinite(y).all()):
            raise ValueError("the measurement overflowed: use smaller steps, or a feedback that does not explode")
        return Path(self, times, y, state, _Drawn(noise, jumps, states))

    def _spent(self, times: Tensor, jumps: Tensor, states: Tensor) -> Float[Tensor, "steps paths states"]:
        """Time spent in each state in each step."""
        total = times.new_zeros(len(times), jumps.shape[1], self.states)
        ends = torch.cat([jumps[1:], torch.full_like(jumps[:1], torch.inf)])
        for begin, end, state in zip(jumps, ends, states, strict=True):
            stay = (times[:, None].minimum(end) - begin).clamp_min(0.0)
            total.scatter_add_(2, state.expand(len(times), -1)[:, :, None], stay[:, :, None])
        return total.diff(dim=0)


def _checked_rates(q: Tensor, states: int) -> Tensor:
    if q.shape != (states, states):
        raise ValueError(f"rates have shape {tuple(q.shape)}: expected ({states}, {states})")
    off = q - torch.diag(torch.diagonal(q))
    if not bool(torch.isfinite(q).all()) or not bool((off >= 0).all()):
        raise ValueError("rates must be finite, and not negative off the diagonal")
    scale = float(q.abs().max().clamp_min(1e-300))
    if float(q.sum(1).abs().max()) > 1e-6 * scale:
        worst = int(q.sum(1).abs().argmax())
        raise ValueError(f"row {worst} of the rates sums to {float(q[worst].sum()):.3g}: rows must sum to zero")
    return off - torch.diag(off.sum(1))
