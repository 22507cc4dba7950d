"""The vocabulary of the package: denoisers, posteriors, attributes, labelled data, curves, errors.

The one coordinate is the noise level :math:`\\sigma` of :math:`y = v + \\sigma n`, :math:`n \\sim N(0, I)`; the
signal-to-noise ratio :math:`\\lambda = \\sigma^{-2}` is the time of the filter.  All information is in nats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from sigmascope.attributes import Attribute as Attribute
from sigmascope.attributes import RealAttribute as RealAttribute
from sigmascope.curves import Agreement as Agreement
from sigmascope.curves import Curve as Curve
from sigmascope.errors import InputError as InputError
from sigmascope.streams import generator as generator

__all__ = [
    "UNKNOWN",
    "Agreement",
    "Attribute",
    "Curve",
    "Denoiser",
    "Draws",
    "Gap",
    "HasAllPosteriors",
    "HasMeansByValue",
    "HasPosterior",
    "InputError",
    "ItemSource",
    "LabelledData",
    "RealAttribute",
    "SamplesPosterior",
    "generator",
]

UNKNOWN = -1
"""Label of an attribute whose value is not given for a row."""


@runtime_checkable
class ItemSource(Protocol):
    """Where the items of a data set come from: they are read on demand as float32 tensors of shape ``(rows, *event)``.

    Any object with these methods serves; ``len(source)`` is the number of items.
    """

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one item."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Tensor:
        """Items ``start`` to ``stop`` (exclusive); do not change them in place, they may be the stored ones."""

    def take(self, items: Int64[Tensor, " rows"]) -> Tensor:
        """The items of these indices, in this order; an index may occur several times."""

    @property
    def resident_bytes(self) -> int:
        """Memory that the source itself holds, in bytes."""


@dataclass(frozen=True, eq=False)
class LabelledData:
    r"""A finite, weighted, labelled data set: the law :math:`\sum_k w_k \delta_{v_k}` with labels.

    :func:`~sigmascope.data.from_array` and :func:`~sigmascope.data.load` make it.

    Args:
        name: name in titles.
        source: the items :math:`v_k`, an object with the methods of :class:`ItemSource`.
        attributes: the discrete attributes.
        labels: by the name of each attribute, the index of the value of each item, int64, shape (items,).
        weights: :math:`w_k`, float64, shape (items,), sum to one.
        fingerprint: identifies the items, labels and weights.
        unit: what one unit of sigma is, in words, as those of :mod:`sigmascope.data.sigma_units`: "the full range of a
            pixel, black to white", "scaled latents", and so on.
        notes: how the data were read, where it matters for the numbers, a sentence each.
        span: smallest and largest coordinate of all items; None: not known.
        reals: the real-valued attributes.
        numbers: by the name of each real-valued attribute, the value of each item, float64, shape (items, columns), in
            the unit of the attribute.

    Raises: InputError for no items, weights that are negative or not finite, and weights, labels or numbers that are
        not one per item.
    """

    name: str
    source: ItemSource
    attributes: tuple[Attribute, ...]
    labels: Mapping[str, Int64[Tensor, " items"]]
    weights: Float[Tensor, " items"]
    fingerprint: str
    unit: str = "the unit of the data"
    notes: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    reals: tuple[RealAttribute, ...] = ()
    numbers: Mapping[str, Float[Tensor, "items columns"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.source)
        if n < 1:
            raise InputError(f"{self.name}: it has no items, at least 1 is needed")
        if self.weights.shape != (n,):
            raise InputError(f"{self.name}: {self.weights.shape[0]} weights for {n} items: pass one weight per item")
        if not bool(torch.isfinite(self.weights).all()) or bool((self.weights < 0).any()):
            raise InputError(f"{self.name}: weights must be finite and not negative")
        for a in self.attributes:
            count = self.labels[a.name].shape[0]
            if self.labels[a.name].shape != (n,):
                raise InputError(f"{self.name}: {count} labels of {a.name!r} for {n} items: pass one label per item")
        for real in self.reals:
            shape = tuple(self.numbers[real.name].shape)
            if shape != (n, len(real.columns)):
                raise InputError(
                    f"{self.name}: the numbers of {real.name!r} have shape {shape}: expected ({n}, {len(real.columns)})"
                )

    def __len__(self) -> int:
        return len(self.source)

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one item."""
        return self.source.event

    @property
    def size(self) -> int:
        """Number of coordinates of one item."""
        return int(np.prod(self.event))

    @property
    def words(self) -> str:
        """Number and shape of the items, and the notes."""
        return "; ".join([f"{len(self):,} items of {' × '.join(map(str, self.event))}", *self.notes])

    def attribute(self, name: str) -> Attribute:
        """The attribute of that name.

        Raises: InputError for a name that the data do not have.
        """
        for a in self.attributes:
            if a.name == name:
                return a
        known = ", ".join(a.name for a in self.attributes)
        raise InputError(f"no attribute is called {name!r}: choose among {known}")


class Denoiser(nn.Module, ABC):
    r"""The posterior mean :math:`D(y, \sigma, a) = E[V \mid Y_\sigma = y, A = a]`, for any subset of known attributes.

    A subclass sets ``event`` and ``attributes``, and defines :meth:`forward`.  What else it can compute, it offers by
    the methods of :class:`HasPosterior`, :class:`HasAllPosteriors`, :class:`HasMeansByValue` and
    :class:`SamplesPosterior`; it need not inherit from them.

    Attributes:
        event: shape of one value v.
        attributes: those that the denoiser can be conditioned on; empty for an unconditional one.
    """

    event: tuple[int, ...]
    attributes: tuple[Attribute, ...]

    @abstractmethod
    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Posterior mean of v.

        Args:
            y: noisy values, shape (batch, *event), on any device.
            sigma: one noise level per row, shape (batch,), in the unit of y.
            known: by name, for some of the attributes: the index of the value of each row, int64, shape (batch,), -1
                where unknown; for a continuous attribute the value itself, float, shape (batch, dim).  None: nothing
                is known.

        Returns: the posterior means, shape (batch, *event), on the device of y.
        """


@runtime_checkable
class HasPosterior(Protocol):
    """Models that compute p(a | y) of one attribute: exact laws, filters, classifiers of noisy values."""

    def log_posterior(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], attribute: str
    ) -> Float[Tensor, "batch values"]:
        """Natural logarithm of p(a | Y_sigma = y) for every value a of the attribute of that name."""


@runtime_checkable
class HasAllPosteriors(Protocol):
    """Models that compute the posteriors of all their attributes in one pass."""

    def all_log_posteriors(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"]
    ) -> Mapping[str, Float[Tensor, "batch values"]]:
        """Natural logarithm of p(a | Y_sigma = y) for every value a, by the name of each attribute."""


@runtime_checkable
class HasMeansByValue(Protocol):
    """Denoisers that give the conditional means of all values of an attribute in one pass."""

    def means_by_value(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], attribute: str
    ) -> Float[Tensor, "values batch *event"]:
        """E[V | Y_sigma = y, A = a] for every value a."""


@runtime_checkable
class SamplesPosterior(Protocol):
    """Models that draw clean values given a noisy one in one step, such as the exact filter of a finite set."""

    def sample_posterior(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], n: int, generator: torch.Generator
    ) -> Float[Tensor, "n batch *event"]:
        """n independent draws of V given Y_sigma = y, for each row."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Clean values and noise that all levels share: y = v + sigma n at every sigma.

    Args:
        items: index of the item of each draw, int64, shape (draws,); 0, 1, ... where the law has no items.
        v: the clean values, shape (draws, *event), float32 for items of a data set.
        noise: n, standard normal, of the shape and type of v.
        labels: by the name of each attribute, the index of the value of each draw, int64, shape (draws,); of a
            real-valued one, the condition of a network, float64, shape (draws, dim).
    """

    items: Int64[Tensor, " draws"]
    v: Tensor
    noise: Tensor
    labels: Mapping[str, Int64[Tensor, " draws"] | Float64[Tensor, "draws _"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.items.shape[0]


@dataclass(frozen=True, eq=False)
class Gap:
    r"""Squared distances between posterior means with and without knowledge of an attribute A, at every noise level.

    :math:`D = E[V \mid Y_\sigma = y]` is the posterior mean, :math:`D_a` the one given A = a as well, and
    :math:`\pi(a|y)` the posterior of A.  All entries but the last have the square of the unit of the data.  In high
    dimension the distances are measured along some exact directions and along random ones for the rest, see
    :func:`~sigmascope.exact.finite.sketch.make_sketch`; the random ones leave an error, which the fields in
    ``_directions`` hold.

    Args:
        score: :math:`\sum_a \pi(a|y)\|D_a - D\|^2`, shape (levels, draws).
        mmse: :math:`\|v - D\|^2 - \|v - D_a\|^2` with the a of the draw, shape (levels, draws).
        score_directions: by each random direction, an estimate of the part of ``score`` that is not along exact
            directions, mean over draws, shape (levels, random); ``score`` contains their mean.
        mmse_directions: the same for ``mmse``.
        spread: :math:`E\|E[V|A] - E[V]\|^2`.
        spread_directions: estimates of its part that is not along exact directions, shape (random,).
        frobenius: :math:`\|\Sigma_V\|_F^2 - E\|\Sigma_{V|A}\|_F^2`, of the covariances of V without and with A, in
            the fourth power of the unit of the data.
    """

    score: Float[np.ndarray, "levels draws"]
    mmse: Float[np.ndarray, "levels draws"]
    score_directions: Float[np.ndarray, "levels random"]
    mmse_directions: Float[np.ndarray, "levels random"]
    spread: float
    spread_directions: Float[np.ndarray, " random"]
    frobenius: float
