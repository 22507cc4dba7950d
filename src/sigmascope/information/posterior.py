r"""Information from the posterior of a discrete attribute.

.. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma)
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Attribute, Curve


def entropy_of(log_posterior: Float[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """Entropy in nats of distributions given by their logarithms; 0 ln 0 = 0."""
    return torch.special.entr(log_posterior.double().exp()).sum(-1)


def posterior(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    log_posterior: Float[Tensor, "levels draws values"],
) -> Curve:
    r"""Information curve from ln p(a | y) of draws of Y.

    .. math:: \hat I(\sigma) = H(A) - \frac1n \sum_i H(A \mid Y_\sigma = y_i)

    Args:
        attribute: A, with its prior.
        sigma: decreasing levels.
        log_posterior: exact log-posteriors at independent draws of :math:`Y_\sigma`.

    Returns: an exact Curve in nats, ``per_draw`` = :math:`H(A) - H(A|y_i)`; the standard error is that of their mean.
        It is valid for many draws: where almost every draw is decided, or almost none, few draws carry the mean and
        its distribution is skewed.

    References: Franzese et al. (2025); Cover & Thomas (2006), Chapter 2.
    """
    per_draw = (attribute.entropy - entropy_of(log_posterior)).cpu().numpy()
    return Curve.of_draws(attribute.name, "posterior", sigma, per_draw, attribute.entropy)
