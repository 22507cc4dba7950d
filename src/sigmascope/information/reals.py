r"""Information about a real-valued attribute that is known up to a resolution, and how precisely it is known.

.. math:: I(A_r; Y_\sigma) = E \ln \frac{p(A_r \mid Y_\sigma)}{p(A_r)} \le I(A_r; A), \qquad A_r = A + r N
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Curve, RealAttribute


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
