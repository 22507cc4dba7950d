"""From columns of labels to attributes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Attribute, InputError, LabelledData
from sigmascope.data.files import require_text
from sigmascope.data.real_entries import RealEntry, parse_real

NO_LABELS = ""
"""The first of entries that need no column: those after it name features of the pictures themselves."""
_BINS = re.compile(r":bins=\d+$")


@dataclass(frozen=True)
class Entry:
    """One entry of ``--attributes``: a column and its number of quantile bins, or the parts of a joint attribute.

    The parts of a real-valued attribute, which has ``real``, are its columns.
    """

    name: str
    bins: int | None = None
    parts: tuple[Entry, ...] = ()
    real: RealEntry | None = None

    @property
    def columns(self) -> tuple[Entry, ...]:
        """The entries of single columns that this one is made of."""
        return self.parts or (self,)


def parse_entry(text: str, columns: Collection[str] = ()) -> Entry:
    """Parse ``name``, ``name:bins=8``, ``a+b``, the joint value of two or more columns, or ``name:resolution=5``."""
    if text in columns:
        return Entry(text)
    text = text.strip()
    if real := parse_real(text, columns):
        return Entry(real.name, None, tuple(Entry(c) for c in real.columns), real)
    if "+" in text and _BINS.sub("", text) not in columns:
        parts = tuple(parse_entry(p, columns) for p in _split_joint(text, columns))
        if len({p.name for p in parts}) < len(parts):
            raise InputError(f"attribute {text!r} joins an attribute with itself: name each once")
        return Entry("+".join(p.name for p in parts), None, parts)
    match = re.fullmatch(r"(?P<name>.+?)(?::bins=(?P<bins>\d{1,9}))?", text, re.DOTALL)
    if match is None or ":bins" in match["name"]:
        raise InputError(f"attribute {text!r} cannot be read: write a column's name, or name:bins=8")
    bins = None if match["bins"] is None else int(match["bins"])
    if bins is not None and bins < 2:
        raise InputError(f"attribute {text!r} asks for {bins} bins: at least 2 are needed")
    return Entry(match["name"], bins)


def _split_joint(text: str, columns: Collection[str]) -> list[str]:
    """The entries of a joint one; a column whose name has a plus sign in it is one of them."""
    words, entries = text.split("+"), []
    while words:
        ends = range(len(words), 1, -1)
        end = next((j for j in ends if _BINS.sub("", "+".join(words[:j]).strip()) in columns), 1)
        entries.append("+".join(words[:end]))
        words = words[end:]
    return entries


def attribute_of(entry: str, names: Collection[str]) -> str:
    """The name of the attribute that an entry of ``--attributes`` stands for, such as ``slant:bins=8``."""
    return entry if entry in names else parse_entry(entry, names).name


def parse_entries(entries: Sequence[str], columns: Collection[str]) -> list[Entry]:
    """Parse the entries of ``--attributes``; without any, all columns.  Bins of a column hold in all entries."""
    if entries and entries[0] == NO_LABELS:
        return _no_labels(entries[1:], columns)
    if not columns:
        raise InputError("there are no attributes: a study needs at least one array of labels beside the images")
    parsed = [parse_entry(e, columns) for e in entries] or [Entry(n) for n in columns]
    doubled = {str(e.name) for e in parsed if sum(e.name == other.name for other in parsed) > 1}
    if doubled:
        raise InputError(f"attribute {sorted(doubled)[0]!r} is asked for twice: name each once")
    bins: dict[str, int] = {}
    for column in (c for entry in parsed for c in entry.columns):
        _check_name(column.name, columns)
        if column.bins is not None and bins.setdefault(column.name, column.bins) != column.bins:
            raise InputError(f"attribute {column.name!r} is asked for with different bins: use one number of bins")
    return [_with_bins(entry, bins) for entry in parsed]


def _no_labels(features: Sequence[str], columns: Collection[str]) -> list[Entry]:
    """No entries; refuses columns with the name of a feature (raises InputError)."""
    for name in features:
        if name in columns:
            raise InputError(f"{name!r} is a feature of the pictures and the name of a label: rename the label")
    return []


def columns_of(entries: Iterable[Entry]) -> dict[str, int | None]:
    """The columns that some entries need, in order, and the bins of each."""
    return {c.name: c.bins for entry in entries for c in entry.columns}


def _with_bins(entry: Entry, bins: Mapping[str, int]) -> Entry:
    if entry.parts:
        return replace(entry, parts=tuple(_with_bins(p, bins) for p in entry.parts))
    return replace(entry, bins=bins.get(entry.name))


def _check_name(name: str, columns: Collection[str]) -> None:
    if name not in columns:
        raise InputError(f"no attribute is called {name!r}: choose among {', '.join(columns)}")
    require_text(name, "the name of an attribute")
    if not name.strip() or not name.isprintable():
        raise InputError(f"an attribute is called {name!r}: give it a name, or choose others with --attributes")


@dataclass(frozen=True)
class Selected:
    """The columns that a study needs, of the items that have a label in each of them.

    ``kept`` are the indices of these items, increasing, or None for all; ``notes`` tell the user what is left out.
    """

    columns: dict[str, np.ndarray]
    kept: np.ndarray | None
    items: int
    notes: tuple[str, ...]

    def rows(self, values: np.ndarray) -> np.ndarray:
        """The rows of the kept items, of an array with one row for every item."""
        return values if self.kept is None else values[self.kept]


def select(
    columns: Mapping[str, np.ndarray],
    items: int,
    entries: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
) -> Selected:
    """Leave out the items that lack a label of an attribute that the study needs; InputError where no item is left.

    A label is missing where a column is masked, is NaN, or holds −1 as the index of a class with a name.  Where no
    entries are given, columns of one value are left out as well.
    """
    needed = columns_of(parse_entries(entries, columns))
    lacking: dict[str, np.ndarray] = {}
    for name in needed:
        _check_length(name, columns[name], items)
        missing = _missing(columns[name], name in (names or {}))
        if missing.any():
            lacking[name] = missing
    constant = [] if entries else [n for n in needed if _constant(columns[n], lacking.get(n))]
    if len(constant) == len(needed):
        constant = []  # each of them is refused later, by name
    notes = [f"{n!r} has one value and is left out" for n in constant]
    lacking = {n: missing for n, missing in lacking.items() if n not in constant}
    labels = {n: np.ma.getdata(columns[n]) for n in needed if n not in constant}
    if not lacking:
        return Selected(labels, None, items, tuple(notes))
    kept = np.flatnonzero(~np.any(list(lacking.values()), axis=0))
    counts = {n: int(missing.sum()) for n, missing in lacking.items()}
    if not len(kept):
        reasons = ", ".join(f"{c} lack {n!r}" for n, c in counts.items())
        raise InputError(f"none of {items} items has all labels ({reasons}): choose attributes with --attributes")
    notes += [f"{c} of {items} items have no {n!r} and are left out" for n, c in counts.items()]
    return Selected({n: x[kept] for n, x in labels.items()}, kept, len(kept), tuple(notes))


def _check_length(name: str, column: np.ndarray, items: int) -> None:
    if column.shape != (items,):
        raise InputError(
            f"attribute {name!r} has shape {column.shape} for {items} images: expected one label per image, ({items},)"
        )


def _constant(column: np.ndarray, missing: np.ndarray | None) -> bool:
    """Whether a column has at most one value."""
    values = np.ma.getdata(column) if missing is None else np.ma.getdata(column)[~missing]
    return not len(values) or bool((values == values[0]).all())


def _missing(column: np.ndarray, named: bool) -> np.ndarray:
    missing = np.ma.getmaskarray(column).copy()
    values = np.ma.getdata(column)
    if values.dtype.kind == "f":
        missing |= np.isnan(values)
    if named and values.dtype.kind in "if":
        missing |= values == -1
    return missing


def encode(
    columns: Mapping[str, np.ndarray],
    items: int,
    entries: Sequence[str] = (),
    weights: np.ndarray | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
) -> tuple[tuple[Attribute, ...], dict[str, Tensor], Tensor]:
    """Attributes, label indices by name, and weights that sum to one (float64), from columns of labels.

    Integers, texts and booleans are values themselves; a real-valued column needs ``name:bins=8``.  ``names`` are those
    of the classes in columns of indices 0, 1, ….  Entries with a resolution are left to
    :func:`~sigmascope.data.reals.encode_reals`.  InputError for labels or weights that cannot be used.
    """
    parsed = [entry for entry in parse_entries(entries, columns) if entry.real is None]
    w = _normalised(weights, items)
    attributes, labels = [], {}
    for entry in parsed:
        values, codes = _values_and_codes(entry, columns, items, names or {})
        prior = torch.from_numpy(np.bincount(codes, weights=w, minlength=len(values)))
        parts = tuple(p.name for p in entry.parts)
        attributes.append(Attribute(entry.name, values, prior / prior.sum(), parts))
        labels[entry.name] = torch.from_numpy(codes.astype(np.int64))
    return tuple(attributes), labels, torch.from_numpy(w)


def _normalised(weights: np.ndarray | None, items: int) -> np.ndarray:
    if weights is None:
        return np.full(items, 1.0 / items)
    try:
        w = np.asarray(weights)
        w = w.astype(np.float64, casting="same_kind" if w.dtype.kind == "c" else "unsafe")
    except (TypeError, ValueError) as error:
        raise InputError("weights are not numbers: expected one non-negative number per image") from error
    if w.shape != (items,) or not np.all(np.isfinite(w)) or np.any(w < 0) or w.sum() <= 0:
        raise InputError(
            f"weights have shape {w.shape} for {items} images: expected one finite, non-negative weight per image, "
            "not all zero"
        )
    normalised: np.ndarray = w / w.sum()
    return normalised


def _values_and_codes(
    entry: Entry, columns: Mapping[str, np.ndarray], items: int, names: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Values of an entry, and the index of each item's value; a joint entry has the combinations that occur."""
    if not entry.parts:
        column = np.asarray(columns[entry.name])
        _check_length(entry.name, column, items)
        return _of_column(entry, column, names.get(entry.name))
    parts = [_values_and_codes(part, columns, items, names) for part in entry.parts]
    code = np.zeros(items, dtype=np.int64)
    for values, codes in parts:
        code = code * len(values) + codes
    kept, code = np.unique(code, return_inverse=True)
    combinations = np.stack(np.unravel_index(kept, [len(values) for values, _ in parts]), 1)
    return tuple(" + ".join(parts[j][0][i] for j, i in enumerate(row)) for row in combinations), code


def grouped(data: LabelledData, attribute: str, name: str, groups: Mapping[str, Sequence[str]]) -> LabelledData:
    """The data with one more attribute, whose values are groups of the values of another.

    Args:
        data: labelled data.
        attribute: whose values are grouped.
        name: of the new attribute.
        groups: for each new value, the values that it joins; each value of the attribute exactly once.

    Returns: the same items with the attributes that they had and the new one.

    Raises: InputError where a value is missing or named twice.
    """
    fine = data.attribute(attribute)
    group = {value: g for g, members in enumerate(groups.values()) for value in members}
    if sorted(group) != sorted(fine.values) or sum(map(len, groups.values())) != len(group):
        raise InputError(f"groups of {attribute!r} must hold each of {', '.join(fine.values)} exactly once")
    table = torch.tensor([group[v] for v in fine.values])
    prior = torch.zeros(len(groups), dtype=torch.float64).index_add_(0, table, fine.prior)
    codes = table[data.labels[attribute]]
    digest = hashlib.blake2b(f"{data.fingerprint} {name}".encode(), digest_size=16)
    digest.update(codes.numpy().tobytes())
    return replace(
        data,
        attributes=(*data.attributes, Attribute(name, tuple(groups), prior)),
        labels={**data.labels, name: codes},
        fingerprint=digest.hexdigest(),
    )


def _of_column(entry: Entry, column: np.ndarray, names: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    if column.dtype.kind == "f":
        if not np.all(np.isfinite(column)):
            raise InputError(f"attribute {entry.name!r} has labels that are not finite: remove those items")
        whole = np.array_equal(column, np.round(column)) and float(np.abs(column).max(initial=0.0)) < 2.0**53
        if entry.bins is None and not whole:
            raise InputError(
                f"attribute {entry.name!r} is real-valued: say its resolution, e.g. --attributes "
                f"{entry.name}:resolution={0.1 * float(column.std()):.2g} (a tenth of its standard deviation), or into "
                f"how many quantile bins to cut it, e.g. --attributes {entry.name}:bins=8"
            )
        if entry.bins is None:
            column = column.astype(np.int64)
    if column.dtype.kind not in "biufUS":
        raise InputError(
            f"attribute {entry.name!r} has type {column.dtype}: expected integers, strings, booleans or real numbers"
        )
    if entry.bins is not None:
        if column.dtype.kind not in "biuf":
            raise InputError(f"attribute {entry.name!r} is not a number: it cannot be cut into bins")
        return _quantiles(entry.name, column.astype(np.float64), entry.bins)
    unique, codes = np.unique(column, return_inverse=True)
    return _named(entry.name, unique, names), codes


def _named(name: str, unique: np.ndarray, names: Sequence[str] | None) -> tuple[str, ...]:
    """The distinct values of a column as texts that differ."""
    if unique.dtype.kind == "S":
        try:
            unique = np.char.decode(unique, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"attribute {name!r} has bytes that are not UTF-8: store its labels as text") from error
    if names is not None and unique.dtype.kind in "iu":
        if unique[0] < 0 or unique[-1] >= len(names):
            bad = unique[0] if unique[0] < 0 else unique[-1]
            raise InputError(f"attribute {name!r} holds the class {bad}, names go from 0 to {len(names) - 1}: mend it")
        values = tuple(str(names[int(u)]) for u in unique)
    else:
        values = tuple(str(u) for u in unique)
    for value in values:
        require_text(value, f"a label of {name!r}")
    if len(set(values)) == len(values):
        return values
    return tuple(v if values.count(v) == 1 else f"{v} ({u})" for u, v in zip(unique.tolist(), values, strict=True))


def _quantiles(name: str, column: np.ndarray, bins: int) -> tuple[tuple[str, ...], np.ndarray]:
    if bins > len(column):
        raise InputError(f"attribute {name!r} is asked for with {bins} bins of {len(column)} items: use fewer bins")
    edges = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)))
    if len(edges) < 3:
        raise InputError(f"attribute {name!r} has one value in all its {bins} bins: leave it out")
    codes = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, len(edges) - 2)
    kept, codes = np.unique(codes, return_inverse=True)  # ties can leave a bin empty
    digits = next(d for d in range(4, 18) if d == 17 or len({f"{e:.{d}g}" for e in edges}) == len(edges))
    return tuple(f"{edges[b]:.{digits}g} to {edges[b + 1]:.{digits}g}" for b in kept), codes
