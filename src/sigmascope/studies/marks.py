"""Verdicts on the curves of a model, level by level, and the choice of the main curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from sigmascope.analysis.trust import Trust, biased_around
from sigmascope.studies.results import main_estimator

_LARGE = 0.25  # share of levels at which the main curve may be biased


def with_marks(results: xr.Dataset, trusts: Sequence[Trust], usual: Sequence[str]) -> xr.Dataset:
    """The results of a study with the verdicts on its curves, and the main one of these.

    Args:
        results: with all curves.
        trusts: verdicts; a curve without one is trusted.
        usual: estimators that may be the main one, the usual one first.

    Returns: the results with ``trusted``, ``reason`` and ``verdict``, and the attributes ``main_estimator`` and
        ``main_reason``: why it is not the usual one, or that no other is better.
    """
    names, estimators = (list(map(str, results[axis].values)) for axis in ("attribute", "estimator"))
    shape = (len(names), len(estimators), results.sizes["sigma"])
    trusted = np.ones(shape, dtype=np.int8)
    reasons, words = np.full(shape, "", dtype=object), np.full(shape[:2], "", dtype=object)
    for t in trusts:
        i, e = names.index(t.attribute), estimators.index(t.estimator)
        trusted[i, e], reasons[i, e], words[i, e] = t.trusted, t.reasons, t.words
    results = results.assign(
        trusted=(("attribute", "estimator", "sigma"), trusted),
        reason=(("attribute", "estimator", "sigma"), reasons),
        verdict=(("attribute", "estimator"), words.astype(str)),
    )
    main, why = _main(results, [e for e in usual if e in estimators])
    results.attrs |= {"main_estimator": main, "main_reason": why}
    return results


def _main(results: xr.Dataset, usual: Sequence[str]) -> tuple[str, str]:
    """The first estimator that is not biased over a large part of its levels, and why it is not the usual one."""
    first = usual[0]
    if biased_share(results, first) <= _LARGE:
        return first, ""
    reason = max((against(results, str(n), first) for n in results.attribute.values), key=len)
    for other in usual[1:]:
        if biased_share(results, other) <= _LARGE:
            return other, f"{first} is biased ({reason}): {other} is shown instead"
    return first, f"{first} is biased ({reason}), and so is every other curve of this study"


def biased_share(results: xr.Dataset, estimator: str) -> float:
    """The share of levels at which a curve is biased, for the attribute with the largest share."""
    if "trusted" not in results:
        return 0.0
    return float(1.0 - results.trusted.sel(estimator=estimator).mean("sigma").min())


def against(
    results: xr.Dataset, attribute: str, estimator: str, high: float = math.inf, low: float = 0.0
) -> str:  # fmt: skip
    """The commonest reason against a curve between two levels; empty where there is none.

    Args:
        results: of a study.
        attribute: name of the attribute.
        estimator: name of the estimator.
        high: the upper level.
        low: the lower level.
    """
    if "trusted" not in results:
        return ""
    within = (results.sigma.values <= high) & (results.sigma.values >= low)
    curve = results.sel(attribute=attribute, estimator=estimator)
    biased = within & ~curve.trusted.values.astype(bool)
    if not biased.any():
        return ""
    if "reason" not in results:
        return _verdict(results, attribute, estimator)
    reasons = [str(r) for r in curve.reason.values[biased]]
    return max(dict.fromkeys(reasons), key=reasons.count)


def doubt_at(results: xr.Dataset, estimator: str, name: str, sigma: float | None = None) -> str:
    """The verdict on a curve that is marked as biased at a level, or at all levels; empty where it is not.

    Args:
        results: of a study.
        estimator: name of the estimator.
        name: name of the attribute.
        sigma: a level; it is biased where one of the two studied levels around it is.  None: all levels.
    """
    if "trusted" not in results:
        return ""
    trusted = results.trusted.sel(attribute=name, estimator=estimator).values.astype(bool)
    if not biased_around(trusted, results.sigma.values, sigma):
        return ""
    return _verdict(results, name, estimator)


def _verdict(results: xr.Dataset, name: str, estimator: str) -> str:
    """The verdict on a curve that is marked as biased."""
    words = str(results.verdict.sel(attribute=name, estimator=estimator).values) if "verdict" in results else ""
    return words or "it is marked as biased"


def doubts(results: xr.Dataset, estimator: str = "") -> dict[str, str]:
    """Attributes whose curve is marked as biased at some level, with the verdict.

    Args:
        results: of a study.
        estimator: name of the estimator; empty: the main one of the study.
    """
    if "trusted" not in results:
        return {}
    estimator = estimator or main_estimator(results)
    marked = ~results.trusted.sel(estimator=estimator).astype(bool).all("sigma")
    return {n: _verdict(results, n, estimator) for n in map(str, results.attribute.values[marked.values])}
