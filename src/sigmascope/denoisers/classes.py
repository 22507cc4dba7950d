"""Sums of outer products by class, as few and large products as the labels allow."""

from __future__ import annotations

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
    columns: Tensor
    counts: list[int]


class ByClass:
    """The classes of a tile, sorted once for all levels.

    Args:
        classes: for each abstraction, the column of each item's value, shape (rows, abstractions).
    """

    def __init__(self, classes: Int64[Tensor, "rows abstractions"]) -> None:
        self._groups = []
        for column in classes.T:
            unique, counts = torch.unique(column, return_counts=True)
            order = torch.argsort(column, stable=True) if len(unique) > 1 else None
            if order is not None and torch.equal(order, torch.arange(len(order), device=order.device)):
                order = None
            self._groups.append(_Group(order, unique, counts.tolist()))

    def add(
        self, out: Float[Tensor, "columns p q"], left: Float[Tensor, "rows p"], right: Float[Tensor, "rows q"]
    ) -> None:
        r"""Add :math:`\sum_{k \in c} left_k \, right_k^\top` to ``out[c]`` for every class c of every abstraction."""
        total: Tensor | None = None
        constant = []
        for group in self._groups:
            if len(group.counts) == 1:
                constant.append(int(group.columns[0]))
                continue
            a = left if group.rows is None else left[group.rows]
            b = right if group.rows is None else right[group.rows]
            if len(set(group.counts)) == 1:
                shape = (len(group.counts), group.counts[0], -1)
                part = torch.bmm(a.reshape(shape).transpose(1, 2), b.reshape(shape))
            else:
                pieces = zip(a.split(group.counts), b.split(group.counts), strict=True)
                part = torch.stack([p.T @ q for p, q in pieces])
            out.index_add_(0, group.columns, part.to(out.dtype))
            total = part.sum(0)
        if constant:
            total = left.T @ right if total is None else total
            for column in constant:
                out[column] += total
