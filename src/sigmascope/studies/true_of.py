"""Of what law a study's curves are true, and where they are marked as biased."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from sigmascope.studies import laws
from sigmascope.studies.results import main_estimator

OWN_PATH = f"{laws.OWN_PATH}: states that generation itself visits"


def law_of(results: xr.Dataset, estimator: str = "") -> str:
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


def doubt_at(results: xr.Dataset, estimator: str, name: str, sigma: float | None = None) -> str:
    """Why a curve is marked as biased, at a level or at all levels; empty where it is not.

    Args:
        results: of a study.
        estimator: whose curve.
        name: of the attribute.
        sigma: a level, which counts as biased if one of the two studied ones around it is; None: all levels.
    """
    if "trusted" not in results:
        return ""
    of = {"abstraction": name, "estimator": estimator}
    trusted = results.trusted.sel(of).values.astype(bool)
    if not biased_around(trusted, results.sigma.values, sigma):
        return ""
    words = str(results.verdict.sel(of).values) if "verdict" in results else ""
    return words or "it is marked as biased"


def biased_around(
    trusted: Bool[np.ndarray, " levels"], levels: Float[np.ndarray, " levels"], sigma: float | None
) -> bool:
    """Whether a curve is marked as biased at one of the two levels around σ; without σ, at all levels."""
    if sigma is None:
        return not trusted.any()
    if not 0 < sigma < math.inf:
        return False
    below = int(np.clip(np.searchsorted(-levels, -sigma * (1 + 1e-9)), 0, len(levels) - 1))
    above = below if math.isclose(levels[below], sigma, rel_tol=1e-9) else max(below - 1, 0)
    return not (trusted[below] and trusted[above])


def doubts(results: xr.Dataset, estimator: str = "") -> dict[str, str]:
    """Attributes whose curve is marked as biased at some level, with the verdict.

    Args:
        results: of a study.
        estimator: whose curves; empty: the study's main one.
    """
    if "trusted" not in results:
        return {}
    estimator, found = estimator or main_estimator(results), {}
    for name in map(str, results.abstraction.values):
        of = {"abstraction": name, "estimator": estimator}
        if not results.trusted.sel(of).values.astype(bool).all():
            found[name] = str(results.verdict.sel(of).values) if "verdict" in results else "marked as biased"
    return found
