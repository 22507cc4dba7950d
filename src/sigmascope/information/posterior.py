r"""Information from the posterior of a discrete attribute, and about each of its values.

.. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma) = \sum_a p(a)\, i(a; Y_\sigma), \qquad
          i(a; Y_\sigma) = \mathrm{KL}\left(p(y \mid a)\,\|\,p(y)\right)
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Attribute, Curve


def entropy_of(log_posterior: Float[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """Entropy in nats of distributions given by their logarithms; 0 ln 0 = 0."""
    result: Tensor = torch.special.entr(log_posterior.double().exp()).sum(-1)
    return result


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


def by_value(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    log_posterior: Float[Tensor, "levels draws values"],
) -> dict[str, Curve]:
    r"""Specific information of each value, from ln p(a | y) of draws of Y.

    .. math:: i(a; Y) = E[r_a \ln r_a] = E\left[r_a \ln r_a + (r_a - 1) \ln p(a)\right], \qquad
              r_a = \frac{p(a \mid Y)}{p(a)}

    The first equality is :math:`p(y \mid a) = r_a(y)\, p(y)`, by which each draw counts for each value and not for its
    own alone.  The second adds a control variate, for :math:`E\,r_a = 1`.  The average is unbiased.  The averaged
    numbers, weighted by p(a) and summed over the values, are those of
    :func:`posterior`, and they have no variance where the value is decided, since
    every draw then gives :math:`-\ln p(a)`.  Alternatives are worse:
    :math:`\ln r_a` averaged over the draws of that value alone has one and a half to three times the standard error
    around half information, more above; and :math:`\sum r_a \ln r_a / \sum r_a` does not sum to I, and has a bias of
    :math:`-E[(r_a - 1)\, r_a (\ln r_a - i)]` divided by the draws, to first order.

    Args:
        attribute: A, with its prior.
        sigma: decreasing levels.
        log_posterior: exact log-posteriors at independent draws of :math:`Y_\sigma`.

    Returns: by value, an exact Curve in nats with ceiling :math:`-\ln p(a)`; values without items are omitted.  An
        estimate may be below 0 by its error where little is known.

    References: DeWeese & Meister (1999) and Butts (2003), who call it specific surprise.
    """
    surprise = -torch.special.entr(log_posterior.double().exp())
    curves = {}
    for k, value in enumerate(attribute.values):
        prior = float(attribute.prior[k])
        if prior <= 0.0:
            continue
        ceiling = -float(np.log(prior))
        per_draw = (surprise[..., k] / prior + ceiling).cpu().numpy()
        curves[value] = Curve.of_draws(value, "posterior", sigma, per_draw, ceiling)
    return curves
