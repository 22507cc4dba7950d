"""Tiles in threads: each works on a tile of its own, so that products, reading and the rest overlap.

One thread of torch in each of several Python threads does the work of several threads of torch, without their waiting
for one another after every small step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
_MOST = 16  # each holds a tile and sums of its own


def workers(device: torch.device) -> int:
    """How many tiles to work on at a time: as many as torch has threads; one on a GPU."""
    return min(torch.get_num_threads(), _MOST) if device.type == "cpu" else 1


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "tiles", initializer=lambda: torch.set_num_threads(1))


def in_threads(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """What each task returns, in order; they run at the same time, with one thread of torch each."""
    if len(tasks) == 1:
        return [tasks[0]()]
    before = torch.get_num_threads()
    try:
        return list(_pool(len(tasks)).map(lambda task: task(), tasks))
    finally:
        torch.set_num_threads(before)  # a new thread's choice would hold for all threads to come
