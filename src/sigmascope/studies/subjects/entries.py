"""The attributes of a learned model that a study measures."""

from __future__ import annotations

from collections.abc import Sequence

from sigmascope.core import InputError
from sigmascope.data.labels import attribute_of, parse_entry


def attributes_of(entries: Sequence[str], trained: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The attributes that entries such as ``slant`` or ``slant:bins=8`` name, out of those of a model.

    Args:
        entries: of the study; empty means all.
        trained: entries of the training; empty where it had none.
        names: of the model's attributes.

    Raises: InputError for another attribute, or other bins.
    """
    bins = {p.name: p.bins for e in trained for w in [parse_entry(e, names)] for p in (w.parts or (w,)) if p.bins}
    chosen = []
    for entry in entries:
        name = attribute_of(entry, names)
        if name not in names:
            raise InputError(f"the model is not conditional on {name!r}: choose one of {', '.join(names)}")
        wanted = parse_entry(entry, names)
        for part in wanted.parts or (wanted,):
            if part.bins is not None and bins.get(part.name) != part.bins:
                had = f"{bins[part.name]} bins" if part.name in bins else "no bins"
                raise InputError(f"the model was trained with {had} of {part.name!r}, not {part.bins}: write {name}")
        chosen.append(name)
    doubled = next((n for n in chosen if chosen.count(n) > 1), None)
    if doubled is not None:
        raise InputError(f"attribute {doubled!r} is named twice: name each once")
    return tuple(chosen) or tuple(names)
