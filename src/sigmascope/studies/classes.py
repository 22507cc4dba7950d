"""The class of a network for each value of an attribute: by their names, or as the user states."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sigmascope.errors import InputError

BY_ORDER = "by-order"
"""Instead of names: the first value is the first class, and so on."""
_SHOWN = 12  # names in a message
_HOW = (
    "pass --classes FILE with the name of each class in their order (one a line, or JSON as in id2label), or "
    f"--classes {BY_ORDER} if both lists are in the same order"
)


def read_classes(classes: str | Path | Mapping[Any, Any] | Sequence[str]) -> str:
    """What a user states about the classes of a network, as one text for a specification.

    Args:
        classes: a file with one name a line in the order of the classes, or with JSON; JSON itself; ``by-order``; in
            Python also a mapping or a sequence of names.  JSON is a list of names in the order of the classes, an
            object from the index of a class to its name (as ``id2label``), or one from a name to the index of its
            class.

    Returns: ``by-order``, JSON of a list or an object, or an empty text.

    Raises: InputError for anything else.
    """
    if isinstance(classes, (str, Path)):
        text = str(classes)
        if text in ("", BY_ORDER):
            return text
        if not text.lstrip().startswith(("{", "[")):
            text = _text_of(Path(text))
        is_json = text.lstrip().startswith(("{", "["))
        table: Any = _json_of(text) if is_json else [line.strip() for line in text.splitlines() if line.strip()]
    else:
        table = dict(classes) if isinstance(classes, Mapping) else list(classes)
    if isinstance(table, dict):
        table = {str(k): v for k, v in table.items()}
        by_index = all(isinstance(v, str) and _number(k) is not None for k, v in table.items())
        by_name = all(isinstance(v, int) and not isinstance(v, bool) for v in table.values())
        good = by_index or by_name
    else:
        table = [str(x) for x in table]
        good = all(x.strip() for x in table)
    if not table or not good:
        raise InputError(
            "the classes cannot be used: expected a list of names in their order, an object from index to name, or one "
            "from name to index"
        )
    return json.dumps(table, ensure_ascii=False)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file of classes: {_HOW}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as text: {_HOW}") from error


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the classes are no JSON ({' '.join(str(error).split())}): {_HOW}") from error


def matched(values: Sequence[str], class_names: Sequence[str], classes: str, name: str, model: str) -> list[int]:
    """The class of each value of an attribute.

    Names are the same up to case and white space; numbers, where they are the same number.  Of a class with several
    names, separated by commas, each is one.

    Args:
        values: of the attribute.
        class_names: names of the classes, in order; numbers where they have none.
        classes: of :func:`read_classes`.
        name: of the attribute, for messages.
        model: name of the model, for messages.

    Returns: the index of the class of each value, all different.

    Raises: InputError, which shows both lists, where a value has no class, or more than one.
    """
    if classes == BY_ORDER:
        if len(values) != len(class_names):
            raise InputError(f"{_both(values, class_names, name, model)}: by order there must be as many of them")
        return list(range(len(class_names)))
    table = _stated(json.loads(classes), class_names, model) if classes else _named(class_names)
    chosen = dict[int, str]()
    for value in values:
        at = table.get(_normal(value), set())
        if len(at) > 1:
            raise InputError(f"{model}: the name {value!r} stands for classes {_listed(sorted(map(str, at)))}: {_HOW}")
        if not at:
            raise InputError(f"{_both(values, class_names, name, model)}, {value!r} is no class: {_HOW}")
        (k,) = at
        if k in chosen:
            raise InputError(f"{model}: values {chosen[k]!r} and {value!r} of {name!r} are one class, {k}: {_HOW}")
        chosen[k] = value
    return list(chosen)


def _named(class_names: Sequence[str]) -> dict[str, set[int]]:
    """The classes of each name: whole names first, then each of several."""
    whole: dict[str, set[int]] = {}
    parts: dict[str, set[int]] = {}
    for k, full in enumerate(class_names):
        name = full.removesuffix(f" ({k})")  # the suffix distinguishes classes of one name
        for each in {_normal(full), _normal(name)}:
            whole.setdefault(each, set()).add(k)
        for each in {_normal(x) for x in name.split(",")}:
            parts.setdefault(each, set()).add(k)
    return parts | whole


def _stated(classes: Any, class_names: Sequence[str], model: str) -> dict[str, set[int]]:
    """The classes of each name, as the user states."""
    if isinstance(classes, list):
        if len(classes) != len(class_names):
            raise InputError(
                f"{model}: --classes has {len(classes)} names, the network {len(class_names)} classes: name each class"
            )
        pairs = [(x, k) for k, x in enumerate(classes)]
    else:
        pairs = [(k, v) if isinstance(v, int) else (str(v), int(k)) for k, v in classes.items()]
    table: dict[str, set[int]] = {}
    for name, k in pairs:
        if not 0 <= k < len(class_names):
            raise InputError(f"{model}: {name!r} is class {k}: the network has classes 0 to {len(class_names) - 1}")
        table.setdefault(_normal(name), set()).add(k)
    return table


def _normal(name: str) -> str:
    """A name without case and needless white space, its accents in one spelling; a number without zeros before it."""
    number = _number(name)
    return unicodedata.normalize("NFC", " ".join(name.split()).casefold()) if number is None else str(number)


def _number(name: str) -> int | None:
    return int(name) if re.fullmatch(r"\s*[0-9]{1,9}\s*", name) else None


def _both(values: Sequence[str], class_names: Sequence[str], name: str, model: str) -> str:
    classes = f"{len(class_names)} classes ({_listed(class_names)})"
    return f"{model}: its {classes} are not the {len(values)} values of {name!r} ({_listed(values)})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
