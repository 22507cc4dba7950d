"""A study from Python, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from sigmascope.core import InputError, LabelledData
from sigmascope.data import from_array
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.labels import attribute_of
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.limits import shown
from sigmascope.studies.classes import read_classes
from sigmascope.studies.options import DataOptions, Group, Sampling, changed, flat
from sigmascope.studies.run import open_subject, run_subject
from sigmascope.studies.spec import Spec, SpecOfModel, spec_of
from sigmascope.studies.subjects.base import Subject
from sigmascope.studies.subjects.openings import of_data

_LABELLED = "labels go with an array: named and labelled data have their own"
_SAMPLING = Sampling()


def study(
    data: str | Path | LabelledData | Hierarchy | FiniteDenoiser | np.ndarray | Tensor,
    model: str | Path | None = None,
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
        model: a learned model to measure instead of the exact filter, on named data: its folder, ``"bundled"``,
            ``"diffusers:FOLDER"`` for a pipeline of diffusers or ``"hub:OWNER/NAME"`` for one of the hub.
        labels: for an array, one label per item for each attribute.
        attributes: names, e.g. ``("shape", "depth:bins=8")``; empty: all.
        estimators: names, see ``sigmascope study --help``; empty: the default ones.
        sampling: number of draws, noise levels (in the unit of the data; for 8-bit pixels, 1 is their range) and seed.
        options: groups of options for this kind of study, e.g. ``ExactOptions(pairs=True)`` or
            ``[GapOptions(budget=10_000), PipelineOptions(variant="fp16")]``.
        device: ``auto``, ``cpu``, ``cuda``.
        out: folder for results, tables and page (see ``sigmascope study --help``); None: nothing is written.
        progress: show a bar on stderr.

    Returns: Dataset with ``information`` and ``stderr`` over attribute, estimator and sigma (decreasing), in nats, and
        further variables.  Each variable has the attributes ``units``, ``long_name`` and ``description``;
        :func:`~sigmascope.to_pandas` makes a table of the curves.

    Raises: InputError for input that cannot be used.

    References: Franzese et al., Entropy 27(4):371 (2025).
    """
    named = isinstance(data, (str, Path))
    grouped = _flat_groups(sampling, *([options] if isinstance(options, Group) else options))
    single = {"data": str(data) if named else "<array>", "attributes": attributes, "estimators": estimators}
    spec = spec_of(**grouped | single, model=model or "", device=device).resolve()
    folder = None if out is None else Path(out)
    if isinstance(data, (str, Path)):
        if labels is not None:
            raise InputError(_LABELLED)
        subject, spec = open_subject(spec, folder, progress)
    else:
        if isinstance(spec, SpecOfModel):
            raise InputError(f"data are a {type(data).__name__}: with a model, pass the name or the path of its data")
        subject, spec = _of_objects(spec, data, labels)
    return run_subject(subject, spec, folder, progress)[0]


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


def _of_objects(spec: Any, data: Any, labels: Mapping[str, Any] | None) -> tuple[Subject[Any], Spec]:
    """The subject of data that are Python objects."""
    if isinstance(data, (np.ndarray, Tensor)):
        if labels is None:
            raise InputError("data are an array without labels: pass labels={'name': one label per item}")
        return of_data(spec, from_array(data, labels, attributes=spec.inputs.attributes))
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
    names = [a.name for a in data.attributes]
    wanted = [attribute_of(e, names) for e in spec.inputs.attributes]
    if isinstance(data, LabelledData) and spec.inputs.attributes and wanted != names:
        raise InputError("attributes are chosen when the data are made: pass them to from_array or load")
    if isinstance(data, Hierarchy):
        data.check_names(spec.inputs.attributes)
    return of_data(spec, data, denoiser)
