"""The command ``reproduce``."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from sigmascope.commands.common import Folder, folder, options_of
from sigmascope.studies.tasks import ReproduceTask


@dataclass(frozen=True)
class Command(ReproduceTask):
    """The experiments of the paper behind this program, all figures and tables, on one page.

    Runs "Latent Abstractions in Generative Diffusion Models" (Entropy 27(4):371, 2025): the two systems, the schedule,
    three measurements of one information, forks, probes; and what goes beyond it. The folder named by --out receives
    report.html (with a slider over the noise level), figures/ (SVG and PDF), tables/ (CSV), results.nc (a group for
    each stage) and stages/.

    Interrupted? Run the same command again: finished stages are kept.

    Try it: sigmascope reproduce --quick --out reproduced

    The file of 3D Shapes: sigmascope reproduce --data 3dshapes.h5 --out reproduced

    A learned model beside the exact filter: sigmascope reproduce --model bundled --out reproduced
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of an earlier reproduction."""


def run(command: Command) -> int:
    """Run it.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    task = options_of(ReproduceTask, command).check()
    out = folder(command.out)
    from sigmascope.reproduction import stages  # torch is loaded here

    words, finished = stages.reproduce(task, out)
    if finished:
        print(f"{out}: this is finished; nothing was done. See {out / 'report.html'}", file=sys.stderr)
        return 0
    print(words)
    print(f"\nOpen {out / 'report.html'}", file=sys.stderr)
    return 0
