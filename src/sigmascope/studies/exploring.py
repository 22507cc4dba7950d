"""One image at many noise levels, as the slider of a page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, Draws, LabelledData
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.threads import in_threads, one_thread, workers
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.jobs.levels import all_log_posteriors
from sigmascope.report.explorer import MOST_ATTRIBUTES, Explored
from sigmascope.report.figures import span_of
from sigmascope.streams import Use, generator

LEVELS, CHILDREN = 24, 4
_MEAN_DRAWS = 1024  # an error of a 32nd of the spread: two of 256 steps of a pixel, as a picture shows them
_EXACT_MEAN = 2e8  # numbers in the data up to which the mean over all items takes no more than a second or two
_ROWS, _BLOCKS = 512, 32  # items read at a time, and how often a thread reads before it takes the next share


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

    Cost: of a finite set, one reading of the data, and a posterior mean at :data:`LEVELS` noisy images where the set is
        small; else the denoiser, its posterior and its samples at that many noisy images.
    """
    low, high = span_of(curves)
    sigma, attributes = np.geomspace(high, low, LEVELS), attributes[:MOST_ATTRIBUTES]
    level = torch.from_numpy(sigma)
    v, noise, g = draws.v[0].double(), draws.noise[0].double(), generator(seed, Use.EXPLORED)
    y = v + level.reshape(-1, *[1] * v.ndim) * noise
    if isinstance(denoiser, FiniteDenoiser):
        with one_thread():
            clean = _of_items(denoiser, draws, sigma, g)
    else:
        children, labels = continuations(denoiser, y, level, CHILDREN, g)
        posterior = {name: p.exp() for name, p in all_log_posteriors(denoiser, y, level).items()}
        clean = _Clean(None, children, labels, posterior)
    denoised = denoiser(y, level).cpu() if clean.mean is None else clean.mean
    return Explored(
        sigma=sigma,
        noised=y.float().numpy(),
        denoised=denoised.float().numpy(),
        children=clean.children.float().numpy(),
        labels={a.name: clean.labels[a.name].numpy() for a in attributes if a.name in clean.labels},
        posterior={a.name: clean.posterior[a.name].cpu().numpy() for a in attributes},
        truth={a.name: int(draws.labels[a.name][0]) if a.name in draws.labels else -1 for a in attributes},
        attributes=attributes,
        mean_draws=0 if clean.mean is None else _MEAN_DRAWS,
    )


class _Clean(NamedTuple):
    """What the posterior says of the clean image at each level; the mean is None where the denoiser is to give it."""

    mean: Tensor | None
    children: Tensor
    labels: Mapping[str, Tensor]
    posterior: Mapping[str, Tensor]


def _of_items(
    denoiser: FiniteDenoiser, draws: Draws, sigma: Float[np.ndarray, " levels"], g: torch.Generator
) -> _Clean:  # fmt: skip
    """Posteriors, continuations and means of the first draw at all levels, from one reading of the data.

    Of a large set the mean is that of :data:`_MEAN_DRAWS` items from a systematic sample of the posterior.
    """
    data, log_weight = denoiser.data, denoiser.log_weight.cpu()
    distance2, along = _distances(denoiser, draws)
    sampled = len(data) * data.size > _EXACT_MEAN
    means, children = [], []
    posterior: dict[str, list[Tensor]] = {a.name: [] for a in data.attributes}
    for s in sigma.tolist():
        p = torch.softmax(log_weight + along / s - distance2 / (2 * s * s), 0)
        below = p.cumsum(0)
        even = (torch.arange(_MEAN_DRAWS) + torch.rand(1, generator=g, dtype=torch.float64)) / _MEAN_DRAWS
        picked = torch.rand(CHILDREN, generator=g, dtype=torch.float64)
        children.append(_at(below, picked))
        if sampled:
            means.append(data.source.take(_at(below, even)).double().mean(0))
        for a in data.attributes:
            posterior[a.name].append(torch.bincount(data.labels[a.name], p, minlength=len(a.values)))
    return _Clean(
        torch.stack(means) if sampled else None,
        *_taken(data, torch.stack(children)),
        {name: torch.stack(each) for name, each in posterior.items()},
    )


def _taken(data: LabelledData, items: Int64[Tensor, "batch n"]) -> tuple[Tensor, dict[str, Tensor]]:
    """Items of a data set, and their labels."""
    values = data.source.take(items.flatten()).reshape(*items.shape, *data.event)
    return values, {name: label[items] for name, label in data.labels.items()}


def _at(below: Tensor, share: Tensor) -> Tensor:
    """The items at these shares of a cumulative distribution."""
    return torch.searchsorted(below, share * below[-1]).clamp_max(len(below) - 1)


def _distances(denoiser: FiniteDenoiser, draws: Draws) -> tuple[Tensor, Tensor]:
    r""":math:`\|v_k - v\|^2` and :math:`\langle n, v_k - v\rangle` of every item k for the first draw.

    Differences are taken before squares: float32 then keeps the digits of the items near v, which decide.
    """
    source, count = denoiser.data.source, len(denoiser.data)
    v, n = draws.v[0].flatten().float(), draws.noise[0].flatten().float()
    distance2, along = torch.empty(count, dtype=torch.float64), torch.empty(count, dtype=torch.float64)

    def fill(start: int, stop: int) -> None:
        for first in range(start, stop, _ROWS):
            rows = slice(first, min(first + _ROWS, stop))
            apart = source.read(rows.start, rows.stop).reshape(-1, len(v)) - v
            distance2[rows] = torch.linalg.vector_norm(apart, dim=1).double() ** 2
            along[rows] = (apart @ n).double()

    size = _ROWS * _BLOCKS
    in_threads([partial(fill, start, min(start + size, count)) for start in range(0, count, size)], workers(v.device))
    return distance2, along


def continuations(
    denoiser: Denoiser, y: Float[Tensor, "batch *event"], level: Float[Tensor, " batch"], n: int, g: torch.Generator
) -> tuple[Float[Tensor, "batch n *event"], dict[str, Int64[Tensor, "batch n"]]]:
    """Clean images drawn from the posterior of each noisy one, with their labels; none where it cannot be sampled."""
    if isinstance(denoiser, FiniteDenoiser):
        return _taken(denoiser.data, denoiser.sample_items(y, level, n, g).T.cpu())
    if isinstance(denoiser, HierarchyDenoiser):
        symbols = [s.cpu() for s in denoiser.sample_symbols(y, level, n, g)]
        labels = {a.name: s[:, :, 0].T for a, s in zip(denoiser.attributes, symbols, strict=True)}
        return denoiser.vectors.cpu()[symbols[-1]].transpose(0, 1), labels
    return torch.zeros(len(y), 0, *y.shape[1:]), {}
