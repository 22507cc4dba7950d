"""From columns of a table to attributes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sigmascope.core import Attribute, InputError, LabelledData
from sigmascope.data.files import require_text

_BINS = re.compile(r":bins=\d+$")


@dataclass(frozen=True)
class Entry:
    """One entry of ``--attributes``: a column, and into how many quantile bins to cut it (None: its own values).

    ``parts`` are the entries of a joint one, ``a+b``.
    """

    name: str
    bins: int | None = None
    parts: tuple[Entry, ...] = ()


def parse_entry(entry: str, columns: Collection[str] = ()) -> Entry:
    """Read ``name``, ``name:bins=8``, or ``a+b``, the joint value of two or more (unless a column is called so).

    Raises: InputError.
    """
    if entry in columns:
        return Entry(entry)
    entry = entry.strip()
    if "+" in entry and _BINS.sub("", entry) not in columns:
        parts = tuple(parse_entry(p, columns) for p in _pieces(entry, columns))
        if len({p.name for p in parts}) < len(parts):
            raise InputError(f"attribute {entry!r} joins an attribute with itself: name each once")
        return Entry("+".join(p.name for p in parts), None, parts)
    match = re.fullmatch(r"(?P<name>.+?)(?::bins=(?P<bins>\d{1,9}))?", entry, re.DOTALL)
    if match is None or ":bins" in match["name"]:
        raise InputError(f"attribute {entry!r} cannot be read: write a column's name, or name:bins=8")
    bins = None if match["bins"] is None else int(match["bins"])
    if bins is not None and bins < 2:
        raise InputError(f"attribute {entry!r} asks for {bins} bins: at least 2 are needed")
    return Entry(match["name"], bins)


def _pieces(entry: str, columns: Collection[str]) -> list[str]:
    """The entries that a joint one joins; a column whose name has a plus sign in it is one of them."""
    words, found = entry.split("+"), []
    while words:
        ends = range(len(words), 1, -1)
        end = next((j for j in ends if _BINS.sub("", "+".join(words[:j]).strip()) in columns), 1)
        found.append("+".join(words[:end]))
        words = words[end:]
    return found


def attribute_of(entry: str, names: Collection[str]) -> str:
    """The name of the attribute that an entry of ``--attributes`` asks for, among attributes that were made.

    Args:
        entry: e.g. ``slant:bins=8``, or a name itself.
        names: of the attributes of the data.

    Raises: InputError where the entry cannot be read.
    """
    return entry if entry in names else parse_entry(entry, names).name


def parse_entries(wanted: Sequence[str], columns: Collection[str]) -> list[Entry]:
    """The entries of ``--attributes`` as they are read, each column with the bins that any of them says of it.

    Args:
        wanted: entries; empty means all columns.
        columns: names of the columns.

    Raises: InputError for what is asked for twice, in two ways, or is not there.
    """
    if not columns:
        raise InputError("there are no attributes: a study needs at least one array of labels beside the images")
    chosen = [parse_entry(e, columns) for e in wanted] or [Entry(n) for n in columns]
    doubled = {str(c.name) for c in chosen if sum(c.name == d.name for d in chosen) > 1}
    if doubled:
        raise InputError(f"attribute {sorted(doubled)[0]!r} is asked for twice: name each once")
    cuts: dict[str, int] = {}
    for part in (p for entry in chosen for p in entry.parts or (entry,)):
        _check_name(part.name, columns)
        if part.bins is not None and cuts.setdefault(part.name, part.bins) != part.bins:
            raise InputError(f"attribute {part.name!r} is asked for with different bins: use one number of bins for it")
    return [_cut(entry, cuts) for entry in chosen]


def _cut(entry: Entry, cuts: Mapping[str, int]) -> Entry:
    """The entry with the bins of its columns."""
    if entry.parts:
        return replace(entry, parts=tuple(_cut(p, cuts) for p in entry.parts))
    return replace(entry, bins=cuts.get(entry.name))


def _check_name(name: str, columns: Collection[str]) -> None:
    if name not in columns:
        raise InputError(f"no attribute is called {name!r}: choose among {', '.join(columns)}")
    require_text(name, "the name of an attribute")
    if not name.strip() or not name.isprintable():
        raise InputError(f"an attribute is called {name!r}: give it a name, or choose others with --attributes")


@dataclass(frozen=True)
class Selected:
    """The columns that were asked for, of the items that have a label in each of them.

    Args:
        columns: without what is missing.
        kept: indices of these items, increasing, int64; None: all.
        items: how many there are.
        notes: what was left out, and how many items lack each attribute.
    """

    columns: dict[str, np.ndarray]
    kept: np.ndarray | None
    items: int
    notes: tuple[str, ...]

    def of(self, values: np.ndarray) -> np.ndarray:
        """What the kept items have, of an array over all."""
        return values if self.kept is None else values[self.kept]


def select(
    columns: Mapping[str, np.ndarray],
    items: int,
    wanted: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
) -> Selected:
    """Leave out the items that lack a label of an attribute that was asked for.

    A label is missing where a column is masked, is NaN, or holds −1 as the index of a class with a name.  Where all
    columns are wanted, those of one value are left out, too.

    Args:
        columns: one value per item and attribute.
        items: how many there are.
        wanted: entries of ``--attributes``; empty means all columns.
        names: for a column of class indices 0, 1, …, what the classes are called.

    Raises: InputError, also where no item is left.
    """
    needed = dict.fromkeys(p.name for entry in parse_entries(wanted, columns) for p in entry.parts or (entry,))
    lack: dict[str, np.ndarray] = {}
    for name in needed:
        column = columns[name]
        if column.shape != (items,):
            raise InputError(
                f"attribute {name!r} has shape {column.shape} for {items} images: expected one label per image, "
                f"({items},)"
            )
        missing = _missing(column, name in (names or {}))
        if missing.any():
            lack[name] = missing
    constant = [] if wanted else [n for n in needed if _constant(columns[n], lack.get(n))]
    if len(constant) == len(needed):
        constant = []  # they are refused one by one
    said = tuple(f"{n!r} has one value and is left out" for n in constant)
    lack = {n: m for n, m in lack.items() if n not in constant}
    held = {n: np.ma.getdata(columns[n]) for n in needed if n not in constant}
    if not lack:
        return Selected(held, None, items, said)
    kept = np.flatnonzero(~np.any(list(lack.values()), axis=0))
    counts = {n: int(m.sum()) for n, m in lack.items()}
    if not len(kept):
        which = ", ".join(f"{c} lack {n!r}" for n, c in counts.items())
        raise InputError(f"none of {items} items has all labels ({which}): choose attributes with --attributes")
    notes = tuple(f"{c} of {items} items have no {n!r} and are left out" for n, c in counts.items())
    return Selected({n: c[kept] for n, c in held.items()}, kept, len(kept), said + notes)


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
    wanted: Sequence[str] = (),
    weights: np.ndarray | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
) -> tuple[tuple[Attribute, ...], dict[str, Tensor], Tensor]:
    """Make attributes, label indices and weights of columns.

    Args:
        columns: one value per item and attribute; integers, strings and booleans are values, a real-valued column
            needs ``name:bins=8``.  Bins that one entry says of a column hold in all of them.
        items: how many items there are.
        wanted: entries of ``--attributes``; empty means all columns.
        weights: one non-negative weight per item, or None for equal ones.
        names: for a column of class indices 0, 1, …, what the classes are called.

    Returns: attributes, label indices by name, weights that sum to one (float64).

    Raises: InputError.
    """
    chosen = parse_entries(wanted, columns)
    w = _weights(weights, items)
    attributes, labels = [], {}
    for entry in chosen:
        values, codes = _joint(entry, columns, items, names or {})
        prior = torch.from_numpy(np.bincount(codes, weights=w, minlength=len(values)))
        parts = tuple(p.name for p in entry.parts)
        attributes.append(Attribute(entry.name, values, prior / prior.sum(), parts))
        labels[entry.name] = torch.from_numpy(codes.astype(np.int64))
    return tuple(attributes), labels, torch.from_numpy(w)


def _weights(weights: np.ndarray | None, items: int) -> np.ndarray:
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
    return w / w.sum()


def _joint(
    entry: Entry, columns: Mapping[str, np.ndarray], items: int, names: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Values and codes of an entry; a joint one has the combinations that occur."""
    if not entry.parts:
        column = np.asarray(columns[entry.name])
        if column.shape != (items,):
            raise InputError(
                f"attribute {entry.name!r} has shape {column.shape} for {items} images: expected one label per image, "
                f"({items},)"
            )
        return _values(entry, column, names.get(entry.name))
    found = [_joint(part, columns, items, names) for part in entry.parts]
    code = np.zeros(items, dtype=np.int64)
    for values, codes in found:
        code = code * len(values) + codes
    kept, code = np.unique(code, return_inverse=True)
    sizes = [len(values) for values, _ in found]
    combinations = np.stack(np.unravel_index(kept, sizes), 1)
    return tuple(" + ".join(found[j][0][i] for j, i in enumerate(row)) for row in combinations), code


def grouped(data: LabelledData, of: str, name: str, groups: Mapping[str, Sequence[str]]) -> LabelledData:
    """The data with one more attribute: a coarser view of an existing one.

    Args:
        data: labelled data.
        of: the attribute whose values are grouped.
        name: of the new attribute.
        groups: for each new value, the values of ``of`` that it joins; every one exactly once.

    Raises: InputError where a value is missing or named twice.
    """
    fine = data.attribute(of)
    home = {value: g for g, members in enumerate(groups.values()) for value in members}
    if sorted(home) != sorted(fine.values) or sum(map(len, groups.values())) != len(home):
        raise InputError(f"groups of {of!r} must hold each of {', '.join(fine.values)} exactly once")
    table = torch.tensor([home[v] for v in fine.values])
    prior = torch.zeros(len(groups), dtype=torch.float64).index_add_(0, table, fine.prior)
    codes = table[data.labels[of]]
    digest = hashlib.blake2b(f"{data.fingerprint} {name}".encode(), digest_size=16)
    digest.update(codes.numpy().tobytes())
    return replace(
        data,
        attributes=(*data.attributes, Attribute(name, tuple(groups), prior)),
        labels={**data.labels, name: codes},
        fingerprint=digest.hexdigest(),
    )


def _values(entry: Entry, column: np.ndarray, names: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    if column.dtype.kind == "f":
        if not np.all(np.isfinite(column)):
            raise InputError(f"attribute {entry.name!r} has labels that are not finite: remove those items")
        whole = np.array_equal(column, np.round(column)) and float(np.abs(column).max(initial=0.0)) < 2.0**53
        if entry.bins is None and not whole:
            raise InputError(
                f"attribute {entry.name!r} is real-valued: say into how many quantile bins to cut it, "
                f"e.g. --attributes {entry.name}:bins=8"
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
    """What the values of a column are called."""
    if unique.dtype.kind == "S":
        try:
            unique = np.char.decode(unique, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"attribute {name!r} has bytes that are not UTF-8: store its labels as text") from error
    if names is not None and unique.dtype.kind in "iu":
        if unique[0] < 0 or unique[-1] >= len(names):
            bad = unique[0] if unique[0] < 0 else unique[-1]
            raise InputError(f"attribute {name!r} holds the class {bad}, names go from 0 to {len(names) - 1}: mend it")
        found = tuple(str(names[int(u)]) for u in unique)
    else:
        found = tuple(str(u) for u in unique)
    for value in found:
        require_text(value, f"a label of {name!r}")
    if len(set(found)) == len(found):
        return found
    return tuple(v if found.count(v) == 1 else f"{v} ({u})" for u, v in zip(unique.tolist(), found, strict=True))


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
