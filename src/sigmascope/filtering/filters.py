r"""One interface for every filter, and one driver.

A filter carries :math:`\pi_t = \mathrm{law}(X_t \mid Y_0, Y_s, s \le t)` along measurements on a grid.  Its evidence is
the likelihood ratio

.. math:: \ln \frac{dP_Y}{dP_{ref}}, \qquad P_{ref}:\ Y - Y_0 \text{ a standard Brownian motion, and for a random } Y_0
          \text{ Lebesgue measure}

so that differences between two filters of one path do not depend on the reference.

References: Girsanov (1960); Kallianpur & Striebel (1968); Bain & Crisan (2009), §3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.filtering.systems import NoInformation, Path, System, feedback_gain, known_state
from sigmascope.paths import check_times

State = TypeVar("State", bound=Any)


class Filter(ABC, Generic[State]):
    r"""A filter: it carries the law :math:`\pi_t` of the state given the measurements so far, for many paths at once.

    A subclass defines :meth:`init` and :meth:`step`; :func:`run` drives it.  The state of the filter is a value that
    the filter alone reads.

    Attributes:
        system: the system that is filtered.
        rate: a function from the times of a grid to the fastest rate, per unit of time, that the filter's own scheme
            must resolve; None: its scheme needs no shorter steps than the system.
        watched: diagnostics that are kept at each time, by name: functions from the state to a tensor of shape
            (paths,).
    """

    system: System
    rate: Callable[[Tensor], float] | None = None
    watched: Mapping[str, Callable[[State], Tensor]] = MappingProxyType({})

    @abstractmethod
    def init(self, y0: Float[Tensor, "paths dim"]) -> State:
        """The state of the filter after the first measurement y0, :math:`Y_0` of each path."""

    @abstractmethod
    def step(self, state: State, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> State:
        """The state of the filter at t + dt.

        Args:
            state: at t.
            dy: increment of the measurement over the step, shape (paths, dim).
            t: time at the beginning of the step.
            dt: length of the step.
        """

    def mean(self, state: State) -> Tensor:
        """E[X_t | measurements], shape (paths, n); for a finite state the probabilities, shape (paths, states)."""
        return cast(Tensor, state.mean)

    def drift(self, state: State, t: float) -> Float[Tensor, "paths dim"]:
        r""":math:`\pi_t(H)`, the expected drift of the measurement; H at the mean where H is linear in the state."""
        return self.system.drift(state.y, state.mean, t)

    def log_evidence(self, state: State) -> Float[Tensor, " paths"]:
        """Logarithm of the likelihood ratio of the measurements so far."""
        return cast(Tensor, state.log_evidence)

    def check_steps(self, times: Float[Tensor, " times"]) -> None:
        """Warn where a step is too coarse for the system or for this filter's scheme."""
        self.system.check_steps(times, 0.0 if self.rate is None else self.rate(times))


@dataclass(frozen=True, eq=False)
class Filtered:
    """The results of a filter on a path, at every time of the grid.

    Args:
        times: the grid, shape (times,).
        mean: E[X_t | measurements so far], shape (times, paths, n); for a finite state the probabilities of its values,
            shape (times, paths, states).
        drift: :math:`\\pi_t(H)`, the expected drift of the measurement, shape (times, paths, dim).
        log_evidence: logarithm of the likelihood ratio of the measurements so far, shape (times, paths).
        diagnostics: e.g. ``effective_sample_size`` of a particle filter, each of shape (times, paths).
        final: the filter's state at the last time.
    """

    times: Float[Tensor, " times"]
    mean: Tensor
    drift: Float[Tensor, "times paths dim"]
    log_evidence: Float[Tensor, "times paths"]
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    final: Any = None


def run(filter: Filter[Any], path: Path) -> Filtered:
    """Filter measurements: the driver of every filter, for all paths at once.

    Args:
        filter: a filter of a system with the same number of measured coordinates.
        path: the measurements, e.g. ``Path(system, times, y)``; its states are not used.

    Returns: means, expected drifts and evidence at every time, float64.

    Raises: ValueError for measurements that are not finite or of another dimension; ArithmeticError with the
        time where the filter itself overflows.
    Warns: CoarseStepWarning where a step is too long for the rates of the system or of the filter.
    """
    times = check_times(path.times)
    if path.y.shape[0] != len(times) or path.y.shape[2] != filter.system.dim:
        raise ValueError(
            f"y has shape {tuple(path.y.shape)}: expected (times, paths, dim) with {len(times)} times and dim "
            f"{filter.system.dim}"
        )
    if not bool(torch.isfinite(path.y).all()):
        raise ValueError("the measurements are not finite: clean the path, or cut it where it breaks")
    filter.check_steps(times)
    y = path.y.double()
    dy = y.diff(dim=0)
    return drive(filter, times, y[0], lambda k, drift: dy[k])


def drive(
    filter: Filter[Any],
    times: Float[Tensor, " times"],
    y0: Float[Tensor, "paths dim"],
    increment: Callable[[int, Tensor], Tensor],
) -> Filtered:
    """Step a filter along a checked grid, keeping its results.

    Args:
        increment: of the measurement over step k, from k and the filter's drift at its left end.

    Raises: ArithmeticError with the time where the filter overflows.
    """
    grid, state = times.tolist(), filter.init(y0)
    first = filter.mean(state)
    mean = first.new_empty(len(grid), *first.shape)
    drift, evidence = y0.new_empty(len(grid), *y0.shape), y0.new_empty(len(grid), len(y0))
    kept: dict[str, list[Tensor]] = {}
    for k, t in enumerate(grid):
        if k:
            state = filter.step(state, increment(k - 1, drift[k - 1]), grid[k - 1], t - grid[k - 1])
        mean[k], drift[k] = filter.mean(state), filter.drift(state, t)
        evidence[k] = filter.log_evidence(state)
        for name, look in filter.watched.items():
            kept.setdefault(name, []).append(look(state))
    fine = torch.isfinite(mean).flatten(1).all(1) & torch.isfinite(evidence).all(1)
    if not bool(fine.all()):
        raise ArithmeticError(f"the filter overflowed at t = {grid[int((~fine).nonzero()[0])]:g}: use smaller steps")
    return Filtered(times, mean, drift, evidence, {k: torch.stack(v) for k, v in kept.items()}, state)


def known_path(path: Path) -> Filtered:
    r"""The filter given the whole path of the state: :math:`E[H \mid R_t] = H(Y_t, X_t, t)`.

    With it, :func:`information_by_gap` measures the information about the whole path of the state.

    The evidence is Girsanov's, :math:`\int H\,dY - \tfrac12\int\|H\|^2 dt`, as sums over the grid, with
    :math:`\ln p(Y_0 | X_0)`.  In the sums Y is taken at the left of a step (the integral is Itô's), and of the state,
    which is independent of W, both ends are.  A feedback adds what Milstein's scheme does, see
    :func:`~sigmascope.filtering.systems.feedback_gain`.

    Args:
        path: measurements with the states that made them.

    Returns: the states as means, the drifts that they cause, and the evidence.

    Raises: NoInformation for correlated noises (the state's path then depends on W too); ValueError where the state is
        not known.
    """
    if path.system.correlated:
        raise NoInformation("the noises are correlated: the state's path depends on the measurement's noise too")
    grid, system, state = path.times.tolist(), path.system, known_state(path)
    drift = torch.stack([system.drift(path.y[k], state[k], t) for k, t in enumerate(grid)])
    ahead = torch.stack([system.drift(path.y[k], state[k + 1], t) for k, t in enumerate(grid[:-1])])
    h, dt = 0.5 * (drift[:-1] + ahead), path.times.diff()[:, None]
    gain = (h * path.increments).sum(2) - 0.5 * (h**2).sum(2) * dt
    if system.feeds_back:
        gain = gain + torch.stack(
            [
                feedback_gain(partial(system.drift, state=state[k], t=t), drift[k], path.y[k], dy, grid[k + 1] - t)
                for k, (t, dy) in enumerate(zip(grid[:-1], path.increments, strict=True))
            ]
        )
    first = system.start_log_density(path.y[0], state[0])[None]
    return Filtered(path.times, state, drift, torch.cat([first, first + gain.cumsum(0)]))
