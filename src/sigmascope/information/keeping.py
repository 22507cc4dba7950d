r"""Probabilities that an attribute survives noise: that a redraw keeps it, and that its likeliest value is true.

.. math:: P_{keep}(\sigma) = P(A' = A) = E \sum_a p(a \mid Y_\sigma)^2, \qquad
          P_{sure}(\sigma) = E \max_a p(a \mid Y_\sigma)

A is the attribute of V, :math:`Y_\sigma = V + \sigma n`, and A' that of a redraw from :math:`p(v \mid Y_\sigma)`, as by
SDEdit and forks.  Given Y, A and A' are independent draws of p(a | y), which gives the sum of squares.  Both
probabilities fall as sigma grows (the mean of a convex function of the posterior falls with added noise),
:math:`P_{keep} \le P_{sure}`, and by Jensen's inequality

.. math:: P_{keep} \ge E\, e^{-H(A \mid Y = y)} \ge e^{I(A; Y_\sigma) - H(A)},

so that a lower bound of the information gives one of the probability.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


def kept(log_posterior: Float[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """Probability that a redraw keeps the value: the sum of squares of p(a | y)."""
    return (2.0 * log_posterior.double()).exp().sum(-1)


def sure(log_posterior: Float[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """Probability that the likeliest value is the true one."""
    return log_posterior.double().exp().amax(-1)


def kept_of_counts(counts: Int64[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """:func:`kept` from counts of the labels of 2 or more children, without bias: the share of pairs that agree."""
    n = counts.double()
    children = n.sum(-1)
    return (n * (n - 1.0)).sum(-1) / (children * (children - 1.0))


def kept_of_parents(
    counts: Int64[Tensor, "*batch draws values"], labels: Int64[Tensor, " draws"]
) -> Float[Tensor, "*batch draws"]:
    """The share of the children that have the value (``labels``) of the image that was noised.

    Its mean is :math:`P(A' = A)` whatever the continuations; where they are draws of p(v | y) it has the mean of
    :func:`kept`.  For a model with another law than that of the images, :func:`kept_of_counts` is the agreement of the
    model's own continuations instead.
    """
    own = labels.expand(counts.shape[:-1])[..., None]
    return counts.gather(-1, own)[..., 0].double() / counts.sum(-1)


def sure_of_counts(counts: Int64[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """How often a child has the commonest value of its siblings, averaged over ties.

    The siblings' commonest value is a function of Y and of chance that is independent of the child.  So the mean is at
    most that of :func:`sure`, and at least that of :func:`kept`, which is that of a prediction from one sibling.
    """
    n = counts.double()
    own = n[..., :, None] - 1.0  # siblings with the child's own value
    others = n[..., None, :].masked_fill(torch.eye(n.shape[-1], dtype=torch.bool, device=n.device), -1.0)
    first = (own[..., 0] >= others.amax(-1)).double()
    ties = (others == own).sum(-1)
    return (n * first / (1.0 + ties)).sum(-1) / n.sum(-1)


def kept_at_least(information: Float[np.ndarray, "*shape"], entropy: float) -> Float[np.ndarray, "*shape"]:
    """The bound :math:`e^{I - H}` of :math:`P_{keep}`, from the information or a lower bound of it, nats."""
    return np.exp(np.minimum(information - entropy, 0.0))
