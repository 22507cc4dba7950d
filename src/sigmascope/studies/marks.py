"""Which curves of a study of a model may be believed, level by level, and which of them the study is about."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from sigmascope.analysis.trust import Trust, biased_around
from sigmascope.studies.results import main_estimator

_LARGE = 0.25  # share of the levels at which a curve may be biased and still be the main one


def with_marks(results: xr.Dataset, trusts: Sequence[Trust], usual: Sequence[str]) -> xr.Dataset:
    """The results of a study with the verdicts on its curves, and the main one of these.

    Args:
        results: with all curves.
        trusts: verdicts; a curve without one is trusted.
        usual: estimators that may be the main one, the usual one first.

    Returns: with ``trusted`` and ``reason`` over attribute, estimator and sigma, ``verdict`` over attribute and
        estimator, and the attributes ``main_estimator`` and ``main_reason``: why it is not the usual one, or that no
        other would be better.
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
    said = max((against(results, str(n), first) for n in results.attribute.values), key=len)
    for other in usual[1:]:
        if biased_share(results, other) <= _LARGE:
            return other, f"{first} is biased ({said}): {other} is shown in its place"
    return first, f"{first} is biased ({said}), and this study has no other curve that is not"


def biased_share(results: xr.Dataset, estimator: str) -> float:
    """The share of levels at which a curve is biased, of the attribute of which it is largest."""
    if "trusted" not in results:
        return 0.0
    return float(1.0 - results.trusted.sel(estimator=estimator).mean("sigma").min())


def against(
    results: xr.Dataset, attribute: str, estimator: str, high: float = math.inf, low: float = 0.0
) -> str:  # fmt: skip
    """What speaks against a curve between two levels: the commonest reason, in words; empty where nothing does.

    Args:
        results: of a study.
        attribute: whose curve.
        estimator: which.
        high: the upper level, that of the study where it lies between two.
        low: the lower level.
    """
    if "trusted" not in results:
        return ""
    within = (results.sigma.values <= high) & (results.sigma.values >= low)
    of = results.sel(attribute=attribute, estimator=estimator)
    biased = within & ~of.trusted.values.astype(bool)
    if not biased.any():
        return ""
    if "reason" not in results:
        return _verdict(results, attribute, estimator)
    found = [str(r) for r in of.reason.values[biased]]
    return max(dict.fromkeys(found), key=found.count)


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
    of = {"attribute": name, "estimator": estimator}
    trusted = results.trusted.sel(of).values.astype(bool)
    if not biased_around(trusted, results.sigma.values, sigma):
        return ""
    return _verdict(results, name, estimator)


def _verdict(results: xr.Dataset, name: str, estimator: str) -> str:
    """The words on a curve that is marked."""
    words = str(results.verdict.sel(attribute=name, estimator=estimator).values) if "verdict" in results else ""
    return words or "it is marked as biased"


def doubts(results: xr.Dataset, estimator: str = "") -> dict[str, str]:
    """Attributes whose curve is marked as biased at some level, with the verdict.

    Args:
        results: of a study.
        estimator: whose curves; empty: the study's main one.
    """
    if "trusted" not in results:
        return {}
    estimator = estimator or main_estimator(results)
    marked = ~results.trusted.sel(estimator=estimator).astype(bool).all("sigma")
    return {n: _verdict(results, n, estimator) for n in map(str, results.attribute.values[marked.values])}
