"""The plan of a study of a model within a time: the network's speed is measured, and the study fitted to it."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import sigmascope.distributed as distributed
from sigmascope.core import Denoiser
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.jobs.losses import loss_calls
from sigmascope.learn.calling import BFLOAT16, called
from sigmascope.studies.batches import asked, fastest_rows, memory_of
from sigmascope.studies.options import GapOptions, Sampling, changed
from sigmascope.studies.precision import choose_precision
from sigmascope.studies.spec import STDERR, Spec, SpecOfModel, plan_of, read_spec
from sigmascope.studies.subjects.base import Subject

_ROWS, _FEW = 256, 8  # of a call whose time is measured, and of the one before it
_SLOW = 1.0  # seconds of a call of few rows, after which no larger one is made
_FIXED = 0.6  # share of the calls that other estimators than the gaps may take
_FEWEST_DRAWS, _FEWEST_LEVELS = 32, 16  # that a plan leaves
_LEAST = 6_000  # network calls for the gaps of an attribute


@dataclass(frozen=True, eq=False)
class Plan:
    """A study as it will be made.

    Args:
        spec: with the numbers of draws, levels and calls, the precision of the network and the rows of its calls.
        problem: of the subject, for this specification.
        notes: what was decided about the network, in sentences.
    """

    spec: Spec
    problem: Any
    notes: tuple[str, ...] = ()


def planned(subject: Subject[Any], spec: Spec, out: Path | None) -> Plan:
    """The plan of a study; that of a model is to take about as long as its ``minutes`` say.

    Draws and levels that were passed, other than the usual ones, stay; so do a budget and a target of the gaps.

    Args:
        subject: of the study.
        spec: with all options filled in.
        out: folder of the study; one that was begun keeps its plan.
    """
    spec = _begun(spec, out)
    plan = Plan(spec, subject.problem(spec))
    if not isinstance(spec, SpecOfModel):
        return plan
    plan = _with_precision(plan, spec)
    with as_planned(plan):
        return _within_minutes(subject, plan)


def as_planned(plan: Plan) -> AbstractContextManager[None]:
    """Calls the network of a plan in its precision, with its number of rows."""
    if not isinstance(plan.spec, SpecOfModel):
        return nullcontext()
    network = plan.spec.network
    return called(plan.problem.model, rows=network.batch, bfloat16=network.computed_in == BFLOAT16)


def _with_precision(plan: Plan, spec: SpecOfModel) -> Plan:
    """A plan with the precision of the network, which is tried where another than the usual one is asked for."""
    if spec.network.precision != BFLOAT16 or spec.network.computed_in:
        return plan
    choice = distributed.by_first(lambda: choose_precision(plan.problem, spec.gaps.target_stderr))
    return replace(plan, spec=changed(spec, computed_in=choice.precision), notes=(choice.words,))


def _within_minutes(subject: Subject[Any], plan: Plan) -> Plan:
    """A plan with fewer draws, levels and calls, as far as the minutes ask for it, and the fastest number of rows."""
    spec, problem = plan.spec, plan.problem
    assert isinstance(spec, SpecOfModel)
    gaps = hasattr(problem, "gap_job")
    if not spec.time.minutes or spec.time.most_calls or (gaps and spec.gaps != GapOptions(target_stderr=STDERR)):
        return plan
    rows = distributed.by_first(lambda: fastest_rows(problem.model))
    with called(problem.model, rows=rows):
        rate = distributed.by_first(lambda: rows_per_second(problem.model)) * distributed.world()
    calls = 60.0 * spec.time.minutes * rate
    spec, problem = _smaller(subject, spec, problem, (_FIXED if gaps else 1.0) * calls)
    most = 1.0
    if gaps:
        most = max(_two_digits(calls - fixed_calls(problem)), _LEAST * len(problem.with_null))
    spec = changed(spec, most_calls=int(most), batch=rows)
    return replace(plan, spec=spec, problem=subject.problem(spec))


def words_of_time(plan: Plan) -> str:
    """How long the network calls of a study take, about, in words; empty for a study without a network."""
    spec, problem = plan.spec, plan.problem
    if not isinstance(spec, SpecOfModel):
        return ""
    with as_planned(plan):
        rate = distributed.by_first(lambda: rows_per_second(problem.model)) * distributed.world()
    gaps = spec.gaps.budget or spec.time.most_calls if hasattr(problem, "gap_job") else 0
    calls, most = fixed_calls(problem) + gaps, "at most" if gaps and not spec.gaps.budget else "about"
    return f"{most} {max(calls / rate / 60, 0.1):.1f} minutes, at {rate:,.0f} network calls a second"


def fixed_calls(problem: Any) -> int:
    """Network calls of a problem without those of the gaps, about."""
    losses = loss_calls(len(problem.sigma), len(problem.attributes), False, problem.unconditional_calls)[1]
    return int(losses + sum(e.network_calls(problem) for e in problem.estimators))


def rows_per_second(model: Denoiser) -> float:
    """Rows that a denoiser answers in a second, in one call of many."""
    g = torch.Generator().manual_seed(0)
    for rows in (_FEW, _FEW, _ROWS):
        y = torch.randn(rows, *model.event, generator=g, dtype=torch.float64)
        begun = time.perf_counter()
        asked(model, y)
        seconds = time.perf_counter() - begun
        if seconds > _SLOW:
            break
    return rows / max(seconds, 1e-6)


def _smaller(subject: Subject[Any], spec: SpecOfModel, problem: Any, calls: float) -> tuple[SpecOfModel, Any]:
    """Fewer draws, and then fewer levels, so that the estimators make about so many calls; and the problem of these."""
    usual = Sampling()
    for name, fewest, whole in (("draws", _FEWEST_DRAWS, REPLICATES), ("levels", _FEWEST_LEVELS, 1)):
        value, needed = getattr(spec.sampling, name), fixed_calls(problem)
        if needed > calls and value == getattr(usual, name):
            fewer = int(value * calls / needed) // whole * whole
            spec = changed(spec, **{name: max(fewer, fewest)})
            problem = subject.problem(spec)
    return spec, problem


def _begun(spec: Spec, out: Path | None) -> Spec:
    """The specification with the plan of a study that was begun in this folder by the same command."""
    if not isinstance(spec, SpecOfModel) or out is None or not (out / "spec.toml").exists():
        return spec
    return changed(spec, **plan_of(read_spec(out / "spec.toml"), spec))


def _two_digits(number: float) -> int:
    """A number rounded down to two digits, so that plans of one machine are mostly the same."""
    if number < 1:
        return 0
    unit = 10 ** max(int(math.log10(number)) - 1, 0)
    return int(number // unit * unit)


def words_of_memory(plan: Plan) -> str:
    """The memory of a network and of a call of it, in words; empty for a study without a network."""
    if not isinstance(plan.spec, SpecOfModel):
        return ""
    with as_planned(plan):
        held, call, rows = memory_of(plan.problem.model)
    return f"{_megabytes(held)} of parameters and buffers; about {_megabytes(call)} for a call of {rows} rows"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e8 else f"{count / 1e9:,.2f} GB"
