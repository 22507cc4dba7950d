r"""Forks: labels of continuations, of noised items and along the model's own path.

The states that a generation visits have decided part of its own end:

.. math:: I_{own}(\sigma) = H(A) - E\,H(A \mid Y^{model}_\sigma), \qquad A = \ell(V^{model}),

with :math:`Y^{model}_\sigma` on the way from noise to :math:`V^{model}`, and H(A) the entropy of the model's images.
The labels of continuations from there are draws of :math:`p(a \mid Y^{model}_\sigma)` whatever the network, as is the
label of the generation itself.  Nothing is assumed of the data; the curve begins at 0 and ends at H(A).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, Draws
from sigmascope.information.entropies import zhang
from sigmascope.information.estimator import PATH_ESTIMATOR
from sigmascope.information.forks import LabelChildren, count_labels, forks
from sigmascope.information.jobs.units import Units
from sigmascope.information.keeping import kept_of_counts, sure_of_counts
from sigmascope.information.parts import Arrays, Parts, within
from sigmascope.sample import Streams, sample, start
from sigmascope.sample.forks import fork, levels_below
from sigmascope.sample.schemes import Model, State
from sigmascope.streams import NoiseOf, SeedOf, seed_of

_ROWS = 256  # children of one block
_LEAST_STEPS = 4  # steps of a continuation at least
SHOWN = 6
"""Children of the first draw that are stored as pictures."""


@dataclass(frozen=True)
class Descent:
    """The levels of a sampler: steps from a first level to a last one, even in ln sigma, and parts of them."""

    first: float  # the study's first level
    last: float  # the level from which clean values are read; a study may end above it
    steps: int

    def levels(self, high: float, low: float) -> list[float]:
        """Levels from a high to a low one."""
        return levels_below(high, low, self._count(high, low, 1), zero=False)

    def to_clean(self, high: float) -> list[float]:
        """Levels from a high one down to 0."""
        if high <= self.last * (1 + 1e-9):
            return [high, 0.0]
        return levels_below(high, self.last, self._count(high, self.last, _LEAST_STEPS))

    def _count(self, high: float, low: float, least: int) -> int:
        return max(round(self.steps * math.log(high / low) / math.log(self.first / self.last)), least)


def follow(
    denoiser: Denoiser, y: Tensor, levels: Sequence[float], children: int, seed: int, first: int, held: Arrays
) -> Parts[tuple[Tensor, int]]:
    """Ends of the continuations of parents y, the first of which has this number, and the network calls made."""
    if len(levels) == 2:  # from the last level on nothing is drawn
        return Model(denoiser).denoise(y, levels[0]).repeat_interleave(children, 0), len(y)
    resume = (int(held["step"]), torch.from_numpy(held["rows"])) if "step" in held else None
    begun = 0 if resume is None else resume[0]
    states = fork(denoiser, y, levels, children, seed, first_parent=first, resume=resume)
    ends = yield from last_state(states, begun, len(levels) - 1)
    return ends, len(ends) * (2 * len(levels) - 3)  # two a step, and one to the clean value


def last_state(
    states: Iterator[State], begun: int, steps: int, step: str = "step", rows: str = "rows"
) -> Parts[Tensor]:
    """The rows of the last state of a sampler, a step at a time.

    Args:
        states: of the sampler.
        begun: the step that it begins with.
        steps: the last one.
        step: name of the step in what it goes on from.
        rows: that of the state.
    """
    y = torch.empty(0)
    for state in states:
        y, done = state.y, begun + state.step
        if state.step and done < steps:
            yield partial(dict, {step: np.array(done), rows: y.numpy()})
    return y


@dataclass(frozen=True, eq=False)
class PathResult:
    """The information about an attribute along the path, and where it was forked the agreement of children."""

    curve: Curve
    kept: Float[np.ndarray, "levels draws"] | None = None  # share of pairs of children that agree
    sure: Float[np.ndarray, "levels draws"] | None = None  # how often a child has its siblings' commonest value


class _Forked(Units):
    """Counts of the children's labels, level by level and block by block."""

    _attributes: Sequence[Attribute]
    _label: LabelChildren
    _children: int

    def _counts(self, children: Tensor, parents: Tensor | None) -> dict[str, np.ndarray]:
        """How often each value occurs among the children of each parent; the parents' items are given if any."""
        labels = self._label(children, parents)
        return {
            f"counts.{a.name}": count_labels(labels[a.name].reshape(-1, self._children).T, len(a.values)).numpy()
            for a in self._attributes
        }

    @property
    def calls(self) -> int:
        """Network calls made."""
        return sum(int(u["calls"]) for u in self.units())


class ForkJob(_Forked):
    """Labels of the children of every draw: a level and a block of draws at a time.

    With ``items`` the parents are noised items of the data, which the labels must not be read off.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
        label: LabelChildren,
        items: bool,
        down: Descent,
        *,
        children: int,
        seed: int,
    ) -> None:
        self._denoiser, self._draws, self._sigmas, self._label = denoiser, draws, sigmas, label
        self._down, self._items, self._children, self._seed = down, draws.items if items else None, children, seed
        self._attributes = list(attributes)
        self._block = max(_ROWS // children, 1)
        self._blocks = -(-len(draws) // self._block)
        costs = [float(len(down.to_clean(float(s)))) for s in sigmas for _ in range(self._blocks)]
        super().__init__("forked", len(costs), costs)

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        k, block = divmod(number, self._blocks)
        sigma, part = float(self._sigmas[k]), slice(block * self._block, (block + 1) * self._block)
        y = self._draws.v[part].double() + sigma * self._draws.noise[part].double()
        levels, first = self._down.to_clean(sigma), part.start
        children, calls = yield from follow(self._denoiser, y, levels, self._children, self._seed, first, held)
        parents = None if self._items is None else self._items[part].repeat_interleave(self._children)
        unit = {"calls": np.array(calls), **self._counts(children, parents)}
        if block == 0:
            unit["children"] = children[:SHOWN].float().numpy()
        return unit

    def counts(self, name: str) -> Int64[Tensor, "levels draws values"]:
        """How often each value occurs among the children of each draw."""
        units = [u[f"counts.{name}"] for u in self.units()]
        each = [np.concatenate(units[k * self._blocks : (k + 1) * self._blocks]) for k in range(len(self._sigmas))]
        return torch.from_numpy(np.stack(each))

    def children(self) -> Float[np.ndarray, "levels shown *event"]:
        """The first children of the first draw at every level."""
        return np.stack([u["children"] for u in self.units()[:: self._blocks]])


class OwnPathJob(_Forked):
    """Labels of the children of states that generations visit: a block at a time, from the top down."""

    def __init__(
        self,
        denoiser: Denoiser,
        top: float,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
        label: LabelChildren,
        down: Descent,
        *,
        draws: int,
        children: int,
        seed: int,
    ) -> None:
        self._denoiser, self._top, self._sigmas, self._label = denoiser, top, sigmas, label
        self._down, self._draws, self._children, self._seed = down, draws, children, seed
        self._attributes = list(attributes)
        self._block = max(_ROWS // children, 1)
        self._blocks = -(-draws // self._block)
        super().__init__("along", self._blocks)

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        first, done = number * self._block, dict(held)
        for k in range(int(held.get("level", 0)), len(self._sigmas)):
            if "reached" not in done:
                y, calls = yield from within(done, self._descend(first, k, done))
                done = {n: x for n, x in done.items() if n not in ("down", "on_the_way", "above")}
                done |= {"reached": y.numpy(), "calls": done.get("calls", 0) + np.array(calls)}
            y, levels = torch.from_numpy(done["reached"]), self._down.to_clean(float(self._sigmas[k]))
            seed = seed_of(SeedOf.CHILDREN, self._seed)
            parts = follow(self._denoiser, y, levels, self._children, seed, first, done)
            children, calls = yield from within(done, parts)
            counts = {n: [*done.get(n, ()), x] for n, x in self._counts(children, None).items()}
            done = {"level": np.array(k + 1), "above": y.numpy(), "calls": done["calls"] + calls}
            done |= {n: np.stack(x) for n, x in counts.items()}
            yield partial(dict, done)
        return {n: x for n, x in done.items() if n not in ("level", "above")}

    def _descend(self, first: int, k: int, held: Arrays) -> Parts[tuple[Tensor, int]]:
        """States of a block at the level k, from those at the level above, and the network calls made."""
        count, sigma = min(self._block, self._draws - first), float(self._sigmas[k])
        noise = Streams(self._seed, [(NoiseOf.OWN_PATH, first + i, k) for i in range(count)], self._denoiser.event)
        above, calls, begun = float(self._sigmas[k - 1]) if k else max(self._top, sigma), 0, int(held.get("down", 0))
        white = torch.empty(0) if k else noise()
        if begun:
            y = torch.from_numpy(held["on_the_way"])
            for _ in range(begun):
                noise()
        else:
            y = torch.from_numpy(held["above"]) if k else start(self._denoiser, above, white)
        calls += 0 if k else count
        if above > sigma * (1 + 1e-9):
            levels = self._down.levels(above, sigma)
            states = sample(self._denoiser, y, levels[begun:], noise=noise)
            y = yield from last_state(states, begun, len(levels) - 1, "down", "on_the_way")
            calls += 2 * count * (len(levels) - 1)
        return y, calls

    def counts(self, name: str) -> Int64[Tensor, "levels draws values"]:
        """How often each value occurs among the children of each generation."""
        return torch.from_numpy(np.concatenate([u[f"counts.{name}"] for u in self.units()], 1))

    def result_for(self, a: Attribute) -> PathResult:
        """Information about an attribute, and the agreement of children."""
        counts = self.counts(a.name)
        return PathResult(
            path_curve(a, self._sigmas, counts), kept_of_counts(counts).numpy(), sure_of_counts(counts).numpy()
        )


def path_curve(
    a: Attribute, sigma: Float[np.ndarray, " levels"], counts: Int64[Tensor, "levels draws values"]
) -> Curve:
    """The information from children of states of the model's own path.

    Its ceiling is the entropy of the model's images, which the children of the first level show; the prior of the data
    is not used.  The standard error of that entropy, which all draws share, is in ``quadrature_error``.
    """
    made = counts[0].double()
    share = made.sum(0) / made.sum()
    entropy = float(zhang(counts[0].sum(0)))
    known = torch.where(share > 0, share, 1.0).log()
    each = -(made * known).sum(1) / made.sum(1)
    error = float(each.std()) / len(each) ** 0.5
    generated = Attribute(a.name, a.values, share)
    curve = forks(generated, sigma, counts)
    gauge = np.hypot(curve.quadrature_error if curve.quadrature_error is not None else 0.0, error)
    per_draw = curve.per_draw + (entropy - generated.entropy)
    return Curve.of_draws(a.name, PATH_ESTIMATOR, sigma, per_draw, entropy, kind="estimate", quadrature_error=gauge)
