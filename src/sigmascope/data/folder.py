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
from sigmascope.data.arrays import labelled
from sigmascope.data.files import error_words, is_system_file, printable, read_text, require_file, require_inside
from sigmascope.data.labels import parse_entries, select
from sigmascope.data.pictures import WHITE, decode_all

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_TABLES = ("metadata.csv", "metadata.jsonl")
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)  # 01 and 1_0 are names, not numbers
_REAL = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?", re.ASCII)


def load_folder(path: Path, attributes: Sequence[str] = (), ground: str = WHITE) -> LabelledData:
    """A folder with ``metadata.csv`` or ``metadata.jsonl`` (``file_name`` and attributes), or a folder per class.

    Hidden files and those that systems leave (``__MACOSX``, ``Thumbs.db``, …) are left aside.  Links that lead out of
    the folder of a class, or of the folder that holds the table, are refused, but for those of a cache of the Hugging
    Face hub (see :func:`~sigmascope.data.files.require_inside`).  Rows of a table that lack an attribute that was asked
    for are left out.

    Args:
        path: of the folder.
        attributes: which attributes; empty means all.
        ground: colour behind transparent pixels.

    Raises: InputError, in one line, for what cannot be used.
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

    found = decode_all(len(kept), pictures, name, ground)
    return labelled(
        found.images, selected, weights=None, attributes=attributes, name=name, share=found.share, from_file=True,
        notes=found.notes,
    )  # fmt: skip


def pictures_in(path: Path) -> list[tuple[str, Callable[[], bytes]]]:
    """The pictures that lie in a folder itself, by name: what to call each, and a function that gives its bytes.

    Args:
        path: of the folder.

    Raises: InputError for a link out of the folder, and for what is no plain file.
    """
    root = path.resolve()
    found: list[tuple[str, Callable[[], bytes]]] = []
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in SUFFIXES and not is_system_file(file.name):
            shown = f"{path}: {printable(file.name)}"
            require_inside(file, root, root, shown)
            require_file(file, shown)
            found.append((printable(file.name), partial(_bytes, file, shown)))
    return found


def _bytes(file: Path, shown: str) -> bytes:
    require_file(file, shown)
    return file.read_bytes()


def _from_classes(path: Path) -> tuple[list[tuple[str, Path]], dict[str, np.ndarray]]:
    """The pictures, each with what to call it, and their classes."""
    root = path.resolve()
    found, classes = [], []
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not is_system_file(p.name)):
        require_inside(folder, root, root, f"{path}: {printable(folder.name)}")
        home = folder.resolve()
        if any(os.path.lexists(folder / table) for table in _TABLES):
            raise InputError(f"{path}: {printable(folder.name)} holds a table of its own: pass that folder")
        for file in sorted(folder.rglob("*")):
            inside = file.relative_to(path)
            called = printable(str(inside))
            if file.suffix.lower() not in SUFFIXES or any(is_system_file(part) for part in inside.parts):
                continue
            if len(inside.parts) > 2:
                raise InputError(
                    f"{path}: {called} lies deeper than a folder per class: pass the folder that holds the classes"
                )
            require_inside(file, home, root, f"{path}: {called}")
            require_file(file, f"{path}: {called}")
            found.append((called, file))
            classes.append(folder.name)
    if not found:
        raise InputError(
            f"{path}: no pictures are found in its folders: expected a folder per class, or metadata.csv or "
            "metadata.jsonl with a column 'file_name'"
        )
    return found, {"class": np.asarray(classes)}


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
    files = [_place(table, root, number, row) for number, row in enumerate(rows, 1)]
    names = [n for n in dict.fromkeys(k for row in rows for k in row) if n != "file_name"]
    wanted = {p.name for entry in parse_entries(attributes, names) for p in entry.parts or (entry,)} if names else set()
    columns = {n: _typed([r.get(n) for r in rows], n, table) if n in wanted else np.empty(0) for n in names}
    return files, columns


def _place(table: Path, root: Path, number: int, row: dict[str, object]) -> tuple[str, Path]:
    """What to call the picture of a row, and where it is."""
    given = row.get("file_name")
    if not given or not isinstance(given, str) or "\0" in given:
        raise InputError(f"{table}: row {number} has no file_name: name its picture")
    place = Path(os.path.normpath(table.parent.absolute() / given))
    roots = (Path(os.path.normpath(table.parent.absolute())), root)
    base = next((r for r in roots if place.is_relative_to(r)), None)
    try:
        there = os.path.lexists(place)
    except ValueError:  # a character that no name of a file can have
        there = False
    if base is None:
        raise InputError(f"{table}: row {number} points out of the folder ({given!a}): keep the pictures in it")
    if not there:
        raise InputError(f"{table}: row {number} names {printable(given)}, which is not there: correct the row")
    shown = f"row {number} ({printable(str(place.relative_to(base)))})"
    require_inside(place, root, root, f"{table}: {shown}")
    require_file(place, f"{table}: {shown}")
    return printable(str(place.relative_to(base))), place


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
    for line in text.split("\n"):  # other characters that end lines may stand in a string
        if line.strip():
            rows.append(json.loads(line))
            if not isinstance(rows[-1], dict):
                raise ValueError("a line is no object")
    return rows


def _typed(values: Sequence[object], name: str, table: Path) -> np.ndarray:
    """Numbers where all are numbers, else text; masked where there is none."""
    odd = next((v for v in values if isinstance(v, (dict, list))), None)
    if odd is not None:
        raise InputError(
            f"{table}: column {name!r} holds a {type(odd).__name__}: expected one value in each row; choose others "
            "with --attributes"
        )
    real = [v for v in values if v is not None and v != "" and v == v]
    held = _as_numbers(real)
    if len(real) == len(values):
        return held
    missing = np.array([v is None or v == "" or v != v for v in values])
    whole = np.zeros(len(values), dtype=held.dtype)
    whole[~missing] = held
    return np.ma.MaskedArray(whole, missing)


def _as_numbers(real: Sequence[object]) -> np.ndarray:
    """What is there, as numbers where all of it are numbers, else as text."""
    text = [str(v) for v in real]
    numbers = [t for t in text if t.lower() != "nan"]
    if real and all(isinstance(v, bool) for v in real):
        return np.asarray(real, dtype=bool)
    if real and all(isinstance(v, float) for v in real):
        return np.asarray(real, dtype=np.float64)
    if numbers and all(_WHOLE.fullmatch(t) for t in numbers) and len(numbers) == len(text):
        return np.asarray([int(t) for t in text])
    if numbers and all(_REAL.fullmatch(t) for t in numbers) and _one_spelling(numbers):
        return np.asarray([float(t) for t in text])
    return np.asarray(text)


def _one_spelling(numbers: Sequence[str]) -> bool:
    """Whether numbers may be read as such: a point among them, or whole ones as one writes them; 01 is a name."""
    return any("." in t for t in numbers) or all(_WHOLE.fullmatch(t) for t in numbers)
