r"""Whether a network is wrapped rightly, from its denoising losses: what must hold of any right denoiser.

.. math:: \ell(D) = E\|V - D(Y_\sigma, \sigma)\|^2

The conditional mean has the least loss.  So a network's loss must not be above that of the best linear denoiser; told
the value of an attribute it must not be above what it is untold; and untold it must not be above the mean of what it
says told values drawn at random, which is a function of the noisy image like any other.  Differences are of the same
draws, and count by three standard errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

UNTOLD, RANDOM = "(nothing)", "(classes at random)"
"""What a network is told: nothing, or the mean of its answers to classes drawn at random; else an attribute."""
_SURE = 3.0  # standard errors
_CLEARLY = 0.9  # of the mean image's loss: the linear denoiser has found something
_WORSE = 1.2  # times the linear denoiser's loss, where it has
_OF_NOISE = (
    0.1  # of the noise's own variance, where it has not: a network that predicts noise may err by a little of it
)
_WORSE_TOLD = 1.02  # times the loss of the network itself, told otherwise


@dataclass(frozen=True, eq=False)
class Losses:
    r"""Squared errors of each draw at some levels, each divided by the number of coordinates.

    Args:
        sigma: decreasing levels.
        told: what the network is told, the first of them nothing.
        network: shape (told, levels, draws).
        linear: of the best linear denoiser of other items, shape (levels, draws).
        mean: of the mean of other items, shape (draws,).
    """

    sigma: Float[np.ndarray, " levels"]
    told: Sequence[str]
    network: Float[np.ndarray, "told levels draws"]
    linear: Float[np.ndarray, "levels draws"]
    mean: Float[np.ndarray, " draws"]

    def worse_than_linear(self) -> Bool[np.ndarray, "told levels"]:
        """Where the network is surely worse than the linear denoiser."""
        linear, mean = self.linear.mean(1), float(self.mean.mean())
        gained = _surely(self.mean[None, :] - self.linear) & (linear < _CLEARLY * mean)
        least = np.maximum(_WORSE * linear, np.where(gained, 0.0, linear + _OF_NOISE * self.sigma**2))
        above = _surely(self.network - self.linear[None])
        found: np.ndarray = above & ~(self.network.mean(2) <= least)
        return found

    def worse_than(self, one: str, other: str) -> Bool[np.ndarray, " levels"]:
        """Where the network told ``one`` is surely worse than told ``other``."""
        a, b = self.network[self.told.index(one)], self.network[self.told.index(other)]
        found: np.ndarray = _surely(a - b) & ~(a.mean(1) <= _WORSE_TOLD * b.mean(1))
        return found

    def said(self) -> str:
        """One line on what seems to be wrapped wrongly; empty where nothing is."""
        linear = dict(zip(self.told, self.worse_than_linear(), strict=True))
        told = [n for n in self.told if n not in (UNTOLD, RANDOM)]
        worse = [n for n in told if linear[n].any()]
        if linear[UNTOLD].any() and (len(worse) == len(told)):
            return (
                f"the network denoises worse than the best linear denoiser of the data ({self._compared(UNTOLD)}): "
                "check the pixel range, what it predicts (and its sign), and the schedule"
            )
        if linear[UNTOLD].any():
            return (
                f"the network told nothing denoises worse than the best linear denoiser of the data "
                f"({self._compared(UNTOLD)}), and told the right value it does not: check which class is the empty one"
            )
        if RANDOM in self.told and (at := self.worse_than(UNTOLD, RANDOM)).any():
            return (
                "the network told nothing denoises worse than the mean of its answers to classes drawn at random "
                f"({self._told(UNTOLD, RANDOM, at)}): check which class is the empty one"
            )
        for name in told:
            if (at := self.worse_than(name, UNTOLD)).any():
                return (
                    f"the network told the right {name} denoises worse than told nothing "
                    f"({self._told(name, UNTOLD, at)}): check the order of its classes"
                )
        if worse:
            return (
                f"the network told the right {worse[0]} denoises worse than the best linear denoiser of the data "
                f"({self._compared(worse[0])}): check the order of its classes"
            )
        return ""

    def _compared(self, told: str) -> str:
        """Losses where the network is worse than the linear denoiser by the largest factor."""
        at = self.worse_than_linear()[self.told.index(told)]
        network, linear = self.network[self.told.index(told)].mean(1), self.linear.mean(1)
        return self._at(at, network, linear)

    def _told(self, one: str, other: str, at: Bool[np.ndarray, " levels"]) -> str:
        return self._at(at, *(self.network[self.told.index(n)].mean(1) for n in (one, other)))

    def _at(self, at: Bool[np.ndarray, " levels"], ours: np.ndarray, theirs: np.ndarray) -> str:
        ratio = np.where(at, np.nan_to_num(ours, nan=np.inf) / np.maximum(theirs, 1e-300), 0.0)
        k = int(ratio.argmax())
        return f"σ {self.sigma[k]:.3g}: squared error {ours[k]:.3g}, against {theirs[k]:.3g}"


def _surely(above: Float[np.ndarray, "... draws"]) -> Bool[np.ndarray, "..."]:
    """Where a mean over draws is above 0 by three standard errors, or is no number."""
    mean, error = above.mean(-1), above.std(-1, ddof=1) / above.shape[-1] ** 0.5
    found: np.ndarray = ~(mean <= _SURE * error)
    return found
