"""Tiles in threads: each thread has a tile of its own, so that products, reading and the other steps overlap.

Several Python threads with one thread of torch each replace several threads of torch, which would wait for one another
after every small step.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TypeVar

import torch

T = TypeVar("T")
_MOST = 16  # workers; each has a tile and sums of its own


def workers(device: torch.device) -> int:
    """How many tiles to handle at a time: as many as torch has threads; one on a GPU."""
    return min(torch.get_num_threads(), _MOST) if device.type == "cpu" else 1


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "tiles")


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch for a while: products of a few rows end sooner than several threads can be synchronised."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(tasks: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """The results of the tasks, in order; so many run at the same time, with one thread of torch each."""
    if threads == 1 or len(tasks) == 1:
        return [task() for task in tasks]
    before = torch.get_num_threads()
    try:
        return list(_pool(threads).map(_alone, tasks))
    finally:
        torch.set_num_threads(before)  # part of a thread's setting applies to all threads


def _alone(task: Callable[[], T]) -> T:
    torch.set_num_threads(1)
    return task()


@contextmanager
def full_precision() -> Iterator[None]:
    """No product in TF32 or bfloat16, whatever the caller has set: they would spoil logits at small sigma."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Pipeline:
    """A queue of tasks, each with one thread of torch, in full precision; with one thread they run when submitted."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._under_way: deque[Future[None]] = deque()
        self._settings = ExitStack()  # they apply while any task is under way

    @property
    def full(self) -> bool:
        """Whether enough tasks are under way: one more than threads, so that no thread waits for the next task."""
        return self._threads == 1 or len(self._under_way) > self._threads

    def submit(self, task: Callable[[], None]) -> None:
        """Start a task."""
        if self._threads == 1:
            with full_precision():
                task()
            return
        if not self._under_way:
            self._settings.enter_context(full_precision())
            # Part of a thread's setting applies to all threads.
            self._settings.callback(torch.set_num_threads, torch.get_num_threads())
        self._under_way.append(_pool(self._threads).submit(_alone, task))

    def wait(self) -> None:
        """Wait for the oldest task; its exception is raised once the others have ended."""
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
                self._settings.close()

    def drain(self) -> None:
        """Wait for all tasks."""
        while self._under_way:
            self.wait()


_buffers = threading.local()


def room(
    name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> torch.Tensor:
    """A buffer of this thread, the same at every call with the same shape, since new pages cost time; new on a GPU."""
    if device is not None and device.type != "cpu":
        return torch.empty(*shape, dtype=dtype, device=device)
    buffers: dict[str, torch.Tensor] = _buffers.__dict__
    if name not in buffers or buffers[name].shape != tuple(shape) or buffers[name].dtype != dtype:
        buffers[name] = torch.empty(*shape, dtype=dtype)
    return buffers[name]


@cache
def compiled_module(name: str) -> ModuleType | None:
    """A compiled module of this package, or None where numba cannot be used."""
    try:
        return import_module(f"sigmascope.exact.finite.kernel.{name}")
    except ImportError:
        return None


class Turn:
    """Makes tiles of several threads add to shared sums in their order, stage by stage, each after the tile before it.

    The order of additions decides the last digit of a sum, so it must not depend on the threads.
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
        """This tile has no more stages."""
        self._leave(float("inf"))
        self._before = None

    def _leave(self, stages: float) -> None:
        with self._changed:
            self._stages = stages
            self._changed.notify_all()
