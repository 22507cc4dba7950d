"""How a pipeline's class uses its scheduler: the levels that it asks for, and where an image-to-image run begins.

Both are asked of diffusers' own classes.  Some pipelines hand their scheduler lists and a shift of their own: what the
class's ``__call__`` passes is read off its source (:mod:`sigmascope.adapters.diffusers.calls`).  Where a run with a
strength begins is what ``get_timesteps`` of the image-to-image pipeline returns.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from sigmascope.adapters.diffusers.calls import passed, pipeline_class, source_of
from sigmascope.adapters.diffusers.folders import line_of, quiet
from sigmascope.adapters.diffusers.schedulers import MOST_STEPS, settings_of
from sigmascope.core import InputError

_PLAIN, _FLOWING = "StableDiffusionImg2ImgPipeline", "FluxPipeline"
_PATCHES = 4096  # of an image of 1024 × 1024 pixels in latents of an eighth, in patches of two by two


@functools.cache
def image_to_image(kind: str | None) -> Any:
    """The class of diffusers that runs a pipeline of a kind from an image, with a strength.

    It is the pipeline itself, the one that diffusers' own ``AutoPipelineForImage2Image`` would take, or the one whose
    name says it; of kinds that have none, that of Stable Diffusion, whose rule is the commonest.
    """
    with quiet():
        from diffusers.pipelines import auto_pipeline as auto

    own = pipeline_class(kind)
    mappings: Any = auto.SUPPORTED_TASKS_MAPPINGS
    families = [name for of in mappings for name, c in of.items() if c.__name__ == kind]
    known = [auto.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING.get(name) for name in families]
    named = pipeline_class(f"{str(kind).removesuffix('Pipeline')}Img2ImgPipeline")
    for found in (own, *known, named):
        if found is not None and hasattr(found, "get_timesteps"):
            return found
    plain = pipeline_class(_PLAIN)
    if plain is None or not hasattr(plain, "get_timesteps"):
        raise InputError("strengths need transformers beside diffusers: pip install 'sigmascope[models]'")
    return plain


class SchedulerSetup:
    """What a pipeline's class asks of its scheduler.

    Args:
        kind: name of the class; None, or a name that diffusers does not have: the scheduler is set as it comes.
        patches: tokens of one image, which shift the levels of some flows; 0: those of 1024 × 1024 pixels.
        sides: height and width in pixels; 0: the pipeline's own.
        config: settings of the pipeline, as its index has them.
    """

    def __init__(
        self,
        kind: str | None = None,
        patches: int = 0,
        sides: tuple[int, int] = (0, 0),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.patches, self.sides, self.config = kind, patches or _PATCHES, sides, config or {}

    def mu(self, scheduler: Any, steps: int) -> float | None:
        """The logarithm of the shift that the pipeline gives to a scheduler that shifts with the size of the image.

        Raises: InputError for a class that gives none, or one that only a run has.
        """
        if not settings_of(scheduler).get("use_dynamic_shifting"):
            return None
        kind = _FLOWING if pipeline_class(self.kind) is None else self.kind
        found = self._passed(kind, scheduler, steps).get("mu")
        if isinstance(found, (int, float)) and math.isfinite(found):
            return float(found)
        raise InputError(
            f"{type(scheduler).__name__} shifts with the size of the image: the shift of {kind} cannot be found; set "
            "use_dynamic_shifting to false in the scheduler's configuration, with the shift"
        )

    def _passed(self, kind: str | None, scheduler: Any, steps: int) -> dict[str, Any]:
        return passed(kind, scheduler, steps, self.patches, self.sides, self.config)

    def set(
        self, scheduler: Any, steps: int, timesteps: Sequence[float] = (), sigmas: Sequence[float] = ()
    ) -> float | None:
        """Set a scheduler as the pipeline does.

        Args:
            scheduler: changed in place.
            steps: of the sampler.
            timesteps: a list of the user's own, in place of the steps.
            sigmas: likewise of levels, as the scheduler counts them.

        Returns: mu, where the levels shift with the size of the image.

        Raises: InputError, in one line, for what the scheduler cannot be set to.
        """
        kind = type(scheduler).__name__
        if not 1 <= steps <= MOST_STEPS:
            raise InputError(f"steps is {steps}: at least 1 is needed, and at most {MOST_STEPS}; pass e.g. --steps 50")
        if not hasattr(scheduler, "set_timesteps"):
            raise InputError(f"{kind} cannot be set to a number of steps: its noise levels are not known")
        takes = _parameters(scheduler.set_timesteps)
        mu = self.mu(scheduler, steps)
        given: dict[str, Any] = {"timesteps": _whole(timesteps)} if timesteps else {}
        given |= {"sigmas": list(sigmas)} if sigmas else {}
        for name in given:
            if name not in takes:
                raise InputError(f"{kind} takes no list of {name} of one's own: leave --{name} out")
        if timesteps:
            given.pop("sigmas", None)
        try:
            with quiet():
                self._set(scheduler, steps, given, {} if mu is None else {"mu": mu})
        except MemoryError:
            raise
        except Exception as error:  # a scheduler of another library raises anything
            aim = "the list that was passed" if given else f"{steps} steps"
            raise InputError(f"{kind} cannot be set to {aim} ({line_of(error)}): pass another") from error
        return mu

    def _set(self, scheduler: Any, steps: int, given: Mapping[str, Any], more: Mapping[str, Any]) -> None:
        if given:
            scheduler.set_timesteps(**more, **given)
            return
        takes = _parameters(scheduler.set_timesteps)
        own = {n: x for n, x in self._lists(scheduler, steps).items() if n in takes}
        if own:
            scheduler.set_timesteps(**own, **more)
        else:
            scheduler.set_timesteps(steps, **more)
        if hasattr(scheduler, "set_sigmas"):  # levels of a scheduler that keeps them apart from its steps
            scheduler.set_sigmas(steps)

    def _lists(self, scheduler: Any, steps: int) -> dict[str, list[float]]:
        """The levels, and the timesteps, that the pipeline passes in place of a number of steps."""
        found = {}
        for name, given in self._passed(self.kind, scheduler, steps).items():
            values = np.asarray(given, dtype=np.float64)
            if name != "mu" and values.shape == (steps,):
                found[name] = [float(x) for x in values]
        return found


def _whole(timesteps: Sequence[float]) -> list[float]:
    """Timesteps as they were typed: whole ones as integers, since tables are indexed by them."""
    return [int(t) if float(t).is_integer() else float(t) for t in timesteps]


def reads_patch_size(kind: object) -> bool:
    """Whether a pipeline counts the tokens of an image by the patch size of its network."""
    return isinstance(kind, str) and "transformer.config.patch_size" in source_of(kind)


def _parameters(function: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


class Starts:
    """Where image-to-image runs begin, asked of a pipeline's class.

    Args:
        kind: name of the pipeline's class.
        scheduler: set to its steps; of a pipeline whose scheduler takes the strength itself, it is set anew.
        steps: how many the pipeline counts.
    """

    def __init__(self, kind: str | None, scheduler: Any, steps: int) -> None:
        self._cls = image_to_image(kind)
        self._scheduler, self._steps = scheduler, steps
        self._takes = _parameters(self._cls.get_timesteps)
        self.apart = "strength" in _parameters(scheduler.set_timesteps) and "strength=strength" in source_of(
            self._cls.__name__
        )
        """Whether the strength changes the steps themselves."""

    def entry(self, strength: float) -> int | None:
        """The entry of the scheduler's lists at which a run of a strength begins; None where no step remains.

        Raises: InputError where the class cannot use the scheduler.
        """
        known = {
            "num_inference_steps": self._steps, "strength": strength, "device": "cpu",
            "timesteps": self._scheduler.timesteps, "sigmas": getattr(self._scheduler, "sigmas", None),
        }  # fmt: skip
        given = {n: known[n] for n in self._takes if n in known}
        try:
            left = len(self._cls.get_timesteps(SimpleNamespace(scheduler=self._scheduler), **given)[-2])
        except Exception as error:  # it was not made for such a scheduler
            kind = type(self._scheduler).__name__
            raise InputError(f"{kind} has no strengths in {self._cls.__name__} ({line_of(error)})") from error
        return None if left == 0 else len(self._scheduler.timesteps) - left

    def timestep(self, strength: float) -> float | None:
        """The first timestep of a run, where the strength changes the steps themselves; None where none remains."""
        try:
            with quiet():
                self._scheduler.set_timesteps(self._steps, strength=strength)
        except Exception:  # too few of the trained steps remain for so many
            return None
        return float(self._scheduler.timesteps[0]) if len(self._scheduler.timesteps) else None
