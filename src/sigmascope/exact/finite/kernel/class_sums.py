"""Sums of outer products by class, in as few and large products as the labels allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.exact.finite.kernel.threads import room

_RUN = 32  # a run of equal labels gets a product of its own where runs have at least so many rows on average


@dataclass
class _Group:
    """One attribute whose classes are scattered: the rows in order of class, the classes' columns, rows of each."""

    rows: Tensor
    columns: Columns
    counts: list[int]


Columns: TypeAlias = slice | Tensor
Piece: TypeAlias = tuple[Columns, Columns, Tensor | None]
"""Columns, none of them twice, and runs, of an attribute that is constant on every run.

The last entry is the class of each run, for a sum over runs; None where each run is a class.
"""


class ClassSums:
    """The classes of a tile (columns of each item's values), sorted once for all levels.

    Data often come in the order of some labels.  Each run of rows with equal labels gets one product, which serves all
    of these attributes; the rows are sorted for the other attributes.
    """

    def __init__(self, classes: Int64[Tensor, "rows attributes"]) -> None:
        rows = len(classes)
        changes = classes[1:] != classes[:-1]
        boundary = torch.zeros(rows - 1, dtype=torch.bool, device=classes.device)
        slow = []
        for column in changes.sum(0).argsort().tolist():
            joint = boundary | changes[:, column]
            if int(joint.sum()) + 1 > max(rows // _RUN, 1):
                break
            boundary = joint
            slow.append(column)
        ends = [*(torch.nonzero(boundary)[:, 0] + 1).tolist(), rows]
        self._runs = [b - a for a, b in zip([0, *ends], ends, strict=False)]
        first = torch.tensor([0, *ends[:-1]], device=classes.device)
        self._slow = [self._constant(classes[first, column]) for column in slow]
        self._groups = [self._sorted(classes[:, column]) for column in range(classes.shape[1]) if column not in slow]

    @staticmethod
    def _columns(unique: Tensor) -> Columns:
        first, last = int(unique[0]), int(unique[-1])
        return slice(first, last + 1) if last - first + 1 == len(unique) else unique

    def _constant(self, run_class: Tensor) -> list[Piece]:
        unique, index = torch.unique(run_class, return_inverse=True)
        left = torch.arange(len(run_class), device=run_class.device)
        if 3 * len(unique) <= len(run_class):
            return [(self._columns(unique), slice(None), index)]
        pieces: list[Piece] = []
        while len(left):  # the first run of each class that is left
            order = torch.argsort(run_class[left], stable=True)
            ordered = run_class[left][order]
            new = torch.ones_like(ordered, dtype=torch.bool)
            new[1:] = ordered[1:] != ordered[:-1]
            pieces.append((self._columns(ordered[new]), _consecutive(left[order[new]]), None))
            left = left[order[~new]].sort().values
        return pieces

    def _sorted(self, column: Tensor) -> _Group:
        unique, counts = torch.unique(column, return_counts=True)
        return _Group(torch.argsort(column, stable=True), self._columns(unique), counts.tolist())

    def products(
        self, left: Float[Tensor, "rows p"], right: Float[Tensor, "rows q"]
    ) -> Iterator[tuple[Columns, Float[Tensor, "classes p q"]]]:
        r"""For each attribute, the columns c in the tile and :math:`\sum_{k \in c} left_k \, right_k^\top`."""
        parts = _products(left, right, self._runs) if self._slow else left
        for pieces in self._slow:
            for columns, runs, index in pieces:
                if index is None:
                    yield columns, parts[runs]
                elif (classes := columns.stop - columns.start if isinstance(columns, slice) else len(columns)) == 1:
                    yield columns, parts.sum(0, keepdim=True)
                else:
                    yield columns, parts.new_zeros(classes, *parts.shape[1:]).index_add_(0, index, parts)
        for group in self._groups:
            buffer = room("in order", left.shape, left.dtype, left.device)
            in_order = torch.index_select(left, 0, group.rows, out=buffer)
            yield group.columns, _products(in_order, right.index_select(0, group.rows), group.counts)

    def add(
        self, out: Float[Tensor, "columns p q"], left: Float[Tensor, "rows p"], right: Float[Tensor, "rows q"]
    ) -> None:
        """Add the products to ``out[c]`` for every class c of every attribute."""
        for columns, part in self.products(left, right):
            if isinstance(columns, slice):
                out[columns] += part
            else:  # no column comes twice
                out[columns] = out[columns] + part.to(out.dtype)


def _consecutive(runs: Tensor) -> Columns:
    """A slice, which makes a view, where the runs are consecutive."""
    first, last = int(runs[0]), int(runs[-1])
    whole = torch.equal(runs, torch.arange(first, last + 1, device=runs.device))
    return slice(first, last + 1) if whole else runs


def _products(
    left: Float[Tensor, "rows p"], right: Float[Tensor, "rows q"], counts: list[int]
) -> Float[Tensor, "classes p q"]:
    """left^T right of consecutive rows, so many at a time."""
    if len(set(counts)) == 1:
        shape = (len(counts), counts[0], -1)
        return torch.bmm(left.reshape(shape).transpose(1, 2), right.reshape(shape))
    out = left.new_empty(len(counts), left.shape[1], right.shape[1])
    for part, p, q in zip(out, torch.split(left, counts), torch.split(right, counts), strict=True):
        torch.mm(p.T, q, out=part)
    return out
