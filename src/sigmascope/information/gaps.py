r"""Information from gaps between denoisers: the paper's measure, and the same in squared errors.

.. math:: I(A; Y_\sigma) = \int_{\ln\sigma}^{\infty} \frac{E\|D_A - D\|^2}{\sigma'^2}\, d\ln\sigma'
          = \int_{\ln\sigma}^{\infty} \frac{E\|V - D\|^2 - E\|V - D_A\|^2}{\sigma'^2}\, d\ln\sigma'

References: Guo, Shamai, Verdú (2005); Franzese et al. (2025).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sigmascope.core import Agreement, Attribute, Curve, Gap
from sigmascope.information.above import left_out
from sigmascope.noise import integral_coarse, integral_from_the_top

_RICHARDSON = 15.0  # a fourth-order rule on half the levels errs 16 times as much


def score_gap(attribute: Attribute, sigma: Float[np.ndarray, " levels"], gap: Gap) -> Curve:
    r"""Information by the score gap, its integrand averaged over the posterior.

    .. math:: I(A; Y_\sigma) = \tfrac12 \int_0^\lambda E \sum_a \pi(a|Y)\,\|D_a - D\|^2 \, d\lambda',
              \qquad \lambda = \sigma^{-2}

    with :math:`D = E[V \mid Y]` the posterior mean, :math:`D_a = E[V \mid Y, A = a]` and :math:`\pi(a|y)` the posterior
    of A, all at the level of :math:`\lambda'`.  Averaging over :math:`\pi(a|y)` instead of taking the drawn label
    leaves the mean and makes the standard deviation two to three times smaller.  Above the first level the series
    :math:`\tfrac12\lambda E\|E[V|A]-E[V]\|^2 - \tfrac14\lambda^2(\|\Sigma_V\|_F^2 - E\|\Sigma_{V|A}\|_F^2)` is added.

    Args:
        attribute: A.
        sigma: decreasing levels, shape (levels,).
        gap: the squared distances of an exact denoiser at these levels, on draws that all levels share.

    Returns: Curve in nats; ``stderr`` holds the errors of the draws and of the random directions,
        ``quadrature_error`` that of the integral over levels.

    Valid when: the denoisers are exact.  A learned difference of denoisers biases it in either direction.
    """
    return _integrated(attribute, "score_gap", sigma, gap.score, gap.score_directions, gap)


def mmse_gap(attribute: Attribute, sigma: Float[np.ndarray, " levels"], gap: Gap) -> Curve:
    r"""Information by the gap of squared errors at the drawn label.

    .. math:: I(A; Y_\sigma) = \tfrac12 \int_0^\lambda \left(E\|V - D\|^2 - E\|V - D_A\|^2\right) d\lambda',
              \qquad \lambda = \sigma^{-2}

    with :math:`D = E[V \mid Y]` and :math:`D_A = E[V \mid Y, A]`.  For exact denoisers it has the same mean as
    :func:`score_gap`, with a larger variance; a difference of the means shows a miscalibrated denoiser.

    Args:
        attribute: A.
        sigma: decreasing levels, shape (levels,).
        gap: the squared distances of an exact denoiser at these levels, on draws that all levels share.

    Returns: Curve in nats, with the errors of :func:`score_gap`.

    Valid when: the denoisers are exact.  Errors of learned denoisers bias it in either direction.
    """
    return _integrated(attribute, "mmse_gap", sigma, gap.mmse, gap.mmse_directions, gap)


GAPS: dict[str, Callable[[Attribute, np.ndarray, Gap], Curve]] = {"score_gap": score_gap, "mmse_gap": mmse_gap}
"""Both, by name."""


@dataclass(frozen=True)
class Gaps:
    """Curves of one attribute from the same draws; the columns of ``per_draw`` are independent replicates.

    ``calibration`` is the MMSE gap less the score gap, 0 for true conditional means (and not only for them).
    """

    score_gap: Curve
    mmse_gap: Curve
    calibration: Curve


def gaps_of_columns(
    name: str,
    ceiling: float,
    sigma: Float[np.ndarray, " levels"],
    columns: Float[np.ndarray, "3 levels_and_top columns"],
    draws_per_column: int,
    spread: float,
    highest: float,
) -> Gaps:
    """The curves from columns of the three integrals at each level and above the highest one that was measured.

    That part is corrected from E|E[V|A] - E V|² (``spread``), see :mod:`sigmascope.information.above`; the gauge of the
    error that remains is in ``quadrature_error``.
    """
    correction, gauge = left_out(name, float(columns[0, -1].mean()), spread / highest**2, ceiling, highest)
    error = np.full(len(sigma), gauge) if gauge else None

    def curve(way: str, values: np.ndarray, error: np.ndarray | None) -> Curve:
        return Curve.of_draws(
            name, way, sigma, values, ceiling, kind="estimate", quadrature_error=error,
            draws_per_column=draws_per_column,
        )  # fmt: skip

    score, mmse, calibration = columns[:, :-1]
    score_gap, mmse_gap = (curve(way, x + correction, error) for way, x in zip(GAPS, (score, mmse), strict=True))
    return Gaps(score_gap, mmse_gap, curve("calibration", calibration, None))


def agreement(posterior: Curve, other: Curve) -> Agreement:
    """Paired difference of another estimator's curve from that by the posterior, on the same levels and draws.

    Raises: ValueError if they are not over the same levels and draws.
    """
    if not posterior.same_draws(other):
        raise ValueError("the curves are not over the same levels and draws")
    difference = other.per_draw - posterior.per_draw
    quadrature = np.zeros_like(other.value) if other.quadrature_error is None else other.quadrature_error
    stderr = np.sqrt(difference.var(1, ddof=1) / difference.shape[1] + other.common_variance + quadrature**2)
    return Agreement(other.attribute, other.estimator, other.sigma, difference.mean(1), stderr, other.ceiling)


def _integrated(
    attribute: Attribute,
    estimator: str,
    sigma: Float[np.ndarray, " levels"],
    squared: Float[np.ndarray, "levels draws"],
    directions: Float[np.ndarray, "levels random"],
    gap: Gap,
) -> Curve:
    fine, coarse = integral_from_the_top(sigma), integral_coarse(sigma)
    snr = 1.0 / sigma[0] ** 2
    tail = 0.5 * snr * gap.spread - 0.25 * snr**2 * gap.frobenius
    rate = squared / sigma[:, None] ** 2
    random = directions.shape[1]
    common: Float[np.ndarray, " levels"] | float = 0.0
    if random > 1:
        shares = 0.5 * snr * gap.spread_directions + fine @ (directions / sigma[:, None] ** 2)
        common = shares.var(1, ddof=1) / random
    # The series omits terms of the next order, about lambda E|V - E V|^2 times its last term.
    series = np.abs(0.25 * snr**2 * gap.frobenius) * min(1.0, snr * np.sqrt(np.abs(gap.frobenius)))
    return Curve.of_draws(
        attribute.name, estimator, sigma, tail + fine @ rate, attribute.entropy, kind="estimate",
        common_variance=common, quadrature_error=np.abs((fine - coarse) @ rate.mean(1)) / _RICHARDSON + series,
    )  # fmt: skip
