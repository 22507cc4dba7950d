"""Which law a number of a study is of, and the curves along the model's own path.

*Noised data* are Y = V + sigma n with V an item of the data.  *The model's own path* are the states that its generation
visits on the way down from noise.  The two are one law for an exact model of the data, and for no other.
"""

from __future__ import annotations

import xarray as xr

from sigmascope.core import Curve
from sigmascope.information.estimator import PATH_ESTIMATOR
from sigmascope.studies.results import main_estimator

NOISED, OWN_PATH = "noised data", "the model's own path"
NOISED_OWN = "noised images that the model made"
OWN_PATH_IN_WORDS = f"{OWN_PATH}: states that generation itself visits"


def law_in_words(results: xr.Dataset, estimator: str = "") -> str:
    """What the noisy images were made of, and what continues or reads them, in words.

    Args:
        results: of a study.
        estimator: whose curve; empty: the study's main one.
    """
    estimator, a = estimator or main_estimator(results), results.attrs
    images = "the images that the pipeline made, noised" if a.get("generated") else "images of the data, noised"
    if estimator == "forks" and "labeller" in a:
        return f"{images}, and continued by the pipeline"
    if estimator == "heldout":
        return "images of the population that the data come from, noised"
    if estimator == "posterior" or "model" not in a:
        return "images of the data, noised, and the exact filter of the items, which knows them by heart"
    return f"{images}, as far as the model shows them"


def path_curves(results: xr.Dataset) -> dict[str, Curve]:
    """The information of the model's own path about each attribute; none where it was not measured."""
    if "path_information" not in results:
        return {}
    found = {}
    for name in map(str, results.attribute.values):
        one = results.sel(attribute=name)
        found[name] = Curve(
            attribute=name,
            estimator=PATH_ESTIMATOR,
            sigma=results.sigma.values,
            value=one.path_information.values,
            stderr=one.path_stderr.values,
            ceiling=float(one.path_ceiling),
            per_draw=one.path_information_per_draw.values,
            kind="estimate",
            quadrature_error=one.path_quadrature_error.values,
        )
    return found
