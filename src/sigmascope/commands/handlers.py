"""What each command does with what it was told.  torch is loaded only once there is work to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigmascope.commands.models import AdviseCommand, TranslateCommand
from sigmascope.commands.prompts import PromptsCommand
from sigmascope.commands.study import (
    CheckCommand,
    CompareCommand,
    ForkCommand,
    GenerateCommand,
    ReproduceCommand,
    StudyCommand,
    TrainCommand,
)
from sigmascope.errors import InputError
from sigmascope.learn.settings import Settings
from sigmascope.limits import MOST_SEED, MOST_STEPS, check_text, shown, within
from sigmascope.studies.classes import read_classes
from sigmascope.studies.options import changed, listed, what_it_runs
from sigmascope.studies.spec import Spec, SpecOfModel, read_spec, spec_of
from sigmascope.studies.tasks import ForkTask, GenerateTask, ReproduceTask

if TYPE_CHECKING:
    pass


def _study(command: StudyCommand) -> int:
    given = {f.name: getattr(command, f.name) for f in fields(command) if f.name not in ("out", "spec", "dry_run")}
    stored = read_spec(Path(command.spec)) if command.spec else None
    if stored is not None:
        _check_trust(command, stored)
    spec = spec_of(**(given | {"classes": read_classes(command.classes)}))
    if stored is not None:
        if command.abstractions == ",".join(stored.what.abstractions):  # a column's name may hold a comma
            spec = changed(spec, abstractions=stored.what.abstractions)
        if spec.what == stored.what:
            spec = changed(spec, fingerprint=stored.fingerprint)
        if isinstance(spec, SpecOfModel) and isinstance(stored, SpecOfModel) and spec.model == stored.model:
            spec = changed(spec, model_fingerprint=stored.model_fingerprint)
    out = None if command.dry_run else _folder(command.out)
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


def _check_trust(command: StudyCommand, stored: Spec) -> None:
    """A file runs no code by itself: what does is named again on the command line.

    Raises: InputError.
    """
    for name, said in what_it_runs(stored).items():
        if not getattr(command, name):
            raise InputError(f"{command.spec}: {said}")


def _folder(out: str) -> Path:
    """The folder for the results, which must be named."""
    if not out:
        raise InputError("no folder for the results was named: pass --out FOLDER")
    return Path(out)


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
    import sigmascope.distributed as distributed
    from sigmascope.studies import training  # torch is loaded here

    words, finished = training.train(training.TrainSpec(settings=settings, **others), Path(out))
    if distributed.rank():
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
    check_text(command)
    from sigmascope.studies.compare import compare  # torch is loaded here

    print(compare(command.a, command.b, command.out, command.estimator))
    print(f"\nSee {Path(command.out) / 'comparison.png'}", file=sys.stderr)
    return 0


def _reproduce(command: ReproduceCommand) -> int:
    given = {f.name: getattr(command, f.name) for f in fields(command) if f.name != "out"}
    task = ReproduceTask(**(given | {"abstractions": listed(command.abstractions)})).check()
    out = _folder(command.out)
    from sigmascope.reproduction import stages  # torch is loaded here

    words, finished = stages.reproduce(task, out)
    if finished:
        print(f"{out}: this is finished; nothing was done. See {out / 'report.html'}", file=sys.stderr)
        return 0
    print(words)
    print(f"\nOpen {out / 'report.html'}", file=sys.stderr)
    return 0


def _translate(command: TranslateCommand) -> int:
    if not command.model:
        raise InputError("no pipeline is named: pass --model diffusers:FOLDER")
    units = ("sigma", "network_sigma", "step", "timestep", "strength", "percent")
    given = {n: x for n in units if (x := getattr(command, n))}
    if len(given) > 1:
        raise InputError(f"--{' and --'.join(n.replace('_', '-') for n in given)} came: pass one level")
    within("steps", command.steps, 1, MOST_STEPS, "pass e.g. --steps 50")
    if "step" in given and command.steps != TranslateCommand.steps and not given["step"].endswith(f"/{command.steps}"):
        raise InputError(
            f"--step {given['step']} says how many steps there are, and --steps {command.steps} says otherwise: leave "
            "out --steps"
        )
    from sigmascope.studies.translating import translate  # torch is loaded here

    unit, level = next(iter(given.items()), ("", ""))
    more = {n: getattr(command, n) for n in ("height", "width", "timesteps", "sigmas")}
    print(translate(command.model, unit, level, command.steps, as_json=command.json, **more))
    return 0


def _advise(command: AdviseCommand) -> int:
    if not command.study:
        raise InputError("no study is named: pass the --out of sigmascope study")
    if command.steps > MOST_STEPS:
        within("steps", command.steps, 2, MOST_STEPS, "pass e.g. --steps 50")
    from sigmascope.studies.advice_of import advise  # torch is loaded here
    from sigmascope.studies.advice_words import as_json, as_words

    given = {f.name: getattr(command, f.name) for f in fields(command) if f.name not in ("study", "json", "out")}
    found = advise(command.study, **given)
    if command.out:
        _write_whole(Path(command.out), as_json(found))
    print(as_json(found) if command.json else as_words(found))
    return 0


def _write_whole(out: Path, text: str) -> None:
    """Write a file so that it is whole, or not there."""
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _prompts(command: PromptsCommand) -> int:
    from sigmascope.studies.prompt_task import PromptTask

    task = PromptTask(**{f.name: getattr(command, f.name) for f in fields(command) if f.name != "out"}).check()
    out = _folder(command.out)
    from sigmascope.studies.prompting import prompts  # torch is loaded here

    print(prompts(task, out))
    print(f"\nSee {out / 'prompts.png'}", file=sys.stderr)
    return 0


def _make(command: GenerateCommand | ForkCommand) -> int:
    given = {f.name: getattr(command, f.name) for f in fields(command) if f.name != "out"}
    given["abstractions"] = listed(command.abstractions)
    kind = GenerateTask if isinstance(command, GenerateCommand) else ForkTask
    task = kind(**given).check()
    out = _folder(command.out)
    from sigmascope.studies import making  # torch is loaded here

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
        _write_whole(out, to_json(verdicts, fast=command.fast, seed=command.seed))
    red = [v.row.name for v in verdicts if not v.green]
    print(f"\n{len(verdicts) - len(red)} of {len(verdicts)} green" + (f"; red: {', '.join(red)}" if red else ""))
    return 1 if red else 0


RUNS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "study": (StudyCommand, _study),
    "train": (TrainCommand, _train),
    "compare": (CompareCommand, _compare),
    "generate": (GenerateCommand, _make),
    "fork": (ForkCommand, _make),
    "check": (CheckCommand, _check),
    "reproduce": (ReproduceCommand, _reproduce),
    "translate": (TranslateCommand, _translate),
    "advise": (AdviseCommand, _advise),
    "prompts": (PromptsCommand, _prompts),
}
"""The commands by name, in the order of the help: how each is described, and what it does."""
