"""How long a study takes: a little of each part of its work is done on the spot, timed, and multiplied."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float

import sigmascope.distributed as distributed
from sigmascope.analysis.onset import RESAMPLES, RESAMPLES_OF_ADVICE, counts_of, onsets
from sigmascope.core import Attribute, Curve, Denoiser, Draws, LabelledData
from sigmascope.data import draw_items
from sigmascope.data.arrays import ArraySource
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.heldout import HeldOutPass
from sigmascope.exact.finite.kernel.threads import workers
from sigmascope.exact.finite.passes import tile_rows
from sigmascope.exact.finite.path import ROWS, PathPass
from sigmascope.exact.finite.posterior import DOUBLE_COST, MEANS_ROWS, PosteriorPass
from sigmascope.exact.finite.sketch import Sketch
from sigmascope.information.gaps import GAPS
from sigmascope.information.jobs.levels import LevelJob, PathJob, path_block, paths_of
from sigmascope.information.jobs.pairs import of_pairs, pair_block
from sigmascope.information.jobs.passes import Pass, block_draws, harvested, sketch_of
from sigmascope.information.laws import FEW_VALUES
from sigmascope.noise import integral_coarse, integral_from_the_top, sigma_grid
from sigmascope.report.figures import curves_figure
from sigmascope.report.gallery import rendered
from sigmascope.studies.advice_of import MOST
from sigmascope.studies.exact_law import chosen, draws_of, levels_of
from sigmascope.studies.extras.exact import MOST_VALUES, VALUE_RESAMPLES
from sigmascope.studies.spec import ExactSpec, HeldoutSpec, Spec

_LEVELS, _FEW_LEVELS = 64, 8  # of a sample, and where their sums are large
_FEW_DRAWS = 64  # likewise
_SUMS_BYTES = 6e8  # of a sample's sums
_INTEGRATED = 512  # levels of the sample of an integral
_COUNTED = 200_000  # draws of resamples in a sample
_LONG = 1.0  # seconds, above which a sample is not taken twice
_OF_CELL = 12  # exponentials that take as long as the estimates of a draw, level and value
_OF_CHILD = 8  # likewise of a child
_OF_ADVICE = 2  # curves of an attribute that take as long as its advice, which resamples three and has no peaks
# Figures of the page, in units of the one that is timed: each, the panels of an attribute's values, the figures that
# compare estimators, these by estimator and by attribute, and what else is drawn of an attribute.
_EACH, _VALUES, _COMPARED, _OTHER, _PANELS, _ATTRIBUTE = 0.55, 0.64, 1.2, 0.7, 0.4, 0.08
_MOST_DRAWN = 40  # attributes of a figure
_WRITTEN = 3e-9  # seconds for each byte of the results
T = TypeVar("T")


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds of a call and what it returns: of the processor where one thread works, so that other work is no part."""
    device = torch.cuda.is_initialized()
    clock = time.process_time if torch.get_num_threads() == 1 and not device else time.perf_counter
    if device:
        torch.cuda.synchronize()
    start = clock()
    found = call()
    if device:
        torch.cuda.synchronize()
    return clock() - start, found


def _short(seconds: float) -> bool:
    """Whether a sample is short enough to be taken twice; all ranks agree, as they take it together."""
    return all(distributed.gathered(seconds < _LONG))


def _warm(sample: Callable[[], float]) -> float:
    """A sample, taken a second time where it is short: the first one loads what it needs."""
    first = sample()
    return min(first, sample()) if _short(first) else first


@dataclass(frozen=True)
class _Study:
    """What the time of a study follows from, beside its data."""

    spec: Spec
    device: torch.device
    nodes: Float[np.ndarray, " nodes"]
    attributes: Sequence[Attribute]

    @property
    def gaps(self) -> bool:
        return bool(GAPS.keys() & set(self.spec.estimators))

    @property
    def along(self) -> bool:
        return "filter" in self.spec.estimators


def _spread(levels: np.ndarray, most: int = _LEVELS) -> np.ndarray:
    """Some levels, all over the range."""
    return levels[:: -(-len(levels) // most)]


def seconds_of(data: Any, denoiser: Denoiser, spec: Spec, device: torch.device) -> float:
    """Time of a study, from samples of its work that are done and timed now; every rank must ask.

    Args:
        data: its data.
        denoiser: their exact filter.
        spec: filled in.
        device: where it would run.

    Cost: one tile of items and one block of draws, and a figure: a second or two, as a rule.
    """
    heldout = isinstance(spec, HeldoutSpec)
    grid = sigma_grid(spec.sampling.sigma_max, spec.sampling.sigma_min, spec.sampling.levels)
    finding, nodes = (0.0, grid) if heldout else _timed(lambda: levels_of(data, spec)[0])
    study = _Study(spec, device, nodes, chosen(data, spec.what.attributes))
    if not isinstance(data, LabelledData):
        work = _by_levels(data, denoiser, study)
    elif heldout:
        work = _heldout(data, study)
    else:
        work = _finite(data, study)
    return finding + work + _drawing(data, spec) + _estimates(study) + _resampling(study) + _page(data, study)


def _drawing(data: Any, spec: Spec) -> float:
    few = min(spec.sampling.draws, _FEW_DRAWS)
    return _warm(lambda: _timed(lambda: draws_of(data, few, spec.sampling.seed))[0]) * spec.sampling.draws / few


def _by_levels(data: Any, denoiser: Denoiser, study: _Study) -> float:
    """A level of some draws, and the paths of these for one attribute."""
    spec, few = study.spec, min(study.spec.sampling.draws, _FEW_DRAWS)
    draws = draws_of(data, few, spec.sampling.seed)
    average = max(len(a.values) for a in study.attributes) <= FEW_VALUES
    share = spec.sampling.draws / few / distributed.world()

    def level() -> float:
        return _timed(LevelJob(denoiser, draws, study.nodes, study.attributes, study.gaps, average).step)[0]

    seconds = _warm(level) * len(study.nodes)
    if study.along:
        some = study.nodes[:: max(len(study.nodes) // 8, 1)]
        paths = PathJob(denoiser, draws, some, study.attributes[:1], spec.sampling.seed)
        seconds += _timed(paths.step)[0] * paths.total * len(study.nodes) / len(some) * len(study.attributes)
    return seconds * share


def _some(data: LabelledData, rows: int) -> LabelledData:
    """Some items of the data, next to one another as they are there."""
    possible = torch.nonzero(data.weights)[:, 0]
    start = max(len(possible) - rows, 0) // 2
    items = possible[start : start + rows]
    values, weights = data.source.take(items).flatten(1).numpy(), data.weights[items]
    labels = {n: label[items] for n, label in data.labels.items()}
    return replace(data, source=ArraySource(values), labels=labels, weights=weights / weights.sum())


def _run(sample: Pass | HeldOutPass) -> float:
    def steps() -> None:
        while not sample.done:
            sample.step()

    return _timed(steps)[0]


def _over(
    data: LabelledData,
    device: torch.device,
    draws: int,
    block: int,
    rows: int,
    sample: Callable[[], tuple[float, float]],
) -> float:
    """Time of passes over all items for all draws.

    Args:
        device: where they run.
        block: draws of a pass.
        rows: items of a tile.
        sample: times a pass over one tile for each rank: its ends, and the tile.
    """
    ends, tile = sample()
    if _short(ends + tile):
        ends, tile = min((ends, tile), sample(), key=sum)
    tiles = -(-len(data) // (rows * distributed.world()))
    mine = distributed.rows(len(data))
    reading = _warm(lambda: _timed(lambda: data.source.read(mine.start, min(mine.start + rows, mine.stop)))[0])
    together = min(workers(device), tiles)
    return -(-draws // block) * tiles * reading + draws / block * (ends + tile * tiles / together)


def _finite(data: LabelledData, study: _Study) -> float:
    """Passes for the posteriors and gaps, along paths, and of pairs."""
    spec = study.spec
    seconds, sketch = 0.0, None
    if study.gaps or study.along:
        seconds, sketch = _timed(lambda: sketch_of(data, spec.sampling.seed))
    block = block_draws(data, spec.sampling.draws, len(study.nodes), study.gaps)
    seconds += _posteriors(data, study, study.nodes, block, sketch if study.gaps else None)
    if study.along and sketch is not None:
        seconds += _paths(data, study, sketch)
    if isinstance(spec, ExactSpec) and spec.pairs:
        took, joint = _timed(lambda: of_pairs(data, study.attributes))
        columns = sum(len(a.values) for a in joint.attributes)
        levels = sigma_grid(spec.sampling.sigma_max, spec.sampling.sigma_min, spec.sampling.levels)
        block = pair_block(columns, spec.sampling.levels, spec.sampling.draws)
        seconds += took + _posteriors(joint, study, levels, block, None)
    return seconds


def _posteriors(data: LabelledData, study: _Study, nodes: np.ndarray, block: int, sketch: Sketch | None) -> float:
    each = 16 * sum(len(a.values) for a in data.attributes)  # bytes of a level and draw
    each *= 1 if sketch is None else sketch.directions.shape[1] + 1
    some_levels = _spread(nodes, int(np.clip(_SUMS_BYTES // (each * block), _FEW_LEVELS, _LEVELS)))
    few = int(np.clip(_SUMS_BYTES // (each * len(some_levels)), min(2, block), block))
    rows = tile_rows(data.size, block) if sketch is None else tile_rows(data.size, block, MEANS_ROWS)
    rows = min(rows, len(data))
    some = _some(data, rows * distributed.world())
    denoiser, draws = FiniteDenoiser(some, study.device), draw_items(some, few, study.spec.sampling.seed)
    double = 2.0 * len(data) * data.size * block < DOUBLE_COST
    dtype = torch.float64 if double else torch.float32

    def sample() -> tuple[float, float]:
        apart = None if sketch is None else sketch.of_draws(few)
        start, made = _timed(lambda: PosteriorPass(denoiser, draws, some_levels, dtype, apart))
        tile = _run(made)
        return start + _timed(lambda: harvested(made, sketch is not None))[0], tile

    return (
        _over(data, study.device, study.spec.sampling.draws, block, rows, sample)
        * block
        / few
        * len(nodes)
        / len(some_levels)
    )


def _paths(data: LabelledData, study: _Study, sketch: Sketch) -> float:
    some_levels = _spread(study.nodes)
    block = path_block(data, len(study.nodes), sketch.directions.shape[1], study.spec.sampling.draws)
    few = min(block, _FEW_DRAWS)
    some = _some(data, min(ROWS, len(data)) * distributed.world())
    denoiser, draws = FiniteDenoiser(some, study.device), draw_items(some, max(few, 2), study.spec.sampling.seed)

    def sample() -> tuple[float, float]:
        def begun() -> PathPass:
            path = paths_of(draws.v, 0, some_levels, study.spec.sampling.seed)
            return PathPass(denoiser, draws.items, path, some_levels, sketch)

        start, made = _timed(begun)
        tile = _run(made)
        return start + _timed(made.log_q)[0], tile

    share = block / len(draws) * len(study.nodes) / len(some_levels)
    return _over(data, study.device, study.spec.sampling.draws, block, min(ROWS, len(data)), sample) * share


def _heldout(data: LabelledData, study: _Study) -> float:
    spec = study.spec
    rows = min(tile_rows(data.size, spec.sampling.draws), len(data))
    some = _some(data, rows * distributed.world())
    left = {a.name: torch.bincount(some.labels[a.name][1:], minlength=len(a.values)) for a in data.attributes}
    priors = tuple(replace(a, prior=left[a.name].double() / left[a.name].sum()) for a in data.attributes)
    denoiser = FiniteDenoiser(replace(some, attributes=priors), study.device)
    few = min(spec.sampling.draws, 4 * _FEW_DRAWS)
    drawn = draws_of(data, few, spec.sampling.seed)
    draws = Draws(torch.zeros_like(drawn.items), drawn.v, drawn.noise)  # which holds one item out
    levels = _spread(study.nodes)

    def sample() -> tuple[float, float]:
        start, made = _timed(lambda: HeldOutPass(denoiser, draws, levels))
        return start, _run(made)

    share = (len(study.nodes) / len(levels)) ** 2  # of classifiers there is one for every second pair of levels
    seconds = _over(data, study.device, spec.sampling.draws, spec.sampling.draws, rows, sample)
    return seconds * spec.sampling.draws / few * share


def _estimates(study: _Study) -> float:
    """Entropies, probabilities and children, from the speed of an exponential."""
    spec, x = study.spec, torch.rand(1 << 18, dtype=torch.float64)
    each = _warm(lambda: _timed(lambda: x.exp())[0]) / len(x)
    cells = len(study.nodes) * spec.sampling.draws * sum(len(a.values) for a in study.attributes)
    forks = spec.forks if isinstance(spec, ExactSpec) else 0
    children = spec.sampling.levels * spec.sampling.draws * forks * len(study.attributes)
    return each * (_OF_CELL * cells + _OF_CHILD * children) + _integrals(study)


def _integrals(study: _Study) -> float:
    """Weights of the integrals of gaps, which grow as the square of the levels; once on all, once on half of them."""
    curves = len(study.attributes) * sum(e in GAPS for e in study.spec.estimators)
    if not curves:
        return 0.0
    some = _spread(study.nodes, _INTEGRATED)
    took = _warm(lambda: _timed(lambda: (integral_from_the_top(some), integral_coarse(some)))[0])
    return curves * took * (len(study.nodes) / len(some)) ** 2


def _single(study: _Study) -> list[int]:
    """How many values each attribute has whose single values are studied."""
    if isinstance(study.spec, HeldoutSpec) or "posterior" not in study.spec.estimators:
        return []
    return [len(a.values) for a in study.attributes if len(a.values) <= MOST_VALUES]


def _curve(name: str, sigma: np.ndarray, draws: int = 16) -> Curve:
    """A curve like those of a study."""
    x = np.linspace(-4.0, 4.0, len(sigma))[:, None]
    return Curve.of_draws(
        name, "posterior", sigma, 1.0 / (1.0 + np.exp(np.random.default_rng(0).normal(0, 1, draws) - x)), 1.0
    )


def _resampling(study: _Study) -> float:
    """Of the table of onsets, and of that of single values: counts of draws, means, and curves through these."""
    spec, rng = study.spec, np.random.default_rng(0)
    draws = min(spec.sampling.draws, _COUNTED)
    times = max(_COUNTED // draws, 1)

    def count() -> np.ndarray:
        return counts_of(rng, draws, times)

    counts = count()
    counting = _warm(lambda: _timed(count)[0])
    levels = min(spec.sampling.levels, _FEW_LEVELS)
    values = rng.normal(size=(levels, draws))
    product = _warm(lambda: _timed(lambda: counts @ values.T)[0])
    scale = spec.sampling.draws / draws / times
    curve = _curve("a", sigma_grid(spec.sampling.sigma_max, spec.sampling.sigma_min, spec.sampling.levels))
    some = int(np.clip(200_000 // spec.sampling.levels, 40, 400))
    few = max(some // 8, 4)
    short, long = (_warm(lambda r=r: _timed(lambda: onsets([curve], resamples=r))[0]) for r in (few, some))  # type: ignore[misc]
    each = max(long - short, 0.0) / (some - few)
    single = _single(study)
    tables = len(study.attributes) + 2 * sum(bool(a.parts) for a in study.attributes)
    advised = _OF_ADVICE * RESAMPLES_OF_ADVICE * min(len(study.attributes), MOST)
    curves = RESAMPLES * tables + VALUE_RESAMPLES * sum(single)
    counted = (RESAMPLES + VALUE_RESAMPLES * len(single)) * counting * scale
    once = max(short - few * each, 0.0) * (tables + sum(single))
    return counted + once + advised * each + curves * (each + product * scale * spec.sampling.levels / levels)


def _page(data: Any, study: _Study) -> float:
    """Its figures, from the time of a small one, and the file of results."""
    spec = study.spec
    sigma = sigma_grid(spec.sampling.sigma_max, spec.sampling.sigma_min, min(spec.sampling.levels, _LEVELS))
    curves = [_curve(name, sigma) for name in "abc"]

    def drawn() -> float:
        return _timed(lambda: [rendered(curves_figure(curves), kind) for kind in ("svg", "png")])[0]

    drawn()
    one = min(drawn(), drawn())
    attributes, single = min(len(study.attributes), _MOST_DRAWN), min(len(_single(study)), _MOST_DRAWN)
    others = len(spec.estimators) - 1
    plain = 3 + (isinstance(data, LabelledData) and not isinstance(spec, HeldoutSpec)) + isinstance(data, Hierarchy)
    plain += any(a.parts for a in study.attributes) + 2 * (isinstance(spec, ExactSpec) and spec.pairs)
    units = _EACH * plain + _VALUES * single + _ATTRIBUTE * attributes
    units += _COMPARED + _OTHER * others + _PANELS * attributes if others else 0.0
    stored = 8.0 * spec.sampling.levels * spec.sampling.draws * (len(study.attributes) * (len(spec.estimators) + 2) + 2)
    return one * units + _WRITTEN * stored
