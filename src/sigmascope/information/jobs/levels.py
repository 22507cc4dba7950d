"""Jobs that call a denoiser at every level, or along paths over the levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Attribute, Denoiser, Draws, Gap, HasAllPosteriors, HasPosterior, InputError, LabelledData
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.path import ROWS, PathPass
from sigmascope.exact.finite.sketch import Sketch
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.controls import classifier_controls
from sigmascope.information.direct import as_gap, gaps_at
from sigmascope.information.jobs import Job, RestoredTogether
from sigmascope.information.jobs.passes import Blocks
from sigmascope.information.jobs.units import Units
from sigmascope.information.parts import Arrays, Parts
from sigmascope.information.path import markov_path, path_posterior_in_parts
from sigmascope.sample import Streams
from sigmascope.streams import NoiseOf

PATH_BYTES = 3e8  # memory of a block of draws along its paths
_PATHS, _OUTPUTS = 64, 2048  # draws of a block at most, and outputs of a network for it at one level


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

    def _measured(self, number: int) -> Arrays:
        sigma, d = float(self._sigmas[number]), self._draws
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
        return unit

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
        costs = [float(len(a.values)) for a in attributes for _ in range(self._blocks)]
        costs = costs if self._by_attribute else [1.0] * self._blocks
        super().__init__(self._in_checkpoint, len(costs), costs)

    def _path(self, block: int) -> tuple[slice, Tensor]:
        """The draws of a block, and their paths."""
        part = slice(block * self._block, (block + 1) * self._block)
        return part, paths_of(self._draws.v[part], part.start, self._sigmas, self._seed)


class PathJob(_AlongPaths):
    """The filter of a denoiser along the paths: an attribute and a block at a time."""

    _in_checkpoint, _by_attribute = "path", True

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        i, block = divmod(number, self._blocks)
        path, name = self._path(block)[1], self._attributes[i].name
        fine, coarse = yield from path_posterior_in_parts(self._model, name, path, self._sigmas, held)
        return {"fine": fine.numpy(), "coarse": coarse.numpy()}

    def log_q(self, name: str) -> tuple[Tensor, Tensor]:
        """ln q along the paths, by single and by double steps, (levels, draws, values)."""
        index = [a.name for a in self._attributes].index(name)
        blocks = self.units()[index * self._blocks : (index + 1) * self._blocks]
        fine, coarse = (torch.from_numpy(np.concatenate([u[k] for u in blocks], 1)) for k in ("fine", "coarse"))
        return fine, coarse


class AlongJob(_AlongPaths):
    """Controls of a classifier along the paths of :class:`PathJob`."""

    _in_checkpoint = "along"

    def _measured(self, number: int) -> Arrays:
        part, path = self._path(number)
        levels = torch.from_numpy(self._sigmas)[:, None].expand(-1, len(path[0]))
        log_q = [all_log_posteriors(self._model, y, s) for y, s in zip(path, levels, strict=True)]
        unit = {}
        for a in self._attributes:
            own = self._draws.labels[a.name][part]
            unit[a.name] = classifier_controls(a, torch.stack([q[a.name] for q in log_q]), own)
        return unit

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
    """Draws of one block of paths: few, so that ranks can share them and a level of all values takes some seconds.

    With the means of every value a block takes 300 MB at most.
    """
    widest, size = max((len(a.values) for a in attributes), default=1), int(np.prod(draws.v.shape[1:]))
    most = min(PATH_BYTES // (8 * size * (2 * widest + levels)), _PATHS, _OUTPUTS // widest)
    return int(np.clip(most, 1, len(draws)))


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
            if part or isinstance(job, RestoredTogether):
                job.restore(part)


def all_log_posteriors(model: Denoiser | HasAllPosteriors, y: Tensor, sigma: Tensor) -> Mapping[str, Tensor]:
    """ln p(a | y) of every attribute of a model that has posteriors."""
    with torch.no_grad():
        if isinstance(model, HasAllPosteriors):
            return {name: log_p.cpu() for name, log_p in model.all_log_posteriors(y, sigma).items()}
        if isinstance(model, HasPosterior):
            return {a.name: model.log_posterior(y, sigma, a.name).cpu() for a in model.attributes}
    raise InputError(f"a {type(model).__name__} has no posterior: use an exact denoiser")
