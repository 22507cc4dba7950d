r"""Samplers: schemes for the generative SDE and for the probability-flow ODE, as generators of states.

In the filter's clock :math:`\lambda = \sigma^{-2}` the generative SDE is a measurement of the posterior mean, with
noise of constant strength,

.. math:: dZ = D(Z/\lambda, \lambda^{-1/2})\, d\lambda + dB, \qquad Z = \lambda Y,

and in :math:`\ln\sigma` it is :math:`dY = 2(D - Y)\,dx + \sqrt 2\,\sigma\, dW` with :math:`x = -\ln\sigma`.  The ODE
with the same marginals is :math:`dY/d\sigma = (Y - D)/\sigma`.

References: Song et al. (2021); Karras et al. (2022); Ho et al. (2020); Franzese et al. (2025).
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Denoiser, InputError, SamplesPosterior

Noise = Callable[[], Tensor]
"""A function without arguments that returns the next standard normal noise of all rows, float64, (rows, *event)."""


@dataclass(frozen=True, eq=False)
class State:
    """The state of a sampler at one noise level.

    Args:
        step: number of steps so far; 0 at the first level.
        sigma: noise level, in the unit of y; 0 at the end of a grid that ends there.
        y: the noisy values, float64, shape (rows, *event).
    """

    step: int
    sigma: float
    y: Tensor


def home_of(denoiser: Denoiser, default: torch.device | str = "cpu") -> tuple[torch.device, torch.dtype]:
    """Where a denoiser takes its values, and their type.

    Returns: the device of its parameters or buffers, else the default; and the type of its parameters, but float32 for
        parameters in half precision, in which small noise would be rounded away, and float64 where it has none.
    """
    first = next(denoiser.parameters(), None)
    held = first if first is not None else next(denoiser.buffers(), None)
    device = torch.device(default) if held is None else held.device
    return device, torch.float64 if first is None else torch.promote_types(first.dtype, torch.float32)


class Model:
    """A denoiser as schemes call it: float64 in and out, one level for all rows, results on the device of the states.

    Args:
        denoiser: is called on its own device and in its own type (:func:`home_of`).
        known: known attributes of each row.
        generator: of clean values drawn from the posterior.
    """

    def __init__(
        self, denoiser: Denoiser, known: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> None:
        self.denoiser, self._known, self._generator = denoiser, known, generator
        self.dtype = home_of(denoiser)[1]

    def denoise(self, y: Tensor, sigma: float) -> Tensor:
        """D(y, sigma)."""
        there = home_of(self.denoiser, y.device)[0]
        level = torch.full((len(y),), sigma, dtype=self.dtype, device=there)
        known = {name: value.to(there) for name, value in (self._known or {}).items()}
        with torch.no_grad():
            mean: Tensor = self.denoiser(y.to(there, self.dtype), level, known or None)
        return mean.to(y.device, torch.float64)

    def draw(self, y: Tensor, sigma: float) -> Tensor:
        """A clean value from p(v | y)."""
        if not isinstance(self.denoiser, SamplesPosterior) or self._known:
            raise InputError(
                "the bridge draws clean values from p(v | y), which this denoiser cannot sample: use another scheme, "
                "e.g. StochasticHeun()"
            )
        if self._generator is None:
            raise InputError("the bridge draws clean values: pass a generator for them")
        there = home_of(self.denoiser, y.device)[0]
        level = torch.full((len(y),), sigma, dtype=torch.float64, device=there)
        with torch.no_grad():
            drawn = self.denoiser.sample_posterior(y.to(there), level, 1, self._generator)[0]
        return drawn.to(y.device, torch.float64)


class Scheme(ABC):
    """One step of a sampler, from one noise level to a lower one.

    Attributes:
        stochastic: whether it draws noise; one that does not cannot fork.
        order: weak order of convergence in the step of ln sigma (for an ODE: its order); 0 where a step is exact.
    """

    stochastic: bool
    order: int

    @abstractmethod
    def step(self, model: Model, y: Tensor, sigma: float, after: float, noise: Noise) -> Tensor:
        """One step down.

        Args:
            model: the denoiser, as schemes call it: ``model.denoise(y, sigma)``.
            y: the states at level ``sigma``, float64, shape (rows, *event).
            sigma: their level.
            after: the next level, lower and greater than 0.
            noise: returns the next standard normal noise of all rows.

        Returns: the states at level ``after``, float64, shape (rows, *event).
        """

    @abstractmethod
    def last(self, model: Model, y: Tensor, sigma: float) -> Tensor:
        """The clean values from the states ``y`` at the last level ``sigma``, for a grid that ends at 0."""


class _Denoised(Scheme):
    """Schemes that end with the posterior mean at the last level."""

    def last(self, model: Model, y: Tensor, sigma: float) -> Tensor:
        return model.denoise(y, sigma)


class EulerMaruyama(_Denoised):
    r"""The generative SDE by Euler–Maruyama in :math:`\ln\sigma`.

    .. math:: y' = y + 2h(D - y) + \sigma\sqrt{2h}\,\xi, \qquad h = \ln(\sigma/\sigma')

    Weak and strong order 1 (the noise is additive); unstable for h > 1.
    """

    stochastic, order = True, 1

    def step(self, model: Model, y: Tensor, sigma: float, after: float, noise: Noise) -> Tensor:
        h = math.log(sigma / after)
        return y + 2 * h * (model.denoise(y, sigma) - y) + sigma * math.sqrt(2 * h) * noise()


class Ancestral(_Denoised):
    r"""Euler in the filter's clock: the bridge to the posterior mean, as in DDPM's ancestral sampling.

    .. math:: y' = y + (1 - \sigma'^2/\sigma^2)(D - y) + \sigma'\sqrt{1 - \sigma'^2/\sigma^2}\,\xi

    Weak and strong order 1, stable at any step; exact in one step for a single point.

    References: Ho et al. (2020), with the smaller of their two variances.
    """

    stochastic, order = True, 1

    def step(self, model: Model, y: Tensor, sigma: float, after: float, noise: Noise) -> Tensor:
        share = 1.0 - (after / sigma) ** 2
        return y + share * (model.denoise(y, sigma) - y) + after * math.sqrt(share) * noise()


class StochasticHeun(_Denoised):
    r"""The generative SDE at weak order 2: predictor and corrector in the filter's clock, where the noise is constant.

    .. math:: \tilde z = z + D\,\Delta\lambda + \Delta B, \qquad
              z' = z + w_0 D + w_1 D(\tilde z/\lambda', \sigma') + \Delta B

    with the weights that are exact for a denoiser linear in :math:`\ln\lambda` over the step,
    :math:`w_1 = \lambda ((r-1)e^r + 1)/r`, :math:`w_0 + w_1 = \Delta\lambda`, :math:`r = \ln(\lambda'/\lambda)`.  Two
    calls a step; strong order 1, since only the increment of the noise is drawn.  The denoised value at the start of
    the step may be passed.

    References: Kloeden & Platen (1992), §15.1, for additive noise.
    """

    stochastic, order = True, 2

    def step(
        self, model: Model, y: Tensor, sigma: float, after: float, noise: Noise, denoised: Tensor | None = None
    ) -> Tensor:
        share = 1.0 - (after / sigma) ** 2
        white = after * math.sqrt(share) * noise()
        first = model.denoise(y, sigma) if denoised is None else denoised
        ahead = y + share * (first - y) + white
        r = 2.0 * math.log(sigma / after)
        # ((r-1)e^r + 1)/(r e^r), by its series where the difference would lose digits.
        weight = r / 2 - r * r / 6 if r < 1e-4 else (r - 1.0 + math.exp(-r)) / r
        return ahead + weight * (model.denoise(ahead, after) - first)


@dataclass(frozen=True)
class Churn(_Denoised):
    r"""EDM's stochastic sampler: add a little noise, then a step of the ODE by Heun.

    .. math:: \hat\sigma = \sigma\,(\sigma/\sigma')^c \le \sqrt2\,\sigma, \qquad
              \hat y = y + s\sqrt{\hat\sigma^2 - \sigma^2}\,\xi, \qquad \hat y \to y' \text{ by the ODE}

    Args:
        amount: c > 0, the noise added relative to the noise removed: near 0 this is the ODE, 1 is the generative SDE
            (for small steps, up to 0.35 in ln sigma, below the bound of :math:`\sqrt2`); on a grid even in ln sigma
            the authors' S_churn is :math:`c \ln(\sigma_{max}/\sigma_{min})`.
        lowest: the smallest level at which noise is added.
        highest: the largest level at which noise is added.
        inflation: s, the authors' correction for networks that remove too much noise; 1 keeps the law.

    The law at each level is right for every amount, at order 2.  Only amount 1 continues as p(v | y) does, at order 1:
    forks by another amount belong to another process.

    Raises: InputError for an amount or inflation that is not positive, or an empty interval.

    References: Karras et al. (2022), Algorithm 2.
    """

    amount: float = 1.0
    lowest: float = 0.0
    highest: float = math.inf
    inflation: float = 1.0
    stochastic = True
    order = 2

    def __post_init__(self) -> None:
        good = math.isfinite(self.amount) and self.amount > 0 and math.isfinite(self.inflation) and self.inflation > 0
        if not good or not 0.0 <= self.lowest < self.highest:
            raise InputError(
                f"churn of amount {self.amount:g} and inflation {self.inflation:g} between {self.lowest:g} and "
                f"{self.highest:g}: expected both positive and 0 <= lowest < highest; without noise, use Heun()"
            )

    def step(self, model: Model, y: Tensor, sigma: float, after: float, noise: Noise) -> Tensor:
        raised = sigma
        if self.lowest <= sigma <= self.highest:
            raised = sigma * min((sigma / after) ** self.amount, math.sqrt(2.0))
            y = y + self.inflation * math.sqrt(raised**2 - sigma**2) * noise()
        return _heun(model, y, raised, after)


class Euler(_Denoised):
    r"""The probability-flow ODE by Euler in sigma.

    .. math:: y' = y + (\sigma' - \sigma)\, \frac{y - D(y, \sigma)}{\sigma}

    Order 1 in the step, one call of the denoiser a step.  It is deterministic: all forks of a state are the same.
    """

    stochastic, order = False, 1

    def step(self, model: Model, y: Tensor, sigma: float, after: float, noise: Noise) -> Tensor:
        return y + (after - sigma) / sigma * (y - model.denoise(y, sigma))


class Heun(_Denoised):
    r"""The probability-flow ODE by Heun in sigma.

    .. math:: \tilde y = y + (\sigma' - \sigma)\, f(y, \sigma), \qquad
              y' = y + \tfrac12 (\sigma' - \sigma) \left(f(y, \sigma) + f(\tilde y, \sigma')\right), \qquad
              f(y, \sigma) = \frac{y - D(y, \sigma)}{\sigma}

    Order 2 in the step, two calls of the denoiser a step.  It is deterministic: all forks of a state are the same.

    References: Karras et al. (2022), Algorithm 1.
    """

    stochastic, order = False, 2

    def step(self, model: Model, y: Tensor, sigma: float, after: float, noise: Noise) -> Tensor:
        return _heun(model, y, sigma, after)


def _heun(model: Model, y: Tensor, sigma: float, after: float) -> Tensor:
    slope = (y - model.denoise(y, sigma)) / sigma
    ahead = y + (after - sigma) * slope
    other = (ahead - model.denoise(ahead, after)) / after
    return y + (after - sigma) * 0.5 * (slope + other)


class Bridge(Scheme):
    r"""The exact ancestral sampler: draw a clean value from p(v | y), then the next level given both.

    .. math:: v \sim p(v \mid y), \qquad y' \mid y, v \sim N\!\left(v + \tfrac{\sigma'^2}{\sigma^2}(y - v),
              \sigma'^2(1 - \tfrac{\sigma'^2}{\sigma^2}) I\right)

    Exact at any step, for a denoiser whose posterior can be sampled (:class:`~sigmascope.core.SamplesPosterior`).
    """

    stochastic, order = True, 0

    def step(self, model: Model, y: Tensor, sigma: float, after: float, noise: Noise) -> Tensor:
        share = 1.0 - (after / sigma) ** 2
        return y + share * (model.draw(y, sigma) - y) + after * math.sqrt(share) * noise()

    def last(self, model: Model, y: Tensor, sigma: float) -> Tensor:
        return model.draw(y, sigma)


def checked_levels(sigmas: Sequence[float] | np.ndarray | Tensor) -> list[float]:
    """The levels as a checked list: decreasing; the last may be 0.

    Raises: InputError.
    """
    levels = [float(s) for s in sigmas]
    good = all(math.isfinite(s) for s in levels) and len(levels) >= 2 and levels[-1] >= 0
    if not good or any(a <= b for a, b in itertools.pairwise(levels)):
        raise InputError(
            f"{len(levels)} levels from {levels[0] if levels else '-'}: expected two or more, finite, "
            "strictly decreasing, the last 0 or more"
        )
    return levels


def sample(
    denoiser: Denoiser,
    y: Tensor,
    sigmas: Sequence[float] | np.ndarray | Tensor,
    scheme: Scheme | None = None,
    *,
    noise: Noise | None = None,
    known: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[State]:
    """Run the generative process down from a noisy state.

    Args:
        denoiser: the model.
        y: states at the first level, shape (rows, *event), e.g. from :func:`start`.
        sigmas: decreasing levels, e.g. from :func:`~sigmascope.noise.sigma_grid` or
            :func:`~sigmascope.noise.karras_grid`; 0 at the end gives the clean value.
        scheme: the sampler's step; None is :class:`StochasticHeun`.
        noise: a function without arguments that returns the next standard normal noise of all rows, shape (rows,
            *event), on any device, such as ``Streams(seed, rows(len(y)), denoiser.event)``; None for a scheme without
            noise.
        known: by name, the values of known attributes, one per row; None: nothing is known.
        generator: of the clean values that a :class:`Bridge` draws; other schemes need none.

    Yields: the state at every level, the first included.

    Cost: one or two calls of the denoiser a step, by the scheme.

    Raises: InputError for levels that do not decrease, or a stochastic scheme without noise.

    Errors: those of the scheme, and of the law of ``y``: a start from noise alone lacks the variance of the data,
        a relative error of ‖Σ_V‖/σ².
    """
    levels, how = checked_levels(sigmas), scheme or StochasticHeun()
    if how.stochastic and noise is None:
        raise InputError(f"{type(how).__name__} draws noise: pass noise=Streams(seed, rows(len(y)), event)")

    def drawn() -> Tensor:
        if noise is None:
            raise InputError(f"{type(how).__name__} has no noise to draw")
        return noise().to(y.device)

    return _run(Model(denoiser, known, generator), y.double(), levels, how, drawn)


def _run(model: Model, y: Tensor, levels: list[float], how: Scheme, noise: Noise) -> Iterator[State]:
    yield State(0, levels[0], y)
    for k, (sigma, after) in enumerate(itertools.pairwise(levels), 1):
        y = how.step(model, y, sigma, after, noise) if after > 0 else how.last(model, y, sigma)
        yield State(k, after, y)


def final(states: Iterator[State]) -> State:
    """The last state of a sampler, once all its steps are done.

    Args:
        states: what :func:`sample`, :func:`fork` or :func:`joint` yields.

    Returns: the state at the last level.
    """
    state = next(states)
    for state in states:  # noqa: B007
        pass
    return state


def start(denoiser: Denoiser, sigma: float, noise: Tensor, known: Mapping[str, Tensor] | None = None) -> Tensor:
    r"""States at a high level from noise alone: :math:`E[V] + \sigma n`.

    The mean is taken to be the denoised value of 0 at that level.  The law lacks the variance of the data: choose sigma
    well above the largest standard deviation of the data.

    Args:
        denoiser: the model.
        sigma: the level, in the unit of the data.
        noise: n, standard normal, shape (rows, *event), e.g. ``Streams(seed, rows(16), denoiser.event)()``.
        known: by name, the values of known attributes, one per row.

    Returns: the states, float64, shape (rows, *event).
    """
    white = noise.double()
    middle = Model(denoiser, known).denoise(torch.zeros_like(white), sigma)
    return middle + sigma * white
