"""The Kalman–Bucy filter, and the filter of Beneš, which is a Kalman–Bucy filter with a tilt."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.filtering.diffusion import BenesSystem
from sigmascope.filtering.filters import Filter
from sigmascope.filtering.linear import LinearSystem, start_posterior
from sigmascope.filtering.systems import covariance_factor, log_normal


class GaussianState(NamedTuple):
    """Mean of each path, the covariance that they share, the measurement and the log evidence."""

    mean: Float[Tensor, "paths n"]
    covariance: Float[Tensor, "n n"]
    y: Float[Tensor, "paths dim"]
    log_evidence: Float[Tensor, " paths"]


class KalmanBucyFilter(Filter[GaussianState]):
    r"""The filter of a linear system.

    .. math:: dm = (A m + a)\,dt + (P C^\top + B S)(dY - (C m + F Y + c)\,dt)

    with P of the Riccati equation.  A step does not discretise it: state and increment of the measurement are jointly
    Gaussian given the past, so for constant coefficients the result is *exactly* the conditional law given the
    measurements at the grid, whatever the step; it converges to the equation above as the grid becomes fine.  The
    covariance is updated in Joseph's form for correlated noises, which keeps it positive.

    Args:
        system: linear.
        mean: of :math:`X_0` for each path, shape (paths, n), in place of the system's.
        covariance: of :math:`X_0`, shape (n, n), for all paths.

    Raises: ValueError for a covariance that is none, or shapes that disagree; ArithmeticError where the covariance
        overflows.
    References: Kalman & Bucy (1961); Bucy & Joseph (1968); Liptser & Shiryaev (2001), ch. 10.
    """

    def __init__(self, system: LinearSystem, mean: Tensor | None = None, covariance: Tensor | None = None) -> None:
        self.system: LinearSystem = system
        n = len(system.mean)
        self._mean = system.mean[None] if mean is None else torch.as_tensor(mean, dtype=torch.float64)
        if self._mean.ndim != 2 or self._mean.shape[1] != n:
            raise ValueError(f"mean has shape {tuple(self._mean.shape)}: expected (paths, {n})")
        self._covariance = system.covariance
        if covariance is not None:
            self._covariance, _ = covariance_factor(covariance, "covariance", n)

    def init(self, y0: Float[Tensor, "paths dim"]) -> GaussianState:
        s = self.system
        mean = self._mean.expand(len(y0), -1)
        gain, p = start_posterior(s, self._covariance)
        evidence = y0.new_zeros(len(y0))
        if gain is not None and s.start_gain is not None and s.start_covariance is not None:
            residual = y0 - mean @ s.start_gain.T
            spread = s.start_gain @ self._covariance @ s.start_gain.T + s.start_covariance
            evidence = log_normal(residual, torch.linalg.cholesky(spread))
            mean = mean + residual @ gain.T
        return GaussianState(mean, p, y0, evidence)

    def step(self, state: GaussianState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> GaussianState:
        n, p = state.mean.shape[1], state.covariance
        move = self.system.transition(t, dt)
        to_x, to_y = move.matrix[:n, :n], move.matrix[n:, :n]
        noise_x, noise_y, both = move.covariance[:n, :n], move.covariance[n:, n:], move.covariance[:n, n:]
        expected = state.mean @ to_y.T + move.offset[n:]
        if self.system.feedback is not None:
            expected = expected + state.y @ move.matrix[n:, n:].T - state.y
        residual = dy - expected
        spread = to_y @ p @ to_y.T + noise_y
        try:
            chol = torch.linalg.cholesky(spread)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise ArithmeticError(
                f"the filter's covariance overflowed before t = {t + dt:g}: an unstable mode of A that C does "
                "not measure grows without bound; leave it out, or end earlier"
            ) from error
        gain = torch.cholesky_solve((to_x @ p @ to_y.T + both).T, chol).T
        left = to_x - gain @ to_y
        crossed = gain @ both.T
        p = left @ p @ left.T + noise_x - crossed - crossed.T + gain @ noise_y @ gain.T
        mean = state.mean @ to_x.T + move.offset[:n] + residual @ gain.T
        # Against Wiener measure: the density of the increment over that of N(0, dt I).
        square = (dy**2).sum(1) / dt - (residual @ torch.cholesky_inverse(chol) * residual).sum(1)
        log_volume = (torch.diagonal(chol) / dt**0.5).log().sum()
        evidence = state.log_evidence + (0.5 * square - log_volume)
        return GaussianState(mean, 0.5 * (p + p.T), state.y + dy, evidence)

    def covariance(self, state: GaussianState) -> Float[Tensor, "n n"]:
        """Covariance of the state given the measurements; the same for every path."""
        return state.covariance


class BenesState(NamedTuple):
    """Mean of each path and their variance without the tilt; the tilted mean and the log tilt; the measurement, and the
    log evidence without the tilt."""

    untilted: Float[Tensor, " paths"]
    variance: float
    mean: Float[Tensor, "paths 1"]
    log_tilt: Float[Tensor, " paths"]
    y: Float[Tensor, "paths dim"]
    log_evidence: Float[Tensor, " paths"]


class BenesFilter(Filter[BenesState]):
    r"""The exact nonlinear filter of :class:`~sigmascope.filtering.diffusion.BenesSystem`.

    By Girsanov's theorem the law of X has the density
    :math:`\cosh(\mu X_t + c)/\cosh(\mu X_0 + c)\; e^{-\mu^2 t/2}` with respect to a Brownian motion, so the filter is
    that of a Brownian motion, :math:`N(m, P)`, tilted:

    .. math:: p(x \mid Y) \propto \cosh(\mu x + c)\, N(x; m, P),

    two Gaussians at :math:`m \pm \mu P`.  Exact for measurements at any grid, as :class:`KalmanBucyFilter` is.

    Args:
        system: the system of Beneš.

    References: Beneš (1981); Bain & Crisan (2009), §6.1.
    """

    def __init__(self, system: BenesSystem) -> None:
        self.system: BenesSystem = system
        gain = system.gain.double()
        self._strength = float(gain.norm())
        self._along = gain / self._strength if self._strength else gain  # the measured combination that depends on X
        offset = torch.zeros_like(gain) if system.offset is None else system.offset.double()
        self._offset = float(offset @ self._along)
        across = offset - self._offset * self._along
        self._across = across if bool((across != 0).any()) else None
        self._constant = 0.5 * float(across @ across + system.mu**2)

    def init(self, y0: Float[Tensor, "paths dim"]) -> BenesState:
        start = torch.full_like(y0[:, 0], self.system.mean)
        state = self._tilted(start, self.system.variance, y0, torch.zeros_like(start))
        return state._replace(log_evidence=-state.log_tilt)

    def _tilted(self, m: Tensor, p: float, y: Tensor, evidence: Tensor) -> BenesState:
        mu = self.system.mu
        arm = mu * m + self.system.shift
        # ln E cosh(mu x + c) for x of N(m, p)
        log_tilt = torch.logaddexp(arm, -arm) + (0.5 * mu**2 * p - math.log(2))
        return BenesState(m, p, (m + mu * p * torch.tanh(arm))[:, None], log_tilt, y, evidence)

    def step(self, state: BenesState, dy: Float[Tensor, "paths dim"], t: float, dt: float) -> BenesState:
        h, p = self._strength, state.variance
        measured = dy @ self._along
        residual = (measured - self._offset * dt) - state.untilted * (h * dt)
        # (X, h ∫X + W) after a step of a Brownian motion X, given its start: covariances dt, h dt²/2, dt + h² dt³/3.
        to_y, both, noise = h * dt, 0.5 * h * dt**2, dt + h**2 * dt**3 / 3.0
        spread = to_y**2 * p + noise
        gain = (p * to_y + both) / spread
        left = (1.0 - gain * to_y) ** 2 * p + dt - 2.0 * gain * both + gain**2 * noise
        gained = 0.5 * (measured**2 / dt - residual**2 / spread) - (0.5 * math.log(spread / dt) + self._constant * dt)
        if self._across is not None:
            gained = gained + dy @ self._across
        return self._tilted(state.untilted + gain * residual, left, state.y + dy, state.log_evidence + gained)

    def variance(self, state: BenesState) -> Float[Tensor, " paths"]:
        """Variance of the state given the measurements."""
        p = state.variance
        return p + (self.system.mu * p) ** 2 * (
            1 - torch.tanh(self.system.mu * state.untilted + self.system.shift) ** 2
        )

    def log_density(self, state: BenesState, x: Float[Tensor, " points"]) -> Float[Tensor, "paths points"]:
        """Log density of the state at the points, once it has one.

        Raises: ValueError at a start from a point.
        """
        p = state.variance
        if p <= 0.0:
            raise ValueError("the state is known for certain: it has no density yet")
        arm = self.system.mu * x + self.system.shift
        normal = -0.5 * (x - state.untilted[:, None]) ** 2 / p - 0.5 * math.log(2 * math.pi * p)
        return normal + torch.logaddexp(arm, -arm) - math.log(2) - state.log_tilt[:, None]

    def log_evidence(self, state: BenesState) -> Float[Tensor, " paths"]:
        return state.log_evidence + state.log_tilt
