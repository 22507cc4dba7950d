"""Results of a study as one xarray Dataset, and back to curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from sigmascope.analysis.memorisation import collapse
from sigmascope.analysis.onset import onsets
from sigmascope.core import Curve, Draws, InputError, LabelledData
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.information.conditional import conditional as chain_rule
from sigmascope.information.pairs import Interaction
from sigmascope.studies.reading import fault
from sigmascope.studies.spec import Spec

VALUE_RESAMPLES = 500  # of the bootstrap for each value: there may be many


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
        information_limit_stderr and item over abstraction, estimator, sigma (decreasing) and draw, in nats; where
        columns of curves are means of several draws, draws_per_column, over abstraction and estimator.
    """
    from sigmascope import __version__

    names = list(limit)
    of = {a.name: a for a in data.abstractions}
    estimators = list(dict.fromkeys(c.estimator for c in curves))
    by = {(c.abstraction, c.estimator): c for c in curves}
    grid = [[by[n, e] for e in estimators] for n in names]
    per_column = np.array([[c.draws_per_column for c in row] for row in grid])
    several = {"draws_per_column": (("abstraction", "estimator"), per_column)} if per_column.max() > 1 else {}
    return xr.Dataset(
        {
            **several,
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


def with_values(results: xr.Dataset, found: Mapping[str, Mapping[str, Curve]]) -> xr.Dataset:
    """The results with the information about each single value of attributes.

    Args:
        results: of :func:`to_dataset`.
        found: for each attribute, the curves of its values.

    Returns: with a dimension ``value``, the values of all attributes one after the other; ``value_abstraction`` says
        whose they are, ``value_stderr`` what their 95 % intervals hold 1.96 times, ``value_half`` where half of
        :math:`-\\ln p(a)` is known (0 and infinity: below and above the levels), ``value_before_next`` how surely
        before the value of the same attribute that comes next.
    """
    rows = [(name, c) for name, of in found.items() for c in of.values()]
    if not rows:
        return results
    when = {}
    for name, of in found.items():
        for onset in onsets(list(of.values()), resamples=VALUE_RESAMPLES, seed=int(results.attrs["seed"])):
            when[name, onset.abstraction] = onset
    mine = [when[name, c.abstraction] for name, c in rows]
    return results.assign(
        value_information=(("value", "sigma"), np.stack([c.value for _, c in rows])),
        value_stderr=(("value", "sigma"), np.stack([c.error for _, c in rows])),
        value_ceiling=("value", [c.ceiling for _, c in rows]),
        value_half=("value", [o.at[1].value for o in mine]),
        value_half_low=("value", [o.at[1].low for o in mine]),
        value_half_high=("value", [o.at[1].high for o in mine]),
        value_before_next=("value", [o.before_next for o in mine]),
    ).assign_coords(
        value=[c.abstraction for _, c in rows],
        value_abstraction=("value", [name for name, _ in rows]),
    )


def with_keeping(
    results: xr.Dataset,
    kept: Mapping[str, Float[np.ndarray, "levels draws"]],
    sure: Mapping[str, Float[np.ndarray, "levels draws"]] | None = None,
) -> xr.Dataset:
    """The results with the probabilities that a redraw keeps each attribute, and that it can be read off.

    Args:
        results: of :func:`to_dataset`.
        kept: of each attribute, for each draw.
        sure: likewise.
    """
    names = [str(n) for n in results.abstraction.values]
    axes = ("abstraction", "sigma", "draw")
    results = results.assign(kept_per_draw=(axes, np.stack([kept[n] for n in names])))
    return results if sure is None else results.assign(sure_per_draw=(axes, np.stack([sure[n] for n in names])))


def with_effective_items(results: xr.Dataset, effective_items: Float[np.ndarray, "levels draws"]) -> xr.Dataset:
    """The results with the effective number of items of each noisy image, and where it collapses to one.

    Args:
        results: of :func:`to_dataset`.
        effective_items: at their levels, and in the limit sigma → 0: the copies that an item has.
    """
    effective_items = np.maximum(effective_items, 1.0)  # but for rounding
    at = collapse(results.sigma.values, effective_items[:-1])
    return results.assign(
        effective_items=(("sigma", "draw"), effective_items[:-1]),
        effective_items_limit=("draw", effective_items[-1]),
        recognised_sigma=at.value,
        recognised_sigma_low=at.low,
        recognised_sigma_high=at.high,
    )


def with_pairs(results: xr.Dataset, found: Sequence[Interaction]) -> xr.Dataset:
    """The results with the interaction information of every pair of attributes.

    Args:
        results: of :func:`to_dataset`.
        found: of every pair of the attributes that are not joint ones.

    Returns: with the matrices ``pair_interaction`` and ``pair_stderr`` over first, second and sigma, and
        ``pair_ceiling``, I(A; B), over first and second, in nats.  They are symmetric; on the diagonal an attribute
        meets itself, and I(A; A; Y) is I(A; Y).
    """
    names = list(dict.fromkeys(n for pair in found for n in (pair.first, pair.second)))
    alone = {c.abstraction: c for c in to_curves(results)}
    shape = (len(names), len(names), results.sizes["sigma"])
    value, stderr, ceiling = np.empty(shape), np.empty(shape), np.empty(shape[:2])
    for i, name in enumerate(names):
        value[i, i], stderr[i, i], ceiling[i, i] = alone[name].value, alone[name].stderr, alone[name].ceiling
    for pair in found:
        i, j = names.index(pair.first), names.index(pair.second)
        value[i, j] = value[j, i] = pair.value
        stderr[i, j] = stderr[j, i] = pair.stderr
        ceiling[i, j] = ceiling[j, i] = pair.ceiling
    return results.assign(
        pair_interaction=(("first", "second", "sigma"), value),
        pair_stderr=(("first", "second", "sigma"), stderr),
        pair_ceiling=(("first", "second"), ceiling),
    ).assign_coords(first=names, second=names)


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
            abstraction=str(name),
            estimator=estimator,
            sigma=chosen.sigma.values,
            value=chosen.information.sel(abstraction=name).values,
            stderr=chosen.stderr.sel(abstraction=name).values,
            ceiling=float(chosen.ceiling.sel(abstraction=name)),
            per_draw=chosen.information_per_draw.sel(abstraction=name).values,
            kind=str(chosen.kind.values),
            quadrature_error=chosen.quadrature_error.sel(abstraction=name).values,
            draws_per_column=int(chosen.sel(abstraction=name).get("draws_per_column", 1)),
        )
        for name in chosen.abstraction.values
    ]
