r"""The innovation of a filtration, and tests of its being a Brownian motion.

.. math:: W_t = Y_t - Y_0 - \int_0^t E[H_s \mid R_s]\,ds

is a Brownian motion of the filtration R: the measurements' own, or any larger one.  Each test returns its statistic and
p-value; many paths are tested at once, each an independent sample.

References: Kailath (1968); Bain & Crisan (2009), Prop. 2.30; Ljung & Box (1978); Jarque & Bera (1980).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from sigmascope.filtering.filters import Filtered
from sigmascope.filtering.systems import Path


class TestResult(NamedTuple):
    """A statistic, and the probability of one as extreme if the process is a Brownian motion."""

    statistic: float
    p_value: float


TestResult.__test__ = False  # type: ignore[attr-defined]  # not a test of pytest


def innovation(path: Path, account: Filtered) -> Float[Tensor, "times paths dim"]:
    """The innovation at the grid's times, from the drift that a filter expected, trapezoidal in time.

    Errors: second order in the step.  On a coarse grid, or with very many paths, the tests detect it: they ask whether
        this process is a Brownian motion, not whether its limit is.
    """
    expected = 0.5 * (account.drift[:-1] + account.drift[1:])
    pushed = (expected * path.times.diff()[:, None, None]).cumsum(0)
    return path.y - path.y[0] - torch.cat([torch.zeros_like(pushed[:1]), pushed])


def quadratic_variation_test(w: Float[Tensor, "times paths dim"], times: Tensor) -> TestResult:
    """Whether Σ (ΔW)²/Δt is chi-squared: z-score of that sum, two-sided.

    On a fine grid it detects no drift: thin the grid to detect one.
    """
    z = _standard(w, times)
    count = z.numel()
    score = (float((z**2).sum()) - count) / math.sqrt(2.0 * count)
    return TestResult(score, 2.0 * float(stats.norm.sf(abs(score))))


def whiteness_test(w: Float[Tensor, "times paths dim"], times: Tensor, lags: int = 5) -> TestResult:
    """Whether increments at different times are uncorrelated: Σ over lags of squared correlations, chi-squared.

    Args:
        lags: how many.

    Raises: ValueError where the grid has too few steps.
    """
    z = _standard(w, times)
    if not 0 < lags < len(z):
        raise ValueError(f"lags is {lags} for {len(z)} steps: expected at least 1 and fewer than the steps")
    total = 0.0
    for lag in range(1, lags + 1):
        product = z[lag:] * z[:-lag]
        total += float(product.sum()) ** 2 / product.numel()
    return TestResult(total, float(stats.chi2.sf(total, lags)))


def normality_test(w: Float[Tensor, "times paths dim"], times: Tensor) -> TestResult:
    """Whether increments are N(0, Δt), by skewness and kurtosis about the known mean and variance, chi-squared(2)."""
    z = _standard(w, times)
    third = float((z**3 - 3 * z).sum()) ** 2 / (6.0 * z.numel())
    fourth = float((z**4 - 6 * z**2 + 3).sum()) ** 2 / (24.0 * z.numel())
    return TestResult(third + fourth, float(stats.chi2.sf(third + fourth, 2)))


def martingale_test(
    w: Float[Tensor, "times paths dim"], times: Float[Tensor, " times"], predictor: Tensor
) -> TestResult:
    r"""Whether a process that is known at each time predicts the next increment: z-score of :math:`\int P \cdot dW`.

    The most powerful of the four against a wrong filter.  Use as predictor a process of the filtration, e.g. the drift
    that another filter expects.
    """
    if predictor.shape != w.shape:
        raise ValueError(f"predictor has shape {tuple(predictor.shape)}, w {tuple(w.shape)}: they must agree")
    gained = (predictor[:-1] * w.diff(dim=0)).sum((0, 2))
    spread = (predictor[:-1] ** 2 * times.diff()[:, None, None]).sum()
    score = float(gained.sum() / spread.clamp_min(1e-300).sqrt())
    return TestResult(score, 2.0 * float(stats.norm.sf(abs(score))))


def _standard(w: Tensor, times: Tensor) -> Tensor:
    if len(w) != len(times) or len(times) < 2:
        raise ValueError(f"w has {len(w)} times, the grid {len(times)}: they must agree, and be two at least")
    return w.diff(dim=0) / times.diff().sqrt()[:, None, None]
