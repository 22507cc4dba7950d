"""Results of a study as one xarray Dataset, and back to curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from sigmascope.core import Curve, Draws, InputError, LabelledData
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.information.conditional import conditional as chain_rule
from sigmascope.studies.spec import Spec


def to_dataset(
    curves: Sequence[Curve],
    limit: Mapping[str, tuple[float, float]],
    data: LabelledData | Hierarchy,
    draws: Draws,
    spec: Spec,
) -> xr.Dataset:
    """Arrange curves as a Dataset.

    Args:
        curves: one per estimator and abstraction, over the same levels and draws.
        limit: for each abstraction, I(A; V) and its standard error.
        data: what was studied.
        draws: its draws.
        spec: the resolved specification.

    Returns: variables information, stderr, quadrature_error, information_per_draw, ceiling, kind, information_limit,
        information_limit_stderr and item over abstraction, estimator, sigma (decreasing) and draw, in nats.
    """
    from sigmascope import __version__

    names = list(limit)
    of = {a.name: a for a in data.abstractions}
    estimators = list(dict.fromkeys(c.estimator for c in curves))
    by = {(c.abstraction, c.estimator): c for c in curves}
    grid = [[by[n, e] for e in estimators] for n in names]
    return xr.Dataset(
        {
            "information": (("abstraction", "estimator", "sigma"), [[c.value for c in row] for row in grid]),
            "stderr": (("abstraction", "estimator", "sigma"), [[c.stderr for c in row] for row in grid]),
            "information_per_draw": (
                ("abstraction", "estimator", "sigma", "draw"),
                np.stack([[c.per_draw for c in row] for row in grid]),
            ),
            "quadrature_error": (
                ("abstraction", "estimator", "sigma"),
                [
                    [np.zeros_like(c.value) if c.quadrature_error is None else c.quadrature_error for c in r]
                    for r in grid
                ],
            ),
            "ceiling": ("abstraction", [of[n].entropy for n in names]),
            "kind": ("estimator", [by[names[0], e].kind for e in estimators]),
            "information_limit": ("abstraction", [limit[n][0] for n in names]),
            "information_limit_stderr": ("abstraction", [limit[n][1] for n in names]),
            "item": ("draw", draws.items.numpy()),
        },
        coords={
            "abstraction": names,
            "estimator": estimators,
            "sigma": curves[0].sigma,
            "draw": np.arange(len(draws)),
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
            "sigmascope_version": __version__,
            "seed": spec.seed,
            "specification": spec.to_toml(),
        },
    )


def with_tree(
    results: xr.Dataset, entropy: Float[np.ndarray, "tree sigma draws"], prior: Float[np.ndarray, " tree"]
) -> xr.Dataset:
    """The results of a hierarchy with the information about all nodes of each level of its tree together.

    Args:
        results: of :func:`to_dataset`.
        entropy: H(A_l | Y = y) of the whole vector A_l of a level, from the root to the leaves.
        prior: H(A_l).
    """
    known = prior[:, None, None] - entropy
    return results.assign(
        whole_information=(("tree", "sigma"), known.mean(2)),
        whole_stderr=(("tree", "sigma"), known.std(2, ddof=1) / known.shape[2] ** 0.5),
        whole_ceiling=("tree", prior),
    ).assign_coords(tree=np.arange(len(prior)))


def conditional(results: xr.Dataset, of: str, given: str, estimator: str = "posterior") -> Curve:
    r"""Information about one attribute when another is known, from a study of their joint value.

    .. math:: I(B; Y_\sigma \mid A) = I(A, B; Y_\sigma) - I(A; Y_\sigma)

    Args:
        results: of a study with the attributes ``given`` and ``given+of`` (or ``of+given``).
        of: B.
        given: A.
        estimator: which estimator.

    Returns: Curve with ceiling H(B | A).

    Raises: InputError if the study lacks the joint attribute, or is one of bounds.
    """
    curves = {c.abstraction: c for c in to_curves(results, estimator)}
    joints = _joints(results)
    joint = next((curves[n] for n in (f"{of}+{given}", f"{given}+{of}") if n in joints), None)
    if joint is None or given not in curves:
        raise InputError(
            f"the study has not both {given!r} and {given}+{of}: run it with --abstractions {given},{given}+{of}"
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
    curves = {c.abstraction: c for c in to_curves(results)}
    found = []
    for name in sorted(_joints(results)):
        for of in curves:
            given = next((g for g in curves if name in (f"{of}+{g}", f"{g}+{of}")), None)
            if given is not None and curves[name].kind == "exact":
                found.append((conditional(results, of, given), curves[of]))
    return [(c, alone) for c, alone in found if c.ceiling > 1e-9]  # a function of the other has nothing left to tell


def to_curves(results: xr.Dataset, estimator: str = "posterior") -> list[Curve]:
    """The curves of one estimator.

    Raises: InputError if the Dataset is not that of a study.
    """
    missing = {"information", "stderr", "quadrature_error", "information_per_draw", "ceiling", "kind"} - set(
        results.data_vars
    )
    if missing:
        raise InputError(f"the results lack {', '.join(sorted(missing))}: pass a Dataset that a study has made")
    if estimator not in results.estimator.values:
        raise InputError(
            f"no estimator is called {estimator!r}: choose among {', '.join(map(str, results.estimator.values))}"
        )
    chosen = results.sel(estimator=estimator)
    return [
        Curve(
            abstraction=str(name),
            estimator=estimator,
            sigma=chosen.sigma.values,
            value=chosen.information.sel(abstraction=name).values,
            stderr=chosen.stderr.sel(abstraction=name).values,
            ceiling=float(chosen.ceiling.sel(abstraction=name)),
            per_draw=chosen.information_per_draw.sel(abstraction=name).values,
            kind=str(chosen.kind.values),
            quadrature_error=chosen.quadrature_error.sel(abstraction=name).values,
        )
        for name in chosen.abstraction.values
    ]
