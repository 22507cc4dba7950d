r"""Information by forking: the entropy of the labels of independent continuations.

.. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma), \qquad
          A^{(1)}, \ldots, A^{(K)} \sim p(a \mid Y_\sigma = y) \text{ the labels of K continuations from } y

References: Franzese et al. (2025).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Abstraction, Curve, InputError
from sigmascope.information.entropies import CORRECTIONS, zhang


def count_labels(labels: Int64[Tensor, "forks *batch"], values: int) -> Int64[Tensor, "*batch values"]:
    """How often each value occurs among the children."""
    shape = (*labels.shape[1:], values)
    ones = torch.ones_like(labels).movedim(0, -1)
    return torch.zeros(shape, dtype=torch.int64, device=labels.device).scatter_add_(-1, labels.movedim(0, -1), ones)


def draw_labels(
    log_posterior: Float[Tensor, "*batch values"], uniform: Float[Tensor, "*batch forks"]
) -> Int64[Tensor, "forks *batch"]:
    """Labels of continuations of the exact process, drawn at once from p(a | y), by inversion of uniform numbers."""
    ladder = log_posterior.double().exp().cumsum(-1)
    u = (uniform * ladder[..., -1:]).expand(*ladder.shape[:-1], uniform.shape[-1])
    return torch.searchsorted(ladder, u.contiguous(), right=True).clamp_max(ladder.shape[-1] - 1).movedim(-1, 0)


def enough(abstraction: Abstraction, forks: int) -> bool:
    """Whether so many children can show the entropy of an attribute: at least as many as it has values."""
    return forks >= int((abstraction.prior > 0).sum())


def forks(
    abstraction: Abstraction,
    sigma: Float[np.ndarray, " levels"],
    counts: Int64[Tensor, "levels draws values"],
    correction: str = "zhang",
) -> Curve:
    r"""Information from the labels of the children of draws of Y.

    Args:
        abstraction: A.
        sigma: decreasing levels.
        counts: labels of the children of each draw, by value.
        correction: of the entropy's bias: a name in :data:`~sigmascope.information.entropies.CORRECTIONS`.

    Returns: Curve of kind ``estimate``, ``per_draw`` = :math:`H(A) - \hat H(y_i)`; the standard error is that over
        draws, which holds the chance of the children too. ``quadrature_error`` holds a gauge of the bias that is left:
        what the later half of the children added to Zhang's series.

    Raises: InputError where children are fewer than values: no correction then helps.
    """
    children = int(counts[0, 0].sum())
    if not enough(abstraction, children):
        raise InputError(
            f"{children} forks cannot show the entropy of {abstraction.name!r}, which has {len(abstraction.values)} "
            "values: use at least as many forks as values"
        )
    if correction not in CORRECTIONS:
        raise InputError(f"correction is {correction!r}: expected {', '.join(CORRECTIONS)}")
    per_draw = (abstraction.entropy - CORRECTIONS[correction](counts)).cpu().numpy()
    bias = (zhang(counts) - zhang(counts, (children + 1) // 2)).mean(1).cpu().numpy()
    return Curve.of_draws(
        abstraction.name, "forks", sigma, per_draw, abstraction.entropy, kind="estimate", quadrature_error=bias
    )
