"""Before any number of a model: its denoising loss by level, beside the best linear denoiser's and the mean image's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from sigmascope.core import Attribute, Denoiser, Draws, generator
from sigmascope.information.jobs.levels import Units
from sigmascope.information.linear import LinearDenoiser
from sigmascope.information.wrapping import RANDOM, UNCONDITIONAL, Losses
from sigmascope.learn.sources import Items, Source
from sigmascope.sample.schemes import Model
from sigmascope.streams import Use

_SPLIT, _FIT, _CLASSES, _MEASURED = range(4)  # what is drawn
_FITTED = 1536  # items of the linear denoiser
_VALUES = 2e7  # coordinates of these items, at most
_DRAWS, _FEWEST_DRAWS = 64, 32
_LEVELS = 8
_CALLS = 30_000  # about, at most
_AT_RANDOM = 4  # classes drawn for each draw
_MOST_CONDITIONS = 8  # attributes
_FEWEST = 8  # items


def loss_levels(sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, " some"]:
    """Some of the levels of a study, the first and the last among them."""
    at = np.unique(np.linspace(0, len(sigma) - 1, min(_LEVELS, len(sigma))).round().astype(int))
    found: np.ndarray = sigma[at]
    return found


def loss_calls(levels: int, told: int, classes: bool, unconditional_calls: int = 1) -> tuple[int, int]:
    """Draws and network calls of the losses.

    Args:
        levels: of the study.
        told: attributes that the network can be told.
        classes: whether it is a pipeline's network of classes.
        unconditional_calls: of an answer without knowledge: 1 where it has an empty class.
    """
    each = (
        unconditional_calls
        + min(told, _MOST_CONDITIONS)
        + (_AT_RANDOM if _at_random(told, classes, unconditional_calls) else 0)
    )
    calls = min(levels, _LEVELS) * each
    draws = int(np.clip(_CALLS // calls, _FEWEST_DRAWS, _DRAWS))
    return draws, draws * calls


def _at_random(told: int, classes: bool, unconditional_calls: int) -> bool:
    """Whether the network is asked about classes drawn at random: it has an empty class that may be the wrong one."""
    return classes and unconditional_calls == 1 and told == 1


class LossJob(Units):
    """Denoising losses of a network, a level at a time; the last says on stderr what seems to be wrapped wrongly.

    Args:
        denoiser: the network.
        source: of values; items that it keeps out are those to measure on, of others half are.
        sigma: decreasing levels of the study.
        told: attributes that the network can be told.
        classes: whether it is a pipeline's network of classes.
        unconditional_calls: network calls of an answer without knowledge.
        seed: of the study.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        source: Source,
        sigma: Float[np.ndarray, " levels"],
        told: Sequence[Attribute],
        classes: bool,
        unconditional_calls: int,
        seed: int,
    ) -> None:
        self._denoiser, self._seed, self._told, self._classes = denoiser, seed, list(told[:_MOST_CONDITIONS]), classes
        self._random = _at_random(len(self._told), classes, unconditional_calls)
        count, self.calls = loss_calls(len(sigma), len(self._told), classes, unconditional_calls)
        enough = not isinstance(source, Items) or int((source.data.weights > 0).sum()) >= _FEWEST
        self._sigma = loss_levels(sigma) if enough else sigma[:0]
        self._said = False
        super().__init__("loss", len(self._sigma))
        if enough:
            fit, self._draws = halves(source, count, seed)
            linear = LinearDenoiser.fit(fit)
            self._errors = linear.parts(self._draws.v, self._draws.noise)

    def step(self) -> None:
        """Measure at the next level."""
        sigma, d = float(self._sigma[self.next_unit]), self._draws
        y = d.v.double() + sigma * d.noise.double()
        rows = [self._error(y, sigma, {})]
        rows += [self._error(y, sigma, {a.name: d.labels[a.name]}) for a in self._told]
        if self._random:
            rows.append(self._error_of_mean(y, sigma))
        self.results.append({"network": np.stack(rows)})
        if self.done:
            self.say()

    def _error(self, y: Tensor, sigma: float, known: Mapping[str, Tensor]) -> Float[np.ndarray, " draws"]:
        return self._squared(Model(self._denoiser, known or None).denoise(y, sigma))

    def _error_of_mean(self, y: Tensor, sigma: float) -> Float[np.ndarray, " draws"]:
        a = self._told[0]
        g = generator(self._seed, Use.WRAPPING, _CLASSES)
        drawn = torch.multinomial(a.prior, len(y) * _AT_RANDOM, replacement=True, generator=g)
        each = [Model(self._denoiser, {a.name: k}).denoise(y, sigma) for k in drawn.reshape(_AT_RANDOM, -1)]
        return self._squared(torch.stack(each).mean(0))

    def _squared(self, mean: Tensor) -> Float[np.ndarray, " draws"]:
        found: np.ndarray = ((mean.cpu().double() - self._draws.v.double()) ** 2).flatten(1).mean(1).numpy()
        return found

    def losses(self) -> Losses | None:
        """All of them; None where there are too few items to fit anything to."""
        if not len(self._sigma):
            return None
        size = self._draws.v[0].numel()
        told = [UNCONDITIONAL, *(a.name for a in self._told), *([RANDOM] if self._random else [])]
        return Losses(
            self._sigma, told, np.stack([u["network"] for u in self.units()], 1),
            np.stack([self._errors.linear(float(s)) for s in self._sigma]) / size, self._errors.mean() / size,
            self._classes,
        )  # fmt: skip

    def say(self) -> str:
        """What seems to be wrapped wrongly; once on stderr, in one line."""
        losses = self.losses()
        words = "" if losses is None else losses.warning()
        if words and not self._said:
            line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)  # whatever a name holds
            tqdm.write(f"sigmascope: warning: {line}", file=sys.stderr)
        self._said = True
        return words


def halves(source: Source, count: int, seed: int) -> tuple[Tensor, Draws]:
    """Values to fit a linear denoiser to, and draws of others to measure on, each with a stream of its own."""
    g = generator(seed, Use.WRAPPING, _FIT)
    streams = [generator(seed, Use.WRAPPING, _MEASURED, i) for i in range(count)]
    if not isinstance(source, Items):
        size = int(np.prod(source.event))
        fit, _ = source.draw(_fitted(size), g)
        each = [source.held_out(1, s) for s in streams]
        v, labels = torch.cat([x for x, _ in each]), {k: torch.cat([of[k] for _, of in each]) for k in each[0][1]}
        items = torch.arange(count)
    else:
        out = _measured(source, seed)
        weights = source.data.weights
        # Items without replacement, by weight: the largest of Gumbel's numbers.
        key = torch.where(out | (weights <= 0), -torch.inf, weights.clamp_min(1e-300).log() + _gumbel(len(out), g))
        most = min(_fitted(source.data.size), int(torch.isfinite(key).sum()))
        fit = source.data.source.take(torch.topk(key, most).indices)
        cumulative = torch.cumsum(torch.where(out, weights, 0.0), 0)
        u = torch.cat([torch.rand(1, generator=s, dtype=torch.float64) for s in streams]) * cumulative[-1]
        last = int(torch.searchsorted(cumulative, cumulative[-1]))
        items = torch.searchsorted(cumulative, u, right=True).clamp_max(last)
        v, labels = source.data.source.take(items), {k: x[items] for k, x in source.labels.items()}
    noise = torch.stack([torch.randn(v.shape[1:], generator=s) for s in streams])
    return fit, Draws(items, v, noise, labels)


def _measured(source: Items, seed: int) -> Tensor:
    """Which items are measured on: those kept out of training where there are enough of each; else half of all."""
    some = source.data.weights > 0
    out = torch.from_numpy(source.kept_out) & some
    if int(out.sum()) >= 2 and int((some & ~out).sum()) >= _FEWEST // 2:
        return out
    places = torch.nonzero(some)[:, 0]
    order = torch.randperm(len(places), generator=generator(seed, Use.WRAPPING, _SPLIT))
    found = torch.zeros(len(some), dtype=torch.bool)
    found[places[order[: len(places) // 2]]] = True
    return found


def _fitted(size: int) -> int:
    return int(np.clip(_VALUES // size, 16, _FITTED))


def _gumbel(count: int, g: torch.Generator) -> Float[Tensor, " items"]:
    u = torch.rand(count, generator=g, dtype=torch.float64)
    return -(-u.clamp_min(1e-300).log()).clamp_min(1e-300).log()
