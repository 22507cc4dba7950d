"""The cost of a study, in the lines of a dry run."""

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

_WIDTH = 12  # of the first column


def lines_of_exact(subject: Any, spec: Spec, reading: float) -> list[str]:
    """Operations, time and memory of a study of an exact law; every rank must call it.

    Args:
        subject: with data and attributes.
        spec: of the study.
        reading: seconds that it took to read the data.
    """
    cost, free = predict(subject.data, spec), available_bytes()
    seconds = "not measured: too little memory is free"
    if all(distributed.gathered(cost.additional <= free)):
        took = reading + seconds_of(subject.data, subject.denoiser, spec, resolve_device(spec.device))
        seconds = f"about {took:.0f} s on this machine"
    operations = f"{cost.products + cost.means:.2g} operations, at most {cost.exponentials:.2g} exponentials"
    return [
        line("data", subject.data.words),
        line("attributes", ", ".join([*(f"{a.name} ({len(a.values)})" for a in subject.attributes), *_reals(subject)])),
        line("cost", f"{cost.calls:,.0f} denoisings" if cost.calls else operations),
        line("time", seconds),
        line("memory", f"about {cost.memory / 1e9:.2f} GB; {free / 1e9:.1f} GB is free"),
    ]


def _reals(subject: Any) -> list[str]:
    """The real-valued attributes of a subject with their resolution."""
    return [f"{a.name} (± {a.resolution:g}{f' {a.unit}' if a.unit else ''})" for a in subject.real_attributes]


def lines_of_costs(
    problem: Problem[Any], others: Sequence[tuple[str, str]], beside: Sequence[Estimator[Any]]
) -> list[str]:  # fmt: skip
    """The costs of the estimators of a problem, each job once.

    Args:
        problem: with its estimators.
        others: names of other jobs, each with its cost in words.
        beside: estimators that a study of this kind always has.
    """
    estimators = [e for e in problem.estimators if isinstance(e, Estimator)]
    costs = [*(e.cost(problem) for e in estimators), *others, *(e.cost(problem) for e in beside)]
    return list(dict.fromkeys(line(*c) for c in costs if c is not None))


def line(name: str, words: str) -> str:
    """A line of a dry run."""
    return f"{name:<{_WIDTH}}{words}"


def table_of_classes(classes: Sequence[tuple[str, int, str]]) -> list[str]:
    """The class of the network for each value of the attribute, a line each."""
    if not classes:
        return []
    width = max(len(spelled(value)) for value, _, _ in classes)
    lines = [f"{spelled(v).ljust(width)}  → class {k}{f' ({name})' * (name != str(k))}" for v, k, name in classes]
    return [line("classes", lines[0]), *(line("", x) for x in lines[1:])]


def require_memory(subject: Any, spec: Spec) -> None:
    """Refuse a study of an exact law that does not fit into the memory, before it starts (raises InputError)."""
    if subject.kind in (EXACT, POPULATION) and resolve_device(spec.device).type == "cpu":
        study = f"this study ({spec.sampling.draws} draws, {spec.sampling.levels} levels)"
        require(predict(subject.data, spec).additional, study, "use fewer --draws or --levels")
