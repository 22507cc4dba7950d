"""Results of a study as one xarray Dataset, and back to curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int64
from torch import Tensor

from sigmascope._version import VERSION
from sigmascope.analysis.onset import Onset, onsets
from sigmascope.core import Agreement, Attribute, Curve, InputError, RealAttribute
from sigmascope.exact.features import Feature
from sigmascope.information.estimator import PATH_ESTIMATOR
from sigmascope.information.gaps import agreement
from sigmascope.information.pairs import conditional as chain_rule
from sigmascope.information.resolved import share_curves
from sigmascope.studies.reading import fault
from sigmascope.studies.spec import HELDOUT, FeatureSpec, HeldoutSpec, Spec, SpecOfModel


def to_dataset(
    curves: Sequence[Curve],
    data: Any,
    attributes: Sequence[Attribute | RealAttribute | Feature],
    items: Int64[Tensor, " columns"],
    spec: Spec,
) -> xr.Dataset:
    """The curves of a study as a Dataset (:mod:`sigmascope.studies.glossary` explains its variables).

    Args:
        curves: one per estimator and attribute, over the same levels and columns; those of other attributes are left
            out.  An estimator may have none of a real-valued attribute, which results show by NaN.
        data: with name, words, event, unit and fingerprint.
        attributes: the attributes studied.
        items: index of the item of each column.
        spec: the specification, with all options filled in.
    """
    names = [a.name for a in attributes]
    curves = [c for c in curves if c.attribute in names]
    estimators = list(dict.fromkeys(c.estimator for c in curves))
    by_name = {(c.attribute, c.estimator): c for c in curves}
    grid = [[by_name.get((a.name, e)) or _unmeasured(a, e, curves) for e in estimators] for a in attributes]
    axes = ("attribute", "estimator", "sigma")
    per_column = np.array([[c.draws_per_column for c in row] for row in grid])
    columns = {"draws_per_column": (axes[:2], per_column)} if per_column.max() > 1 else {}
    return xr.Dataset(
        {
            **columns,
            "information": (axes, [[c.value for c in row] for row in grid]),
            "stderr": (axes, [[c.stderr for c in row] for row in grid]),
            "information_per_draw": ((*axes, "draw"), np.stack([[c.per_draw for c in row] for row in grid])),
            "quadrature_error": (axes, [[further_error(c) for c in row] for row in grid]),
            "ceiling": ("attribute", [_ceiling(a, row) for a, row in zip(attributes, grid, strict=True)]),
            "kind": ("estimator", [c.kind for c in grid[0]]),
            "information_limit": ("attribute", np.full(len(names), np.nan)),
            "information_limit_stderr": ("attribute", np.full(len(names), np.nan)),
            "item": ("draw", items.numpy()),
        },
        coords={"attribute": names, "estimator": estimators, "sigma": curves[0].sigma, "draw": np.arange(len(items))},
        attrs={
            "title": f"Information that the noisy image carries about each attribute: {data.name}",
            "units": "nats",
            "unit_of_sigma": data.unit,
            "data_name": data.name,
            "data_words": data.words,
            "data_event": list(data.event),
            "joint_attributes": [a.name for a in attributes if isinstance(a, Attribute) and a.parts],
            "data_fingerprint": data.fingerprint,
            "sigmascope_version": VERSION,
            "seed": spec.sampling.seed,
            "draws": spec.sampling.draws,
            "specification": spec.to_toml(),
            **({"model": spec.model} if isinstance(spec, SpecOfModel) else {}),
            **({"main_estimator": HELDOUT} if isinstance(spec, HeldoutSpec) else {}),
            **({"main_estimator": spec.estimators[0]} if isinstance(spec, FeatureSpec) else {}),
        },
    )


def _unmeasured(attribute: Attribute | RealAttribute | Feature, estimator: str, curves: Sequence[Curve]) -> Curve:
    """The curve, NaN throughout, of an estimator that does not measure a real-valued attribute."""
    if isinstance(attribute, Attribute):
        raise KeyError(attribute.name)
    like = next(c for c in curves if c.estimator == estimator)
    value, per_draw = np.full(len(like.sigma), np.nan), np.full(like.per_draw.shape, np.nan)
    return replace(
        like, attribute=attribute.name, value=value, stderr=value, per_draw=per_draw, quadrature_error=value
    )  # fmt: skip


def _ceiling(attribute: Attribute | RealAttribute | Feature, curves: Sequence[Curve]) -> float:
    """The most that can be known about an attribute: its entropy, or for a real-valued one that of the curves."""
    if isinstance(attribute, Attribute):
        return attribute.entropy
    return next(c.ceiling for c in curves if not np.isnan(c.value).all())


def further_error(curve: Curve) -> np.ndarray:
    """The error of a curve beyond its standard error; 0 where there is none."""
    return np.zeros_like(curve.value) if curve.quadrature_error is None else curve.quadrature_error


def conditional(results: xr.Dataset, attribute: str, given: str, estimator: str = "") -> Curve:
    r"""Information about one attribute given another, from a study of their joint attribute.

    .. math:: I(B; Y_\sigma \mid A) = I(A, B; Y_\sigma) - I(A; Y_\sigma)

    Args:
        results: of a study with the attributes ``given`` and ``given+attribute`` (or ``attribute+given``).
        attribute: B.
        given: A.
        estimator: name of the estimator; empty: ``posterior`` where the study has it, else its main one.

    Returns: Curve with ceiling H(B | A).

    Raises: InputError if the study lacks the joint attribute, or is one of bounds.
    """
    if not estimator and "estimator" in results.coords and "posterior" in results.estimator.values:
        estimator = "posterior"
    curves = {c.attribute: c for c in to_curves(results, estimator)}
    joints = _joints(results)
    joint = next((curves[n] for n in (f"{attribute}+{given}", f"{given}+{attribute}") if n in joints), None)
    if joint is None or given not in curves:
        raise InputError(
            f"the study lacks {given!r} or {given}+{attribute}: run it with --attributes {given},{given}+{attribute}"
        )
    try:
        return chain_rule(joint, curves[given], f"{attribute} | {given}")
    except ValueError as error:
        raise InputError(str(error)) from error


def _joints(results: xr.Dataset) -> set[str]:
    """Names of the joint attributes (an attribute of the data may also be called a+b)."""
    return {str(n) for n in np.atleast_1d(results.attrs.get("joint_attributes", []))}


def conditionals(results: xr.Dataset) -> list[tuple[Curve, Curve]]:
    """For each joint attribute whose parts were studied: the curve of each part given the other, and without it."""
    curves = {c.attribute: c for c in to_curves(results)}
    pairs = []
    for name in sorted(_joints(results)):
        for part in curves:
            given = next((g for g in curves if name in (f"{part}+{g}", f"{g}+{part}")), None)
            if given is not None and curves[name].kind == "exact":
                pairs.append((conditional(results, part, given), curves[part]))
    return [(c, alone) for c, alone in pairs if c.ceiling > 1e-9]  # without functions of the other part


def main_estimator(results: xr.Dataset) -> str:
    """The main estimator of a study: the one that its results name, else ``posterior``."""
    return str(results.attrs.get("main_estimator", "posterior"))


def to_curves(results: xr.Dataset, estimator: str = "") -> list[Curve]:
    """The curves of one estimator of a study, for every attribute.

    Args:
        results: the Dataset that a study has returned, or its ``results.nc``, opened.
        estimator: name of the estimator; empty: the main one of the study.

    Returns: one :class:`~sigmascope.core.Curve` per attribute, in nats, in the order of the study, without real-valued
        attributes that the estimator does not measure.

    Raises: InputError if the Dataset is not that of a study, or lacks the estimator.
    """
    if message := fault(results):
        raise InputError(f"{message}: pass a Dataset that a study has made")
    estimator = estimator or main_estimator(results)
    if estimator not in results.estimator.values:
        raise InputError(
            f"no estimator is called {estimator!r}: choose among {', '.join(map(str, results.estimator.values))}"
        )
    chosen = results.sel(estimator=estimator)
    curves = [_curve(chosen.sel(attribute=n), estimator, str(chosen.kind.values)) for n in chosen.attribute.values]
    reals = real_names(results)
    return [c for c in curves if c.attribute not in reals or not np.isnan(c.value).all()]


def real_names(results: xr.Dataset) -> set[str]:
    """Names of the real-valued attributes."""
    if "resolution" not in results:
        return set()
    return {str(n) for n in results.attribute.values[np.isfinite(results.resolution.values)]}


def path_curves(results: xr.Dataset) -> dict[str, Curve]:
    """The curve of each attribute along the model's own path; empty where it was not measured.

    It is not measured of real-valued attributes, which are left out.
    """
    if "path_information" not in results:
        return {}
    reals = real_names(results)
    curves = (_curve(results.sel(attribute=n), PATH_ESTIMATOR, "estimate", "path_") for n in results.attribute.values)
    return {c.attribute: c for c in curves if c.attribute not in reals}


def _curve(of_attribute: xr.Dataset, estimator: str, kind: str, prefix: str = "") -> Curve:
    """The curve of one attribute, from the variables that begin with a prefix."""
    names = ("information", "stderr", "information_per_draw", "quadrature_error")
    value, stderr, per_draw, quadrature_error = (of_attribute[prefix + n].values for n in names)
    name, ceiling = str(of_attribute.attribute.values), float(of_attribute[prefix + "ceiling"])
    columns = int(of_attribute.get("draws_per_column", 1)) if not prefix else 1
    sigma = of_attribute.sigma.values
    return Curve(name, estimator, sigma, value, stderr, ceiling, per_draw, kind, quadrature_error, columns)


def table_of(results: xr.Dataset) -> list[Onset]:
    """Onsets of a study's results, in order of emergence; of resolved shares for features of pictures."""
    curves = to_curves(results)
    if "resolved_per_draw" in results:
        names = [str(n) for n in results.attribute.values]
        curves = share_curves(names, results.sigma.values, results.resolved_per_draw.values)
    return onsets(curves, seed=int(results.attrs["seed"]))


def agreements_of(results: xr.Dataset) -> list[Agreement]:
    """The differences of the other estimators of a study from its main one, where that is exact."""
    base = {c.attribute: c for c in to_curves(results) if c.kind == "exact"}
    if not base:
        return []
    return [agreement(base[c.attribute], c) for e in others(results) for c in to_curves(results, e)]


def others(results: xr.Dataset) -> list[str]:
    """The estimators of a study except its main one."""
    return [str(e) for e in results.estimator.values if e != main_estimator(results)]
