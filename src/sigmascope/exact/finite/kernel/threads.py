"""Tiles in threads: each works on a tile of its own, so that products, reading and the rest overlap.

One thread of torch in each of several Python threads does the work of several threads of torch, without their waiting
for one another after every small step.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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
    return ThreadPoolExecutor(threads, "tiles")


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch for a while: a few rows against tile after tile are done before several threads have met."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(tasks: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """What each task returns, in order; so many run at the same time, with one thread of torch each."""
    if threads == 1 or len(tasks) == 1:
        return [task() for task in tasks]
    before = torch.get_num_threads()
    try:
        return list(_pool(threads).map(_alone, tasks))
    finally:
        torch.set_num_threads(before)  # part of what a thread chooses holds for all


def _alone(task: Callable[[], T]) -> T:
    torch.set_num_threads(1)
    return task()


@contextmanager
def full_precision() -> Iterator[None]:
    """No product in TF32 or bfloat16, whatever the caller has set: they ruin logits at small sigma."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Pipeline:
    """Tasks that run at the same time, each with one thread of torch, in full precision; a few are always under way.

    Args:
        threads: how many at the same time; with one, each task runs when it is submitted.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._under_way: deque[Future[None]] = deque()
        self._while = ExitStack()  # what holds while any is under way

    @property
    def full(self) -> bool:
        """Whether there is enough under way: one more than threads, so that none waits for the next."""
        return self._threads == 1 or len(self._under_way) > self._threads

    def submit(self, task: Callable[[], None]) -> None:
        """Begin a task."""
        if self._threads == 1:
            with full_precision():
                task()
            return
        if not self._under_way:
            self._while.enter_context(full_precision())
            # Part of what a thread chooses holds for all.
            self._while.callback(torch.set_num_threads, torch.get_num_threads())
        self._under_way.append(_pool(self._threads).submit(_alone, task))

    def wait(self) -> None:
        """Wait for the oldest; raises what it raised, once the others have ended."""
        try:
            if self._under_way:
                self._under_way[0].result()
                self._under_way.popleft()
        except BaseException:
            for other in self._under_way:
                other.exception()
            self._under_way.clear()
            raise
        finally:
            if not self._under_way:
                self._while.close()

    def drain(self) -> None:
        """Wait for all."""
        while self._under_way:
            self.wait()


_held = threading.local()


def room(name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Memory of a thread on the CPU, the same each time that it asks for the same shape: new pages cost time."""
    held: dict[str, torch.Tensor] = _held.__dict__
    if name not in held or held[name].shape != tuple(shape) or held[name].dtype != dtype:
        held[name] = torch.empty(*shape, dtype=dtype)
    return held[name]


class Turn:
    """Lets tiles that are worked on at the same time add to shared sums in their order, stage by stage.

    The order of additions decides the last digit of a sum; so it is the same whatever the threads do.

    Args:
        before: the turn of the tile before.
    """

    def __init__(self, before: Turn | None = None) -> None:
        self._before = before
        self._changed = threading.Condition()
        self._stages = 0.0

    @contextmanager
    def stage(self, number: int) -> Iterator[None]:
        """Wait until the tile before has left this stage (and those below it)."""
        if self._before is not None:
            with self._before._changed:
                self._before._changed.wait_for(lambda: self._before is None or self._before._stages > number)
        yield
        self._leave(number + 1)

    def leave(self) -> None:
        """No stage of this tile is to come."""
        self._leave(float("inf"))
        self._before = None

    def _leave(self, stages: float) -> None:
        with self._changed:
            self._stages = stages
            self._changed.notify_all()
