"""Jobs: computations that can be interrupted and resumed, and that several estimators may share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Job", "RestoredTogether"]


@runtime_checkable
class Job(Protocol):
    """A computation in steps, between which its state can be stored as arrays and restored by a later run."""

    @property
    def total(self) -> int:
        """Number of steps."""

    @property
    def position(self) -> int:
        """Number of steps done."""

    @property
    def done(self) -> bool:
        """Whether all steps are done."""

    def step(self) -> None:
        """Do the next step."""

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which a later run goes on."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study."""


@runtime_checkable
class RestoredTogether(Job, Protocol):
    """A job whose ranks go on from the state of the one that is furthest: each must call ``restore``."""

    restored_together: bool
