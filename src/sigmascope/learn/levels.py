r"""The noise levels that a network is trained at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_BINS = 32
_EVEN = 0.5  # share of the rows that is spread evenly over ln sigma
_MEMORY = 0.9  # weight of the past in the running mean of the rate


class Levels:
    r"""A distribution of the noise levels of training: log-normal, or adapted to the score gap.

    Half of the adaptive density is even in ln sigma, and half is in proportion to :math:`\sqrt{g}`, with
    :math:`g(\sigma) = E\|D_A - D\|^2 / \sigma^2`, the rate of information in ln sigma, averaged over the attributes and
    measured during training.  The root is used because the error of a rate falls as the root of the number of rows.
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
        """Probability of each bin of ln sigma."""
        if not self.adaptive or not np.isfinite(self.rate).all() or not self.rate.sum() > 0:
            return self._fixed
        root = np.sqrt(np.maximum(self.rate, 0.0))
        mixed: np.ndarray = _EVEN * self._fixed + (1.0 - _EVEN) * root / root.sum()
        return mixed

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
        """n levels in random order, one from each of n equal parts of the distribution."""
        u = (torch.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        cumulative = np.concatenate([[0.0], np.cumsum(self.probability)])
        cumulative[-1] = 1.0
        levels = np.exp(np.interp(u.numpy(), cumulative, self.edges))
        return torch.from_numpy(levels)[torch.randperm(n, generator=generator)].float()

    @property
    def middles(self) -> Float[np.ndarray, " bins"]:
        """The middle level of each bin."""
        return np.exp(0.5 * (self.edges[1:] + self.edges[:-1]))

    def measured(self, rate: Float[np.ndarray, " bins"]) -> None:
        """Add a measurement of the rate of information at the middle levels to the running mean."""
        self.rate = np.where(np.isfinite(self.rate), _MEMORY * self.rate + (1.0 - _MEMORY) * rate, rate)

    def state(self) -> dict[str, Any]:
        """The state from which a later run continues, as JSON can hold it."""
        return {"rate": [None if np.isnan(r) else float(r) for r in self.rate]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.rate = np.array([np.nan if r is None else r for r in state["rate"]], dtype=np.float64)
