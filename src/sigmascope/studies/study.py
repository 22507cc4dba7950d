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
from sigmascope.studies.classes import read_classes
from sigmascope.studies.options import changed
from sigmascope.studies.run import open_subject, run_subject
from sigmascope.studies.spec import Spec, SpecOfModel, spec_of
from sigmascope.studies.subjects.base import Subject
from sigmascope.studies.subjects.openings import of_data

_BRING_THEIR_OWN = "labels and weights go with an array: data that are named or labelled bring their own"


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
            named; see :mod:`sigmascope.studies.subjects.model`.  ``"diffusers:FOLDER"`` is a pipeline,
            ``"hub:OWNER/NAME"`` one of the hub: told its classes, or told nothing and measured by forks; see
            :mod:`sigmascope.studies.subjects.sampler`.
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
    spec = spec_of(
        data=str(what) if isinstance(what, (str, Path)) else "<array>",
        abstractions=abstractions,
        draws=draws,
        levels=levels,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        seed=seed,
        size=size,
        grain=grain,
        ground=ground,
        law=law,
        estimators=estimators,
        forks=forks,
        pairs=pairs,
        model=model,
        target_stderr=target_stderr,
        budget=budget,
        like=like,
        labeller=labeller,
        steps=steps,
        null_class=null_class,
        classes=read_classes(classes),
        allow_pickle=allow_pickle,
        variant=variant,
        device=device,
    ).resolve()
    if isinstance(what, (str, Path)):
        if labels is not None or weights is not None:
            raise InputError(_BRING_THEIR_OWN)
        subject, spec = open_subject(spec, None if out is None else Path(out), progress)
    else:
        if isinstance(spec, SpecOfModel):
            raise InputError(f"a {type(what).__name__} came with a model: pass the name or the path of its data")
        subject, spec = _of_objects(spec, what, labels, weights)
    return run_subject(subject, spec, None if out is None else Path(out), progress)[0]


def _of_objects(spec: Any, what: Any, labels: Mapping[str, Any] | None, weights: Any) -> tuple[Subject[Any], Spec]:
    """The subject of data that came from Python.

    Raises: InputError for what is no data, or comes without what it needs.
    """
    if isinstance(what, (np.ndarray, Tensor)):
        if labels is None:
            raise InputError("an array came without labels: pass labels={'name': one label per item}")
        return of_data(spec, from_array(what, labels, weights=weights, abstractions=spec.what.abstractions))
    if labels is not None or weights is not None:
        raise InputError(_BRING_THEIR_OWN)
    data = what.data if isinstance(what, FiniteDenoiser) else what
    if not isinstance(data, (LabelledData, Hierarchy)):
        raise InputError(
            f"a {type(what).__name__} came: expected a name, a path, an array with labels, LabelledData, a "
            "FiniteDenoiser or a Hierarchy"
        )
    spec = changed(spec, data=f"<{data.name}>")
    names = [a.name for a in data.abstractions]
    given = [attribute_of(e, names) for e in spec.what.abstractions]
    if isinstance(data, LabelledData) and spec.what.abstractions and given != names:
        raise InputError("abstractions are chosen when the data are made: pass them to from_array or load")
    if isinstance(data, Hierarchy):
        data.check_names(spec.what.abstractions)
    return of_data(spec, data, what if isinstance(what, FiniteDenoiser) else None)
