"""Run a study: load, check, one resumable pass, curves, onsets, page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.analysis.onset import Onset
from sigmascope.core import Denoiser, InputError, LabelledData
from sigmascope.data import from_array, load_any
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.labels import attribute_of
from sigmascope.data.loaders import by_word
from sigmascope.data.memory import require
from sigmascope.device import resolve_device
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.forks import enough
from sigmascope.information.jobs.pairs import pairs_among
from sigmascope.limits import real, whole
from sigmascope.report.page import write_report
from sigmascope.report.table import onset_csv, values_csv
from sigmascope.studies.advice_of import page_advice
from sigmascope.studies.classes import read_classes
from sigmascope.studies.compute import Data, chosen, compute, denoiser_of, draws_of
from sigmascope.studies.prediction import predict
from sigmascope.studies.results import agreements_of, conditionals, others, table_of, to_curves
from sigmascope.studies.scales import require_scales, say_notes
from sigmascope.studies.spec import Spec, listed
from sigmascope.studies.store import StudyFolder, check_folder
from sigmascope.studies.timing import seconds_of


def predict_seconds(spec: Spec, data: Data) -> float:
    """Time of a study, from samples of its work that are done now; every rank must ask."""
    return seconds_of(data, spec, resolve_device(spec.device))


def resolve(spec: Spec) -> tuple[Data, Spec]:
    """Load the data of a specification and fill in what it leaves open.

    Raises: InputError, also when the data are not those that the specification was made with.
    """
    spec = spec.check()
    if spec.data.startswith("<"):
        raise InputError(f"{spec.data}: these data came from Python, not from a file: repeat the study from there")
    data = load_any(spec.data, spec.abstractions, size=spec.size, grain=spec.grain, ground=spec.ground)
    if isinstance(data, LabelledData) and by_word(spec.data) is None:
        spec = replace(spec, data=str(Path(spec.data).resolve()))  # the specification may be read from elsewhere
    return data, complete(spec, data)


def complete(spec: Spec, data: Data) -> Spec:
    """The specification with the fingerprint and all abstractions of its data."""
    if spec.fingerprint and spec.fingerprint != data.fingerprint:
        raise InputError(
            f"{spec.data}: the data are not those of the specification (fingerprint {data.fingerprint}, expected "
            f"{spec.fingerprint}): restore the file, or delete the line 'fingerprint'"
        )
    if isinstance(data, Hierarchy) and spec.law == "heldout":
        raise InputError(f"{spec.data}: a hierarchy is its own population: leave out --law heldout")
    names = spec.abstractions or tuple(a.name for a in data.abstractions)
    studied = chosen(data, names)
    require_scales(data, spec, studied)
    if spec.pairs:
        if isinstance(data, Hierarchy):
            raise InputError(f"{spec.data}: pairs are of attributes of a finite set: leave out --pairs for a hierarchy")
        pairs_among(studied)
    if "forks" in spec.estimators:
        widest = max(studied, key=lambda a: int((a.prior > 0).sum()))
        if not enough(widest, spec.forks):
            raise InputError(
                f"forks is {spec.forks}, {widest.name!r} has {len(widest.values)} values: fewer children than values "
                f"cannot show its entropy; pass at least --forks {len(widest.values)}"
            )
    return replace(spec, abstractions=names, fingerprint=data.fingerprint)


def run(spec: Spec, out: Path, progress: bool = True) -> tuple[xr.Dataset, list[Onset], bool]:
    """Run a study into a folder.

    Args:
        spec: the study.
        out: its folder; a half-done study goes on, a finished one is left as it is.
        progress: show a bar on stderr.

    Returns: results, onsets in order, and whether the study was already finished.

    Raises: InputError.
    """
    if spec.model:
        from sigmascope.studies.learned_run import run_learned

        return run_learned(spec, out, progress)
    check_folder(out)
    data, spec = resolve(spec)
    if progress:
        say_notes(data)
    return run_in(data, denoiser_of(data, resolve_device(spec.device)), spec, out, progress)


def run_in(
    data: Data, denoiser: Denoiser, spec: Spec, out: Path, progress: bool
) -> tuple[xr.Dataset, list[Onset], bool]:
    """:func:`run` for data that are loaded."""
    if resolve_device(spec.device).type == "cpu":
        require_memory(data, spec)
    folder = StudyFolder(out, spec)
    results, page = distributed.by_first(lambda: (folder.results(), folder.has_page))
    if results is not None and page:
        return results, table_of(results), True
    if results is None:
        found, _ = compute(data, denoiser, spec, folder, progress)
        distributed.by_first(lambda: folder.store_results(found))
        folder.drop_checkpoint()
        results = found
    table = table_of(results)
    draws = draws_of(data, 2, spec.seed)
    if distributed.rank():
        return results, table, False
    folder.write("onset.csv", lambda p: p.write_text(onset_csv(table), encoding="utf-8"))
    if "value_information" in results:
        folder.write("values.csv", lambda p: p.write_text(values_csv(results), encoding="utf-8"))
    example = draws.v[0].numpy(), draws.noise[0].numpy()
    write_report(
        folder.write, to_curves(results), table, results, example, agreements_of(results), conditionals(results),
        [c for e in others(results) for c in to_curves(results, e)], page_advice(results),
    )  # fmt: skip
    return results, table, False


def require_memory(data: Data, spec: Spec) -> None:
    """Refuse, before work starts, a study that does not fit."""
    study_of = f"this study ({spec.draws} draws, {spec.levels} levels)"
    require(predict(data, spec).more, study_of, "use fewer --draws or --levels")


def study(
    what: str | Path | LabelledData | Hierarchy | FiniteDenoiser | np.ndarray | Tensor,
    labels: Mapping[str, Any] | None = None,
    *,
    abstractions: str | Sequence[str] = (),
    weights: np.ndarray | Tensor | None = None,
    draws: int = 256,
    levels: int = 40,
    sigma_min: float = 0.01,
    sigma_max: float = 90.0,
    seed: int = 0,
    size: int = 32,
    grain: bool = False,
    ground: str = "white",
    law: str = "empirical",
    estimators: str | Sequence[str] = (),
    forks: int = 0,
    pairs: bool = False,
    model: str | Path = "",
    target_stderr: float = 0.0,
    budget: int = 0,
    like: str | Path = "",
    labeller: str = "",
    steps: int = 0,
    null_class: int = -1,
    classes: str | Path | Mapping[Any, Any] | Sequence[str] = "",
    allow_pickle: bool = False,
    variant: str = "",
    device: str = "auto",
    out: str | Path | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Information that :math:`Y_\sigma = V + \sigma n` carries about each attribute of a data set.

    .. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma)

    Args:
        what: ``"scenes"``, ``"hierarchy"``, the path of a data file, an array (items, ...) with ``labels``, labelled
            data or their exact denoiser, or a :class:`~sigmascope.data.hierarchy.Hierarchy`.
        labels: for an array, one label per item for each attribute.
        abstractions: which attributes, e.g. ``("shape", "depth:bins=8")``; empty means all.
        weights: for an array, one non-negative weight per item.
        draws: items and noises drawn, shared by all levels.
        levels: noise levels, evenly spaced in ln sigma.
        sigma_min: last level, in the unit of the data (8-bit pixels: of the full range).
        sigma_max: first level.
        seed: of the draws; the same seed gives the same numbers.
        size: side of the scenes in pixels.
        grain: give the floor of the scenes a fine texture, one more attribute.
        ground: ``"white"``, ``"black"`` or ``"#rrggbb"``: what transparent pixels of pictures are laid on.
        law: ``"empirical"``: of exactly these items, exact; ``"heldout"``: lower bounds for the population that they
            come from, by items held out and a filter made of the rest (the estimator ``heldout``).
        estimators: ``posterior``, and perhaps ``score_gap``, ``mmse_gap``, ``filter`` and ``forks``; of a model among
            ``score_gap``, ``mmse_gap``, ``filter``, ``likelihood``, ``classifier`` and ``posterior``; empty: the usual.
        forks: children of each draw, for the estimator ``forks``; 0: 64, or 16 of a pipeline.
        pairs: study every pair of attributes too: their interaction information.
        model: folder of a learned model, or ``"bundled"``: measure it in place of the exact filter, on data that are
            named; see :mod:`sigmascope.studies.learned`.  ``"diffusers:FOLDER"`` is a pipeline, ``"hub:OWNER/NAME"``
            one of the hub: told its classes, or told nothing and measured by forks; see
            :mod:`sigmascope.studies.forked`.
        target_stderr: of a model's gaps, nats; 0.02 where ``budget`` says nothing either.
        budget: network calls for a model's gaps.
        like: an earlier study of a model, whose draws are used for the gaps.
        labeller: ``module:function`` that labels a pipeline's images; then ``what`` may be ``"generated"``.
        steps: of a pipeline's continuations; 0: 20.
        null_class: index of a pipeline's empty class, where it does not say it itself; without one, what it says
            untold is the mixture over its classes, by its own likelihood.
        classes: names of a pipeline's classes: in their order, from index to name or from name to index, a file with
            these, or ``"by-order"``; empty: those that the pipeline gives.
        allow_pickle: read a pipeline's weights from pickles, too, which can run any code.
        variant: of a pipeline's weights, e.g. ``"fp16"``.
        device: ``auto``, ``cpu``, ``cuda``.
        out: a folder to write results, table and page to (see ``sigmascope study --help``); None writes nothing.
        progress: show a bar on stderr.

    Returns: Dataset with ``information``, ``stderr``, ``information_per_draw``, ``ceiling`` and ``kind`` over
        abstraction, estimator, sigma (decreasing) and draw, in nats; ``value_information`` of single values; of a
        finite set ``effective_items``; with ``pairs``, ``pair_interaction``.

    Raises: InputError, in one line, for anything that cannot be used.

    References: Franzese et al., Entropy 27(4):371 (2025).
    """
    spec = Spec(
        data=str(what) if isinstance(what, (str, Path)) else "<array>",
        abstractions=listed(abstractions),
        draws=whole("draws", draws),
        levels=whole("levels", levels),
        sigma_min=real("sigma_min", sigma_min),
        sigma_max=real("sigma_max", sigma_max),
        seed=whole("seed", seed),
        size=whole("size", size),
        grain=grain,
        ground=ground,
        law=law,
        estimators=listed(estimators),
        forks=whole("forks", forks),
        pairs=pairs,
        model=str(model),
        target_stderr=real("target_stderr", target_stderr),
        budget=whole("budget", budget),
        like=str(like),
        labeller=labeller,
        steps=whole("steps", steps),
        null_class=whole("null_class", null_class),
        classes=read_classes(classes),
        allow_pickle=allow_pickle,
        variant=variant,
        device=device,
    ).check()
    if spec.model:
        if not isinstance(what, (str, Path)):
            raise InputError(f"a {type(what).__name__} came with a model: pass the name or the path of its data")
        from sigmascope.studies.learned_run import run_learned

        return run_learned(spec, None if out is None else Path(out), progress)[0]
    data: Data
    if not isinstance(what, (np.ndarray, Tensor)) and (labels is not None or weights is not None):
        raise InputError("labels and weights go with an array: data that are named or labelled bring their own")
    if isinstance(what, (str, Path)):
        data, spec = resolve(spec)
    elif isinstance(what, (np.ndarray, Tensor)):
        if labels is None:
            raise InputError("an array came without labels: pass labels={'name': one label per item}")
        data = from_array(what, labels, weights=weights, abstractions=spec.abstractions)
    else:
        given = what.data if isinstance(what, FiniteDenoiser) else what
        if not isinstance(given, (LabelledData, Hierarchy)):
            raise InputError(
                f"a {type(what).__name__} came: expected a name, a path, an array with labels, LabelledData, a "
                "FiniteDenoiser or a Hierarchy"
            )
        data, spec = given, replace(spec, data=f"<{given.name}>")
        names = [a.name for a in data.abstractions]
        given_names = [attribute_of(e, names) for e in spec.abstractions]
        if isinstance(data, LabelledData) and spec.abstractions and given_names != names:
            raise InputError("abstractions are chosen when the data are made: pass them to from_array or load")
        if isinstance(data, Hierarchy):
            data.check_names(spec.abstractions)
    spec = complete(spec, data)
    denoiser = what if isinstance(what, FiniteDenoiser) else denoiser_of(data, resolve_device(device))
    if out is not None:
        return run_in(data, denoiser, spec, Path(out), progress)[0]
    require_memory(data, spec)
    return compute(data, denoiser, spec, None, progress)[0]
