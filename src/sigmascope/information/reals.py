r"""Information about a real-valued attribute that is known up to a resolution, and how precisely it is known.

.. math:: I(A_r; Y_\sigma) = E \ln \frac{p(A_r \mid Y_\sigma)}{p(A_r)} \le I(A_r; A), \qquad A_r = A + r N
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Curve, LabelledData, RealAttribute, generator
from sigmascope.exact.finite.reals import log_density, smoothing
from sigmascope.streams import Use

_MOST, _FEWEST, _DIFFERENCES = 8192, 1024, 4e7  # draws of a ceiling, and differences of values


def information(
    attribute: RealAttribute,
    sigma: Float[np.ndarray, " levels"],
    log_ratio: Float[Tensor, "levels draws"],
    log_ceiling: Float[Tensor, " draws"],
) -> Curve:
    r"""Information curve from :math:`\ln p(a_r \mid y) / p(a_r)` of draws of A_r and Y together.

    Args:
        attribute: A, with its resolution r.
        sigma: decreasing levels.
        log_ratio: of independent draws, exact.
        log_ceiling: :math:`\ln p(a_r \mid a) / p(a_r)` of the same draws.

    Returns: an exact Curve in nats.  Its ceiling, :math:`I(A_r; A)`, is the mean over the same draws, so that the curve
        ends at it as sigma goes to 0, and has their error.

    References: Cover & Thomas (2006), Chapter 8.
    """
    ceiling = float(log_ceiling.mean())
    return Curve.of_draws(attribute.name, "posterior", sigma, log_ratio.cpu().numpy(), ceiling)


def ceiling(data: LabelledData, attribute: RealAttribute) -> tuple[float, float]:
    r"""The most that can be known of a real-valued attribute of weighted items, :math:`I(A_r; A)`, nats.

    .. math:: I(A_r; A) = E \ln \frac{K(A_r - A)}{\sum_k w_k K(A_r - a_k)}, \qquad K(d) = e^{-|d|^2 / 2r^2}

    It is a mean over draws of its own, which depend on the data alone: 8,192 where the distinct values are up to
    4,900, and fewer for more values, 1,024 at least.  So it has a standard error of 0.01 to 0.03 nats for one column.

    Args:
        data: the items.
        attribute: one of their real-valued attributes.

    Returns: the ceiling and its standard error.

    Cost: a kernel for each draw and distinct value, 4e7 or 1,024 for each value, about a second.
    """
    values, codes = torch.unique(data.numbers[attribute.name].double(), dim=0, return_inverse=True)
    mass = values.new_zeros(len(values)).index_add_(0, codes, data.weights.double())
    draws = int(np.clip(_DIFFERENCES / len(values), _FEWEST, _MOST))
    g = generator(0, Use.RESOLUTION)
    own = values[torch.multinomial(mass, draws, replacement=True, generator=g)]
    noisy = own + attribute.resolution * torch.randn(own.shape, generator=g, dtype=torch.float64)
    ratio = smoothing(attribute, noisy - own).log() - log_density(attribute, noisy, values, mass)
    return float(ratio.mean()), float(ratio.std()) / draws**0.5


def precision(
    squared_error: Float[Tensor, "levels draws"],
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
    r"""The root mean square of :math:`A - E[A \mid Y_\sigma]`, in the unit of A.

    On a circle it is the root mean square of the wrapped difference of A from the direction of
    :math:`E[e^{iA} \mid Y_\sigma]`: for a uniform angle of which nothing is known, the period divided by
    :math:`\sqrt{12}`.

    Args:
        squared_error: of independent draws.

    Returns: the precision of each level, and its standard error :math:`s / (2 \sqrt{n}\,p)` with the standard deviation
        s of the squared errors.
    """
    x = squared_error.cpu().numpy()
    value = np.sqrt(x.mean(1))
    error = x.std(1, ddof=1) / x.shape[1] ** 0.5
    return value, error / np.maximum(2.0 * value, 1e-300)
