"""What the steps of a pipeline of diffusers say of E[V | Y], in its own words."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from sigmascope.core import generator

ALONE = 1e-8
"""Share of the data that stands for none in the first state of a flow, which is noise alone in the pipeline."""


class Step(NamedTuple):
    """A step of a pipeline: its state y = v + σ n, and E[V | Y] by the scheduler itself."""

    sigma: float
    y: torch.Tensor
    clean: torch.Tensor
    time: float


def steps_of(pipe: Any, *args: Any, **options: Any) -> list[Step]:
    """The steps of a call of a pipeline."""
    scheduler, found, own = pipe.scheduler, list[Step](), pipe.scheduler.step

    def step(output: torch.Tensor, time: Any, sample: torch.Tensor, *, return_dict: bool = True, **more: Any) -> Any:
        at = len(found)
        if isinstance(scheduler, DPMSolverMultistepScheduler):
            if scheduler.step_index is None:
                scheduler._init_step_index(time)
            clean, after = scheduler.convert_model_output(output, sample=sample), own(output, time, sample, **more)
        else:
            after = own(output, time, sample, **more)
            clean = getattr(after, "pred_original_sample", None)
        if clean is None:  # the straight line of this step, up to the data
            now, then = (float(s) for s in scheduler.sigmas[at : at + 2])
            left = 1 - now if scheduler.config.get("invert_sigmas") else -now
            clean = sample + (after.prev_sample - sample) * (left / (then - now))
        found.append(Step(*_state(scheduler, at, time, sample), clean.double(), float(time)))
        return after if return_dict else (after.prev_sample,)

    scheduler.step = step
    try:
        pipe(*args, generator=generator(1), **options)
    finally:
        del scheduler.step
    return found


def _state(scheduler: Any, at: int, time: Any, sample: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Noise level and y of a state, off the scheduler's lists."""
    sample = sample.double()
    if isinstance(scheduler, DDIMScheduler):
        kept = float(scheduler.alphas_cumprod[int(time)])
        return math.sqrt((1 - kept) / kept), sample / math.sqrt(kept)
    level = float(scheduler.sigmas[at])
    if isinstance(scheduler, EulerDiscreteScheduler):
        return level, sample
    if not hasattr(scheduler, "alphas_cumprod") or scheduler.config.get("use_flow_sigmas"):
        level = min(1 - level if scheduler.config.get("invert_sigmas") else level, 1 - ALONE)
        return level / (1 - level), sample / (1 - level)
    return level, sample * math.hypot(1, level)
