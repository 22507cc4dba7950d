r"""The correction of the integral above the highest level, where the gap is measured at one level only.

Above the highest cell of levels the integrand :math:`g(\lambda) = E\|D_A - D\|^2` is measured in the middle only
(:mod:`sigmascope.information.allocation`), which is correct where g is nearly a straight line in
:math:`\lambda = \sigma^{-2}`.  Its value at :math:`\lambda = 0` follows from the data alone, as the first term of the
series of the information: :math:`g(0) = E\|E[V|A] - E V\|^2`.  Where a network's highest level is low, g falls between
the two, and is modelled by

.. math:: g = \frac{g(0)}{1 + \kappa\lambda} \quad\text{or}\quad g = g(0)\,e^{-\kappa\lambda}:

the first corrects the integral, and the difference of the two plus half of the correction is the gauge of its error.
Where g rises from 0 on nothing is corrected.  Where it falls to less than half, the series no longer holds: the gauge
is then at least half of the difference to H(A), or the difference to the first term if that is less.
"""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

_HOLDS = 0.5  # g in the middle over g(0), below which the series does not hold
_SHOWN = 0.01  # share of H(A) above which a correction or its gauge causes a warning
_NEGLIGIBLE = 1e-3  # nats: a smaller correction would add more chance than it removes bias


class CoarseTopWarning(UserWarning):
    """The highest level at which a denoiser is called is too low for the integral above it."""


def above(measured: float, first: float, ceiling: float) -> tuple[float, float]:
    """The correction of the integral above the levels, and the gauge of the remaining error, nats.

    Args:
        measured: the integral by the level in the middle.
        first: the first term of the series, the integral if g were g(0).
        ceiling: H(A); NaN where there is none.
    """
    if measured <= 0.0 or first <= 0.0:
        return 0.0, 0.0
    fall = measured / first
    rate = -math.log(fall)
    straight = measured * (math.sinh(rate) / rate - 1.0) if abs(rate) > 1e-4 else 0.0
    if fall >= 1.0:
        return 0.0, straight
    x = 1.0 / fall - 1.0
    bent = measured * (math.log1p(2.0 * x) / (2.0 * x * fall) - 1.0) if x > 1e-4 else 0.0
    gauge = abs(bent - straight) + 0.5 * bent
    if fall < _HOLDS and math.isfinite(ceiling):
        gauge = max(gauge, min(0.5 * (ceiling - measured - bent), first - measured))
    return bent, gauge


def left_out(name: str, measured: float, first: float, ceiling: float, highest: float) -> tuple[float, float]:
    """:func:`above` of an attribute, measured at ``highest``; 0 where both are below a thousandth of a nat.

    Warns: CoarseTopWarning where the correction or the gauge is more than a hundredth of H(A).
    """
    correction, gauge = above(measured, first, ceiling)
    if max(correction, gauge) < _NEGLIGIBLE:
        return 0.0, 0.0
    if max(correction, gauge) > _SHOWN * ceiling:
        warnings.warn(
            f"{name}: the denoiser is not measured above level {highest:.3g}, where {100 * correction / ceiling:.1f} "
            f"± {100 * gauge / ceiling:.1f} % of H(A) is missing from the integral and was added by its series: "
            "begin at a higher level, or train the network on one",
            CoarseTopWarning,
            stacklevel=3,
        )
    return correction, gauge


def spread(v: Float[Tensor, "draws size"], label: Tensor) -> float:
    r""":math:`E\|E[V|A] - E V\|^2` from centred draws, without the part that chance adds; a continuous A by regression.

    ``label`` has indices of a discrete attribute, shape (draws,), or values of a continuous one, shape (draws, dim).
    """
    if label.is_floating_point():
        centred = label.double() - label.double().mean(0)
        return float(((centred @ torch.linalg.lstsq(centred, v).solution) ** 2).sum(1).mean())
    values, index = torch.unique(label, return_inverse=True)
    n, groups = len(v), len(values)
    if n <= groups:
        return 0.0
    count = torch.bincount(index, minlength=groups).double()
    total = torch.zeros(groups, v.shape[1], dtype=v.dtype).index_add_(0, index, v)
    between = float((total**2 / count[:, None]).sum()) / n
    within = (float((v**2).sum()) - n * between) / (n - groups)
    return max(between - (groups - 1) / n * within, 0.0)
