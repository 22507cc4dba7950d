"""Jobs that call a denoiser at every level, or along paths over the levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import Attribute, Denoiser, Draws, Gap, HasAllPosteriors, HasPosterior, InputError, LabelledData
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.path import ROWS, PathPass
from sigmascope.exact.finite.sketch import Sketch
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.controls import classifier_controls
from sigmascope.information.direct import as_gap, gaps_at
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.passes import Blocks
from sigmascope.information.path import markov_path, path_posterior
from sigmascope.sample import Streams
from sigmascope.streams import NoiseOf

PATH_BYTES = 3e8  # memory of a block of draws along its paths


class Units:
    """A job of independent units, each with arrays as its result; the ranks of a run take turns.

    Args:
        name: in a checkpoint.
        count: units of all ranks.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._numbers = range(distributed.rank(), count, distributed.world())
        self.total = len(self._numbers)
        self.results: list[dict[str, np.ndarray]] = []
        self._all: list[dict[str, np.ndarray]] = []

    @property
    def next_unit(self) -> int:
        """Number of the unit that this rank does next, among those of all ranks."""
        return self._numbers[len(self.results)]

    def _keep(self, unit: Mapping[str, np.ndarray]) -> None:
        # Copies: a small result that torch laid between its large buffers would keep their pages from being used again.
        self.results.append({k: v.copy() for k, v in unit.items()})

    def units(self) -> list[dict[str, np.ndarray]]:
        """Results of all ranks, once each is done; every rank must call it."""
        if not self._all:
            parts = distributed.gathered(self.results)
            self._all = [parts[i % len(parts)][i // len(parts)] for i in range(sum(map(len, parts)))]
        return self._all

    @property
    def position(self) -> int:
        """Units done."""
        return len(self.results)

    @property
    def done(self) -> bool:
        return len(self.results) == self.total

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which a later run goes on."""
        held = {f"{self._name}{i}.{k}": v for i, unit in enumerate(self.results) for k, v in unit.items()}
        return held | {f"{self._name}.units": np.array(len(self.results))}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study."""
        count = int(state.get(f"{self._name}.units", -1))
        if not 0 <= count <= self.total:
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")
        for i in range(count):
            prefix = f"{self._name}{i}."
            self.results.append({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


class AtLevels(Units):
    """A job with a unit for each level, for a denoiser or classifier and draws that the levels share."""

    _in_checkpoint: str

    def __init__(
        self,
        model: Any,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
    ) -> None:
        super().__init__(self._in_checkpoint, len(sigmas))
        self._model, self._draws, self._sigmas, self._attributes = model, draws, sigmas, attributes

    @property
    def _sigma(self) -> float:
        """The level of the next unit."""
        return float(self._sigmas[self.next_unit])

    def _rows(self, key: str) -> np.ndarray:
        """An array of every level."""
        return np.stack([u[key] for u in self.units()])


class LevelJob(AtLevels):
    """Posteriors of any denoiser that has them, with ``gaps`` its gaps too: a level at a time.

    With ``average`` the score gap is averaged over the posterior (a denoising for each value), else it is taken at the
    drawn label.
    """

    _in_checkpoint = "level"

    def __init__(
        self,
        denoiser: Denoiser,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
        gaps: bool,
        average: bool,
    ) -> None:
        super().__init__(denoiser, draws, sigmas, attributes)
        self._gaps, self._average = gaps, average

    def step(self) -> None:
        """Measure at the next level."""
        sigma, d = self._sigma, self._draws
        y = d.v.double() + sigma * d.noise.double()
        level = torch.full((len(d),), sigma, dtype=torch.float64)
        log_p = all_log_posteriors(self._model, y, level)
        unit = {f"posterior.{a.name}": log_p[a.name].numpy() for a in self._attributes}
        if self._gaps:
            for a in self._attributes:
                score, mmse = gaps_at(self._model, d, sigma, a.name, self._average)
                unit |= {f"score.{a.name}": score.numpy(), f"mmse.{a.name}": mmse.numpy()}
        if isinstance(self._model, HierarchyDenoiser):
            unit["whole"] = self._model.level_entropies(y, level).cpu().numpy()
        self._keep(unit)

    def log_posterior(self, name: str) -> Float[Tensor, "levels draws values"]:
        """ln p(a | y) at all levels."""
        return torch.from_numpy(self._rows(f"posterior.{name}"))

    def gap(self, name: str) -> Gap:
        """Gaps at all levels."""
        return as_gap(self._rows(f"score.{name}"), self._rows(f"mmse.{name}"), self._sigmas)

    def whole_entropies(self) -> Float[np.ndarray, "tree sigma draws"]:
        """Joint entropy of all nodes of each level of the tree; of a hierarchy only."""
        return np.stack([u["whole"] for u in self.units()], 1)


class _AlongPaths(Units):
    """A job along one Markov path of each draw, which has its own noise: a block of draws at a time."""

    _in_checkpoint: str
    _by_attribute = False  # whether each attribute has units of its own

    def __init__(
        self,
        model: Any,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
        seed: int,
    ) -> None:
        self._model, self._draws, self._sigmas, self._seed = model, draws, sigmas, seed
        self._attributes = list(attributes)
        self._block = _rows_of_paths(draws, len(sigmas), attributes)
        self._blocks = -(-len(draws) // self._block)
        super().__init__(self._in_checkpoint, self._blocks * (len(attributes) if self._by_attribute else 1))

    def _path(self, block: int) -> tuple[slice, Tensor]:
        """The draws of a block, and their paths."""
        part = slice(block * self._block, (block + 1) * self._block)
        return part, paths_of(self._draws.v[part], part.start, self._sigmas, self._seed)


class PathJob(_AlongPaths):
    """The filter of a denoiser along the paths: an attribute and a block at a time."""

    _in_checkpoint, _by_attribute = "path", True

    def step(self) -> None:
        """Filter the next block of paths for the next attribute."""
        i, block = divmod(self.next_unit, self._blocks)
        fine, coarse = path_posterior(self._model, self._attributes[i].name, self._path(block)[1], self._sigmas)
        self._keep({"fine": fine.numpy(), "coarse": coarse.numpy()})

    def log_q(self, name: str) -> tuple[Tensor, Tensor]:
        """ln q along the paths, by single and by double steps, (levels, draws, values)."""
        index = [a.name for a in self._attributes].index(name)
        blocks = self.units()[index * self._blocks : (index + 1) * self._blocks]
        fine, coarse = (torch.from_numpy(np.concatenate([u[k] for u in blocks], 1)) for k in ("fine", "coarse"))
        return fine, coarse


class AlongJob(_AlongPaths):
    """Controls of a classifier along the paths of :class:`PathJob`."""

    _in_checkpoint = "along"

    def step(self) -> None:
        """Classify the next block of paths."""
        part, path = self._path(self.next_unit)
        levels = torch.from_numpy(self._sigmas)[:, None].expand(-1, len(path[0]))
        log_q = [all_log_posteriors(self._model, y, s) for y, s in zip(path, levels, strict=True)]
        unit = {}
        for a in self._attributes:
            own = self._draws.labels[a.name][part]
            unit[a.name] = classifier_controls(a, torch.stack([q[a.name] for q in log_q]), own)
        self._keep(unit)

    def controls(self, name: str) -> Float[np.ndarray, "controls levels draws"]:
        """:func:`~sigmascope.information.controls.classifier_controls` of all draws."""
        return np.concatenate([u[name] for u in self.units()], 2)


class FinitePathJob(Blocks[PathPass]):
    """:class:`PathJob` of a finite set: one pass over the data for each block of draws, for all attributes at once.

    Squared norms are measured along the directions of the sketch.
    """

    def __init__(
        self, denoiser: FiniteDenoiser, draws: Draws, sigmas: Float[np.ndarray, " levels"], sketch: Sketch, seed: int
    ) -> None:
        def begin(part: slice) -> PathPass:
            path = paths_of(draws.v[part], part.start, sigmas, seed)
            return PathPass(denoiser, draws.items[part], path, sigmas, sketch)

        def harvest(done: PathPass) -> dict[str, np.ndarray]:
            pairs = done.log_q().items()
            return {f"{k}.{n}": q.numpy() for n, both in pairs for k, q in zip(("fine", "coarse"), both, strict=True)}

        size = path_block(denoiser.data, len(sigmas), sketch.directions.shape[1], len(draws))
        super().__init__(len(draws), size, begin, harvest)

    def log_q(self, name: str) -> tuple[Tensor, Tensor]:
        """ln q along the paths, by single and by double steps, (levels, draws, values)."""
        return torch.from_numpy(self.joined(f"fine.{name}")), torch.from_numpy(self.joined(f"coarse.{name}"))


def path_block(data: LabelledData, levels: int, directions: int, draws: int) -> int:
    """Draws of one pass along paths, whose sums and products then take 300 MB at most."""
    columns = sum(len(a.values) for a in data.attributes)
    per_draw = 8 * levels * (columns * (directions + 3) + 2 * data.size + 8 * ROWS)
    return int(np.clip(PATH_BYTES // per_draw, 1, draws))


def _rows_of_paths(draws: Draws, levels: int, attributes: Sequence[Attribute]) -> int:
    """Draws of one block of paths, which with the means of every value then takes 300 MB at most."""
    widest, size = max((len(a.values) for a in attributes), default=1), int(np.prod(draws.v.shape[1:]))
    return int(np.clip(PATH_BYTES // (8 * size * (2 * widest + levels)), 1, len(draws)))


def paths_of(v: Tensor, first: int, sigmas: Float[np.ndarray, " levels"], seed: int) -> Tensor:
    """Markov paths of draws that are numbered from ``first``; each has its own stream."""
    streams = Streams(seed, [(NoiseOf.PATHS, first + k) for k in range(len(v))], tuple(v.shape[1:]))
    return markov_path(v, sigmas, streams)


class InTurn:
    """Several jobs one after the other, by their names in a checkpoint, as one job."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = dict(jobs)

    @property
    def total(self) -> int:
        """Steps of all, as far as is known: a job may find on its way that it needs more."""
        return sum(j.total for j in self._jobs.values())

    @property
    def position(self) -> int:
        """Steps done."""
        return sum(j.position for j in self._jobs.values())

    @property
    def done(self) -> bool:
        return all(j.done for j in self._jobs.values())

    def step(self) -> None:
        """A step of the first that is not done."""
        next(j for j in self._jobs.values() if not j.done).step()

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which a later run goes on."""
        return {f"{name}/{k}": v for name, j in self._jobs.items() for k, v in j.state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study; every rank must, with nothing where it has none."""
        if state and not all(k.partition("/")[0] in self._jobs for k in state):
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")
        for name, job in self._jobs.items():
            prefix = f"{name}/"
            part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if part or isinstance(job, Blocks):
                job.restore(part)


def all_log_posteriors(model: Denoiser | HasAllPosteriors, y: Tensor, sigma: Tensor) -> Mapping[str, Tensor]:
    """ln p(a | y) of every attribute of a model that has posteriors."""
    with torch.no_grad():
        if isinstance(model, HasAllPosteriors):
            return {name: log_p.cpu() for name, log_p in model.all_log_posteriors(y, sigma).items()}
        if isinstance(model, HasPosterior):
            return {a.name: model.log_posterior(y, sigma, a.name).cpu() for a in model.attributes}
    raise InputError(f"a {type(model).__name__} has no posterior: use an exact denoiser")
