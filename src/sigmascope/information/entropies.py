r"""Entropy of a discrete law from the counts of a few draws: Zhang's estimator, and the tail that it omits.

Of the entropy's series, K draws can estimate the first part without bias; the tail remains,

.. math:: T = \sum_{v \ge K} \tfrac1v\, E \sum_a p_a (1 - p_a)^v = C \int \tau_K(p)\,\nu(dp),

with K children, C values and :math:`\nu` the law of a posterior probability :math:`p_a(Y)` over draws and values.  Its
counts n are binomial given p, so the histogram of all counts is a mixture whose mixing law is :math:`\nu`.  It is
fitted by expectation maximisation, from the :math:`\nu` of an additive Gaussian channel with C orthogonal inputs, whose
strength gives the same entropy by Zhang's estimator.  Counts hardly show the law of the smallest probabilities, so the
fit converges slowly there.  Its change between an early and a late iteration shows how far it is from convergence: four
fifths of the change are subtracted, and two fifths are the gauge of the remaining bias.

References: Zhang (2012); Laird (1978), Lindsay (1983) on fitting a mixing law; Harris (1975).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.special import digamma
from torch import Tensor

_SIDE = 40  # points of the grid of p on each side of 1/2, even in ln p and in ln (1 - p)
_LEAST = 1e-4  # the smallest p of the grid but 0
_EARLY, _LATE = 20, 500  # iterations
_AHEAD, _DOUBT = 0.8, 0.4  # shares of the change between the iterations: subtracted, and the gauge
_STRENGTHS = np.concatenate([[0.0], np.geomspace(1e-3, 100.0, 40)])
_CHANNEL_DRAWS = 4000
_NUDGE = 1e-3

Rows = Float64[np.ndarray, "rows size"]


def zhang(counts: Int64[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    r"""Zhang's estimator: the part of the entropy's series that K draws can estimate without bias.

    .. math:: H = \sum_{v=1}^\infty \tfrac1v \sum_a p_a (1 - p_a)^v, \qquad
              \hat H = \sum_a \tfrac{n_a}{K} \left(\psi(K) - \psi(n_a)\right)

    It is exactly 0 where one value is met, and low by the rest of the series, at most :math:`e^{-K p}/Kp` for values no
    rarer than p.
    """
    n = counts.double()
    total = n.sum(-1, keepdim=True)
    return (n / total * (torch.digamma(total) - torch.digamma(n.clamp_min(1.0)))).sum(-1)


def omitted_tail(
    counts: Int64[Tensor, "levels draws values"], prior: Float[Tensor, " values"]
) -> tuple[Float[np.ndarray, "levels draws"], Float[np.ndarray, " levels"]]:
    """The tail to add to Zhang's entropies.

    Args:
        counts: labels of the children of each draw, by value; the same number of children everywhere.
        prior: p(a).

    Returns: for each draw its share, nats, whose mean over draws is the tail and whose spread shows the error of the
        tail; and a gauge of the remaining bias of the mean.
    """
    occurs = (prior > 0).cpu()
    n, p = counts.cpu()[..., occurs], prior.cpu().double()[occurs]
    values, children = n.shape[-1], int(n[0, 0].sum())
    fit = _Fit(tuple(p.tolist()), children)
    bins = torch.zeros(*n.shape[:2], children + 1, dtype=torch.float64)
    each = (bins.scatter_add_(2, n, torch.ones_like(n, dtype=torch.float64)) / values).numpy()
    mean = each.mean(1)
    size = children + 1
    pushed = (1.0 - _NUDGE) * mean[:, None] + _NUDGE * np.eye(size)
    tails = fit.tails(np.concatenate([mean[:, None], pushed], 1).reshape(-1, size))
    early, late = (values * t.reshape(len(mean), 1 + size) for t in tails)
    tail = late - _AHEAD * (early - late)
    influence = np.einsum("ldk,lk->ld", each, (tail[:, 1:] - tail[:, :1]) / _NUDGE)
    share = tail[:, :1] + influence - influence.mean(1, keepdims=True)
    return share, _DOUBT * np.abs(early - late)[:, 0]


class _Fit:
    """The mixing law of the counts of a number of children, for values with this prior."""

    def __init__(self, prior: tuple[float, ...], children: int) -> None:
        self.grid = _grid()
        k = np.arange(children + 1)
        from scipy.stats import binom  # takes 0.3 s to load, and only forks need it

        self.chance = binom.pmf(k[None], children, self.grid[:, None])
        self.zhang = k / children * (digamma(children) - digamma(np.maximum(k, 1)))
        self.tail = _entropy(self.grid) - self.chance @ self.zhang
        self.channel = _channel(prior)

    def tails(self, histogram: Rows) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """The tail for each value, of an early and a late iteration."""
        law = self._first(histogram @ self.zhang)
        early = law @ self.tail
        for iteration in range(_LATE):
            if iteration == _EARLY:
                early = law @ self.tail
            law = law * ((histogram / np.maximum(law @ self.chance, 1e-300)) @ self.chance.T)
        return early, law @ self.tail

    def _first(self, entropy: Float64[np.ndarray, " rows"]) -> Rows:
        """The channel's law at the strength that has this entropy by Zhang's estimator."""
        seen = self.channel @ (self.chance @ self.zhang)
        at = np.interp(-entropy, -np.minimum.accumulate(seen), np.arange(len(seen)))
        low = np.minimum(at.astype(int), len(seen) - 2)
        share = (at - low)[:, None]
        return (1.0 - share) * self.channel[low] + share * self.channel[low + 1]


def _grid() -> Float64[np.ndarray, " grid"]:
    side = np.geomspace(_LEAST, 0.5, _SIDE)
    return np.concatenate([[0.0], side, 1.0 - side[-2::-1], [1.0]])


def _entropy(p: Float64[np.ndarray, " grid"]) -> Float64[np.ndarray, " grid"]:
    return -p * np.log(np.where(p > 0, p, 1.0))


@lru_cache(maxsize=32)
def _channel(prior: tuple[float, ...]) -> Rows:
    """The law of p_a(Y) on the grid, over draws and values, for each strength of the channel."""
    grid, w = _grid(), np.asarray(prior)
    rng = np.random.default_rng(0)
    middle = (np.arange(_CHANNEL_DRAWS) + 0.5) / _CHANNEL_DRAWS
    true = np.searchsorted(np.cumsum(w), middle * w.sum()).clip(0, len(w) - 1)
    half = rng.normal(size=(_CHANNEL_DRAWS // 2, len(w)))
    noise = np.concatenate([half, -half])[rng.permutation(_CHANNEL_DRAWS)]
    laws = []
    for strength in _STRENGTHS:
        logits = np.log(w) + np.sqrt(strength) * noise
        logits[np.arange(_CHANNEL_DRAWS), true] += strength
        p = np.exp(logits - logits.max(1, keepdims=True))
        x = (p / p.sum(1, keepdims=True)).ravel()
        right = np.searchsorted(grid, x).clip(1, len(grid) - 1)
        share = (x - grid[right - 1]) / (grid[right] - grid[right - 1])
        weight = np.bincount(right - 1, 1.0 - share, len(grid)) + np.bincount(right, share, len(grid))
        laws.append(weight / len(x))
    return np.stack(laws)
