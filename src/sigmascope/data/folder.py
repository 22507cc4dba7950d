"""A folder of pictures: a folder per class, or a table of attributes beside them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import labelled
from sigmascope.data.pictures import decode_all

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def load_folder(path: Path, abstractions: Sequence[str] = ()) -> LabelledData:
    """A folder with ``metadata.csv`` or ``metadata.jsonl`` (``file_name`` and attributes), or a folder per class.

    Raises: InputError, in one line, for what cannot be used.
    """
    tables = [path / n for n in ("metadata.csv", "metadata.jsonl") if (path / n).exists()]
    if len(tables) > 1:
        raise InputError(f"{path}: it holds metadata.csv and metadata.jsonl: keep one of them")
    files, columns = _from_table(tables[0]) if tables else _from_classes(path)
    name = path.resolve().name

    def pictures(rows: range) -> Iterator[tuple[str, Callable[[], bytes]]]:
        return ((str(f.relative_to(path)), f.read_bytes) for f in files[rows.start : rows.stop])

    images, share = decode_all(len(files), pictures, name)
    return labelled(images, columns, weights=None, abstractions=abstractions, name=name, share=share, total=len(files))


def _from_classes(path: Path) -> tuple[list[Path], dict[str, np.ndarray]]:
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [(f, folder.name) for folder in folders for f in sorted(folder.rglob("*")) if f.suffix.lower() in SUFFIXES]
    deep = next((f for f, _ in files if f.parent.parent != path), None)
    if deep is not None:
        raise InputError(
            f"{path}: {deep.relative_to(path)} lies deeper than a folder per class: pass the folder that holds the "
            "classes"
        )
    if not files:
        raise InputError(
            f"{path}: no pictures are found in its folders: expected a folder per class, or metadata.csv or "
            "metadata.jsonl with a column 'file_name'"
        )
    return [f for f, _ in files], {"class": np.asarray([c for _, c in files])}


def _from_table(table: Path) -> tuple[list[Path], dict[str, np.ndarray]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
        rows = _csv_rows(text) if table.suffix == ".csv" else _json_lines(text)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise InputError(f"{table}: it cannot be read ({str(error).splitlines()[0]}): correct it") from error
    if not rows or "file_name" not in rows[0]:
        raise InputError(f"{table}: it has no column 'file_name': expected one row per picture, with its file_name")
    root = table.parent.resolve()
    files = []
    for number, row in enumerate(rows, 1):
        if not row.get("file_name"):
            raise InputError(f"{table}: row {number} has no file_name: name its picture")
        file = (table.parent / str(row["file_name"])).resolve()
        if not file.is_relative_to(root):
            raise InputError(
                f"{table}: row {number} points out of the folder ({row['file_name']}): keep the pictures in it"
            )
        if not file.is_file():
            raise InputError(f"{table}: row {number} names {row['file_name']}, which is not there: correct the row")
        files.append(table.parent / str(row["file_name"]))
    columns = {}
    for name in rows[0]:
        if name is None or name == "file_name":
            continue
        values = [row.get(name) for row in rows]
        lacking = [i for i, v in enumerate(values, 1) if v is None or v == ""]
        if lacking:
            raise InputError(f"{table}: row {lacking[0]} lacks {name!r}: fill it or leave the column out")
        columns[name] = _typed(values)
    return files, columns


def _csv_rows(text: str) -> list[dict[str, object]]:
    reader = csv.DictReader(text.splitlines())
    names = list(reader.fieldnames or [])
    if len(set(names)) < len(names):
        raise ValueError("two columns have one name")
    return list(reader)


def _json_lines(text: str) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(r, dict) for r in rows):
        raise ValueError("a line is no object")
    return rows


def _typed(values: Sequence[object]) -> np.ndarray:
    """Numbers where all are numbers, else text."""
    if all(isinstance(v, bool) for v in values):
        return np.asarray(values, dtype=bool)
    text = [str(v) for v in values]
    if all(re.fullmatch(r"0|-?[1-9]\d{0,17}", t) for t in text):  # 01 and 1_0 are names, not numbers
        return np.asarray([int(t) for t in text])
    try:
        if not any("_" in t for t in text) and any("." in t for t in text):
            return np.asarray([float(t) for t in text])
    except ValueError:
        pass  # not all are numbers
    return np.asarray(text)
