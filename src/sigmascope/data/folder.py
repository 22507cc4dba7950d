"""A folder of pictures: a folder per class, or a table of attributes beside them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import labelled, with_missing
from sigmascope.data.files import error_words, is_system_file, printable, read_text, require_file, require_inside
from sigmascope.data.labels import columns_of, parse_entries, select
from sigmascope.data.pictures import WHITE, decode_all

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_TABLES = ("metadata.csv", "metadata.jsonl")
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)  # 01 and 1_0 are names, not numbers
_REAL = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?", re.ASCII)


def load_folder(path: Path, attributes: Sequence[str] = (), ground: str = WHITE) -> LabelledData:
    """Load pictures from a folder with ``metadata.csv`` or ``metadata.jsonl``, or with a folder per class.

    Hidden files and those that systems leave (``__MACOSX``, ``Thumbs.db``, …) are left aside.  Links that lead out of
    the folder of a class, or of the folder that holds the table, are refused, but for those of a cache of the Hugging
    Face hub (see :func:`~sigmascope.data.files.require_inside`).  Rows of a table that lack a label of one of the
    attributes are left out.

    Args:
        path: of the folder.
        attributes: entries of ``--attributes``; empty: all.
        ground: colour behind transparent pixels: ``white``, ``black`` or ``#rrggbb``.

    Returns: the pictures with their labels.

    Raises: InputError, in one line, for a folder that cannot be used.
    """
    tables = [path / n for n in _TABLES if os.path.lexists(path / n)]
    if len(tables) > 1:
        raise InputError(f"{path}: it holds metadata.csv and metadata.jsonl: keep one of them")
    try:
        files, columns = _from_table(tables[0], attributes) if tables else _from_classes(path)
    except OSError as error:
        raise InputError(f"{error.filename or path}: it cannot be read ({error_words(error)}): correct it") from error
    selected = select(columns, len(files), attributes)
    kept = files if selected.kept is None else [files[i] for i in selected.kept]
    name = path.resolve().name

    def pictures(rows: range) -> Iterator[tuple[str, Callable[[], bytes]]]:
        return ((shown, partial(_bytes, file, f"{name}: {shown}")) for shown, file in kept[rows.start : rows.stop])

    decoded = decode_all(len(kept), pictures, name, ground)
    return labelled(
        decoded.images, selected, weights=None, attributes=attributes, name=name, share=decoded.share, from_file=True,
        notes=decoded.notes,
    )  # fmt: skip


def pictures_in(path: Path) -> list[tuple[str, Callable[[], bytes]]]:
    """The pictures that lie in a folder itself, in order: the name, and a function that reads the bytes."""
    root = path.resolve()
    pictures: list[tuple[str, Callable[[], bytes]]] = []
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in SUFFIXES and not is_system_file(file.name):
            shown = f"{path}: {printable(file.name)}"
            require_inside(file, root, root, shown)
            require_file(file, shown)
            pictures.append((printable(file.name), partial(_bytes, file, shown)))
    return pictures


def _bytes(file: Path, shown: str) -> bytes:
    require_file(file, shown)
    return file.read_bytes()


def _from_classes(path: Path) -> tuple[list[tuple[str, Path]], dict[str, np.ndarray]]:
    """The pictures, each as its name in messages and its path, and their classes."""
    root = path.resolve()
    pictures, classes = [], []
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not is_system_file(p.name)):
        require_inside(folder, root, root, f"{path}: {printable(folder.name)}")
        home = folder.resolve()
        if any(os.path.lexists(folder / table) for table in _TABLES):
            raise InputError(f"{path}: {printable(folder.name)} holds a table of its own: pass that folder")
        for file in sorted(folder.rglob("*")):
            inside = file.relative_to(path)
            shown = printable(str(inside))
            if file.suffix.lower() not in SUFFIXES or any(is_system_file(part) for part in inside.parts):
                continue
            if len(inside.parts) > 2:
                raise InputError(
                    f"{path}: {shown} lies deeper than a folder per class: pass the folder that holds the classes"
                )
            require_inside(file, home, root, f"{path}: {shown}")
            require_file(file, f"{path}: {shown}")
            pictures.append((shown, file))
            classes.append(folder.name)
    if not pictures:
        raise InputError(
            f"{path}: no pictures are found in its folders: expected a folder per class, or metadata.csv or "
            "metadata.jsonl with a column 'file_name'"
        )
    return pictures, {"class": np.asarray(classes)}


def _from_table(table: Path, attributes: Sequence[str]) -> tuple[list[tuple[str, Path]], dict[str, np.ndarray]]:
    """The pictures that a table names, and its columns."""
    root = table.parent.resolve()
    require_inside(table, root, root, str(table))
    text = read_text(table)
    try:
        rows = _csv_rows(text) if table.suffix == ".csv" else _json_lines(text)
    except (csv.Error, ValueError, RecursionError) as error:
        raise InputError(f"{table}: it cannot be read ({error_words(error)}): correct it") from error
    if not rows or not any("file_name" in r for r in rows):
        raise InputError(f"{table}: it has no column 'file_name': expected one row per picture, with its file_name")
    files = [_picture_of(table, root, number, row) for number, row in enumerate(rows, 1)]
    names = [n for n in dict.fromkeys(k for row in rows for k in row) if n != "file_name"]
    needed = columns_of(parse_entries(attributes, names)) if names else {}
    columns = {n: _typed([r.get(n) for r in rows], n, table) if n in needed else np.empty(0) for n in names}
    return files, columns


def _picture_of(table: Path, root: Path, number: int, row: dict[str, object]) -> tuple[str, Path]:
    """The picture of a row: its name in messages, and its path."""
    file_name = row.get("file_name")
    if not file_name or not isinstance(file_name, str) or "\0" in file_name:
        raise InputError(f"{table}: row {number} has no file_name: name its picture")
    file = Path(os.path.normpath(table.parent.absolute() / file_name))
    roots = (Path(os.path.normpath(table.parent.absolute())), root)
    base = next((r for r in roots if file.is_relative_to(r)), None)
    try:
        exists = os.path.lexists(file)
    except ValueError:  # a character that no name of a file can have
        exists = False
    if base is None:
        raise InputError(f"{table}: row {number} points out of the folder ({file_name!a}): keep the pictures in it")
    if not exists:
        raise InputError(f"{table}: row {number} names {printable(file_name)}, which is not there: correct the row")
    shown = printable(str(file.relative_to(base)))
    require_inside(file, root, root, f"{table}: row {number} ({shown})")
    require_file(file, f"{table}: row {number} ({shown})")
    return shown, file


def _csv_rows(text: str) -> list[dict[str, object]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    if len(set(header)) < len(header):
        raise ValueError("two columns have one name")
    rows: list[dict[str, object]] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) > len(header):
            raise ValueError(f"row {len(rows) + 1} has {len(cells)} cells, the header has {len(header)}")
        rows.append(dict(zip(header, cells, strict=False)))
    return rows


def _json_lines(text: str) -> list[dict[str, object]]:
    rows = []
    for line in text.split("\n"):  # a JSON string may hold other characters that end lines
        if line.strip():
            rows.append(json.loads(line))
            if not isinstance(rows[-1], dict):
                raise ValueError("a line is no object")
    return rows


def _typed(values: Sequence[object], name: str, table: Path) -> np.ndarray:
    """A column as numbers where all its cells are numbers, else as text; masked where a cell is empty."""
    odd = next((v for v in values if isinstance(v, (dict, list))), None)
    if odd is not None:
        raise InputError(
            f"{table}: column {name!r} holds a {type(odd).__name__}: expected one value in each row; choose others "
            "with --attributes"
        )
    missing = np.array([v is None or v == "" or v != v for v in values])
    return with_missing(_as_numbers([v for v, m in zip(values, missing, strict=True) if not m]), missing)


def _as_numbers(cells: Sequence[object]) -> np.ndarray:
    """Cells as numbers where all of them are numbers, else as text.  Without a decimal point, 01 and 1e3 are names."""
    text = [str(v) for v in cells]
    numbers = [t for t in text if t.lower() != "nan"]
    if cells and all(isinstance(v, bool) for v in cells):
        return np.asarray(cells, dtype=bool)
    if cells and all(isinstance(v, float) for v in cells):
        return np.asarray(cells, dtype=np.float64)
    whole = all(_WHOLE.fullmatch(t) for t in numbers)
    if numbers and whole and len(numbers) == len(text):
        return np.asarray([int(t) for t in text])
    if numbers and all(_REAL.fullmatch(t) for t in numbers) and (whole or any("." in t for t in numbers)):
        return np.asarray([float(t) for t in text])
    return np.asarray(text)
