"""The attributes of a learned model that a study asks for."""

from __future__ import annotations

from collections.abc import Sequence

from sigmascope.core import InputError
from sigmascope.data.labels import attribute_of, parse_entry


def attributes_of(entries: Sequence[str], trained: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The attributes that entries such as ``slant`` or ``slant:bins=8`` ask for, among those a model was trained with.

    Args:
        entries: of the study; empty means all.
        trained: entries of the training; empty where it had none.
        names: of the model's attributes.

    Raises: InputError for another attribute, or other bins.
    """
    bins = {p.name: p.bins for e in trained for w in [parse_entry(e, names)] for p in (w.parts or (w,)) if p.bins}
    found = []
    for entry in entries:
        name = attribute_of(entry, names)
        if name not in names:
            raise InputError(f"the model cannot be told {name!r}: choose among {', '.join(names)}")
        wanted = parse_entry(entry, names)
        for part in wanted.parts or (wanted,):
            if part.bins is not None and bins.get(part.name) != part.bins:
                had = f"{bins[part.name]} bins" if part.name in bins else "no bins"
                raise InputError(
                    f"the model was trained with {had} of {part.name!r}, {part.bins} are asked for: write {name}"
                )
        found.append(name)
    doubled = next((n for n in found if found.count(n) > 1), None)
    if doubled is not None:
        raise InputError(f"attribute {doubled!r} is asked for twice: name each once")
    return tuple(found) or tuple(names)
