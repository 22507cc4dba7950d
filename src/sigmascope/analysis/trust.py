r"""Whether a learned curve can be believed, from what can be known without the truth.

A learned score gap is a bound in neither direction: with :math:`\delta` the error of the difference,
:math:`E\|\hat D_A - \hat D\|^2` adds :math:`E\|\delta\|^2` and :math:`2 E\langle D_A - D, \delta\rangle`.  Six things
tell on it: the network's denoising loss, which a linear denoiser must not beat
(:mod:`sigmascope.information.wrapping`); the entropy, which information cannot pass; a lower bound, which holds
whatever the network's error; a lower bound that the labelled data give with no network; the calibration
:math:`2 E\langle D_A - D, v - D_A\rangle`, which is zero for the true conditional means; and the gap of a spare
attribute of random labels, which is nothing but :math:`E\|\delta\|^2`.

References: Barber & Agakov (2003); Franzese et al. (2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from sigmascope.core import Curve

TOLERANCE = 0.1
"""A curve is called biased where it is thought to be off by more than this share of H(A)."""
_SURE = 3.0  # standard errors of a sign of bias
_SOME = 0.01  # share of H(A) by which a curve must at least lie below a bound of the data alone
_NEAR = 0.5  # share of the tolerance at which two weak signs together count, or a bound that is itself below the truth


@dataclass(frozen=True, eq=False)
class Trust:
    """A verdict on one learned curve, level by level.

    Args:
        attribute: name of A.
        estimator: whose curve it is.
        sigma: decreasing levels.
        trusted: whether nothing speaks against the curve.
        reasons: why not, in words; empty where it is trusted.
        note: of what would count against it but for its standard error; empty where there is nothing.
    """

    attribute: str
    estimator: str
    sigma: Float[np.ndarray, " levels"]
    trusted: Bool[np.ndarray, " levels"]
    reasons: tuple[str, ...]
    note: str = ""

    @property
    def words(self) -> str:
        """From where to where the curve is trusted, the commonest reason against it elsewhere, and the note."""
        return self._words + (f"; {self.note}" if self.note else "")

    @property
    def _words(self) -> str:
        if self.trusted.all():
            return "trusted at all levels"
        against = [r for r in self.reasons if r]
        most = max(dict.fromkeys(against), key=against.count)
        if not self.trusted.any():
            return f"biased at all levels: {most}"
        spans, start = [], None
        for k, good in enumerate([*self.trusted, False]):
            if good and start is None:
                start = k
            elif not good and start is not None:
                spans.append(f"σ {self.sigma[start]:.3g} to {self.sigma[k - 1]:.3g}")
                start = None
        return f"trusted at {', '.join(spans)}; biased elsewhere: {most}"


def judge(
    curve: Curve,
    *,
    bound: Curve | None = None,
    calibration: Curve | None = None,
    null: Curve | None = None,
    data_bound: Curve | None = None,
    wrapping: str = "",
    tolerance: float = TOLERANCE,
) -> Trust:
    r"""Trusted or biased, at every level.

    Args:
        curve: of a learned score gap or MMSE gap.
        bound: a lower bound of the same information (:math:`\hat I_b \le I \le H(A)`).
        calibration: MMSE gap less score gap, of the same draws: zero for the true conditional means.
        null: the same estimator's curve of an attribute of random labels: zero for the true conditional means.
        data_bound: a lower bound that the labelled data give with no network.
        wrapping: what the network's denoising losses say against it, in words; empty: nothing.
        tolerance: share of H(A) that an error must have to count.

    Returns: the verdict.  A curve is biased at all levels where the network's losses speak against it, and at a level
        where it lies above H(A) by more than the tolerance and three standard errors, where it lies below the bound of
        the data alone by three standard errors and a hundredth of H(A), where its calibration or its null are off by
        as much as the tolerance, where it lies above the bound by as much and its calibration or null are off by half
        of it, or where it lies below the bound by half of it and three standard errors, since the truth lies above the
        bound.

    All curves are over the same levels.  Necessary, not sufficient: a network that is wrong in a way that none of these
    sees is trusted.
    """
    h, value, error = curve.ceiling, curve.value, curve.error
    limit = tolerance * h
    reasons = [""] * len(value)

    def mark(where: Bool[np.ndarray, " levels"], words: str) -> None:
        for k in np.flatnonzero(where):
            reasons[k] = reasons[k] or words

    if wrapping:
        mark(np.ones(len(value), dtype=bool), wrapping)
    mark((value - h > limit) & (value - h > _SURE * error), "it lies above the entropy, which nothing can")
    if bound is not None:
        apart = np.hypot(error, bound.error)
        below = bound.value - value
        mark((below > _NEAR * limit) & (below > _SURE * apart), "it lies below a bound that holds for any network")
    if data_bound is not None:
        below = data_bound.value - value
        surely = below > _SURE * np.hypot(error, data_bound.error)
        mark((below > _SOME * h) & surely, "it lies below a bound that the data give without any network")
    off = _off(calibration, len(value))
    noise = _off(null, len(value))
    mark(off > limit, "calibration: its error is correlated with what it predicts")
    mark(noise > limit, "noise of the network: random labels seem to be told as much")
    if bound is not None:
        above = value - bound.value
        suspicious = (off > _NEAR * limit) | (noise > _NEAR * limit) | (value > h)
        mark(
            (above > limit) & (above > _SURE * apart) & suspicious,
            "the best bound does not confirm it, nor calibration",
        )
    trusted = np.array([not r for r in reasons])
    return Trust(
        curve.attribute, curve.estimator, curve.sigma, trusted, tuple(reasons), _excused(curve, trusted, limit)
    )


def _excused(curve: Curve, trusted: Bool[np.ndarray, " levels"], limit: float) -> str:
    """Where a trusted level lies above H(A) by more than the tolerance, which its standard error excuses."""
    over = np.where(trusted, curve.value - curve.ceiling, 0.0)
    k = int(over.argmax())
    if over[k] <= limit:
        return ""
    return (
        f"at σ {curve.sigma[k]:.3g} it lies {100 * over[k] / curve.ceiling:.0f} % above H(A), within {_SURE:g} "
        f"standard errors ({curve.error[k]:.2g} nats each): more draws would tell"
    )


def rule(
    *,
    tolerance: float = TOLERANCE,
    bound: bool = True,
    calibration: bool = True,
    null: bool = True,
    data_bound: bool = False,
    losses: bool = False,
) -> str:
    """The rule of :func:`judge` in words, made of its own numbers.

    Args:
        tolerance: as there.
        bound, calibration, null, data_bound: which of these it was given.
        losses: whether the network's denoising losses were looked at.
    """
    share, half = f"{100 * tolerance:g} % of H(A)", f"{100 * _NEAR * tolerance:g} % of H(A)"
    sure = f"{_SURE:g} standard errors"
    names = [n for n, given in (("its calibration", calibration), ("the gap of random labels", null)) if given]
    off = " or ".join(names)
    parts = [f"where it lies above H(A) by more than {share} and by more than {sure}"]
    if names:
        parts.append(f"where {off} is further from zero than {share} and than {sure}")
    if losses:
        parts.insert(
            0, "at all levels if the network denoises worse than a linear denoiser, or told right than unconditional"
        )
    if data_bound:
        parts.append(
            f"where it lies below the bound of the data alone by more than {100 * _SOME:g} % of H(A) and by more than "
            f"{sure} of both"
        )
    if bound:
        parts.append(
            f"where it lies below the best bound by more than {half} and by more than {sure} of both, since the truth "
            "lies above the bound"
        )
        weak = f"{off} is further from zero than {half} and than {sure}, or it" if names else "it"
        parts.append(f"where it lies above the best bound by more than {share} and {sure} while {weak} lies above H(A)")
    return f"A gap is called biased {'; '.join(parts)}."


def _off(curve: Curve | None, levels: int) -> Float[np.ndarray, " levels"]:
    """How far a curve that should be zero is from it, less what chance explains."""
    if curve is None:
        return np.zeros(levels)
    size = np.abs(curve.value)
    return np.where(size > _SURE * curve.error, size, 0.0)


def biased_around(
    trusted: Bool[np.ndarray, " levels"], levels: Float[np.ndarray, " levels"], sigma: float | None
) -> bool:
    """Whether a curve is marked as biased at one of the two levels around σ; without σ, at all levels.

    Args:
        trusted: at which levels it is not marked.
        levels: decreasing.
        sigma: 0 and infinity, which stand for a level that is not reached, count as not marked; None: all levels.
    """
    if sigma is None:
        return not trusted.any()
    if not 0 < sigma < math.inf:
        return False
    below = int(np.clip(np.searchsorted(-levels, -sigma * (1 + 1e-9)), 0, len(levels) - 1))
    above = below if math.isclose(levels[below], sigma, rel_tol=1e-9) else max(below - 1, 0)
    return not (trusted[below] and trusted[above])
