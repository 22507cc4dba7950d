"""The processes of one run: which rows of the data each holds, and sums over all of them.

A process alone is rank 0 of a world of 1, for which every function here does nothing.  Under ``torchrun`` each process
holds a contiguous share of the rows; what it sums over them is added up over the ranks.

What cannot be used is said once, in one line, by the first rank that knows it, and every rank ends with status 2.
After that line ``torchrun`` prints a report of its own, with the traceback of its ChildFailedError: for every status
but 0, and no child can keep it from that without claiming success.  The line stands before the report, and begins with
``sigmascope:``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sigmascope.errors import InputError, Stopped

UNIT = 2048
"""Shares of rows end on multiples of it, and so on ends of tiles."""
_MEET = timedelta(minutes=5)  # until all processes have come
_WAIT = timedelta(days=30)  # for a slower rank; a lost one closes its connection, which is noticed at once


T = TypeVar("T")


class _Run:
    """What is kept of the run that this process takes part in."""

    store: dist.Store | None = None
    whole: dist.ProcessGroup | None = None
    group: dist.ProcessGroup | None = None


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


def _group() -> dist.ProcessGroup | None:
    """All ranks, with a backend that reduces in the memory of the host, whatever the run's own is."""
    if _Run.whole is not dist.group.WORLD:
        _Run.whole, _Run.group = dist.group.WORLD, dist.new_group(backend="gloo", timeout=_WAIT)
    return _Run.group


def world() -> int:
    """Number of processes of this run; 1 where it is alone."""
    return dist.get_world_size() if _initialised() else 1


def rank() -> int:
    """Which of them this process is, from 0."""
    return dist.get_rank() if _initialised() else 0


def rows(n: int) -> range:
    """The rows that this rank holds, of n: contiguous, in whole units of :data:`UNIT`; perhaps none.

    Args:
        n: rows in all.
    """
    return rows_of(n, rank(), world())


def rows_of(n: int, rank: int, world: int) -> range:
    """The rows that a rank of a world holds, of n: shares differ by at most one unit.

    Args:
        n: rows in all.
        rank: from 0.
        world: number of ranks.
    """
    units = -(-n // UNIT)
    return range(min(units * rank // world * UNIT, n), min(units * (rank + 1) // world * UNIT, n))


def add_up(tensor: Tensor) -> Tensor:
    """Sum of a tensor over the ranks, in place; every rank must call it, with the same shape.

    Raises: Stopped where a rank was lost.
    """
    return _reduced(tensor, dist.ReduceOp.SUM)


def highest(tensor: Tensor) -> Tensor:
    """Largest over the ranks of each entry, in place.

    Raises: Stopped where a rank was lost.
    """
    return _reduced(tensor, dist.ReduceOp.MAX)


def lowest(tensor: Tensor) -> Tensor:
    """Smallest over the ranks of each entry, in place.

    Raises: Stopped where a rank was lost.
    """
    return _reduced(tensor, dist.ReduceOp.MIN)


def _reduced(tensor: Tensor, by: dist.ReduceOp.RedOpType) -> Tensor:
    if world() == 1:
        return tensor
    mine = tensor.detach().cpu().contiguous()
    with _noticing():
        dist.all_reduce(mine, by, group=_group())
    return tensor.copy_(mine)


def gathered(value: T) -> list[T]:
    """What every rank passes, in the order of the ranks.

    Raises: Stopped where a rank was lost.
    """
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    with _noticing():
        dist.all_gather_object(found, value, group=_group())
    return found


def together(act: Callable[[], T]) -> list[T]:
    """What every rank finds, in the order of the ranks; what any cannot use is said on all of them.

    Args:
        act: called once on each rank.

    Raises:
        InputError: that of the first rank which has one.
        Stopped: a rank was lost.
    """
    if world() == 1:
        return [act()]
    found: T | None = None
    said = ""
    try:
        found = act()
    except InputError as error:
        said = str(error)
    both = gathered((found, said))
    for _, error_of_rank in both:
        if error_of_rank:
            raise InputError(error_of_rank)
    return [cast(T, value) for value, _ in both]


def by_first(act: Callable[[], T]) -> T:
    """What rank 0 finds, on every rank; the others do not look.

    Raises:
        InputError: that of rank 0.
        Stopped: a rank was lost.
    """
    return cast(T, together(lambda: act() if rank() == 0 else None)[0])


def streamed(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The bytes of blocks of all ranks, one rank after the other, on rank 0; on the others none.

    Every rank must exhaust it.

    Args:
        blocks: contiguous arrays of this rank.

    Raises: Stopped where a rank was lost.
    """
    flat = (b.reshape(-1).view(np.uint8) for b in blocks)
    if rank() == 0:
        yield from flat
        for other in range(1, world()):
            size = torch.zeros(1, dtype=torch.int64)
            while True:
                with _noticing():
                    dist.recv(size, other, group=_group())
                    if not int(size):
                        break
                    block = torch.empty(int(size), dtype=torch.uint8)
                    dist.recv(block, other, group=_group())
                yield block.numpy()
        return
    with _noticing():
        for mine in flat:
            dist.send(torch.tensor([mine.size]), 0, group=_group())
            dist.send(torch.from_numpy(mine), 0, group=_group())
        dist.send(torch.zeros(1, dtype=torch.int64), 0, group=_group())


def barrier() -> None:
    """Wait for every rank.

    Raises: Stopped where a rank was lost.
    """
    gathered(None)


@contextmanager
def _noticing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo says so when a connection closes
        raise Stopped("a rank was lost") from error


def launched() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def to_speak() -> bool:
    """Whether this rank is the one that says how the run ended: true for the first that asks."""
    if _Run.store is None:
        return int(os.environ.get("RANK", "0")) == 0
    try:
        return _Run.store.add(f"sigmascope/said/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except RuntimeError:  # the store was lost with the rank that kept it
        return True


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that ``torchrun`` started, for the time of a block; alone, nothing.

    ``torchrun`` ends all ranks by SIGTERM when one is lost, which raises in the block.

    Raises:
        InputError: the environment of ``torchrun`` is incomplete, or the others do not come.
        Stopped: this run was stopped, or a rank was lost.
    """
    if not launched() or _initialised():
        yield
        return
    try:
        store, me, size = next(iter(dist.rendezvous("env://", timeout=_MEET)))
        dist.init_process_group("gloo", store=store, rank=me, world_size=size, timeout=_MEET)
        _Run.store = store
        barrier()
    except (RuntimeError, ValueError, Stopped) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"the other ranks were not found ({reason}): start all of them with torchrun") from error
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _stop) if main else None
    try:
        yield
        barrier()
    except BaseException:
        before = signal.SIG_IGN  # what is left is to say why
        raise
    finally:  # the others notice a rank that leaves early by its connections
        if main:
            signal.signal(signal.SIGTERM, before)
        _Run.whole = _Run.group = None
        dist.destroy_process_group()


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise Stopped("this run was stopped, or a rank was lost")
