r"""Generation from the latent filter alone: (Y, π), with the denoiser computed from π.

.. math:: dZ = \Big(\sum_a \pi(a) D_a\Big) d\lambda + dB^F, \qquad
          d\ln\pi(a) = (D_a - D)\cdot dB^F - \tfrac12\|D_a - D\|^2 d\lambda

in the filter's clock :math:`\lambda = \sigma^{-2}`, :math:`Z = \lambda Y`; steps are normalised.  No clean value and no
hidden attribute is ever drawn: the innovation :math:`B^F` drives both.  This is Kushner and Stratonovich's equation of
a diffusion model.

References: Franzese et al. (2025); Kushner (1967); Bain & Crisan (2009), §3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Denoiser, HasMeansByValue, HasPosterior, InputError
from sigmascope.sample.schemes import Model, Noise, checked_levels


@runtime_checkable
class Belief(Protocol):
    """What a filter holds of the hidden cause while it generates: log π, shape (rows, causes)."""

    def first(self, y: Tensor, sigma: float) -> Tensor:
        """ln π_0 = ln p(cause | Y_0 = y)."""
        ...

    def denoised(self, log_pi: Tensor, y: Tensor, sigma: float) -> Tensor:
        """D as π sees it, float64."""
        ...

    def update(self, log_pi: Tensor, y: Tensor, sigma: float, after_y: Tensor, after: float) -> Tensor:
        """ln π at the next level, once the measurement has moved there."""
        ...


@dataclass(frozen=True, eq=False)
class JointState:
    """Where the pair is: as :class:`~sigmascope.sample.schemes.State`, with ln π, shape (rows, causes)."""

    step: int
    sigma: float
    y: Tensor
    log_pi: Tensor


def mean_of_each_value(
    denoiser: Denoiser, y: Tensor, sigma: float, attribute: str
) -> Float[Tensor, "values batch *event"]:
    """D_a(y, sigma) for every value a, float64: in one pass where the denoiser can, else told one after the other.

    Of a value that never occurs the mean is 0.
    """
    if isinstance(denoiser, HasMeansByValue):
        dtype = Model(denoiser).dtype
        with torch.no_grad():
            level = torch.full((len(y),), sigma, dtype=dtype, device=y.device)
            return denoiser.means_by_value(y.to(dtype), level, attribute).to(y.device, torch.float64)
    prior = next(a for a in denoiser.attributes if a.name == attribute).prior
    each = [
        Model(denoiser, {attribute: torch.full((len(y),), a, device=y.device)}).denoise(y, sigma)
        if p > 0
        else torch.zeros_like(y, dtype=torch.float64)
        for a, p in enumerate(prior.tolist())
    ]
    return torch.stack(each)


def gather(
    log_pi: Float[Tensor, "batch values"],
    told: Float[Tensor, "values batch *event"],
    y: Tensor,
    sigma: float,
    after_y: Tensor,
    after: float,
) -> Float[Tensor, "batch values"]:
    r"""ln π after a step of the measurement, by the likelihood of its bridge under each value.

    .. math:: \ln\pi'(a) = \ln\pi(a) - \frac{\|y' - m_a\|^2}{2v} + c, \quad
              m_a = y + (1 - \tfrac{\sigma'^2}{\sigma^2})(D_a - y), \quad
              v = \tfrac{\sigma'^2(\sigma^2 - \sigma'^2)}{\sigma^2}

    This is :math:`\ln\pi(a) + D_a\cdot\Delta z - \tfrac12\|D_a\|^2\Delta\lambda`, taken about the mean of π so that
    no digits are lost.
    """
    change = after**-2 - sigma**-2
    dz = (after_y / after**2 - y / sigma**2).flatten(1)
    d = told.flatten(2)
    middle = (log_pi.exp().T[:, :, None] * d).sum(0)
    apart = d - middle
    gain = (apart * (dz - change * middle)).sum(2) - 0.5 * change * (apart**2).sum(2)
    return (log_pi + gain.T).log_softmax(1)


def from_prior(denoiser: Denoiser, attribute: str, y: Tensor, sigma: float) -> Float[Tensor, "batch values"]:
    r"""ln p(a | y) at a high level, from denoisers alone: one step of the filter from :math:`\lambda = 0`.

    .. math:: \ln p(a) + \mu_a \cdot \lambda y - \tfrac12 \lambda \|\mu_a\|^2 + c

    with :math:`\mu_a = D_a(\bar y, \sigma)`, :math:`\bar y = \sum_a p(a) D_a(y, \sigma)`, for :math:`E[V \mid a]`,
    which it is up to :math:`O(\lambda)`: at a denoised value no noise enters it.
    """
    a = next(x for x in denoiser.attributes if x.name == attribute)
    each = mean_of_each_value(denoiser, y, sigma, attribute)
    middle = (a.prior.to(y.device).view(-1, *[1] * y.ndim) * each).sum(0)
    d = mean_of_each_value(denoiser, middle, sigma, attribute).flatten(2)
    apart = d - d.mean(0)
    snr = sigma**-2
    gain = (apart * snr * (y.flatten(1) - d.mean(0))).sum(2) - 0.5 * snr * (apart**2).sum(2)
    return (a.prior.log().to(y.device) + gain.T).log_softmax(1)


class ValueBelief:
    """π on the values of one attribute, with the denoisers D_a told each of them.

    Args:
        denoiser: one that can be told the attribute.
        attribute: its name.

    Errors: strong order ½ in the step of ln sigma for π, since D_a moves along the step.
    """

    def __init__(self, denoiser: Denoiser, attribute: str) -> None:
        if attribute not in [a.name for a in denoiser.attributes]:
            known = ", ".join(a.name for a in denoiser.attributes) or "none"
            raise InputError(f"no attribute is called {attribute!r}: choose among {known}")
        self._denoiser, self._name = denoiser, attribute
        self._held: tuple[Tensor, float, Tensor] | None = None

    def _told(self, y: Tensor, sigma: float) -> Tensor:
        """D_a at the state at hand, computed once for the mean and for the update."""
        if self._held is None or self._held[0] is not y or self._held[1] != sigma:
            self._held = (y, sigma, mean_of_each_value(self._denoiser, y, sigma, self._name))
        return self._held[2]

    def first(self, y: Tensor, sigma: float) -> Tensor:
        if isinstance(self._denoiser, HasPosterior):
            level = torch.full((len(y),), sigma, dtype=torch.float64, device=y.device)
            return self._denoiser.log_posterior(y, level, self._name).to(y.device)
        return from_prior(self._denoiser, self._name, y, sigma)

    def denoised(self, log_pi: Tensor, y: Tensor, sigma: float) -> Tensor:
        told = self._told(y, sigma)
        return (log_pi.exp().T.reshape(*told.shape[:2], *[1] * (told.ndim - 2)) * told).sum(0)

    def update(self, log_pi: Tensor, y: Tensor, sigma: float, after_y: Tensor, after: float) -> Tensor:
        return gather(log_pi, self._told(y, sigma), y, sigma, after_y, after)


def joint(
    belief: Belief,
    y: Tensor,
    sigmas: Sequence[float] | np.ndarray | Tensor,
    noise: Noise,
    log_pi: Tensor | None = None,
) -> Iterator[JointState]:
    """Simulate the noisy state and the filter together, each driven by the same innovation.

    Args:
        belief: what the filter is about; :class:`ValueBelief`, or a belief on the items of a finite set.
        y: states at the first level, shape (rows, *event).
        sigmas: decreasing levels; 0 at the end gives the clean value, as π sees it.
        noise: the innovation's, of all rows.
        log_pi: ln π at the first level, to go on from a state; None asks the belief for p(· | y).

    Yields: the pair at every level.

    Errors: in law, order 1 in the step of ln sigma.  Given its path of Y, a belief on items is exact at any step.
    """
    levels = checked_levels(sigmas)
    y = y.double()
    log_pi = belief.first(y, levels[0]) if log_pi is None else log_pi
    yield JointState(0, levels[0], y, log_pi)
    for k, (sigma, after) in enumerate(itertools.pairwise(levels), 1):
        d = belief.denoised(log_pi, y, sigma)
        if after > 0:
            share = 1.0 - (after / sigma) ** 2
            moved = y + share * (d - y) + after * math.sqrt(share) * noise()
            log_pi, y = belief.update(log_pi, y, sigma, moved, after), moved
        else:
            y = d
        yield JointState(k, after, y, log_pi)
