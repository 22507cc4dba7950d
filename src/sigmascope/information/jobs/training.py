"""The training of a classifier of noisy values, as a job of a study."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import sigmascope.distributed as distributed
from sigmascope.core import InputError
from sigmascope.learn.classifying import ClassifierTrainer

_SECONDS = 2.0  # of the steps that a step of the job makes, about
_KEY = "training.state"


class ClassifierTraining:
    """Trains a classifier to its end, some steps of the optimiser at a time; several ranks train it together.

    Args:
        trainer: at its beginning; its averaged classifier is that of the study.
    """

    def __init__(self, trainer: ClassifierTrainer) -> None:
        self._trainer, self._at_once = trainer, 1
        self.total = trainer.settings.steps

    @property
    def position(self) -> int:
        """Steps of the optimiser done."""
        return self._trainer.done

    @property
    def done(self) -> bool:
        return self.position >= self.total

    def step(self) -> None:
        """Do the next steps of the optimiser."""
        begun, until = time.monotonic(), min(self.position + self._at_once, self.total)
        while self.position < until:
            self._trainer.step()
        if time.monotonic() - begun < _SECONDS / 2:
            self._at_once *= 2
        # Ranks of different speed make the same steps.
        self._at_once = min(distributed.gathered(self._at_once))

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which a later run goes on."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            self._trainer.store(path)
            return {_KEY: np.frombuffer(path.read_bytes(), dtype=np.uint8)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study.

        Raises: InputError if it is of another.
        """
        if _KEY not in state:
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            path.write_bytes(np.asarray(state[_KEY], dtype=np.uint8).tobytes())
            self._trainer.restore(path)
