"""The command ``prompts``."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from sigmascope.commands.common import Folder, folder, options_of
from sigmascope.studies.prompt_task import PromptTask


@dataclass(frozen=True)
class Command(PromptTask):
    """At which noise level does a prompt decide what a text-to-image pipeline makes, and where in the image?

    Measures, in nats, how far noisy images of a prompt are from those of the empty prompt, or of another one, down to
    each noise level: where guidance has something to act on. Nothing is guided. The folder named by --out receives
    prompts.png, prompts.svg, prompts.json and results.nc.

    Try it: sigmascope prompts --model diffusers:my-stable-diffusion --prompt "a red cube" --out prompts/red
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of the same command."""


def run(command: Command) -> int:
    """Run it.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    task = options_of(PromptTask, command).check()
    out = folder(command.out)
    from sigmascope.studies.prompting import prompts  # torch is loaded here

    print(prompts(task, out))
    print(f"\nSee {out / 'prompts.png'}", file=sys.stderr)
    return 0
