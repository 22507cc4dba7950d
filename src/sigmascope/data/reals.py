"""From columns of numbers to real-valued attributes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import InputError, LabelledData, RealAttribute
from sigmascope.data.files import require_text
from sigmascope.data.labels import parse_entries
from sigmascope.data.real_entries import RealEntry

Reals = tuple[tuple[RealAttribute, ...], dict[str, Tensor]]


def encode_reals(
    columns: Mapping[str, np.ndarray],
    items: int,
    entries: Sequence[str] = (),
    scales: Mapping[str, tuple[np.ndarray, str]] | None = None,
) -> Reals:
    """The real-valued attributes of some entries, and the numbers of each, float64, shape (items, columns).

    Args:
        columns: of labels, one for each item.
        items: how many.
        entries: of ``--attributes``.
        scales: for columns of indices, the number of each index and its unit.

    Raises: InputError for columns that are no finite numbers, or hold one value.
    """
    made, numbers = [], {}
    for entry in parse_entries(entries, columns) if entries else ():
        if entry.real is None:
            continue
        real, numbered = entry.real, scales or {}
        require_text(real.name, "the name of an attribute")
        require_text(real.unit, f"the unit of {real.name!r}")
        unit = real.unit or next((numbered[c][1] for c in real.columns if c in numbered), "")
        values = np.stack([_numbers(real, c, columns[c], items, numbered.get(c)) for c in real.columns], 1)
        if bool((values == values[0]).all()):
            raise InputError(f"attribute {real.name!r} has one value: leave it out")
        made.append(RealAttribute(real.name, real.resolution, real.columns, real.period, unit))
        numbers[real.name] = torch.from_numpy(values)
    return tuple(made), numbers


def _numbers(
    entry: RealEntry, name: str, column: np.ndarray, items: int, scale: tuple[np.ndarray, str] | None
) -> np.ndarray:
    column = np.asarray(column)
    if column.shape != (items,):
        raise InputError(
            f"attribute {name!r} has shape {column.shape} for {items} images: expected one label per image, ({items},)"
        )
    if column.dtype.kind not in "iuf":
        raise InputError(
            f"attribute {entry.name!r} has a resolution, but {name!r} holds {column.dtype}: expected numbers; "
            "leave the resolution out"
        )
    values: np.ndarray = column.astype(np.float64) if scale is None else scale[0][column]
    if not np.all(np.isfinite(values)):
        raise InputError(f"attribute {entry.name!r} has labels that are not finite: remove those items")
    return values


def update_reals(digest: hashlib.blake2b, reals: Reals) -> None:
    """Add real-valued attributes and their numbers to a fingerprint, in the order of the names."""
    for a in sorted(reals[0], key=lambda a: a.name):
        digest.update(repr((a.name, a.resolution, a.columns, a.period, a.unit)).encode())
        digest.update(np.ascontiguousarray(reals[1][a.name].numpy()).tobytes())


def require_classes(data: object, use: str) -> None:
    """Refuse real-valued attributes where only attributes with values can be used.

    Args:
        data: that were loaded.
        use: what cannot use them, such as "train cannot learn", for the message.

    Raises: InputError.
    """
    if isinstance(data, LabelledData) and data.reals:
        name = data.reals[0].name
        raise InputError(
            f"{use} the real-valued attribute {name!r}, which a study of a finite data set measures: leave it out, or "
            f"cut it into bins ({data.reals[0].columns[0]}:bins=8)"
        )
