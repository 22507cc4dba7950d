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
from sigmascope.data.arrays import UNIT_8_BIT, update_labels
from sigmascope.data.labels import encode

FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
SHAPES = ("cube", "cylinder", "sphere", "capsule")
_SAMPLED = 1024  # images that enter the fingerprint


class H5Source:
    """Dataset ``images`` (items, height, width, channels) uint8 of an HDF5 file, as (channels, height, width)."""

    def __init__(self, images: h5py.Dataset) -> None:
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
        except OSError as error:
            raise InputError(f"images {start} to {stop} cannot be read ({error}): the file is damaged") from error

    def read(self, start: int, stop: int) -> Tensor:
        return self._convert(self.raw(start, stop))

    def take(self, items: Int64[Tensor, " rows"]) -> Tensor:
        return torch.cat([self.read(int(i), int(i) + 1) for i in items])


def load_shapes3d(path: Path, abstractions: Sequence[str] = ()) -> LabelledData:
    """A 3D Shapes file: ``images`` uint8 (N, 64, 64, 3), ``labels`` float64 (N, 6).

    The columns of ``labels`` are floor hue, wall hue, object hue, scale, shape and orientation; every distinct number
    of a column is a value.  The fingerprint covers all labels and 1,024 images evenly spaced.

    Raises: InputError, in one line, for a file that cannot be used.
    """
    try:
        file = h5py.File(path, "r")
        images, factors = file["images"], np.asarray(file["labels"])
    except (OSError, KeyError) as error:
        raise InputError(
            f"{path}: not a readable 3D Shapes file ({str(error).splitlines()[0]}): expected HDF5 with datasets "
            "'images' and 'labels'"
        ) from error
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise InputError(
            f"{path}: images have shape {images.shape} and type {images.dtype}: expected uint8 (N, height, width, 3)"
        )
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
        raise InputError(f"{path}: labels have shape {factors.shape}: expected (N, {len(FACTORS)})")
    if not np.all(np.isfinite(factors)):
        raise InputError(f"{path}: labels hold numbers that are not finite: remove those items")
    columns = {}
    for j, name in enumerate(FACTORS):
        unique, codes = np.unique(factors[:, j], return_inverse=True)
        in_order = name == "shape" and np.array_equal(unique, np.arange(len(SHAPES)))
        columns[name] = np.asarray(SHAPES)[codes] if in_order else np.char.mod("%.4g", unique)[codes]
    made, labels, weights = encode(columns, images.shape[0], abstractions)
    source = H5Source(images)
    digest = hashlib.blake2b(f"{images.shape}".encode(), digest_size=16)
    for i in np.unique(np.linspace(0, len(source) - 1, _SAMPLED).astype(np.int64)):
        digest.update(source.raw(int(i), int(i) + 1).tobytes())
    update_labels(digest, {a.name: labels[a.name].numpy() for a in made}, None)
    return LabelledData(path.stem, source, made, labels, weights, digest.hexdigest(), UNIT_8_BIT)
