"""The command line.  torch is loaded only once there is work to do."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import tyro

from sigmascope import __version__
from sigmascope.commands import (
    CheckCommand,
    Command,
    CompareCommand,
    ForkCommand,
    GenerateCommand,
    ReproduceCommand,
    StudyCommand,
    TrainCommand,
    TranslateCommand,
)
from sigmascope.errors import InputError, Stopped
from sigmascope.learn.settings import Settings
from sigmascope.studies.spec import Spec, listed, read_spec
from sigmascope.studies.tasks import ForkTask, GenerateTask, ReproduceTask

_CHECK, _GENERATE, _FORK, _TRAIN = CheckCommand(), GenerateCommand(), ForkCommand(), TrainCommand()
_COMPARE, _REPRODUCE, _TRANSLATE = CompareCommand(), ReproduceCommand(), TranslateCommand()
_COMMANDS = (
    *(StudyCommand, TrainCommand, CompareCommand, GenerateCommand),
    *(ForkCommand, CheckCommand, ReproduceCommand, TranslateCommand),
)
_NAMES = ("study", "train", "compare", "generate", "fork", "check", "reproduce", "translate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sigmascope``; returns the exit status."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if args in (["--version"], ["-V"]):
            print(f"sigmascope {__version__}")
            return 0
        command = _parse(args)
        if _many():
            return _together(command)
        runs: dict[type, Callable[[Any], int]] = {
            StudyCommand: _study,
            TrainCommand: _train,
            CompareCommand: _compare,
            CheckCommand: _check,
            ReproduceCommand: _reproduce,
            TranslateCommand: _translate,
        }
        return runs.get(type(command), _make)(command)
    except InputError as error:
        return _said(str(error), 2)
    except OSError as error:
        return _said(f"{error.filename or 'a file'}: {error.strerror or error}", 2)
    except MemoryError:
        return _said("the memory is exhausted: ask for fewer draws or images, or use a machine with more", 2)
    except RuntimeError as error:
        if "memory" not in str(error):  # torch reports a full GPU, and a full machine, as a RuntimeError
            raise
        return _said("the memory is exhausted: ask for fewer draws or images, or another --device", 2)
    except Stopped as error:
        return _said(str(error), 1)
    except KeyboardInterrupt:
        return _said("stopped; run the same command again to go on", 130, before="\n")


def _many() -> bool:
    """Whether this is one of several processes, of which torchrun tells each in its environment."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def _said(words: str, status: int, before: str = "") -> int:
    """Say how the run ended, on one rank of several."""
    if _many():
        from sigmascope import ranks

        if not ranks.to_speak():
            return status
    print(f"{before}sigmascope: {words}", file=sys.stderr)
    return status


def _together(command: Command) -> int:
    """A study or a training as one of the processes that torchrun has started."""
    from sigmascope import ranks

    if not isinstance(command, (StudyCommand, TrainCommand)):
        raise InputError("only a study or a training runs in several processes: leave torchrun out")
    try:
        with ranks.joined():
            return _study(command) if isinstance(command, StudyCommand) else _train(command)
    except Stopped as error:
        kept = any(any(Path(command.out).glob(p)) for p in ("checkpoint*.npz", "training*.safetensors"))
        where = f"the last checkpoint is in {command.out}; " if kept else ""
        raise Stopped(f"{error}: {where}run the same command again to go on") from error


def _parse(args: list[str]) -> Command:
    default = StudyCommand()
    args, spoil = _without_break(args)
    given = [b for a, b in pairwise(args) if a == "--spec"]
    given += [a.removeprefix("--spec=") for a in args if a.startswith("--spec=")]
    if given and not {"-h", "--help"} & set(args):
        s = read_spec(Path(given[-1]))
        same = {
            f.name: getattr(s, f.name)
            for f in fields(s)
            if f.name not in ("abstractions", "estimators", "fingerprint", "model_fingerprint")
        }
        default = StudyCommand(abstractions=",".join(s.abstractions), estimators=",".join(s.estimators), **same)

    def study(command: Annotated[StudyCommand, tyro.conf.arg(name="")] = default) -> StudyCommand:
        return command

    def check(command: Annotated[CheckCommand, tyro.conf.arg(name="")] = _CHECK) -> CheckCommand:
        return replace(command, spoil=spoil)

    def generate(command: Annotated[GenerateCommand, tyro.conf.arg(name="")] = _GENERATE) -> GenerateCommand:
        return command

    def fork(command: Annotated[ForkCommand, tyro.conf.arg(name="")] = _FORK) -> ForkCommand:
        return command

    def train(command: Annotated[TrainCommand, tyro.conf.arg(name="")] = _TRAIN) -> TrainCommand:
        return command

    def compare(command: Annotated[CompareCommand, tyro.conf.arg(name="")] = _COMPARE) -> CompareCommand:
        return command

    def reproduce(command: Annotated[ReproduceCommand, tyro.conf.arg(name="")] = _REPRODUCE) -> ReproduceCommand:
        return command

    def translate(command: Annotated[TranslateCommand, tyro.conf.arg(name="")] = _TRANSLATE) -> TranslateCommand:
        return command

    app = tyro.extras.SubcommandApp()
    functions: tuple[Callable[..., Any], ...] = (study, train, compare, generate, fork, check, reproduce, translate)
    for function, described in zip(functions, _COMMANDS, strict=True):
        function.__doc__ = described.__doc__
        app.command(function)
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
            of = f" {args[0]}" if args and args[0] in _NAMES else ""
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
        forks=command.forks,
        pairs=command.pairs,
        model=command.model,
        target_stderr=command.target_stderr,
        budget=command.budget,
        like=command.like,
        device=command.device,
    ).check()
    if command.spec:
        stored = read_spec(Path(command.spec))
        if command.abstractions == ",".join(stored.abstractions):  # a column's name may hold a comma
            spec = replace(spec, abstractions=stored.abstractions)
        if all(getattr(spec, n) == getattr(stored, n) for n in ("data", "abstractions", "size", "grain")):
            spec = replace(spec, fingerprint=stored.fingerprint)
        if command.model == stored.model:
            spec = replace(spec, model_fingerprint=stored.model_fingerprint)
    if not command.out and not command.dry_run:
        raise InputError("no folder for the results was named: pass --out FOLDER")
    from sigmascope import ranks
    from sigmascope.studies import runner  # torch is loaded here

    if command.dry_run:
        return _dry_run_model(spec) if spec.model else _dry_run(spec)
    out = Path(command.out)
    _, table, finished = runner.run(spec, out, progress=True)
    from sigmascope.report.table import onset_text

    if ranks.rank():
        return 0
    if finished:
        print(f"{out}: this study is finished; nothing was done. See {out / 'report.html'}", file=sys.stderr)
        return 0
    print(onset_text(table))
    print(f"\nOpen {out / 'report.html'}", file=sys.stderr)
    return 0


def _train(command: TrainCommand) -> int:
    given = {f.name: getattr(command, f.name) for f in fields(command)}
    of_settings = {f.name: given[f.name] for f in fields(Settings)}
    out = given.pop("out")
    others = {k: v for k, v in given.items() if k not in of_settings} | {"abstractions": listed(command.abstractions)}
    settings = Settings(**of_settings).check()
    if not command.data:
        raise InputError("no data are named: pass 'scenes', 'hierarchy' or the path of a data file")
    if not out:
        raise InputError("no folder for the model was named: pass --out FOLDER")
    from sigmascope import ranks
    from sigmascope.studies import training  # torch is loaded here

    words, finished = training.train(training.TrainSpec(settings=settings, **others), Path(out))
    if ranks.rank():
        return 0
    if finished:
        print(f"{out}: this training is finished; nothing was done", file=sys.stderr)
        return 0
    print(words)
    print(f"\nMeasure it: sigmascope study {command.data} --model {out} --out FOLDER", file=sys.stderr)
    return 0


def _compare(command: CompareCommand) -> int:
    if not (command.a and command.b and command.out):
        raise InputError("two studies and a folder are wanted: sigmascope compare STUDY_A STUDY_B --out FOLDER")
    from sigmascope.studies.compare import compare  # torch is loaded here

    print(compare(command.a, command.b, command.out, command.estimator))
    print(f"\nSee {Path(command.out) / 'comparison.png'}", file=sys.stderr)
    return 0


def _reproduce(command: ReproduceCommand) -> int:
    given = {f.name: getattr(command, f.name) for f in fields(command) if f.name != "out"}
    task = ReproduceTask(**(given | {"abstractions": listed(command.abstractions)})).check()
    if not command.out:
        raise InputError("no folder for the results was named: pass --out FOLDER")
    from sigmascope.studies import reproduction  # torch is loaded here

    out = Path(command.out)
    words, finished = reproduction.reproduce(task, out)
    if finished:
        print(f"{out}: this is finished; nothing was done. See {out / 'report.html'}", file=sys.stderr)
        return 0
    print(words)
    print(f"\nOpen {out / 'report.html'}", file=sys.stderr)
    return 0


def _translate(command: TranslateCommand) -> int:
    if not command.model:
        raise InputError("no pipeline is named: pass --model diffusers:FOLDER")
    given = {n: getattr(command, n) for n in ("sigma", "step", "timestep", "strength", "percent")}
    given = {n: x for n, x in given.items() if x}
    if len(given) > 1:
        raise InputError(f"--{' and --'.join(given)} came: pass one level")
    from sigmascope.studies.translating import translate  # torch is loaded here

    unit, level = next(iter(given.items()), ("", ""))
    print(translate(command.model, unit, level, command.steps, as_json=command.json))
    return 0


def _make(command: GenerateCommand | ForkCommand) -> int:
    given = {f.name: getattr(command, f.name) for f in fields(command) if f.name != "out"}
    given["abstractions"] = listed(command.abstractions)
    kind = GenerateTask if isinstance(command, GenerateCommand) else ForkTask
    task = kind(**given).check()
    if not command.out:
        raise InputError("no folder for the results was named: pass --out FOLDER")
    from sigmascope.studies import making  # torch is loaded here

    out = Path(command.out)
    if isinstance(task, GenerateTask):
        words, finished = making.generate(task, out)
    else:
        words, finished = making.make_forks(task, out)
    if finished:
        print(f"{out}: this is finished; nothing was done", file=sys.stderr)
        return 0
    print(words)
    print(f"\nSee {out / ('images.png' if isinstance(task, GenerateTask) else 'forks.png')}", file=sys.stderr)
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
    from sigmascope import ranks
    from sigmascope.data.memory import available_bytes
    from sigmascope.studies import runner

    data, spec = runner.resolve(spec)
    work = runner.predict(data, spec)
    if ranks.rank():
        return 0
    print(spec.to_toml())
    print(f"data        {data.words}")
    studied = [a for a in data.abstractions if a.name in spec.abstractions]
    print(f"attributes  {', '.join(f'{a.name} ({len(a.values)})' for a in studied)}")
    if work.calls:
        print(f"work        {work.calls:,.0f} denoisings")
    else:
        print(f"work        {work.products + work.means:.2g} operations, at most {work.exponentials:.2g} exponentials")
    print(f"time        about {runner.predict_seconds(work, spec, data):.0f} s on this machine")
    print(f"memory      about {work.memory / 1e9:.2f} GB; {available_bytes() / 1e9:.1f} GB is free")
    return 0


def _dry_run_model(spec: Spec) -> int:
    from sigmascope.studies.learned_run import open_learned

    learned, spec = open_learned(spec)
    print(spec.to_toml())
    print(f"data        {learned.data.words}{', items kept out of training' if learned.held_out else ''}")
    print(f"model       {learned.model.architecture.kind}, {learned.model.count():,} parameters")
    told = sum(len(a.values) for a in learned.asked)
    draws = spec.draws + spec.draws // 2
    if "filter" in spec.estimators:
        print(f"filter      {draws * spec.levels * told:,} network calls")
    if "likelihood" in spec.estimators:
        print(f"likelihood  {12 * draws * spec.levels * told:,} network calls")
    aim = (
        f"{spec.budget:,} network calls" if spec.budget else f"until the standard error is {spec.target_stderr:g} nats"
    )
    print(f"gaps        {aim}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
