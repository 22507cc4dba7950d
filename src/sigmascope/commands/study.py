"""The command ``study``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from sigmascope.arguments import Flag, arg
from sigmascope.commands.common import Folder, folder, options_of
from sigmascope.errors import InputError
from sigmascope.studies.classes import read_classes
from sigmascope.studies.options import StudyOptions, changed, code_that_runs, flat
from sigmascope.studies.spec import Spec, read_spec, spec_of


@dataclass(frozen=True)
class Command(StudyOptions):
    """At which noise level is each attribute of a data set decided?

    Computes, exactly, the information (in nats) that an image under Gaussian noise of level sigma carries about
    each of its attributes, for a range of sigma, and when each attribute emerges as noise falls. The folder
    named by --out receives report.html (open it in a browser), figures/, onset.csv, results.nc (an xarray
    Dataset) and spec.toml.

    Interrupted? Run the same command again: it goes on where it stopped.

    Try it: sigmascope study scenes --out studies/scenes

    A learned model: sigmascope study scenes --model bundled --out studies/bundled

    Your data: sigmascope study my-images.npz --attributes digit,slant:bins=8 --out studies/mine
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of the same study."""
    spec: Annotated[str, arg("FILE")] = ""
    """A spec.toml that a study has written: repeat that study, to the same numbers. Options beside it override it."""
    dry_run: Flag = False
    """Print the resolved specification and the predicted work and memory, and stop."""


def run(command: Command) -> int:
    """Run it.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    spec = _spec(command)
    out = None if command.dry_run else folder(command.out)
    import sigmascope.distributed as distributed
    from sigmascope.studies import run as runner  # torch is loaded here

    if out is None:
        from sigmascope.commands.dry_run import dry_run

        return dry_run(spec)
    results, table, finished = runner.run(spec, out, progress=True)
    from sigmascope.report.table import onset_text
    from sigmascope.studies.marks import doubts

    if distributed.rank():
        return 0
    if finished:
        print(f"{out}: this study is finished; nothing was done. See {out / 'report.html'}", file=sys.stderr)
        return 0
    print(onset_text(table, doubts(results)))
    print(f"\nOpen {out / 'report.html'}", file=sys.stderr)
    return 0


def asked_by(file: str) -> Command:
    """What the file of ``--spec`` says, but for what runs code: that is taken from the command line alone.

    Raises: InputError for a file that is no specification.
    """
    stored, usual = read_spec(Path(file)).options(), flat(StudyOptions())
    of_file = changed(stored, **{name: usual[name] for name in code_that_runs(stored)})
    return Command(**{f.name: getattr(of_file, f.name) for f in fields(of_file)})


def _spec(command: Command) -> Spec:
    """The specification; fingerprints of a file hold for the data and the model that it names."""
    asked = options_of(StudyOptions, command)
    if command.spec:
        stored = read_spec(Path(command.spec)).options()
        for name, said in code_that_runs(stored).items():
            if not flat(asked)[name]:
                raise InputError(f"{command.spec}: {said}")
        if asked.inputs != stored.inputs:
            asked = changed(asked, fingerprint="")
        if asked.model != stored.model:
            asked = changed(asked, model_fingerprint="")
    return spec_of(**flat(changed(asked, classes=read_classes(asked.pipeline.classes))))
