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
    """The same as :func:`kept` from the labels of K children, without bias: the share of pairs that agree.

    Args:
        counts: how often each value occurs among the children, at least 2 in all.
    """
    n = counts.double()
    children = n.sum(-1)
    return (n * (n - 1.0)).sum(-1) / (children * (children - 1.0))


def kept_of_parents(
    counts: Int64[Tensor, "*batch draws values"], labels: Int64[Tensor, " draws"]
) -> Float[Tensor, "*batch draws"]:
    """The share of the children that have the value of the image that was noised.

    Its mean is :math:`P(A' = A)` whatever the continuations are; where they are draws of p(v | y), that of
    :func:`kept`.  Of a model that is not the law of the images it is what becomes of them, where
    :func:`kept_of_counts` is how far the model's own continuations agree.

    Args:
        counts: how often each value occurs among the children of each draw.
        labels: the value of each draw.
    """
    own = labels.expand(counts.shape[:-1])[..., None]
    return counts.gather(-1, own)[..., 0].double() / counts.sum(-1)


def sure_of_counts(counts: Int64[Tensor, "*batch values"]) -> Float[Tensor, "*batch"]:
    """How often a child has the commonest value of its K - 1 siblings, those that are equally common by turns.

    The guess is a function of Y and of chance that is independent of the child, so the mean is at most that of
    :func:`sure`, and no lower than that of :func:`kept`: a guess from one sibling is right so often.

    Args:
        counts: how often each value occurs among the children, at least 2 in all.
    """
    n = counts.double()
    least, mine = n[..., None, :], n[..., :, None] - 1.0  # of the others, and of a child's own value among its siblings
    others = least.masked_fill(torch.eye(n.shape[-1], dtype=torch.bool, device=n.device), -1.0)
    first = (mine[..., 0] >= others.amax(-1)).double()
    ties = (others == mine).sum(-1)
    return (n * first / (1.0 + ties)).sum(-1) / n.sum(-1)


def kept_at_least(information: Float[np.ndarray, "*shape"], entropy: float) -> Float[np.ndarray, "*shape"]:
    """The bound :math:`e^{I - H}` of :math:`P_{keep}`, from the information or a lower bound of it, nats."""
    return np.exp(np.minimum(information - entropy, 0.0))
