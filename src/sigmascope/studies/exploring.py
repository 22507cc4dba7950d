"""One image at many noise levels, as the slider of a page shows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, Draws
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.jobs.levels import all_log_posteriors
from sigmascope.report.explorer import MOST_ATTRIBUTES, Explored
from sigmascope.report.figures import span_of
from sigmascope.streams import Use, generator

LEVELS, CHILDREN = 24, 4


def explore(
    denoiser: Denoiser, attributes: Sequence[Attribute], draws: Draws, curves: Sequence[Curve], seed: int
) -> Explored:
    """The first draw at levels that cover the range in which the curves move.

    Args:
        denoiser: with a posterior of each attribute.
        attributes: in order; the first :data:`~sigmascope.report.explorer.MOST_ATTRIBUTES` are shown.
        draws: of the study.
        curves: of the study.
        seed: of the study.

    Cost: the denoiser, its posterior and its samples, each at :data:`LEVELS` noisy images.
    """
    low, high = span_of(curves)
    sigma, attributes = np.geomspace(high, low, LEVELS), attributes[:MOST_ATTRIBUTES]
    level = torch.from_numpy(sigma)
    v, noise = draws.v[0].double(), draws.noise[0].double()
    y = v + level.reshape(-1, *[1] * v.ndim) * noise
    children, labels = continuations(denoiser, y, level, CHILDREN, generator(seed, Use.EXPLORED))
    posterior = all_log_posteriors(denoiser, y, level)
    return Explored(
        sigma=sigma,
        noised=y.float().numpy(),
        denoised=denoiser(y, level).float().cpu().numpy(),
        children=children.float().numpy(),
        labels={a.name: labels[a.name].numpy() for a in attributes if a.name in labels},
        posterior={a.name: posterior[a.name].exp().cpu().numpy() for a in attributes},
        truth={a.name: int(draws.labels[a.name][0]) if a.name in draws.labels else -1 for a in attributes},
        attributes=attributes,
    )


def continuations(
    denoiser: Denoiser, y: Float[Tensor, "batch *event"], level: Float[Tensor, " batch"], n: int, g: torch.Generator
) -> tuple[Float[Tensor, "batch n *event"], dict[str, Int64[Tensor, "batch n"]]]:
    """Clean images drawn from the posterior of each noisy one, with their labels; none where it cannot be sampled."""
    if isinstance(denoiser, FiniteDenoiser):
        items = denoiser.sample_items(y, level, n, g).T.cpu()
        children = denoiser.data.source.take(items.flatten()).reshape(*items.shape, *denoiser.event)
        return children, {name: label[items] for name, label in denoiser.data.labels.items()}
    if isinstance(denoiser, HierarchyDenoiser):
        symbols = [s.cpu() for s in denoiser.sample_symbols(y, level, n, g)]
        labels = {a.name: s[:, :, 0].T for a, s in zip(denoiser.attributes, symbols, strict=True)}
        return denoiser.vectors.cpu()[symbols[-1]].transpose(0, 1), labels
    return torch.zeros(len(y), 0, *y.shape[1:]), {}
