"""The law of the noisy images of a curve.

*Noised data* are Y = V + sigma n with V an item of the data.  *The model's own path* are the states of its generation,
from noise down.  The two laws are the same only for an exact model of the data.
"""

from __future__ import annotations

import xarray as xr

from sigmascope.studies.results import main_estimator

NOISED, OWN_PATH = "noised data", "the model's own path"
NOISED_OWN = "noised images that the model made"
OWN_PATH_IN_WORDS = f"{OWN_PATH}: the states of its generation"


def law_in_words(results: xr.Dataset, estimator: str = "") -> str:
    """The law of the noisy images of a curve, and the model that reads or continues them, in words.

    Args:
        results: of a study.
        estimator: name of the estimator; empty: the main one of the study.
    """
    estimator, a = estimator or main_estimator(results), results.attrs
    images = "noised images that the pipeline made" if a.get("generated") else "noised images of the data"
    if estimator == "forks" and "labeller" in a:
        return f"{images}, continued by the pipeline"
    if estimator == "heldout":
        return "noised images of the population that the data come from"
    if estimator == "gaussian":
        return "noised pictures of a Gaussian model of the data"
    if estimator == "posterior" or "model" not in a:
        return "noised images of the data, read by the exact filter of exactly these items"
    return f"{images}, read by the model"
