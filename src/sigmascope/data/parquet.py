"""Parquet in the Hugging Face image layout: a struct column of bytes and path, and label columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import labelled
from sigmascope.data.pictures import decode_all


def load_parquet(path: Path, abstractions: Sequence[str] = ()) -> LabelledData:
    """A ``.parquet`` file with one struct column (bytes, path) of encoded pictures; other columns are attributes.

    Names of classes are read from the schema's metadata: ``huggingface`` (features of type ClassLabel), or
    ``class_names`` separated by commas, which serves the one integer column.

    Raises: InputError, in one line, for a file that cannot be used, or where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            f"{path}: reading parquet needs pyarrow: install it with pip install 'sigmascope[parquet]'"
        ) from error
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        image = _image_column(schema, pa, path)
        names = [f.name for f in schema if f.name != image and _is_label(f.type, pa)]
        columns = {n: _to_numpy(file.read([n]).column(n), n, path) for n in names}
        n = file.metadata.num_rows
        images, share = decode_all(n, lambda rows: _pictures(file, image, path, rows), path.name)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: not a readable parquet file ({str(error).splitlines()[0]}): write it again"
        ) from error
    return labelled(
        images, columns, weights=None, abstractions=abstractions, name=path.stem, names=_class_names(schema, columns),
        share=share, total=n,
    )  # fmt: skip


def _image_column(schema: Any, pa: Any, path: Path) -> str:
    structs = [f.name for f in schema if pa.types.is_struct(f.type) and "bytes" in {g.name for g in f.type}]
    if len(structs) != 1:
        found = ", ".join(f"{f.name} ({f.type})" for f in schema)
        raise InputError(
            f"{path}: {len(structs)} columns hold encoded pictures: expected one struct column (bytes, path); it has "
            f"{found}"
        )
    return str(structs[0])


def _is_label(kind: Any, pa: Any) -> bool:
    types = pa.types
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(plain or types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind))


def _to_numpy(column: Any, name: str, path: Path) -> np.ndarray:
    if column.null_count:
        raise InputError(f"{path}: column {name!r} lacks {column.null_count} labels: fill them or remove those rows")
    values = np.asarray(column.to_pylist())
    return values


def _pictures(file: Any, image: str, path: Path, rows: range) -> Iterator[tuple[str, Callable[[], bytes]]]:
    stop = 0
    for group in range(file.num_row_groups):
        row, stop = stop, stop + file.metadata.row_group(group).num_rows
        if stop <= rows.start or row >= rows.stop:
            continue
        for batch in file.iter_batches(batch_size=1024, row_groups=[group], columns=[image]):
            for entry in batch.column(0).to_pylist():
                if row in rows:
                    held = None if entry is None else entry["bytes"]
                    if held is None:
                        raise InputError(f"{path}: row {row} holds no picture's bytes: embed the pictures in the file")
                    yield f"row {row}", partial(bytes, held)
                row += 1


def _class_names(schema: Any, columns: dict[str, np.ndarray]) -> dict[str, list[str]]:
    metadata = schema.metadata or {}
    names: dict[str, list[str]] = {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        for column, feature in features.items():
            if isinstance(feature, dict) and isinstance(feature.get("names"), list):
                names[column] = [str(n) for n in feature["names"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # no names there: the classes keep their numbers
    integers = [n for n, c in columns.items() if c.dtype.kind in "iu"]
    if b"class_names" in metadata and len(integers) == 1:
        names.setdefault(integers[0], metadata[b"class_names"].decode("utf-8", "replace").split(","))
    return names
