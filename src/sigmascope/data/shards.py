"""Sources of items that are divided over the ranks of a run, and arrays that stay in their file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import InputError, ItemSource

_BLOCK_BYTES = 1 << 22  # read at once


class ShardedSource:
    """A source of items of which this rank holds a share.  Items of other ranks can be taken, not read."""

    def __init__(self, own: ItemSource, start: int, total: int) -> None:
        self._own, self._start, self._total = own, start, total
        self.event, self.resident_bytes = own.event, own.resident_bytes

    def __len__(self) -> int:
        return self._total

    def read(self, start: int, stop: int) -> Tensor:
        """Items of this rank; InputError for those of another."""
        first, last = start - self._start, stop - self._start
        if first < 0 or last > len(self._own):
            raise InputError(
                f"items {start} to {stop} came, this rank holds {self._start} to {self._start + len(self._own)}: "
                "this needs all items in one process; run it without torchrun"
            )
        return self._own.read(first, last)

    def take(self, items: Int64[Tensor, " rows"]) -> Tensor:
        """Any items; every rank must ask for the same ones."""
        own = (items >= self._start) & (items < self._start + len(self._own))
        values = torch.zeros(len(items), *self.event)
        if bool(own.any()):
            values[own] = self._own.take(items[own] - self._start)
        return distributed.add_up(values)


@runtime_checkable
class Rows(Protocol):
    """Items of one shape and type, as they are stored."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray: ...


class StoredRows:
    """An array in C order that lies uncompressed in a file, whose rows are read when they are needed."""

    nbytes = 0  # no row is kept in memory

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._path, self._offset = path.absolute(), offset
        self._row = math.prod(shape[1:]) * dtype.itemsize
        self._version = _version(os.stat(path))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        with self._path.open("rb", buffering=0) as file:
            if _version(os.fstat(file.fileno())) != self._version:
                raise InputError(f"{self._path}: the file was changed while it was in use: load it again")
            if isinstance(rows, slice):
                start, stop, _ = rows.indices(len(self))
                return self._read(file, start, max(stop, start))
            out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
            for i, row in enumerate(rows.tolist()):
                out[i] = self._read(file, row, row + 1)[0]
            return out

    def _read(self, file: FileIO, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        file.seek(self._offset + start * self._row)
        view = as_bytes(out)
        while view:
            count = file.readinto(view)
            if not count:
                raise InputError(f"{self._path}: the file ends early: write it again")
            view = view[count:]
        return out


class ChosenRows:
    """Rows with some indices, which increase; they are read when they are needed."""

    def __init__(self, rows: Rows, kept: np.ndarray) -> None:
        self.shape, self.dtype, self.nbytes = (len(kept), *rows.shape[1:]), rows.dtype, rows.nbytes
        self._rows, self._kept = rows, kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        kept = self._kept[rows]
        if not isinstance(rows, slice) or not len(kept):
            return self._rows[kept]
        out = np.empty((len(kept), *self.shape[1:]), dtype=self.dtype)
        ends = np.flatnonzero(np.diff(kept) != 1) + 1  # rows that follow one another are read at once
        for first, last in pairwise([0, *ends.tolist(), len(kept)]):
            out[first:last] = self._rows[int(kept[first]) : int(kept[last - 1]) + 1]
        return out


def chosen_rows(rows: Rows, kept: np.ndarray) -> Rows:
    """The rows with some indices, which increase: a copy where the rows are in memory, else a view."""
    return rows[kept] if isinstance(rows, np.ndarray) else ChosenRows(rows, kept)


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def blocks(rows: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """Contiguous blocks of bounded memory, each with the index of its first row."""
    step = block_rows(rows.shape, rows.dtype)
    for first in range(0, len(rows), step):
        yield first, np.ascontiguousarray(rows[first : min(first + step, len(rows))])


def block_rows(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Number of rows of a block."""
    return max(1, _BLOCK_BYTES // (math.prod(shape[1:]) * dtype.itemsize))


def as_bytes(array: np.ndarray) -> memoryview:
    """The memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data
