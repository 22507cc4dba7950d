"""Results of a study as one xarray Dataset, and back to curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int64
from torch import Tensor

from sigmascope._version import VERSION
from sigmascope.analysis.onset import Onset, onsets
from sigmascope.core import Agreement, Attribute, Curve, InputError
from sigmascope.information.gaps import agreement
from sigmascope.information.pairs import conditional as chain_rule
from sigmascope.studies.reading import fault
from sigmascope.studies.spec import HELDOUT, HeldoutSpec, Spec, SpecOfModel


def to_dataset(
    curves: Sequence[Curve], data: Any, attributes: Sequence[Attribute], items: Int64[Tensor, " columns"], spec: Spec
) -> xr.Dataset:
    """Arrange curves as a Dataset.

    Args:
        curves: one per estimator and attribute, over the same levels and columns; those of other attributes are left
            out.
        data: what was studied: its name, words, event, unit and fingerprint stand in the Dataset.
        attributes: those studied.
        items: that the columns are named by.
        spec: the resolved specification.

    Returns: variables information, stderr, quadrature_error, information_per_draw, ceiling, kind, information_limit and
        information_limit_stderr (NaN until an extra knows them) and item over attribute, estimator, sigma
        (decreasing) and draw, in nats; where columns of curves are means of several draws, draws_per_column, over
        attribute and estimator.
    """
    names, of = [a.name for a in attributes], {a.name: a for a in attributes}
    curves = [c for c in curves if c.attribute in of]
    estimators = list(dict.fromkeys(c.estimator for c in curves))
    by = {(c.attribute, c.estimator): c for c in curves}
    grid = [[by[n, e] for e in estimators] for n in names]
    per_column = np.array([[c.draws_per_column for c in row] for row in grid])
    several = {"draws_per_column": (("attribute", "estimator"), per_column)} if per_column.max() > 1 else {}
    return xr.Dataset(
        {
            **several,
            "information": (("attribute", "estimator", "sigma"), [[c.value for c in row] for row in grid]),
            "stderr": (("attribute", "estimator", "sigma"), [[c.stderr for c in row] for row in grid]),
            "information_per_draw": (
                ("attribute", "estimator", "sigma", "draw"),
                np.stack([[c.per_draw for c in row] for row in grid]),
            ),
            "quadrature_error": (
                ("attribute", "estimator", "sigma"),
                [
                    [np.zeros_like(c.value) if c.quadrature_error is None else c.quadrature_error for c in r]
                    for r in grid
                ],
            ),
            "ceiling": ("attribute", [of[n].entropy for n in names]),
            "kind": ("estimator", [by[names[0], e].kind for e in estimators]),
            "information_limit": ("attribute", np.full(len(names), np.nan)),
            "information_limit_stderr": ("attribute", np.full(len(names), np.nan)),
            "item": ("draw", items.numpy()),
        },
        coords={
            "attribute": names,
            "estimator": estimators,
            "sigma": curves[0].sigma,
            "draw": np.arange(len(items)),
        },
        attrs={
            "title": f"Information that the noisy image carries about each attribute: {data.name}",
            "units": "nats",
            "unit_of_sigma": data.unit,
            "data_name": data.name,
            "data_words": data.words,
            "data_event": list(data.event),
            "joint_attributes": [n for n in names if of[n].parts],
            "data_fingerprint": data.fingerprint,
            "sigmascope_version": VERSION,
            "seed": spec.sampling.seed,
            "specification": spec.to_toml(),
            **({"model": spec.model} if isinstance(spec, SpecOfModel) else {}),
            **({"main_estimator": HELDOUT} if isinstance(spec, HeldoutSpec) else {}),
        },
    )


def conditional(results: xr.Dataset, of: str, given: str, estimator: str = "") -> Curve:
    r"""Information about one attribute when another is known, from a study of their joint value.

    .. math:: I(B; Y_\sigma \mid A) = I(A, B; Y_\sigma) - I(A; Y_\sigma)

    Args:
        results: of a study with the attributes ``given`` and ``given+of`` (or ``of+given``).
        of: B.
        given: A.
        estimator: which estimator; empty: ``posterior`` where the study has it, else its main one.

    Returns: Curve with ceiling H(B | A).

    Raises: InputError if the study lacks the joint attribute, or is one of bounds.
    """
    if not estimator and "estimator" in results.coords and "posterior" in results.estimator.values:
        estimator = "posterior"
    curves = {c.attribute: c for c in to_curves(results, estimator)}
    joints = _joints(results)
    joint = next((curves[n] for n in (f"{of}+{given}", f"{given}+{of}") if n in joints), None)
    if joint is None or given not in curves:
        raise InputError(
            f"the study has not both {given!r} and {given}+{of}: run it with --attributes {given},{given}+{of}"
        )
    try:
        return chain_rule(joint, curves[given], f"{of} | {given}")
    except ValueError as error:
        raise InputError(str(error)) from error


def _joints(results: xr.Dataset) -> set[str]:
    """Names of the joint attributes (a column may be called a+b without being one)."""
    return {str(n) for n in np.atleast_1d(results.attrs.get("joint_attributes", []))}


def conditionals(results: xr.Dataset) -> list[tuple[Curve, Curve]]:
    """For each joint of two attributes that were studied too: each given the other, beside it when nothing is given."""
    curves = {c.attribute: c for c in to_curves(results)}
    found = []
    for name in sorted(_joints(results)):
        for of in curves:
            given = next((g for g in curves if name in (f"{of}+{g}", f"{g}+{of}")), None)
            if given is not None and curves[name].kind == "exact":
                found.append((conditional(results, of, given), curves[of]))
    return [(c, alone) for c, alone in found if c.ceiling > 1e-9]  # a function of the other has nothing left to tell


def main_estimator(results: xr.Dataset) -> str:
    """The estimator that a study is about: what its results name, else ``posterior``."""
    return str(results.attrs.get("main_estimator", "posterior"))


def to_curves(results: xr.Dataset, estimator: str = "") -> list[Curve]:
    """The curves of one estimator; of a study's main one where none is named.

    Raises: InputError if the Dataset is not that of a study.
    """
    if said := fault(results):
        raise InputError(f"{said}: pass a Dataset that a study has made")
    estimator = estimator or main_estimator(results)
    if estimator not in results.estimator.values:
        raise InputError(
            f"no estimator is called {estimator!r}: choose among {', '.join(map(str, results.estimator.values))}"
        )
    chosen = results.sel(estimator=estimator)
    return [
        Curve(
            attribute=str(name),
            estimator=estimator,
            sigma=chosen.sigma.values,
            value=chosen.information.sel(attribute=name).values,
            stderr=chosen.stderr.sel(attribute=name).values,
            ceiling=float(chosen.ceiling.sel(attribute=name)),
            per_draw=chosen.information_per_draw.sel(attribute=name).values,
            kind=str(chosen.kind.values),
            quadrature_error=chosen.quadrature_error.sel(attribute=name).values,
            draws_per_column=int(chosen.sel(attribute=name).get("draws_per_column", 1)),
        )
        for name in chosen.attribute.values
    ]


def table_of(results: xr.Dataset) -> list[Onset]:
    """Onsets of a study's results, in order of emergence."""
    return onsets(to_curves(results), seed=int(results.attrs["seed"]))


def agreements_of(results: xr.Dataset) -> list[Agreement]:
    """How far the other estimators of a study are from its main one, where that is exact."""
    base = {c.attribute: c for c in to_curves(results) if c.kind == "exact"}
    if not base:
        return []
    return [agreement(base[c.attribute], c) for e in others(results) for c in to_curves(results, e)]


def others(results: xr.Dataset) -> list[str]:
    """The estimators of a study beside its main one."""
    return [str(e) for e in results.estimator.values if e != main_estimator(results)]
