"""The command ``mi``."""

from __future__ import annotations

from dataclasses import dataclass

from sigmascope.commands.common import Folder, finish, folder, options_of
from sigmascope.studies.mutual_task import MutualTask

__all__ = ["Command", "run"]


@dataclass(frozen=True)
class Command(MutualTask):
    """Measure the mutual information of two arrays of samples.

    Adds noise to one array, trains small networks to remove it with and without the other array, and integrates the
    difference over all noise levels, in nats. Prints the value with an interval, a lower bound, and whether the
    measures agree. Columns may be numbers or classes; order-preserving changes of a column change nothing. The folder
    named by --out receives mutual.json, mutual.csv, mutual.png, mutual.svg and report.html.

    Try it: sigmascope mi samples.npz --x x --y y --out information
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of the same command."""


def run(command: Command) -> int:
    """Measure, and print the value.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    task = options_of(MutualTask, command).check()
    out = folder(command.out)
    from sigmascope.studies.mutual import measure  # torch is loaded here

    return finish(*measure(task, out), out / "report.html")
