"""The units of the scheduler of a model, however it is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sigmascope.adapters.diffusers.units import Ruler, ruler_of, ruler_of_pipe
from sigmascope.adapters.models import LoadedModel, load_model
from sigmascope.adapters.naming import BUNDLED, names_function, names_pipeline
from sigmascope.core import InputError
from sigmascope.learn.neural import WEIGHTS

NO_SCHEDULER = "it has no scheduler: its noise levels are sigma itself, in the unit of its data"


def ruler_of_any(
    model: str,
    steps: int,
    *,
    height: int = 0,
    width: int = 0,
    timesteps: Sequence[float] = (),
    sigmas: Sequence[float] = (),
) -> Ruler | LoadedModel:
    """The units of a pipeline's scheduler; a model of a function without a scheduler is returned itself.

    Args:
        model: a pipeline, whose weights are not read, or a function of the user.
        steps: of the sampler.
        height: of the images in pixels, for flows that shift with it; 0: the pipeline's own.
        width: likewise.
        timesteps: a list of the user in place of ``steps``.
        sigmas: a list of levels of the user, in the scheduler's unit.

    Raises: InputError for a model of ``sigmascope train``, and for levels that the scheduler does not have.
    """
    if names_function(model):
        loaded = load_model(model)
        if loaded.pipe is None:
            return loaded
        return ruler_of_pipe(loaded.pipe, steps, sides=(height, width), timesteps=timesteps, sigmas=sigmas)
    if not names_pipeline(model) and (model == BUNDLED or (Path(model) / WEIGHTS).exists()):
        raise InputError(f"{model}: {NO_SCHEDULER}")
    return ruler_of(model, steps, height=height, width=width, timesteps=timesteps, sigmas=sigmas)
