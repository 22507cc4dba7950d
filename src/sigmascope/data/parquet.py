"""Parquet files in the image layout of Hugging Face: a struct column of bytes and path, and columns of labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import column_of_objects, labelled
from sigmascope.data.files import error_words
from sigmascope.data.labels import columns_of, parse_entries, select
from sigmascope.data.memory import require
from sigmascope.data.pictures import WHITE, decode_all

_PER_LABEL = 160  # bytes of memory that reading a label takes
_BATCH = 256  # rows read at once


def load_parquet(path: Path, attributes: Sequence[str] = (), ground: str = WHITE) -> LabelledData:
    """Load a ``.parquet`` file with one struct column (bytes, path) of encoded pictures; other columns are attributes.

    Names of classes are read from the schema's metadata: ``huggingface`` (features of type ClassLabel), or
    ``class_names`` separated by commas, for a file with one integer column.  A null is a missing label, and so is −1
    where classes have names: rows that lack a label of one of the attributes are left out.

    Args:
        path: of the file.
        attributes: entries of ``--attributes``; empty: all.
        ground: colour behind transparent pixels: ``white``, ``black`` or ``#rrggbb``.

    Returns: the pictures with their labels.

    Raises: InputError, in one line, for a file that cannot be used, or where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        message = f"{path}: reading parquet needs pyarrow: install it with pip install 'sigmascope[parquet]'"
        raise InputError(message) from error
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        image = _image_column(schema, pa, path)
        labels = [f for f in schema if f.name != image and _is_label(f.type, pa)]
        known = [f.name for f in labels]
        n, needed = file.metadata.num_rows, columns_of(parse_entries(attributes, dict.fromkeys(known)))
        require(_PER_LABEL * n * len(needed), f"the labels of {path.name}", "choose fewer with --attributes")
        columns = {c: _to_numpy(file, c, n, known.count(c), path) if c in needed else np.empty(0) for c in known}
        integers = [f.name for f in labels if pa.types.is_integer(f.type)]
        numbers = integers + [f.name for f in labels if pa.types.is_floating(f.type)]  # pandas makes these of nulls
        names = _class_names(schema, integers, numbers)
        selected = select(columns, n, attributes, names)
        kept = np.arange(n) if selected.kept is None else selected.kept
        decoded = decode_all(
            len(kept), lambda rows: _pictures(file, image, path, kept[rows.start : rows.stop]), path.name, ground
        )
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: not a readable parquet file ({error_words(error)}): write it again") from error
    return labelled(
        decoded.images, selected, weights=None, attributes=attributes, name=path.stem, names=names,
        share=decoded.share, from_file=True, notes=decoded.notes,
    )  # fmt: skip


def _image_column(schema: Any, pa: Any, path: Path) -> str:
    structs = [f for f in schema if pa.types.is_struct(f.type) and "bytes" in {g.name for g in f.type}]
    if len(structs) != 1:
        columns = ", ".join(f"{f.name} ({f.type})" for f in schema)
        raise InputError(
            f"{path}: {len(structs)} columns hold encoded pictures: expected one struct column (bytes, path); it has "
            f"{columns}"
        )
    image = str(structs[0].name)
    kind = next(g.type for g in structs[0].type if g.name == "bytes")
    if schema.names.count(image) > 1:
        raise InputError(f"{path}: two columns are called {image!r}: rename one")
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)):
        raise InputError(f"{path}: column {image!r} holds {kind} where bytes are expected: store the encoded pictures")
    return image


def _is_label(kind: Any, pa: Any) -> bool:
    tests = ("is_integer", "is_floating", "is_boolean", "is_string", "is_large_string", "is_dictionary")
    return any(getattr(pa.types, test)(kind) for test in tests)


def _to_numpy(file: Any, name: str, n: int, count: int, path: Path) -> np.ndarray:
    """A column of labels, masked where it is null."""
    if count > 1:
        raise InputError(f"{path}: {count} columns are called {name!r}: rename them, or choose others")
    values = np.empty(n, dtype=object)
    cells = file.read([name], use_threads=False).column(name).to_pylist()
    if len(cells) != n:
        raise InputError(f"{path}: column {name!r} holds {len(cells)} of {n} rows: the file is damaged; write it again")
    values[:] = cells
    return column_of_objects(name, values)


def _pictures(file: Any, image: str, path: Path, rows: np.ndarray) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The encoded pictures of some rows, whose numbers increase."""
    stop, due = 0, 0
    for group in range(file.num_row_groups):
        row, stop = stop, stop + file.metadata.row_group(group).num_rows
        if due == len(rows):
            return
        if stop <= rows[due]:
            continue
        for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=[image], use_threads=False):
            while due < len(rows) and rows[due] < row + len(batch):
                entry = batch.column(0)[int(rows[due]) - row].as_py()
                encoded = None if entry is None else entry["bytes"]
                if encoded is None:
                    raise InputError(f"{path}: row {rows[due]} holds no picture's bytes: embed the pictures")
                yield f"row {rows[due]}", partial(bytes, encoded)
                due += 1
            row += len(batch)
            if due == len(rows):
                return
    if due < len(rows):
        raise InputError(f"{path}: row {rows[due]} is not there: the file is damaged; write it again")


def _class_names(schema: Any, integers: Sequence[str], numbers: Sequence[str]) -> dict[str, list[str]]:
    """Names of the classes of each column that has them."""
    metadata = schema.metadata or {}
    names: dict[str, list[str]] = {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        for column, feature in features.items():
            if column in numbers and isinstance(feature, dict) and isinstance(feature.get("names"), list):
                names[column] = [str(n) for n in feature["names"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # no names there: the classes keep their numbers
    if b"class_names" in metadata and len(integers) == 1:
        names.setdefault(integers[0], metadata[b"class_names"].decode("utf-8", "replace").split(","))
    return names
