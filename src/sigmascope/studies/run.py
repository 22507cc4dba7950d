"""The run of a study: opens the subject and the folder, advances the jobs, and writes the results and the page.

spec → subject → problem → jobs → curves → results → page
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

import sigmascope.distributed as distributed
from sigmascope.analysis.onset import Onset
from sigmascope.console import progress_bar
from sigmascope.core import InputError
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.levels import InTurn
from sigmascope.report.bands import features_csv
from sigmascope.report.findings import Findings
from sigmascope.report.page import write_page
from sigmascope.report.table import chain_csv, onset_csv, values_csv
from sigmascope.studies.advice_of import page_advice
from sigmascope.studies.costs import require_memory
from sigmascope.studies.exact_law import print_notes
from sigmascope.studies.glossary import described
from sigmascope.studies.marks import doubts
from sigmascope.studies.planning import Plan, as_planned, planned
from sigmascope.studies.results import agreements_of, conditionals, others, table_of, to_curves, to_dataset
from sigmascope.studies.spec import Spec, SpecOfModel
from sigmascope.studies.store import StudyFolder, check_study_folder
from sigmascope.studies.subjects import openings as openings
from sigmascope.studies.subjects.base import Subject, opening_of

CHECKPOINT_SECONDS = 8.0


def run(spec: Spec, out: Path, progress: bool = True) -> tuple[xr.Dataset, list[Onset], bool]:
    """Run a study into a folder.

    Args:
        spec: the study.
        out: its folder; an interrupted study goes on, a finished one is left as it is.
        progress: show a bar on stderr.

    Returns: results, onsets of the main estimator in order, and whether the study was already finished.

    Raises: InputError.
    """
    check_study_folder(out, spec)
    subject, spec = open_subject(spec, out, progress)
    return run_subject(subject, spec, out, progress)


def open_subject(spec: Spec, out: Path | None, progress: bool) -> tuple[Subject[Any], Spec]:
    """The subject of a specification, and the specification with all options filled in (raises InputError)."""
    spec = spec.resolve()
    subject, spec = opening_of(spec).open(spec, out, progress)
    if progress:
        print_notes(subject.data)
    return subject, spec


def run_subject(
    subject: Subject[Any], spec: Spec, out: Path | None, progress: bool
) -> tuple[xr.Dataset, list[Onset], bool]:
    """:func:`run` for a subject that is open; without a folder nothing is written."""
    require_memory(subject, spec)
    plan = planned(subject, spec, out)
    if progress and not distributed.rank():
        for note in plan.notes:
            print(f"sigmascope: note: {note}", file=sys.stderr)
    with as_planned(plan):
        return _made(subject, plan, out, progress)


def _made(subject: Subject[Any], plan: Plan, out: Path | None, progress: bool) -> tuple[xr.Dataset, list[Onset], bool]:
    """The results of a plan, and its page."""
    spec, problem = plan.spec, plan.problem
    folder = None if out is None else StudyFolder(out, spec)
    results, page = distributed.by_first(lambda: (folder.results(), folder.has_page) if folder else (None, False))
    if results is not None and page:
        return results, table_of(results), True
    if results is None:
        results = measure(subject, problem, spec, folder, progress)
        if folder is not None:
            distributed.by_first(lambda: folder.store_results(results))
            folder.drop_checkpoint()
    table = table_of(results)
    if distributed.rank():
        return results, table, False
    if progress and (why := str(results.attrs.get("main_reason", ""))):
        shown = why.replace(f" ({results.attrs.get('wrapping', '')})", "")
        print(f"sigmascope: note: {shown}", file=sys.stderr)
    if folder is not None:
        folder.write_text("onset.csv", onset_csv(table, doubts(results)))
        if "resolved_share" in results:
            folder.write_text("features.csv", features_csv(results))
        if "value_information" in results:
            folder.write_text("values.csv", values_csv(results))
        if "link_information" in results:
            folder.write_text("chain.csv", chain_csv(results))
        other_curves = [c for e in others(results) for c in to_curves(results, e)]
        curves = {c.attribute: c for c in to_curves(results)}
        findings = Findings(
            results, subject.kind, list(curves.values()), other_curves, table, agreements_of(results),
            conditionals(results), doubts(results), (problem.draws.v[0].numpy(), problem.draws.noise[0].numpy()),
            "" if "resolved_share" in results else page_advice(results, getattr(spec, "model", "")),
            subject.explored(problem, [curves[row.attribute] for row in table]),
        )  # fmt: skip
        write_page(folder.write, findings)
    return results, table, False


def measure(
    subject: Subject[Any], problem: Any, spec: Spec, folder: StudyFolder | None, progress: bool
) -> xr.Dataset:  # fmt: skip
    """The results of a problem: advances its jobs, and turns them into curves and extras.

    Args:
        subject: the subject of the study.
        problem: of the subject.
        spec: of the study, with all options filled in.
        folder: of the study, where checkpoints are kept; None: none are kept.
        progress: show a bar on stderr.
    """
    estimators = [*problem.estimators, *subject.beside(problem)]
    joining, extras = subject.joining(problem), subject.extras(problem)
    jobs: dict[str, Job] = {}
    for part in (x for x in extras if x.first):
        jobs |= part.jobs(problem)
    for estimator in estimators:
        jobs |= estimator.jobs(problem)
    jobs |= joining.jobs()
    for part in extras:
        jobs |= part.jobs(problem)
    advance(InTurn(jobs), subject.data.name, folder, progress)
    curves = joining.curves([(e, e.curves(problem, jobs)) for e in estimators], jobs)
    results = to_dataset(curves, subject.data, subject.studied, problem.column_items, spec)
    if isinstance(spec, SpecOfModel) and spec.network.computed_in:
        results.attrs["precision"] = spec.network.computed_in
    for part in extras:
        results = part.add(results, problem, jobs, curves)
    return described(results)


def advance(job: Job, name: str, folder: StudyFolder | None, progress: bool) -> None:
    """Advance a job to its end, from the checkpoint of the folder where there is one, and keep new checkpoints."""
    if folder is not None:
        _restore(job, folder.checkpoint())
    shown = progress and distributed.rank() == 0
    with progress_bar(name, job.total, "steps", initial=job.position, disable=not shown) as bar:
        last = time.monotonic()
        while not job.done:
            job.step()
            bar.total = job.total  # a job may find that it needs more
            bar.update(job.position - bar.n)
            if folder is not None and time.monotonic() - last > CHECKPOINT_SECONDS:
                folder.store_checkpoint(job.state())
                last = time.monotonic()
        if folder is not None and distributed.world() > 1:  # others may be lost before they are done
            folder.store_checkpoint(job.state())


def _restore(job: Job, state: Mapping[str, Any] | None) -> None:
    """Go on from a checkpoint, where any rank has one."""
    if not any(distributed.gathered(state is not None)):
        return
    try:
        job.restore(state or {})
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again") from error
