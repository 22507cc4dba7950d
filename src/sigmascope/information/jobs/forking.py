r"""Forks along the model's own path: what the states that a generation visits have decided about their own end.

.. math:: I_{own}(\sigma) = H(A) - E\,H(A \mid Y^{model}_\sigma), \qquad A = \ell(V^{model}),

with :math:`Y^{model}_\sigma` on the way from noise to :math:`V^{model}`, H(A) the entropy of what the model makes.  Its
continuations from there, one of which the generation itself is, have labels drawn from
:math:`p(a \mid Y^{model}_\sigma)` whatever the network is: nothing is assumed of the data, and the curve begins at 0
and ends at H(A).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, Draws
from sigmascope.information.entropies import zhang
from sigmascope.information.estimator import PATH_ESTIMATOR
from sigmascope.information.forks import LabelChildren, count_labels, forks
from sigmascope.information.jobs.levels import Units
from sigmascope.information.keeping import kept_of_counts, sure_of_counts
from sigmascope.sample import Streams, sample, start
from sigmascope.sample.forks import fork, levels_below
from sigmascope.sample.schemes import Model, final
from sigmascope.streams import NoiseOf, SeedOf, seed_of

_ROWS = 256  # children that are followed at once
_LEAST_STEPS = 4  # of a continuation
SHOWN = 6
"""Children of the first draw that are kept as pictures."""


@dataclass(frozen=True)
class Descent:
    """How a sampler goes down: a number of steps from a first level to a last one, even in ln sigma, and parts of that.

    Args:
        first: the study's first level.
        last: the level from which clean values are read; a study may end above it.
        steps: between the two.
    """

    first: float
    last: float
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
    denoiser: Denoiser, y: Tensor, levels: Sequence[float], children: int, seed: int, first: int
) -> tuple[Tensor, int]:
    """Ends of continuations, and the network calls that they took.

    Args:
        denoiser: any.
        y: the parents.
        levels: from theirs to 0.
        children: of each.
        seed: of their noise.
        first: number of the first parent.
    """
    if len(levels) == 2:  # from the last level on there is nothing to draw
        return Model(denoiser).denoise(y, levels[0]).repeat_interleave(children, 0), len(y)
    found = final(fork(denoiser, y, levels, children, seed, first_parent=first)).y
    return found, len(found) * (2 * len(levels) - 3)  # two a step, and one to the clean value


@dataclass(frozen=True, eq=False)
class PathResult:
    """What was found along the path about an attribute.

    Args:
        curve: the information.
        kept: share of pairs of children that agree, shape (levels, draws); None where nothing was forked.
        sure: how often a child has its siblings' commonest value, likewise.
    """

    curve: Curve
    kept: Float[np.ndarray, "levels draws"] | None = None
    sure: Float[np.ndarray, "levels draws"] | None = None


class ForkJob(Units):
    """Labels of the children of every draw: a level and a block of draws at a time.

    Args:
        denoiser: told nothing.
        draws: whose noisy values are the parents.
        sigmas: decreasing levels.
        attributes: which.
        label: of clean values.
        items: whether the parents are noised items of the data, which their labels must not be read off.
        down: how it goes down.
        children: of each draw.
        seed: of the study.
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
        super().__init__("forked", len(sigmas) * self._blocks)

    def step(self) -> None:
        """Follow the children of the next block."""
        k, block = divmod(self.next_unit, self._blocks)
        sigma, part = float(self._sigmas[k]), slice(block * self._block, (block + 1) * self._block)
        y = self._draws.v[part].double() + sigma * self._draws.noise[part].double()
        children, calls = follow(self._denoiser, y, self._down.to_clean(sigma), self._children, self._seed, part.start)
        parents = None if self._items is None else self._items[part].repeat_interleave(self._children)
        labels = self._label(children, parents)
        unit = {"calls": np.array(calls)}
        for a in self._attributes:
            of = labels[a.name].reshape(len(y), self._children).T
            unit[f"counts.{a.name}"] = count_labels(of, len(a.values)).numpy()
        if block == 0:
            unit["children"] = children[:SHOWN].float().numpy()
        self._keep(unit)

    @property
    def calls(self) -> int:
        """Network calls of all children."""
        return sum(int(u["calls"]) for u in self.units())

    def counts(self, name: str) -> Int64[Tensor, "levels draws values"]:
        """How often each value occurs among the children of each draw."""
        found = [u[f"counts.{name}"] for u in self.units()]
        each = [np.concatenate(found[k * self._blocks : (k + 1) * self._blocks]) for k in range(len(self._sigmas))]
        return torch.from_numpy(np.stack(each))

    def children(self) -> Float[np.ndarray, "levels shown *event"]:
        """Some children of the first draw at every level."""
        return np.stack([u["children"] for u in self.units()[:: self._blocks]])


class OwnPathJob(Units):
    """Children of states that generations visit: a block of generations and a level at a time, from the top down.

    Args:
        denoiser: told nothing.
        top: the level at which generations begin.
        sigmas: decreasing levels.
        attributes: which.
        label: of clean values.
        down: how it goes down.
        draws: generations.
        children: of each state.
        seed: of the study.
    """

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
        super().__init__("along", len(sigmas) * self._blocks)

    def step(self) -> None:
        """Go down to the next level, and follow the children from there."""
        block, k = divmod(self.next_unit, len(self._sigmas))
        first = block * self._block
        count, sigma = min(self._block, self._draws - first), float(self._sigmas[k])
        keys = [(NoiseOf.OWN_PATH, first + i, k) for i in range(count)]
        noise = Streams(self._seed, keys, self._denoiser.event)
        calls = 0
        if k:
            above = float(self._sigmas[k - 1])
            y = torch.from_numpy(self.results[-1].pop("state"))
        else:
            above = max(self._top, sigma)
            y, calls = start(self._denoiser, above, noise()), count
        if above > sigma * (1 + 1e-9):
            levels = self._down.levels(above, sigma)
            y = final(sample(self._denoiser, y, levels, noise=noise)).y
            calls += 2 * count * (len(levels) - 1)
        unit = {} if k == len(self._sigmas) - 1 else {"state": y.numpy()}
        seed = seed_of(SeedOf.CHILDREN, self._seed)
        children, more = follow(self._denoiser, y, self._down.to_clean(sigma), self._children, seed, first)
        labels = self._label(children, None)
        for a in self._attributes:
            unit[f"counts.{a.name}"] = count_labels(
                labels[a.name].reshape(count, self._children).T, len(a.values)
            ).numpy()  # fmt: skip
        self.results.append(unit | {"calls": np.array(calls + more)})

    @property
    def calls(self) -> int:
        """Network calls of all generations and children."""
        return sum(int(u["calls"]) for u in self.units())

    def counts(self, name: str) -> Int64[Tensor, "levels draws values"]:
        """How often each value occurs among the children of each generation."""
        found, levels = [u[f"counts.{name}"] for u in self.units()], len(self._sigmas)
        each = [np.stack(found[b * levels : (b + 1) * levels]) for b in range(self._blocks)]
        return torch.from_numpy(np.concatenate(each, 1))

    def result_for(self, a: Attribute) -> PathResult:
        """What was found about an attribute."""
        counts = self.counts(a.name)
        return PathResult(
            path_curve(a, self._sigmas, counts), kept_of_counts(counts).numpy(), sure_of_counts(counts).numpy()
        )


def path_curve(
    a: Attribute, sigma: Float[np.ndarray, " levels"], counts: Int64[Tensor, "levels draws values"]
) -> Curve:
    """The information from children of states of the model's own path.

    Args:
        a: the attribute, whose prior is that of the data and is not used.
        sigma: decreasing levels.
        counts: labels of the children, from the first level, whose children show what the model makes.

    Returns: Curve with the entropy of what the model makes as its ceiling; the standard error of that, which all draws
        share, is in the gauge.
    """
    made = counts[0].double()
    share = made.sum(0) / made.sum()
    entropy = float(zhang(counts[0].sum(0)))
    known = torch.where(share > 0, share, 1.0).log()
    each = -(made * known).sum(1) / made.sum(1)
    error = float(each.std()) / len(each) ** 0.5
    mine = Attribute(a.name, a.values, share)
    found = forks(mine, sigma, counts)
    gauge = np.hypot(found.quadrature_error if found.quadrature_error is not None else 0.0, error)
    per_draw = found.per_draw + (entropy - mine.entropy)
    return Curve.of_draws(a.name, PATH_ESTIMATOR, sigma, per_draw, entropy, kind="estimate", quadrature_error=gauge)
