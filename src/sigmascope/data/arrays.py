"""Labelled data from an array of items, which came from Python or was read from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import InputError, LabelledData
from sigmascope.data.files import error_words
from sigmascope.data.labels import Selected, encode, select
from sigmascope.data.reals import encode_reals, update_reals
from sigmascope.data.scales import PixelScan, merge_scans, single_item_notes
from sigmascope.data.shards import Rows, ShardedSource, as_bytes, blocks
from sigmascope.data.sigma_units import unit_of

_KINDS = {
    "truth values": (bool, np.bool_), "numbers": (int, float, np.integer, np.floating), "text": (str,),
    "bytes": (bytes,),
}  # fmt: skip


class ArraySource:
    """An array of shape (items, ...) as a source of float32 items; 8-bit values are divided by 255.

    Images (items, height, width) become events (1, height, width), and (items, height, width, 1 or 3) become
    (channels, height, width); any other shape is kept.
    """

    def __init__(self, array: Rows) -> None:
        self._array = array
        shape = array.shape
        self._channels_last = len(shape) == 4 and shape[-1] in (1, 3) and shape[1] not in (1, 3)
        self.resident_bytes = int(array.nbytes)
        if self._channels_last:
            self.event: tuple[int, ...] = (shape[3], shape[1], shape[2])
        else:
            self.event = (1, *shape[1:]) if len(shape) == 3 else tuple(shape[1:])

    def __len__(self) -> int:
        return len(self._array)

    def _convert(self, rows: np.ndarray) -> Tensor:
        if not rows.dtype.isnative or rows.dtype.itemsize > 8:
            rows = rows.astype(np.float32)  # torch has no such types
        if not rows.flags.writeable:
            rows = rows.copy()  # torch would warn
        x = torch.from_numpy(np.ascontiguousarray(rows))
        x = x.movedim(-1, 1).contiguous() if self._channels_last else x.reshape(-1, *self.event)
        return x.float().div_(255.0) if self._array.dtype == np.uint8 else x.float()

    def read(self, start: int, stop: int) -> Tensor:
        return self._convert(self._array[start:stop])

    def take(self, items: Int64[Tensor, " rows"]) -> Tensor:
        return self._convert(self._array[items.numpy()])


def from_array(
    images: np.ndarray | Tensor,
    labels: Mapping[str, np.ndarray | Tensor | Sequence[object]],
    *,
    weights: np.ndarray | Tensor | None = None,
    attributes: Sequence[str] = (),
    name: str = "array",
    names: Mapping[str, Sequence[str]] | None = None,
) -> LabelledData:
    """Labelled data from an array of items and a mapping of labels.

    An item of shape (height, width) becomes (1, height, width), and one of (height, width, 1 or 3) becomes (channels,
    height, width); any other shape is kept, such as that of vectors, (dimensions,), or of images with channels first.

    A label that is None, NaN or masked is missing, and so is −1 in a column whose classes have names: items that lack a
    label of one of the attributes are left out.

    Args:
        images: shape (items, ...): uint8 (divided by 255, so that sigma 1 is the range from black to white), or
            floating or boolean (kept, as float32).
        labels: for each attribute, one label per item: integers, text or truth values are classes; real numbers need an
            entry of ``attributes`` with bins or a resolution.
        weights: one non-negative weight per item; they are divided by their sum.  None: equal weights.
        attributes: entries of ``--attributes``, e.g. ``("digit", "slant:bins=8", "angle:resolution=5:period=360")``;
            empty: all.
        name: of the data, for titles.
        names: by the name of an integer column, the names of its classes 0, 1, ….

    Returns: the items with the attributes that were chosen.  An entry ``slant:bins=8`` cuts a real-valued column into 8
        classes between its quantiles; ``angle:resolution=5:period=360`` keeps it, blurred by its resolution, here on a
        circle; ``shape+scale`` is the attribute whose values are the pairs of two columns.

    Raises: InputError for a shape, a type or a value that cannot be used.
    """
    if isinstance(images, np.ma.MaskedArray):
        raise InputError(f"{name}: the images are a masked array: fill what is masked, or leave those items out")
    array = _numpy(images) if isinstance(images, Tensor) else np.asarray(images)
    check_kind(array.shape, array.dtype, name)
    if not isinstance(labels, Mapping):
        raise InputError(f"labels are a {type(labels).__name__}: pass a mapping, labels={{'name': one label per item}}")
    if len({str(k) for k in labels}) < len(labels):
        raise InputError(f"labels have two attributes of one name among {', '.join(map(repr, labels))}: rename one")
    columns = {str(k): _column(str(k), v) for k, v in labels.items()}
    selected = select(columns, len(array), attributes, names)
    return labelled(selected.rows(array), selected, weights=weights, attributes=attributes, name=name, names=names)


def check_kind(shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    """Refuse an array that cannot hold images, by its shape and type."""
    if dtype.hasobject:
        raise InputError(f"{name}: the images differ in size: give all the same shape")
    if len(shape) < 2 or 0 in shape:
        raise InputError(f"{name}: images have shape {shape}: expected (items, ...), not empty")
    if dtype.kind not in "fiub" or (dtype.kind in "iu" and dtype != np.uint8):
        raise InputError(f"{name}: images have type {dtype}: expected uint8, or floats")


def labelled(
    images: Rows,
    selected: Selected,
    *,
    weights: np.ndarray | Tensor | None,
    attributes: Sequence[str],
    name: str,
    names: Mapping[str, Sequence[str]] | None = None,
    share: range | None = None,
    from_file: bool = False,
    on_block: Callable[[np.ndarray], None] | None = None,
    notes: Sequence[str] = (),
) -> LabelledData:
    """Labelled data from images that :func:`check_kind` accepts, once their pixels are checked.

    ``images`` are the items of ``selected``, or the ``share`` of them that this rank holds; ``weights`` are those of
    all items.  With ``from_file`` every rank reads the same file, and the ranks agree on its contents.  ``on_block`` is
    called with every block of images that is checked, in order.  InputError for a value that cannot be used.
    """
    n = selected.items
    w = None if weights is None else selected.rows(_all_weights(weights, selected))
    made, codes, prior = encode(selected.columns, n, attributes, w, names)
    reals = encode_reals(selected.columns, n, attributes)
    digest = hashlib.blake2b(f"{(n, *images.shape[1:])}{images.dtype.str}".encode(), digest_size=16)

    def check() -> PixelScan:
        scan = PixelScan(name, 0 if share is None else share.start)
        for _, block in blocks(images):
            scan.add(block)
            if on_block is not None:
                on_block(block)
            if share is None:
                digest.update(as_bytes(block))
        return scan

    if not from_file:
        scan = check()
    elif share is None:
        scan = distributed.by_first(check)
    else:
        scan = merge_scans(distributed.together(check))
        for part in distributed.streamed(block for _, block in blocks(images)):
            digest.update(as_bytes(part))
    if from_file:  # equal items in an array are a law like any other; a study of them is refused later
        scan.require_different(n, notes)
    update_labels(digest, {a.name: codes[a.name].numpy() for a in made}, None if w is None else prior.numpy())
    update_reals(digest, reals)
    fingerprint = distributed.by_first(digest.hexdigest) if from_file else digest.hexdigest()
    unit = unit_of(images.shape, images.dtype == np.uint8, scan.span())
    own = ArraySource(images)
    source = own if share is None else ShardedSource(own, share.start, n)
    all_notes = (*selected.notes, *notes, *scan.notes(), *single_item_notes(made, codes))
    return LabelledData(name, source, made, codes, prior, fingerprint, unit, all_notes, scan.span(), *reals)


def _all_weights(weights: np.ndarray | Tensor, selected: Selected) -> np.ndarray:
    """The weights as an array, with at least as many rows as the items that are kept need."""
    w = _numpy(weights) if isinstance(weights, Tensor) else np.asarray(weights)
    if selected.kept is not None and (w.ndim != 1 or len(w) <= int(selected.kept[-1])):
        raise InputError(f"weights have shape {w.shape}: expected one finite, non-negative weight per image")
    return w


def _numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _column(name: str, values: np.ndarray | Tensor | Sequence[object]) -> np.ndarray:
    """A column of labels as an array, masked where None or NaN stands for a missing label."""
    if isinstance(values, Tensor):
        return _numpy(values)
    try:
        array = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
        if array.dtype.kind in "US" and isinstance(values, (list, tuple)):  # numpy would make text of None and NaN
            array = np.empty(len(values), dtype=object)
            array[:] = values
    except ValueError as error:
        raise InputError(f"attribute {name!r} is ragged: expected one label per image") from error
    return column_of_objects(name, array) if array.dtype.hasobject and array.ndim == 1 else array


def column_of_objects(name: str, values: np.ndarray) -> np.ndarray:
    """A column of Python objects as an array of one kind, masked where an object is None or NaN."""
    missing = np.ma.getmaskarray(values) | np.array([_is_missing(v) for v in np.ma.getdata(values)], dtype=bool)
    present = [v for v, m in zip(np.ma.getdata(values).tolist(), missing, strict=True) if not m]
    kinds = {next((k for k, types in _KINDS.items() if isinstance(v, types)), "") for v in present}
    if "" in kinds or len(kinds) > 1:
        odd = next((v for v in present if not isinstance(v, tuple(_KINDS.values()))), None)
        came = f"a {type(odd).__name__}" if "" in kinds else " and ".join(sorted(kinds))
        raise InputError(f"attribute {name!r} holds {came}: expected all numbers, all text or all truth values")
    try:
        array = np.asarray(present) if present else np.zeros(0)
    except (ValueError, OverflowError) as error:
        raise InputError(f"attribute {name!r} holds labels of no use ({error_words(error)}): mend them") from error
    if array.dtype.hasobject or array.ndim != 1:
        raise InputError(f"attribute {name!r} holds numbers beyond 64 bits: store them as text")
    return with_missing(array, missing)


def with_missing(present: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """A column from the labels that are present, masked where a label is missing."""
    if not missing.any():
        return present
    whole = np.zeros(len(missing), dtype=present.dtype)
    whole[~missing] = present
    return np.ma.MaskedArray(whole, missing)


def _is_missing(value: object) -> bool:
    """Whether a label is None, NaN, or one of the objects that stand for them in pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def update_labels(digest: hashlib.blake2b, codes: Mapping[str, np.ndarray], weights: np.ndarray | None) -> None:
    """Add names, label indices and weights to a fingerprint, in the order of the names."""
    for key in sorted(codes):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(codes[key]).tobytes())
    if weights is not None:
        digest.update(weights.tobytes())
