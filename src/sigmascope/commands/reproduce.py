"""The command ``reproduce``."""

from __future__ import annotations

from dataclasses import dataclass

from sigmascope.commands.common import Folder, finish, folder, options_of
from sigmascope.studies.tasks import ReproduceTask

__all__ = ["Command", "run"]


@dataclass(frozen=True)
class Command(ReproduceTask):
    """Run the experiments of the paper; all results go on one page.

    The paper is "Latent Abstractions in Generative Diffusion Models" (Entropy 27(4):371, 2025). Its experiments: the
    two systems, the schedule, three measurements of one information, forks and probes; others go beyond it. The folder
    named by --out receives report.html (with a slider over the noise level), figures/ (SVG and PDF), tables/ (CSV),
    results.nc (a group for each stage) and stages/.

    Interrupted? Run the same command again: finished stages are kept.

    Try it: sigmascope reproduce --quick --out reproduced

    The file of 3D Shapes: sigmascope reproduce --data 3dshapes.h5 --out reproduced

    A learned model beside the exact filter: sigmascope reproduce --model bundled --out reproduced
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of an earlier reproduction."""


def run(command: Command) -> int:
    """Run the stages, and print the main results.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    task = options_of(ReproduceTask, command).check()
    out = folder(command.out)
    from sigmascope.reproduction import stages  # torch is loaded here

    words, finished = stages.reproduce(task, out)
    return finish(words, finished, out / "report.html", "Open")
