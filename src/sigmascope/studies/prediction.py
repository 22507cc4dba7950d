"""Cost and memory of a study, from its sizes alone, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sigmascope.analysis.onset import RESAMPLED_BYTES, RESAMPLES
from sigmascope.core import LabelledData
from sigmascope.data.memory import held_bytes
from sigmascope.exact.finite.kernel.threads import workers
from sigmascope.exact.finite.passes import tile_rows
from sigmascope.exact.finite.posterior import DOUBLE_COST, MEANS_ROWS
from sigmascope.information.gaps import GAPS
from sigmascope.information.jobs.levels import PATH_BYTES
from sigmascope.information.jobs.pairs import pair_memory
from sigmascope.information.jobs.passes import SKETCH_ITEMS, block_draws, directions_for
from sigmascope.studies.exact_law import chosen, levels_of
from sigmascope.studies.extras.exact import MOST_VALUES
from sigmascope.studies.spec import ExactSpec, HeldoutSpec, Spec

_LATER = 20_000_000  # what libraries load when they are first used
_COMPILER = 90_000_000  # of the passes over a finite set
_PAGE = 40_000_000  # figures while they are drawn
_OF_ATTRIBUTE = 50_000  # bytes of its curves and of what the page says of it
_OF_INTEGRALS = 96  # bytes of a pair of levels, in the weights of integrals over levels and the splines behind them


@dataclass(frozen=True)
class Cost:
    """Predicted cost of a study.

    Attributes:
        products: floating-point operations of the two products.
        means: at most so many more, in small products, for the posterior means of the gaps.
        exponentials: at most so many.
        more: bytes at the peak over all phases (the passes over the data, the estimates, the file, the page), beyond
            what the process holds already, the data among it.
        calls: of the denoiser of a hierarchy.
    """

    products: float
    means: float
    exponentials: float
    more: int
    calls: float = 0.0

    @property
    def memory(self) -> int:
        """Bytes at the peak, with what the process holds already."""
        now, most = held_bytes()
        return max(now + self.more, most)


@dataclass(frozen=True)
class _Sizes:
    """What the memory of a study follows from: counts of levels, draws, attributes and their values."""

    levels: int
    nodes: int
    draws: int
    count: int
    columns: int
    widest: int
    single: int  # values of attributes whose single values are studied
    estimators: int
    gaps: bool

    @classmethod
    def of(cls, data: Any, spec: Spec) -> _Sizes:
        values = [len(a.values) for a in chosen(data, spec.what.attributes)]
        heldout = isinstance(spec, HeldoutSpec)
        nodes = spec.sampling.levels if heldout else len(levels_of(data, spec)[0])
        single = 0 if heldout else sum(v for v in values if v <= MOST_VALUES)
        columns, widest, gaps = sum(values), max(values), bool(GAPS.keys() & set(spec.estimators))
        return cls(
            spec.sampling.levels,
            nodes,
            spec.sampling.draws,
            len(values),
            columns,
            widest,
            single,
            len(spec.estimators),
            gaps,
        )

    def stored(self) -> int:
        """Posteriors of all draws at all nodes and in the limit."""
        return 8 * (self.nodes + 1) * self.columns * self.draws

    def results(self) -> int:
        """Arrays over level and draw of a Dataset."""
        return 8 * self.levels * self.draws * (self.count * (self.estimators + 2) + 2)

    def resampling(self) -> int:
        """Counts of resamples as they are drawn and as they are used, and the splines through resampled curves."""
        splines = min(RESAMPLED_BYTES, 24 * 32 * RESAMPLES * self.levels)
        return 2 * min(RESAMPLED_BYTES, 8 * RESAMPLES * self.draws) + splines

    def estimates(self) -> int:
        """Curves and those of single values, beside the posteriors that they are read off and what that takes."""
        curves = 8 * self.levels * self.draws * (self.count * (2 * self.estimators + 2) + 2 * self.single)
        once = 4 * 8 * (self.nodes + 1) * self.widest * self.draws
        integrals = _OF_INTEGRALS * self.nodes**2 if self.gaps else 0
        return curves + max(once, integrals, self.resampling())

    def after(self) -> int:
        """The larger of writing the file (the results, and their bytes as they grow) and drawing the page."""
        return max(3 * self.results(), self.results() + max(_PAGE, self.resampling()))


def predict(data: Any, spec: Spec) -> Cost:
    """Cost and memory of a study, from its sizes alone."""
    s = _Sizes.of(data, spec)
    gaps = s.gaps
    told = s.columns * s.nodes * s.draws if "filter" in spec.estimators else 0  # means told a value, along the paths
    children = 32 * s.draws * spec.forks if isinstance(spec, ExactSpec) else 0
    if not isinstance(data, LabelledData):
        calls = s.draws * s.nodes * (2 + 2 * s.count * gaps) + told
        passes = s.stored() + 24 * s.draws * data.size * (1 + max(a.prior.numel() for a in data.attributes))
        work = passes + 8 * s.draws * s.nodes * s.count * 4 * gaps + 16 * told
        more = _LATER + max(work + max(s.estimates(), children), s.after())
        return Cost(0.0, 0.0, 0.0, more, float(calls))
    n, size = len(data), data.size
    base = _LATER + _OF_ATTRIBUTE * s.count + 8 * n * (2 * s.count + 2) + 16 * s.draws * size
    pairs = float(n) * s.draws
    if isinstance(spec, HeldoutSpec):
        classifiers = sum(j // 2 + 1 for j in range(spec.sampling.levels))  # as kernel_widths makes them
        tile = min(tile_rows(size, s.draws), n) * 4 * (3 * size + 6 * s.draws)
        passes = tile + 8 * classifiers * s.draws * (s.columns + 18)
        more = base + max(passes + s.estimates(), s.after())
        return Cost(4.0 * pairs * size, 0.0, pairs * classifiers, more)
    directions = min(sum(directions_for(data)), size) if gaps else 0
    block = block_draws(data, s.draws, s.nodes, gaps)
    passes = _passes(data, s, block, directions) + s.stored()
    sketching = 24 * min(n, SKETCH_ITEMS) * size if gaps or told else 0
    gathered = s.stored() + (48 * s.draws * s.nodes * s.count if gaps else 0)
    products, means, exponentials = 4.0 * pairs * size, pairs * s.nodes * directions * s.count, pairs * s.nodes
    if isinstance(spec, ExactSpec) and spec.pairs:  # a pass of their own
        products, exponentials = 2.0 * products, 2.0 * exponentials
        passes += pair_memory(data, chosen(data, spec.what.attributes), spec.sampling.levels, s.draws)
    if told:  # a product for every level, in float64 at half the speed, and the classes' sums
        along = min(sum(directions_for(data)), size)
        means += 4.0 * pairs * s.nodes * (size + along * s.count)
        exponentials *= 5
        passes += int(PATH_BYTES) + 16 * told
        gathered += 16 * told
    most = max(sketching, passes, gathered + max(s.estimates(), children), s.after())
    return Cost(products, means, exponentials, base + most)


def _passes(data: LabelledData, s: _Sizes, block: int, directions: int) -> int:
    """What a pass over the items holds for a block of draws: tiles, and sums with a copy of them for their logarithms.

    Where the products are few they are in float64, and not compiled.
    """
    n, size = len(data), data.size
    double = 2.0 * n * size * block < DOUBLE_COST
    each, few = (8, 1) if double else (4, 0)
    rows = min(tile_rows(size, block, MEANS_ROWS) if directions else tile_rows(size, block), n)
    per_row = size + 7 * block + directions + few * s.columns + (block + 2 * directions if directions else 0)
    tile = workers(torch.device("cpu")) * rows * (4 * size + each * per_row)
    sums = 24 * block * size + 24 * (s.nodes + 1) * s.columns * block
    if directions:
        sums += s.nodes * s.columns * block * 8 * (directions + 1) + 32 * s.draws * s.nodes * s.count
    return tile + sums + (0 if double else _COMPILER)
