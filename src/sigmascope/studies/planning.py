"""The plan of a study of a model within a time: the network's speed is measured, and the study fitted to it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch

import sigmascope.distributed as distributed
from sigmascope.core import Denoiser, InputError
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.jobs.losses import loss_calls
from sigmascope.sample.schemes import Model
from sigmascope.studies.options import GapOptions, Sampling, changed
from sigmascope.studies.spec import STDERR, Spec, SpecOfModel, plan_of, read_spec
from sigmascope.studies.subjects.base import Subject

_ROWS, _FEW = 256, 8  # of a call whose time is measured, and of the one before it
_SLOW = 1.0  # seconds of a call of few rows, after which no larger one is made
_FIXED = 0.6  # share of the calls that other estimators than the gaps may take
_FEWEST_DRAWS, _FEWEST_LEVELS = 32, 16  # that a plan leaves
_LEAST = 6_000  # network calls for the gaps of an attribute


def planned(subject: Subject[Any], spec: Spec, out: Path | None) -> Spec:
    """The specification of a study of a model that takes about as long as its ``minutes`` say.

    Draws and levels that were passed, other than the usual ones, stay; so do a budget and a target of the gaps.

    Args:
        subject: of the study.
        spec: with all options filled in.
        out: folder of the study; one that was begun keeps its plan.
    """
    if not isinstance(spec, SpecOfModel) or not spec.time.minutes or spec.time.most_calls:
        return spec
    problem = subject.problem(spec)
    gaps = hasattr(problem, "gap_job")
    if gaps and spec.gaps != GapOptions(target_stderr=STDERR):
        return spec
    begun = _begun(spec, out)
    if begun is not None:
        return begun
    rate = distributed.by_first(lambda: rows_per_second(problem.model)) * distributed.world()
    calls = 60.0 * spec.time.minutes * rate
    spec = _smaller(subject, spec, problem, (_FIXED if gaps else 1.0) * calls)
    most = 1.0
    if gaps:
        left = calls - fixed_calls(subject.problem(spec))
        most = max(_two_digits(left), _LEAST * len(problem.with_null))
    return changed(spec, most_calls=int(most))


def words_of_time(subject: Subject[Any], spec: Spec) -> str:
    """How long the network calls of a study take, about, in words; empty for a study without a network."""
    if not isinstance(spec, SpecOfModel):
        return ""
    problem = subject.problem(spec)
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
    asked, g = Model(model), torch.Generator().manual_seed(0)
    seconds = 0.0
    for rows in (_FEW, _FEW, _ROWS):
        y = torch.randn(rows, *model.event, generator=g, dtype=torch.float64)
        begun = time.perf_counter()
        try:
            asked.denoise(y, 1.0)
        except InputError:  # a network that always needs a class
            return _by_class(model, y, begun)
        seconds = time.perf_counter() - begun
        if seconds > _SLOW:
            break
    return rows / max(seconds, 1e-6)


def _by_class(model: Denoiser, y: torch.Tensor, begun: float) -> float:
    known = {a.name: torch.zeros(len(y), dtype=torch.int64) for a in model.attributes}
    Model(model, known).denoise(y, 1.0)
    return len(y) / max(time.perf_counter() - begun, 1e-6)


def _smaller(subject: Subject[Any], spec: SpecOfModel, problem: Any, calls: float) -> SpecOfModel:
    """Fewer draws, and then fewer levels, so that the estimators make about so many calls."""
    usual = Sampling()
    for name, fewest, whole in (("draws", _FEWEST_DRAWS, REPLICATES), ("levels", _FEWEST_LEVELS, 1)):
        value, needed = getattr(spec.sampling, name), fixed_calls(problem)
        if needed > calls and value == getattr(usual, name):
            fewer = int(value * calls / needed) // whole * whole
            spec = changed(spec, **{name: max(fewer, fewest)})
            problem = subject.problem(spec)
    return spec


def _begun(spec: SpecOfModel, out: Path | None) -> Spec | None:
    """The plan of a study that was begun in this folder by the same command."""
    if out is None or not (out / "spec.toml").exists():
        return None
    plan = plan_of(read_spec(out / "spec.toml"), spec)
    return changed(spec, **plan) if plan else None


def _two_digits(number: float) -> int:
    """A number rounded down to two digits, so that plans of one machine are mostly the same."""
    if number < 1:
        return 0
    unit = 10 ** max(int(math.log10(number)) - 1, 0)
    return int(number // unit * unit)
