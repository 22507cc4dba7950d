"""Run a study of a learned model into a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

import xarray as xr

import sigmascope.distributed as distributed
from sigmascope.analysis.onset import Onset
from sigmascope.core import InputError
from sigmascope.device import resolve_device
from sigmascope.report.forked import write_forked_report
from sigmascope.report.learned import write_learned_report
from sigmascope.report.table import onset_csv
from sigmascope.studies.advice_of import page_advice
from sigmascope.studies.forked import Forked, measure_forked, open_forked
from sigmascope.studies.learned import Learned, draws_for, measure, open_model
from sigmascope.studies.marks import doubts
from sigmascope.studies.options import Sampling, changed
from sigmascope.studies.pipelines import Opened, as_path, open_pipe, open_told, told_classes
from sigmascope.studies.results import table_of, to_curves
from sigmascope.studies.scales import say_notes
from sigmascope.studies.spec import ModelSpec, PipelineSpec, SpecOfModel
from sigmascope.studies.store import StudyFolder, check_study_folder

T = TypeVar("T", bound=SpecOfModel)


def with_paths(spec: T) -> T:
    """The specification, checked, with paths that hold from anywhere."""
    spec.validate()
    spec = spec.resolve()
    if isinstance(spec, PipelineSpec):
        spec = changed(spec, model=as_path(spec.model))
    elif spec.model != "bundled":
        spec = changed(spec, model=str(Path(spec.model).resolve()))
    if spec.gaps.like:
        spec = changed(spec, like=str(Path(spec.gaps.like).resolve()))
    if spec.what.data != "scenes" and Path(spec.what.data).exists():  # the specification may be read from elsewhere
        spec = changed(spec, data=str(Path(spec.what.data).resolve()))
    return spec


def open_learned(
    spec: SpecOfModel, progress: bool = False, out: Path | None = None
) -> tuple[Learned | Forked, SpecOfModel]:
    """The model and data of a specification, which is checked and filled in.

    Args:
        spec: the study, with a model.
        progress: show a bar on stderr, where a pipeline makes the images.
        out: the study's folder, where these images are kept; None keeps none.

    Raises: InputError.
    """
    spec = with_paths(spec)
    if isinstance(spec, ModelSpec):
        learned, found = open_model(spec, resolve_device(spec.device))
        check_range(spec, found)
        return learned, found
    assert isinstance(spec, PipelineSpec)
    opened = open_pipe(spec, resolve_device(spec.device))
    told = check_use(spec, opened)
    return open_told(spec, opened) if told else open_forked(spec, opened, progress, out)


def check_use(spec: PipelineSpec, opened: Opened) -> bool:
    """Whether a pipeline is told classes; refuses what such a study, or one by forks, cannot use.

    Raises: InputError.
    """
    told = told_classes(spec, opened)
    if told:
        spec.validate_told()
    else:
        spec.validate_forked()
    if spec.pipeline.null_class >= 0 and spec.pipeline.null_class != (own := opened.pipe.denoiser.null):
        why = "knows no classes" if not opened.pipe.denoiser.abstractions else f"has class {own} for none"
        raise InputError(f"--null-class {spec.pipeline.null_class} came, but {spec.model} {why}: leave it out")
    check_range(spec, opened.levels(spec))
    return told


def check_range(asked: SpecOfModel, found: SpecOfModel) -> None:
    """Refuse noise levels that were asked for and that the model does not know; the usual ones are cut to its range.

    Raises: InputError.
    """
    known = found.sampling
    for name in ("sigma_max", "sigma_min"):
        wanted, can = getattr(asked.sampling, name), getattr(known, name)
        if wanted not in (getattr(Sampling, name), can):
            raise InputError(
                f"{name} is {wanted:g}: {asked.model} can be measured from {known.sigma_max:g} down to "
                f"{known.sigma_min:g}: pass --{name.replace('_', '-')} {can:g}, or leave it out"
            )


def run_learned(spec: SpecOfModel, out: Path | None, progress: bool = True) -> tuple[xr.Dataset, list[Onset], bool]:
    """Measure a learned model.

    Args:
        spec: the study, with a model.
        out: its folder; a half-done study goes on, a finished one is left as it is; None writes nothing.
        progress: show a bar on stderr.

    Returns: results, onsets of the main estimator in order, and whether the study was already finished.

    Raises: InputError.
    """
    if distributed.world() > 1:
        raise InputError("a study of a model runs in one process: leave torchrun out")
    if out is not None:
        check_study_folder(out, spec)
    learned, spec = open_learned(spec, progress, out)
    if progress:
        say_notes(learned.data)
    like = Path(spec.gaps.like) if spec.gaps.like else None
    folder = None if out is None else StudyFolder(out, spec)
    if folder is not None:
        results = folder.results()
        if results is not None and folder.has_page:
            return results, table_of(results), True
    else:
        results = None
    if results is None:
        if isinstance(learned, Forked):
            assert isinstance(spec, PipelineSpec)
            results = measure_forked(learned, spec, folder, progress)
        else:
            results = measure(learned, spec, folder, progress, like)
        if folder is not None:
            folder.store_results(results)
            folder.drop_checkpoint()
    if progress and (why := str(results.attrs.get("main_reason", ""))):
        shown = why.replace(f" ({results.attrs.get('wrapping', '')})", "")
        print(f"sigmascope: note: {shown}", file=sys.stderr)
    table = table_of(results)
    if folder is None:
        return results, table, False
    folder.write("onset.csv", lambda p: p.write_text(onset_csv(table, doubts(results)), encoding="utf-8"))
    advice = page_advice(results, spec.model)
    if isinstance(learned, Forked):
        write_forked_report(folder.write, results, to_curves(results), table, advice, doubts(results))
        return results, table, False
    one = draws_for(learned, 1, spec.sampling.seed, 0)
    example = one.v[0].numpy(), one.noise[0].numpy()
    write_learned_report(folder.write, results, to_curves(results), table, example, advice, doubts(results))
    return results, table, False
