"""The curves of two studies, and which of them are compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from jaxtyping import Bool, Int

from sigmascope.core import Curve, InputError
from sigmascope.studies.results import main_estimator, to_curves

_EXACT, _TRUSTED, _BOUND, _ESTIMATE = range(4)  # from the best


@dataclass(frozen=True, eq=False)
class Side:
    """A curve of one study, at the levels and draws that hold numbers, and which draws those are.

    Args:
        curve: at these levels and draws.
        trusted: at which levels it is not marked as biased.
        verdict: the words of the marks.
        items: of the draws.
        drawn: what tells whether draws of the same items are the same: the seed, and which were chosen for a model.
        data: identifies the data.
    """

    curve: Curve
    trusted: Bool[np.ndarray, " levels"]
    verdict: str
    items: Int[np.ndarray, " draws"]
    seed: int
    drawn: bytes
    data: str


Sides = dict[str, dict[str, Side]]
"""By estimator and abstraction."""


def main_of(results: xr.Dataset) -> str:
    """The estimator that a study is about; empty where it names none and has no posterior."""
    own = main_estimator(results)
    return own if "estimator" in results.coords and own in results.estimator.values else ""


def by_estimator(results: xr.Dataset, which: str) -> Sides:
    sides: Sides = {}
    for way in map(str, results.estimator.values) if "estimator" in results.coords else [""]:
        try:
            curves = to_curves(results, way)
        except InputError as error:
            raise InputError(f"study {which}: {error}") from error
        for c in curves:
            side = _side(results, c)
            if side is not None:
                sides.setdefault(way, {})[c.abstraction] = side
    return sides


def _side(results: xr.Dataset, curve: Curve) -> Side | None:
    """A curve without the levels and draws that hold no number, or None where nothing is left of it."""
    levels = np.flatnonzero(np.isfinite(curve.value) & np.isfinite(curve.stderr))
    if len(levels) < 2:
        return None
    kept = curve.at_levels(levels)
    columns = np.isfinite(kept.per_draw).all(0)
    if columns.sum() < 2:
        return None
    trusted, verdict = np.full(len(levels), curve.kind != "estimate"), ""
    if "trusted" in results:
        of = {"abstraction": curve.abstraction, "estimator": curve.estimator}
        trusted = np.asarray(results.trusted.sel(of).values[levels], dtype=bool)
        verdict = str(results.verdict.sel(of).values) if "verdict" in results else ""
    items = results.item.values if "item" in results else np.full(len(columns), -1)  # unknown
    chosen = [k for k in sorted(map(str, results.data_vars)) if k.startswith("allocation_")]
    drawn = hashlib.sha256(b"".join(np.ascontiguousarray(results[k].values).tobytes() for k in chosen)).digest()
    return Side(
        replace(kept, per_draw=kept.per_draw[:, columns]), trusted, verdict, items[columns],
        int(results.attrs.get("seed", 0)), drawn, str(results.attrs.get("data_fingerprint", "")),
    )  # fmt: skip


def common(a: Sides, b: Sides) -> list[str]:
    """Attributes that both have, in the order of A."""
    in_b = {n for of in b.values() for n in of}
    names = list(dict.fromkeys(n for of in a.values() for n in of))
    common = [n for n in names if n in in_b]
    if not common:
        raise InputError(
            f"no attribute is in both studies: A has {', '.join(names) or 'none'}, B has "
            f"{', '.join(sorted(in_b)) or 'none'}; compare studies of the same attributes"
        )
    return common


def choose(name: str, a: Sides, b: Sides, estimator: str, mains: tuple[str, str] = ("", "")) -> tuple[Side, Side]:
    """The curves of an attribute to compare: those that were asked for, the main ones, or the best that both have."""
    mine, theirs = ([e for e, of in s.items() if name in of] for s in (a, b))
    if estimator:
        one, _, two = estimator.partition(":")
        for which, wanted, have in (("A", one, mine), ("B", two or one, theirs)):
            if wanted not in have:
                raise InputError(
                    f"study {which} has no estimator {wanted!r} of {name!r}: choose among {', '.join(have)}"
                )
        return a[one][name], b[two or one][name]
    if mains[0] in mine and mains[1] in theirs:
        return a[mains[0]][name], b[mains[1]][name]
    both = [e for e in mine if e in theirs]
    if not both:
        raise InputError(
            f"{name!r} has no estimator in both studies (A: {', '.join(mine)}; B: {', '.join(theirs)}): pass one of "
            f"each, e.g. --estimator {mine[0]}:{theirs[0]}"
        )
    pairs = [(a[e][name], b[e][name]) for e in both]
    # Of several bounds the one that shows most, of several estimates the most certain; else the first.
    return min(pairs, key=lambda p: (max(map(_rank, p)), _merit(*p) if _rank(p[0]) != _EXACT else 0.0))


def _rank(side: Side) -> int:
    if side.curve.kind == "exact":
        return _EXACT
    if side.curve.kind == "lower bound":
        return _BOUND
    return _TRUSTED if side.trusted.all() else _ESTIMATE


def _merit(a: Side, b: Side) -> float:
    """Less is better."""
    if "lower bound" in (a.curve.kind, b.curve.kind):
        return -float(a.curve.value.mean() + b.curve.value.mean())
    return float(np.square(a.curve.stderr).mean() + np.square(b.curve.stderr).mean())
