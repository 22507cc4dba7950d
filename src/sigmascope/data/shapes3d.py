"""3D Shapes in its own file format (Burgess & Kim 2018); images are read from the file when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import ArraySource, update_labels, with_missing
from sigmascope.data.files import error_words
from sigmascope.data.labels import encode, select
from sigmascope.data.memory import require
from sigmascope.data.reals import encode_reals, update_reals
from sigmascope.data.scales import PixelScan, single_item_notes
from sigmascope.data.shards import ChosenRows, Rows
from sigmascope.data.sigma_units import unit_of

FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
SHAPES = ("cube", "cylinder", "sphere", "capsule")
_SAMPLED = 1024  # images that enter the fingerprint
_PIXELS = 1 << 24  # of one image
_PER_ITEM = 1024  # bytes of memory that reading the labels of an item takes


class _StoredImages:
    """Dataset ``images`` (items, height, width, channels) of an HDF5 file, whose rows are read when they are needed."""

    nbytes = 0  # no row is kept in memory

    def __init__(self, images: h5py.Dataset) -> None:
        self._images = images
        self.shape: tuple[int, ...] = images.shape
        self.dtype: np.dtype = images.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, np.ndarray):
            return np.concatenate([self[int(i) : int(i) + 1] for i in rows])
        try:
            return np.asarray(self._images[rows])
        except (OSError, ValueError, RuntimeError) as error:
            message = f"images {rows.start} to {rows.stop} cannot be read ({error}): the file is damaged"
            raise InputError(message) from error


def load_shapes3d(path: Path, attributes: Sequence[str] = ()) -> LabelledData:
    """Load a 3D Shapes file: ``images`` uint8 (N, 64, 64, 3), ``labels`` float64 (N, 6).

    The columns of ``labels`` are floor hue, wall hue, object hue, scale, shape and orientation; every distinct number
    of a column is a value, and NaN is a missing label.  The fingerprint covers all labels and 1,024 images evenly
    spaced.

    Args:
        path: of the file.
        attributes: entries of ``--attributes``; empty: all.

    Returns: the images with their labels, read from the file when they are needed.

    Raises: InputError, in one line, for a file that cannot be used.
    """
    file = _opened(path)
    images = _dataset(file, "images", path)
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"{path}: images have shape {images.shape} and type {images.dtype}: expected uint8 (N, height, width, 3)"
        )
    factors = _factors(file, images, path)
    selected = select({n: _named(n, factors[:, j]) for j, n in enumerate(FACTORS)}, len(factors), attributes)
    made, labels, weights = encode(selected.columns, selected.items, attributes)
    numbers = {n: selected.rows(factors[:, j]) for j, n in enumerate(FACTORS)}
    reals = encode_reals(numbers, selected.items, attributes)
    stored: Rows = _StoredImages(images)
    rows = stored if selected.kept is None else ChosenRows(stored, selected.kept)
    digest = hashlib.blake2b(f"{(selected.items, *images.shape[1:])}".encode(), digest_size=16)
    scan = PixelScan(path.stem)
    for i in np.unique(np.linspace(0, len(rows) - 1, _SAMPLED).astype(np.int64)):
        image = rows[int(i) : int(i) + 1]
        digest.update(image.tobytes())
        scan.add(image)
    scan.require_different(scan.items)
    update_labels(digest, {a.name: labels[a.name].numpy() for a in made}, None)
    update_reals(digest, reals)
    notes = (*selected.notes, *scan.notes(), *single_item_notes(made, labels))
    source = ArraySource(rows)
    unit = unit_of((len(source), *source.event), True, scan.span())
    return LabelledData(path.stem, source, made, labels, weights, digest.hexdigest(), unit, notes, scan.span(), *reals)


def _unreadable(path: Path, reason: str) -> InputError:
    expected = "expected HDF5 with datasets 'images' and 'labels'"
    return InputError(f"{path}: not a readable 3D Shapes file ({reason}): {expected}")


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        if "lock file" in str(error) or "already open" in str(error):
            raise InputError(
                f"{path}: it is locked by a program that has it open: close that, or set the variable "
                "HDF5_USE_FILE_LOCKING=FALSE"
            ) from error
        raise _unreadable(path, error_words(error)) from error


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """An array that lies in this file itself; InputError where there is none, or it is kept in another file."""
    try:
        link = file.get(name, getlink=True)
        member = file[name] if isinstance(link, h5py.HardLink) else None
        elsewhere = isinstance(link, (h5py.SoftLink, h5py.ExternalLink)) or (
            isinstance(member, h5py.Dataset) and (bool(member.external) or bool(member.is_virtual))
        )
        sized = isinstance(member, h5py.Dataset) and member.shape is not None
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise _unreadable(path, error_words(error)) from error
    if elsewhere:
        raise InputError(f"{path}: {name!r} is kept elsewhere: expected a dataset in the file itself; copy it there")
    if not sized:
        kind = "nothing" if member is None else f"a {type(member).__name__.lower()} without a shape"
        raise _unreadable(path, f"{name!r} is {kind}")
    return member


def _factors(file: h5py.File, images: h5py.Dataset, path: Path) -> np.ndarray:
    """The labels, shape (N, 6), once the sizes of labels and images are checked."""
    labels = _dataset(file, "labels", path)
    if labels.ndim != 2 or labels.shape[1] != len(FACTORS) or labels.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: labels have shape {labels.shape} and type {labels.dtype}: expected numbers (N, {len(FACTORS)})"
        )
    if labels.shape[0] != images.shape[0]:
        raise InputError(f"{path}: {labels.shape[0]} labels for {images.shape[0]} images: expected one row per image")
    require(_PER_ITEM * labels.shape[0], f"the labels of {path.name}", "use a machine with more")
    if int(np.prod(images.shape[1:3], dtype=object)) > _PIXELS or not images.id.get_storage_size():
        raise InputError(f"{path}: images have shape {images.shape}, which the file does not hold: write it again")
    try:
        factors = np.asarray(labels)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: its labels cannot be read ({error_words(error)}): the file is damaged") from error
    if np.isinf(factors).any():
        raise InputError(f"{path}: labels hold infinite numbers: write NaN where a label is missing")
    return factors


def _named(name: str, factor: np.ndarray) -> np.ndarray:
    """A column of labels as the names of its values, masked where it is NaN."""
    missing = np.isnan(factor)
    unique, codes = np.unique(factor[~missing], return_inverse=True)
    in_order = name == "shape" and np.array_equal(unique, np.arange(len(SHAPES)))
    values = np.asarray(SHAPES) if in_order else np.char.mod("%.4g", unique)
    return with_missing(values[codes] if len(values) else np.empty(0, dtype="U1"), missing)
