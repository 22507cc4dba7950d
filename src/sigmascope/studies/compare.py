"""Compare two finished studies: which decides each attribute earlier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import xarray as xr

from sigmascope.analysis.comparison import Comparison, Side, Sides, compared, matched
from sigmascope.analysis.onset import RESAMPLES
from sigmascope.core import Curve, InputError
from sigmascope.data.sigma_units import factor
from sigmascope.report.comparison import comparison_csv, comparison_figure, comparison_json, comparison_text
from sigmascope.studies.laws import law_in_words
from sigmascope.studies.reading import read_study
from sigmascope.studies.results import main_estimator, to_curves
from sigmascope.studies.store import Folder, check_folder

MARKER = "compare.toml"


def compare(a: str | Path, b: str | Path, out: str | Path, estimator: str = "") -> str:
    """Compare two finished studies, and write the comparison into a folder.

    The folder receives comparison.csv, comparison.json, comparison.png and .svg.

    Args:
        a: the first study: its folder, or its ``results.nc``.
        b: the second.
        out: a folder: new, empty, or that of the same comparison.
        estimator: its name, or ``NAME:NAME`` for one in each study; empty: the main one of each study.

    Returns: the table and the sentences to print.

    Raises: InputError for studies that are missing, unfinished or have nothing in common, and for folders of something
        else.
    """
    if not str(a) or not str(b):
        raise InputError("expected two studies: pass the folders of both, e.g. studies/one studies/two")
    if not str(out):
        raise InputError("no folder for the results is named: pass --out FOLDER")
    folder, marker = Path(out), tomli_w.dumps({"compare": {"a": str(a), "b": str(b), "estimator": estimator}})
    check_folder(folder, MARKER)
    if (folder / MARKER).exists() and (folder / MARKER).read_text(encoding="utf-8", errors="replace") != marker:
        raise InputError(f"{folder}: it holds another comparison: choose another --out")
    results_a = read_results(Path(a))
    results_b, notes = _in_unit_of(read_results(Path(b)), results_a, b, a)
    compared_curves = comparisons(results_a, results_b, estimator)
    names = (f"A: {_name(a, b)}", f"B: {_name(b, a)}")
    studies = {"A": _described(results_a, a), "B": _described(results_b, b)}
    figure = comparison_figure(compared_curves, names)
    store = Folder(folder, MARKER, marker)
    store.write_figure("comparison", figure)
    store.write_text("comparison.csv", comparison_csv(compared_curves))
    store.write_text("comparison.json", comparison_json(compared_curves, studies))
    lines = [f"{k}: {s['path']}: {s['data']}, {s['words']}; {s['draws']} draws. {_laws(r, compared_curves, k)}"
             for (k, s), r in zip(studies.items(), (results_a, results_b), strict=True)]  # fmt: skip
    return "\n".join([*lines, *notes, "", comparison_text(compared_curves)])


def _laws(results: xr.Dataset, compared_curves: Sequence[Comparison], side: str) -> str:
    """The compared estimators of a study, A or B, each with its law."""
    names = dict.fromkeys((c.a if side == "A" else c.b).estimator for c in compared_curves)
    return "; ".join(f"By {n}: {law_in_words(results, n)}" if n else law_in_words(results) for n in names)


def _in_unit_of(
    results: xr.Dataset, other: xr.Dataset, path: str | Path, to: str | Path
) -> tuple[xr.Dataset, list[str]]:
    """Results with their noise levels in the unit of another study, and notes about it."""
    unit, wanted = (str(r.attrs.get("unit_of_sigma", "")) for r in (results, other))
    times = factor(unit, wanted)
    if times is None:
        raise InputError(
            f"{path}: its unit of σ is {unit or 'not stored'}, that of {to} is {wanted or 'not stored'}, and neither "
            "can be converted to the other: compare studies with the same unit"
        )
    if times == 1.0:
        return results, []
    scaled = results.assign_coords(sigma=results.sigma * times).assign_attrs(unit_of_sigma=wanted)
    return scaled, [f"σ of B is multiplied by {times:g}: its unit was {unit}, that of A is {wanted}"]


def read_results(path: Path) -> xr.Dataset:
    """The results of a finished study.

    Args:
        path: its folder, or its ``results.nc``.

    Raises: InputError for a path without a finished study.
    """
    file = path / "results.nc" if path.is_dir() else path
    if not path.exists():
        raise InputError(f"{path}: no such study: pass the folder that a study was written to")
    if not file.exists():
        begun = (path / "spec.toml").exists()
        if begun:
            how = f"finish it: sigmascope study --spec {path / 'spec.toml'} --out {path}"
            raise InputError(f"{path}: the study in it is not finished: {how}")
        raise InputError(f"{path}: it holds no study: pass the folder that a study was written to")
    return read_study(file, "pass the results.nc of a study")


def comparisons(
    a: xr.Dataset, b: xr.Dataset, estimator: str = "", *, resamples: int = RESAMPLES, pair: bool | None = None
) -> list[Comparison]:
    """Compare the results of two studies, attribute by attribute (:func:`~sigmascope.analysis.comparison.compared`).

    Args:
        a: results of a study, A.
        b: those of B.
        estimator: as of :func:`compare`.
        resamples: of the bootstrap.
        pair: whether to pair the draws; None: where both studies have the same draws.

    Returns: comparisons in the order in which A decides the attributes.

    Raises: InputError where the studies have no attribute, estimator or range of levels in common.
    """
    sides, mains = (_sides(a, "A"), _sides(b, "B")), (main_estimator(a), main_estimator(b))
    curves = [compared(*both, resamples, pair) for both in matched(*sides, estimator, mains)]
    return sorted(curves, key=lambda c: (-c.half[0].value, -c.half[1].value))


def _sides(results: xr.Dataset, study: str) -> Sides:
    """The measured curves of a study, A or B."""
    sides: Sides = {}
    for name in map(str, results.estimator.values) if "estimator" in results.coords else [""]:
        try:
            curves = to_curves(results, name)
        except InputError as error:
            raise InputError(f"study {study}: {error}") from error
        sides[name] = {c.attribute: side for c in curves if (side := _side(results, c)) is not None}
    return sides


def _side(results: xr.Dataset, curve: Curve) -> Side | None:
    """A curve without unmeasured levels and draws; None where fewer than two are left."""
    levels = np.flatnonzero(np.isfinite(curve.value) & np.isfinite(curve.stderr))
    if len(levels) < 2:
        return None
    kept = curve.at_levels(levels)
    columns = np.isfinite(kept.per_draw).all(0)
    if columns.sum() < 2:
        return None
    trusted, verdict = np.full(len(levels), curve.kind != "estimate"), ""
    if "trusted" in results:
        place = {"attribute": curve.attribute, "estimator": curve.estimator}
        trusted = np.asarray(results.trusted.sel(place).values[levels], dtype=bool)
        verdict = str(results.verdict.sel(place).values) if "verdict" in results else ""
    seed, drawn = int(results.attrs.get("seed", 0)), b""
    if "item" in results and (results.item.values[columns] >= 0).all():
        chosen = [results[k].values for k in sorted(map(str, results.data_vars)) if k.startswith("allocation_")]
        arrays = [np.array(seed), results.item.values[columns].astype(np.int64), *chosen]
        drawn = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in arrays)).digest()
    measured = replace(kept, per_draw=kept.per_draw[:, columns])
    return Side(measured, trusted, verdict, seed, drawn, str(results.attrs.get("data_fingerprint", "")))


def _name(path: str | Path, other: str | Path) -> str:
    """The shortest end of a path that differs from that of the other path."""
    first, second = (
        p.parts[:-1] if p.suffix == ".nc" else p.parts for p in (Path(path).absolute(), Path(other).absolute())
    )
    for k in range(1, len(first) + 1):
        if first[-k:] != second[-k:]:
            return "/".join(first[-k:])
    return str(path)


def _described(results: xr.Dataset, path: str | Path) -> dict[str, Any]:
    attrs = results.attrs
    return {
        "path": str(path),
        "data": str(attrs.get("data_name", "")),
        "words": str(attrs.get("data_words", "")),
        "fingerprint": str(attrs.get("data_fingerprint", "")),
        "seed": int(attrs.get("seed", 0)),
        "draws": int(results.sizes["draw"]),
        "specification": str(attrs.get("specification", "")),
    }
