"""The setting of a scheduler as a pipeline's class does it, and the level at which an image-to-image run begins.

Both follow diffusers' own classes.  Some pipelines pass lists and a shift of their own to their scheduler; the source
of ``__call__`` gives these (:mod:`sigmascope.adapters.diffusers.calls`).  ``get_timesteps`` of the image-to-image
pipeline gives the level at which a run with a strength begins.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from sigmascope.adapters.diffusers.calls import passed, pipeline_class, source_of
from sigmascope.adapters.diffusers.folders import line_of, quiet
from sigmascope.adapters.diffusers.schedulers import MOST_STEPS, settings_of
from sigmascope.core import InputError

_DEFAULT_IMG2IMG, _DEFAULT_FLOW = "StableDiffusionImg2ImgPipeline", "FluxPipeline"
_PATCHES = 4096  # of 1024 × 1024 pixels, in latents of an eighth of the side and patches of two by two


@functools.cache
def image_to_image(kind: str | None) -> Any:
    """The class of diffusers that runs a pipeline of a kind from an image, with a strength.

    It is the class itself, the one that diffusers' ``AutoPipelineForImage2Image`` takes, the one with the matching
    name, or else that of Stable Diffusion, whose rule is the most common.
    """
    with quiet():
        from diffusers.pipelines import auto_pipeline as auto

    mappings: Any = auto.SUPPORTED_TASKS_MAPPINGS
    families = [name for mapping in mappings for name, c in mapping.items() if c.__name__ == kind]
    candidates = [
        pipeline_class(kind),
        *(auto.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING.get(name) for name in families),
        pipeline_class(f"{str(kind).removesuffix('Pipeline')}Img2ImgPipeline"),
        pipeline_class(_DEFAULT_IMG2IMG),
    ]
    for cls in candidates:
        if cls is not None and hasattr(cls, "get_timesteps"):
            return cls
    raise InputError("strengths need transformers besides diffusers: pip install 'sigmascope[models]'")


@dataclass(frozen=True)
class SchedulerSetup:
    """The setting of a scheduler by the class of a pipeline, for images with some number of tokens.

    Without a class of diffusers the scheduler's own setting is used.
    """

    kind: str | None = None
    patches: int = 0
    sides: tuple[int, int] = (0, 0)
    config: Mapping[str, Any] | None = None

    def mu(self, scheduler: Any, steps: int) -> float | None:
        """The logarithm of the shift that the pipeline passes to a scheduler that shifts with the size of the image."""
        if not settings_of(scheduler).get("use_dynamic_shifting"):
            return None
        kind = _DEFAULT_FLOW if pipeline_class(self.kind) is None else self.kind
        mu = self._passed(kind, scheduler, steps).get("mu")
        if isinstance(mu, (int, float)) and math.isfinite(mu):
            return float(mu)
        raise InputError(
            f"{type(scheduler).__name__} shifts with the size of the image: the shift of {kind} cannot be found; set "
            "use_dynamic_shifting to false in the scheduler's configuration, with the shift"
        )

    def _passed(self, kind: str | None, scheduler: Any, steps: int) -> dict[str, Any]:
        return passed(kind, scheduler, steps, self.patches or _PATCHES, self.sides, self.config or {})

    def set(
        self, scheduler: Any, steps: int, timesteps: Sequence[float] = (), sigmas: Sequence[float] = ()
    ) -> float | None:
        """Set a scheduler as the pipeline does, and return mu, where the levels shift with the size of the image.

        The user's own timesteps or levels, in the scheduler's unit, replace the steps.  InputError where it cannot be
        set.
        """
        kind = type(scheduler).__name__
        if not 1 <= steps <= MOST_STEPS:
            raise InputError(f"steps is {steps}: at least 1 is needed, and at most {MOST_STEPS}; pass e.g. --steps 50")
        if not hasattr(scheduler, "set_timesteps"):
            raise InputError(f"{kind} cannot be set to a number of steps: its noise levels are not known")
        parameters = _parameters(scheduler.set_timesteps)
        mu = self.mu(scheduler, steps)
        for name, values in (("timesteps", timesteps), ("sigmas", sigmas)):
            if values and name not in parameters:
                raise InputError(f"{kind} takes no list of {name}: leave --{name} out")
        lists: dict[str, Any] = {"sigmas": list(sigmas)} if sigmas else {}
        if timesteps:  # whole ones as integers, which are indices of tables
            lists = {"timesteps": [int(t) if float(t).is_integer() else float(t) for t in timesteps]}
        try:
            with quiet():
                self._set(scheduler, steps, lists, {} if mu is None else {"mu": mu})
        except MemoryError:
            raise
        except Exception as error:  # a scheduler of another library raises anything
            aim = "the list that was passed" if lists else f"{steps} steps"
            raise InputError(f"{kind} cannot be set to {aim} ({line_of(error)}): pass another") from error
        return mu

    def _set(self, scheduler: Any, steps: int, lists: Mapping[str, Any], shift: Mapping[str, Any]) -> None:
        if lists:
            scheduler.set_timesteps(**shift, **lists)
            return
        parameters, arguments = _parameters(scheduler.set_timesteps), self._passed(self.kind, scheduler, steps)
        arrays = {n: np.asarray(arguments[n], dtype=np.float64) for n in arguments if n != "mu" and n in parameters}
        own = {n: x.tolist() for n, x in arrays.items() if x.shape == (steps,)}
        if own:
            scheduler.set_timesteps(**own, **shift)
        else:
            scheduler.set_timesteps(steps, **shift)
        if hasattr(scheduler, "set_sigmas"):  # a scheduler with separate levels
            scheduler.set_sigmas(steps)


def reads_patch_size(kind: object) -> bool:
    """Whether the number of tokens of an image in a pipeline depends on the patch size of its network."""
    return isinstance(kind, str) and "transformer.config.patch_size" in source_of(kind)


def _parameters(function: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


class Starts:
    """The states at which image-to-image runs begin, by the class of a pipeline and its scheduler, set to its steps."""

    def __init__(self, kind: str | None, scheduler: Any, steps: int) -> None:
        self._cls = image_to_image(kind)
        self._scheduler, self._steps = scheduler, steps
        takes_strength = "strength" in _parameters(scheduler.set_timesteps)
        self.changes_steps = takes_strength and "strength=strength" in source_of(self._cls.__name__)
        """Whether the strength changes the steps themselves."""

    def entry(self, strength: float) -> int | None:
        """The entry of the scheduler's lists at which a run of a strength begins; None where no step remains."""
        known = {
            "num_inference_steps": self._steps, "strength": strength, "device": "cpu",
            "timesteps": self._scheduler.timesteps, "sigmas": getattr(self._scheduler, "sigmas", None),
        }  # fmt: skip
        arguments = {n: known[n] for n in _parameters(self._cls.get_timesteps) if n in known}
        try:
            left = len(self._cls.get_timesteps(SimpleNamespace(scheduler=self._scheduler), **arguments)[-2])
        except Exception as error:  # the class was not made for such a scheduler
            kind = type(self._scheduler).__name__
            raise InputError(f"{kind} has no strengths in {self._cls.__name__} ({line_of(error)})") from error
        return None if left == 0 else len(self._scheduler.timesteps) - left

    def timestep(self, strength: float) -> float | None:
        """The first timestep of a run, where the strength changes the steps themselves; None where none remains."""
        try:
            with quiet():
                self._scheduler.set_timesteps(self._steps, strength=strength)
        except Exception:  # too few of the trained steps remain
            return None
        return float(self._scheduler.timesteps[0]) if len(self._scheduler.timesteps) else None
