"""Two finished studies compared: which decides each attribute earlier, with paired errors where the draws are the same.

References: Efron & Tibshirani (1993), percentile intervals of paired differences; Hesterberg (2015), their ends for few
draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import xarray as xr
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.optimize import isotonic_regression

from sigmascope.analysis.onset import crossings, ends_of, moved, mover, quantity
from sigmascope.core import Curve, InputError
from sigmascope.data.sigma_units import factor
from sigmascope.report.comparison import (
    Comparison,
    Estimate,
    comparison_csv,
    comparison_figure,
    comparison_json,
    comparison_text,
)
from sigmascope.report.gallery import rendered
from sigmascope.studies.laws import law_in_words
from sigmascope.studies.marks import biased_around
from sigmascope.studies.reading import read_study
from sigmascope.studies.sides import Side, by_estimator, choose, common, main_of
from sigmascope.studies.store import Folder, check_folder

MARKER = "compare.toml"
_RESAMPLES = 2000


def compare(a: str | Path, b: str | Path, out: str | Path, estimator: str = "") -> str:
    """Compare two finished studies, and write what is found into a folder.

    The folder receives comparison.csv, comparison.json, comparison.png and .svg.

    Args:
        a: the first study: its folder, or its ``results.nc``.
        b: the second.
        out: a folder: new, empty, or that of the same comparison.
        estimator: which, in both, or ``NAME:NAME`` for one in each; empty takes the main one of each study.

    Returns: the table and the sentences to print.

    Raises: InputError for studies that are not there, not finished or have nothing in common, and for folders that
        hold something else.
    """
    if not str(a) or not str(b):
        raise InputError("two studies are compared: pass the folders of both, e.g. studies/one studies/two")
    if not str(out):
        raise InputError("no folder for the results was named: pass --out FOLDER")
    folder, marker = Path(out), tomli_w.dumps({"compare": {"a": str(a), "b": str(b), "estimator": estimator}})
    check_folder(folder, MARKER)
    if (folder / MARKER).exists() and (folder / MARKER).read_text(encoding="utf-8", errors="replace") != marker:
        raise InputError(f"{folder}: it holds another comparison: choose another --out")
    one, two = read_results(Path(a)), read_results(Path(b))
    two, converted = _in_unit_of(two, one, b, a)
    found = comparisons(one, two, estimator)
    names = (f"A: {_name(a, b)}", f"B: {_name(b, a)}")
    studies = {"A": _described(one, a), "B": _described(two, b)}
    figure = comparison_figure(found, names)
    store = Folder(folder, MARKER, marker)
    for kind in ("png", "svg"):
        picture = rendered(figure, kind)
        store.write(f"comparison.{kind}", lambda p, picture=picture: p.write_bytes(picture))  # type: ignore[misc]
    store.write("comparison.csv", lambda p: p.write_text(comparison_csv(found), encoding="utf-8"))
    store.write("comparison.json", lambda p: p.write_text(comparison_json(found, studies), encoding="utf-8"))
    said = [f"{k}: {s['path']}: {s['data']}, {s['words']}; {s['draws']} draws. {_about(r, found, k)}"
            for (k, s), r in zip(studies.items(), (one, two), strict=True)]  # fmt: skip
    return "\n".join([*said, *converted, "", comparison_text(found)])


def _about(results: xr.Dataset, found: Sequence[Comparison], which: str) -> str:
    """Which estimators of a study were compared, and of what law."""
    ways = dict.fromkeys((c.a if which == "A" else c.b).estimator for c in found)
    return "; ".join(f"Read by {w}: {law_in_words(results, w)}" if w else law_in_words(results) for w in ways)


def _in_unit_of(
    results: xr.Dataset, other: xr.Dataset, path: str | Path, to: str | Path
) -> tuple[xr.Dataset, list[str]]:
    """Results with their noise levels in the unit of another study, and what to say of it.

    Raises: InputError where the units are known to be others.
    """
    own, their = (str(r.attrs.get("unit_of_sigma", "")) for r in (results, other))
    times = factor(own, their)
    if times is None:
        raise InputError(
            f"{path}: its unit of σ is {own or 'not stored'}, that of {to} is {their or 'not stored'}, and neither "
            "becomes the other: compare studies of one unit"
        )
    if times == 1.0:
        return results, []
    scaled = results.assign_coords(sigma=results.sigma * times).assign_attrs(unit_of_sigma=their)
    return scaled, [f"σ of B is multiplied by {times:g}: its unit was {own}, that of A is {their}"]


def read_results(path: Path) -> xr.Dataset:
    """The results of a finished study.

    Args:
        path: its folder, or its ``results.nc``.

    Raises: InputError for what is not there, not finished, or no study.
    """
    file = path / "results.nc" if path.is_dir() else path
    if not path.exists():
        raise InputError(f"{path}: there is no such study: pass the folder that a study was written to")
    if not file.exists():
        begun = (path / "spec.toml").exists()
        what = "the study in it is not finished" if begun else "it holds no study"
        how = f"run it to its end: sigmascope study --spec {path / 'spec.toml'} --out {path}"
        raise InputError(f"{path}: {what}: {how if begun else 'pass the folder that a study was written to'}")
    return read_study(file, "pass the results.nc of a study")


def comparisons(
    a: xr.Dataset, b: xr.Dataset, estimator: str = "", *, resamples: int = _RESAMPLES, pair: bool | None = None
) -> list[Comparison]:
    r"""Compare the results of two studies, attribute by attribute.

    .. math:: I_A(\sigma) - I_B(\sigma), \qquad \ln\sigma_A - \ln\sigma_B
              \ \text{ where } I_A(\sigma_A) = \tfrac12 H,\ I_B(\sigma_B) = \tfrac12 H

    Draws are resampled with replacement.  Where both studies have the same draws (items and seed) a resample takes the
    same ones of both, and what they share falls out of the difference; where they are other draws, each has its own
    resamples.  Pairs are needed only to be alike and independent of each other, so the data, the model and the levels
    of the studies may differ.  Levels: the same, or those of the coarser grid in the common range, to which curves are
    interpolated in ln sigma by a cubic spline (linear in each draw); onsets are read on each study's own levels.
    Errors common to all draws and of quadrature are added in squares to the intervals of differences of I, and move
    the resamples of the shift.

    Args:
        a: results of a study, A.
        b: those of B.
        estimator: as of :func:`compare`.
        resamples: of the bootstrap.
        pair: whether to pair the draws; None finds out.

    Returns: in the order in which A decides the attributes.

    Raises: InputError where the studies have no attribute, estimator or range of levels in common.
    """
    sides = by_estimator(a, "A"), by_estimator(b, "B")
    found, mains = [], (main_of(a), main_of(b))
    for name in common(*sides):
        one, two = choose(name, *sides, estimator, mains)
        found.append(_compared(one, two, resamples, pair))
    return sorted(found, key=lambda c: (-c.half[0].value, -c.half[1].value))


def _compared(one: Side, two: Side, resamples: int, pair: bool | None) -> Comparison:
    a, b = one.curve, two.curve
    sigma, interpolated = _levels(a, b)
    same = one.seed == two.seed and np.array_equal(one.items, two.items) and bool((one.items >= 0).all())
    same = same and one.drawn == two.drawn
    paired = same if pair is None else pair
    n, m = a.per_draw.shape[1], b.per_draw.shape[1]
    # The counts of A are those of the onsets of its own page; so are those of B where the draws are the same.
    counts = _counts(np.random.default_rng(one.seed), n, resamples)
    others = counts if paired else _counts(np.random.default_rng([two.seed, 1]), m, resamples)
    x, y = _at(sigma, a) @ a.per_draw, _at(sigma, b) @ b.per_draw
    drawn = counts @ (x - y).T / n if paired else counts @ x.T / n - others @ y.T / m
    difference = x.mean(1) - y.mean(1)
    quantiles = ends_of(min(n, m))
    low, high = np.quantile(drawn, quantiles, axis=0)
    common = 1.96**2 * sum(_common_variance(sigma, c, paired) for c in (a, b))
    half_a, half_b = _halves(a, counts, sigma, mover(a, one.seed)), _halves(b, others, sigma, mover(b, two.seed))
    # What draws do not show of B is no error of A: it moves the resamples of B by itself.
    shift, earlier = _shift(half_a, _halves(b, others, sigma, mover(b, two.seed, 1)), quantiles)
    return Comparison(
        a, b, paired, interpolated, sigma, difference,
        difference - np.hypot(difference - low, np.sqrt(common)),
        difference + np.hypot(high - difference, np.sqrt(common)),
        (quantity(half_a, n), quantity(half_b, m)), shift, earlier, one.data == two.data,
        (_doubt(one, half_a[0]), _doubt(two, half_b[0])),
    )  # fmt: skip


def _doubt(side: Side, half: float) -> str:
    """Why the level where half is known cannot be relied upon; empty where nothing speaks against it."""
    at = math.exp(half) if math.isfinite(half) else None
    if side.curve.kind == "exact" or not side.verdict or not biased_around(side.trusted, side.curve.sigma, at):
        return ""
    return side.verdict


def _levels(a: Curve, b: Curve) -> tuple[Float[np.ndarray, " levels"], bool]:
    """Levels that both can be read at, and whether that takes interpolation."""
    if a.sigma.shape == b.sigma.shape and np.allclose(a.sigma, b.sigma, rtol=1e-9, atol=0.0):
        return a.sigma, False
    top, bottom = min(a.sigma[0], b.sigma[0]), max(a.sigma[-1], b.sigma[-1])
    if not bottom < top * (1 - 1e-9):
        ranges = " and ".join(f"{c.sigma[0]:g} to {c.sigma[-1]:g}" for c in (a, b))
        raise InputError(
            f"the noise levels of the studies do not overlap ({ranges}): compare studies of a common range"
        )
    inside = [s[(s < top * (1 - 1e-9)) & (s > bottom * (1 + 1e-9))] for s in (a.sigma, b.sigma)]
    return np.concatenate([[top], min(inside, key=len), [bottom]]), True


def _at(sigma: Float[np.ndarray, " levels"], curve: Curve) -> Float[np.ndarray, "levels nodes"]:
    """Weights that read a curve at levels within its own: the identity at its own."""
    nodes, unit = np.log(curve.sigma[::-1]), np.eye(len(curve.sigma))[::-1]
    x = np.clip(np.log(sigma), nodes[0], nodes[-1])
    if len(sigma) == len(curve.sigma) and np.allclose(x[::-1], nodes, rtol=0.0, atol=1e-9):
        return unit[::-1]
    if len(nodes) < 4:
        return np.stack([np.interp(x, nodes, column) for column in unit.T], 1)
    return np.asarray(CubicSpline(nodes, unit)(x))


def _common_variance(sigma: Float[np.ndarray, " levels"], c: Curve, paired: bool) -> Float[np.ndarray, " levels"]:
    """Squares of the errors that the spread of draws does not show; what paired draws missed, both missed."""
    shared, tail = c.beyond_draws
    extra = shared**2 + (0.0 if paired else tail**2)
    return np.interp(np.log(sigma), np.log(c.sigma[::-1]), extra[::-1])


def _counts(rng: np.random.Generator, draws: int, resamples: int) -> Float[np.ndarray, "resamples draws"]:
    return rng.multinomial(draws, np.full(draws, 1.0 / draws), size=resamples).astype(np.float64)


def _halves(
    c: Curve, counts: Float[np.ndarray, "resamples draws"], sigma: Float[np.ndarray, " levels"], by: np.random.Generator
) -> Float[np.ndarray, " curves"]:
    """ln sigma where half of H(A) is known: of the curve, then of each resample; ±inf beyond the levels of both."""
    means = moved(c, counts @ c.per_draw.T / c.per_draw.shape[1], by)
    rising = np.stack([isotonic_regression(m).x for m in means])
    at = crossings(np.log(c.sigma), rising, 0.5 * c.ceiling)
    at[at > np.log(sigma[0]) + 1e-9] = np.inf
    at[at < np.log(sigma[-1]) - 1e-9] = -np.inf
    return at


def _shift(
    a: Float[np.ndarray, " curves"], b: Float[np.ndarray, " curves"], quantiles: Sequence[float]
) -> tuple[Estimate, float]:
    """ln sigma_A - ln sigma_B with its interval, and the probability that it is positive."""
    nan = float("nan")
    probability = float(np.mean((a > b)[1:] + 0.5 * (a == b)[1:]))
    if not (np.isfinite(a[0]) and np.isfinite(b[0])):
        return Estimate(nan, nan, nan), nan if a[0] == b[0] else probability
    unknown = (a == b) & ~np.isfinite(a)  # both beyond the same end: their difference may be anything
    with np.errstate(invalid="ignore"):
        apart = a - b
    ends = [
        float(np.quantile(np.where(unknown, beyond, apart)[1:], q, method="closest_observation"))
        for q, beyond in zip(quantiles, (-np.inf, np.inf), strict=True)
    ]
    return Estimate(float(apart[0]), *ends), probability


def _name(path: str | Path, other: str | Path) -> str:
    """The shortest end of a path that tells it from the other."""
    mine, theirs = (
        p.parts[:-1] if p.suffix == ".nc" else p.parts for p in (Path(path).absolute(), Path(other).absolute())
    )
    for k in range(1, len(mine) + 1):
        if mine[-k:] != theirs[-k:]:
            return "/".join(mine[-k:])
    return str(path)


def _described(results: xr.Dataset, path: str | Path) -> dict[str, Any]:
    of = results.attrs
    return {
        "path": str(path),
        "data": str(of.get("data_name", "")),
        "words": str(of.get("data_words", "")),
        "fingerprint": str(of.get("data_fingerprint", "")),
        "seed": int(of.get("seed", 0)),
        "draws": int(results.sizes["draw"]),
        "specification": str(of.get("specification", "")),
    }
