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

_BRING_THEIR_OWN = "labels go with an array: data that are named or labelled bring their own"
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
    r"""Information that :math:`Y_\sigma = V + \sigma n` carries about each attribute of a data set.

    .. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma)

    Args:
        data: ``"scenes"``, ``"hierarchy"``, the path of a data file, an array (items, ...) with ``labels``, labelled
            data (:func:`~sigmascope.data.from_array` also takes weights) or their exact denoiser, a
            :class:`~sigmascope.data.hierarchy.Hierarchy`, or, of a pipeline with a labeller, ``"generated"``.
        model: folder of a learned model, or ``"bundled"``: measure it in place of the exact filter, on data that are
            named; see :mod:`sigmascope.studies.subjects.model`.  ``"diffusers:FOLDER"`` is a pipeline,
            ``"hub:OWNER/NAME"`` one of the hub: told its classes, or told nothing and measured by forks; see
            :mod:`sigmascope.studies.subjects.sampler`.
        labels: for an array, one label per item for each attribute.
        attributes: which ones, e.g. ``("shape", "depth:bins=8")``; empty means all.
        estimators: of those in ``sigmascope study --help``; empty: the usual.
        sampling: draws, noise levels (in the unit of the data; 8-bit pixels: of the full range) and seed.
        options: groups of options that this kind of study can use, e.g. ``ExactOptions(pairs=True)`` or
            ``[GapOptions(budget=10_000), PipelineOptions(variant="fp16")]``.
        device: ``auto``, ``cpu``, ``cuda``.
        out: a folder to write results, table and page to (see ``sigmascope study --help``); None writes nothing.
        progress: show a bar on stderr.

    Returns: Dataset with ``information``, ``stderr``, ``information_per_draw``, ``ceiling`` and ``kind`` over
        attribute, estimator, sigma (decreasing) and draw, in nats; ``value_information`` of single values; of a
        finite set ``effective_items``; with ``pairs``, ``pair_interaction``.

    Raises: InputError, in one line, for anything that cannot be used.

    References: Franzese et al., Entropy 27(4):371 (2025).
    """
    named = isinstance(data, (str, Path))
    of_groups = _flat_groups(sampling, *([options] if isinstance(options, Group) else options))
    of_study = {"data": str(data) if named else "<array>", "attributes": attributes, "estimators": estimators}
    spec = spec_of(**of_groups | of_study, model=model or "", device=device).resolve()
    folder = None if out is None else Path(out)
    if isinstance(data, (str, Path)):
        if labels is not None:
            raise InputError(_BRING_THEIR_OWN)
        subject, spec = open_subject(spec, folder, progress)
    else:
        if isinstance(spec, SpecOfModel):
            raise InputError(f"a {type(data).__name__} came with a model: pass the name or the path of its data")
        subject, spec = _of_objects(spec, data, labels)
    return run_subject(subject, spec, folder, progress)[0]


def _flat_groups(*groups: Any) -> dict[str, Any]:
    """The options of all groups by their own names.

    Raises: InputError for what is no group, and for data and attributes, which are arguments.
    """
    found: dict[str, Any] = {}
    for of in groups:
        if not isinstance(of, (Group, Sampling)):
            raise InputError(f"options are {shown(repr(of))}: pass groups of them, e.g. ExactOptions(pairs=True)")
        if isinstance(of, DataOptions) and (of.data or of.attributes):
            raise InputError("data and attributes are arguments of study: leave them out of DataOptions")
        found |= flat(of)
    return found | {"classes": read_classes(found.get("classes", ""))}


def _of_objects(spec: Any, data: Any, labels: Mapping[str, Any] | None) -> tuple[Subject[Any], Spec]:
    """The subject of data that came from Python.

    Raises: InputError for what is no data, or comes without what it needs.
    """
    if isinstance(data, (np.ndarray, Tensor)):
        if labels is None:
            raise InputError("an array came without labels: pass labels={'name': one label per item}")
        return of_data(spec, from_array(data, labels, attributes=spec.inputs.attributes))
    if labels is not None:
        raise InputError(_BRING_THEIR_OWN)
    denoiser = data if isinstance(data, FiniteDenoiser) else None
    data = data if denoiser is None else denoiser.data
    if not isinstance(data, (LabelledData, Hierarchy)):
        raise InputError(
            f"a {type(data).__name__} came: expected a name, a path, an array with labels, LabelledData, a "
            "FiniteDenoiser or a Hierarchy"
        )
    spec = changed(spec, data=f"<{data.name}>")
    names = [a.name for a in data.attributes]
    given = [attribute_of(e, names) for e in spec.inputs.attributes]
    if isinstance(data, LabelledData) and spec.inputs.attributes and given != names:
        raise InputError("attributes are chosen when the data are made: pass them to from_array or load")
    if isinstance(data, Hierarchy):
        data.check_names(spec.inputs.attributes)
    return of_data(spec, data, denoiser)
