r"""Generation from the filter alone: the pair (Y, π), with the denoiser computed from π.

.. math:: dZ = \Big(\sum_a \pi(a) D_a\Big) d\lambda + dB^F, \qquad
          d\ln\pi(a) = (D_a - D)\cdot dB^F - \tfrac12\|D_a - D\|^2 d\lambda

in the filter's clock :math:`\lambda = \sigma^{-2}`, :math:`Z = \lambda Y`, with π normalised after each step.  No clean
value and no hidden attribute is drawn: the innovation :math:`B^F` drives both.  This is the Kushner–Stratonovich
equation of a diffusion model.

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

from sigmascope.core import UNKNOWN, Denoiser, HasMeansByValue, HasPosterior, InputError
from sigmascope.sample.schemes import Model, Noise, State, checked_levels, home_of


@runtime_checkable
class Belief(Protocol):
    """The filter of a hidden cause (a value, an item) during generation, by ln π of shape (rows, causes)."""

    def first(self, y: Tensor, sigma: float) -> Tensor:
        """ln π_0 = ln p(cause | Y_0 = y)."""
        ...

    def denoised(self, log_pi: Tensor, y: Tensor, sigma: float) -> Tensor:
        """D, the mean under π, float64."""
        ...

    def update(self, log_pi: Tensor, y: Tensor, sigma: float, after_y: Tensor, after: float) -> Tensor:
        """ln π at the next level, after the measurement has moved there."""
        ...


@dataclass(frozen=True, eq=False)
class JointState(State):
    """The state of the pair of :func:`joint`: a :class:`State` with the belief of the filter.

    Args:
        step: number of steps so far.
        sigma: noise level; 0 at the end of a grid that ends there.
        y: the noisy values, float64, shape (rows, *event).
        log_pi: ln π of every cause, float64, shape (rows, causes).
    """

    log_pi: Tensor


def mixes_conditions(denoiser: Denoiser) -> bool:
    """Whether rows of one call may differ in what is known, at no cost: then several conditions take one call."""
    return bool(getattr(denoiser, "mixes_conditions", False))


def mean_of_each_value(
    denoiser: Denoiser, y: Tensor, sigma: float, attribute: str
) -> Float[Tensor, "values batch *event"]:
    """D_a(y, sigma) for every value a, float64, in one pass where the denoiser can; 0 for a value that never occurs."""
    if isinstance(denoiser, HasMeansByValue):
        home, dtype = home_of(denoiser, y.device)
        with torch.no_grad():
            level = torch.full((len(y),), sigma, dtype=dtype, device=home)
            return denoiser.means_by_value(y.to(home, dtype), level, attribute).to(y.device, torch.float64)
    prior = next(a for a in denoiser.attributes if a.name == attribute).prior
    if mixes_conditions(denoiser):
        values = torch.nonzero(prior > 0)[:, 0].to(y.device)
        known = {attribute: values.repeat_interleave(len(y))}
        out = torch.zeros(len(prior), *y.shape, dtype=torch.float64, device=y.device)
        rows = y.repeat(len(values), *[1] * (y.ndim - 1))
        out[values] = Model(denoiser, known).denoise(rows, sigma).reshape(len(values), *y.shape)
        return out
    each = [
        Model(denoiser, {attribute: torch.full((len(y),), a, device=y.device)}).denoise(y, sigma)
        if p > 0
        else torch.zeros_like(y, dtype=torch.float64)
        for a, p in enumerate(prior.tolist())
    ]
    return torch.stack(each)


def gather(
    log_pi: Float[Tensor, "batch values"],
    means: Float[Tensor, "values batch *event"],
    y: Tensor,
    sigma: float,
    after_y: Tensor,
    after: float,
) -> Float[Tensor, "batch values"]:
    r"""ln π after a step of the measurement, from the likelihood of the step under each value.

    .. math:: \ln\pi'(a) = \ln\pi(a) - \frac{\|y' - m_a\|^2}{2v} + c, \quad
              m_a = y + (1 - \tfrac{\sigma'^2}{\sigma^2})(D_a - y), \quad
              v = \tfrac{\sigma'^2(\sigma^2 - \sigma'^2)}{\sigma^2}

    This is :math:`\ln\pi(a) + D_a\cdot\Delta z - \tfrac12\|D_a\|^2\Delta\lambda`, computed relative to the mean of
    π, so that no digits are lost.
    """
    change = after**-2 - sigma**-2
    dz = (after_y / after**2 - y / sigma**2).flatten(1)
    d = means.flatten(2)
    middle = (log_pi.exp().T[:, :, None] * d).sum(0)
    difference = d - middle
    gain = (difference * (dz - change * middle)).sum(2) - 0.5 * change * (difference**2).sum(2)
    return (log_pi + gain.T).log_softmax(1)


def from_prior(denoiser: Denoiser, attribute: str, y: Tensor, sigma: float) -> Float[Tensor, "batch values"]:
    r"""ln p(a | y) at a high level, from denoisers alone: one step of the filter from :math:`\lambda = 0`.

    .. math:: \ln p(a) + \mu_a \cdot \lambda y - \tfrac12 \lambda \|\mu_a\|^2 + c

    with :math:`\mu_a = D_a(\bar y, \sigma)`, :math:`\bar y = \sum_a p(a) D_a(y, \sigma)`, in place of
    :math:`E[V \mid a]`, which it equals up to :math:`O(\lambda)`; at a denoised value it is free of noise.
    """
    a = next(x for x in denoiser.attributes if x.name == attribute)
    each = mean_of_each_value(denoiser, y, sigma, attribute)
    middle = (a.prior.to(y.device).view(-1, *[1] * y.ndim) * each).sum(0)
    d = mean_of_each_value(denoiser, middle, sigma, attribute).flatten(2)
    difference = d - d.mean(0)
    snr = sigma**-2
    gain = (difference * snr * (y.flatten(1) - d.mean(0))).sum(2) - 0.5 * snr * (difference**2).sum(2)
    return (a.prior.log().to(y.device) + gain.T).log_softmax(1)


class ValueBelief:
    r"""The belief π on the values of one attribute, whose mean denoises: a filter for :func:`joint`.

    .. math:: D = \sum_a \pi(a)\, D_a, \qquad d\ln\pi(a) = (D_a - D)\cdot dB^F - \tfrac12\|D_a - D\|^2 d\lambda

    It begins at :math:`p(a \mid y)` of a denoiser that has posteriors, and else at one step of the filter from the
    prior.

    Args:
        denoiser: a conditional denoiser.
        attribute: name of the attribute.

    Cost: one conditional output of the denoiser for each value of the attribute a step.

    Errors: π has strong order ½ in the step of ln sigma, since D_a changes along the step.

    Raises: InputError for an attribute that the denoiser does not have.
    """

    def __init__(self, denoiser: Denoiser, attribute: str) -> None:
        if attribute not in [a.name for a in denoiser.attributes]:
            known = ", ".join(a.name for a in denoiser.attributes) or "none"
            raise InputError(f"no attribute is called {attribute!r}: choose among {known}")
        self._denoiser, self._name = denoiser, attribute
        self._last: tuple[Tensor, float, Tensor] | None = None

    def _means(self, y: Tensor, sigma: float) -> Tensor:
        """D_a at the current state, computed once for the mean and for the update."""
        if self._last is None or self._last[0] is not y or self._last[1] != sigma:
            self._last = (y, sigma, mean_of_each_value(self._denoiser, y, sigma, self._name))
        return self._last[2]

    def first(self, y: Tensor, sigma: float) -> Tensor:
        if isinstance(self._denoiser, HasPosterior):
            level = torch.full((len(y),), sigma, dtype=torch.float64, device=y.device)
            return self._denoiser.log_posterior(y, level, self._name).to(y.device)
        return from_prior(self._denoiser, self._name, y, sigma)

    def denoised(self, log_pi: Tensor, y: Tensor, sigma: float) -> Tensor:
        means = self._means(y, sigma)
        return (log_pi.exp().T.reshape(*means.shape[:2], *[1] * (means.ndim - 2)) * means).sum(0)

    def update(self, log_pi: Tensor, y: Tensor, sigma: float, after_y: Tensor, after: float) -> Tensor:
        return gather(log_pi, self._means(y, sigma), y, sigma, after_y, after)


class OwnPathBelief:
    r"""The belief π on the values of attributes along the denoiser's own path: a filter for :func:`joint`.

    The drift of the path is the unconditional output D of the denoiser.

    .. math:: dZ = D\, d\lambda + dB, \qquad
              d\ln\pi(a) = (D_a - D)\cdot dB - \tfrac12\|D_a - D\|^2 d\lambda

    For an exact denoiser and one attribute this is :class:`ValueBelief` but for the error of the step: there D is the
    mean of :math:`D_a` under π.  A learned network's D is an output of its own, and its samplers follow it.

    Args:
        denoiser: a denoiser with an unconditional output.
        attributes: names of its attributes; ln π has the columns of all of them, one after the other.

    Cost: 1 + Σ K outputs of the denoiser a step, in one batch, for attributes of K values; 2 Σ K more at the first
        level where the denoiser has no posteriors.

    Errors: π has strong order ½ in the step of ln sigma.

    Raises: InputError for an attribute that the denoiser does not have.
    """

    def __init__(self, denoiser: Denoiser, attributes: Sequence[str]) -> None:
        known = {a.name: len(a.values) for a in denoiser.attributes}
        for name in attributes:
            if name not in known:
                raise InputError(f"no attribute is called {name!r}: choose among {', '.join(known) or 'none'}")
        self._denoiser, self._names = denoiser, tuple(attributes)
        ends = list(itertools.accumulate((known[n] for n in attributes), initial=0))
        self.columns = {n: slice(a, b) for n, (a, b) in zip(attributes, itertools.pairwise(ends), strict=True)}
        self._last: tuple[Tensor, float, Tensor] | None = None

    def first(self, y: Tensor, sigma: float) -> Tensor:
        return torch.cat([ValueBelief(self._denoiser, n).first(y, sigma) for n in self._names], 1)

    def denoised(self, log_pi: Tensor, y: Tensor, sigma: float) -> Tensor:
        return self._means(y, sigma)[0]

    def update(self, log_pi: Tensor, y: Tensor, sigma: float, after_y: Tensor, after: float) -> Tensor:
        means = self._means(y, sigma)[1:]
        parts = [gather(log_pi[:, c], means[c], y, sigma, after_y, after) for c in self.columns.values()]
        return torch.cat(parts, 1)

    def _means(self, y: Tensor, sigma: float) -> Float[Tensor, "outputs batch *event"]:
        """D, and D_a of every value of every attribute, in one batch, computed once for the mean and for the update."""
        if self._last is None or self._last[0] is not y or self._last[1] != sigma:
            count = 1 + sum(c.stop - c.start for c in self.columns.values())
            known = torch.full((len(self._names), count, len(y)), UNKNOWN, device=y.device)
            for k, c in enumerate(self.columns.values()):
                known[k, 1 + c.start : 1 + c.stop] = torch.arange(c.stop - c.start, device=y.device)[:, None]
            labels = dict(zip(self._names, known.flatten(1), strict=True))
            model = Model(self._denoiser, labels)
            outputs = model.denoise(y.repeat(count, *[1] * (y.ndim - 1)), sigma)
            self._last = (y, sigma, outputs.reshape(count, *y.shape))
        return self._last[2]


def joint(
    belief: Belief, y: Tensor, sigmas: Sequence[float] | np.ndarray | Tensor, noise: Noise, log_pi: Tensor | None = None
) -> Iterator[JointState]:
    """Simulate the noisy state and the filter together, each driven by the same innovation.

    Args:
        belief: the filter: :class:`ValueBelief`, :class:`OwnPathBelief`, or a belief on the items of a finite set.
        y: states at the first level, shape (rows, *event).
        sigmas: decreasing levels; 0 at the end gives the clean value, the belief's D there.
        noise: a function without arguments that returns the next standard normal noise of all rows, shape (rows,
            *event), such as ``Streams(seed, rows(len(y)), event)``: the innovation.
        log_pi: ln π at the first level, shape (rows, causes), to resume from a state; None starts from the belief's
            p(· | y).

    Yields: the pair at every level, the first included.

    Raises: InputError for levels that do not decrease.

    Cost: one evaluation of the belief's means a step.

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
            moved = y + share * (d - y) + after * math.sqrt(share) * noise().to(y.device)
            log_pi, y = belief.update(log_pi, y, sigma, moved, after), moved
        else:
            y = d
        yield JointState(k, after, y, log_pi)
