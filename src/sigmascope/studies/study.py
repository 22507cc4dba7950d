"""A study from Python, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.adapters.models import left_as_it_was
from sigmascope.core import InputError, LabelledData
from sigmascope.data import from_array
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.labels import attribute_of
from sigmascope.device import resolve_device
from sigmascope.exact.features import parse_features
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.limits import shown
from sigmascope.studies.classes import read_classes
from sigmascope.studies.options import DataOptions, Group, Sampling, changed, flat
from sigmascope.studies.run import open_subject, run_subject
from sigmascope.studies.spec import (
    ExactSpec,
    FeatureSpec,
    ForeignSpec,
    HeldoutSpec,
    ModelSpec,
    Spec,
    SpecOfModel,
    spec_of,
)
from sigmascope.studies.subjects.base import Subject
from sigmascope.studies.subjects.model import open_model
from sigmascope.studies.subjects.opened import open_loaded
from sigmascope.studies.subjects.openings import of_data, of_model
from sigmascope.studies.subjects.pictures import needed, of_pictures

_LABELLED = "labels go with an array: named and labelled data have their own"
_SAMPLING = Sampling()


def study(
    data: str | Path | LabelledData | Hierarchy | FiniteDenoiser | np.ndarray | Tensor,
    model: Any = None,
    *,
    labels: Mapping[str, Any] | None = None,
    attributes: str | Sequence[str] = (),
    estimators: str | Sequence[str] = (),
    sampling: Sampling = _SAMPLING,
    options: Group | Sequence[Group] = (),
    device: str = "auto",
    out: str | Path | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Information that the noisy image :math:`Y_\sigma = V + \sigma n` carries about each attribute of a data set.

    .. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma)

    Args:
        data: ``"scenes"``, ``"hierarchy"``, the path of a data file, an array (items, ...) with ``labels``, labelled
            data (:func:`~sigmascope.data.from_array` also takes weights) or their exact denoiser, a
            :class:`~sigmascope.data.hierarchy.Hierarchy`, or, for a pipeline with a labeller, ``"generated"``.
        model: a model to measure instead of the exact filter: a :class:`~sigmascope.adapters.foreign.Foreign` around a
            network, any other :class:`~sigmascope.core.Denoiser`, a pipeline of diffusers, or the name of one:
            ``"bundled"``, a folder of ``sigmascope train`` or of ``save_pretrained``, ``"hub:OWNER/NAME"``, or
            ``"MODULE:FUNCTION"``, a function that returns one.  The modules of an object are in evaluation mode, with
            fixed weights, while the study runs, and are put back into the modes in which they came.
        labels: for an array, one label per item for each attribute; features of pictures need none.
        attributes: names, e.g. ``("shape", "depth:bins=8")``; empty: all.  Features of the pictures themselves, without
            a model: ``("bands:8", "lowpass:.25", "gray")``.
        estimators: names, see ``sigmascope study --help``; empty: the default ones.
        sampling: number of draws, noise levels (in the unit of the data; for 8-bit pixels, 1 is their range) and seed.
        options: groups of options for this kind of study, one or a list of them, e.g. ``ExactOptions(pairs=True)`` or
            ``[GapOptions(budget=10_000), PipelineOptions(variant="fp16")]``:
            :class:`~sigmascope.ExactOptions` for data alone; :class:`~sigmascope.GapOptions`,
            :class:`~sigmascope.TimeOptions` and :class:`~sigmascope.NetworkOptions` for a model;
            :class:`~sigmascope.ForkOptions` for continuations;
            :class:`~sigmascope.PipelineOptions` and :class:`~sigmascope.ClassifierOptions` for a model of another
            program; of :class:`~sigmascope.DataOptions`, size, grain and ground of named data.
        device: ``auto``, ``cpu``, ``cuda``; with ``auto``, a model that is an object stays where it is.
        out: folder for results, tables and page (see ``sigmascope study --help``); None: nothing is written.
        progress: show a bar on stderr.

    Returns: Dataset with ``information`` and ``stderr`` over attribute, estimator and sigma (decreasing), in nats, and
        further variables.  Each variable has the attributes ``units``, ``long_name`` and ``description``;
        :func:`~sigmascope.to_pandas` makes a table of the curves.

    Raises: InputError for input that cannot be used, and for options that this kind of study does not have.

    Cost: for data alone, two matrix products of items · size · draws for all levels together; for a model, calls of its
        network, for about ten minutes unless an option sets their number or the time.

    References: Franzese et al., Entropy 27(4):371 (2025).
    """
    grouped = _flat_groups(sampling, *([options] if isinstance(options, Group) else options))
    single = {"attributes": attributes, "estimators": estimators, "device": device, "model": _name_of(model)}
    single["data"] = str(data) if isinstance(data, (str, Path)) else "<array>"
    spec = spec_of(**grouped | single).resolve()
    folder, as_object = None if out is None else Path(out), not isinstance(model, (str, Path, NoneType))
    if isinstance(data, (str, Path)):
        if labels is not None:
            raise InputError(_LABELLED)
        if not as_object:
            return run_subject(*open_subject(spec, folder, progress), folder, progress)[0]
    given, denoiser, spec = (None, None, spec) if isinstance(data, (str, Path)) else _objects(spec, data, labels)
    if isinstance(spec, FeatureSpec):
        return run_subject(*of_pictures(spec, given, denoiser), folder, progress)[0]
    if isinstance(spec, (ExactSpec, HeldoutSpec)):
        return run_subject(*of_data(spec, given, denoiser), folder, progress)[0]
    assert isinstance(spec, SpecOfModel)
    with left_as_it_was(model):
        subject, spec = _with_model(spec, model if as_object else None, given, folder, progress)
        return run_subject(subject, spec, folder, progress)[0]


def _name_of(model: Any) -> str:
    """The name of a model in a specification; that of an object is its class in angle brackets."""
    if model is None or isinstance(model, (str, Path)):
        return str(model or "")
    return f"<{type(model).__name__}>"


def _with_model(
    spec: SpecOfModel, model: Any, data: LabelledData | Hierarchy | None, out: Path | None, progress: bool
) -> tuple[Subject[Any], Spec]:
    """The subject of a model that is an object, or whose data are objects."""
    keep = model is not None and spec.device == "auto"
    device = None if keep else resolve_device(spec.device)
    if isinstance(spec, ModelSpec):
        home = device or resolve_device("cpu")
        return distributed.by_each(lambda: open_model(spec, home, data))
    assert isinstance(spec, ForeignSpec)
    if isinstance(data, Hierarchy):
        raise InputError(f"data are a {type(data).__name__}: with this model, pass labelled data")
    opened = distributed.by_each(lambda: open_loaded(spec, device, model))
    return of_model(spec, opened, data, out, progress)


def _flat_groups(*groups: Any) -> dict[str, Any]:
    """The options of all groups, by name."""
    options: dict[str, Any] = {}
    for each in groups:
        if not isinstance(each, (Group, Sampling)):
            raise InputError(f"options are {shown(repr(each))}: pass groups of options, e.g. ExactOptions(pairs=True)")
        if isinstance(each, DataOptions) and (each.data or each.attributes):
            raise InputError("data and attributes are arguments of study: leave them out of DataOptions")
        options |= flat(each)
    return options | {"classes": read_classes(options.get("classes", ""))}


def _objects(
    spec: Any, data: Any, labels: Mapping[str, Any] | None
) -> tuple[LabelledData | Hierarchy, FiniteDenoiser | None, Any]:
    """Data that are Python objects, their exact filter where it is given, and the specification with their name."""
    if isinstance(data, (np.ndarray, Tensor)):
        if isinstance(spec, FeatureSpec):  # the labels do not count
            return from_array(data, labels or {}, attributes=needed(parse_features(spec.inputs.attributes))), None, spec
        if labels is None:
            raise InputError("data are an array without labels: pass labels={'name': one label per item}")
        return from_array(data, labels, attributes=spec.inputs.attributes), None, spec
    if labels is not None:
        raise InputError(_LABELLED)
    denoiser = data if isinstance(data, FiniteDenoiser) else None
    data = data if denoiser is None else denoiser.data
    if not isinstance(data, (LabelledData, Hierarchy)):
        raise InputError(
            f"data are a {type(data).__name__}: expected a name, a path, an array with labels, LabelledData, a "
            "FiniteDenoiser or a Hierarchy"
        )
    spec = changed(spec, data=f"<{data.name}>")
    if isinstance(spec, FeatureSpec):
        return data, denoiser, spec
    reals = [a.name for a in getattr(data, "reals", ())]
    names = [*(a.name for a in data.attributes), *reals]
    wanted = sorted((attribute_of(e, names) for e in spec.inputs.attributes), key=reals.__contains__)
    if isinstance(data, LabelledData) and spec.inputs.attributes and wanted != names:
        raise InputError("attributes are chosen when the data are made: pass them to from_array or load")
    if isinstance(data, Hierarchy):
        data.check_names(spec.inputs.attributes)
    return data, denoiser, spec
