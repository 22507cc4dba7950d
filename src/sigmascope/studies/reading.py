"""The reader of ``results.nc``: a file becomes a checked Dataset, or is refused.

A file may come from anywhere.  Only a plain file is opened; links out of it are not followed; the sizes that it states
are compared with the size of the file and with the free memory first; and every variable must have the dimensions and
the type of :data:`~sigmascope.studies.glossary.VARIABLES`.
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
from sigmascope.studies.glossary import KINDS, VARIABLES, Variable

_NEEDED = {
    "attribute", "estimator", "sigma", "information", "stderr", "quadrature_error", "information_per_draw", "ceiling",
    "kind",
}  # fmt: skip
_TOGETHER = (
    *(("loss", 12), ("path_", 5), ("value_", 8), ("pair_", 3), ("whole_", 3)),
    *(("identified_", 3), ("effective_", 2)),
)
"""Prefixes of the names of variables that are written together, with their number."""
_NAMED = {"f": "numbers", "i": "whole numbers", "U": "text"}
_DTYPES = {"f": "fiu", "i": "iub", "U": "UOT"}
_MOST_TEXT = 10_000_000  # characters of an attribute
_DENSEST = 1100  # largest ratio of compression by deflate
_SLACK = 1 << 20


def read_study(path: Path, remedy: str) -> xr.Dataset:
    """The results of a study from a file.

    Args:
        path: of a ``results.nc``.
        remedy: what to do about another file, which messages append after a colon.

    Returns: the Dataset, in memory, checked.

    Raises: InputError for a file that no study has written.
    """
    results = opened(path, remedy)
    if message := fault(results) or _fault_of_main(results) or _not_finite(results):
        raise InputError(f"{path}: {message}: {remedy}")
    return results


def opened(path: Path, remedy: str) -> xr.Dataset:
    """A netCDF file as a Dataset in memory; arguments and errors as of :func:`read_study`."""
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
        # This check comes before xarray, which reads coordinates when it opens a file.
        if stated > _DENSEST * (size := status.st_size) + _SLACK:
            raise InputError(f"{path}: it states {stated / 1e9:.1f} GB of numbers in {size:,} bytes: {remedy}")
        require(stated, f"{path}", "use a machine with more")
        with xr.open_dataset(path, engine="h5netcdf") as lazy:
            return lazy.load()
    except InputError:
        raise
    except Exception as error:  # a damaged file raises anything, in three libraries
        raise InputError(f"{path}: cannot be read ({_reason(error)}): {remedy}") from error


def _foreign(file: h5py.File) -> Iterator[str]:
    """Links out of a file."""
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            yield f"{shown(name)!r} in it is a link to somewhere else"
        elif isinstance(stored := file[name], h5py.Dataset) and (stored.external or stored.is_virtual):
            yield f"{shown(name)!r} in it lies in other files"


def _stated(file: h5py.File) -> int:
    """Bytes of the numbers of a file, as its header states them."""
    return sum(int(data.nbytes) for name in file if isinstance(data := file.get(name), h5py.Dataset))


def fault(results: xr.Dataset) -> str:
    """Why a Dataset is not the results of a study; empty where it is.  Of values, only those of levels are checked."""
    if missing := _NEEDED - set(results.variables):
        return f"the results lack {', '.join(sorted(missing))}"
    for name in map(str, results.variables):
        variable = VARIABLES.get(name)
        if variable and (message := _fault_of(results[name], variable)):
            return message
    for begin, count in _TOGETHER:
        if 0 < len(have := [n for n in results.variables if str(n).startswith(begin)]) < count:
            return f"of {begin}… it holds {', '.join(map(str, have))} only"
    return _fault_of_axes(results) or _fault_of_attributes(results)


def _fault_of(array: xr.DataArray, variable: Variable) -> str:
    """Why an array has not the dimensions or type of a variable; empty where it has."""
    if variable.dims is not None and array.dims != variable.dims:
        over = ", ".join(map(str, array.dims)) or "nothing"
        return f"{array.name} is over {over}: expected {', '.join(variable.dims) or 'one number'}"
    if array.dtype.kind not in _DTYPES[variable.values]:
        return f"{array.name} holds values of type {array.dtype}: expected {_NAMED[variable.values]}"
    if array.dtype.kind == "O" and not all(isinstance(x, str) for x in array.values.flat):
        return f"{array.name} holds other things than text"
    return ""


def _fault_of_axes(results: xr.Dataset) -> str:
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


def _fault_of_attributes(results: xr.Dataset) -> str:
    attrs = results.attrs
    if any(isinstance(x, str) and len(x) > _MOST_TEXT for x in attrs.values()):
        return f"a text in it is longer than {_MOST_TEXT:,} characters"
    seed = attrs.get("seed", 0)
    if isinstance(seed, str) or np.size(seed) != 1 or not _whole(seed):
        return f"its seed is {shown(seed)!r}: expected a whole number, not negative"
    return ""


def _fault_of_main(results: xr.Dataset) -> str:
    main = results.attrs.get("main_estimator")
    if main is not None and str(main) not in results.estimator.values:
        return f"its main estimator {shown(main)!r} is not among its estimators"
    return ""


def _whole(x: object) -> bool:
    try:
        return bool(int(x) == x and int(x) >= 0)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return False


def _not_finite(results: xr.Dataset) -> str:
    """Why values are no measurements.  NaN is allowed: it marks a level that was not measured."""
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
