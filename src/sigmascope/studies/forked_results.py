"""What the labels of children say beside the information: what redraws keep, and where the curve begins at 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Int64
from torch import Tensor

from sigmascope.core import Abstraction, Draws
from sigmascope.information.entropies import zhang
from sigmascope.information.keeping import kept_of_counts, kept_of_parents, sure_of_counts
from sigmascope.studies.labelling import LabelChildren, Nearest
from sigmascope.studies.laws import NOISED, NOISED_OWN
from sigmascope.studies.results import with_keeping

_UNLIKE = 0.1  # share of H(A) by which the entropy of what is made may differ


def with_kept(
    results: xr.Dataset,
    abstractions: Sequence[Abstraction],
    counts_of: Callable[[str], Int64[Tensor, "levels draws values"]],
    draws: Draws,
    label: LabelChildren,
    generated: bool,
) -> xr.Dataset:
    """The results with what redraws keep, what they share, and what the default labels are worth.

    Args:
        results: of the study.
        abstractions: its attributes.
        counts_of: the labels of the children of each draw, by the name of the attribute.
        draws: the parents, with their labels.
        label: what labelled the children.
        generated: whether the pipeline made the parents.
    """
    law = NOISED_OWN if generated else NOISED
    counts = {a.name: counts_of(a.name) for a in abstractions}
    keeps = {n: kept_of_parents(c, draws.labels[n]).numpy() for n, c in counts.items()}
    sures = {n: sure_of_counts(c).numpy() for n, c in counts.items()}
    results = with_keeping(results, keeps, sures)
    shared = np.stack([kept_of_counts(counts[a.name]).numpy() for a in abstractions])
    results = results.assign(shared_per_draw=(("abstraction", "sigma", "draw"), shared))
    for name in ("kept_per_draw", "sure_per_draw", "shared_per_draw"):
        results[name].attrs["law"] = law
    results.attrs["law"] = law
    if isinstance(label, Nearest) and label.leaves_out:
        right = [label.right(a.name, draws.items).double() for a in abstractions]
        results = results.assign(
            labeller_right=("abstraction", [float(x.mean()) for x in right]),
            labeller_right_stderr=("abstraction", [float(x.std()) / len(x) ** 0.5 for x in right]),
            left_out=("draw", label.left_out(draws.items).numpy()),
        )
    return results


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
        entropy, ceiling = float(zhang(c.sum(0))), float(results.ceiling.sel(abstraction=name))
        without = np.array([float(zhang(c.sum(0) - one)) for one in c])  # the jackknife over draws
        error = float(np.sqrt((len(c) - 1) * without.var()))
        made.append(entropy)
        found[name] = ""
        if abs(entropy - ceiling) > max(_UNLIKE * ceiling, 3.0 * error):
            begins = float(results.information.sel(abstraction=name, estimator="forks")[0])
            found[name] = (
                f"the model does not make it in the proportions of the images ({entropy:.2f} nats of it at the first "
                f"level, {ceiling:.2f} in the images), so that its curve begins at {begins:.2f} nats and not at 0"
            )
    return results.assign(made_entropy=("abstraction", made)), found
