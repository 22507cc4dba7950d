"""Variables of results of a sampler, beside its curves: from the labels of continuations."""

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
from sigmascope.information.keeping import kept_of_counts, kept_of_parents, sure_of_counts
from sigmascope.information.problems import SamplerProblem
from sigmascope.studies.glossary import DRAWS
from sigmascope.studies.labelling import Nearest
from sigmascope.studies.laws import NOISED, NOISED_OWN
from sigmascope.studies.subjects.extra import Jobless, Jobs

_UNLIKE = 0.1  # share of H(A) by which the entropy of generated images may differ
_AXES = ("channel", "row", "column")


class Kept(Jobless):
    """The probabilities that redraws keep the attribute and share it; the accuracy of the default labeller."""

    def add(self, results: xr.Dataset, problem: SamplerProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        draws, label, names = problem.draws, problem.label, [a.name for a in problem.attributes]
        law = NOISED if problem.draws_are_items else NOISED_OWN
        counts = {n: done[FORKS].counts(n) for n in names}
        probabilities = {
            "kept_per_draw": [kept_of_parents(c, draws.labels[n]) for n, c in counts.items()],
            "sure_per_draw": [sure_of_counts(c) for c in counts.values()],
            "shared_per_draw": [kept_of_counts(c) for c in counts.values()],
        }
        for name, values in probabilities.items():
            results[name] = (DRAWS, np.stack([x.numpy() for x in values]), {"law": law})
        results.attrs["law"] = law
        if isinstance(label, Nearest) and label.leaves_out:
            right = [label.right(n, draws.items).double() for n in names]
            results = results.assign(
                labeller_right=("attribute", [float(x.mean()) for x in right]),
                labeller_right_stderr=("attribute", [float(x.std()) / len(x) ** 0.5 for x in right]),
                left_out=("draw", label.left_out(draws.items).numpy()),
            )
        return results


class Made(Jobless):
    """The entropy of generated images, and the reason against forks where it is not H(A) of the images.

    Args:
        against: is filled with the reason for each attribute; empty where there is none.
    """

    def __init__(self, against: dict[str, str]) -> None:
        self._against = against

    def add(self, results: xr.Dataset, problem: SamplerProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        results, reasons = unlike(results, {a.name: done[FORKS].counts(a.name)[0] for a in problem.attributes})
        self._against.update(reasons)
        return results


class Children(Jobless):
    """The first draw and some of its continuations at every level, as pictures.

    Args:
        decode: from clean values to pictures; None: clean values are pictures.
    """

    def __init__(self, decode: Any) -> None:
        self._decode = decode

    def add(self, results: xr.Dataset, problem: SamplerProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
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
    """The results with the entropy of generated images, and reasons against curves where it is not H(A).

    The curve by forks is H(A) of the images minus the entropy of the continuations.  It begins at 0 only where the
    pipeline makes the values in the proportions of the images.

    Args:
        results: of the study.
        first: for each attribute, the labels of the continuations of each draw at the first level.

    Returns: results with ``made_entropy``, and for each attribute the reason; empty where there is none.
    """
    made, reasons = [], {}
    for name, c in first.items():
        entropy, ceiling = float(zhang(c.sum(0))), float(results.ceiling.sel(attribute=name))
        without = np.array([float(zhang(c.sum(0) - draw)) for draw in c])  # the jackknife over draws
        error = float(np.sqrt((len(c) - 1) * without.var()))
        made.append(entropy)
        reasons[name] = ""
        if abs(entropy - ceiling) > max(_UNLIKE * ceiling, 3.0 * error):
            begins = float(results.information.sel(attribute=name, estimator="forks")[0])
            reasons[name] = (
                "the model does not make its values in the proportions of the images (entropy "
                f"{entropy:.2f} nats at the first level, {ceiling:.2f} in the images), so its curve begins at "
                f"{begins:.2f} nats instead of 0"
            )
    return results.assign(made_entropy=("attribute", made)), reasons
