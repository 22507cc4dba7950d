"""The command line.  torch is loaded only once there is work to do."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import tyro

from sigmascope import __version__
from sigmascope.errors import InputError
from sigmascope.studies.spec import Spec, listed, read_spec


def _shown(metavar: str, hint: str = "") -> Any:
    """An argument whose empty default is not worth showing."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


@dataclass(frozen=True)
class StudyCommand:
    """At which noise level is each attribute of a data set decided?

    Computes, exactly, the information (in nats) that an image under Gaussian noise of level sigma carries about
    each of its attributes, for a range of sigma, and when each attribute emerges as noise falls. The folder
    named by --out receives report.html (open it in a browser), figures/, onset.csv, results.nc (an xarray
    Dataset) and spec.toml.

    Interrupted? Run the same command again: it goes on where it stopped.

    Try it: sigmascope study scenes --out studies/scenes

    Your data: sigmascope study my-images.npz --abstractions digit,slant:bins=8 --out studies/mine
    """

    data: Annotated[str, tyro.conf.Positional, _shown("DATA")] = ""
    """What to study: the word 'scenes' (480,000 rendered images), an .npz file with 'images' and one array per
    attribute, a .parquet file with encoded pictures and label columns, a folder of pictures (a folder per class, or
    with metadata.csv or metadata.jsonl), or a file in the .h5 layout of 3D Shapes."""
    out: Annotated[str, _shown("FOLDER", "(required)")] = ""
    """Folder for the results: new, empty, or that of the same study."""
    spec: Annotated[str, _shown("FILE")] = ""
    """A spec.toml that a study has written: repeat that study, to the same numbers. Options beside it override it."""
    abstractions: Annotated[str, _shown("A,B", "(default: all)")] = ""
    """Attributes to study, separated by commas. A real-valued one is cut into quantile bins with name:bins=8;
    shape+scale is the joint value of two, and gives the information of each given the other."""
    draws: int = 256
    """Noisy images drawn. Standard errors fall with its square root, time grows in proportion."""
    levels: int = 40
    """Noise levels between --sigma-max and --sigma-min, evenly spaced in ln sigma."""
    sigma_min: float = 0.01
    """Last noise level, in the unit of the data (8-bit pixels: of the full range, black to white)."""
    sigma_max: float = 90.0
    """First noise level."""
    seed: int = 0
    """Seed of the draws: the same seed gives the same numbers."""
    size: int = 32
    """Side of the scenes in pixels: 16, 32 or 64."""
    grain: tyro.conf.FlagCreatePairsOff[bool] = False
    """Give the floor of the scenes a fine texture, one more attribute of four values: 1,920,000 images."""
    law: Annotated[str, tyro.conf.arg(metavar="LAW")] = "empirical"
    """Whose information: empirical (of exactly these items; exact), or heldout (of the population that they come
    from; lower bounds, by items held out and a filter made of the rest; for natural images)."""
    estimators: Annotated[str, tyro.conf.arg(metavar="A,B")] = "posterior,score_gap"
    """Ways to measure: posterior (always), score_gap, mmse_gap. They must agree; the page shows how well they do."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """Where to compute: auto (a CUDA GPU where there is one), cpu, cuda."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved specification and the predicted work and memory, and stop."""


@dataclass(frozen=True)
class CheckCommand:
    """Are the statements of the theory true, as this program computes them?

    Simulates small systems whose answer is known, one row for each statement (Bayes, innovation, change of measure,
    Kushner-Stratonovich, Zakai, information theorem, sufficiency, time reversal, denoiser = filter, ...), and compares
    what is measured with what the theory demands. Exit status 1 if any row is red.

    Try it: sigmascope check --fast
    """

    out: Annotated[str, _shown("FILE", "(default: none)")] = ""
    """Write the table as JSON into this file."""
    fast: tyro.conf.FlagCreatePairsOff[bool] = False
    """An eighth of the paths: seconds in place of minutes, wider margins."""
    seed: int = 0
    """Seed of the simulations: the same seed gives the same numbers."""
    spoil: tyro.conf.Suppress[str] = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sigmascope``; returns the exit status."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if args in (["--version"], ["-V"]):
            print(f"sigmascope {__version__}")
            return 0
        command = _parse(args)
        return _check(command) if isinstance(command, CheckCommand) else _study(command)
    except InputError as error:
        print(f"sigmascope: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sigmascope: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("sigmascope: the memory is exhausted: use fewer --draws, or a machine with more", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "memory" not in str(error):  # torch reports a full GPU, and a full machine, as a RuntimeError
            raise
        print("sigmascope: the memory is exhausted: use fewer --draws, or another --device", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsigmascope: stopped; run the same command again to go on", file=sys.stderr)
        return 130


def _parse(args: list[str]) -> StudyCommand | CheckCommand:
    default = StudyCommand()
    args, spoil = _without_break(args)
    given = [b for a, b in pairwise(args) if a == "--spec"]
    given += [a.removeprefix("--spec=") for a in args if a.startswith("--spec=")]
    if given and not {"-h", "--help"} & set(args):
        s = read_spec(Path(given[-1]))
        same = {
            f.name: getattr(s, f.name) for f in fields(s) if f.name not in ("abstractions", "estimators", "fingerprint")
        }
        default = StudyCommand(abstractions=",".join(s.abstractions), estimators=",".join(s.estimators), **same)

    def study(command: Annotated[StudyCommand, tyro.conf.arg(name="")] = default) -> StudyCommand:
        return command

    def check(command: Annotated[CheckCommand, tyro.conf.arg(name="")] = CheckCommand()) -> CheckCommand:
        return replace(command, spoil=spoil)

    study.__doc__, check.__doc__ = StudyCommand.__doc__, CheckCommand.__doc__
    app = tyro.extras.SubcommandApp()
    app.command(study)
    app.command(check)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return app.cli(
                prog="sigmascope",
                description="At which noise level a diffusion model decides each attribute, with error bars.",
                args=args,
                use_underscores=False,
            )
    except SystemExit as stop:
        if stop.code == 2:
            of = f" {args[0]}" if args and args[0] in ("study", "check") else ""
            raise InputError(f"{_first_line(complaint.getvalue()).rstrip('.')}: see sigmascope{of} --help") from None
        raise


def _without_break(args: list[str]) -> tuple[list[str], str]:
    """``check --break NAME`` corrupts an ingredient of a row, so that a test can see it fail; not in the help."""
    if args[:1] != ["check"] or "--break" not in args:
        return args, ""
    place = args.index("--break")
    if place + 1 == len(args):
        raise InputError("--break wants the name of a row of the table")
    return args[:place] + args[place + 2 :], args[place + 1]


def _first_line(box: str) -> str:
    """The first sentence of a complaint of the parser, which comes in a box of lines or of dashes, as one line."""
    ruled = re.split(r"\n(?:[^\n]*───[^\n]*|\s*---+\s*)(?=\n)", f"\n{box}\n")
    parts = [" ".join(re.sub(r"[│╭╮╰╯]", " ", part).split()) for part in ruled]
    said = [part for part in parts if part]
    titled = "───" not in box and len(said) > 1
    return said[1 if titled else 0] if said else "the command cannot be read"


def _study(command: StudyCommand) -> int:
    spec = Spec(
        data=command.data,
        abstractions=listed(command.abstractions),
        draws=command.draws,
        levels=command.levels,
        sigma_min=command.sigma_min,
        sigma_max=command.sigma_max,
        seed=command.seed,
        size=command.size,
        grain=command.grain,
        law=command.law,
        estimators=listed(command.estimators),
        device=command.device,
    ).check()
    if command.spec:
        stored = read_spec(Path(command.spec))
        if command.abstractions == ",".join(stored.abstractions):  # a column's name may hold a comma
            spec = replace(spec, abstractions=stored.abstractions)
        if all(getattr(spec, n) == getattr(stored, n) for n in ("data", "abstractions", "size", "grain")):
            spec = replace(spec, fingerprint=stored.fingerprint)
    if not command.out and not command.dry_run:
        raise InputError("no folder for the results was named: pass --out FOLDER")
    from sigmascope.studies import runner  # torch is loaded here

    if command.dry_run:
        return _dry_run(spec)
    out = Path(command.out)
    _, table, finished = runner.run(spec, out, progress=True)
    from sigmascope.report.table import onset_text

    if finished:
        print(f"{out}: this study is finished; nothing was done. See {out / 'report.html'}", file=sys.stderr)
        return 0
    print(onset_text(table))
    print(f"\nOpen {out / 'report.html'}", file=sys.stderr)
    return 0


def _check(command: CheckCommand) -> int:
    if command.seed < 0:
        raise InputError(f"seed is {command.seed}: it must not be negative")
    out = Path(command.out) if command.out else None
    if out is not None and (out.is_dir() or not os.access(out.parent, os.W_OK)):
        raise InputError(f"{out}: it is a folder, or in none that can be written: pass --out a file's name")
    from sigmascope.checks import HEADER, run_checks, table, to_json  # torch is loaded here

    verdicts = []
    trials = run_checks(fast=command.fast, seed=command.seed, spoil=command.spoil)
    print(HEADER)
    for verdict in trials:
        verdicts.append(verdict)
        print(table(verdict), flush=True)
    if out is not None:
        part = out.with_name(f".{out.name}.part")  # whole, or not there
        try:
            part.write_text(to_json(verdicts, fast=command.fast, seed=command.seed), encoding="utf-8")
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    red = [v.row.name for v in verdicts if not v.green]
    print(f"\n{len(verdicts) - len(red)} of {len(verdicts)} green" + (f"; red: {', '.join(red)}" if red else ""))
    return 1 if red else 0


def _dry_run(spec: Spec) -> int:
    from sigmascope.data.memory import available_bytes
    from sigmascope.studies import runner

    data, spec = runner.resolve(spec)
    work = runner.predict(data, spec)
    print(spec.to_toml())
    print(f"items       {len(data):,} of {' × '.join(map(str, data.event))}")
    print(f"attributes  {', '.join(f'{a.name} ({len(a.values)})' for a in data.abstractions)}")
    print(f"work        {work.products + work.means:.2g} operations, at most {work.exponentials:.2g} exponentials")
    print(f"time        about {runner.predict_seconds(work, spec):.0f} s on this machine")
    print(f"memory      about {work.memory / 1e9:.2f} GB; {available_bytes() / 1e9:.1f} GB is free")
    return 0


if __name__ == "__main__":
    sys.exit(main())
