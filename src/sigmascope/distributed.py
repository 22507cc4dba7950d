"""The processes of one run: the rows of the data that each holds, and sums over all processes.

A single process is rank 0 of a world of 1, and every function here then does nothing.  Under ``torchrun`` each process
holds a contiguous share of the rows, and sums over rows are added up over the ranks.

An InputError is printed once, in one line that begins with ``sigmascope:``, and every rank ends with status 2.
``torchrun`` then prints a report of its own, with the traceback of its ChildFailedError, as for every status but 0.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from sigmascope.errors import InputError, Stopped

UNIT = 2048
"""Shares of rows end on multiples of this number, so that they are whole tiles."""
_MEET = timedelta(minutes=5)  # until all processes have joined
_WAIT = timedelta(days=30)  # for a slower rank; a lost rank closes its connection, which ends the wait at once


T = TypeVar("T")


class _Run:
    """State of the run that this process takes part in."""

    store: Any = None
    apart: bool = False
    whole: dist.ProcessGroup | None = None
    group: dist.ProcessGroup | None = None


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


def _group() -> dist.ProcessGroup | None:
    """All ranks, with gloo, which reduces in the memory of the host, for any backend of the run."""
    if _Run.whole is not dist.group.WORLD:
        _Run.whole, _Run.group = dist.group.WORLD, dist.new_group(backend="gloo", timeout=_WAIT)
    return _Run.group


def world() -> int:
    """Number of processes of this run; 1 inside :func:`alone`."""
    return dist.get_world_size() if _initialised() and not _Run.apart else 1


def rank() -> int:
    """Number of this process, from 0; 0 inside :func:`alone`."""
    return dist.get_rank() if _initialised() and not _Run.apart else 0


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this process is a run of its own: it holds all rows, and no function here waits for a rank.

    What is dealt out as a whole (:func:`dealt`) is computed so, with the numbers of a single process.
    """
    before, _Run.apart = _Run.apart, True
    try:
        yield
    finally:
        _Run.apart = before


def by_each(act: Callable[[], T]) -> T:
    """The result of a call that every rank makes :func:`alone`.

    Raises:
        InputError: that of the first rank that raised one, on all ranks.
        Stopped: a rank was lost.
    """
    made: list[T] = []

    def keep() -> None:
        with alone():
            made.append(act())

    together(keep)
    return made[0]


def dealt(costs: Sequence[float], first: int = 0) -> list[int]:
    """The numbers of the units of work that this rank does, in order.

    The most costly units are dealt out first, each to the rank that has the least to do, so that all end together.

    Args:
        costs: of each unit, in any measure; the same on every rank.
        first: number of the rank that has the first unit, so that the one left over is not always the same rank's.
    """
    loads, own, place = [0.0] * world(), [], (rank() - first) % world()
    for unit in sorted(range(len(costs)), key=lambda i: -costs[i]):  # equal costs in turn
        to = loads.index(min(loads))
        loads[to] += max(costs[unit], 1e-300)
        if to == place:
            own.append(unit)
    return sorted(own)


def rows(n: int) -> range:
    """The rows, of n in all, that this rank holds: contiguous, in whole units of :data:`UNIT`; possibly none."""
    return rows_of(n, rank(), world())


def rows_of(n: int, rank: int, world: int) -> range:
    """The rows, of n in all, that a rank of a world holds; shares differ by at most one unit."""
    units = -(-n // UNIT)
    return range(min(units * rank // world * UNIT, n), min(units * (rank + 1) // world * UNIT, n))


def add_up(tensor: Tensor) -> Tensor:
    """Sum of a tensor over the ranks, in place; every rank must call it, with the same shape.

    Raises: Stopped where a rank was lost.
    """
    return _reduced(tensor, dist.ReduceOp.SUM)


def highest(tensor: Tensor) -> Tensor:
    """Maximum of a tensor over the ranks, entry by entry, in place.

    Raises: Stopped where a rank was lost.
    """
    return _reduced(tensor, dist.ReduceOp.MAX)


def lowest(tensor: Tensor) -> Tensor:
    """Minimum of a tensor over the ranks, entry by entry, in place.

    Raises: Stopped where a rank was lost.
    """
    return _reduced(tensor, dist.ReduceOp.MIN)


def _reduced(tensor: Tensor, by: dist.ReduceOp.RedOpType) -> Tensor:
    if world() == 1:
        return tensor
    host = tensor.detach().cpu().contiguous()
    with _noticing():
        dist.all_reduce(host, by, group=_group())
    return tensor.copy_(host)


def gathered(value: T) -> list[T]:
    """The values that all ranks pass, in the order of the ranks.

    Raises: Stopped where a rank was lost.
    """
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    with _noticing():
        dist.all_gather_object(values, value, group=_group())
    return values


def together(act: Callable[[], T]) -> list[T]:
    """The results of a call on every rank, in the order of the ranks; an InputError of one rank is raised on all.

    Args:
        act: called once on each rank.

    Raises:
        InputError: that of the first rank that raised one.
        Stopped: a rank was lost.
    """
    if world() == 1:
        return [act()]
    value: T | None = None
    message = ""
    try:
        value = act()
    except InputError as error:
        message = str(error)
    both = gathered((value, message))
    for _, first in both:
        if first:
            raise InputError(first)
    return [cast(T, each) for each, _ in both]


def by_first(act: Callable[[], T]) -> T:
    """The result of a call on rank 0, on every rank; the other ranks do not call it.

    Raises:
        InputError: that of rank 0.
        Stopped: a rank was lost.
    """
    return cast(T, together(lambda: act() if rank() == 0 else None)[0])


def streamed(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """On rank 0, the bytes of the blocks of all ranks, one rank after the other; on the other ranks, nothing.

    Every rank must exhaust the iterator.

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
                    received = torch.empty(int(size), dtype=torch.uint8)
                    dist.recv(received, other, group=_group())
                yield received.numpy()
        return
    with _noticing():
        for block in flat:
            dist.send(torch.tensor([block.size]), 0, group=_group())
            dist.send(torch.from_numpy(block), 0, group=_group())
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
    except RuntimeError as error:  # of gloo, when a connection closes
        raise Stopped("a rank was lost") from error


def launched() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def prints_the_end() -> bool:
    """Whether this rank prints how the run ended: true for the first rank that calls this."""
    if _Run.store is None:
        return int(os.environ.get("RANK", "0")) == 0
    try:
        return bool(_Run.store.add(f"sigmascope/printed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1)
    except RuntimeError:  # the store was lost with its rank
        return True


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that ``torchrun`` started, for the time of a block; a single process does nothing.

    ``torchrun`` ends all ranks by SIGTERM when one is lost, which raises in the block.

    Raises:
        InputError: the environment of ``torchrun`` is incomplete, or the other processes do not join.
        Stopped: this run was stopped, or a rank was lost.
    """
    if not launched() or _initialised():
        yield
        return
    try:
        store, me, size = next(iter(rendezvous("env://", timeout=_MEET)))
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
        before = signal.SIG_IGN  # until the message is printed
        raise
    finally:  # a rank that leaves early closes its connections, which ends the other ranks
        if main:
            signal.signal(signal.SIGTERM, before)
        _Run.whole = _Run.group = None
        dist.destroy_process_group()


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise Stopped("this run was stopped, or a rank was lost")
