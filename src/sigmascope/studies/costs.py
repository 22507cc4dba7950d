"""What a study would take, in the lines of a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sigmascope.distributed as distributed
from sigmascope.console import spelled
from sigmascope.data.memory import available_bytes, require
from sigmascope.device import resolve_device
from sigmascope.information.estimator import EXACT, POPULATION, Estimator
from sigmascope.information.problem import Problem
from sigmascope.studies.prediction import predict
from sigmascope.studies.spec import Spec
from sigmascope.studies.timing import seconds_of

_WIDE = 12  # columns of what a line is of


def lines_of_exact(subject: Any, spec: Spec, reading: float) -> list[str]:
    """Work, time and memory of a study of an exact law; every rank must ask.

    Args:
        subject: with data and attributes.
        spec: of the study.
        reading: seconds that it took to read the data.
    """
    work, free = predict(subject.data, spec), available_bytes()
    seconds = "not measured: too little memory is free"
    if all(distributed.gathered(work.additional <= free)):
        took = reading + seconds_of(subject.data, subject.denoiser, spec, resolve_device(spec.device))
        seconds = f"about {took:.0f} s on this machine"
    done = f"{work.products + work.means:.2g} operations, at most {work.exponentials:.2g} exponentials"
    return [
        line("data", subject.data.words),
        line("attributes", ", ".join(f"{a.name} ({len(a.values)})" for a in subject.attributes)),
        line("work", f"{work.calls:,.0f} denoisings" if work.calls else done),
        line("time", seconds),
        line("memory", f"about {work.memory / 1e9:.2f} GB; {free / 1e9:.1f} GB is free"),
    ]


def lines_of_costs(
    problem: Problem[Any], more: Sequence[tuple[str, str]], beside: Sequence[Estimator[Any]]
) -> list[str]:  # fmt: skip
    """What the estimators of a problem say of their work, each kind of work once.

    Args:
        problem: with its estimators.
        more: other work, and how much.
        beside: estimators that measure it whatever is asked for.
    """
    every = [e for e in problem.estimators if isinstance(e, Estimator)]
    costs = [e.cost(problem) for e in every] + list(more) + [e.cost(problem) for e in beside]
    return list(dict.fromkeys(line(*c) for c in costs if c is not None))


def line(of: str, words: str) -> str:
    """A line of a dry run."""
    return f"{of:<{_WIDE}}{words}"


def table_of_classes(classes: Sequence[tuple[str, int, str]]) -> list[str]:
    """Which class a network is told for each value of the attribute."""
    if not classes:
        return []
    width = max(len(spelled(value)) for value, _, _ in classes)
    lines = [f"{spelled(value).ljust(width)}  → class {k}{f' ({own})' * (own != str(k))}" for value, k, own in classes]
    return [line("classes", lines[0]), *(" " * _WIDE + x for x in lines[1:])]


def require_memory(subject: Any, spec: Spec) -> None:
    """Refuse, before work starts, a study of an exact law that does not fit.

    Raises: InputError.
    """
    if subject.kind in (EXACT, POPULATION) and resolve_device(spec.device).type == "cpu":
        s = spec.sampling
        study_of = f"this study ({s.draws} draws, {s.levels} levels)"
        require(predict(subject.data, spec).additional, study_of, "use fewer --draws or --levels")
