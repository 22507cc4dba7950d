"""The command ``translate``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from sigmascope.arguments import Flag, Flat, arg, group
from sigmascope.commands.common import SAMPLER, Folder, Sampler
from sigmascope.errors import InputError
from sigmascope.limits import MOST_STEPS, within

__all__ = ["Command", "LevelOptions", "run"]


@dataclass(frozen=True)
class LevelOptions:
    """The noise level, in one of these units."""

    sigma: Annotated[str, arg("SIGMA")] = ""
    """Standard deviation of the noise, where pixels go from 0 (black) to 1 (white), or of latents; inf is noise
    alone."""
    network_sigma: Annotated[str, arg("SIGMA")] = ""
    """Standard deviation in the unit of the network, where pixels go from -1 to 1: twice --sigma."""
    step: Annotated[str, arg("K/N")] = ""
    """The state before step K of N; the first step is 0."""
    timestep: Annotated[str, arg("T")] = ""
    """The timestep that the network is given."""
    strength: Annotated[str, arg("S")] = ""
    """The strength of an image-to-image run."""
    percent: Annotated[str, arg("P")] = ""
    """The percentage of the training clock that has passed, as in ComfyUI."""


@dataclass(frozen=True)
class Command:
    """Convert noise levels: sigma, timestep, step, strength, percent.

    Reads the scheduler of a pipeline of diffusers, and none of its weights. Give the level in one unit: it is printed
    in all of them. Without a level, a table over the whole run is printed. docs/units.md explains every unit.

    Try it: sigmascope translate --model diffusers:my-pipeline --strength 0.6
    """

    model: Folder = ""
    """Folder of a pipeline that save_pretrained has written, with or without diffusers: before it; hub:OWNER/NAME; or
    MODULE:FUNCTION, your own function that returns a pipeline or a network with a schedule."""
    level: Annotated[LevelOptions, Flat, group("level")] = LevelOptions()
    sampler: Sampler = SAMPLER
    json: Flag = False
    """Print JSON in place of a table."""


def run(command: Command) -> int:
    """Print the level in every unit.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    if not command.model:
        raise InputError("no pipeline is named: pass --model diffusers:FOLDER")
    given = {name: value for name, value in asdict(command.level).items() if value}
    if len(given) > 1:
        raise InputError(f"--{' and --'.join(n.replace('_', '-') for n in given)} came: pass one level")
    run_options = asdict(command.sampler)
    steps = run_options.pop("steps")
    within("steps", steps, 1, MOST_STEPS, "pass e.g. --steps 50")
    if "step" in given and steps != SAMPLER.steps and not given["step"].endswith(f"/{steps}"):
        raise InputError(f"--step {given['step']} came with --steps {steps}: leave out --steps")
    from sigmascope.studies.translating import translate  # torch is loaded here

    unit, level = next(iter(given.items()), ("", ""))
    print(translate(command.model, unit, level, steps, as_json=command.json, **run_options))
    return 0
