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
    """The outcome of a test whether a process is a Brownian motion.

    Args:
        statistic: what the test computes; its docstring says how it is distributed for a Brownian motion.
        p_value: the probability of a statistic as extreme if the process is a Brownian motion.
    """

    statistic: float
    p_value: float


TestResult.__test__ = False  # type: ignore[attr-defined]  # not a test of pytest


def innovation(path: Path, account: Filtered) -> Float[Tensor, "times paths dim"]:
    r"""The innovation of a filter: the measurements less the drift that the filter expected, trapezoidal in time.

    .. math:: W_t = Y_t - Y_0 - \int_0^t E[H_s \mid R_s]\,ds

    It is a Brownian motion if the filter is right, which the tests of this module ask.

    Args:
        path: the measurements.
        account: the results of the filter on them.

    Returns: W at the times of the grid, shape (times, paths, dim); 0 at the first.

    Errors: second order in the step.  On a coarse grid, or with very many paths, the tests detect it: they ask whether
        this process is a Brownian motion, not whether its limit is.
    """
    expected = 0.5 * (account.drift[:-1] + account.drift[1:])
    pushed = (expected * path.times.diff()[:, None, None]).cumsum(0)
    return path.y - path.y[0] - torch.cat([torch.zeros_like(pushed[:1]), pushed])


def quadratic_variation_test(w: Float[Tensor, "times paths dim"], times: Tensor) -> TestResult:
    r"""Whether :math:`\sum (\Delta W)^2/\Delta t` is chi-squared: z-score of that sum, two-sided.

    What a drift adds to the sum is the same on any grid, while the spread of the sum grows with the number of steps: on
    a fine grid it does not see a drift.  Thin the grid, with ``w[::10]`` and ``times[::10]``, to detect one.

    Args:
        w: the process, as from :func:`innovation`, shape (times, paths, dim).
        times: its grid, shape (times,).

    Returns: the z-score, standard normal for a Brownian motion, and its p-value.

    Raises: ValueError for fewer than two times, or another number of them in ``w``.
    """
    z = _standard(w, times)
    count = z.numel()
    score = (float((z**2).sum()) - count) / math.sqrt(2.0 * count)
    return TestResult(score, 2.0 * float(stats.norm.sf(abs(score))))


def whiteness_test(w: Float[Tensor, "times paths dim"], times: Tensor, lags: int = 5) -> TestResult:
    """Whether increments at different times are uncorrelated: Σ over lags of squared correlations.

    Args:
        w: the process, as from :func:`innovation`, shape (times, paths, dim).
        times: its grid, shape (times,).
        lags: the number of lags, from 1 step on.

    Returns: the sum, chi-squared with ``lags`` degrees of freedom for a Brownian motion, and its p-value.

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
    """Whether increments are N(0, Δt), by skewness and kurtosis about the known mean and variance.

    Args:
        w: the process, as from :func:`innovation`, shape (times, paths, dim).
        times: its grid, shape (times,).

    Returns: the sum of both squared z-scores, chi-squared with 2 degrees of freedom for a Brownian motion, and its
        p-value.
    """
    z = _standard(w, times)
    third = float((z**3 - 3 * z).sum()) ** 2 / (6.0 * z.numel())
    fourth = float((z**4 - 6 * z**2 + 3).sum()) ** 2 / (24.0 * z.numel())
    return TestResult(third + fourth, float(stats.chi2.sf(third + fourth, 2)))


def martingale_test(
    w: Float[Tensor, "times paths dim"], times: Float[Tensor, " times"], predictor: Tensor
) -> TestResult:
    r"""Whether a process that is known at each time predicts the next increment: z-score of :math:`\int P \cdot dW`.

    The most powerful of the four against a wrong filter.

    Args:
        w: the process, as from :func:`innovation`, shape (times, paths, dim).
        times: its grid, shape (times,).
        predictor: P, a process of the filtration, shape (times, paths, dim), e.g. the drift that another filter
            expects; its values at the beginning of each step are used.

    Returns: the z-score, standard normal for a Brownian motion, and its p-value.

    Raises: ValueError for a predictor of another shape.
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
