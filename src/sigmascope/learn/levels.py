r"""At which noise levels a network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_BINS = 32
_EVEN = 0.5  # share of the rows that is spread evenly over ln sigma
_MEMORY = 0.9  # of the running mean of what is measured


class Levels:
    r"""Noise levels of training: log-normal, or in part where the score gap lives.

    Adaptive, the density in ln sigma is half even and half in proportion to :math:`\sqrt{g}`, with
    :math:`g(\sigma) = E\|D_A - D\|^2 / \sigma^2`, the rate of information in ln sigma, averaged over the attributes:
    as it is measured while training goes on.  The root, since a rate's error falls as the root of its rows.

    Args:
        low: smallest level.
        high: largest.
        adaptive: or else log-normal.
        log_mean: of ln sigma, log-normal.
        log_std: likewise.
    """

    def __init__(self, low: float, high: float, *, adaptive: bool, log_mean: float = 0.0, log_std: float = 1.0) -> None:
        self.edges = np.linspace(np.log(low), np.log(high), _BINS + 1)
        self.adaptive = adaptive
        self.rate = np.full(_BINS, np.nan)
        if adaptive:
            self._fixed = np.full(_BINS, 1.0 / _BINS)
        else:
            middle = 0.5 * (self.edges[1:] + self.edges[:-1])
            density = np.exp(-0.5 * ((middle - log_mean) / log_std) ** 2) + 1e-9
            self._fixed = density / density.sum()

    @property
    def probability(self) -> Float[np.ndarray, " bins"]:
        """Of each bin of ln sigma."""
        if not self.adaptive or not np.isfinite(self.rate).all() or not self.rate.sum() > 0:
            return self._fixed
        where = np.sqrt(np.maximum(self.rate, 0.0))
        return _EVEN * self._fixed + (1.0 - _EVEN) * where / where.sum()

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
        """n levels, stratified: the k-th comes from the k-th of n equal parts of the distribution; in random order."""
        u = (torch.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        cumulative = np.concatenate([[0.0], np.cumsum(self.probability)])
        cumulative[-1] = 1.0
        found = np.interp(u.numpy(), cumulative, self.edges)
        return torch.from_numpy(np.exp(found))[torch.randperm(n, generator=generator)].float()

    @property
    def middles(self) -> Float[np.ndarray, " bins"]:
        """The middle level of each bin."""
        return np.exp(0.5 * (self.edges[1:] + self.edges[:-1]))

    def measured(self, rate: Float[np.ndarray, " bins"]) -> None:
        """Take note of the rate of information at the middle levels."""
        before = self.rate
        self.rate = np.where(np.isfinite(before), _MEMORY * before + (1.0 - _MEMORY) * rate, rate)

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on."""
        return {"rate": [None if np.isnan(r) else float(r) for r in self.rate]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.rate = np.array([np.nan if r is None else r for r in state["rate"]], dtype=np.float64)
