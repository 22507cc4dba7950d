r"""How surely an attribute outlives noise: what a redraw from a noisy image keeps, and what can be read off it.

.. math:: P_{keep}(\sigma) = P(A' = A) = E \sum_a p(a \mid Y_\sigma)^2, \qquad
          P_{sure}(\sigma) = E \max_a p(a \mid Y_\sigma)

A is the attribute of V, :math:`Y_\sigma = V + \sigma n`, and A' that of a redraw from :math:`p(v \mid Y_\sigma)`: what
SDEdit and forks do.  Given Y both are independent draws of p(a | y), whence the sum of squares.  Both fall as sigma
grows (a convex function of the posterior loses by further noise), :math:`P_{keep} \le P_{sure}`, and by Jensen's
inequality

.. math:: P_{keep} \ge E\, e^{-H(A \mid Y = y)} \ge e^{I(A; Y_\sigma) - H(A)},

so that any lower bound of the information is one of the probability, too.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor


def kept(log_posterior: Float[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """Probability that a redraw keeps the value: the sum of squares of p(a | y)."""
    return (2.0 * log_posterior.double()).exp().sum(-1)


def sure(log_posterior: Float[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """Probability that the likeliest value is the true one."""
    return log_posterior.double().exp().amax(-1)


def kept_of_counts(counts: Int64[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """The same as :func:`kept` from the labels of K children, without bias: the share of pairs that agree.

    Args:
        counts: how often each value occurs among the children, at least 2 in all.
    """
    n = counts.double()
    children = n.sum(-1)
    return (n * (n - 1.0)).sum(-1) / (children * (children - 1.0))


def kept_at_least(information: Float[np.ndarray, "*shape"], entropy: float) -> Float[np.ndarray, "*shape"]:
    """The bound :math:`e^{I - H}` of :math:`P_{keep}`, from the information or a lower bound of it, nats."""
    return np.exp(np.minimum(information - entropy, 0.0))
