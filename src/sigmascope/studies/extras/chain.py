"""Variables of results on a chain of attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from sigmascope.analysis.onset import Quantity, onsets
from sigmascope.core import Attribute, Curve
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.chains import density, links, shapley
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.chains import SubsetsJob
from sigmascope.information.problems import ExactProblem
from sigmascope.studies.subjects.extra import Extra, Jobs

_DETERMINED = 1e-9
"""Nats: an attribute that adds less than this is determined by those before it."""
_NO_HALF = Quantity(math.nan, math.nan, math.nan)


class ChainOfAttributes(Extra):
    """What each attribute of a chain adds to those before it, and its share over all orders."""

    def __init__(self, denoiser: FiniteDenoiser, chain: Sequence[Attribute]) -> None:
        self._denoiser, self._chain = denoiser, chain

    def jobs(self, problem: ExactProblem) -> Mapping[str, Job]:
        def make() -> SubsetsJob:
            return SubsetsJob(self._denoiser, problem.draws, problem.sigma, self._chain)

        return {"chain": problem.job("chain", make)}

    def add(self, results: xr.Dataset, problem: ExactProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        by_subset, names = done["chain"].curves(), [a.name for a in self._chain]
        chain, shares = links(by_subset, names), shapley(by_subset, names)
        table = onsets([c for c in chain if c.ceiling > _DETERMINED], seed=int(results.attrs["seed"]))
        halves = {onset.attribute: onset.at[1] for onset in table}
        half = [halves.get(c.attribute, _NO_HALF) for c in chain]
        results = results.assign_coords(link=[c.attribute for c in chain], member=names).assign(
            link_information=(("link", "sigma"), np.stack([c.value for c in chain])),
            link_stderr=(("link", "sigma"), np.stack([c.error for c in chain])),
            link_ceiling=("link", [c.ceiling for c in chain]),
            link_half=("link", [q.value for q in half]),
            link_half_low=("link", [q.low for q in half]),
            link_half_high=("link", [q.high for q in half]),
            shapley_information=(("member", "sigma"), np.stack([c.value for c in shares])),
            shapley_stderr=(("member", "sigma"), np.stack([c.error for c in shares])),
            shapley_ceiling=("member", [c.ceiling for c in shares]),
        )
        if len(problem.sigma) < 3:
            return results
        slopes = [density(c) for c in chain]
        return results.assign(
            link_density=(("link", "sigma"), np.stack([d.value for d in slopes])),
            link_density_stderr=(("link", "sigma"), np.stack([d.stderr for d in slopes])),
        )
