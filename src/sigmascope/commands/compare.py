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

__all__ = ["Command", "run"]


@dataclass(frozen=True)
class Command:
    """Compare two finished studies: which decides each attribute earlier?

    The studies may be of two models, two checkpoints or two data sets. For each attribute that both have, prints the
    noise levels at which half of its information is known, their ratio with a 95 % interval, and the probability that
    the first study decides it earlier. Where both studies have the same draws, differences are taken draw by draw,
    which makes the intervals narrower. The folder named by --out receives comparison.png, comparison.svg,
    comparison.csv and comparison.json; the figures show the difference at every level.

    Try it: sigmascope compare studies/one studies/two --out compared
    """

    a: Annotated[str, Place, arg("STUDY_A")] = ""
    """The first study: its folder, or its results.nc."""
    b: Annotated[str, Place, arg("STUDY_B")] = ""
    """The second study."""
    out: Folder = ""
    """Folder for the results: new, empty, or that of the same comparison."""
    estimator: Annotated[str, arg("NAME", "(default: the main one of each)")] = ""
    """The estimator whose curves are compared; NAME:NAME takes another one of each study, e.g. posterior:likelihood. By
    default it is the main one: the exact filter, the best bound of a model, or the forks of a pipeline."""


def run(command: Command) -> int:
    """Compare, and print the table.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    if not (command.a and command.b and command.out):
        raise InputError("two studies and a folder are needed: sigmascope compare STUDY_A STUDY_B --out FOLDER")
    check_text(command)
    from sigmascope.studies.compare import compare  # torch is loaded here

    print(compare(command.a, command.b, command.out, command.estimator))
    print(f"\nSee {Path(command.out) / 'comparison.png'}", file=sys.stderr)
    return 0
