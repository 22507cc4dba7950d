"""Sources of training values: the items of a labelled data set, some of them kept out, or a law that is sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Attribute, InputError, LabelledData, generator
from sigmascope.learn.conditions import Continuous
from sigmascope.learn.reals import condition_of, continuous_of
from sigmascope.learn.settings import NULL, NULL_NUMBER
from sigmascope.streams import Use

_SAMPLED = 8192  # values from which mean and scale are estimated


@runtime_checkable
class Source(Protocol):
    """Where a training takes its values from: independent values with their labels.

    Attributes:
        event: shape of a value.
        attributes: the discrete attributes.
        continuous: the attributes with vectors as values.
    """

    event: tuple[int, ...]
    attributes: tuple[Attribute, ...]
    continuous: tuple[Continuous, ...]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Independent values for training.

        Args:
            n: how many.
            generator: of the values.

        Returns: values, float32, shape (n, *event), and by attribute their labels: indices of values, int64, shape
            (n,), or float, shape (n, dim), of a continuous one.
        """
        ...

    def held_out(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The same, of values that are never drawn for training, for the losses that a training reports."""
        ...


def null_attribute(values: int) -> Attribute:
    """The attribute of random labels, with ``values`` equally frequent values."""
    names = tuple(str(i) for i in range(values))
    return Attribute(NULL, names, torch.full((values,), 1.0 / values, dtype=torch.float64))


class Items:
    """Items of a labelled data set, a share of which is kept out of training.

    The label of a real-valued attribute is the condition of :mod:`sigmascope.learn.reals`, with fresh noise of the
    resolution in every draw.

    Args:
        data: the data set.
        holdout: share of the items that is kept out, chosen by the seed.
        null: number of values of an attribute of random labels, a control; 0 leaves it out.  With real-valued
            attributes, the values of the first of them in random order are one more attribute.
        seed: of the split, of the random labels and of this order.

    Attributes:
        reals: the real-valued attributes, and that in random order.

    Raises: InputError where no item is left to train on, or an attribute has the name of the random labels.
    """

    def __init__(self, data: LabelledData, *, holdout: float = 0.1, null: int = 8, seed: int = 0) -> None:
        self.data, self.event = data, data.event
        n = len(data)
        self.kept_out = np.zeros(n, dtype=bool)
        g = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(Use.HELD_OUT_ITEMS,)))
        self.kept_out[g.permutation(n)[: round(holdout * n)]] = True
        g = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(Use.NULL_LABELS,)))
        self.labels: dict[str, Tensor] = dict(data.labels)
        self.attributes, self.reals = data.attributes, data.reals
        self._numbers: dict[str, Tensor] = dict(data.numbers)
        if null:
            reserved = {NULL, NULL_NUMBER} if data.reals else {NULL}
            if taken := reserved & {*self.labels, *self._numbers}:
                raise InputError(f"an attribute is called {min(taken)!r}, like that of random labels: pass --null 0")
            if data.attributes or not data.reals:
                self.labels[NULL] = torch.from_numpy(g.integers(0, null, n))
                self.attributes = (*data.attributes, null_attribute(null))
            if data.reals:
                self._numbers[NULL_NUMBER] = data.numbers[data.reals[0].name][torch.from_numpy(g.permutation(n))]
                self.reals = (*data.reals, replace(data.reals[0], name=NULL_NUMBER))
        weights = data.weights * torch.from_numpy(~self.kept_out)
        self.continuous = tuple(continuous_of(a, self._numbers[a.name], weights) for a in self.reals)
        self._cumulative = {out: self._weights(out) for out in (False, True)}
        if not float(self._cumulative[False][-1]) > 0:
            raise InputError(f"{data.name}: no item is left to train on: pass a smaller --holdout")

    def _weights(self, out: bool) -> Tensor:
        return torch.cumsum(self.data.weights * torch.from_numpy(self.kept_out == out), 0)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n of the training items, by weight."""
        return self._drawn(n, generator, False)

    def held_out(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n of the items kept out, by weight; of the training items, where none are kept out."""
        return self._drawn(n, generator, bool(self._cumulative[True][-1] > 0))

    def _drawn(self, n: int, generator: torch.Generator, out: bool) -> tuple[Tensor, dict[str, Tensor]]:
        items = self.pick(n, generator, out)
        return self.data.source.take(items), self.labels_of(items, [generator])

    def labels_of(self, items: Tensor, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """The labels of items by attribute.

        Args:
            items: indices of items.
            generators: of the noise of the resolution: one for all items, or one for each.
        """
        labels = {name: label[items] for name, label in self.labels.items()}
        columns = sum(len(a.columns) for a in self.reals)
        if not columns:
            return labels
        rows = len(items) // len(generators)
        noise = torch.cat([torch.randn(rows, columns, generator=g, dtype=torch.float64) for g in generators])
        for a, part in zip(self.reals, torch.split(noise, [len(a.columns) for a in self.reals], 1), strict=True):
            labels[a.name] = condition_of(a, self._numbers[a.name][items] + a.resolution * part)
        return labels

    def pick(self, n: int, generator: torch.Generator, out: bool) -> Tensor:
        """Indices of n items by weight, of those kept out of training or of the others."""
        cumulative = self._cumulative[out]
        u = torch.rand(n, generator=generator, dtype=torch.float64) * cumulative[-1]
        last = int(torch.searchsorted(cumulative, cumulative[-1]))
        # An item of no weight is never chosen: the first whose cumulative weight is above u has some.
        return torch.searchsorted(cumulative, u, right=True).clamp_max(last)


class Law:
    """A source whose values are drawn from a law, without limit: none is drawn twice, so none is kept out.

    Args:
        event: shape of a value.
        sampler: a function f(n, generator) that returns n independent values, shape (n, *event), and a mapping from the
            names of the attributes to their labels: indices of values, int64, shape (n,), of a discrete attribute;
            float, shape (n, dim), of a continuous one.  Mean and scale of the latter are estimated from 8,192 draws.
        attributes: the discrete attributes.
        null: number of values of an attribute of random labels, a control; 0 leaves it out.
    """

    def __init__(
        self,
        event: tuple[int, ...],
        sampler: Callable[[int, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]],
        attributes: tuple[Attribute, ...] = (),
        *,
        null: int = 0,
    ) -> None:
        self.event, self._sampler, self._null = tuple(event), sampler, null
        self.attributes = (*attributes, null_attribute(null)) if null else attributes
        _, labels = sampler(_SAMPLED, generator(0, Use.DATA_SCALE))
        self.continuous = tuple(
            Continuous(k, x.shape[1], tuple(x.double().mean(0).tolist()), tuple(x.double().std(0).tolist()))
            for k, x in labels.items()
            if x.is_floating_point()
        )

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n values."""
        v, sampled = self._sampler(n, generator)
        labels = dict(sampled)
        if self._null:
            labels[NULL] = torch.randint(self._null, (n,), generator=generator)
        return v.float(), labels

    held_out = draw


def mean_and_scale(source: Source, seed: int) -> tuple[Tensor, float]:
    """The mean of a sample of a source, and the root of the mean squared distance from it, per coordinate."""
    v, _ = source.draw(_SAMPLED, generator(seed, Use.DATA_SCALE))
    mean = v.double().mean(0)
    scale = float(((v.double() - mean) ** 2).mean().sqrt())
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"the data have standard deviation {scale:g}: there is nothing to learn")
    return mean.float(), scale
