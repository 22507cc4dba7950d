"""How long a study takes: a small sample of each part of it is run and timed, and extrapolated to the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float

import sigmascope.distributed as distributed
from sigmascope.analysis.onset import RESAMPLES, RESAMPLES_OF_ADVICE, onsets
from sigmascope.core import Attribute, Curve, Denoiser, Draws, LabelledData
from sigmascope.data import draw_items, noisy_numbers
from sigmascope.data.arrays import ArraySource
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.heldout import HeldOutPass
from sigmascope.exact.finite.kernel.threads import workers
from sigmascope.exact.finite.passes import tile_rows
from sigmascope.exact.finite.path import ROWS, PathPass
from sigmascope.exact.finite.posterior import DOUBLE_COST, MEANS_ROWS, PosteriorPass
from sigmascope.exact.finite.reals import sums_of
from sigmascope.exact.finite.sketch import Sketch
from sigmascope.information.gaps import GAPS
from sigmascope.information.jobs.levels import LevelJob, PathJob, path_block, paths_of
from sigmascope.information.jobs.pairs import joint_data, pair_block
from sigmascope.information.jobs.passes import Pass, block_draws, harvested, sketch_of
from sigmascope.information.laws import FEW_VALUES
from sigmascope.noise import integral_coarse, integral_from_the_top, sigma_grid
from sigmascope.report.figures import curves_figure
from sigmascope.report.gallery import rendered
from sigmascope.studies.advice_of import MOST_ON_PAGE
from sigmascope.studies.exact_law import chosen, draws_of, levels_of
from sigmascope.studies.extras.exact import MOST_VALUES, VALUE_RESAMPLES
from sigmascope.studies.spec import ExactSpec, HeldoutSpec, Spec

_LEVELS, _DRAWS = 64, 64  # of a sample, at most
_SUMS_BYTES = 6e8  # of the sums of a sample
_INTEGRATED = 512  # levels of the sample of an integral
_RESAMPLED = 200_000  # numbers of the sample of resampled curves
_EXPONENTIALS = 12  # that take as long as the estimates of one draw, level and value
_ADVICE = 2  # curves that take as long to resample as the advice on one attribute
_FIGURE, _PANEL, _PANELS = 0.62, 0.4, 40  # a figure of the page, one of its panels (in curve figures), and most panels
T = TypeVar("T")


@dataclass(frozen=True)
class _Study:
    """The sizes and settings that decide the time of a study."""

    data: Any
    denoiser: Denoiser
    spec: Spec
    device: torch.device
    nodes: Float[np.ndarray, " nodes"]
    attributes: Sequence[Attribute]

    @property
    def gaps(self) -> int:
        """How many estimators integrate gaps."""
        return sum(e in GAPS for e in self.spec.estimators)

    @property
    def levels(self) -> Float[np.ndarray, " levels"]:
        s = self.spec.sampling
        return sigma_grid(s.sigma_max, s.sigma_min, s.levels)

    @property
    def counted(self) -> list[int]:
        """The number of values of each attribute whose single values are studied."""
        if isinstance(self.spec, HeldoutSpec) or "posterior" not in self.spec.estimators:
            return []
        return [len(a.values) for a in self.attributes if len(a.values) <= MOST_VALUES]


def seconds_of(data: Any, denoiser: Denoiser, spec: Spec, device: torch.device) -> float:
    """Time of a study, from samples of its parts that are run and timed now; every rank must call it.

    Args:
        data: its data.
        denoiser: their exact filter.
        spec: the study, with all options filled in.
        device: where it would run.

    Cost: one tile of items for one block of draws, and a figure, each twice: a few seconds, as a rule.
    """
    heldout = isinstance(spec, HeldoutSpec)
    seconds, nodes = (0.0, np.empty(0)) if heldout else _timed(lambda: levels_of(data, spec)[0])
    study = _Study(data, denoiser, spec, device, nodes, chosen(data, spec.inputs.attributes))
    if heldout:
        study = replace(study, nodes=study.levels)
    part = _heldout if heldout else _finite if isinstance(data, LabelledData) else _by_levels
    draws, few = spec.sampling.draws, min(spec.sampling.draws, _DRAWS)
    seconds += _twice(lambda: draws_of(data, few, spec.sampling.seed)) * draws / few
    return seconds + part(study) + _estimates(study) + _resampling(study) + _page(study)


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds of a call and what it returns; processor time where one thread works, without other load."""
    device = torch.cuda.is_available()
    clock = time.process_time if torch.get_num_threads() == 1 and not device else time.perf_counter
    if device:
        torch.cuda.synchronize()
    start = clock()
    result = call()
    if device:
        torch.cuda.synchronize()
    return clock() - start, result


def _twice(call: Callable[[], object]) -> float:
    """Seconds of a call: the shorter of two, since the first one loads libraries."""
    return min(_timed(call)[0] for _ in range(2))


def _spread(levels: np.ndarray, most: int = _LEVELS) -> np.ndarray:
    """Some levels, over the whole range."""
    return levels[:: -(-len(levels) // most)]


def _by_levels(study: _Study) -> float:
    """A level of some draws, and the paths of these for one attribute."""
    seed, count = study.spec.sampling.seed, study.spec.sampling.draws
    draws = draws_of(study.data, min(count, _DRAWS), seed)
    average = max(len(a.values) for a in study.attributes) <= FEW_VALUES

    def level() -> None:
        LevelJob(study.denoiser, draws, study.nodes, study.attributes, bool(study.gaps), average).step()

    seconds = _twice(level) * len(study.nodes)
    if "filter" in study.spec.estimators:
        some = _spread(study.nodes, 8)
        paths = PathJob(study.denoiser, draws, some, study.attributes[:1], seed)
        seconds += _timed(paths.step)[0] * paths.total * len(study.nodes) / len(some) * len(study.attributes)
    return seconds * count / len(draws) / distributed.world()


def _sample(data: LabelledData, rows: int, device: torch.device) -> FiniteDenoiser:
    """The exact filter of a tile of the data for each rank: items next to one another."""
    possible = torch.nonzero(data.weights)[:, 0]
    rows *= distributed.world()
    start = max(len(possible) - rows, 0) // 2
    items = possible[start : start + rows]
    values, weights = data.source.take(items).flatten(1).numpy(), data.weights[items]
    labels, numbers = ({n: x[items] for n, x in each.items()} for each in (data.labels, data.numbers))
    source = ArraySource(values)
    some = replace(data, source=source, labels=labels, numbers=numbers, weights=weights / weights.sum())
    return FiniteDenoiser(some, device)


def _passes(
    study: _Study, block: int, rows: int, begin: Callable[[], Pass | HeldOutPass], end: Callable[[Any], object]
) -> float:
    """Time of passes over all items for all draws."""

    def steps(made: Pass | HeldOutPass) -> None:
        while not made.done:
            made.step()

    def sample() -> tuple[float, float]:
        start, made = _timed(begin)
        tile = _timed(lambda: steps(made))[0]
        return start + _timed(lambda: end(made))[0], tile

    ends, tile = min((sample(), sample()), key=sum)
    items, draws = distributed.rows(len(study.data)), study.spec.sampling.draws
    reading = _twice(lambda: study.data.source.read(items.start, min(items.start + rows, items.stop)))
    tiles = -(-len(study.data) // (rows * distributed.world()))
    parallel = min(workers(study.device), tiles)
    return -(-draws // block) * tiles * reading + draws / block * (ends + tile * tiles / parallel)


def _finite(study: _Study) -> float:
    """Passes for the posteriors and gaps, along paths, and of pairs."""
    data, spec, sketch = study.data, study.spec, None
    seconds, along, s = 0.0, "filter" in spec.estimators, spec.sampling
    if study.gaps or along:
        seconds, sketch = _timed(lambda: sketch_of(data, s.seed))
    block = block_draws(data, s.draws, len(study.nodes), bool(study.gaps))
    seconds += _posteriors(study, study.nodes, block, sketch if study.gaps else None)
    if study.gaps and data.reals:  # a pass of their own
        alone = replace(study, data=replace(data, attributes=(), labels={}))
        seconds += _posteriors(alone, study.levels, block_draws(data, s.draws, s.levels, False), None)
    if along and sketch is not None:
        seconds += _paths(study, sketch)
    if isinstance(spec, ExactSpec) and spec.pairs:
        took, joint = _timed(lambda: joint_data(data, study.attributes))
        block = pair_block(sum(len(a.values) for a in joint.attributes), s.levels, s.draws)
        seconds += took + _posteriors(replace(study, data=joint), study.levels, block, None)
    return seconds


def _posteriors(study: _Study, nodes: np.ndarray, block: int, sketch: Sketch | None) -> float:
    data = study.data
    columns = sum(len(a.values) for a in data.attributes)
    columns += 0 if sketch is not None else sum(sums_of(data, a) for a in data.reals)
    each = 16 * columns  # bytes of a level and draw
    each *= 1 if sketch is None else sketch.directions.shape[1] + 1
    levels = _spread(nodes, int(np.clip(_SUMS_BYTES // (each * block), 8, _LEVELS)))
    few = int(np.clip(_SUMS_BYTES // (each * len(levels)), min(2, block), block))
    rows = min(tile_rows(data.size, block) if sketch is None else tile_rows(data.size, block, MEANS_ROWS), len(data))
    denoiser = _sample(data, rows, study.device)
    draws = draw_items(denoiser.data, few, study.spec.sampling.seed)
    dtype = torch.float64 if 2.0 * len(data) * data.size * block < DOUBLE_COST else torch.float32

    def begin() -> PosteriorPass:
        if sketch is not None:
            return PosteriorPass(denoiser, draws, levels, dtype, sketch.of_draws(few))
        noisy = noisy_numbers(denoiser.data, draws.items, study.spec.sampling.seed)
        return PosteriorPass(denoiser, draws, levels, dtype, noisy=noisy)

    seconds = _passes(study, block, rows, begin, lambda made: harvested(made, sketch is not None))
    return seconds * block / few * len(nodes) / len(levels)


def _paths(study: _Study, sketch: Sketch) -> float:
    levels, s = _spread(study.nodes), study.spec.sampling
    block = path_block(study.data, len(study.nodes), sketch.directions.shape[1], s.draws)
    rows = min(ROWS, len(study.data))
    denoiser = _sample(study.data, rows, study.device)
    draws = draw_items(denoiser.data, max(min(block, _DRAWS), 2), s.seed)

    def begin() -> PathPass:
        return PathPass(denoiser, draws.items, paths_of(draws.v, 0, levels, s.seed), levels, sketch)

    seconds = _passes(study, block, rows, begin, PathPass.log_q)
    return seconds * block / len(draws) * len(study.nodes) / len(levels)


def _heldout(study: _Study) -> float:
    s, levels, some = study.spec.sampling, study.levels, _spread(study.levels)
    rows, few = min(tile_rows(study.data.size, s.draws), len(study.data)), min(s.draws, 4 * _DRAWS)
    tile = _sample(study.data, rows, study.device).data
    left = {a.name: torch.bincount(tile.labels[a.name][1:], minlength=len(a.values)).double() for a in tile.attributes}
    priors = tuple(replace(a, prior=left[a.name] / left[a.name].sum()) for a in tile.attributes)
    denoiser = FiniteDenoiser(replace(tile, attributes=priors), study.device)
    drawn = draws_of(study.data, few, s.seed)
    draws = Draws(torch.zeros_like(drawn.items), drawn.v, drawn.noise)  # the first item is held out
    seconds = _passes(study, s.draws, rows, lambda: HeldOutPass(denoiser, draws, some), lambda made: None)
    return seconds * s.draws / few * (len(levels) / len(some)) ** 2  # a classifier for every second pair of levels


def _estimates(study: _Study) -> float:
    """Entropies, probabilities and children, from the time of an exponential; and the weights of integrals of gaps."""
    spec, x = study.spec, torch.rand(1 << 18, dtype=torch.float64)
    children = spec.forks if isinstance(spec, ExactSpec) else 0
    cells = len(study.nodes) * sum(len(a.values) for a in study.attributes)
    cells = spec.sampling.draws * (cells + spec.sampling.levels * children * len(study.attributes))
    seconds = _EXPONENTIALS * cells * _twice(x.exp) / len(x)
    if study.gaps:  # the time of the weights grows with the square of the levels
        some = _spread(study.nodes, _INTEGRATED)
        took = _twice(lambda: (integral_from_the_top(some), integral_coarse(some)))
        seconds += len(study.attributes) * study.gaps * took * (len(study.nodes) / len(some)) ** 2
    return seconds


def _curves(sigma: np.ndarray, draws: int) -> list[Curve]:
    """Curves like those of a study."""
    x, rng = np.linspace(-4.0, 4.0, len(sigma))[:, None], np.random.default_rng(0)
    return [
        Curve.of_draws(name, "posterior", sigma, 1.0 / (1.0 + np.exp(rng.normal(0, 1, draws) - x)), 1.0)
        for name in "abc"
    ]


def _resampling(study: _Study) -> float:
    """Resampling for the tables of onsets and of single values, and for advice."""
    s, count = study.spec.sampling, len(study.attributes)
    draws = min(s.draws, _RESAMPLED)
    few = int(np.clip(_RESAMPLED // max(draws, 32 * s.levels), 16, 100))
    curves = _curves(study.levels, draws)
    short, long = (_twice(lambda n=n: onsets(curves, resamples=n)) / len(curves) for n in (few, 4 * few))  # type: ignore[misc]
    each = max(long - short, 0.0) / (3 * few)  # a resample of a curve
    tables = count + 2 * sum(bool(a.parts) for a in study.attributes)
    resamples = RESAMPLES * tables + VALUE_RESAMPLES * sum(study.counted)
    resamples += _ADVICE * RESAMPLES_OF_ADVICE * min(count, MOST_ON_PAGE)
    once = max(short - few * each, 0.0) * (tables + sum(study.counted))
    return (resamples * each + once) * s.draws / draws


def _page(study: _Study) -> float:
    """The figures of the page, from the time of a small one."""
    curves = _curves(_spread(study.levels), 16)
    figure = _twice(lambda: [rendered(curves_figure(curves), kind) for kind in ("svg", "png")])
    others, panels = len(study.spec.estimators) - 1, min(len(study.attributes), _PANELS)
    figures = 4 + min(len(study.counted), _PANELS) + 2 * (isinstance(study.spec, ExactSpec) and study.spec.pairs)
    compared = 2 + others + _PANEL / _FIGURE * panels if others else 0
    return figure * _FIGURE * (figures + compared)
