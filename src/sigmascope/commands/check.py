"""The command ``check``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sigmascope.arguments import Flag, Hidden, arg
from sigmascope.commands.common import write_whole
from sigmascope.errors import InputError
from sigmascope.limits import MOST_SEED, shown

__all__ = ["Command", "run"]


@dataclass(frozen=True)
class Command:
    """Test the theory on systems whose answer is known.

    Simulates small systems and compares what is measured with what the theory demands, one row for each statement:
    Bayes' rule, innovations, change of measure, the equations of Kushner-Stratonovich and Zakai, information,
    sufficiency, time reversal, the denoiser as a filter, and more. A row is green where the two agree within the error
    of the simulation, else red. The exit status is 1 if any row is red.

    Try it: sigmascope check --fast
    """

    out: Annotated[str, arg("FILE", "(default: none)")] = ""
    """Write the table as JSON into this file."""
    fast: Flag = False
    """Simulate an eighth of the paths: takes seconds in place of minutes, with wider margins."""
    seed: int = 0
    """Seed of the simulations: the same seed gives the same numbers."""
    spoil: Hidden = ""


def run(command: Command) -> int:
    """Print the table, row by row.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    if not 0 <= command.seed <= MOST_SEED:
        raise InputError(f"seed is {shown(command.seed)}: it must not be negative, and less than 2^63")
    out = Path(command.out) if command.out else None
    if out is not None and out.is_dir():
        raise InputError(f"{out} cannot be written, it is a folder: pass --out the name of a file")
    if out is not None and not os.access(out.parent, os.W_OK):
        raise InputError(f"{out} cannot be written: pass --out the name of a file, in a folder that can be written")
    from sigmascope.checks import header, run_checks, table, to_json  # torch is loaded here

    verdicts = []
    trials = run_checks(fast=command.fast, seed=command.seed, spoil=command.spoil)
    print(header())
    for verdict in trials:
        verdicts.append(verdict)
        print(table(verdict), flush=True)
    if out is not None:
        write_whole(out, to_json(verdicts, fast=command.fast, seed=command.seed))
    red = [v.row.name for v in verdicts if not v.green]
    print(f"\n{len(verdicts) - len(red)} of {len(verdicts)} green" + (f"; red: {', '.join(red)}" if red else ""))
    return 1 if red else 0
