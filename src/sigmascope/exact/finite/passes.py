"""Passes over the items of a data set: in tiles, resumable, shared among processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import InputError

_TILE_BYTES = 1 << 25
TILE_ROWS = 1024


def tile_rows(size: int, draws: int, limit: int = TILE_ROWS) -> int:
    """Items per tile, a power of two: a tile, and its products with the draws, stay within about 32 MiB each.

    A limit of rows above the usual one allows twice the memory.
    """
    memory = _TILE_BYTES * (1 + (limit > TILE_ROWS))
    return 1 << int(np.clip(memory // (4 * max(size, 4 * draws)), 16, limit)).bit_length() - 1


class TilePass(ABC):
    """One pass over the items of a data set, tile by tile.

    Call :meth:`step` until :attr:`done`.  A new pass that restores the :meth:`state` of an interrupted one ends with
    the same numbers.  With several processes (see :mod:`sigmascope.distributed`), each passes over a share of the
    items, and results are available once every process asks for them.

    Args:
        items: how many items there are.
        rows: items of a tile.

    Attributes:
        total: how many tiles this process has.
        position: how many of them it has added.
    """

    def __init__(self, items: int, rows: int) -> None:
        own = distributed.rows(items)
        self._tiles = [slice(start, min(start + rows, own.stop)) for start in range(own.start, own.stop, rows)]
        self.total, self.position = len(self._tiles), 0
        self._joined = False

    @property
    def done(self) -> bool:
        return self.position >= self.total

    @abstractmethod
    def step(self) -> None:
        """Add the next tile of items."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """All tensors that the pass adds to, by the names that a checkpoint has for them."""

    def _prepare(self, state: Mapping[str, np.ndarray]) -> None:
        """Make the tensors that a state fills; none are missing, as a rule."""
        return None

    def state(self) -> dict[str, np.ndarray]:
        """What a later pass needs to resume, to be stored before the next step (the arrays are in use)."""
        return {k: v.cpu().numpy() for k, v in self._tensors().items()} | {"next_tile": np.array(self.position)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Resume from a state of a pass with the same data, draws and levels.

        Raises: InputError where the state lacks a tensor of this pass.
        """
        self._prepare(state)
        for name, tensor in self._tensors().items():
            if name not in state or state[name].shape != tensor.shape:
                raise InputError(f"the checkpoint has no {name!r} of this study: delete checkpoint*.npz and run again")
            tensor.copy_(torch.from_numpy(state[name]))
        self.position = int(state["next_tile"])
