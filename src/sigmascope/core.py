"""The vocabulary of the package: denoisers, posteriors, attributes, labelled data, curves, errors.

The one coordinate is the noise level :math:`\\sigma` of :math:`y = v + \\sigma n`, :math:`n \\sim N(0, I)`; the
signal-to-noise ratio :math:`\\lambda = \\sigma^{-2}` is the time of the filter.  All information is in nats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from sigmascope.attributes import Attribute as Attribute
from sigmascope.attributes import RealAttribute as RealAttribute
from sigmascope.errors import InputError as InputError
from sigmascope.rare import beyond_draws, lower_allowance
from sigmascope.streams import generator as generator

UNKNOWN = -1
"""Label of an attribute whose value is not given for a row."""


@runtime_checkable
class ItemSource(Protocol):
    """Items of a data set, read on demand as float32 rows of shape ``(rows, *event)``."""

    @property
    def event(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Tensor:
        """Items ``start`` to ``stop`` (exclusive); do not change them in place, they may be the stored ones."""

    def take(self, items: Int64[Tensor, " rows"]) -> Tensor:
        """The items of these indices, in this order."""

    @property
    def resident_bytes(self) -> int:
        """Memory that the source itself holds."""


@dataclass(frozen=True, eq=False)
class LabelledData:
    r"""A finite, weighted, labelled data set: the law :math:`\sum_k w_k \delta_{v_k}` with labels.

    Args:
        name: name in titles.
        source: the items.
        attributes: the attributes.
        labels: for each attribute, the index of the value of each item, int64, shape (items,).
        weights: :math:`w_k`, float64, shape (items,), sum to one.
        fingerprint: identifies the items, labels and weights.
        unit: what one unit of sigma is, in words.
        notes: how the data were read, where it matters for the numbers, a sentence each.
        span: smallest and largest coordinate of all items; None: not known.
        reals: the real-valued attributes.
        numbers: the value of each item of every real-valued attribute, float64, shape (items, columns), in its unit.
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

    Attributes:
        event: shape of one value v.
        attributes: those that the denoiser can be conditioned on.
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
            y: noisy values, on any device; the result is there too.
            sigma: one noise level per row.
            known: for some attributes, the index of the value of each row, int64, -1 where unknown; for a continuous
                attribute its value, float, shape (batch, dim).
        """


@runtime_checkable
class HasPosterior(Protocol):
    """Exact models and filters, which compute p(a | y)."""

    def log_posterior(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], attribute: str
    ) -> Float[Tensor, "batch values"]:
        """Natural logarithm of p(a | Y_sigma = y)."""


@runtime_checkable
class HasAllPosteriors(Protocol):
    """Exact models that give the posteriors of all their attributes at once."""

    def all_log_posteriors(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"]
    ) -> Mapping[str, Float[Tensor, "batch values"]]:
        """Natural logarithm of p(a | Y_sigma = y), for every attribute."""


@runtime_checkable
class HasMeansByValue(Protocol):
    """Denoisers that give the conditional means of all values of an attribute in one pass."""

    def means_by_value(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], attribute: str
    ) -> Float[Tensor, "values batch *event"]:
        """E[V | Y_sigma = y, A = a] for every value a."""


@runtime_checkable
class SamplesPosterior(Protocol):
    """Exact models that draw clean values given a noisy one, in one step."""

    def sample_posterior(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], n: int, generator: torch.Generator
    ) -> Float[Tensor, "n batch *event"]:
        """n independent draws of V given Y_sigma = y, for each row."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Items and noise shared by all levels: y = v + sigma n at every sigma.

    Args:
        items: index of the item of each draw, shape (draws,); 0, 1, ... where the law has no items.
        v: the item, float32, shape (draws, *event).
        noise: standard normal, float32, shape (draws, *event).
        labels: for each attribute, the index of the value of each draw, shape (draws,); of a real-valued one, the
            condition of a network, float64, shape (draws, dim).
    """

    items: Int64[Tensor, " draws"]
    v: Tensor
    noise: Tensor
    labels: Mapping[str, Int64[Tensor, " draws"] | Float64[Tensor, "draws _"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.items.shape[0]


@dataclass(frozen=True, eq=False)
class Gap:
    r"""Squared gaps between posterior means with and without knowledge of an attribute, from projections.

    Args:
        score: :math:`\sum_a \pi(a|y)\|D_a - D\|^2`, shape (levels, draws).
        mmse: :math:`\|v - D\|^2 - \|v - D_a\|^2` with the drawn a, shape (levels, draws).
        score_directions: for each random direction, an estimate of the part of ``score`` that is not along exact
            directions, mean over draws, shape (levels, random); ``score`` contains their mean.
        mmse_directions: the same for ``mmse``.
        spread: :math:`E\|E[V|A] - E[V]\|^2`.
        spread_directions: its part along random directions, shape (random,).
        frobenius: :math:`\|\Sigma_V\|_F^2 - E\|\Sigma_{V|A}\|_F^2`.
    """

    score: Float[np.ndarray, "levels draws"]
    mmse: Float[np.ndarray, "levels draws"]
    score_directions: Float[np.ndarray, "levels random"]
    mmse_directions: Float[np.ndarray, "levels random"]
    spread: float
    spread_directions: Float[np.ndarray, " random"]
    frobenius: float


@dataclass(frozen=True)
class Agreement:
    """The difference of two estimators of one curve, on the same draws.

    Args:
        attribute: name of A.
        estimator: the one compared with ``posterior``.
        sigma: decreasing levels.
        difference: estimator minus posterior, nats, shape (levels,).
        stderr: standard error of the paired difference, with that of random directions and of the quadrature.
        ceiling: H(A).
    """

    attribute: str
    estimator: str
    sigma: Float[np.ndarray, " levels"]
    difference: Float[np.ndarray, " levels"]
    stderr: Float[np.ndarray, " levels"]
    ceiling: float

    @property
    def largest(self) -> tuple[float, float, float]:
        """The largest difference and its standard error as shares of H(A), and its level."""
        j = int(np.abs(self.difference).argmax())
        return self.difference[j] / self.ceiling, self.stderr[j] / self.ceiling, float(self.sigma[j])

    @property
    def errors_apart(self) -> float:
        """The largest difference in standard errors; differences and errors below 1e-6 H(A) do not count."""
        return float(np.abs(self._errors).max(initial=0.0))

    @property
    def errors_above(self) -> float:
        """The same, only where the estimator lies above; a lower bound must not."""
        return float(self._errors.max(initial=0.0))

    @property
    def _errors(self) -> np.ndarray:
        counted = np.maximum(np.abs(self.difference), self.stderr) > 1e-6 * self.ceiling
        return np.asarray(self.difference[counted] / np.maximum(self.stderr[counted], 1e-300))


@dataclass(frozen=True, eq=False)
class Curve:
    r"""I(A; Y_sigma) over noise levels, in nats, float64.

    Args:
        attribute: name of A.
        estimator: name of the estimator.
        sigma: decreasing noise levels, shape (levels,).
        value: the estimates, shape (levels,).
        stderr: their standard errors, shape (levels,).
        ceiling: H(A).
        per_draw: contribution of each draw, shape (levels, draws); the mean over draws is ``value``.
        quadrature_error: estimated error of an integral over levels that is not in ``stderr``, shape (levels,); None
            where there is no integral.
        kind: ``exact`` (the only error is that of the draws), ``estimate`` (with other errors), or ``lower bound``.
        draws_per_column: number of draws that each column of ``per_draw`` is the mean of.
    """

    attribute: str
    estimator: str
    sigma: Float[np.ndarray, " levels"]
    value: Float[np.ndarray, " levels"]
    stderr: Float[np.ndarray, " levels"]
    ceiling: float
    per_draw: Float[np.ndarray, "levels draws"] = field(repr=False)
    kind: str = "exact"
    quadrature_error: Float[np.ndarray, " levels"] | None = field(default=None, repr=False)
    draws_per_column: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "estimate", "lower bound"):
            raise ValueError(f"kind is {self.kind!r}: expected 'exact', 'estimate' or 'lower bound'")
        if np.any(np.diff(self.sigma) >= 0):
            raise ValueError("sigma must decrease strictly")

    @classmethod
    def of_draws(
        cls,
        attribute: str,
        estimator: str,
        sigma: Float[np.ndarray, " levels"],
        per_draw: Float[np.ndarray, "levels draws"],
        ceiling: float,
        *,
        kind: str = "exact",
        common_variance: Float[np.ndarray, " levels"] | float = 0.0,
        quadrature_error: Float[np.ndarray, " levels"] | None = None,
        draws_per_column: int = 1,
    ) -> Curve:
        """The mean over independent draws, with its standard error.

        Args:
            common_variance: variance of an error that all draws share, so that their spread does not show it.
            quadrature_error: as of the class; a lower bound adds :func:`~sigmascope.rare.lower_allowance` to it.
        """
        if kind == "lower bound":
            allowance = lower_allowance(per_draw, ceiling)
            quadrature_error = np.hypot(allowance, 0.0 if quadrature_error is None else quadrature_error)
        stderr = np.sqrt(per_draw.var(1, ddof=1) / per_draw.shape[1] + common_variance)
        levels, value, error = np.asarray(sigma, dtype=np.float64), per_draw.mean(1), quadrature_error
        return cls(attribute, estimator, levels, value, stderr, ceiling, per_draw, kind, error, draws_per_column)

    @property
    def common_variance(self) -> Float[np.ndarray, " levels"]:
        """Part of the squared standard error that does not come from the spread of the draws."""
        drawn = self.per_draw.var(1, ddof=1) / self.per_draw.shape[1]
        return np.asarray(np.maximum(self.stderr**2 - drawn, 0.0))

    @property
    def beyond_draws(self) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
        """Errors beyond the spread of the draws: shared by all draws, and the allowance for rare ones."""
        return self._beyond(even=False)

    def _beyond(self, even: bool) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
        shared = self.common_variance, self.quadrature_error
        return beyond_draws(self.per_draw, *shared, self.kind, self.draws_per_column, even=even)

    @property
    def error(self) -> Float[np.ndarray, " levels"]:
        """Half the width of the symmetric 95 % interval, divided by 1.96: all errors together."""
        shared, tail = self._beyond(even=True)
        return np.asarray(np.sqrt(np.maximum(self.stderr**2 - self.common_variance, 0.0) + shared**2 + tail**2))

    def at_levels(self, levels: Int64[np.ndarray, " kept"]) -> Curve:
        """The curve at some of its levels."""
        quadrature = None if self.quadrature_error is None else self.quadrature_error[levels]
        kept = {name: getattr(self, name)[levels] for name in ("sigma", "value", "stderr", "per_draw")}
        return replace(self, quadrature_error=quadrature, **kept)

    def same_draws(self, other: Curve) -> bool:
        """Whether both are over the same levels and number of draws."""
        return self.per_draw.shape == other.per_draw.shape and np.array_equal(self.sigma, other.sigma)
