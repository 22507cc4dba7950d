"""Fingerprints of what a run has left: a digest and a few numbers of each array, table, text and figure.

A leaf is one array or one text with a name such as ``results.nc/information`` or ``onset.csv/sigma``.  Times, paths and
versions, which differ between two runs of the same program, are replaced by a word; nothing else is left out.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

Leaf = np.ndarray | str
FIGURE = b'{"figure": '
"""How a file begins in which a figure is described in place of its picture."""
ROUNDING = 1e-12
"""Relative difference below which two numbers differ by rounding alone."""
_LEAST = 1e-3  # magnitude below which a difference is measured against this: what cancels has no digits of its own
_SHORT = 60  # characters of a text that is kept as it is
_FIRST = 4  # values of an array that are kept
_VOLATILE = re.compile(r"(^|[/@ _.])(seconds|peak_bytes|sigmascope_version)$")
_OF_THIS_RUN = (
    (re.compile(r"\b\d+([.,]\d+)*(e[-+]?\d+)?(?= (s|seconds|ms|minutes|min|hours)\b)"), "TIME"),
    (re.compile(r"(?<=sigmascope )\d+\.\d+\.\d+\S*"), "VERSION"),
    (re.compile(r"\d+(\.\d+)? GB is free"), "FREE GB is free"),
)


class Normal:
    """Replaces what depends on where and when a program runs.

    Args:
        places: folders, and the word that stands for each; of two that match, the longer one counts.
    """

    def __init__(self, places: dict[str, str]) -> None:
        self._places = sorted(places.items(), key=lambda p: -len(p[0]))

    def __call__(self, text: str) -> str:
        """The text with words in place of folders, times and versions."""
        for folder, word in self._places:
            text = text.replace(folder, word)
        for pattern, word in _OF_THIS_RUN:
            text = pattern.sub(word, text)
        return text


class _Page(HTMLParser):
    """The text of a page, a line for each element, its headings, and its scripts; pictures are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.headings: list[str] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.lines.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("h1", "h2", "h3"):
            self.headings.append(data)
        if self._open == "style":
            return
        self.lines.append(re.sub(r"data:image/[^\"')\s]+", "PICTURE", data))


def tree_leaves(name: str, value: Any) -> Iterator[tuple[str, Leaf]]:
    """The leaves of nested dicts and lists: a list of numbers is one array."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from tree_leaves(f"{name}/{key}", inner)
        if not value:
            yield name, "{}"
    elif isinstance(value, list):
        numbers = _numbers(value)
        if numbers is not None:
            yield name, numbers
        elif all(isinstance(x, str) for x in value):
            yield name, "\n".join(value)
        else:
            for i, inner in enumerate(value):
                yield from tree_leaves(f"{name}/{i}", inner)
    elif isinstance(value, (bool, int, float)):
        yield name, np.array(value) if abs(value) < 2**63 else str(value)
    else:
        yield name, str(value)


def _numbers(value: list[Any]) -> np.ndarray | None:
    """A list, perhaps of lists, of numbers or None as an array."""
    flat = list(value)
    while any(isinstance(x, list) for x in flat):
        flat = [y for x in flat for y in (x if isinstance(x, list) else [x])]
    if not flat or not all(x is None or isinstance(x, (bool, int, float)) for x in flat):
        return None
    try:
        kind = None if all(isinstance(x, (bool, int)) for x in flat) else np.float64
        return np.array(value, kind)
    except (ValueError, OverflowError):
        return None


def _of_csv(name: str, text: str) -> Iterator[tuple[str, Leaf]]:
    """Each column of a table: numbers as an array, other cells as they are written."""
    import csv

    rows = list(csv.reader(io.StringIO(text)))
    head, body = (rows[0], rows[1:]) if rows else ([], [])
    yield f"{name}/(columns)", "\n".join(head)
    if any(len(row) != len(head) for row in body):
        yield f"{name}/(cells)", text
        return
    for k, column in enumerate(head):
        cells = [row[k] for row in body]
        try:
            values: Leaf = np.array([float(c or "nan") for c in cells], np.float64)
        except ValueError:
            values = "\n".join(cells)
        yield f"{name}/{column or k}", values


def _of_netcdf(name: str, path: Path) -> Iterator[tuple[str, Leaf]]:
    """Every variable, coordinate and attribute of every group of a Dataset."""
    import xarray as xr

    with xr.open_datatree(path, engine="h5netcdf", decode_cf=False) as tree:
        for node in tree.subtree:
            place = name + node.path.rstrip("/")
            found = node.to_dataset(inherit=False)
            yield f"{place}/(names)", "\n".join(sorted(map(str, found.variables)))
            for key, value in found.attrs.items():
                yield from _of_attribute(f"{place}/@{key}", value)
            for key, variable in sorted(found.variables.items(), key=lambda pair: str(pair[0])):
                yield f"{place}/{key}/(dims)", ",".join(map(str, variable.dims))
                yield f"{place}/{key}", _plain(np.asarray(variable.values))
                for a, value in variable.attrs.items():
                    yield from _of_attribute(f"{place}/{key}/@{a}", value)


def _of_attribute(name: str, value: Any) -> Iterator[tuple[str, Leaf]]:
    if isinstance(value, str) and value[:1] in "[{":
        try:
            yield from tree_leaves(name, json.loads(value))
            return
        except ValueError:
            pass
    yield name, value if isinstance(value, str) else _plain(np.asarray(value))


def _plain(array: np.ndarray) -> Leaf:
    """Strings as a text, anything else as an array of numbers."""
    if array.dtype.kind in "OSU":
        return "\n".join(x.decode() if isinstance(x, bytes) else str(x) for x in array.reshape(-1))
    return array


def _of_arrays(name: str, path: Path) -> Iterator[tuple[str, Leaf]]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                yield f"{name}/{key}", _plain(file[key])
        return
    import torch
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        for key, value in sorted((file.metadata() or {}).items()):
            yield from _of_attribute(f"{name}/@{key}", value)
        for key in sorted(file.keys()):
            tensor = file.get_tensor(key)
            yield f"{name}/{key}", (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _of_picture(name: str, path: Path) -> Iterator[tuple[str, Leaf]]:
    from PIL import Image

    with Image.open(path) as picture:
        yield name, np.asarray(picture)


def _of_text(name: str, text: str) -> Iterator[tuple[str, Leaf]]:
    suffix = Path(name).suffix
    if suffix == ".json":
        yield from tree_leaves(name, json.loads(text))
    elif suffix == ".toml":
        yield from tree_leaves(name, tomllib.loads(text))
    elif suffix == ".csv":
        yield from _of_csv(name, text)
    elif suffix == ".html":
        page = _Page()
        page.feed(text)
        yield f"{name}/(headings)", "\n".join(page.headings)
        yield f"{name}/(text)", "\n".join(page.lines)
    else:
        yield name, text


def folder_leaves(folder: Path) -> Iterator[tuple[str, Leaf]]:
    """The leaves of every file under a folder, and their names.

    A figure that several files hold, as SVG and as PNG, is read from the first of them.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    yield "(files)", "\n".join(str(p.relative_to(folder)) for p in files)
    figures: dict[bytes, str] = {}
    for path in files:
        name = str(path.relative_to(folder))
        content = path.read_bytes()
        if content.startswith(FIGURE):
            if content in figures:
                yield name, f"as {figures[content]}"
                continue
            figures[content] = name
            yield from tree_leaves(name, json.loads(content))
        elif path.suffix == ".nc":
            yield from _of_netcdf(name, path)
        elif path.suffix in (".npz", ".safetensors"):
            yield from _of_arrays(name, path)
        elif path.suffix in (".png", ".jpg"):
            yield from _of_picture(name, path)
        else:
            yield from _of_text(name, content.decode("utf-8", "backslashreplace"))


def normalised(name: str, leaf: Leaf, normal: Normal) -> Leaf:
    """The leaf without what is of this run alone."""
    if _VOLATILE.search(name):
        return "(differs from run to run)"
    return normal(leaf) if isinstance(leaf, str) else leaf


def summary(leaf: Leaf) -> dict[str, Any]:
    """What is kept of a leaf: the exact digest, and numbers by which a difference can be named with its size."""
    if isinstance(leaf, str):
        if len(leaf) <= _SHORT:
            return {"text": leaf}
        return {"digest": _digest(leaf.encode()), "lines": leaf.count("\n") + 1, "start": leaf[:_SHORT]}
    found: dict[str, Any] = {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}
    if leaf.size <= _FIRST and leaf.dtype.kind in "biuf":
        return found | {"values": [_json(x) for x in leaf.reshape(-1)]}
    found["digest"] = _digest(np.ascontiguousarray(leaf).tobytes())
    if leaf.dtype.kind not in "biuf" or not leaf.size:
        return found
    x = leaf.reshape(-1).astype(np.float64)
    good = x[np.isfinite(x)]
    found |= {"not_finite": len(x) - len(good), "first": [_json(v) for v in leaf.reshape(-1)[:_FIRST]]}
    if len(good):
        wave = np.cos(
            1.0 + math.sqrt(2.0) * np.arange(len(good))
        )  # weights of a sum that an exchange of values changes
        root = math.sqrt(len(good))  # one value that is off weighs more in it than in the mean
        numbers = {"mean": good.mean(), "min": good.min(), "max": good.max(), "wave": (good * wave).sum() / root}
        found |= {k: float(v) for k, v in numbers.items()}
    return found


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _json(x: Any) -> Any:
    value = x.item()
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def difference(old: dict[str, Any], new: dict[str, Any], tolerance: float = 0.0) -> tuple[float, str] | None:
    """How two summaries differ.

    Args:
        old: what was recorded.
        new: what is found.
        tolerance: relative difference of floats that counts as none, against the largest magnitude of the array; 0
            compares the digests, which are of every byte.

    Returns: the largest relative difference that the summaries show (infinite where they are not comparable) and words
    for it; None where they are equal.
    """
    if old == new:
        return None
    if "text" in old or "lines" in old or "text" in new or "lines" in new:
        shown = [s.get("text", f"{s.get('lines')} lines from {s.get('start', '')!r}") for s in (old, new)]
        return math.inf, f"was {shown[0]!r}, is {shown[1]!r}" if shown[0] != shown[1] else f"text differs: {shown[0]}"
    for key in ("dtype", "shape", "not_finite"):
        if old.get(key) != new.get(key):
            return math.inf, f"{key} was {old.get(key)}, is {new.get(key)}"
    if not old["dtype"].startswith("float"):
        return math.inf, "values differ"
    a, b = (np.array([float(v) for v in _shown(s)]) for s in (old, new))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return (0.0, "some bytes differ, none of the numbers kept") if tolerance == 0 else None
    scale = max(float(np.nanmax(np.abs(np.where(np.isfinite(x), x, 0.0)))) for x in (a, b))
    scale = max(scale, _LEAST if tolerance else 0.0)
    worst = float(np.max(np.where(same, 0.0, np.abs(a - b)), initial=0.0)) / scale
    if math.isnan(worst):
        worst = math.inf
    return (worst, f"by {worst:.3g} of its largest value, in mean, min, max or first") if worst > tolerance else None


def _shown(found: dict[str, Any]) -> list[Any]:
    return [*found.get("values", found.get("first", [])), *(found.get(k, 0.0) for k in ("mean", "min", "max", "wave"))]


def whole_difference(old: Leaf, new: Leaf) -> tuple[float, str]:
    """How two leaves differ of which everything is known: the largest relative difference of a value, and words."""
    if isinstance(old, str) or isinstance(new, str):
        one, two = (str(x).split("\n") for x in (old, new))
        at = next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        was, now = (lines[at][:200] if at < len(lines) else "(nothing)" for lines in (one, two))
        return math.inf, f"line {at + 1} was {was!r}, is {now!r}"
    if old.shape != new.shape or old.dtype != new.dtype:
        return math.inf, f"was {old.dtype} {old.shape}, is {new.dtype} {new.shape}"
    a, b = (x.reshape(-1).astype(np.float64) for x in (old, new))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0, "equal as numbers, not as bytes (the sign of a zero, or of a NaN)"
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(same, 0.0, np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)))
    relative[np.isnan(relative)] = math.inf
    at = int(relative.argmax())
    where = tuple(int(k) for k in np.unravel_index(at, old.shape))
    was, now = float(a[at]), float(b[at])
    return float(relative[at]), (
        f"{int((~same).sum())} of {len(a)} values, by {relative[at]:.3g} relative at {where}: was {was!r}, is {now!r}"
    )
