"""The command ``compare``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sigmascope.arguments import Place, arg
from sigmascope.commands.common import Folder
from sigmascope.errors import InputError
from sigmascope.limits import check_text


@dataclass(frozen=True)
class Command:
    """Which of two finished studies decides each attribute earlier?

    Takes two studies (of two models, two checkpoints, or two sets of data) and gives, for each attribute that both
    have, where half of it is known in each, the ratio of these noise levels with its 95 % interval, the probability
    that the first decides it earlier, and the difference in information at every level. Where both have the same draws,
    differences are taken draw by draw. The folder named by --out receives comparison.png, comparison.svg,
    comparison.csv and comparison.json.

    Try it: sigmascope compare studies/one studies/two --out compared
    """

    a: Annotated[str, Place, arg("STUDY_A")] = ""
    """The first study: its folder, or its results.nc."""
    b: Annotated[str, Place, arg("STUDY_B")] = ""
    """The second."""
    out: Folder = ""
    """Folder for the results: new, empty, or that of the same comparison."""
    estimator: Annotated[str, arg("NAME", "(default: the main one of each)")] = ""
    """Which estimator to compare; NAME:NAME for another one in each, e.g. posterior:likelihood. By default the one
    that each study is about: the exact filter, a model's best bound, a pipeline's forks."""


def run(command: Command) -> int:
    """Run it.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    if not (command.a and command.b and command.out):
        raise InputError("two studies and a folder are wanted: sigmascope compare STUDY_A STUDY_B --out FOLDER")
    check_text(command)
    from sigmascope.studies.compare import compare  # torch is loaded here

    print(compare(command.a, command.b, command.out, command.estimator))
    print(f"\nSee {Path(command.out) / 'comparison.png'}", file=sys.stderr)
    return 0
