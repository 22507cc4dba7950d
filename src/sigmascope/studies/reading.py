"""The one reader of ``results.nc``: a file that a study may have written is parsed into a checked Dataset, or refused.

A file comes from anywhere.  It is opened only if it is a plain file; what it refers to outside of itself is not
followed; no size that it states is believed before it is compared with the size of the file and with the memory that is
free; every variable that is read later has the dimensions and the kind of values that a study writes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from sigmascope.core import InputError
from sigmascope.data.memory import require
from sigmascope.limits import shown

KINDS = ("exact", "estimate", "lower bound")
_INFORMATION = ("attribute", "estimator", "sigma")
_CONDITIONS = ("loss_condition", "loss_sigma")
_NEEDED: dict[str, tuple[tuple[str, ...], str]] = {
    "information": (_INFORMATION, "f"),
    "stderr": (_INFORMATION, "f"),
    "quadrature_error": (_INFORMATION, "f"),
    "information_per_draw": ((*_INFORMATION, "draw"), "f"),
    "ceiling": (("attribute",), "f"),
    "kind": (("estimator",), "U"),
}
"""Of every study: dimensions, and f for numbers, i for whole ones, U for text."""
_PERHAPS: dict[str, tuple[tuple[str, ...], str]] = {
    "draws_per_column": (("attribute", "estimator"), "i"),
    "information_limit": (("attribute",), "f"),
    "information_limit_stderr": (("attribute",), "f"),
    "item": (("draw",), "i"),
    "kept_per_draw": (("attribute", "sigma", "draw"), "f"),
    "sure_per_draw": (("attribute", "sigma", "draw"), "f"),
    "shared_per_draw": (("attribute", "sigma", "draw"), "f"),
    "labeller_right": (("attribute",), "f"),
    "labeller_right_stderr": (("attribute",), "f"),
    "left_out": (("draw",), "i"),
    "path_information": (("attribute", "sigma"), "f"),
    "path_stderr": (("attribute", "sigma"), "f"),
    "path_quadrature_error": (("attribute", "sigma"), "f"),
    "path_information_per_draw": (("attribute", "sigma", "path_draw"), "f"),
    "path_ceiling": (("attribute",), "f"),
    "path_kept_per_draw": (("attribute", "sigma", "path_draw"), "f"),
    "path_sure_per_draw": (("attribute", "sigma", "path_draw"), "f"),
    "trusted": (_INFORMATION, "i"),
    "reason": (_INFORMATION, "U"),
    "verdict": (("attribute", "estimator"), "U"),
    "loss": (_CONDITIONS, "f"),
    "loss_stderr": (_CONDITIONS, "f"),
    "loss_over_linear": (_CONDITIONS, "f"),
    "loss_over_linear_stderr": (_CONDITIONS, "f"),
    "loss_over_unconditional": (_CONDITIONS, "f"),
    "loss_over_unconditional_stderr": (_CONDITIONS, "f"),
    "loss_linear": (("loss_sigma",), "f"),
    "loss_linear_stderr": (("loss_sigma",), "f"),
    "loss_mean": (("loss_sigma",), "f"),
    "loss_mean_stderr": (("loss_sigma",), "f"),
    "loss_condition": (("loss_condition",), "U"),
    "loss_sigma": (("loss_sigma",), "f"),
    "calibration": (("attribute", "sigma"), "f"),
    "calibration_stderr": (("attribute", "sigma"), "f"),
    "chain_residual": (("attribute", "sigma"), "f"),
    "chain_stderr": (("attribute", "sigma"), "f"),
    "null_score_gap": (("sigma",), "f"),
    "null_score_gap_stderr": (("sigma",), "f"),
    "null_bound": (("sigma",), "f"),
    "null_bound_stderr": (("sigma",), "f"),
    "made_entropy": (("attribute",), "f"),
    "effective_items": (("sigma", "draw"), "f"),
    "effective_items_limit": (("draw",), "f"),
    "identified_sigma": ((), "f"),
    "identified_sigma_low": ((), "f"),
    "identified_sigma_high": ((), "f"),
    "whole_information": (("tree", "sigma"), "f"),
    "whole_stderr": (("tree", "sigma"), "f"),
    "whole_ceiling": (("tree",), "f"),
    "value_information": (("value", "sigma"), "f"),
    "value_stderr": (("value", "sigma"), "f"),
    "value_ceiling": (("value",), "f"),
    "value_half": (("value",), "f"),
    "value_half_low": (("value",), "f"),
    "value_half_high": (("value",), "f"),
    "value_before_next": (("value",), "f"),
    "value_attribute": (("value",), "U"),
    "pair_interaction": (("first", "second", "sigma"), "f"),
    "pair_stderr": (("first", "second", "sigma"), "f"),
    "pair_ceiling": (("first", "second"), "f"),
}
_TOGETHER = (
    *(("loss", 12), ("path_", 5), ("value_", 8), ("pair_", 3), ("whole_", 3)),
    *(("identified_", 3), ("effective_", 2)),
)
"""How the names of variables begin that are written together, and how many there are."""
_NAMED = {"f": "numbers", "i": "whole numbers", "U": "text"}
_DTYPES = {"f": "fiu", "i": "iub", "U": "UOT"}
_MOST_TEXT = 10_000_000  # characters of an attribute
_DENSEST = 1100  # deflate makes no file smaller than by so much
_SLACK = 1 << 20


def read_study(path: Path, remedy: str) -> xr.Dataset:
    """The results of a study from a file.

    Args:
        path: of a ``results.nc``.
        remedy: what to do about a file that is none, after a colon.

    Returns: the Dataset, in memory, checked.

    Raises: InputError, in one line, for a file that no study has written.
    """
    results = opened(path, remedy)
    said = fault(results) or _bent_main(results) or _not_finite(results)
    if said:
        raise InputError(f"{path}: {said}: {remedy}")
    return results


def opened(path: Path, remedy: str) -> xr.Dataset:
    """What a netCDF file holds, in memory; arguments and errors as of :func:`read_study`."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(path)}: cannot be read ({_reason(error)}): {remedy}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: it is no plain file: {remedy}")
    try:
        with h5py.File(path, "r") as file:
            if foreign := next(_foreign(file), ""):
                raise InputError(f"{path}: {foreign}: {remedy}")
            stated = _stated(file)
        # Before xarray opens it, which reads coordinates at once.
        if stated > _DENSEST * (size := status.st_size) + _SLACK:
            raise InputError(f"{path}: it states {stated / 1e9:.1f} GB of numbers in {size:,} bytes: {remedy}")
        require(stated, f"{path}", "use a machine with more")
        with xr.open_dataset(path, engine="h5netcdf") as lazy:
            return lazy.load()
    except InputError:
        raise
    except Exception as error:  # a bent file raises anything, in three libraries
        raise InputError(f"{path}: cannot be read ({_reason(error)}): {remedy}") from error


def _foreign(file: h5py.File) -> Iterator[str]:
    """What a file refers to outside of itself, or holds that a study does not write."""
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            yield f"{shown(name)!r} in it is a link to somewhere else"
        elif isinstance(found := file[name], h5py.Dataset) and (found.external or found.is_virtual):
            yield f"{shown(name)!r} in it lies in other files"


def _stated(file: h5py.File) -> int:
    """Bytes of the numbers that a file says it holds."""
    return sum(int(found.nbytes) for name in file if isinstance(found := file.get(name), h5py.Dataset))


def fault(results: xr.Dataset) -> str:
    """What keeps a Dataset from being the results of a study; empty: nothing.  Values are looked at of levels only."""
    missing = (_NEEDED.keys() | {"attribute", "estimator", "sigma"}) - set(results.variables)
    if missing:
        return f"the results lack {', '.join(sorted(missing))}"
    for axis, kind in (("attribute", "U"), ("estimator", "U"), ("sigma", "f")):
        said = _bent(results, axis, (axis,), kind)
        if said:
            return said
    for name, (shape, kind) in (_NEEDED | {n: x for n, x in _PERHAPS.items() if n in results.variables}).items():
        said = _bent(results, name, shape, kind)
        if said:
            return said
    for begin, count in _TOGETHER:
        if 0 < len(have := [n for n in results.variables if str(n).startswith(begin)]) < count:
            return f"of {begin}… it holds {', '.join(map(str, have))} only"
    return _bent_axes(results) or _bent_attributes(results)


def _bent(results: xr.Dataset, name: str, dims: tuple[str, ...], kind: str) -> str:
    found = results[name]
    if found.dims != dims:
        over = ", ".join(map(str, found.dims)) or "nothing"
        return f"{name} is over {over}: expected {', '.join(dims) or 'one number'}"
    if found.dtype.kind not in _DTYPES[kind]:
        return f"{name} holds values of type {found.dtype}: expected {_NAMED[kind]}"
    if found.dtype.kind == "O" and not all(isinstance(x, str) for x in found.values.flat):
        return f"{name} holds other things than text"
    return ""


def _bent_axes(results: xr.Dataset) -> str:
    for name, least in (("attribute", 1), ("estimator", 1), ("sigma", 2), ("draw", 2)):
        if results.sizes.get(name, 0) < least:
            return f"it has {results.sizes.get(name, 0)} along {name}: expected at least {least}"
    for name in ("attribute", "estimator"):
        if len(set(map(str, results[name].values))) < results.sizes[name]:
            return f"a name comes twice among its {name}s"
    sigma = results.sigma.values.astype(np.float64)
    if not (np.isfinite(sigma).all() and (sigma > 0).all() and (np.diff(sigma) < 0).all()):
        return "its noise levels sigma are not finite, above 0 and decreasing"
    ceiling = results.ceiling.values.astype(np.float64)
    if not (np.isfinite(ceiling).all() and (ceiling > 0).all()):
        return "a ceiling in it, the entropy of an attribute, is not finite and above 0"
    unknown = [str(k) for k in results.kind.values if str(k) not in KINDS]
    return f"a kind in it is {shown(unknown[0])!r}: expected {', '.join(KINDS)}" if unknown else ""


def _bent_attributes(results: xr.Dataset) -> str:
    of = results.attrs
    if any(isinstance(x, str) and len(x) > _MOST_TEXT for x in of.values()):
        return f"a text in it is longer than {_MOST_TEXT:,} characters"
    seed = of.get("seed", 0)
    if isinstance(seed, str) or np.size(seed) != 1 or not _whole(seed):
        return f"its seed is {shown(seed)!r}: expected a whole number, not negative"
    return ""


def _bent_main(results: xr.Dataset) -> str:
    main = results.attrs.get("main_estimator")
    if main is not None and str(main) not in results.estimator.values:
        return f"its main estimator {shown(main)!r} is not among its estimators"
    return ""


def _whole(x: object) -> bool:
    try:
        return int(x) == x and int(x) >= 0  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return False


def _not_finite(results: xr.Dataset) -> str:
    """A level that was not measured holds NaN in all of its draws; an infinity is no measurement."""
    for name in ("information", "stderr", "quadrature_error", "information_per_draw"):
        if np.isinf(results[name].values).any():
            return f"{name} in it holds an infinity"
    if (results.stderr.values < 0).any():
        return "a standard error in it is negative"
    if (results.get("draws_per_column", xr.DataArray(1)).values < 1).any():
        return "a column of a curve in it is of less than one draw"
    return ""


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0])[:200] if lines else type(error).__name__
