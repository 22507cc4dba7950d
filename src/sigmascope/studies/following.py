"""Follow states down the noise levels into a folder, with checkpoints; the same command resumes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sigmascope.console import progress_bar
from sigmascope.sample import JointState, State
from sigmascope.studies.store import TaskFolder

CHECKPOINT_SECONDS = 8.0
_RECORDS = 16  # levels at which posteriors are recorded


@dataclass
class Record:
    """The record of a run: levels, posteriors (levels, rows, values) by attribute, and the last state."""

    sigmas: list[float]
    posterior: dict[str, list[np.ndarray]]
    y: Tensor
    log_pi: Tensor | None = None


def looks_of(levels: list[float]) -> set[int]:
    """Steps after which posteriors are recorded: all or some of the levels, including the last above 0."""
    last = len(levels) - 2
    return set(np.linspace(0, last, min(last + 1, _RECORDS)).round().astype(int).tolist())


def follow(
    folder: TaskFolder,
    levels: list[float],
    states: Callable[[int, Tensor | None, Tensor | None], Iterator[State | JointState]],
    look: Callable[[State | JointState], Mapping[str, np.ndarray]],
    looks: set[int],
    name: str,
    progress: bool,
) -> Record:
    """Run states to the end, from the checkpoint of the folder where there is one, with new checkpoints."""
    record, first = Record([], {}, torch.empty(0)), 0
    last_step = len(levels) - 1
    kept = folder.checkpoint() or {}
    if kept.keys() >= {"step", "sigmas", "y", "levels"} and kept["levels"].shape == (len(levels),):
        first, record.sigmas = int(kept["step"]), kept["sigmas"].tolist()
        record.y = torch.from_numpy(kept["y"])
        record.log_pi = torch.from_numpy(kept["log_pi"]) if "log_pi" in kept else None
        record.posterior = {k.removeprefix("p."): list(v) for k, v in kept.items() if k.startswith("p.")}
        if first == last_step:
            return record
        running = states(first, record.y, record.log_pi)
        next(running)  # the state of the checkpoint
    else:
        running = states(0, None, None)
    with progress_bar(name, len(levels), "levels", initial=first + bool(first), disable=not progress) as bar:
        last = time.monotonic()
        for step, state in enumerate(running, first + 1 if first else 0):
            record.y, record.log_pi = state.y, getattr(state, "log_pi", None)
            if step in looks:
                record.sigmas.append(state.sigma)
                for key, p in look(state).items():
                    record.posterior.setdefault(key, []).append(p)
            bar.update()
            if step and time.monotonic() - last > CHECKPOINT_SECONDS:
                folder.store_checkpoint(_checkpoint(record, step, levels))
                last = time.monotonic()
    return record


def _checkpoint(record: Record, step: int, levels: list[float]) -> dict[str, np.ndarray]:
    state = {"step": np.array(step), "y": record.y.numpy()}
    state |= {"sigmas": np.array(record.sigmas), "levels": np.array(levels)}
    if record.log_pi is not None:
        state["log_pi"] = record.log_pi.numpy()
    return state | {f"p.{k}": np.stack(v) for k, v in record.posterior.items()}
