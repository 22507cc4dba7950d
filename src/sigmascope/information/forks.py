r"""Information by forking: the entropy of the labels of independent continuations.

.. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma), \qquad
          A^{(1)}, \ldots, A^{(K)} \sim p(a \mid Y_\sigma = y) \text{ the labels of K continuations from } y

References: Franzese et al. (2025).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, Draws, InputError
from sigmascope.information.entropies import omitted_tail, zhang
from sigmascope.sample.forks import fork, levels_below
from sigmascope.sample.schemes import Scheme, final

Labeller = Callable[[Tensor], Tensor]
"""From clean values, shape (rows, *event), to the index of each one's value, int64."""
LabelAll = Callable[[Tensor], dict[str, Tensor]]
"""From clean values, shape (rows, *event), to the index of the value of each attribute, int64."""
LabelChildren = Callable[[Tensor, Tensor | None], dict[str, Tensor]]
"""The same from clean values and the items of their parents, int64, shape (rows,), or None."""


def count_labels(labels: Int64[Tensor, "forks *batch"], values: int) -> Int64[Tensor, "*batch values"]:
    """Counts of each value among the children."""
    shape = (*labels.shape[1:], values)
    ones = torch.ones_like(labels).movedim(0, -1)
    return torch.zeros(shape, dtype=torch.int64, device=labels.device).scatter_add_(-1, labels.movedim(0, -1), ones)


def draw_labels(
    log_posterior: Float[Tensor, "*batch values"], uniform: Float[Tensor, "*batch forks"]
) -> Int64[Tensor, "forks *batch"]:
    """Labels of continuations of the exact process, drawn at once from p(a | y) by inversion of uniform numbers."""
    ladder = log_posterior.double().exp().cumsum(-1)
    u = (uniform * ladder[..., -1:]).expand(*ladder.shape[:-1], uniform.shape[-1])
    return torch.searchsorted(ladder, u.contiguous(), right=True).clamp_max(ladder.shape[-1] - 1).movedim(-1, 0)


def enough(attribute: Attribute, forks: int) -> bool:
    """Whether there are as many children as the attribute has values, so that they can show its entropy."""
    return forks >= int((attribute.prior > 0).sum())


def forks(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    counts: Int64[Tensor, "levels draws values"],
) -> Curve:
    r"""Information from the labels of the children of draws of Y.

    Args:
        attribute: A.
        sigma: decreasing levels.
        counts: labels of the children of each draw, by value.

    Returns: Curve of kind ``estimate``, ``per_draw`` = :math:`H(A) - \hat H(y_i)`, with Zhang's entropies and the tail
        that they omit, fitted to the counts of all draws (:mod:`~sigmascope.information.entropies`).  The standard
        error over draws includes the chance of the children and of the fit; ``quadrature_error`` is a gauge of the
        remaining bias of the fit.

    Raises: InputError where children are fewer than values, which no correction can mend.
    """
    children = int(counts[0, 0].sum())
    if not enough(attribute, children):
        raise InputError(
            f"{children} forks cannot show the entropy of {attribute.name!r}, which has {len(attribute.values)} "
            "values: use at least as many forks as values"
        )
    tail, bias = omitted_tail(counts, attribute.prior)
    entropy = zhang(counts).cpu().numpy() + tail
    return Curve.of_draws(
        attribute.name, "forks", sigma, attribute.entropy - entropy, attribute.entropy, kind="estimate",
        quadrature_error=bias,
    )  # fmt: skip


def forks_at_once(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    log_posterior: Float[Tensor, "levels draws values"],
    uniform: Float[Tensor, "draws children"],
) -> Curve:
    """:func:`forks` of an exact filter, with labels drawn at once from p(a | y) by uniform numbers of each child."""
    counts = [count_labels(draw_labels(p, uniform), len(attribute.values)) for p in log_posterior]
    return forks(attribute, sigma, torch.stack(counts))


def forks_by_sampling(
    denoiser: Denoiser,
    attribute: Attribute,
    draws: Draws,
    sigma: Float[np.ndarray, " levels"],
    children: int,
    labeller: Labeller,
    *,
    seed: int = 0,
    scheme: Scheme | None = None,
    lowest: float = 0.01,
    steps: int = 40,
    renoise: float | None = None,
) -> Curve:
    """Information from continuations of noisy draws by a sampler, for any denoiser.

    Args:
        denoiser: any.
        attribute: A.
        draws: values and noise; the parents are y = v + sigma n.
        sigma: decreasing levels.
        children: continuations of each draw.
        labeller: any function from clean values, shape (rows, *event), to indices of values, int64, shape (rows,).
        seed: of the streams, one for each child of each draw.
        scheme: a stochastic one; None is :class:`~sigmascope.sample.schemes.StochasticHeun`.
        lowest: last level above 0.
        steps: of each continuation, even in ln sigma.
        renoise: factor by which the level is raised first, for a deterministic scheme; the entropy is then that of the
            U-turn, more than that of p(a | y).

    Returns: as of :func:`forks`.

    Raises: InputError for a deterministic scheme without ``renoise``, too few children, or labels out of range.

    Cost: levels · draws · children · steps denoisings, twice for a second-order scheme.
    """
    counts = []
    for s in sigma.tolist():
        y = draws.v.double() + s * draws.noise.double()
        raised = None if renoise is None else renoise * s
        states = fork(denoiser, y, levels_below(s, lowest, steps), children, seed, scheme, renoise=raised)
        labels = labeller(final(states).y)
        if labels.shape != (len(y) * children,) or int(labels.min()) < 0 or int(labels.max()) >= len(attribute.values):
            raise InputError(
                f"the labeller gave shape {tuple(labels.shape)} between {int(labels.min())} and {int(labels.max())}: "
                f"expected one index of the {len(attribute.values)} values for each of {len(y) * children} rows"
            )
        counts.append(count_labels(labels.reshape(len(y), children).T, len(attribute.values)))
    return forks(attribute, sigma, torch.stack(counts))
