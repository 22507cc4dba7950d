"""The command ``prompts``."""

from __future__ import annotations

from dataclasses import dataclass

from sigmascope.commands.common import Folder, finish, folder, options_of
from sigmascope.studies.prompt_task import PromptTask

__all__ = ["Command", "run"]


@dataclass(frozen=True)
class Command(PromptTask):
    """Measure at which noise level a prompt decides the image.

    Measures, in nats, how much the noisy images that a text-to-image pipeline makes of a prompt differ from those of
    the empty prompt, or of another prompt, down to each noise level, and where in the image. This shows between which
    levels guidance has an effect. The images are made without guidance. The folder named by --out receives
    prompts.png, prompts.svg, prompts.json and results.nc.

    Try it: sigmascope prompts --model diffusers:my-stable-diffusion --prompt "a red cube" --out prompts/red
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of the same command."""


def run(command: Command) -> int:
    """Measure, and print the table.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    task = options_of(PromptTask, command).check()
    out = folder(command.out)
    from sigmascope.studies.prompting import prompts  # torch is loaded here

    return finish(prompts(task, out), False, out / "prompts.png")
