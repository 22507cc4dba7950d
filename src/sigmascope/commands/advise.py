"""The command ``advise``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sigmascope.arguments import Flag, Flat, Place, arg, group
from sigmascope.commands.common import SAMPLER, Sampler, write_whole
from sigmascope.console import spelled
from sigmascope.errors import InputError
from sigmascope.limits import MOST_STEPS, within

if TYPE_CHECKING:
    from sigmascope.studies.advice_kinds import Advice

__all__ = ["HEADS", "AttributeOptions", "Command", "OutputOptions", "as_table", "run"]

HEADS = {
    "guidance_interval": "guide between",
    "training_range": "train between",
    "negative_prompt": "negative prompt above",
    "sdedit_strength": "edit from at most",
    "fork_point": "fork from",
    "early_exit": "check from",
}
"""The columns of the table: kinds of advice, in words."""


@dataclass(frozen=True)
class AttributeOptions:
    """Which attributes the advice is about, and which curves it is read off."""

    keep: Annotated[str, arg("A", "(default: each)")] = ""
    """The attribute to guide towards, to edit around, to fork at."""
    redraw: Annotated[str, arg("B", "(default: all others)")] = ""
    """The attribute that an edit or a fork is to change."""
    probability: float = 0.9
    """The probability with which an edit or a fork keeps the attribute."""
    estimator: Annotated[str, arg("NAME", "(default: the study's main one)")] = ""
    """The estimator whose curves to read."""


@dataclass(frozen=True)
class OutputOptions:
    """What is printed and written; by default a table is printed."""

    words: Flag = False
    """Print sentences, with 95 % intervals, formulas, and the reason where no advice can be given."""
    json: Flag = False
    """Print JSON."""
    out: Annotated[str, arg("FILE", "(default: none)")] = ""
    """Write the advice as JSON into this file, too."""


@dataclass(frozen=True)
class Command:
    """Turn a study into settings: guidance, editing, forking, training.

    Prints, for each attribute: the noise levels between which guidance acts on it and a model learns it; down to which
    level a negative prompt still changes it; how much noise an edit may add so that it stays; from which level on the
    continuations of one image share it; and from which level on it can be checked. With --words also the best levels
    for the steps of a sampler. Levels are noise levels sigma in the unit of the study, or steps, timesteps and
    strengths where a pipeline is known.

    Try it: sigmascope advise studies/scenes --keep floor_hue --redraw shape
    """

    study: Annotated[str, Place, arg("STUDY")] = ""
    """Folder of a finished study."""
    model: Annotated[str, arg("MODEL", "(default: the study's own pipeline)")] = ""
    """Give the advice in the units of the scheduler of a pipeline: diffusers:FOLDER, hub:OWNER/NAME, or
    MODULE:FUNCTION, your own function that returns one."""
    about: Annotated[AttributeOptions, Flat, group("attribute")] = AttributeOptions()
    sampler: Sampler = SAMPLER
    output: Annotated[OutputOptions, Flat, group("output")] = OutputOptions()


def run(command: Command) -> int:
    """Print the advice.

    Returns: the exit status.

    Raises: InputError for what cannot be used.
    """
    if not command.study:
        raise InputError("no study is named: pass the --out of sigmascope study")
    if command.sampler.steps > MOST_STEPS:
        within("steps", command.sampler.steps, 2, MOST_STEPS, "pass e.g. --steps 50")
    if command.output.words and command.output.json:
        raise InputError("--words and --json came together: pass one of them")
    from sigmascope.studies.advice_of import advise  # torch is loaded here
    from sigmascope.studies.advice_words import as_json, as_words

    advice = advise(command.study, model=command.model, **asdict(command.about), **asdict(command.sampler))
    if command.output.out:
        write_whole(Path(command.output.out), as_json(advice))
    form = as_json if command.output.json else as_words if command.output.words else as_table
    print(form(advice))
    return 0


def as_table(advice: Sequence[Advice]) -> str:
    """A row for each attribute and a column for each kind of advice, in steps where a scheduler is known."""
    from sigmascope.report.table import aligned
    from sigmascope.studies.advice_words import as_words
    from sigmascope.studies.advising import KINDS

    # Also kinds that a user has registered.
    levels = [a for a in advice if a.kind in KINDS and not KINDS[a.kind].of_all]
    cells = {(a.attribute, a.kind): _cell(a) for a in levels}
    laws = {a.kind: a.law for a in levels}
    heads = HEADS | {kind: kind.replace("_", " ") for kind in laws if kind not in HEADS}
    kinds = [kind for kind in heads if kind in laws]
    if not kinds:
        return as_words(advice)
    letters = dict(zip(dict.fromkeys(laws[kind] for kind in kinds), "abc", strict=False))
    head = ["attribute", *(heads[kind] + (f" ({letters[laws[kind]]})" if len(letters) > 1 else "") for kind in kinds)]
    names = list(dict.fromkeys(a.attribute for a in advice if a.attribute))
    rows = [[name, *(cells.get((name, kind), "–") for kind in kinds)] for name in names]
    steps = {int(u["steps"]) for a in advice for u in a.units.values()}
    notes = [f"{a.attribute}: {a.words}." for a in advice if a.kind == "which_to_trust"]
    several = len(letters) > 1
    notes += [f"{f'Advice marked ({x})' if several else 'All advice'} holds for {law}." for law, x in letters.items()]
    notes += [f"Steps are those of a run of {steps.pop()}." if steps else "Levels are σ, in the unit of the study."]
    notes += ["A dash stands where none can be given; --words prints why."] if any("–" in row for row in rows) else []
    notes += ["Add --words for sentences with 95 % intervals and formulas, and for the steps of a sampler."]
    return "\n".join([*aligned([head, *rows]), "", *map(spelled, notes)])


def _cell(a: Advice) -> str:
    """One advice in a few words."""
    from sigmascope.report.table import number
    from sigmascope.studies.advising import KINDS

    if a.units:
        words = KINDS[a.kind].in_units(a.units.get("high"), a.units.get("low")).removeprefix(" — ")
        steps = int(next(iter(a.units.values()))["steps"])
        return words.partition(" (")[0].replace("to timestep", "to").removesuffix(" steps").removesuffix(f" of {steps}")
    high = f"{number(a.high.value)}" if a.high is not None and a.high.reached else "the start"
    if a.kind not in ("guidance_interval", "training_range"):
        return high
    return f"{high} and {number(a.low.value) if a.low is not None and a.low.reached else 'the end'}"
