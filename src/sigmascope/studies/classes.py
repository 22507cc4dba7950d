"""Which class of a network stands for which value of an attribute: by their names, or as the user says."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sigmascope.errors import InputError

BY_ORDER = "by-order"
"""In place of names: the first value is the first class, and so on."""
_SHOWN = 12  # names in a complaint
_HOW = (
    "pass --classes FILE with the name of each class in their order (one a line, or JSON as in id2label), or "
    f"--classes {BY_ORDER} if both lists are in the same order"
)


def read_classes(given: str | Path | Mapping[Any, Any] | Sequence[str]) -> str:
    """What a user says of the classes of a network, as one text that a specification holds.

    Args:
        given: a file with one name a line in the order of the classes, or with JSON; JSON itself; ``by-order``; in
            Python also a mapping or a sequence of names.  JSON is a list of names in the order of the classes, an
            object from the index of a class to its name (as ``id2label``), or one from a name to the index of its
            class.

    Returns: ``by-order``, JSON of a list or an object, or the empty text where nothing was given.

    Raises: InputError for what is none of these.
    """
    if isinstance(given, (str, Path)):
        text = str(given)
        if text in ("", BY_ORDER):
            return text
        said = text if text.lstrip().startswith(("{", "[")) else _text_of(Path(text))
        names = said.lstrip().startswith(("{", "["))
        found: Any = _json_of(said) if names else [line.strip() for line in said.splitlines() if line.strip()]
    else:
        found = dict(given) if isinstance(given, Mapping) else list(given)
    if isinstance(found, dict):
        found = {str(k): v for k, v in found.items()}
        by_index = all(isinstance(v, str) and _number(k) is not None for k, v in found.items())
        by_name = all(isinstance(v, int) and not isinstance(v, bool) for v in found.values())
        good = by_index or by_name
    else:
        found = [str(x) for x in found]
        good = all(x.strip() for x in found)
    if not found or not good:
        raise InputError(
            "the classes are not understood: expected a list of names in their order, an object from index to name, or "
            "one from name to index"
        )
    return json.dumps(found, ensure_ascii=False)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file of classes: {_HOW}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as text: {_HOW}") from error


def _json_of(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the classes are no JSON ({' '.join(str(error).split())}): {_HOW}") from error
    return found


def matched(values: Sequence[str], own: Sequence[str], classes: str, name: str, model: str) -> list[int]:
    """The class of each value of an attribute.

    Names are the same up to case and white space; numbers, where they are the same number.  Of a class with several
    names, separated by commas, each is one.

    Args:
        values: of the attribute.
        own: names of the classes, in their order; numbers where they have none.
        classes: of :func:`read_classes`.
        name: of the attribute, for complaints.
        model: likewise.

    Returns: the index of the class of each value, all different.

    Raises: InputError, which shows both lists, where a value has no class, or more than one.
    """
    if classes == BY_ORDER:
        if len(values) != len(own):
            raise InputError(f"{_both(values, own, name, model)}: by order there must be as many of them")
        return list(range(len(own)))
    table = _told(json.loads(classes), own, model) if classes else _named(own)
    found, of = [], dict[int, str]()
    for value in values:
        at = table.get(_plain(value), set())
        if len(at) > 1:
            raise InputError(f"{model}: the name {value!r} stands for classes {_listed(sorted(map(str, at)))}: {_HOW}")
        if not at:
            raise InputError(f"{_both(values, own, name, model)}, {value!r} is no class: {_HOW}")
        (k,) = at
        if k in of:
            raise InputError(f"{model}: the values {of[k]!r} and {value!r} of {name!r} are one class, {k}: {_HOW}")
        of[k] = value
        found.append(k)
    return found


def _named(own: Sequence[str]) -> dict[str, set[int]]:
    """The classes of each name: whole names first, then each of several."""
    whole: dict[str, set[int]] = {}
    parts: dict[str, set[int]] = {}
    for k, said in enumerate(own):
        name = said.removesuffix(f" ({k})")  # by which classes of one name are told apart
        for each in {_plain(said), _plain(name)}:
            whole.setdefault(each, set()).add(k)
        for each in {_plain(x) for x in name.split(",")}:
            parts.setdefault(each, set()).add(k)
    return parts | whole


def _told(classes: Any, own: Sequence[str], model: str) -> dict[str, set[int]]:
    """The classes of each name, as the user says."""
    if isinstance(classes, list):
        if len(classes) != len(own):
            raise InputError(f"{model}: {len(classes)} names of classes came, the network has {len(own)}: pass each")
        pairs = [(x, k) for k, x in enumerate(classes)]
    else:
        pairs = [(k, v) if isinstance(v, int) else (str(v), int(k)) for k, v in classes.items()]
    table: dict[str, set[int]] = {}
    for name, k in pairs:
        if not 0 <= k < len(own):
            raise InputError(f"{model}: {name!r} is class {k}: the network has classes 0 to {len(own) - 1}")
        table.setdefault(_plain(name), set()).add(k)
    return table


def _plain(name: str) -> str:
    """A name without case and needless white space, its accents in one spelling; a number without zeros before it."""
    number = _number(name)
    return unicodedata.normalize("NFC", " ".join(name.split()).casefold()) if number is None else str(number)


def _number(name: str) -> int | None:
    return int(name) if re.fullmatch(r"\s*[0-9]{1,9}\s*", name) else None


def _both(values: Sequence[str], own: Sequence[str], name: str, model: str) -> str:
    return (
        f"{model}: its {len(own)} classes ({_listed(own)}) are not the {len(values)} values of {name!r} "
        f"({_listed(values)})"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
