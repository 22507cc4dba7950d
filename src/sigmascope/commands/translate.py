"""The command ``translate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sigmascope.arguments import Flag, arg
from sigmascope.commands.common import Folder
from sigmascope.errors import InputError
from sigmascope.limits import MOST_STEPS, within


@dataclass(frozen=True)
class Command:
    """One noise level in every unit: sigma, decibels, timestep, step, strength, percent.

    Reads the scheduler of a pipeline of diffusers; its weights are not looked at. Without a level it prints a table of
    some. Every unit is explained in docs/units.md.

    Try it: sigmascope translate --model diffusers:my-pipeline --strength 0.6
    """

    model: Folder = ""
    """Folder of a pipeline that save_pretrained has written, perhaps with diffusers: before it."""
    sigma: Annotated[str, arg("SIGMA")] = ""
    """The noise level by its standard deviation, in pixels from 0 to 1 (black to white is 1), or in latents; inf is
    noise alone."""
    network_sigma: Annotated[str, arg("SIGMA")] = ""
    """By its standard deviation in the network's own unit (pixels from -1 to 1: twice the other)."""
    step: Annotated[str, arg("K/N")] = ""
    """By the state before step K (from 0) of N."""
    timestep: Annotated[str, arg("T")] = ""
    """By the timestep that the network is given."""
    strength: Annotated[str, arg("S")] = ""
    """By the strength of an image-to-image run."""
    percent: Annotated[str, arg("P")] = ""
    """By the percentage of the training clock that is done, as ComfyUI counts it."""
    steps: int = 50
    """Steps of the sampler."""
    timesteps: Annotated[str, arg("T,T", "(default: by --steps)")] = ""
    """Your own list of timesteps, which the pipeline is run with."""
    sigmas: Annotated[str, arg("S,S", "(default: by --steps)")] = ""
    """Your own list of sigmas, as the scheduler counts them."""
    height: Annotated[int, arg("PIXELS", "(default: the pipeline's own)")] = 0
    """Height of the images, which shifts the levels of some pipelines (Flux, Stable Diffusion 3.5)."""
    width: Annotated[int, arg("PIXELS", "(default: the pipeline's own)")] = 0
    """Width of the images."""
    json: Flag = False
    """Print JSON in place of a table."""


def run(command: Command) -> int:
    """Run it.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    if not command.model:
        raise InputError("no pipeline is named: pass --model diffusers:FOLDER")
    units = ("sigma", "network_sigma", "step", "timestep", "strength", "percent")
    given = {n: x for n in units if (x := getattr(command, n))}
    if len(given) > 1:
        raise InputError(f"--{' and --'.join(n.replace('_', '-') for n in given)} came: pass one level")
    within("steps", command.steps, 1, MOST_STEPS, "pass e.g. --steps 50")
    if "step" in given and command.steps != Command.steps and not given["step"].endswith(f"/{command.steps}"):
        raise InputError(
            f"--step {given['step']} says how many steps there are, and --steps {command.steps} says otherwise: leave "
            "out --steps"
        )
    from sigmascope.studies.translating import translate  # torch is loaded here

    unit, level = next(iter(given.items()), ("", ""))
    more = {n: getattr(command, n) for n in ("height", "width", "timesteps", "sigmas")}
    print(translate(command.model, unit, level, command.steps, as_json=command.json, **more))
    return 0
