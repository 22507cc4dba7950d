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


@dataclass(frozen=True)
class Command:
    """Are the statements of the theory true, as this program computes them?

    Simulates small systems whose answer is known, one row for each statement (Bayes, innovation, change of measure,
    Kushner-Stratonovich, Zakai, information theorem, sufficiency, time reversal, denoiser = filter, ...), and compares
    what is measured with what the theory demands. Exit status 1 if any row is red.

    Try it: sigmascope check --fast
    """

    out: Annotated[str, arg("FILE", "(default: none)")] = ""
    """Write the table as JSON into this file."""
    fast: Flag = False
    """An eighth of the paths: seconds in place of minutes, wider margins."""
    seed: int = 0
    """Seed of the simulations: the same seed gives the same numbers."""
    spoil: Hidden = ""


def run(command: Command) -> int:
    """Run it.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    if not 0 <= command.seed <= MOST_SEED:
        raise InputError(f"seed is {shown(command.seed)}: it must not be negative, and less than 2^63")
    out = Path(command.out) if command.out else None
    if out is not None and (out.is_dir() or not os.access(out.parent, os.W_OK)):
        raise InputError(f"{out}: it is a folder, or in none that can be written: pass --out a file's name")
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
