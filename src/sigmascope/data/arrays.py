"""Items in an array: from Python, or read from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sigmascope import ranks
from sigmascope.core import InputError, LabelledData
from sigmascope.data.labels import encode
from sigmascope.data.shards import Rows, ShardedSource, as_bytes, blocks

_LARGEST = 1e9  # squared distances must stay within float32
UNIT_8_BIT = "the full range of a pixel, black to white (8-bit pixels divided by 255)"
UNIT_FLOAT = "the unit in which the data are stored"


class ArraySource:
    """An array of shape (items, ...) as float32 rows; 8-bit values are divided by 255.

    Images (items, height, width) become events (1, height, width), and (items, height, width, 1 or 3) become
    (channels, height, width); any other shape is kept.
    """

    def __init__(self, array: Rows) -> None:
        self._array = array
        self._scale = 255.0 if array.dtype == np.uint8 else None
        shape = array.shape
        self._to_front = len(shape) == 4 and shape[-1] in (1, 3) and shape[1] not in (1, 3)
        self._grey = len(shape) == 3
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
        if not rows.dtype.isnative or rows.dtype.itemsize > 8:
            rows = rows.astype(np.float32)  # torch does not know them
        if not rows.flags.writeable:
            rows = rows.copy()  # torch would warn
        x = torch.from_numpy(np.ascontiguousarray(rows))
        x = x.movedim(-1, 1).contiguous() if self._to_front else x.reshape(-1, *self._event)
        return x.float() if self._scale is None else x.float().div_(self._scale)

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
    check_kind(array.shape, array.dtype, name)
    if not isinstance(labels, Mapping):
        raise InputError(f"labels are a {type(labels).__name__}: pass a mapping, labels={{'name': one label per item}}")
    columns = as_columns(labels)
    return labelled(array, columns, weights=weights, abstractions=abstractions, name=name, names=names)


def check_kind(shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    """Refuse what cannot be images, by shape and type.

    Raises: InputError.
    """
    if dtype.hasobject:
        raise InputError(f"{name}: the images differ in size: give all the same shape")
    if len(shape) < 2 or 0 in shape:
        raise InputError(f"{name}: images have shape {shape}: expected (items, ...), not empty")
    if dtype.kind not in "fiub" or (dtype.kind in "iu" and dtype != np.uint8):
        raise InputError(f"{name}: images have type {dtype}: expected uint8, or floats")


def labelled(
    images: Rows,
    columns: Mapping[str, np.ndarray],
    *,
    weights: np.ndarray | Tensor | None,
    abstractions: Sequence[str],
    name: str,
    names: Mapping[str, Sequence[str]] | None = None,
    share: range | None = None,
    total: int | None = None,
    seen: Callable[[np.ndarray], None] | None = None,
) -> LabelledData:
    """Labelled data of images of a good kind, once their pixels are checked.

    Args:
        images: the items, or those of this rank.
        columns: for each attribute, one label per item, of all items.
        weights: of all items.
        abstractions: which attributes; empty means all.
        name: how to call the data.
        names: names of the classes of an integer column.
        share: which items ``images`` holds, where every rank of the run passes its own; None: all of them.
        total: items in all, of a file that every rank of the run reads: what they find in it is agreed; None: as many
            as there are images, which are this process's own.
        seen: called with every block of images that is looked through, in order.

    Raises: InputError for a value that cannot be used.
    """
    n = len(images) if total is None else total
    w = None if weights is None else np.asarray(weights)
    made, codes, prior = encode(columns, n, abstractions, w, names)
    shape = (n, *images.shape[1:])
    digest = hashlib.blake2b(f"{shape}{images.dtype.str}".encode(), digest_size=16)
    start = 0 if share is None else share.start

    def check() -> None:
        for first, block in blocks(images):
            if block.dtype.kind == "f":
                _check_finite(block, name, start + first)
            if seen is not None:
                seen(block)
            if share is None:
                digest.update(as_bytes(block))

    indices = {a.name: codes[a.name].numpy() for a in made}
    if share is None and total is None:
        check()
    elif share is None:
        ranks.by_first(check)
    else:
        ranks.together(check)
        for part in ranks.streamed(block for _, block in blocks(images)):
            digest.update(as_bytes(part))
    update_labels(digest, indices, None if w is None else prior.numpy())
    fingerprint = digest.hexdigest() if total is None else ranks.by_first(digest.hexdigest)
    unit = UNIT_8_BIT if images.dtype == np.uint8 else UNIT_FLOAT
    own = ArraySource(images)
    source = own if share is None else ShardedSource(own, share.start, n)
    return LabelledData(name, source, made, codes, prior, fingerprint, unit)


def as_columns(labels: Mapping[str, np.ndarray | Tensor | Sequence[object]]) -> dict[str, np.ndarray]:
    """Columns of labels as arrays.

    Raises: InputError where one is ragged.
    """
    return {str(k): _column(str(k), v) for k, v in labels.items()}


def _numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _column(name: str, values: np.ndarray | Tensor | Sequence[object]) -> np.ndarray:
    try:
        return _numpy(values) if isinstance(values, Tensor) else np.asarray(values)
    except ValueError as error:
        raise InputError(f"attribute {name!r} is ragged: expected one label per image") from error


def _check_finite(block: np.ndarray, name: str, first: int) -> None:
    bad = ~np.isfinite(block)
    if bad.any():
        item = first + int(np.argwhere(bad)[0][0])
        raise InputError(f"{name}: image {item} holds a pixel that is not finite (NaN or infinite): remove it")
    if float(np.abs(block).max()) > _LARGEST:
        raise InputError(f"{name}: pixels beyond ±{_LARGEST:g} do not fit single precision: rescale them")


def update_labels(digest: hashlib.blake2b, codes: Mapping[str, np.ndarray], weights: np.ndarray | None) -> None:
    """Add names, label indices and weights to a fingerprint, whatever their order."""
    for key in sorted(codes):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(codes[key]).tobytes())
    if weights is not None:
        digest.update(weights.tobytes())
