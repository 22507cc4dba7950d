"""Standard normal noise for samplers: one independent stream for each row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_BLOCK_BYTES = 1 << 26


class Streams:
    """Noise of rows, a row's stream depending on the seed and on its own key alone.

    A row is so the same whatever the number of rows beside it, of forks of its neighbours, or of steps to come.

    Args:
        seed: not negative.
        keys: for each row, the words that name its stream, e.g. ``(use, parent, fork)``.
        event: shape of one row.

    Calling it gives the next noise of all rows, float64, shape (rows, *event).
    """

    def __init__(self, seed: int, keys: Sequence[tuple[int, ...]], event: tuple[int, ...]) -> None:
        self._streams = [np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=k))) for k in keys]
        self._event = event
        # Small rows are drawn many steps at a time: a call of a stream costs as much as a hundred numbers.
        numbers = max(len(keys), 1) * int(np.prod(event))
        self._ahead = int(np.clip(_BLOCK_BYTES // (8 * numbers), 1, 256))
        self._block: Tensor = torch.empty(0)
        self._next = 0

    def __call__(self) -> Tensor:
        if self._next >= len(self._block):
            shape = (self._ahead, *self._event)
            drawn = np.stack([s.standard_normal(shape) for s in self._streams], 1)
            self._block, self._next = torch.from_numpy(drawn), 0
        self._next += 1
        return self._block[self._next - 1]


def rows(count: int) -> list[tuple[int, ...]]:
    """Keys of rows that are named by their number."""
    return [(0, i) for i in range(count)]
