r"""Whether a network is wrapped rightly, from its denoising losses: what must hold of any right denoiser.

.. math:: \ell(D) = E\|V - D(Y_\sigma, \sigma)\|^2

The conditional mean has the least loss.  So a network's loss must not be above that of the best linear denoiser.
Its unconditional loss must not be above that of the mean of its outputs for values drawn at random, which is a function
of the noisy image like any other.  Its loss given the value of an attribute, over all levels, must not be above its
unconditional loss:

.. math:: \int \frac{\ell(D) - \ell(D_A)}{\sigma^2}\, d\ln\sigma = I(A; Y) \ge 0

for conditional means (Guo, Shamai, Verdú 2005).  Differences are of the same draws, and count by three standard errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

UNCONDITIONAL, RANDOM = "(nothing)", "(classes at random)"
"""What a network is told: nothing, or the mean of its answers to classes drawn at random; else an attribute."""
EMPTY, ORDER = "which class is the empty one", "the order of its classes"
"""What to check."""
_SURE = 3.0  # standard errors
_CLEARLY = 0.9  # of the mean image's loss: the linear denoiser has found something
_WORSE = 1.2  # times another loss, where it has
_OF_NOISE = 0.1  # of the noise's own variance, where it has not: to predict noise is to err by a little of it


@dataclass(frozen=True, eq=False)
class Losses:
    r"""Squared errors of each draw at some levels, each divided by the number of coordinates.

    Args:
        sigma: decreasing levels.
        conditions: what the network is told, the first of them nothing.
        network: shape (conditions, levels, draws).
        linear: of the best linear denoiser of other items, shape (levels, draws).
        mean: of the mean of other items, shape (draws,).
        classes: whether what it is told are classes of a network of somebody else, which may be taken for one another.
    """

    sigma: Float[np.ndarray, " levels"]
    conditions: Sequence[str]
    network: Float[np.ndarray, "conditions levels draws"]
    linear: Float[np.ndarray, "levels draws"]
    mean: Float[np.ndarray, " draws"]
    classes: bool = False

    def _found(self) -> Bool[np.ndarray, " levels"]:
        """Where the linear denoiser is clearly better than the mean image."""
        better = self.linear.mean(1) < _CLEARLY * float(self.mean.mean())
        found: np.ndarray = better & _surely(self.mean[None, :] - self.linear)
        return found

    def worse_than_linear(self) -> Bool[np.ndarray, "conditions levels"]:
        """Where the network is surely worse than the linear denoiser."""
        linear = self.linear.mean(1)
        least = np.maximum(_WORSE * linear, np.where(self._found(), 0.0, linear + _OF_NOISE * self.sigma**2))
        above = _surely(self.network - self.linear[None])
        found: np.ndarray = above & ~(self.network.mean(2) <= least)
        return found

    def worse_than_at_random(self) -> Bool[np.ndarray, " levels"]:
        """Where the network told nothing is surely worse than the mean of its answers to random classes."""
        if RANDOM not in self.conditions:
            return np.zeros(len(self.sigma), dtype=bool)
        unconditional, random = self._of(UNCONDITIONAL), self._of(RANDOM)
        above = _surely(unconditional - random) & self._found()
        found: np.ndarray = above & ~(unconditional.mean(1) <= _WORSE * random.mean(1))
        return found

    def worse_than_unconditional(self, name: str) -> bool:
        """Whether the network surely loses by being told the right value, over all levels."""
        more = (self._of(name) - self._of(UNCONDITIONAL)) / self.sigma[:, None] ** 2
        return bool(_surely(more.sum(0)[None]).all())

    def _of(self, told: str) -> Float[np.ndarray, "levels draws"]:
        found: np.ndarray = self.network[list(self.conditions).index(told)]
        return found

    def warning(self) -> str:
        """One line on what seems to be wrapped wrongly; empty where nothing is."""
        linear = dict(zip(self.conditions, self.worse_than_linear(), strict=True))
        told = [n for n in self.conditions if n not in (UNCONDITIONAL, RANDOM)]
        worse = [n for n in told if linear[n].any()]
        if linear[UNCONDITIONAL].any() and len(worse) == len(told):
            return (
                "the network denoises worse than the best linear denoiser of the data "
                f"({self._linear(UNCONDITIONAL)}): "
                "check the pixel range, what it predicts (and its sign), and the schedule"
            )
        if linear[UNCONDITIONAL].any():
            return (
                f"the network told nothing denoises worse than the best linear denoiser of the data "
                f"({self._linear(UNCONDITIONAL)}), and told the right value it does not{self._check(EMPTY)}"
            )
        if (at := self.worse_than_at_random()).any():
            return (
                "the network told nothing denoises worse than the mean of its answers to classes drawn at random "
                f"({self._at(at, self._of(UNCONDITIONAL), self._of(RANDOM))}){self._check(EMPTY)}"
            )
        for name in told:
            if self.worse_than_unconditional(name):
                everywhere = np.ones(len(self.sigma), dtype=bool)
                return (
                    f"the network told the right {name} denoises worse than told nothing "
                    f"({self._at(everywhere, self._of(name), self._of(UNCONDITIONAL))}){self._check(ORDER)}"
                )
        if worse:
            return (
                f"the network told the right {worse[0]} denoises worse than the best linear denoiser of the data "
                f"({self._linear(worse[0])}){self._check(ORDER)}"
            )
        return ""

    def _check(self, what: str) -> str:
        return f": check {what}" if self.classes else ""

    def _linear(self, told: str) -> str:
        """Losses where the network is worse than the linear denoiser by the largest factor."""
        return self._at(self.worse_than_linear()[list(self.conditions).index(told)], self._of(told), self.linear)

    def _at(self, among: Bool[np.ndarray, " levels"], one: np.ndarray, other: np.ndarray) -> str:
        """Two losses at the level among some where the first is larger by the largest factor."""
        ours, theirs = one.mean(1), other.mean(1)
        ratio = np.where(among, np.nan_to_num(ours, nan=np.inf) / np.maximum(theirs, 1e-300), 0.0)
        k = int(ratio.argmax())
        return f"σ {self.sigma[k]:.3g}: squared error {ours[k]:.3g}, against {theirs[k]:.3g}"


def _surely(above: Float[np.ndarray, "... draws"]) -> Bool[np.ndarray, "..."]:
    """Where a mean over draws is above 0 by three standard errors, or is no number."""
    with np.errstate(invalid="ignore"):
        mean, error = above.mean(-1), above.std(-1, ddof=1) / above.shape[-1] ** 0.5
    found: np.ndarray = ~(mean <= _SURE * error)
    return found
