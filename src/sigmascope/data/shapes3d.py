"""3D Shapes in its own file format (Burgess & Kim 2018), read through h5py without loading it whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import update_labels
from sigmascope.data.files import error_words
from sigmascope.data.labels import encode, select
from sigmascope.data.memory import require
from sigmascope.data.scales import PixelScan, alone_notes
from sigmascope.data.shards import ChosenRows
from sigmascope.data.sigma_units import unit_of

FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
SHAPES = ("cube", "cylinder", "sphere", "capsule")
_SAMPLED = 1024  # images that enter the fingerprint
_PIXELS = 1 << 24  # of one image
_PER_ITEM = 1024  # bytes, of the labels of an item on their way


class H5Source:
    """Dataset ``images`` (items, height, width, channels) uint8 of an HDF5 file, as (channels, height, width)."""

    def __init__(self, images: h5py.Dataset | ChosenRows) -> None:
        self._images = images
        n, height, width, channels = images.shape
        self._n, self._event = n, (channels, height, width)

    @property
    def event(self) -> tuple[int, ...]:
        return self._event

    @property
    def resident_bytes(self) -> int:
        return 0

    def __len__(self) -> int:
        return int(self._n)

    def _convert(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows).movedim(-1, 1).contiguous().float().div_(255.0)

    def raw(self, start: int, stop: int) -> np.ndarray:
        """Images as they are stored.

        Raises: InputError where the file is damaged.
        """
        try:
            return np.asarray(self._images[start:stop])
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"images {start} to {stop} cannot be read ({error}): the file is damaged") from error

    def read(self, start: int, stop: int) -> Tensor:
        return self._convert(self.raw(start, stop))

    def take(self, items: Int64[Tensor, " rows"]) -> Tensor:
        return torch.cat([self.read(int(i), int(i) + 1) for i in items])


def load_shapes3d(path: Path, attributes: Sequence[str] = ()) -> LabelledData:
    """A 3D Shapes file: ``images`` uint8 (N, 64, 64, 3), ``labels`` float64 (N, 6).

    The columns of ``labels`` are floor hue, wall hue, object hue, scale, shape and orientation; every distinct number
    of a column is a value, and NaN is a missing label.  The fingerprint covers all labels and 1,024 images evenly
    spaced.

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
    source = H5Source(images if selected.kept is None else ChosenRows(images, selected.kept))
    digest = hashlib.blake2b(f"{(selected.items, *images.shape[1:])}".encode(), digest_size=16)
    look = PixelScan(path.stem)
    for i in np.unique(np.linspace(0, len(source) - 1, _SAMPLED).astype(np.int64)):
        image = source.raw(int(i), int(i) + 1)
        digest.update(image.tobytes())
        look.at(image)
    look.require_different(look.items)
    update_labels(digest, {a.name: labels[a.name].numpy() for a in made}, None)
    notes = (*selected.notes, *look.notes(), *alone_notes(made, labels))
    unit = unit_of((len(source), *source.event), True, look.span())
    return LabelledData(path.stem, source, made, labels, weights, digest.hexdigest(), unit, notes, look.span())


def _opened(path: Path) -> h5py.File:
    """The file, open.

    Raises: InputError.
    """
    try:
        return h5py.File(path, "r")
    except (OSError, ValueError, RuntimeError) as error:
        said = error_words(error)
        if "lock file" in str(error) or "already open" in str(error):
            raise InputError(
                f"{path}: it is locked by a program that has it open: close that, or set the variable "
                "HDF5_USE_FILE_LOCKING=FALSE"
            ) from error
        raise InputError(
            f"{path}: not a readable 3D Shapes file ({said}): expected HDF5 with datasets 'images' and 'labels'"
        ) from error


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """An array that lies in this file itself.

    Raises: InputError.
    """
    try:
        link = file.get(name, getlink=True) if name in file else None
        found = file[name] if isinstance(link, h5py.HardLink) else None
        elsewhere = isinstance(found, h5py.Dataset) and (bool(found.external) or bool(found.is_virtual))
        sized = isinstance(found, h5py.Dataset) and found.shape is not None
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{path}: not a readable 3D Shapes file ({error_words(error)}): expected HDF5 with datasets 'images' and "
            "'labels'"
        ) from error
    if elsewhere or (found is None and _is_link(file, name)):
        raise InputError(f"{path}: {name!r} is kept elsewhere: expected a dataset in the file itself; copy it there")
    if not sized:
        what = "nothing" if found is None else f"a {type(found).__name__.lower()} without a shape"
        raise InputError(
            f"{path}: not a readable 3D Shapes file ({name!r} is {what}): expected HDF5 with datasets 'images' and "
            "'labels'"
        )
    return found


def _is_link(file: h5py.File, name: str) -> bool:
    try:
        return isinstance(file.get(name, getlink=True), (h5py.SoftLink, h5py.ExternalLink))
    except (KeyError, OSError, RuntimeError, ValueError, TypeError):
        return False


def _factors(file: h5py.File, images: h5py.Dataset, path: Path) -> np.ndarray:
    """The labels, shape (N, 6), after their size and that of the images are known to be sound.

    Raises: InputError.
    """
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


def _named(name: str, factor: np.ndarray) -> np.ma.MaskedArray:
    """A column of labels as the names of its values, masked where it is NaN."""
    missing = np.isnan(factor)
    unique, codes = np.unique(factor[~missing], return_inverse=True)
    in_order = name == "shape" and np.array_equal(unique, np.arange(len(SHAPES)))
    values = np.asarray(SHAPES) if in_order else np.char.mod("%.4g", unique)
    whole = np.full(len(factor), "", dtype=values.dtype if len(values) else "U1")
    whole[~missing] = values[codes]
    return np.ma.MaskedArray(whole, missing)
