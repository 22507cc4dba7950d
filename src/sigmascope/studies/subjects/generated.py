"""Images that a pipeline makes itself; they are kept in the folder of a study until it is finished."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sigmascope.console import progress_bar
from sigmascope.core import InputError
from sigmascope.sample import Streams
from sigmascope.sample.forks import levels_below
from sigmascope.sample.schemes import final, sample
from sigmascope.streams import NoiseOf
from sigmascope.studies.spec import ForeignSpec
from sigmascope.studies.store import IMAGES, check_study, keep_images
from sigmascope.studies.subjects.opened import Opened

_ROWS = 256  # images made at once


def images_of(spec: ForeignSpec, probed: int) -> int:
    """Number of images of a study of generated ones: its draws, and those to train probes on."""
    return spec.sampling.draws + probed


def kept_images(
    opened: Opened, spec: ForeignSpec, count: int, out: Path | None, progress: bool, look: Callable[[Tensor], object]
) -> Tensor:
    """The images that the pipeline makes, or those that this study made before it was stopped."""
    s, event = spec.sampling, tuple(opened.denoiser.event)
    made_by = (
        f"{count} {opened.model.digest} {s.seed} {spec.forking.steps} {s.sigma_max:.17g} {opened.reads_at(s):.17g}"
    )
    if out is not None:
        check_study(out, replace(spec, model_fingerprint=opened.model.digest))
    if out is not None and (out / IMAGES).exists():
        try:
            with np.load(out / IMAGES, allow_pickle=False) as file:
                same, values = str(file["made_by"]) == made_by, file["values"]
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{out / IMAGES}: no images of a study, or damaged: delete it and run again") from error
        if not same or values.shape != (count, *event):
            raise InputError(f"{out}: it holds images of another study: choose another --out")
        return torch.from_numpy(values)
    values = _generated(opened, spec, count, progress, look)
    if out is not None:
        keep_images(out, {"values": values.numpy(), "made_by": np.array(made_by)})
    return values


def _generated(
    opened: Opened, spec: ForeignSpec, count: int, progress: bool, look: Callable[[Tensor], object]
) -> Tensor:
    """Values that the pipeline makes from noise, float32, shape (count, *event); each has a stream of its own."""
    s = spec.sampling
    denoiser, top = opened.unconditional(s.seed), s.sigma_max
    parts = []
    with progress_bar("generated", count, "images", disable=not progress) as bar:
        for start in range(0, count, _ROWS):
            some = min(_ROWS, count - start)
            noise = Streams(s.seed, [(NoiseOf.GENERATED, start + i) for i in range(some)], denoiser.event)
            levels = levels_below(top, opened.reads_at(s), spec.forking.steps)
            parts.append(final(sample(denoiser, top * noise(), levels, noise=noise)).y.float())
            if not start:
                look(parts[0])
            bar.update(some)
    return torch.cat(parts)
