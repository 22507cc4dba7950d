r"""The information that the measurements carry about an attribute φ, as a curve in time.

.. math:: I(Y_{[0,t]}; \phi) = I(Y_0; \phi) + \tfrac12 E \int_0^t \| E[H \mid R_s] - E[H \mid F_s] \|^2 ds,
          \qquad R_s = F_s \vee \sigma(\phi)

φ is fixed in time: a function of a static state, of :math:`X_0`, or of the whole path of the state.  For
:math:`\phi(X_t)` of a moving state neither the integral nor monotonicity holds.

References: Duncan (1970); Mayer-Wolf & Zakai (1984); Guo, Shamai & Verdú (2005); Franzese et al. (2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.filtering.filters import Filtered
from sigmascope.filtering.linear import LinearSystem, riccati, riccati_and_gain
from sigmascope.filtering.systems import NoInformation, Path


@dataclass(frozen=True, eq=False)
class InformationInTime:
    """Information in nats along the measurements.

    Args:
        times: shape (times,).
        per_path: contribution of each path, shape (times, paths); its mean is :attr:`value`.
    """

    times: Float[Tensor, " times"]
    per_path: Float[Tensor, "times paths"]

    @property
    def value(self) -> Float[Tensor, " times"]:
        return self.per_path.mean(1)

    @property
    def stderr(self) -> Float[Tensor, " times"]:
        """Standard error of the mean over independent paths."""
        stderr: Tensor = self.per_path.std(1) / self.per_path.shape[1] ** 0.5
        return stderr


def information_by_gap(path: Path, unconditional: Filtered, conditional: Filtered) -> InformationInTime:
    r"""Information by the integral of the squared gap between the two expected drifts, trapezoidal in time.

    .. math:: I(Y_{[0,t]}; \phi) = I(Y_0; \phi) + \tfrac12 E \int_0^t \| E[H \mid R_s] - E[H \mid F_s] \|^2 ds

    Args:
        path: the measurements.
        unconditional: the filter of the measurements alone.
        conditional: the filter of the measurements and φ (see :func:`~sigmascope.filtering.finite_filters.prior_given`,
            :func:`~sigmascope.filtering.filters.known_path`).

    Returns: the information at every time in nats, path by path, with its standard error.

    Errors: of the paths (``stderr``) and of the filters' step.  A particle filter adds its own variance to the gap, a
        bias upward of order 1 / particles.
    Raises: NoInformation where the noises of state and measurement are correlated: the theorem fails; ValueError for
        filters of other grids.
    """
    _check(path, unconditional, conditional)
    rate = 0.5 * ((conditional.drift - unconditional.drift) ** 2).sum(2)
    area = (0.5 * (rate[1:] + rate[:-1]) * path.times.diff()[:, None]).cumsum(0)
    first = (conditional.log_evidence[0] - unconditional.log_evidence[0])[None]
    return InformationInTime(path.times, torch.cat([first, first + area]))


def information_by_ratio(path: Path, unconditional: Filtered, conditional: Filtered) -> InformationInTime:
    r"""Information by the likelihood ratio, :math:`E \ln \frac{dP(Y_{[0,t]} \mid \phi)}{dP(Y_{[0,t]})}`.

    Args:
        path: the measurements.
        unconditional: the filter of the measurements alone.
        conditional: the filter of the measurements and φ, as for :func:`information_by_gap`.

    Returns: the information at every time in nats, path by path, with its standard error, which is larger than that by
        the gap.

    Errors: sampled measurements carry less than the path: for a moving state the ratio is low by a first-order amount
        in the step (with :func:`~sigmascope.filtering.filters.known_path`, about :math:`\|C B\|^2\, t\, dt / 8` nats
        for a linear system), where the gap errs at second order.

    Raises: NoInformation where the noises of state and measurement are correlated; ValueError for filters of other
        grids.
    """
    _check(path, unconditional, conditional)
    return InformationInTime(path.times, conditional.log_evidence - unconditional.log_evidence)


def _check(path: Path, unconditional: Filtered, conditional: Filtered) -> None:
    if path.system.correlated:
        raise NoInformation(
            "the noises of state and measurement are correlated: the information theorem needs a measurement noise "
            "that is independent of the state; leave the correlation out"
        )
    if unconditional.drift.shape != path.y.shape or conditional.drift.shape != path.y.shape:
        raise ValueError(
            f"the filters have shapes {tuple(unconditional.drift.shape)} and {tuple(conditional.drift.shape)}, "
            f"the path {tuple(path.y.shape)}: run both on this path"
        )


def gaussian_information(system: LinearSystem, times: Tensor) -> Float[Tensor, " times"]:
    r"""Information on the whole path of the state of a linear system, from the Riccati equation alone.

    .. math:: I_t = I_0 + \tfrac12 \int_0^t \mathrm{tr}(C P_s C^\top)\,ds

    Exact for constant coefficients; else these are taken at the middle of each step (second order).

    Args:
        system: the system.
        times: grid, shape (times,).

    Returns: the information at every time, nats, shape (times,).

    Raises: NoInformation for correlated noises; ArithmeticError where the covariance overflows.
    """
    if system.correlated:
        raise NoInformation("the noises of state and measurement are correlated: the information theorem fails")
    gained = riccati_and_gain(system, times)[1]
    first = gained.new_zeros(())
    if system.start_gain is not None and system.start_covariance is not None:
        spread = system.start_gain @ system.covariance @ system.start_gain.T + system.start_covariance
        first = 0.5 * (torch.logdet(spread) - torch.logdet(system.start_covariance))
    return first + 0.5 * gained


def gaussian_state_information(system: LinearSystem, times: Tensor) -> Float[Tensor, " times"]:
    r"""Information on the *present* state of a linear system.

    .. math:: I(Y_{[0,t]}; X_t) = \tfrac12 \ln\det \mathrm{Var}(X_t) - \tfrac12 \ln\det P_t

    It may fall with time, and is not an integral of a squared gap.  Zero where the state is known beforehand.

    Args:
        system: the system.
        times: grid, shape (times,).

    Returns: the information at every time, nats, shape (times,).

    Raises: ValueError where only a part of the state is known beforehand (the information on that part is not defined).
    """
    grid = torch.as_tensor(times, dtype=torch.float64)
    posterior = riccati(system, grid)
    n, free, values = len(system.mean), system.covariance, []
    for k, t in enumerate(grid.tolist()):
        if k:
            move = system.transition(float(grid[k - 1]), t - float(grid[k - 1]))
            free = move.matrix[:n, :n] @ free @ move.matrix[:n, :n].T + move.covariance[:n, :n]
        if not bool(free.any()):
            values.append(free.new_zeros(()))
        elif float(torch.linalg.det(free)) <= 0.0:
            raise ValueError(f"at t = {t:g} a part of the state is known for certain: use a definite covariance")
        else:
            values.append(0.5 * (torch.logdet(free) - torch.logdet(posterior[k])))
    return torch.stack(values)
