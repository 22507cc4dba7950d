r"""Identification: the noise level at which the posterior of an exact filter collapses on one item of the set.

.. math:: n_{\mathrm{eff}}(\sigma) = \frac{1}{\sum_k p(k \mid y)^2}

is the effective number of items that remain possible: all of them at high noise, one once the filter has identified
the item that was noised.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.special import bdtrik

from sigmascope.analysis.onset import Quantity
from sigmascope.core import InputError

IDENTIFIED = 2.0
"""Effective items below which an item counts as identified.

1/n_eff is the probability that two independent draws from the posterior are the same item; below 2 it is more than a
half, and so is the probability of the most probable item, which is no smaller.
"""


def identified_at(
    sigma: np.ndarray,
    effective_items: np.ndarray,
    threshold: float = IDENTIFIED,
) -> Float[np.ndarray, " draws"]:
    """The noise level of each draw below which its effective number of items stays under the threshold.

    It is interpolated in ln sigma and ln n_eff; 0 where the last level is not under the threshold, infinity where all
    levels are.  Args and exceptions are those of :func:`collapse`.
    """
    shape = np.shape(effective_items)
    if len(shape) != 2 or shape[0] != len(sigma) or len(sigma) < 2 or 0 in shape or np.any(np.diff(sigma) >= 0):
        raise InputError(
            f"effective items have shape {shape} for {len(sigma)} levels: pass (levels, draws), of at least 2 levels "
            "that decrease"
        )
    if not (threshold > 1.0 and np.all(effective_items > 1.0 - 1e-6)):
        raise InputError(f"threshold is {threshold:g}: it must be greater than 1, and no effective number below 1")
    log_n, at = np.log(effective_items), math.log(threshold)
    x, levels = np.log(sigma), np.empty(shape[1])
    for i, row in enumerate(log_n.T):
        above = np.flatnonzero(row >= at)
        if not len(above):
            levels[i] = math.inf
        elif above[-1] + 1 == len(sigma):
            levels[i] = 0.0
        else:
            k = above[-1]
            share = (row[k] - at) / (row[k] - row[k + 1])
            levels[i] = math.exp(x[k] + share * (x[k + 1] - x[k]))
    return levels


def collapse(
    sigma: np.ndarray,
    effective_items: np.ndarray,
    threshold: float = IDENTIFIED,
) -> Quantity:
    r"""The noise level below which the filter has identified the item, for half of the draws.

    .. math:: \sigma_C = \operatorname{median}_i\, \sup\{\sigma : n_{\mathrm{eff}}(\sigma; y_i) \ge 2\}

    Where the number of each draw falls with sigma, this is where the median number falls below the threshold.

    Args:
        sigma: decreasing levels, in the unit of the data.
        effective_items: :math:`1/\sum_k p(k|y)^2` of independent draws, shape (levels, draws).
        threshold: effective items below which an item counts as identified, see :data:`IDENTIFIED`.

    Returns: the level with a 95 % interval between order statistics, which holds for any law and number of draws (a
        bootstrap of a median draws from the same order statistics); 0 or infinity where it lies beyond the levels.  The
        error of interpolation between levels, of some 1 % at steps of 0.25 in ln sigma, is not in it.

    Raises: InputError for shapes, levels or a threshold that do not fit.

    Valid when: items differ.  An item with copies keeps as many effective items as it has copies.

    References: Biroli, Bonnaire, de Bortoli, Mézard (2024); David & Nagaraja (2003), Section 7.1.
    """
    each = np.sort(identified_at(sigma, effective_items, threshold))
    n = len(each)
    low, high = each[(n - 1) // 2], each[n // 2]
    middle = math.sqrt(low * high) if low > 0.0 and high < math.inf else float(low if low < math.inf else high)
    rank = int(np.nan_to_num(np.ceil(bdtrik(0.025, n, 0.5))))  # quantile of a binomial; NaN for the smallest n is 0
    if rank == 0:
        return Quantity(middle, 0.0, math.inf)
    return Quantity(middle, float(each[rank - 1]), float(each[n - rank]))


def gaussian_collapse(items: float, dim: int, scale: float = 1.0) -> float:
    r"""The noise level at which an exact filter of n normal items in d dimensions identifies them.

    The items are drawn from :math:`N(0, s^2 I)`.  In the limit :math:`d \to \infty` with :math:`\ln n / d` fixed,

    .. math:: \ln n = \tfrac d2 \ln\left(1 + \frac{s^2}{\sigma_C^2}\right), \qquad
              \sigma_C = \frac{s}{\sqrt{n^{2/d} - 1}}

    Let :math:`y = v + \sigma\varepsilon` be an item under noise, and :math:`p_\sigma` the density of
    :math:`N(0, (s^2 + \sigma^2) I)`, the law of y.  The item's own weight in the posterior is
    :math:`e^{-\|\varepsilon\|^2/2} \approx e^{-d/2}`, that of the others together
    :math:`n\,(2\pi\sigma^2)^{d/2}\, p_\sigma(y) \approx n\,(1 + s^2/\sigma^2)^{-d/2} e^{-d/2}`: they are equal at
    :math:`\sigma_C`, where the random energy model of the others also freezes.  The right-hand side of the equation is
    :math:`I(V; Y_\sigma)` of one normal V: the items are a random code, which can be decoded up to its capacity.  In
    Ornstein-Uhlenbeck time, :math:`\sigma^2 = e^{2t} - 1`, it is :math:`t_C = \tfrac12 \ln(1 + s^2/(n^{2/d} - 1))`.

    Args:
        items: n, the number of items, at least 2.
        dim: d, the number of coordinates of an item.
        scale: s, the standard deviation of a coordinate of an item.

    Returns: :math:`\sigma_C`, in the unit of ``scale``.  In finite dimension, single draws scatter about it by some
        :math:`d^{-1/2}` of its logarithm, and the threshold of :func:`collapse` matters by an order of 1/d: at 2 the
        level found is within 3 % of it from 12 dimensions and 20 items on, at 4 higher by a factor
        :math:`e^{2.5/d}` or so.

    Raises: InputError for numbers that describe no such set.

    References: Derrida (1981); Biroli, Bonnaire, de Bortoli, Mézard (2024); Shannon (1948).
    """
    if not (items >= 2 and math.isfinite(items) and dim >= 1 and math.isfinite(scale) and scale > 0):
        raise InputError(
            f"items is {items:g}, dim {dim}, scale {scale:g}: expected at least 2 items, at least 1 dimension, and a "
            "positive scale"
        )
    return scale / math.sqrt(math.expm1(2.0 * math.log(items) / dim))
