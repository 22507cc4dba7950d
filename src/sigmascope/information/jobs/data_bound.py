r"""Lower bounds that the labelled data give without a network.

The items are split in two.  Draws of one half are classified by kernel filters (:mod:`sigmascope.exact.finite.heldout`)
of items of the other half.  No filter has the item of its draw, so

.. math:: I(A; Y_\sigma) \ge E\left[\ln q(a \mid y) - \ln p(a)\right]

holds whatever the network.  Items, levels and draws are so many that the exponentials stay below a fixed number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import Attribute, Curve, Draws, LabelledData, generator
from sigmascope.data.arrays import ArraySource
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.heldout import HeldOutPass, kernel_widths
from sigmascope.information.bounds import grouped, heldout_bound
from sigmascope.information.jobs.levels import InTurn
from sigmascope.streams import Use

_SPLIT, _DRAWN, _NOISE = range(3)  # uses of random streams
_FEWEST_ITEMS = 48
_DRAWS = 512  # at most, and a multiple of the columns of the curves
_MOST_LEVELS, _FEWEST_LEVELS = 40, 4
_COST = 1e9  # exponentials, and sums over classes as if each were a twentieth of one
_SUMS = 1e7  # numbers that a pass holds
_VALUES = 2e7  # coordinates of the items of a filter, and of the draws
_ITEMS = 16384  # of a filter


@dataclass(frozen=True)
class BoundSize:
    """The size of the job of a bound."""

    draws: int  # of both halves
    levels: tuple[int, ...]  # indices of the study's levels at which filters read
    items: int  # of the filter of each half, at most
    classifiers: int  # filters that read each draw

    @property
    def exponentials(self) -> float:
        """Exponentials of all filters."""
        return float(self.draws) * self.items * self.classifiers


def bound_size(data: LabelledData, columns: int, levels: int) -> BoundSize | None:
    """The size of the job for a study's numbers of columns and levels; None for too few items or too many classes."""
    usable = int((data.weights > 0).sum())
    if usable < _FEWEST_ITEMS:
        return None
    draws = columns * max(min(-(-_DRAWS // columns), int(_VALUES / data.size) // columns), 1)
    values = sum(len(a.values) for a in data.attributes)
    for count in range(min(levels, _MOST_LEVELS), 0, -1):
        at = np.unique(np.linspace(0, levels - 1, count).round().astype(int))
        classifiers = len(kernel_widths(np.ones(len(at))))
        if classifiers * values * draws <= _SUMS:
            break
    else:
        return None
    if count < min(levels, _FEWEST_LEVELS):
        return None
    affordable = _COST / (draws * classifiers * (1.0 + values / 20.0))
    items = int(min(usable // 2, affordable, _VALUES / data.size, _ITEMS))
    return BoundSize(draws, tuple(at.tolist()), items, classifiers) if items >= _FEWEST_ITEMS // 2 else None


class _Alone:
    """A pass that one rank does by itself."""

    def __init__(self, whole: HeldOutPass) -> None:
        self._whole, self.total = whole, whole.total

    @property
    def position(self) -> int:
        """Steps done."""
        return self._whole.position

    @property
    def done(self) -> bool:
        return self._whole.done

    def step(self) -> None:
        """Add the next tile of items."""
        with distributed.alone():
            self._whole.step()

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which a later run goes on."""
        return self._whole.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study."""
        self._whole.restore(state)


class DataBound(InTurn):
    """The passes over both halves of labelled data, one after the other, of the size of :func:`bound_size`.

    Each rank does whole passes, so the numbers are those of a single process.
    """

    def __init__(self, data: LabelledData, size: BoundSize, sigma: Float[np.ndarray, " levels"], seed: int) -> None:
        self._data, self._size, self._sigma = data, size, sigma
        weights = data.weights
        order = torch.nonzero(weights)[:, 0]
        order = order[torch.randperm(len(order), generator=generator(seed, Use.DATA_BOUND, _SPLIT))]
        second = torch.zeros(len(weights), dtype=torch.bool)
        second[order[len(order) // 2 :]] = True
        g = generator(seed, Use.DATA_BOUND, _DRAWN)
        cumulative = torch.cumsum(weights, 0)
        u = torch.rand(size.draws, generator=g, dtype=torch.float64) * cumulative[-1]
        drawn = torch.searchsorted(cumulative, u, right=True).clamp_max(int(order.max()))
        streams = [generator(seed, Use.DATA_BOUND, _NOISE, i) for i in range(size.draws)]
        noise = torch.stack([torch.randn(data.event, generator=g) for g in streams])
        at = sigma[list(size.levels)]
        self._order, self._others = list[Tensor](), list[Tensor]()
        for half in (False, True):
            rows = torch.nonzero(second[drawn] == half)[:, 0]
            if len(rows):
                self._order.append(rows)
                self._others.append(order[second[order] != half][: size.items])
        self._drawn, self._own = drawn, distributed.dealt([float(len(rows)) for rows in self._order])
        self._probabilities: dict[str, np.ndarray] = {}
        with distributed.alone():
            self._passes = {
                i: _heldout_pass(data, drawn[rows], noise[rows], others, at)
                for i, (rows, others) in enumerate(zip(self._order, self._others, strict=True))
                if i in self._own
            }
        super().__init__({f"half{i}": _Alone(p) for i, p in self._passes.items()})

    def _probability(self, name: str) -> Float[np.ndarray, "kernels draws"]:
        """q(a | y) of the own label of each draw; every rank must call it."""
        if not self._probabilities:
            with distributed.alone():
                names = [a.name for a in self._data.attributes]
                own = {i: {n: p.own_probability(n) for n in names} for i, p in self._passes.items()}
            by_half = {i: half for each in distributed.gathered(own) for i, half in each.items()}
            halves = [by_half[i] for i in range(len(self._order))]
            order = np.argsort(torch.cat(self._order).numpy())
            self._probabilities = {n: np.concatenate([h[n] for h in halves], 1)[:, order] for n in names}
        return self._probabilities[name]

    def curve(self, a: Attribute, columns: int) -> Curve:
        """The bound of an attribute, named ``heldout``, its draws averaged to so many columns."""
        probability = self._probability(a.name)
        level = [self._size.levels[j] for j, _ in kernel_widths(self._sigma[list(self._size.levels)])]
        labels = self._data.labels[a.name][self._drawn].numpy()
        return grouped(heldout_bound(a, self._sigma, level, probability, labels), columns)


def data_bound_job(data: object, sigma: Float[np.ndarray, " levels"], columns: int, seed: int) -> DataBound | None:
    """The job of the bound for a study whose curves have so many columns; None where the data give none."""
    if not isinstance(data, LabelledData) or not data.attributes:
        return None
    size = bound_size(data, columns, len(sigma))
    if size is None:
        return None
    return DataBound(data, size, sigma, seed)


def _heldout_pass(
    data: LabelledData,
    drawn: Int64[Tensor, " draws"],
    noise: Tensor,
    others: Int64[Tensor, " items"],
    sigma: Float[np.ndarray, " levels"],
) -> HeldOutPass:
    """The pass over a data set of the drawn items, which are held out, and the other items."""
    items, place = torch.unique(drawn, return_inverse=True)
    chosen = torch.cat([items, others])
    labels = {a.name: data.labels[a.name][chosen] for a in data.attributes}
    weights = data.weights[chosen]
    part = replace(
        data,
        source=ArraySource(data.source.take(chosen).numpy()),
        attributes=tuple(_with_shares(a, labels[a.name][len(items) :]) for a in data.attributes),
        labels=labels,
        weights=weights / weights.sum(),
        reals=(),
        numbers={},
    )
    return HeldOutPass(FiniteDenoiser(part), Draws(place, part.source.take(place), noise), sigma)


def _with_shares(a: Attribute, labels: Int64[Tensor, " items"]) -> Attribute:
    """The attribute with the shares of its values among these items; a share may be zero."""
    count = torch.bincount(labels, minlength=len(a.values)).double()
    return replace(a, prior=count / count.sum())
