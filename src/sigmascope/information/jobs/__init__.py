"""Jobs: pieces of work that can be interrupted and go on, and that several estimators may share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Job"]


@runtime_checkable
class Job(Protocol):
    """A piece of work that is done step by step.

    Between two steps its state can be kept, as arrays, and restored by a later run of the same study.
    """

    @property
    def total(self) -> int:
        """How many steps it takes."""

    @property
    def position(self) -> int:
        """How many of them are done."""

    @property
    def done(self) -> bool:
        """Whether all are."""

    def step(self) -> None:
        """Do the next one."""

    def state(self) -> dict[str, np.ndarray]:
        """What a later run needs to go on from here."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study."""
