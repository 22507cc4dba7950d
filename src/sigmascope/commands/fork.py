"""The command ``fork``."""

from __future__ import annotations

from dataclasses import dataclass

from sigmascope.commands.common import Folder, finish, folder, options_of
from sigmascope.studies.tasks import ForkTask

__all__ = ["Command", "run"]


@dataclass(frozen=True)
class Command(ForkTask):
    """Continue noisy images several times, and count what they share.

    Images of the data are noised up to one level (the parents), and each is continued to a clean image several times
    (its children). Where all children of a parent share an attribute, that noise level has decided it. The folder named
    by --out receives forks.png (each parent, its children, and what they share), forks.csv (for each parent and
    attribute: the commonest value, its share, the entropy over the children and the exact one), and fork.npz. With
    --model a model continues the images, and labels are those of the nearest items; without DATA the parents are states
    of its own path.

    Interrupted? Run the same command again: it continues where it stopped.

    Try it: sigmascope fork hierarchy --sigma 0.4 --forks 32 --out forked

    A model: sigmascope fork --model bundled --sigma 3 --seeds 4 --forks 8 --out forked-by-model
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of the same command."""


def run(command: Command) -> int:
    """Draw the children and print what they share.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    task = options_of(ForkTask, command).check()
    out = folder(command.out)
    from sigmascope.studies import making  # torch is loaded here

    words, finished = making.make_forks(task, out)
    return finish(words, finished, out / "forks.png")
