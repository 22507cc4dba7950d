"""Listed pairs of rows and items: which live, their products, their differences; compiled where numba can be used."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.exact.finite.kernel.projection_bounds import BLOCK
from sigmascope.exact.finite.kernel.threads import in_threads, workers

T = TypeVar("T")
_CHUNK = 1 << 20  # numbers gathered at a time


@cache
def compiler() -> ModuleType | None:
    """The compiled loops, or None where numba cannot be used."""
    try:
        from sigmascope.exact.finite.kernel import pair_loops as pairloops
    except ImportError:
        return None
    return pairloops


def living(
    scores: Float[Tensor, "tiles rows blocks block"],
    peaks: Float[Tensor, "tiles rows blocks"],
    least: Float[Tensor, " rows"],
    limit: int,
    compiled: ModuleType | None,
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"], Int64[Tensor, " rows"]]:
    """Row and item of every score above ``least``, row by row, and how many there are in each row.

    Rows with more than ``limit`` are counted, not listed.
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
        compiled.count_living(*arrays, rows.start, rows.stop, count.numpy())
        mine = count[rows]
        items = torch.empty(int(mine[mine <= limit].sum()), dtype=torch.int64)
        compiled.list_living(*arrays, limit, rows.start, rows.stop, count.numpy(), items.numpy())
        return items

    items = torch.cat(by_parts(find, len(least)))
    row = torch.arange(len(least)).repeat_interleave(torch.where(count <= limit, count, 0))
    return row, items, count


def products(
    stored: Float[Tensor, "items runs run"],
    item: Int64[Tensor, " pairs"],
    queries: Float[Tensor, "rows runs run"],
    row: Int64[Tensor, " pairs"],
    compiled: ModuleType | None,
) -> Float[Tensor, " pairs"]:
    """Inner products, in float32 within runs and in float64 over them."""
    out = torch.empty(len(item), dtype=torch.float64)
    if compiled is None:
        step = max(1, _CHUNK // stored[0].numel())
        for start in range(0, len(item), step):
            part = slice(start, start + step)
            out[part] = stored[item[part]].mul_(queries[row[part]]).sum(2).double().sum(1)
        return out
    arrays = stored.numpy(), queries.numpy()
    order = item.argsort()  # memory is read in order, and once where rows share an item
    item, row = item[order], row[order]

    def fill(part: slice) -> None:
        compiled.products(arrays[0], item[part].numpy(), arrays[1], row[part].numpy(), out[part].numpy())

    by_parts(fill, len(item))
    return torch.empty_like(out).scatter_(0, order, out)


def differences(
    values: Float[Tensor, "pairs size"],
    anchors: Float[Tensor, "rows size"],
    apart: Float[Tensor, "rows size"],
    row: Int64[Tensor, " pairs"],
    compiled: ModuleType | None,
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """Of values less anchors: the products with ``apart``, and the squared norms, float64."""
    along = torch.empty(len(row), dtype=torch.float64)
    square = torch.empty_like(along)
    if compiled is None:
        step = max(1, _CHUNK // values.shape[1])
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            difference = values[part].double() - anchors[row[part]]
            along[part] = (difference * apart[row[part]]).sum(1)
            square[part] = (difference**2).sum(1)
        return along, square
    arrays = anchors.numpy(), apart.numpy()

    def fill(part: slice) -> None:
        mine = values[part].numpy(), *arrays, row[part].numpy(), along[part].numpy(), square[part].numpy()
        compiled.differences(*mine)

    by_parts(fill, len(row))
    return along, square


def by_parts(work: Callable[[slice], T], count: int) -> list[T]:
    """What threads make of so many things, each of a part of its own, in order."""
    step = max(1, -(-count // workers(torch.device("cpu"))))
    tasks = [partial(work, slice(i, min(i + step, count))) for i in range(0, count, step)]
    return in_threads(tasks, max(1, len(tasks)))
