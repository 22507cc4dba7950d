"""What is left beside the curves of a law that is known exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from sigmascope.analysis.memorisation import collapse
from sigmascope.analysis.onset import onsets
from sigmascope.core import Curve
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.pairs import PairJob
from sigmascope.information.jobs.passes import Collected
from sigmascope.information.keeping import kept, sure
from sigmascope.information.pairs import Interaction
from sigmascope.information.posterior import by_value, entropy_of
from sigmascope.information.problems import ExactProblem
from sigmascope.studies.extras.keeping import with_keeping
from sigmascope.studies.results import to_curves
from sigmascope.studies.subjects.extra import Extra

VALUE_RESAMPLES = 500
"""Of the bootstrap for each value: there may be many."""
MOST_VALUES = 64
"""Values of an attribute: of more, single ones are not looked at one by one."""


class _OfPosteriors(Extra):
    """What is read off the pass for posteriors."""

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        return {"posteriors": problem.subject.posteriors(problem)}


class Limits(_OfPosteriors):
    """I(A; V): what a clean item tells."""

    def add(
        self, results: xr.Dataset, problem: ExactProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        job, limit, error = done["posteriors"], [], []
        for a in problem.attributes:
            if not isinstance(job, Collected):  # the leaves say it all
                limit.append(a.entropy)
                error.append(0.0)
                continue
            known = a.entropy - entropy_of(job.log_posterior(a.name)[-1]).numpy()
            limit.append(float(known.mean()))
            error.append(float(known.std(ddof=1) / np.sqrt(len(known))))
        return results.assign(information_limit=("attribute", limit), information_limit_stderr=("attribute", error))


class Values(_OfPosteriors):
    """The information about each single value."""

    def add(
        self, results: xr.Dataset, problem: ExactProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        job = done["posteriors"]
        return _with_values(
            results,
            {
                a.name: by_value(a, problem.sigma, job.log_posterior(a.name)[problem.at])
                for a in problem.attributes
                if problem.uses("posterior") and len(a.values) <= MOST_VALUES
            },
        )


class Keeping(_OfPosteriors):
    """How often a redraw keeps the attribute, and how surely it can be read off."""

    def add(
        self, results: xr.Dataset, problem: ExactProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        keeps, sures = {}, {}
        for a in problem.attributes:  # one at a time: the posteriors of all attributes together are large
            log_p = done["posteriors"].log_posterior(a.name)[problem.at]
            keeps[a.name], sures[a.name] = kept(log_p).numpy(), sure(log_p).numpy()
        return with_keeping(results, keeps, sures)


class EffectiveItems(_OfPosteriors):
    """How many items are still possible, and where it is one."""

    def add(
        self, results: xr.Dataset, problem: ExactProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        return _with_effective_items(results, done["posteriors"].effective_items()[[*problem.at, -1]])


class Tree(_OfPosteriors):
    """The information about all nodes of each level of a hierarchy together.

    Args:
        denoiser: its exact filter.
    """

    def __init__(self, denoiser: HierarchyDenoiser) -> None:
        self._prior = denoiser.level_prior_entropies().numpy()

    def add(
        self, results: xr.Dataset, problem: ExactProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        return with_tree(results, done["posteriors"].whole_entropies()[:, problem.at], self._prior)


class Pairs(Extra):
    """The interaction information of every pair of attributes.

    Args:
        denoiser: the exact filter of a finite set.
    """

    def __init__(self, denoiser: FiniteDenoiser) -> None:
        self._denoiser = denoiser

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        def make() -> PairJob:
            return PairJob(self._denoiser, problem.draws, problem.sigma, problem.attributes)

        return {"pairs": problem.job("pairs", make)}

    def add(
        self, results: xr.Dataset, problem: ExactProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        return _with_pairs(results, done["pairs"].interactions([c for c in curves if c.estimator == "posterior"]))


def _with_values(results: xr.Dataset, found: Mapping[str, Mapping[str, Curve]]) -> xr.Dataset:
    """The results with the information about each single value of attributes.

    Args:
        results: of :func:`to_dataset`.
        found: for each attribute, the curves of its values.

    Returns: with a dimension ``value``, the values of all attributes one after the other; ``value_attribute`` says
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
            when[name, onset.attribute] = onset
    mine = [when[name, c.attribute] for name, c in rows]
    return results.assign(
        value_information=(("value", "sigma"), np.stack([c.value for _, c in rows])),
        value_stderr=(("value", "sigma"), np.stack([c.error for _, c in rows])),
        value_ceiling=("value", [c.ceiling for _, c in rows]),
        value_half=("value", [o.at[1].value for o in mine]),
        value_half_low=("value", [o.at[1].low for o in mine]),
        value_half_high=("value", [o.at[1].high for o in mine]),
        value_before_next=("value", [o.before_next for o in mine]),
    ).assign_coords(
        value=[c.attribute for _, c in rows],
        value_attribute=("value", [name for name, _ in rows]),
    )


def _with_effective_items(results: xr.Dataset, effective_items: Float[np.ndarray, "levels draws"]) -> xr.Dataset:
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
        identified_sigma=at.value,
        identified_sigma_low=at.low,
        identified_sigma_high=at.high,
    )


def with_tree(
    results: xr.Dataset, entropy: Float[np.ndarray, "tree sigma draws"], prior: Float[np.ndarray, " tree"]
) -> xr.Dataset:
    """The results of a hierarchy with the information about all nodes of each level of its tree together.

    Args:
        results: of :func:`to_dataset`.
        entropy: H(A_l | Y = y) of the whole vector A_l of a level, from the root to the leaves.
        prior: H(A_l).

    Returns: with ``whole_stderr``, what 95 % intervals hold 1.96 times.
    """
    sigma = results.sigma.values
    known = [
        Curve.of_draws(f"level {k}", "posterior", sigma, h - of, float(h))
        for k, (h, of) in enumerate(zip(prior, entropy, strict=True))
    ]
    return results.assign(
        whole_information=(("tree", "sigma"), np.stack([c.value for c in known])),
        whole_stderr=(("tree", "sigma"), np.stack([c.error for c in known])),
        whole_ceiling=("tree", prior),
    ).assign_coords(tree=np.arange(len(prior)))


def _with_pairs(results: xr.Dataset, found: Sequence[Interaction]) -> xr.Dataset:
    """The results with the interaction information of every pair of attributes.

    Args:
        results: of :func:`to_dataset`.
        found: of every pair of the attributes that are not joint ones.

    Returns: with the matrices ``pair_interaction`` and ``pair_stderr`` (what 95 % intervals hold 1.96 times) over
        first, second and sigma, and ``pair_ceiling``, I(A; B), over first and second, in nats.  They are symmetric; on
        the diagonal an attribute meets itself, and I(A; A; Y) is I(A; Y).
    """
    names = list(dict.fromkeys(n for pair in found for n in (pair.first, pair.second)))
    alone = {c.attribute: c for c in to_curves(results)}
    shape = (len(names), len(names), results.sizes["sigma"])
    value, stderr, ceiling = np.empty(shape), np.empty(shape), np.empty(shape[:2])
    for i, name in enumerate(names):
        value[i, i], stderr[i, i], ceiling[i, i] = alone[name].value, alone[name].error, alone[name].ceiling
    for pair in found:
        i, j = names.index(pair.first), names.index(pair.second)
        value[i, j] = value[j, i] = pair.value
        stderr[i, j] = stderr[j, i] = pair.error
        ceiling[i, j] = ceiling[j, i] = pair.ceiling
    return results.assign(
        pair_interaction=(("first", "second", "sigma"), value),
        pair_stderr=(("first", "second", "sigma"), stderr),
        pair_ceiling=(("first", "second"), ceiling),
    ).assign_coords(first=names, second=names)
