"""The command ``advise``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from sigmascope.arguments import Flag, Place, arg
from sigmascope.commands.common import write_whole
from sigmascope.errors import InputError
from sigmascope.limits import MOST_STEPS, within


@dataclass(frozen=True)
class Command:
    """What to do with what a study found: guidance, editing, forking, training, stopping early.

    Reads off the curves of a finished study, for each attribute: between which noise levels guidance acts, how late a
    negative prompt can, how strongly an image may be edited so that the attribute stays, from which step on forks share
    it, where to train it, from where on it can be checked, and where to put the sampler's steps. With 95 % intervals,
    and in the units of a pipeline's scheduler.

    Try it: sigmascope advise studies/scenes --keep floor_hue --redraw shape
    """

    study: Annotated[str, Place, arg("STUDY")] = ""
    """Folder of a finished study."""
    keep: Annotated[str, arg("A", "(default: each)")] = ""
    """The attribute that the advice is about."""
    redraw: Annotated[str, arg("B", "(default: all others)")] = ""
    """The attribute that is to change."""
    probability: float = 0.9
    """With which what is to be kept is kept."""
    model: Annotated[str, arg("FOLDER", "(default: the study's own pipeline)")] = ""
    """diffusers:FOLDER, a pipeline whose scheduler's units are told (timestep, step, strength, percent)."""
    steps: int = 50
    """Steps of the sampler."""
    timesteps: Annotated[str, arg("T,T", "(default: by --steps)")] = ""
    """Your own list of timesteps, which the pipeline is run with."""
    sigmas: Annotated[str, arg("S,S", "(default: by --steps)")] = ""
    """Your own list of sigmas, as the scheduler counts them."""
    height: Annotated[int, arg("PIXELS", "(default: the pipeline's own)")] = 0
    """Height of the images, which shifts the levels of some pipelines."""
    width: Annotated[int, arg("PIXELS", "(default: the pipeline's own)")] = 0
    """Width of the images."""
    estimator: Annotated[str, arg("NAME", "(default: the study's main one)")] = ""
    """Whose curves to read."""
    json: Flag = False
    """Print JSON in place of words."""
    out: Annotated[str, arg("FILE")] = ""
    """A file that receives the advice as JSON, too."""


def run(command: Command) -> int:
    """Run it.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    if not command.study:
        raise InputError("no study is named: pass the --out of sigmascope study")
    if command.steps > MOST_STEPS:
        within("steps", command.steps, 2, MOST_STEPS, "pass e.g. --steps 50")
    from sigmascope.studies.advice_of import advise  # torch is loaded here
    from sigmascope.studies.advice_words import as_json, as_words

    given = {f.name: getattr(command, f.name) for f in fields(command) if f.name not in ("study", "json", "out")}
    found = advise(command.study, **given)
    if command.out:
        write_whole(Path(command.out), as_json(found))
    print(as_json(found) if command.json else as_words(found))
    return 0
