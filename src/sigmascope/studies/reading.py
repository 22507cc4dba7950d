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
from sigmascope.studies.glossary import KINDS, VARIABLES

_NEEDED = {
    "attribute", "estimator", "sigma", "information", "stderr", "quadrature_error", "information_per_draw", "ceiling",
    "kind",
}  # fmt: skip
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
    if missing := _NEEDED - set(results.variables):
        return f"the results lack {', '.join(sorted(missing))}"
    for name in map(str, results.variables):
        variable = VARIABLES.get(name)
        if variable and variable.dims is not None and (bent := _bent(results, name, variable.dims, variable.values)):
            return bent
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
