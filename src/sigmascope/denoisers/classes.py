"""Sums of outer products by class, as few and large products as the labels allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass
class _Group:
    """One abstraction: ``rows`` in order of their class, ``columns`` the classes, ``counts`` how many rows of each.

    ``rows`` is None where the order is that of the tile.
    """

    rows: Tensor | None
    columns: slice | Tensor
    counts: list[int]


def add_rows(out: Tensor, columns: slice | Tensor, part: Tensor) -> None:
    """``out[columns] += part``; no column comes twice."""
    if isinstance(columns, slice):
        out[columns] += part
    else:
        out[columns] = out[columns] + part.to(out.dtype)


class ByClass:
    """The classes of a tile, sorted once for all levels.

    Args:
        classes: for each abstraction, the column of each item's value, shape (rows, abstractions).
    """

    def __init__(self, classes: Int64[Tensor, "rows abstractions"]) -> None:
        self._groups = []
        for column in classes.T:
            unique, counts = torch.unique(column, return_counts=True)
            first, last = int(unique[0]), int(unique[-1])
            columns = slice(first, last + 1) if last - first + 1 == len(unique) else unique
            order = torch.argsort(column, stable=True) if len(unique) > 1 else None
            if order is not None and torch.equal(order, torch.arange(len(order), device=order.device)):
                order = None
            self._groups.append(_Group(order, columns, counts.tolist()))

    def products(
        self, left: Float[Tensor, "rows p"], right: Float[Tensor, "rows q"]
    ) -> Iterator[tuple[slice | Tensor, Float[Tensor, "classes p q"]]]:
        r"""For each abstraction, its classes c here and :math:`\sum_{k \in c} left_k \, right_k^\top`."""
        total: Tensor | None = None
        for group in self._groups:
            if len(group.counts) == 1:
                continue
            a = left if group.rows is None else left[group.rows]
            b = right if group.rows is None else right[group.rows]
            if len(set(group.counts)) == 1:
                shape = (len(group.counts), group.counts[0], -1)
                part = torch.bmm(a.reshape(shape).transpose(1, 2), b.reshape(shape))
            else:
                pieces = zip(a.split(group.counts), b.split(group.counts), strict=True)
                part = torch.stack([p.T @ q for p, q in pieces])
            if total is None:
                total = part.sum(0, keepdim=True)
            yield group.columns, part
        for group in self._groups:  # those of one class here share the sum over all rows
            if len(group.counts) == 1:
                if total is None:
                    total = (left.T @ right)[None]
                yield group.columns, total

    def add(
        self, out: Float[Tensor, "columns p q"], left: Float[Tensor, "rows p"], right: Float[Tensor, "rows q"]
    ) -> None:
        """Add the products to ``out[c]`` for every class c of every abstraction."""
        for columns, part in self.products(left, right):
            add_rows(out, columns, part)
