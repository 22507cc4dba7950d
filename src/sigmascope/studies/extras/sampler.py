"""What the labels of children say beside the information: what redraws keep, and where the curve begins at 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int64
from torch import Tensor

from sigmascope.core import Curve
from sigmascope.information.entropies import zhang
from sigmascope.information.estimators.forks import FORKS
from sigmascope.information.jobs import Job
from sigmascope.information.keeping import kept_of_counts, kept_of_parents, sure_of_counts
from sigmascope.information.problems import SamplerProblem
from sigmascope.studies.extras.keeping import with_keeping
from sigmascope.studies.labelling import Nearest
from sigmascope.studies.laws import NOISED, NOISED_OWN
from sigmascope.studies.subjects.extra import Extra

_UNLIKE = 0.1  # share of H(A) by which the entropy of what is made may differ
_AXES = ("channel", "row", "column")


class Kept(Extra):
    """What redraws keep, what they share, and what the default labels are worth."""

    def jobs(self, problem: SamplerProblem) -> Mapping[str, Job]:
        return {}

    def add(
        self, results: xr.Dataset, problem: SamplerProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        draws, label, names = problem.draws, problem.label, [a.name for a in problem.attributes]
        law = NOISED if problem.draws_are_items else NOISED_OWN
        counts = {n: done[FORKS].counts(n) for n in names}
        keeps = {n: kept_of_parents(c, draws.labels[n]).numpy() for n, c in counts.items()}
        results = with_keeping(results, keeps, {n: sure_of_counts(c).numpy() for n, c in counts.items()})
        shared = np.stack([kept_of_counts(counts[n]).numpy() for n in names])
        results = results.assign(shared_per_draw=(("attribute", "sigma", "draw"), shared))
        for name in ("kept_per_draw", "sure_per_draw", "shared_per_draw"):
            results[name].attrs["law"] = law
        results.attrs["law"] = law
        if isinstance(label, Nearest) and label.leaves_out:
            right = [label.right(n, draws.items).double() for n in names]
            results = results.assign(
                labeller_right=("attribute", [float(x.mean()) for x in right]),
                labeller_right_stderr=("attribute", [float(x.std()) / len(x) ** 0.5 for x in right]),
                left_out=("draw", label.left_out(draws.items).numpy()),
            )
        return results


class Made(Extra):
    """The entropy of what the model makes, and what speaks against forks where it is not H(A) of the images.

    Args:
        against: gets, for each attribute, the reason; empty where there is none.
    """

    def __init__(self, against: dict[str, str]) -> None:
        self._against = against

    def jobs(self, problem: SamplerProblem) -> Mapping[str, Job]:
        return {}

    def add(
        self, results: xr.Dataset, problem: SamplerProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        results, found = unlike(results, {a.name: done[FORKS].counts(a.name)[0] for a in problem.attributes})
        self._against.update(found)
        return results


class Children(Extra):
    """Some children of the first draw, and that draw, as pictures at every level.

    Args:
        decode: from clean values to pictures; None: they are pictures.
    """

    def __init__(self, decode: Any) -> None:
        self._decode = decode

    def jobs(self, problem: SamplerProblem) -> Mapping[str, Job]:
        return {}

    def add(
        self, results: xr.Dataset, problem: SamplerProblem, done: Mapping[str, Any], curves: Sequence[Curve]
    ) -> xr.Dataset:
        shown, d = torch.from_numpy(done[FORKS].children()), problem.draws
        pictures = self._pictures(shown.flatten(0, 1))
        level = torch.from_numpy(problem.sigma).float().reshape(-1, *[1] * d.v[0].ndim)
        parent = self._pictures((d.v[0] + level * d.noise[0]).float())
        return results.assign(
            children=(("sigma", "child", *_AXES), pictures.reshape(*shown.shape[:2], *pictures.shape[1:])),
            parent=(("sigma", *_AXES), parent),
        )

    def _pictures(self, values: Tensor) -> Tensor:
        return values if self._decode is None else self._decode(values).float().cpu()


def unlike(results: xr.Dataset, first: Mapping[str, Int64[Tensor, "draws _"]]) -> tuple[xr.Dataset, dict[str, str]]:
    """The results with the entropy of what the pipeline makes, and what speaks against curves where it is not H(A).

    The curve by forks is H(A) of the images less that of the children: unless both are of the same proportions it
    does not begin at 0.

    Args:
        results: of the study.
        first: of each attribute, the labels of the children of each draw at the first level.

    Returns: results with ``made_entropy``, and for each attribute the reason; empty where there is none.
    """
    made, found = [], {}
    for name, c in first.items():
        entropy, ceiling = float(zhang(c.sum(0))), float(results.ceiling.sel(attribute=name))
        without = np.array([float(zhang(c.sum(0) - one)) for one in c])  # the jackknife over draws
        error = float(np.sqrt((len(c) - 1) * without.var()))
        made.append(entropy)
        found[name] = ""
        if abs(entropy - ceiling) > max(_UNLIKE * ceiling, 3.0 * error):
            begins = float(results.information.sel(attribute=name, estimator="forks")[0])
            found[name] = (
                f"the model does not make it in the proportions of the images ({entropy:.2f} nats of it at the first "
                f"level, {ceiling:.2f} in the images), so that its curve begins at {begins:.2f} nats and not at 0"
            )
    return results.assign(made_entropy=("attribute", made)), found
