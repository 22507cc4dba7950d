r"""Russian roulette: of draws of which a model itself expects little, a part is measured, with more weight.

Some denoisers guess, from y alone, what they are not told (:class:`Guesses`), at a part of the cost of a call.  Where
the guess :math:`q(a \mid y)` is sure of the true value, knowing it changes nothing, and what a draw adds is about

.. math:: e_c \propto w_c\,(u_0 + 1 - q(a_c \mid y_c)),

with w its weight.  A draw is measured with chance :math:`\min(1, r\, e_c / \bar e)`, :math:`\bar e` the mean at its
level, and the inverse of that is a factor of its weight: no guess biases.  The rate r is the pilot's, for the least
:math:`\mathrm{variance} \times \mathrm{cost}`.

References: Kahn (1956).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

_DOUBT = 0.003  # added to that of a guess
_EVEN = 0.1  # share of a chance that does not follow the guess
_SHARES = (0.7, 0.5, 0.35)  # of the draws that are measured


@runtime_checkable
class Guesses(Protocol):
    """Denoisers that guess what they are not told before they denoise, and can be asked for the guess alone."""

    @property
    def guess_share(self) -> float:
        """Of the cost of a call, what the guess takes; 0 of a denoiser that makes none."""
        ...

    def guesses(self, y: Tensor, sigma: Tensor) -> Mapping[str, Tensor]:
        """Probabilities of the values of each discrete attribute, shape (rows, values)."""
        ...

    def answers(
        self,
        y: Tensor,
        sigma: Tensor,
        questions: Sequence[tuple[Tensor, Mapping[str, Tensor]]],
        guessed: Mapping[str, Tensor],
    ) -> list[Tensor]:
        """E[V | Y_sigma = y, what is known] of the rows of each question, given the guesses of y."""
        ...


def guesser(denoiser: object) -> Guesses | None:
    """The denoiser, if it guesses."""
    return denoiser if isinstance(denoiser, Guesses) and denoiser.guess_share > 0.0 else None


def doubted(q: np.ndarray) -> np.ndarray:
    """The doubt of a guess that gives the true value the probability q."""
    return _DOUBT + np.maximum(1.0 - q, 0.0)


def expected(doubt: np.ndarray, mean: np.ndarray, weight: np.ndarray, density: np.ndarray) -> np.ndarray:
    """What draws add to the integral, as the model's own doubt says, over the mean at their level.

    Args:
        doubt: of each.
        mean: of that at its level.
        weight: of each, as if it were the only one of the measurement.
        density: of draws at its level, in ln sigma, their share.
    """
    return doubt / mean * weight * density


def chance(expected: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
    """Of draws to be measured, given what is expected of them over the mean at their level."""
    return np.minimum(rate * (_EVEN + (1.0 - _EVEN) * expected), 1.0)


def kept(
    chance: Float[np.ndarray, " draws"], attribute: Int[np.ndarray, " draws"], start: Float[np.ndarray, " attributes"]
) -> Bool[np.ndarray, " draws"]:
    """Which are measured: of each attribute's draws, in their order, as many as the sum of the chances, or one more."""
    out = chance >= 1.0
    for k, s in enumerate(start):
        mine = attribute == k
        steps = np.floor(np.cumsum(chance[mine]) + s)
        out[mine] |= np.diff(steps, prepend=0.0) > 0
    return out


def best_rate(
    values: Float[np.ndarray, "goals draws"],
    expected: Float[np.ndarray, " draws"],
    level: Float[np.ndarray, " draws"],
    ratio: Float[np.ndarray, " draws"],
    within: float,
    share: float,
) -> tuple[float, float, float]:
    r"""The rate at which variance times cost is least.

    Args:
        values: what the pilot's draws add to the integral, each as if it were the only one of the measurement.
        expected: of each, over the mean at its level.
        level: that mean.
        ratio: how much likelier each is in the measurement than in the pilot.
        within: variance of one draw of the measurement if all are measured.
        share: of the guess in the cost of a call.

    Returns: the rate; the variance that is added to that of one draw; the calls of a draw.
    """
    best = (np.inf, 0.0, 2.0)
    if share <= 0.0:
        return best
    ratio, each = ratio / ratio.sum(), expected * level
    # The choice is in order, and takes its share of what is expected: what is not is left to chance.
    rest = values - each * ((values @ ratio) / (each @ ratio))[:, None]
    for part in _SHARES:
        low, high = 0.0, 1e6
        for _ in range(80):
            middle = np.sqrt(max(low, 1e-6) * high)
            low, high = (middle, high) if chance(expected, middle) @ ratio < part else (low, middle)
        more = float(((rest**2 * (1.0 / chance(expected, low) - 1.0)) @ ratio).max())
        calls = 2.0 * part + share * (1.0 - part)
        if (within + more) * calls < (within + best[1]) * best[2]:
            best = (low, more, calls)
    return best
