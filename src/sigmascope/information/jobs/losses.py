"""The denoising loss of a network by level, beside those of the best linear denoiser and of the mean image."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

import sigmascope.distributed as distributed
from sigmascope.core import Attribute, Denoiser, Draws, RealAttribute, generator
from sigmascope.information.jobs.units import Units
from sigmascope.information.linear import LinearDenoiser
from sigmascope.information.parts import Arrays, Parts
from sigmascope.information.together import answers
from sigmascope.information.wrapping import RANDOM, UNCONDITIONAL, Losses
from sigmascope.learn.sources import Items, Source
from sigmascope.streams import Use

_SPLIT, _FIT, _CLASSES, _MEASURED = range(4)  # uses of random streams
_FITTED = 1536  # items that the linear denoiser is fitted to
_VALUES = 2e7  # coordinates of these items at most
_DRAWS, _FEWEST_DRAWS = 64, 32
_LEVELS = 8
_CALLS = 30_000  # network calls at most, unless the fewest draws take more
_AT_RANDOM = 4  # random classes for each draw
_MOST_CONDITIONS = 8  # attributes at most
_FEWEST = 8  # items at least
_OUTPUTS = 2048  # network calls at a time


def loss_levels(sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, " some"]:
    """Some of the levels of a study, the first and the last among them."""
    return np.asarray(sigma[np.unique(np.linspace(0, len(sigma) - 1, min(_LEVELS, len(sigma))).round().astype(int))])


def loss_calls(levels: int, attributes: int, classes: bool, unconditional_calls: int = 1) -> tuple[int, int]:
    """Draws and network calls of the losses, for a study's number of levels and a network's number of attributes.

    ``classes`` is whether it is a pipeline's network of classes; an unconditional output takes ``unconditional_calls``,
    which is 1 where the network has an empty class.
    """
    random = _AT_RANDOM if _at_random(attributes, classes, unconditional_calls) else 0
    calls = min(levels, _LEVELS) * (unconditional_calls + min(attributes, _MOST_CONDITIONS) + random)
    draws = int(np.clip(_CALLS // calls, _FEWEST_DRAWS, _DRAWS))
    return draws, draws * calls


def _at_random(attributes: int, classes: bool, unconditional_calls: int) -> bool:
    """Whether random classes are evaluated: where the network has an empty class, which may be the wrong one."""
    return classes and unconditional_calls == 1 and attributes == 1


class LossJob(Units):
    """Denoising losses of a network, a level at a time; then a warning on stderr if it seems to be wrapped wrongly.

    They are measured on the items that the source keeps out of training, or on half of all.  ``classes`` and
    ``unconditional_calls`` are as for :func:`loss_calls`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        source: Source,
        sigma: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute | RealAttribute],
        classes: bool,
        unconditional_calls: int,
        seed: int,
    ) -> None:
        self._denoiser, self._seed, self._classes = denoiser, seed, classes
        self._attributes = list(attributes[:_MOST_CONDITIONS])
        self._random = _at_random(len(self._attributes), classes, unconditional_calls)
        count, self.calls = loss_calls(len(sigma), len(self._attributes), classes, unconditional_calls)
        enough = not isinstance(source, Items) or int((source.data.weights > 0).sum()) >= _FEWEST
        self._sigma = loss_levels(sigma) if enough else sigma[:0]
        self._warned = False
        self._rows = max(_OUTPUTS // max(self.calls // max(count * len(loss_levels(sigma)), 1), 1), 1)
        super().__init__("loss", len(self._sigma), meeting=self.warning)
        if enough:
            fit, self._draws = halves(source, count, seed)
            linear = LinearDenoiser.fit(fit)
            self._errors = linear.parts(self._draws.v, self._draws.noise)

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        sigma, d = float(self._sigma[number]), self._draws
        conditions: list[Mapping[str, Tensor]] = [{}, *({a.name: d.labels[a.name]} for a in self._attributes)]
        if self._random:
            drawn = self._drawn_classes()
            conditions += [{self._attributes[0].name: k} for k in drawn.reshape(_AT_RANDOM, -1)]
        done = [held["network"]] if held else []
        first = done[0].shape[1] if done else 0
        for rows in torch.split(torch.arange(first, len(d)), self._rows) if first < len(d) else ():
            y = d.v[rows].double() + sigma * d.noise[rows].double()
            means = answers(self._denoiser, y, sigma, [{n: x[rows] for n, x in c.items()} for c in conditions])
            if self._random:
                means = [*means[:-_AT_RANDOM], torch.stack(means[-_AT_RANDOM:]).mean(0)]
            errors = [(m.cpu() - d.v[rows].double()) ** 2 for m in means]
            done.append(np.stack([e.flatten(1).mean(1).numpy() for e in errors]))
            yield lambda: {"network": np.concatenate(done, 1)}
        return {"network": np.concatenate(done, 1)}

    def _drawn_classes(self) -> Tensor:
        a, g = self._attributes[0], generator(self._seed, Use.WRAPPING, _CLASSES)
        assert isinstance(a, Attribute)
        return torch.multinomial(a.prior, len(self._draws) * _AT_RANDOM, replacement=True, generator=g)

    def losses(self) -> Losses | None:
        """The losses of all levels; None where there are too few items to fit a linear denoiser."""
        if not len(self._sigma):
            return None
        size = self._draws.v[0].numel()
        conditions = [UNCONDITIONAL, *(a.name for a in self._attributes), *([RANDOM] if self._random else [])]
        return Losses(
            self._sigma, conditions, np.stack([u["network"] for u in self.units()], 1),
            np.stack([self._errors.linear(float(s)) for s in self._sigma]) / size, self._errors.mean() / size,
            self._classes,
        )  # fmt: skip

    def warning(self) -> str:
        """What seems to be wrapped wrongly, or nothing; the first time also on stderr, in one line."""
        losses = self.losses()
        words = "" if losses is None else losses.warning()
        if words and not self._warned and not distributed.rank():
            line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)  # names may hold any character
            tqdm.write(f"sigmascope: warning: {line}", file=sys.stderr)
        self._warned = True
        return words

    def weak_end(self) -> tuple[float, str]:
        """:meth:`Losses.weak_end` of the losses; 0 and no words where there are none."""
        losses = self.losses()
        return (0.0, "") if losses is None else losses.weak_end()


def halves(source: Source, count: int, seed: int) -> tuple[Tensor, Draws]:
    """Values to fit a linear denoiser to, and draws of other values to measure on, each with a stream of its own."""
    g = generator(seed, Use.WRAPPING, _FIT)
    streams = [generator(seed, Use.WRAPPING, _MEASURED, i) for i in range(count)]
    if not isinstance(source, Items):
        size = int(np.prod(source.event))
        fit, _ = source.draw(_fitted(size), g)
        each = [source.held_out(1, s) for s in streams]
        v, labels = torch.cat([x for x, _ in each]), {k: torch.cat([x[k] for _, x in each]) for k in each[0][1]}
        items = torch.arange(count)
    else:
        out = _measured(source, seed)
        weights = source.data.weights
        # Items without replacement, by weight: those of the largest ln weight plus a Gumbel number.
        key = torch.where(out | (weights <= 0), -torch.inf, weights.clamp_min(1e-300).log() + _gumbel(len(out), g))
        count = min(_fitted(source.data.size), int(torch.isfinite(key).sum()))
        fit = source.data.source.take(torch.topk(key, count).indices)
        cumulative = torch.cumsum(torch.where(out, weights, 0.0), 0)
        u = torch.cat([torch.rand(1, generator=s, dtype=torch.float64) for s in streams]) * cumulative[-1]
        last = int(torch.searchsorted(cumulative, cumulative[-1]))
        items = torch.searchsorted(cumulative, u, right=True).clamp_max(last)
        v, labels = source.data.source.take(items), {}
    noise = torch.stack([torch.randn(v.shape[1:], generator=s) for s in streams])
    if isinstance(source, Items):
        labels = source.labels_of(items, streams)
    return fit, Draws(items, v, noise, labels)


def _measured(source: Items, seed: int) -> Tensor:
    """Whether each item is measured on: those kept out of training where there are enough, else a random half."""
    usable = source.data.weights > 0
    out = torch.from_numpy(source.kept_out) & usable
    if int(out.sum()) >= 2 and int((usable & ~out).sum()) >= _FEWEST // 2:
        return out
    places = torch.nonzero(usable)[:, 0]
    order = torch.randperm(len(places), generator=generator(seed, Use.WRAPPING, _SPLIT))
    half = torch.zeros(len(usable), dtype=torch.bool)
    half[places[order[: len(places) // 2]]] = True
    return half


def _fitted(size: int) -> int:
    return int(np.clip(_VALUES // size, 16, _FITTED))


def _gumbel(count: int, g: torch.Generator) -> Float[Tensor, " items"]:
    u = torch.rand(count, generator=g, dtype=torch.float64)
    return -(-u.clamp_min(1e-300).log()).clamp_min(1e-300).log()
