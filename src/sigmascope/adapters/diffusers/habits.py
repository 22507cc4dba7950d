"""How a pipeline's class uses its scheduler: the levels that it asks for, and where an image-to-image run begins.

Both are asked of diffusers' own classes.  Some pipelines hand their scheduler levels and a shift of their own: these
are the expressions that the class's ``__call__`` assigns to ``sigmas`` and ``mu``, which are evaluated here.  Where a
run with a strength begins is what ``get_timesteps`` of the image-to-image pipeline returns.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from sigmascope.adapters.diffusers.folders import class_of, line_of, quiet
from sigmascope.adapters.diffusers.schedulers import MOST_STEPS, settings_of
from sigmascope.core import InputError

_PLAIN, _FLOWING = "StableDiffusionImg2ImgPipeline", "FluxPipeline"
_PATCHES = 4096  # of an image of 1024 × 1024 pixels in latents of an eighth, in patches of two by two


def pipeline_class(kind: object) -> type | None:
    """The class of diffusers with a name; None where it has none."""
    try:
        return class_of(kind) if isinstance(kind, str) else None
    except InputError:  # what the class is made of is missing here
        return None


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


class Habits:
    """What a pipeline's class asks of its scheduler.

    Args:
        kind: name of the class; None, or a name that diffusers does not have: the scheduler is set as it comes.
        patches: tokens of one image, which shift the levels of some flows.
    """

    def __init__(self, kind: str | None = None, patches: int = _PATCHES) -> None:
        self.kind, self.patches = kind, patches

    def mu(self, scheduler: Any, steps: int) -> float | None:
        """The logarithm of the shift that the pipeline gives to a scheduler that shifts with the size of the image."""
        if not settings_of(scheduler).get("use_dynamic_shifting"):
            return None
        more = {"self": SimpleNamespace(scheduler=scheduler), "num_inference_steps": steps}
        for kind in (self.kind, _FLOWING):
            for found in self._assigned(kind, "mu", more):
                if isinstance(found, (int, float)):
                    return float(found)
        raise InputError(f"{type(scheduler).__name__} shifts with the size of the image: the shift cannot be found")

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
        own = self._own_sigmas(scheduler, steps) if "sigmas" in _parameters(scheduler.set_timesteps) else None
        if own is not None:
            scheduler.set_timesteps(sigmas=own, **more)
        else:
            scheduler.set_timesteps(steps, **more)
        if hasattr(scheduler, "set_sigmas"):  # levels of a scheduler that keeps them apart from its steps
            scheduler.set_sigmas(steps)

    def _own_sigmas(self, scheduler: Any, steps: int) -> list[float] | None:
        if settings_of(scheduler).get("use_flow_sigmas") and "use_flow_sigmas" in _source(self.kind):
            return None
        more = {"num_inference_steps": steps, "sigmas": None, "timesteps": None}
        for found in self._assigned(self.kind, "sigmas", more):
            if isinstance(found, (list, np.ndarray)) and len(found) == steps:
                return [float(x) for x in found]
        return None

    def _assigned(self, kind: str | None, name: str, more: Mapping[str, Any]) -> list[Any]:
        """Values that ``__call__`` of a class assigns to a name, of the expressions that need no more than is known."""
        found = []
        cls = pipeline_class(kind)
        for value in _assignments(kind, name):
            names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
            constants = {n: v.value for n in names for v in _assignments(kind, n) if isinstance(v, ast.Constant)}
            known = {**vars(sys.modules[cls.__module__]), **constants, **more} if cls is not None else dict(more)
            lengths = {n: self.patches for n in names if n.endswith(("seq_len", "sequence_length"))}
            known |= lengths | {"latents": SimpleNamespace(shape=(1, self.patches))}
            try:
                found.append(eval(compile(ast.Expression(value), f"<{kind}>", "eval"), known))  # diffusers' own code
            except Exception:  # it needs what only a run of the pipeline has
                continue
        return found


def _whole(timesteps: Sequence[float]) -> list[float]:
    """Timesteps as they were typed: whole ones as integers, since tables are indexed by them."""
    return [int(t) if float(t).is_integer() else float(t) for t in timesteps]


@functools.cache
def _source(kind: str | None) -> str:
    cls = pipeline_class(kind)
    try:
        return textwrap.dedent(inspect.getsource(cls.__call__)) if cls is not None else ""
    except (OSError, TypeError, AttributeError):
        return ""


@functools.cache
def _assignments(kind: str | None, name: str) -> tuple[ast.expr, ...]:
    """Expressions that ``__call__`` of a class of diffusers assigns to a name."""
    try:
        tree = ast.parse(_source(kind))
    except SyntaxError:
        return ()
    return tuple(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    )


def reads_patch_size(kind: object) -> bool:
    """Whether a pipeline counts the tokens of an image by the patch size of its network."""
    return isinstance(kind, str) and "transformer.config.patch_size" in _source(kind)


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
        self.apart = "strength" in _parameters(scheduler.set_timesteps) and "strength=strength" in _source(
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
