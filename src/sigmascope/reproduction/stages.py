"""Reproduce the paper's experiments into a folder: stages that are kept, figures, tables, one page."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch
import xarray as xr

import sigmascope.distributed as distributed
from sigmascope._version import VERSION
from sigmascope.analysis.onset import onsets
from sigmascope.console import progress_bar
from sigmascope.core import Curve, InputError, LabelledData
from sigmascope.data import load
from sigmascope.data.in_memory import in_memory
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.gaps import agreement
from sigmascope.learn.neural import NeuralDenoiser, model_folder, weights_digest
from sigmascope.learn.settings import NULL
from sigmascope.noise import VarianceExploding
from sigmascope.reproduction import experiments as ex
from sigmascope.reproduction import experiments_beyond as beyond
from sigmascope.reproduction.page import write_paper
from sigmascope.reproduction.reproduced import Reproduced
from sigmascope.studies.results import to_curves
from sigmascope.studies.run import run as run_study
from sigmascope.studies.spec import SpecOfModel, spec_of
from sigmascope.studies.store import Folder, check_folder, netcdf
from sigmascope.studies.tasks import ReproduceTask, to_toml

MARKER = "reproduce.toml"
_STAGES, _MODEL = "stages", "model"
_FORMAT = 3  # of the results of stages: raised when an experiment changes


@dataclass(frozen=True)
class Stage:
    """A part of the reproduction, kept by itself.

    Args:
        name: of its file and of its group in results.nc.
        words: for the progress bar.
        run: computes its results from those of the earlier stages.
        needs: stages whose results it reads.
    """

    name: str
    words: str
    run: Callable[[dict[str, xr.Dataset]], xr.Dataset]
    needs: tuple[str, ...] = ()


def reproduce(task: ReproduceTask, out: Path, progress: bool = True) -> tuple[str, bool]:
    """Reproduce the paper's experiments.

    Args:
        task: the data, the model, and how thorough the run is.
        out: its folder; stages that are there already, by their fingerprint, are taken as they are.
        progress: show bars on stderr.

    Returns: the text to print, and whether everything was there already.

    Raises: InputError.
    """
    if distributed.world() > 1:
        raise InputError("reproduce runs in one process: leave torchrun out")
    task = task.check()
    check_folder(out, MARKER)
    task, data, model, digest = _opened(task)
    folder = Folder(out, MARKER, to_toml(task))
    laboratory = _Once(data, task, model)
    second = cache(lambda: beyond.second_data(task.second))  # pictures are decoded once, for marks and stages
    stages = stages_of(task, laboratory, second, out, progress)
    stage_results: dict[str, xr.Dataset] = {}
    marks: dict[str, str] = {}
    new = False
    with progress_bar("paper", len(stages), "stages", disable=not progress) as bar:
        for stage in stages:
            bar.set_postfix_str(stage.words)
            marks[stage.name] = _mark(stage, task, data, second, digest, [marks[n] for n in stage.needs])
            kept = _kept(out, stage.name, marks[stage.name])
            if kept is None:
                new, kept = True, _run(stage, stage_results, marks[stage.name])
                whole = netcdf(kept)
                folder.write(f"{_STAGES}/{stage.name}.nc", lambda p, x=whole: p.write_bytes(x))  # type: ignore[misc]
            stage_results[stage.name] = kept
            bar.update()
    if not new and (out / "report.html").exists():
        return "", True
    whole = netcdf(xr.DataTree.from_dict(stage_results))
    folder.write("results.nc", lambda p: p.write_bytes(whole))
    return write_paper(folder.write, _reproduced(stage_results, task, data)), False


def _reproduced(stages: dict[str, xr.Dataset], task: ReproduceTask, data: LabelledData) -> Reproduced:
    """The results of the stages in the form that the page reads."""
    curves = stages["curves"]
    exact = {str(e): to_curves(curves, str(e)) for e in curves.estimator.values}
    null = [c for e in exact.values() for c in e if c.attribute == NULL]
    kept = {e: [c for c in rows if c.attribute != NULL] for e, rows in exact.items()}
    base = {c.attribute: c for c in kept["posterior"]}
    agreements = [agreement(base[c.attribute], c) for e, rows in kept.items() if e != "posterior" for c in rows]
    others: dict[str, list[Curve]] = {n: to_curves(stages[n]) for n in stages if n == "grain" or n.startswith("second")}
    tables = {"exact": onsets(kept["posterior"], seed=task.seed)}
    if "model" in stages:
        others |= {f"model:{e}": to_curves(stages["model"], e) for e in ("score_gap", "bound")}
        tables["model"] = onsets(others["model:bound"], seed=task.seed)
    tables |= {n: onsets(rows, seed=task.seed) for n, rows in others.items() if not n.startswith("model")}
    s = VarianceExploding()
    event = stages["explorer"].noised.shape[1:]
    words = data.words + ("" if event == data.event else f", reduced to {' × '.join(map(str, event))}")
    return Reproduced(
        stages, data.attributes, kept, null, agreements, tables, others, words, (s.sigma_min, s.sigma_max),
        asdict(task),
    )  # fmt: skip


class _Once:
    """The laboratory, made when a stage first needs it: loading the items takes long, and no kept stage needs them."""

    def __init__(self, data: LabelledData, task: ReproduceTask, model: NeuralDenoiser | None) -> None:
        self._data, self._task, self._model = data, task, model
        self._made: ex.Laboratory | None = None

    def __call__(self) -> ex.Laboratory:
        if self._made is None:
            exact = FiniteDenoiser(in_memory(self._data, self._task.size))
            effort = ex.QUICK if self._task.quick else ex.FULL
            reader, name = _reader(exact, self._model, self._task)
            self._made = ex.Laboratory(exact.data, exact, effort, self._task.seed, self._model, reader, name)
        return self._made


def stages_of(
    task: ReproduceTask,
    lab: Callable[[], ex.Laboratory],
    second: Callable[[], LabelledData],
    out: Path,
    progress: bool,
) -> Sequence[Stage]:
    """The stages in order."""
    stages = [
        Stage("curves", "the exact filter, by four estimators", lambda _: ex.curves(lab(), progress)),
        Stage("systems", "two systems and their filters", lambda _: ex.systems(lab(), progress)),
        Stage("schedule", "one image at eleven intensities", lambda _: ex.schedule(lab(), progress)),
        Stage("forks", "forks of one generation", lambda f: ex.forked(lab(), progress, f["systems"]), ("systems",)),
        Stage("probes", "linear probes", lambda _: ex.probed(lab(), progress)),
        Stage("turn", "there and back", lambda _: beyond.turned(lab(), progress)),
        Stage("deterministic", "deterministic paths", lambda _: beyond.deterministic(lab(), progress)),
        Stage("explorer", "one image at many levels", lambda _: ex.explored(lab(), progress)),
    ]
    if task.data == "scenes":
        stages.append(Stage("grain", "scenes with a grain", lambda _: beyond.grain(lab(), progress)))
    if task.second:
        for law in ("empirical", "heldout"):
            run = lambda _, law=law: beyond.second(lab(), progress, second(), law)  # noqa: E731
            stages.append(Stage(f"second-{law}", f"second data, {law}", run))
    if task.model != "exact":
        stages.append(Stage("model", "the learned model", lambda _: _study_of_model(task, out, progress)))
        stages.append(Stage("model-forks", "forks of the learned model", lambda _: beyond.model_forks(lab(), progress)))
    return stages


def _opened(task: ReproduceTask) -> tuple[ReproduceTask, LabelledData, NeuralDenoiser | None, str]:
    """The task filled in, its data (not yet in memory), its model, and the digest of the model's weights."""
    model, digest = None, ""
    if task.model != "exact":
        folder = model_folder(task.model)
        model, digest = NeuralDenoiser.load(folder), weights_digest(folder)
        own = model.event[-1]
        if task.size not in (16, own):
            raise InputError(f"size is {task.size}: {task.model} is of a size of its own, {own}: leave out --size")
        name = task.model if task.model == "bundled" else str(Path(task.model).resolve())
        task = replace(task, model=name, size=model.event[-1] if task.data == "scenes" else 0)
    if task.data == "hierarchy" or task.data.startswith("hierarchy:"):
        raise InputError(f"{task.data}: the paper's experiments want a finite set: pass scenes or a data file")
    scenes = task.data == "scenes"
    if scenes and task.size not in (16, 32, 64):
        raise InputError(f"size is {task.size}: scenes have a side of 16, 32 or 64 pixels")
    data = load(task.data, task.attributes, size=task.size or 16)
    if not scenes:
        task = replace(task, data=str(Path(task.data).resolve()))
    if model is not None and model.event != data.event:
        raise InputError(f"{task.model}: the model is of items of shape {model.event}, the data are of {data.event}")
    names = task.attributes or tuple(a.name for a in data.attributes)
    if task.second:
        task = replace(task, second=str(Path(task.second).resolve()))
    return replace(task, attributes=names, fingerprint=data.fingerprint), data, model, digest


def _reader(
    exact: FiniteDenoiser, model: NeuralDenoiser | None, task: ReproduceTask
) -> tuple[NeuralDenoiser | ex.PosteriorMean, str]:
    """The features that probes read: the model's, else the bundled network's where it fits, else the filter's."""
    if model is not None:
        return model, "all blocks of the model"
    if task.data == "scenes":
        bundled = NeuralDenoiser.load("bundled")
        if bundled.event == exact.event:
            return bundled, "all blocks of the bundled network"
    return ex.PosteriorMean(exact.data), "the posterior mean of a filter of at most 16,384 of the items"


def _study_of_model(task: ReproduceTask, out: Path, progress: bool) -> xr.Dataset:
    effort = ex.QUICK if task.quick else ex.FULL
    estimators = ("score_gap", "mmse_gap", *(("filter",) * (not task.quick)), "classifier", "posterior")
    if not (model_folder(task.model) / "classifier.safetensors").exists():
        estimators = tuple(e for e in estimators if e != "classifier")
    spec = spec_of(
        data=task.data,
        model=task.model,
        attributes=task.attributes,
        draws=min(effort.draws, 128) // (2 if task.quick else 1),
        levels=effort.levels,
        seed=task.seed,
        estimators=estimators,
        target_stderr=effort.model_stderr,
    )
    assert isinstance(spec, SpecOfModel)
    folder = out / _MODEL
    if folder.exists() and not (folder / "report.html").exists():
        try:
            return run_study(spec, folder, progress)[0]
        except InputError:
            shutil.rmtree(folder)  # half of another study: this stage's own folder
    elif folder.exists():
        shutil.rmtree(folder)
    return run_study(spec, folder, progress)[0]


def _mark(
    stage: Stage,
    task: ReproduceTask,
    data: LabelledData,
    second: Callable[[], LabelledData],
    digest: str,
    needs: Sequence[str],
) -> str:
    """A fingerprint of everything that the numbers of a stage depend on."""
    effort = asdict(ex.QUICK if task.quick else ex.FULL)
    parts = [_FORMAT, VERSION, stage.name, task.seed, task.size, task.attributes, data.fingerprint, effort]
    if stage.name in ("model", "model-forks", "probes"):
        parts += [digest, weights_digest(model_folder("bundled"))]
    if stage.name.startswith("second"):
        parts.append(second().fingerprint)
    return hashlib.blake2b(json.dumps([parts, list(needs)]).encode(), digest_size=16).hexdigest()


def _kept(out: Path, name: str, mark: str) -> xr.Dataset | None:
    """The results of an earlier run of the same stage; None where there are none or the file cannot be read."""
    path = out / _STAGES / f"{name}.nc"
    try:
        with xr.open_dataset(path, engine="h5netcdf") as file:
            return file.load() if file.attrs.get("stage_fingerprint") == mark else None
    except (OSError, ValueError, KeyError):
        return None


def _run(stage: Stage, earlier: dict[str, xr.Dataset], mark: str) -> xr.Dataset:
    began = time.monotonic()
    with torch.no_grad():
        result = stage.run(earlier)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    own = {"stage_fingerprint": mark, "seconds": time.monotonic() - began, "peak_bytes": float(peak)}
    return result.assign_attrs(own)
