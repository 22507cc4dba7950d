"""Items in an array: from Python, or from an ``.npz`` file."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sigmascope.core import InputError, LabelledData
from sigmascope.data.labels import encode
from sigmascope.data.memory import require

_LARGEST = 1e9  # squared distances must stay within float32
UNIT_8_BIT = "the full range of a pixel, black to white (8-bit pixels divided by 255)"
UNIT_FLOAT = "the unit in which the data are stored"


class ArraySource:
    """An array of shape (items, ...) as float32 rows; 8-bit values are divided by 255.

    Images (items, height, width) become events (1, height, width), and (items, height, width, 1 or 3) become
    (channels, height, width); any other shape is kept.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self._scale = 255.0 if array.dtype == np.uint8 else None
        shape = array.shape
        self._to_front = array.ndim == 4 and shape[-1] in (1, 3) and shape[1] not in (1, 3)
        self._grey = array.ndim == 3
        if self._to_front:
            self._event: tuple[int, ...] = (shape[3], shape[1], shape[2])
        elif self._grey:
            self._event = (1, *shape[1:])
        else:
            self._event = tuple(shape[1:])

    @property
    def event(self) -> tuple[int, ...]:
        return self._event

    @property
    def resident_bytes(self) -> int:
        return int(self._array.nbytes)

    def __len__(self) -> int:
        return len(self._array)

    def _convert(self, rows: np.ndarray) -> Tensor:
        x = torch.from_numpy(rows.astype(np.float32))
        if self._scale is not None:
            x = x.div_(self._scale)
        return x.movedim(-1, 1).contiguous() if self._to_front else x.reshape(-1, *self._event)

    def read(self, start: int, stop: int) -> Tensor:
        return self._convert(self._array[start:stop])

    def take(self, items: Int64[Tensor, " rows"]) -> Tensor:
        return self._convert(self._array[items.numpy()])


def from_array(
    images: np.ndarray | Tensor,
    labels: Mapping[str, np.ndarray | Tensor | Sequence[object]],
    *,
    weights: np.ndarray | Tensor | None = None,
    abstractions: Sequence[str] = (),
    name: str = "array",
    names: Mapping[str, Sequence[str]] | None = None,
) -> LabelledData:
    """Labelled data of an array and a mapping of labels.

    Args:
        images: shape (items, ...): uint8 (divided by 255) or floating (kept, as float32).
        labels: for each attribute, one label per item.
        weights: one non-negative weight per item; None for equal ones.
        abstractions: which attributes, e.g. ``("digit", "slant:bins=8")``; empty means all.
        name: how to call the data in titles.
        names: names of the classes of an integer column.

    Raises: InputError for a shape, a type or a value that cannot be used.
    """
    array = _numpy(images) if isinstance(images, Tensor) else np.asarray(images)
    if array.dtype == object:
        raise InputError(f"{name}: the images differ in size: give all the same shape")
    if array.ndim < 2 or array.size == 0:
        raise InputError(f"{name}: images have shape {array.shape}: expected (items, ...), not empty")
    if array.dtype.kind not in "fiub" or (array.dtype.kind in "iu" and array.dtype != np.uint8):
        raise InputError(f"{name}: images have type {array.dtype}: expected uint8, or floats")
    if array.dtype.kind == "f":
        _check_finite(array, name)
    if not isinstance(labels, Mapping):
        raise InputError(f"labels are a {type(labels).__name__}: pass a mapping, labels={{'name': one label per item}}")
    columns = {str(k): _column(str(k), v) for k, v in labels.items()}
    w = None if weights is None else np.asarray(weights)
    made, codes, prior = encode(columns, len(array), abstractions, w, names)
    indices = {a.name: codes[a.name].numpy() for a in made}
    fingerprint = _fingerprint(array, indices, None if w is None else prior.numpy())
    unit = UNIT_8_BIT if array.dtype == np.uint8 else UNIT_FLOAT
    return LabelledData(name, ArraySource(array), made, codes, prior, fingerprint, unit)


def _numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _column(name: str, values: np.ndarray | Tensor | Sequence[object]) -> np.ndarray:
    try:
        return _numpy(values) if isinstance(values, Tensor) else np.asarray(values)
    except ValueError as error:
        raise InputError(f"attribute {name!r} is ragged: expected one label per image") from error


def load_npz(path: Path, abstractions: Sequence[str] = ()) -> LabelledData:
    """An ``.npz`` file with ``images``, one array per attribute, and optionally ``weights``.

    Raises: InputError, in one line, for a file that cannot be used.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            require(sum(i.file_size for i in archive.infolist()), f"{path.name} unpacked", "use a machine with more")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        if "allow_pickle" in reason or "pickle" in reason:
            reason = "it holds arrays of Python objects (images of unequal sizes are stored so), which are not read"
        raise InputError(f"{path}: not a readable .npz file: {reason}; write it again with numpy.savez") from error
    if "images" not in arrays:
        raise InputError(f"{path}: it holds {', '.join(arrays) or 'nothing'}: expected an array called 'images'")
    images = arrays.pop("images")
    weights = arrays.pop("weights", None)
    return from_array(images, arrays, weights=weights, abstractions=abstractions, name=path.stem)


def _check_finite(array: np.ndarray, name: str, rows: int = 4096) -> None:
    for start in range(0, len(array), rows):
        bad = ~np.isfinite(array[start : start + rows])
        if bad.any():
            item = start + int(np.argwhere(bad)[0][0])
            raise InputError(f"{name}: image {item} holds a pixel that is not finite (NaN or infinite): remove it")
        if np.abs(array[start : start + rows]).max() > _LARGEST:
            raise InputError(f"{name}: pixels beyond ±{_LARGEST:g} do not fit single precision: rescale them")


def _fingerprint(array: np.ndarray, codes: Mapping[str, np.ndarray], weights: np.ndarray | None) -> str:
    digest = hashlib.blake2b(f"{array.shape}{array.dtype.str}".encode(), digest_size=16)
    for start in range(0, len(array), 4096):
        digest.update(cast(bytes, np.ascontiguousarray(array[start : start + 4096]).data))
    update_labels(digest, codes, weights)
    return digest.hexdigest()


def update_labels(digest: hashlib.blake2b, codes: Mapping[str, np.ndarray], weights: np.ndarray | None) -> None:
    """Add names, label indices and weights to a fingerprint, whatever their order."""
    for key in sorted(codes):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(codes[key]).tobytes())
    if weights is not None:
        digest.update(weights.tobytes())
