"""The command ``study``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from sigmascope.arguments import Flag, arg
from sigmascope.commands.common import Folder, finish, folder, options_of
from sigmascope.errors import InputError
from sigmascope.studies.classes import read_classes
from sigmascope.studies.options import StudyOptions, changed, code_that_runs, flat
from sigmascope.studies.spec import Spec, read_spec, spec_of

__all__ = ["Command", "from_file", "run"]


@dataclass(frozen=True)
class Command(StudyOptions):
    """Measure at which noise level each attribute is decided.

    Computes the information, in nats, that an image under Gaussian noise of level sigma carries about each of its
    attributes, over a range of noise levels, and the levels at which each attribute emerges as the noise falls. With
    data alone the numbers are those of the exact filter of the data; --model measures a learned model. The folder named
    by --out receives report.html (open it in a browser), figures/, onset.csv, results.nc (an xarray Dataset) and
    spec.toml.

    Interrupted? Run the same command again: it continues where it stopped.

    Try it: sigmascope study scenes --out studies/scenes

    A learned model: sigmascope study scenes --model bundled --out studies/bundled

    Your data: sigmascope study my-images.npz --attributes digit,slant:bins=8 --out studies/mine
    """

    out: Folder = ""
    """Folder for the results: new, empty, or that of the same study."""
    spec: Annotated[str, arg("FILE")] = ""
    """A spec.toml that a study has written: repeat that study, to the same numbers. Options beside it override it."""
    dry_run: Flag = False
    """Print the complete specification and the predicted time and memory, and stop."""


def run(command: Command) -> int:
    """Do the study and print its table.

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
    return finish(onset_text(table, doubts(results)), finished, out / "report.html", "Open")


def from_file(file: str) -> Command:
    """The options of the file of ``--spec``, without those that run code: these count on the command line alone.

    Raises: InputError for a file that is no specification.
    """
    stored, usual = read_spec(Path(file)).options(), flat(StudyOptions())
    safe = changed(stored, **{name: usual[name] for name in code_that_runs(stored)})
    return Command(**{f.name: getattr(safe, f.name) for f in fields(safe)})


def _spec(command: Command) -> Spec:
    """The specification; the fingerprints in a file hold for the data and the model that the file names."""
    options = options_of(StudyOptions, command)
    if command.spec:
        stored = read_spec(Path(command.spec)).options()
        for name, consequence in code_that_runs(stored).items():
            if not flat(options)[name]:
                raise InputError(f"{command.spec}: {consequence}")
        if options.inputs != stored.inputs:
            options = changed(options, fingerprint="")
        if options.model != stored.model:
            options = changed(options, model_fingerprint="")
    return spec_of(**flat(changed(options, classes=read_classes(options.pipeline.classes))))
