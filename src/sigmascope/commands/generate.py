"""The command ``generate``."""

from __future__ import annotations

from dataclasses import dataclass

from sigmascope.commands.common import Folder, finish, folder, options_of
from sigmascope.studies.classes import read_classes
from sigmascope.studies.options import changed
from sigmascope.studies.tasks import GenerateTask

__all__ = ["Command", "run"]


@dataclass(frozen=True)
class Command(GenerateTask):
    """Generate images, and show when each is decided.

    Without --model the denoiser is the exact one of the data set, so every image ends at one of its items. With --model
    the images are those of a model, and the belief about its attributes is filtered along its own path: at which step
    was each decided? The folder named by --out receives images.png (the images, with their attributes), decisions.png
    (what is still undecided of each attribute along the way), images.csv, and generate.npz (images, and posteriors
    along the way).

    Interrupted? Run the same command again: it continues where it stopped.

    Try it: sigmascope generate hierarchy --sampler filter --out made

    A model: sigmascope generate --model bundled --watch shape --out made-by-model
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of the same command."""


def run(command: Command) -> int:
    """Generate, and print a summary.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    task = options_of(GenerateTask, command)
    task = changed(task, classes=read_classes(task.by.classes)).check()
    out = folder(command.out)
    from sigmascope.studies import making  # torch is loaded here

    words, finished = making.generate(task, out)
    return finish(words, finished, out / "images.png")
