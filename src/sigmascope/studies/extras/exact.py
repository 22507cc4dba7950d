"""Variables of results of an exact law, beside its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from sigmascope.analysis.memorisation import collapse
from sigmascope.analysis.onset import onsets
from sigmascope.core import Curve
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.estimators.posterior import jobs_of_reals, reals_in
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.pairs import PairJob
from sigmascope.information.jobs.passes import Collected
from sigmascope.information.keeping import kept, sure
from sigmascope.information.posterior import by_value, entropy_of
from sigmascope.information.problems import ExactProblem
from sigmascope.information.reals import precision
from sigmascope.studies.glossary import DRAWS
from sigmascope.studies.results import to_curves
from sigmascope.studies.subjects.extra import Extra, Jobs

VALUE_RESAMPLES = 500
"""Resamples of the bootstrap for each single value."""
MOST_VALUES = 64
"""Single values are studied for attributes with at most this many."""


class _OfPosteriors(Extra):
    """An extra that reads the pass for posteriors."""

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        return {"posteriors": problem.subject.posteriors(problem)}


class Limits(_OfPosteriors):
    """I(A; V), the information of a clean item."""

    def add(self, results: xr.Dataset, problem: ExactProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        job, limit, error = done["posteriors"], [], []
        for a in problem.attributes:
            if not isinstance(job, Collected):  # a hierarchy, whose leaves determine all its nodes
                limit.append(a.entropy)
                error.append(0.0)
                continue
            gained = a.entropy - entropy_of(job.log_posterior(a.name)[-1]).numpy()
            limit.append(float(gained.mean()))
            error.append(float(gained.std(ddof=1) / np.sqrt(len(gained))))
        for real in problem.real_attributes:
            ratio = reals_in(done).real(real.name).log_ratio[-1].numpy()
            limit.append(float(ratio.mean()))
            error.append(float(ratio.std(ddof=1) / np.sqrt(len(ratio))))
        return results.assign(information_limit=("attribute", limit), information_limit_stderr=("attribute", error))


class Values(_OfPosteriors):
    """The information about each single value, along one dimension ``value`` for all attributes."""

    def add(self, results: xr.Dataset, problem: ExactProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        rows = []
        for a in problem.attributes:
            if problem.uses("posterior") and len(a.values) <= MOST_VALUES:
                log_p = done["posteriors"].log_posterior(a.name)[problem.at]
                of_values = list(by_value(a, problem.sigma, log_p).values())
                table = onsets(of_values, resamples=VALUE_RESAMPLES, seed=int(results.attrs["seed"]))
                by_name = {onset.attribute: onset for onset in table}
                rows += [(a.name, c, by_name[c.attribute]) for c in of_values]
        if not rows:
            return results
        return results.assign(
            value_information=(("value", "sigma"), np.stack([c.value for _, c, _ in rows])),
            value_stderr=(("value", "sigma"), np.stack([c.error for _, c, _ in rows])),
            value_ceiling=("value", [c.ceiling for _, c, _ in rows]),
            value_half=("value", [onset.at[1].value for _, _, onset in rows]),
            value_half_low=("value", [onset.at[1].low for _, _, onset in rows]),
            value_half_high=("value", [onset.at[1].high for _, _, onset in rows]),
            value_before_next=("value", [onset.before_next for _, _, onset in rows]),
        ).assign_coords(
            value=[c.attribute for _, c, _ in rows], value_attribute=("value", [name for name, _, _ in rows])
        )


class Keeping(_OfPosteriors):
    """The probabilities that a redraw keeps the attribute, and that its likeliest value is right."""

    def add(self, results: xr.Dataset, problem: ExactProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        keeps, sures = [], []
        for a in problem.attributes:  # one at a time: the posteriors of all attributes together are large
            log_p = done["posteriors"].log_posterior(a.name)[problem.at]
            keeps.append(kept(log_p).numpy())
            sures.append(sure(log_p).numpy())
        unknown = [np.full((len(problem.sigma), len(problem.draws)), np.nan)] * len(problem.real_attributes)
        keeps, sures = keeps + unknown, sures + unknown  # no redraw has the same real value
        return results.assign(kept_per_draw=(DRAWS, np.stack(keeps)), sure_per_draw=(DRAWS, np.stack(sures)))


class Precision(_OfPosteriors):
    """How precisely each real-valued attribute is known, and its resolution, unit and ceiling; NaN for the others."""

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        return jobs_of_reals(problem)

    def add(self, results: xr.Dataset, problem: ExactProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        count, reals = len(problem.attributes), problem.real_attributes
        known = [reals_in(done).real(a.name) for a in reals]
        measured = [precision(x.squared_error[:-1]) for x in known]
        ceilings = [x.log_ceiling.numpy() for x in known]
        unknown = np.full((count, len(problem.sigma)), np.nan)
        none = [np.nan] * count
        return results.assign(
            precision=(("attribute", "sigma"), np.concatenate([unknown, [value for value, _ in measured]])),
            precision_stderr=(("attribute", "sigma"), np.concatenate([unknown, [error for _, error in measured]])),
            precision_unit=("attribute", [""] * count + [a.unit for a in reals]),
            resolution=("attribute", none + [a.resolution for a in reals]),
            period=("attribute", none + [a.period or np.nan for a in reals]),
            ceiling_stderr=("attribute", [0.0] * count + [float(c.std(ddof=1)) / len(c) ** 0.5 for c in ceilings]),
        )


class EffectiveItems(_OfPosteriors):
    """The effective number of items, and the level where it falls to one."""

    def add(self, results: xr.Dataset, problem: ExactProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        items = np.maximum(done["posteriors"].effective_items()[[*problem.at, -1]], 1.0)  # against rounding
        at = collapse(results.sigma.values, items[:-1])
        return results.assign(
            effective_items=(("sigma", "draw"), items[:-1]), effective_items_limit=("draw", items[-1]),
            identified_sigma=at.value, identified_sigma_low=at.low, identified_sigma_high=at.high,
        )  # fmt: skip


class Tree(_OfPosteriors):
    """The information about all nodes of each level of a hierarchy together."""

    def __init__(self, denoiser: HierarchyDenoiser) -> None:
        self._prior = denoiser.level_prior_entropies().numpy()

    def add(self, results: xr.Dataset, problem: ExactProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        return with_tree(results, done["posteriors"].whole_entropies()[:, problem.at], self._prior)


class Pairs(Extra):
    """Symmetric matrices of the interaction information of attributes; on the diagonal, I(A; A; Y) = I(A; Y)."""

    def __init__(self, denoiser: FiniteDenoiser) -> None:
        self._denoiser = denoiser

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        def make() -> PairJob:
            return PairJob(self._denoiser, problem.draws, problem.sigma, problem.attributes)

        return {"pairs": problem.job("pairs", make)}

    def add(self, results: xr.Dataset, problem: ExactProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        pairs = done["pairs"].interactions([c for c in curves if c.estimator == "posterior"])
        names = list(dict.fromkeys(n for pair in pairs for n in (pair.first, pair.second)))
        alone = {c.attribute: c for c in to_curves(results)}
        shape = (len(names), len(names), results.sizes["sigma"])
        value, stderr, ceiling = np.empty(shape), np.empty(shape), np.empty(shape[:2])
        for i, name in enumerate(names):
            value[i, i], stderr[i, i], ceiling[i, i] = alone[name].value, alone[name].error, alone[name].ceiling
        for pair in pairs:
            i, j = names.index(pair.first), names.index(pair.second)
            value[i, j] = value[j, i] = pair.value
            stderr[i, j] = stderr[j, i] = pair.error
            ceiling[i, j] = ceiling[j, i] = pair.ceiling
        return results.assign(
            pair_interaction=(("first", "second", "sigma"), value),
            pair_stderr=(("first", "second", "sigma"), stderr),
            pair_ceiling=(("first", "second"), ceiling),
        ).assign_coords(first=names, second=names)


def with_tree(
    results: xr.Dataset, entropy: Float[np.ndarray, "tree sigma draws"], prior: Float[np.ndarray, " tree"]
) -> xr.Dataset:
    """The results with the information about all nodes A_l of each level of a tree together.

    Args:
        results: of :func:`~sigmascope.studies.results.to_dataset`.
        entropy: H(A_l | Y = y), from the root to the leaves.
        prior: H(A_l).
    """
    sigma = results.sigma.values
    curves = [
        Curve.of_draws(f"level {k}", "posterior", sigma, before - after, float(before))
        for k, (before, after) in enumerate(zip(prior, entropy, strict=True))
    ]
    return results.assign(
        whole_information=(("tree", "sigma"), np.stack([c.value for c in curves])),
        whole_stderr=(("tree", "sigma"), np.stack([c.error for c in curves])),
        whole_ceiling=("tree", prior),
    ).assign_coords(tree=np.arange(len(prior)))
