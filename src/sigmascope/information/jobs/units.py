"""Jobs of independent units, which are dealt out over the ranks of a run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

import sigmascope.distributed as distributed
from sigmascope.core import InputError
from sigmascope.information.parts import Arrays, Parts


class Units:
    """A job of independent units, each with arrays as its result; each rank does its share of them.

    A unit does not depend on the rank that does it, so a run has the same numbers on any number of ranks.  A unit that
    may take longer than some seconds is done in parts, and a step is one of them.

    Args:
        name: in a checkpoint.
        count: units of all ranks.
        costs: of each unit, in any measure; None: all cost the same.
    """

    def __init__(self, name: str, count: int, costs: Sequence[float] | None = None) -> None:
        self._name, self._count = name, count
        self._numbers = distributed.dealt([1.0] * count if costs is None else costs, zlib.crc32(name.encode()))
        self.total = len(self._numbers)
        self.results: list[dict[str, np.ndarray]] = []
        self._all: list[dict[str, np.ndarray]] = []
        self._running: Parts[Arrays] | None = None
        self._state: Callable[[], Arrays] = dict
        self._begin_at: Arrays = {}

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        """A unit in parts, from its beginning or from the arrays of an earlier run."""
        yield from ()
        return self._measured(number)

    def _measured(self, number: int) -> Arrays:
        """A unit at once."""
        raise NotImplementedError

    def step(self) -> None:
        """Do the next part of the next unit of this rank."""
        if self._running is None:
            self._running = self._unit(self._numbers[len(self.results)], self._begin_at)
        try:
            with distributed.alone():
                self._state = next(self._running)
        except StopIteration as end:
            # Copies: a small result that torch laid between its large buffers would keep their pages from being used
            # again.
            self.results.append({k: np.array(v, order="C") for k, v in end.value.items()})
            self._running, self._state, self._begin_at = None, dict, {}
        except BaseException:
            self._running = None
            raise

    def units(self) -> list[dict[str, np.ndarray]]:
        """Results of all ranks, once each is done; every rank must call it."""
        if not self._all:
            parts = distributed.gathered(list(zip(self._numbers, self.results, strict=True)))
            self._all = [unit for _, unit in sorted((x for p in parts for x in p), key=lambda x: x[0])]
        return self._all

    @property
    def position(self) -> int:
        """Units done."""
        return len(self.results)

    @property
    def done(self) -> bool:
        return len(self.results) == self.total

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which a later run goes on."""
        held = {f"{self._name}{i}.{k}": v for i, unit in enumerate(self.results) for k, v in unit.items()}
        under_way = self._begin_at if self._state is dict else self._state()
        held |= {f"{self._name}.part.{k}": np.asarray(v) for k, v in under_way.items()}
        return held | {f"{self._name}.units": np.array(len(self.results))}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study."""
        count = int(state.get(f"{self._name}.units", -1))
        if not 0 <= count <= self.total:
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")
        for i in range(count):
            prefix = f"{self._name}{i}."
            self.results.append({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        prefix = f"{self._name}.part."
        self._begin_at = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


class Meeting(Units):
    """Units whose results every rank has as soon as the job is done: its last step waits for the other ranks."""

    def step(self) -> None:
        """Do the next part of the next unit of this rank; after the last one, collect the units of all ranks."""
        if len(self.results) < self.total:
            super().step()
        if len(self.results) == self.total:
            self.units()

    @property
    def done(self) -> bool:
        return len(self._all) == self._count
