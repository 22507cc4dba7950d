r"""Whether a network is wrapped correctly, by three conditions on its denoising losses that a correct denoiser meets.

.. math:: \ell(D) = E\|V - D(Y_\sigma, \sigma)\|^2

The conditional mean has the least loss.  So a network's loss must not be above that of the best linear denoiser.  Its
unconditional loss must not be above that of the mean of its outputs for classes drawn at random, which is a function of
the noisy image like any other.  Its loss given the true value of an attribute, over all levels, must not be above its
unconditional loss, since

.. math:: \int \frac{\ell(D) - \ell(D_A)}{\sigma^2}\, d\ln\sigma = I(A; Y) \ge 0

for conditional means (Guo, Shamai, Verdú 2005).  Losses are compared on the same draws, and a difference counts from
three standard errors on.  A network that is worse than linear at its lowest levels alone is not trained well there
(:meth:`Losses.weak_end`); what is measured above them does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

UNCONDITIONAL, RANDOM = "(nothing)", "(classes at random)"
"""Conditions beside the attributes: none, and the mean of the outputs for classes drawn at random."""
EMPTY, ORDER = "which class is the empty one", "the order of its classes"
"""What to check."""
_SURE = 3.0  # standard errors
_CLEARLY = 0.9  # share of the mean image's loss below which the linear denoiser is clearly better than it
_WORSE = 1.2  # factor above another loss, where the linear denoiser is clearly better than the mean image
_MOST = 0.5  # share of levels at which a network that is wrapped correctly is better than the linear denoiser
_OF_NOISE = 0.1  # share of the noise's variance above the linear loss, elsewhere: a network that predicts noise errs by
# a small part of it


@dataclass(frozen=True, eq=False)
class Losses:
    """Squared errors of each draw at some levels, each divided by the number of coordinates."""

    sigma: Float[np.ndarray, " levels"]  # decreasing
    conditions: Sequence[str]  # names of the network's conditions, UNCONDITIONAL first
    network: Float[np.ndarray, "conditions levels draws"]
    linear: Float[np.ndarray, "levels draws"]  # of the best linear denoiser of other items
    mean: Float[np.ndarray, " draws"]  # of the mean of other items
    classes: bool = False  # whether conditions are classes of somebody else's network, which may have been mixed up

    def _linear_is_better(self) -> Bool[np.ndarray, " levels"]:
        """Where the linear denoiser is clearly better than the mean image."""
        better = self.linear.mean(1) < _CLEARLY * self.mean.mean()
        return np.asarray(better & _surely(self.mean[None, :] - self.linear))

    def worse_than_linear(self) -> Bool[np.ndarray, "conditions levels"]:
        """Where the network is surely worse than the linear denoiser."""
        linear = self.linear.mean(1)
        allowed = np.where(self._linear_is_better(), 0.0, linear + _OF_NOISE * self.sigma**2)
        above = _surely(self.network - self.linear[None])
        return np.asarray(above & ~(self.network.mean(2) <= np.maximum(_WORSE * linear, allowed)))

    def weak_end(self) -> tuple[float, str]:
        """The level below which a network that is wrapped correctly is not trained well, and what shows it, in words.

        It is the lowest level at which a network is better than the linear denoiser, where it is so at most levels and
        worse at the lowest ones alone, where it is still better than no denoising at all: a network that is wrapped
        wrongly is worse than that.  0 and no words where there is no such end.
        """
        worse = np.asarray(self.worse_than_linear().any(0))
        first = int(worse.argmax())
        if not worse.any() or not worse[first:].all() or not first:
            return 0.0, ""
        better = _surely(self.linear - _WORSE * self._losses(UNCONDITIONAL))[:first]
        clear, helps = self._linear_is_better()[:first], self.network.mean(2)[:, first:] < self.sigma[first:] ** 2
        if not (helps.all() and better[-1] and better[clear].mean() > _MOST):
            return 0.0, ""
        compared = self._compared(worse, self._losses(UNCONDITIONAL), self.linear)
        return float(self.sigma[first - 1]), (
            f"at the lowest levels the network denoises worse than the best linear denoiser of the data ({compared})"
        )

    def worse_than_at_random(self) -> Bool[np.ndarray, " levels"]:
        """Where the unconditional network is surely worse than the mean of its outputs for random classes."""
        if RANDOM not in self.conditions:
            return np.zeros(len(self.sigma), dtype=bool)
        unconditional, random = self._losses(UNCONDITIONAL), self._losses(RANDOM)
        above = _surely(unconditional - random) & self._linear_is_better()
        return np.asarray(above & ~(unconditional.mean(1) <= _WORSE * random.mean(1)))

    def worse_than_unconditional(self, name: str) -> bool:
        """Whether the network's loss, over all levels, is surely larger given the true value than unconditionally."""
        rise = (self._losses(name) - self._losses(UNCONDITIONAL)) / self.sigma[:, None] ** 2
        return bool(_surely(rise.sum(0)[None]).all())

    def _losses(self, condition: str) -> Float[np.ndarray, "levels draws"]:
        return np.asarray(self.network[list(self.conditions).index(condition)])

    def warning(self) -> str:
        """One line on what seems to be wrapped wrongly; empty where nothing does."""
        well_trained = self.sigma >= self.weak_end()[0]
        at = dict(zip(self.conditions, self.worse_than_linear() & well_trained, strict=True))
        names = [n for n in self.conditions if n not in (UNCONDITIONAL, RANDOM)]
        worse = [n for n in names if at[n].any()]
        linear = "denoises worse than the best linear denoiser of the data"

        def losses(name: str) -> str:
            return self._compared(at[name], self._losses(name), self.linear)

        if at[UNCONDITIONAL].any() and len(worse) == len(names):
            return (
                f"the network {linear} ({losses(UNCONDITIONAL)}): check the pixel range, what it predicts (and its "
                "sign), and the schedule"
            )
        if at[UNCONDITIONAL].any():
            return (
                f"the unconditional network {linear} ({losses(UNCONDITIONAL)}), and the network given the right value "
                f"does not{self._check(EMPTY)}"
            )
        if (random := self.worse_than_at_random()).any():
            compared = self._compared(random, self._losses(UNCONDITIONAL), self._losses(RANDOM))
            return (
                "the unconditional network denoises worse than the mean of its outputs for classes drawn at random "
                f"({compared}){self._check(EMPTY)}"
            )
        for name in names:
            if self.worse_than_unconditional(name):
                everywhere = np.ones(len(self.sigma), dtype=bool)
                compared = self._compared(everywhere, self._losses(name), self._losses(UNCONDITIONAL))
                return (
                    f"the network given the right {name} denoises worse than the unconditional one "
                    f"({compared}){self._check(ORDER)}"
                )
        return (
            f"the network given the right {worse[0]} {linear} ({losses(worse[0])}){self._check(ORDER)}" if worse else ""
        )

    def _check(self, setting: str) -> str:
        return f": check {setting}" if self.classes else ""

    def _compared(self, where: Bool[np.ndarray, " levels"], losses: np.ndarray, reference: np.ndarray) -> str:
        """Two losses, at the level among some where the first is larger by the largest factor."""
        ours, theirs = losses.mean(1), reference.mean(1)
        ratio = np.where(where, np.nan_to_num(ours, nan=np.inf) / np.maximum(theirs, 1e-300), 0.0)
        k = int(ratio.argmax())
        return f"σ {self.sigma[k]:.3g}: squared error {ours[k]:.3g}, against {theirs[k]:.3g}"


def _surely(above: Float[np.ndarray, "... draws"]) -> Bool[np.ndarray, "..."]:
    """Where a mean over draws is above 0 by three standard errors, or is no number."""
    with np.errstate(invalid="ignore"):
        mean, error = above.mean(-1), above.std(-1, ddof=1) / above.shape[-1] ** 0.5
    return np.asarray(~(mean <= _SURE * error))
