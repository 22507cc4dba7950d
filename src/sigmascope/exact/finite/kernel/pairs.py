"""Lists of pairs (row, item): those with a large score, their products, their differences; compiled where possible."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.exact.common import blocks
from sigmascope.exact.finite.kernel.projection_bounds import BLOCK
from sigmascope.exact.finite.kernel.threads import compiled_module, in_threads, workers

T = TypeVar("T")
Index: TypeAlias = Int64[Tensor, " pairs"]
Numbers: TypeAlias = Float[Tensor, " pairs"]
_CHUNK = 1 << 20  # numbers gathered at a time


def compiler() -> ModuleType | None:
    """The compiled loops, or None where numba cannot be used."""
    return compiled_module("pair_loops")


def scores_above(
    scores: Float[Tensor, "tiles rows blocks block"],
    peaks: Float[Tensor, "tiles rows blocks"],
    least: Float[Tensor, " rows"],
    limit: int,
    compiled: ModuleType | None,
) -> tuple[Index, Index, Int64[Tensor, " rows"]]:
    """Row and item of every score above ``least``, row by row, and their number in each row.

    In rows with more than ``limit`` they are counted but not listed.
    """
    if compiled is None:
        row, tile, block = torch.nonzero(peaks.transpose(0, 1) > least[:, None, None], as_tuple=True)
        parts = scores[tile, row, block] > least[row, None]
        count = torch.zeros(len(least), dtype=torch.int64).index_add_(0, row, parts.sum(1))
        kept = torch.nonzero(count[row] <= limit)[:, 0]
        place, inside = torch.nonzero(parts[kept], as_tuple=True)
        place = kept[place]
        return row[place], (tile[place] * scores.shape[2] + block[place]) * BLOCK + inside, count
    count = torch.zeros(len(least), dtype=torch.int64)
    arrays = scores.numpy(), peaks.numpy(), least.numpy()

    def find(rows: slice) -> Tensor:
        compiled.count_above(*arrays, rows.start, rows.stop, count.numpy())
        counts = count[rows]
        items = torch.empty(int(counts[counts <= limit].sum()), dtype=torch.int64)
        compiled.list_above(*arrays, limit, rows.start, rows.stop, count.numpy(), items.numpy())
        return items

    items = torch.cat(by_parts(find, len(least)))
    row = torch.arange(len(least)).repeat_interleave(torch.where(count <= limit, count, 0))
    return row, items, count


def products(
    stored: Float[Tensor, "items runs run"],
    item: Index,
    queries: Float[Tensor, "rows runs run"],
    row: Index,
    compiled: ModuleType | None,
) -> Numbers:
    """Inner products, summed in float32 within runs and in float64 over runs."""
    out = torch.empty(len(item), dtype=torch.float64)
    if compiled is None:
        for part in blocks(len(item), stored[0].numel(), _CHUNK):
            out[part] = stored[item[part]].mul_(queries[row[part]]).sum(2).double().sum(1)
        return out
    arrays = stored.numpy(), queries.numpy()
    order = item.argsort()  # reads memory in order, and an item that rows share once
    item, row = item[order], row[order]

    def fill(part: slice) -> None:
        compiled.products(arrays[0], item[part].numpy(), arrays[1], row[part].numpy(), out[part].numpy())

    by_parts(fill, len(item))
    return torch.empty_like(out).scatter_(0, order, out)


def differences(
    values: Float[Tensor, "pairs size"],
    anchors: Float[Tensor, "rows size"],
    queries: Float[Tensor, "rows size"],
    row: Index,
    compiled: ModuleType | None,
) -> tuple[Numbers, Numbers]:
    """Products of values less anchors with ``queries``, and their squared norms, float64."""
    along = torch.empty(len(row), dtype=torch.float64)
    square = torch.empty_like(along)
    if compiled is None:
        for part in blocks(len(row), values.shape[1], _CHUNK):
            difference = values[part].double() - anchors[row[part]]
            along[part] = (difference * queries[row[part]]).sum(1)
            square[part] = (difference**2).sum(1)
        return along, square
    arrays = anchors.numpy(), queries.numpy()

    def fill(part: slice) -> None:
        parts = (x[part].numpy() for x in (row, along, square))
        compiled.differences(values[part].numpy(), *arrays, *parts)

    by_parts(fill, len(row))
    return along, square


def by_parts(task: Callable[[slice], T], count: int) -> list[T]:
    """The results of a task on consecutive parts of so many things, one part for each thread."""
    step = max(1, -(-count // workers(torch.device("cpu"))))
    tasks = [partial(task, slice(i, min(i + step, count))) for i in range(0, count, step)]
    return in_threads(tasks, max(1, len(tasks)))
