"""What a training draws from: items of a labelled set, some of which are kept out, or a law that can be sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Attribute, InputError, LabelledData, generator
from sigmascope.learn.conditions import Continuous
from sigmascope.learn.settings import NULL
from sigmascope.streams import Use

_LOOKED_AT = 8192  # values whose mean and scale stand for the data's


@runtime_checkable
class Source(Protocol):
    """Independent values with their labels."""

    event: tuple[int, ...]
    attributes: tuple[Attribute, ...]
    continuous: tuple[Continuous, ...]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n values, float32, and for each attribute their labels."""
        ...

    def held_out(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The same of values that are never drawn for training; of a law, simply others."""
        ...


def null_attribute(values: int) -> Attribute:
    """The spare attribute: of ``values`` equally frequent random labels."""
    names = tuple(str(i) for i in range(values))
    return Attribute(NULL, names, torch.full((values,), 1.0 / values, dtype=torch.float64))


class Items:
    """Items of a labelled data set, a share of which is kept out of training.

    Args:
        data: the set.
        holdout: the share kept out, chosen by the seed.
        null: values of the spare attribute; 0 leaves it out.
        seed: of the split and of the spare labels.

    Raises: InputError where nothing is left to train on, or an attribute has the spare one's name.
    """

    def __init__(self, data: LabelledData, *, holdout: float = 0.1, null: int = 8, seed: int = 0) -> None:
        self.data, self.event = data, data.event
        self.continuous: tuple[Continuous, ...] = ()
        n = len(data)
        self.kept_out = np.zeros(n, dtype=bool)
        g = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(Use.HELD_OUT_ITEMS,)))
        self.kept_out[g.permutation(n)[: round(holdout * n)]] = True
        g = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(Use.NULL_LABELS,)))
        self.labels: dict[str, Tensor] = dict(data.labels)
        self.attributes = data.attributes
        if null:
            if NULL in self.labels:
                raise InputError(f"an attribute is called {NULL!r}, as the spare one of random labels: pass --null 0")
            self.labels[NULL] = torch.from_numpy(g.integers(0, null, n))
            self.attributes = (*data.attributes, null_attribute(null))
        self._cumulative = {out: self._weights(out) for out in (False, True)}
        if not float(self._cumulative[False][-1]) > 0:
            raise InputError(f"{data.name}: no item is left to train on: pass a smaller --holdout")

    def _weights(self, out: bool) -> Tensor:
        return torch.cumsum(self.data.weights * torch.from_numpy(self.kept_out == out), 0)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n items of those trained on, by weight."""
        return self._drawn(n, generator, False)

    def held_out(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n items of those kept out, by weight; of all, where none are."""
        return self._drawn(n, generator, bool(self._cumulative[True][-1] > 0))

    def _drawn(self, n: int, generator: torch.Generator, out: bool) -> tuple[Tensor, dict[str, Tensor]]:
        items = self.pick(n, generator, out)
        return self.data.source.take(items), {name: label[items] for name, label in self.labels.items()}

    def pick(self, n: int, generator: torch.Generator, out: bool) -> Tensor:
        """n items by weight, of those kept out of training or of the others."""
        cumulative = self._cumulative[out]
        u = torch.rand(n, generator=generator, dtype=torch.float64) * cumulative[-1]
        # An item of no weight is never found: the first whose sum is above u has some.
        return torch.searchsorted(cumulative, u, right=True).clamp_max(self._last(out))

    def _last(self, out: bool) -> int:
        cumulative = self._cumulative[out]
        return int(torch.searchsorted(cumulative, cumulative[-1]))


class Law:
    """A law that can be sampled without end.

    Args:
        event: shape of a value.
        sampler: gives n values and their labels for a generator; labels of continuous attributes are float, (n, dim).
        attributes: the discrete attributes.
        null: values of the spare attribute; 0 leaves it out.
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
        _, labels = sampler(_LOOKED_AT, generator(0, Use.DATA_SCALE))
        self.continuous = tuple(
            Continuous(k, x.shape[1], tuple(x.double().mean(0).tolist()), tuple(x.double().std(0).tolist()))
            for k, x in labels.items()
            if x.is_floating_point()
        )

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n values."""
        v, labels = self._sampler(n, generator)
        found = dict(labels)
        if self._null:
            found[NULL] = torch.randint(self._null, (n,), generator=generator)
        return v.float(), found

    def held_out(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """n other values."""
        return self.draw(n, generator)


def mean_and_scale(source: Source, seed: int) -> tuple[Tensor, float]:
    """The mean of a source, and the root of the mean squared distance from it per coordinate, of a sample.

    Raises: InputError where all values are the same, or one is not finite.
    """
    v, _ = source.draw(_LOOKED_AT, generator(seed, Use.DATA_SCALE))
    mean = v.double().mean(0)
    scale = float(((v.double() - mean) ** 2).mean().sqrt())
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"the data have standard deviation {scale:g}: there is nothing to learn")
    return mean.float(), scale
