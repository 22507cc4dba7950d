"""Images that a pipeline makes itself; they are kept in the folder of a study until it is finished."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.console import progress_bar
from sigmascope.core import InputError
from sigmascope.information.jobs.forking import last_state
from sigmascope.information.jobs.units import Units
from sigmascope.information.parts import Arrays, Parts
from sigmascope.sample import Streams
from sigmascope.sample.forks import levels_below
from sigmascope.sample.schemes import sample
from sigmascope.streams import NoiseOf
from sigmascope.studies.spec import ForeignSpec
from sigmascope.studies.store import IMAGES, States, check_study, keep_images
from sigmascope.studies.subjects.opened import Opened

CHECKPOINT_SECONDS = 8.0
_ROWS = 256  # images made at once


def images_of(spec: ForeignSpec, probed: int) -> int:
    """Number of images of a study of generated ones: its draws, and those to train probes on."""
    return spec.sampling.draws + probed


def kept_images(
    opened: Opened, spec: ForeignSpec, count: int, out: Path | None, progress: bool, look: Callable[[Tensor], object]
) -> Tensor:
    """The images that the pipeline makes, or those that this study made before it was stopped; every rank must call it.

    Each rank makes some of them.  An interrupted run goes on from the states of its samplers.
    """
    s, event = spec.sampling, tuple(opened.denoiser.event)
    made_by = (
        f"{count} {opened.model.digest} {s.seed} {spec.forking.steps} {s.sigma_max:.17g} {opened.reads_at(s):.17g}"
    )
    if out is not None:
        check_study(out, replace(spec, model_fingerprint=opened.model.digest))
    if out is not None and distributed.by_first(lambda: (out / IMAGES).exists()):
        return torch.from_numpy(distributed.by_first(lambda: _read(out, made_by, (count, *event))))
    job = _Images(opened, spec, count)
    states = None if out is None else States(out, made_by)
    if states is not None and (state := states.read()) is not None:
        job.restore(state)
    kept = time.monotonic()
    with progress_bar("generated", job.images, "images", disable=not progress or distributed.rank() > 0) as bar:
        while not job.done:
            made = job.position
            job.step()
            if job.position > made:
                values = torch.from_numpy(job.results[-1]["values"])
                bar.update(len(values))
                if not made and not distributed.rank():
                    look(values)
            if states is not None and time.monotonic() - kept > CHECKPOINT_SECONDS:
                states.write(job.state())
                kept = time.monotonic()
    whole = np.concatenate([u["values"] for u in job.units()])
    if out is not None and states is not None:
        distributed.by_first(lambda: keep_images(out, {"values": whole, "made_by": np.array(made_by)}))
        states.drop()
    return torch.from_numpy(whole)


def _read(out: Path, made_by: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with np.load(out / IMAGES, allow_pickle=False) as file:
            same, values = str(file["made_by"]) == made_by, np.asarray(file["values"])
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{out / IMAGES}: no images of a study, or damaged: delete it and run again") from error
    if not same or values.shape != shape:
        raise InputError(f"{out}: it holds images of another study: choose another --out")
    return values


class _Images(Units):
    """Values that a pipeline makes from noise, float32, in blocks; each has a stream of its own."""

    def __init__(self, opened: Opened, spec: ForeignSpec, count: int) -> None:
        s = spec.sampling
        self._denoiser, self._seed, self._total, self._top = opened.unconditional(s.seed), s.seed, count, s.sigma_max
        self._levels = levels_below(self._top, opened.reads_at(s), spec.forking.steps)
        blocks = [min(_ROWS, count - start) for start in range(0, count, _ROWS)]
        super().__init__("generated", len(blocks), [float(rows) for rows in blocks])
        self.images = sum(blocks[i] for i in self._numbers)

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        start = number * _ROWS
        keys = [(NoiseOf.GENERATED, i) for i in range(start, min(start + _ROWS, self._total))]
        noise, begun = Streams(self._seed, keys, self._denoiser.event), int(held.get("step", 0))
        y = self._top * noise()
        for _ in range(begun):
            noise()
        y = torch.from_numpy(held["rows"]) if begun else y
        states = sample(self._denoiser, y, self._levels[begun:], noise=noise)
        y = yield from last_state(states, begun, len(self._levels) - 1)
        return {"values": y.float().numpy()}
