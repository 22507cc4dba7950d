"""Number of operations and memory of a study, from its sizes alone, before it starts."""

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
from sigmascope.exact.finite.reals import rows_of, sums_of
from sigmascope.information.gaps import GAPS
from sigmascope.information.jobs.chains import attributes_of_chain, chain_memory
from sigmascope.information.jobs.levels import PATH_BYTES
from sigmascope.information.jobs.pairs import pair_memory
from sigmascope.information.jobs.passes import SKETCH_ITEMS, block_draws, directions_for
from sigmascope.studies.exact_law import chosen, chosen_reals, levels_of
from sigmascope.studies.extras.exact import MOST_VALUES
from sigmascope.studies.spec import ExactSpec, HeldoutSpec, Spec

_LIBRARIES, _COMPILER, _PAGE = 20_000_000, 90_000_000, 40_000_000  # loaded late; compiled passes; figures being drawn
_ATTRIBUTE = 50_000  # bytes of the curves of an attribute and of its part of the page
_INTEGRALS = 96  # bytes of a pair of levels: weights of integrals over levels, and the splines behind them


@dataclass(frozen=True)
class Cost:
    """Predicted cost of a study.

    Attributes:
        products: floating-point operations of the two matrix products.
        means: floating-point operations of the posterior means of the gaps, at most.
        exponentials: number of exponentials, at most.
        additional: bytes at the peak over all phases (passes over the data, estimates, file, page), beyond what the
            process holds already; the data are held already.
        calls: denoisings of a hierarchy; 0 for other data.
    """

    products: float
    means: float
    exponentials: float
    additional: int
    calls: float = 0.0

    @property
    def memory(self) -> int:
        """Bytes at the peak, including what the process holds already."""
        now, peak = held_bytes()
        return max(now + self.additional, peak)


@dataclass(frozen=True)
class _Sizes:
    """Counts that the memory of a study follows from."""

    levels: int
    nodes: int
    draws: int
    count: int  # of attributes
    columns: int  # values of all attributes together
    widest: int  # values of the attribute with most of them
    single: int  # values that are studied one by one
    estimators: int
    gaps: bool
    children: int  # bytes of the labels of children

    @property
    def stored(self) -> int:
        """Bytes of the posteriors of all draws at all nodes and in the limit."""
        return 8 * (self.nodes + 1) * self.columns * self.draws

    def peak(self, passes: int, gathered: int) -> int:
        """Bytes at the peak over passes, estimates, file and page.

        Args:
            passes: of the passes over the data.
            gathered: of what the estimates read.
        """
        splines = min(RESAMPLED_BYTES, 24 * 32 * RESAMPLES * self.levels)
        resampling = 2 * min(RESAMPLED_BYTES, 8 * RESAMPLES * self.draws) + splines
        cell = 8 * self.levels * self.draws
        results = cell * (self.count * (self.estimators + 2) + 2)
        curves = cell * (self.count * (2 * self.estimators + 2) + 2 * self.single)
        posterior = 4 * 8 * (self.nodes + 1) * self.widest * self.draws
        estimates = curves + max(posterior, _INTEGRALS * self.nodes**2 * self.gaps, resampling)
        writing = max(3 * results, results + max(_PAGE, resampling))
        return max(passes, gathered + max(estimates, self.children), writing)


def _sizes(data: Any, spec: Spec) -> _Sizes:
    values = [len(a.values) for a in chosen(data, spec.inputs.attributes)]
    single = sum(v for v in values if v <= MOST_VALUES)
    values += [sums_of(data, a) for a in chosen_reals(data, spec.inputs.attributes)]
    heldout, s = isinstance(spec, HeldoutSpec), spec.sampling
    return _Sizes(
        s.levels, s.levels if heldout else len(levels_of(data, spec)[0]), s.draws, len(values), sum(values),
        max(values), 0 if heldout else single, len(spec.estimators),
        bool(GAPS.keys() & set(spec.estimators)), 32 * s.draws * spec.forks if isinstance(spec, ExactSpec) else 0,
    )  # fmt: skip


def predict(data: Any, spec: Spec) -> Cost:
    """Operations and memory of a study, from its sizes alone."""
    s = _sizes(data, spec)
    along = s.columns * s.nodes * s.draws if "filter" in spec.estimators else 0  # conditional means along the paths
    if not isinstance(data, LabelledData):
        calls = s.draws * s.nodes * (2 + 2 * s.count * s.gaps) + along
        passes = s.stored + 24 * s.draws * data.size * (1 + max(a.prior.numel() for a in data.attributes))
        passes += 8 * s.draws * s.nodes * s.count * 4 * s.gaps + 16 * along
        return Cost(0.0, 0.0, 0.0, _LIBRARIES + s.peak(passes, passes), float(calls))
    n, size, pairs = len(data), data.size, float(len(data)) * s.draws
    base = _LIBRARIES + _ATTRIBUTE * s.count + 8 * n * (2 * s.count + 2) + 16 * s.draws * size
    if isinstance(spec, HeldoutSpec):
        classifiers = sum(j // 2 + 1 for j in range(spec.sampling.levels))  # as kernel_widths makes them
        tile = min(tile_rows(size, s.draws), n) * 4 * (3 * size + 6 * s.draws)
        passes = tile + 8 * classifiers * s.draws * (s.columns + 18)
        return Cost(4.0 * pairs * size, 0.0, pairs * classifiers, base + s.peak(passes, passes))
    directions = min(sum(directions_for(data)), size)
    used = directions if s.gaps else 0
    passes = _passes(data, s, used) + s.stored
    gathered = s.stored + (48 * s.draws * s.nodes * s.count if s.gaps else 0)
    products, means, exponentials = 4.0 * pairs * size, pairs * s.nodes * used * s.count, pairs * s.nodes
    if isinstance(spec, ExactSpec) and spec.pairs:  # a pass of their own
        products, exponentials = products + 4.0 * pairs * size, exponentials + pairs * s.nodes
        passes += pair_memory(data, chosen(data, spec.inputs.attributes), spec.sampling.levels, s.draws)
    if isinstance(spec, ExactSpec) and spec.chain:  # another one
        products, exponentials = products + 4.0 * pairs * size, exponentials + pairs * s.nodes
        chain = attributes_of_chain(chosen(data, spec.inputs.attributes), spec.chain)
        passes += chain_memory(data, chain, spec.sampling.levels, s.draws)
    if along:  # a product for every level, in float64 at half the speed, and the sums of the classes
        means += 4.0 * pairs * s.nodes * (size + directions * s.count)
        exponentials *= 5
        passes += int(PATH_BYTES) + 16 * along
        gathered += 16 * along
    sketching = 24 * min(n, SKETCH_ITEMS) * size if s.gaps or along else 0
    return Cost(products, means, exponentials, base + s.peak(max(sketching, passes), gathered))


def _passes(data: LabelledData, s: _Sizes, directions: int) -> int:
    """Bytes of a pass for a block of draws: tiles, and sums with a copy of them for their logarithms.

    Where the products are few they are in float64, and not compiled.
    """
    n, size, block = len(data), data.size, block_draws(data, s.draws, s.nodes, s.gaps)
    double = 2.0 * n * size * block < DOUBLE_COST
    number, mask = (8, 1) if double else (4, 0)
    rows = min(tile_rows(size, block, MEANS_ROWS) if directions else tile_rows(size, block), n)
    per_row = size + 7 * block + directions + mask * s.columns + (block + 2 * directions if directions else 0)
    tile = workers(torch.device("cpu")) * rows * (4 * size + number * per_row)
    tile += 16 * workers(torch.device("cpu")) * rows * block * sum(rows_of(a) for a in data.reals)
    sums = 24 * block * size + 24 * (s.nodes + 1) * s.columns * block
    if directions:
        sums += s.nodes * s.columns * block * 8 * (directions + 1) + 32 * s.draws * s.nodes * s.count
    return tile + sums + (0 if double else _COMPILER)
