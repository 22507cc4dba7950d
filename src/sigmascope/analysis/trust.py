r"""Whether a learned curve can be trusted, from what is known without the truth.

A learned score gap is a bound in neither direction: with :math:`\delta` the error of the difference,
:math:`E\|\hat D_A - \hat D\|^2` adds :math:`E\|\delta\|^2` and :math:`2 E\langle D_A - D, \delta\rangle`.  Six
quantities show such a bias: the network's denoising loss, which must not be above that of a linear denoiser
(:mod:`sigmascope.information.wrapping`); the entropy, which information cannot exceed; a lower bound, which holds
whatever the network's error; a lower bound that the labelled data give without a network; the calibration
:math:`2 E\langle D_A - D, v - D_A\rangle`, which is zero for the true conditional means; and the gap of a spare
attribute of random labels (the null), which is :math:`E\|\delta\|^2` alone.

References: Barber & Agakov (2003); Franzese et al. (2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from sigmascope.core import Curve

TOLERANCE = 0.1
"""A curve is called biased where its error is likely to be larger than this share of H(A)."""
_SURE = 3.0  # standard errors from which on a difference counts
_LEAST = 0.01  # share of H(A) by which a curve must at least lie below a bound of the data alone
_NEAR = 0.5  # share of the tolerance from which on two weak signs count together, or a bound that is below the truth


@dataclass(frozen=True, eq=False)
class Trust:
    """A verdict on one learned curve, level by level.

    Args:
        attribute: name of A.
        estimator: name of the curve's estimator.
        sigma: its levels, decreasing, shape (levels,).
        trusted: at which levels no sign of bias was seen, bool, shape (levels,).
        reasons: for each level the sign of bias, in words; empty where it is trusted.
        note: names the trusted level that lies farthest above H(A), where the excess is more than the tolerance but not
            more than three standard errors; empty where there is none.
    """

    attribute: str
    estimator: str
    sigma: Float[np.ndarray, " levels"]
    trusted: Bool[np.ndarray, " levels"]
    reasons: tuple[str, ...]
    note: str = ""

    @property
    def words(self) -> str:
        """The levels at which the curve is trusted, the commonest sign of bias elsewhere, and the note."""
        return self._verdict() + (f"; {self.note}" if self.note else "")

    def _verdict(self) -> str:
        if self.trusted.all():
            return "trusted at all levels"
        against = [r for r in self.reasons if r]
        commonest = max(dict.fromkeys(against), key=against.count)
        if not self.trusted.any():
            return f"biased at all levels: {commonest}"
        ends = np.flatnonzero(np.diff([False, *self.trusted, False])).reshape(-1, 2)
        spans = ", ".join(f"σ {self.sigma[first]:.3g} to {self.sigma[after - 1]:.3g}" for first, after in ends)
        return f"trusted at {spans}; biased elsewhere: {commonest}"


def judge(
    curve: Curve,
    *,
    bound: Curve | None = None,
    calibration: Curve | None = None,
    null: Curve | None = None,
    data_bound: Curve | None = None,
    wrapping: str = "",
    weak_end: tuple[float, str] = (0.0, ""),
    tolerance: float = TOLERANCE,
    real: bool = False,
) -> Trust:
    r"""Trusted or biased: a verdict on a learned curve at every level.

    Write :math:`\delta` for ``tolerance`` · H(A), and e for three standard errors of the difference that is named.  A
    curve is biased at all levels if ``wrapping`` is not empty, at the levels below ``weak_end``, and at a level where

    - it lies above H(A) by more than :math:`\delta` and more than e;
    - it lies below ``bound`` by more than :math:`\delta / 2` and more than e, since the truth lies above the bound;
    - it lies below ``data_bound`` by more than H(A)/100 and more than e;
    - ``calibration`` is farther from 0 than :math:`\delta` and than three of its own errors, or ``null`` is;
    - it lies above ``bound`` by more than :math:`\delta` and more than e, and a weak sign speaks against it as well:
      ``calibration`` or ``null`` is farther from 0 than :math:`\delta / 2` and than three of its own errors, or the
      curve lies above H(A).

    Args:
        curve: a learned score gap or MMSE gap.
        bound: a lower bound of the same information (:math:`\hat I_b \le I \le H(A)`); None: not measured, as for the
            next three.
        calibration: MMSE gap less score gap, of the same draws: zero for the true conditional means.
        null: the same estimator's curve of an attribute of random labels: zero for the true conditional means.
        data_bound: a lower bound that the labelled data give without a network.
        wrapping: the warning from the network's denoising losses; empty where there is none.
        weak_end: the noise level below which the network is not trained well, and what shows it, in words; 0 where
            there is none.
        tolerance: share of H(A) from which on an error counts.
        real: whether A is real-valued: then H(A) is replaced by the ceiling of its curve.

    Returns: the verdict, with the first of these reasons that holds at each level.

    Valid when: all curves are over the same levels.  The conditions are necessary and not sufficient: a network whose
        error shows in none of them is trusted.
    """
    h, value, error = curve.ceiling, curve.value, curve.error
    limit = tolerance * h
    reasons = [""] * len(value)

    def mark(where: Bool[np.ndarray, " levels"], words: str) -> None:
        for k in np.flatnonzero(where):
            reasons[k] = reasons[k] or words

    if wrapping:
        mark(np.ones(len(value), dtype=bool), wrapping)
    mark(curve.sigma < weak_end[0] * (1 - 1e-9), weak_end[1])
    most = "its ceiling" if real else "the entropy"
    mark((value - h > limit) & (value - h > _SURE * error), f"it lies above {most}, which no information exceeds")
    if bound is not None:
        joint = np.hypot(error, bound.error)
        below = bound.value - value
        mark(
            (below > _NEAR * limit) & (below > _SURE * joint), "it lies below a lower bound that holds for any network"
        )
    if data_bound is not None:
        below = data_bound.value - value
        surely = below > _SURE * np.hypot(error, data_bound.error)
        mark((below > _LEAST * h) & surely, "it lies below a lower bound that the data give without any network")
    off = _off(calibration, len(value))
    noise = _off(null, len(value))
    mark(off > limit, "calibration: the network's error is correlated with the difference that it predicts")
    mark(noise > limit, "noise of the network: the gap of random labels, which should be zero, is as large")
    if bound is not None:
        above = value - bound.value
        suspicious = (off > _NEAR * limit) | (noise > _NEAR * limit) | (value > h)
        mark(
            (above > limit) & (above > _SURE * joint) & suspicious,
            "the best lower bound does not confirm it, and its calibration, random labels or H(A) speak against it",
        )
    trusted = np.array([not r for r in reasons])
    note = _excess(curve, trusted, limit, "its ceiling" if real else "H(A)")
    return Trust(curve.attribute, curve.estimator, curve.sigma, trusted, tuple(reasons), note)


def _excess(curve: Curve, trusted: Bool[np.ndarray, " levels"], limit: float, most: str) -> str:
    """On the trusted level farthest above H(A) by more than the tolerance, which its standard error allows."""
    over = np.where(trusted, curve.value - curve.ceiling, 0.0)
    k = int(over.argmax())
    if over[k] <= limit:
        return ""
    return (
        f"at σ {curve.sigma[k]:.3g} it lies {100 * over[k] / curve.ceiling:.0f} % above {most}, within {_SURE:g} "
        f"standard errors ({curve.error[k]:.2g} nats each): use more draws to decide"
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
    """The rule of :func:`judge` in words, with its own numbers, for the curves that it was given.

    ``losses`` is whether the network's denoising losses were checked.
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
            0,
            "at all levels if the network denoises worse than a linear denoiser, or worse given the right value than "
            "unconditionally; at the lowest levels if it is worse than a linear denoiser at these alone",
        )
    if data_bound:
        parts.append(
            f"where it lies below the bound of the data alone by more than {100 * _LEAST:g} % of H(A) and by more than "
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
    """Whether a curve is marked as biased at one of the two levels around σ, or without σ at all levels.

    0 and infinity, which stand for a level that is not reached, count as not marked.
    """
    if sigma is None:
        return not trusted.any()
    if not 0 < sigma < math.inf:
        return False
    below = int(np.clip(np.searchsorted(-levels, -sigma * (1 + 1e-9)), 0, len(levels) - 1))
    above = below if math.isclose(levels[below], sigma, rel_tol=1e-9) else max(below - 1, 0)
    return not (trusted[below] and trusted[above])
