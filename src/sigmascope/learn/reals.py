r"""Real-valued attributes as conditions of a network.

A network is conditional on the noisy value :math:`a_r = a + r N`, the quantity whose information is measured.  Its
condition is the vector of its coordinates; on a circle of length p it is

.. math:: c = \left(\cos \tfrac{2\pi a_r}{p},\; \sin \tfrac{2\pi a_r}{p}\right).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import RealAttribute
from sigmascope.learn.conditions import Continuous


def condition_of(a: RealAttribute, noisy: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows dim"]:
    """The condition of a network for noisy values of an attribute, float64."""
    if a.period is None:
        return noisy.double()
    turn = noisy.double() * (2.0 * math.pi / a.period)
    return torch.cat([turn.cos(), turn.sin()], 1)


def noisy_of(a: RealAttribute, condition: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows columns"]:
    """The noisy values that conditions are made of, float64; on a circle, up to whole turns."""
    if a.period is None:
        return condition.double()
    angle = torch.atan2(condition[:, 1:].double(), condition[:, :1].double())
    return angle * (a.period / (2.0 * math.pi))


def continuous_of(
    a: RealAttribute, numbers: Float[Tensor, "items columns"], weights: Float[Tensor, " items"]
) -> Continuous:
    r"""The condition with its mean and standard deviation over weighted items and the noise of the resolution.

    On a line the variance is that of the numbers plus r².  On a circle, with :math:`q = e^{-(2\pi r/p)^2/2}`, the mean
    is q times that of (cos, sin), and the mean of cos 2x is q⁴ times that without noise.
    """
    share = (weights / weights.sum())[:, None]
    if a.period is None:
        mean = (share * numbers).sum(0)
        variance = (share * (numbers - mean).square()).sum(0) + a.resolution**2
    else:
        damping = math.exp(-0.5 * (2.0 * math.pi * a.resolution / a.period) ** 2)
        clean = condition_of(a, numbers)
        mean, doubled = damping * (share * clean).sum(0), (share * (clean.square() - 0.5)).sum(0)
        variance = 0.5 + damping**4 * doubled - mean.square()
    return Continuous(a.name, len(mean), tuple(mean.tolist()), tuple(variance.clamp_min(0.0).sqrt().tolist()))
