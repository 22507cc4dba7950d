"""Docstrings as the package writes them, turned into reStructuredText before napoleon reads them.

``Returns: text`` on one line, with its continuation indented, becomes a field.  The star of a shape such as
``(rows, *event)`` is escaped, so that it does not begin an emphasis, and so is the bar of ``p(a | y)``.  The text of an
option ends with the default that the help shows for it, where an empty value stands for that.  Types are shown without
the marks that the command line reads off them.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Annotated, Any, get_origin, get_type_hints

import sphinx.util.typing

_FIELD = re.compile(r"(Returns|Yields|Raises|Warns|References|Cost|Errors|Valid(?: when)?): (\S.*)")
_BAR = re.compile(r"(?<!^)(?<!\\)\|")
_IS_FIELD = re.compile(r":[^:`]+:(?:\s|$)")
_STAR = re.compile(r"(?<![\w*`\\])\*(?=\w[\w.]*(?!\w*\*))")


def fielded(lines: list[str]) -> list[str]:
    """The lines with each one-line section as a field of its own."""
    done: list[str] = []
    for line in lines:
        section = _FIELD.fullmatch(line)
        if section:
            if done and done[-1].strip() and not _within_field(done):
                done.append("")
            line = f":{section[1]}: {section[2]}"
        elif line and not line.startswith(" ") and done and _within_field(done):
            done.append("")
        done.append(line)
    return done


def _within_field(done: list[str]) -> bool:
    """Whether the last line belongs to a field."""
    for line in reversed(done):
        if not line.startswith(" "):
            return bool(_IS_FIELD.match(line))
    return False


def escaped(line: str) -> str:
    """The line with the stars of shapes and upright bars escaped, outside of literals and formulas."""
    parts = re.split(r"(:\w+:`[^`]*`|``.+?``)", line)
    return "".join(part if k % 2 else _BAR.sub(r"\|", _STAR.sub(r"\\*", part)) for k, part in enumerate(parts))


def default_of(name: str) -> str:
    """A sentence on the default of an option, by its full name; empty for what is no option with such a text."""
    module, of, option = name.rsplit(".", 2)
    options = getattr(import_module(module), of)
    value = getattr(options, option, None)
    marks = getattr(get_type_hints(options, include_extras=True).get(option), "__metadata__", ())
    hints = [getattr(mark, "help_behavior_hint", None) for mark in marks]
    shown = next((h for h in hints if isinstance(h, str) and h.startswith("(default: ")), "")
    return f"``{value!r}`` stands for the default: {shown[10:-1]}." if shown and not value else ""


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what == "attribute" and (sentence := default_of(name)):
        lines += ["", sentence]
    literal = False
    for k, line in enumerate(lines):
        literal = (literal and (not line.strip() or line.startswith(" "))) or line.startswith((">>>", ".. math"))
        if not literal:
            lines[k] = escaped(line)
    lines[:] = fielded(lines)
    if what in _VALUES:
        _processed[name] = list(lines)


_VALUES = ("attribute", "data", "property")
_processed: dict[str, list[str]] = {}


def _restore(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Undo what napoleon does to a value: it takes the words before the first colon for a type."""
    lines[:] = _processed.pop(name, lines)


def without_marks(function: Any) -> Any:
    """The function by which sphinx writes types, with T for Annotated[T, ...]."""

    def written(annotation: Any, /, *args: Any, **options: Any) -> Any:
        plain = annotation.__origin__ if get_origin(annotation) is Annotated else annotation
        return function(plain, *args, **options)

    return written


def setup(app: Any) -> dict[str, bool]:
    """Run before napoleon, and after it."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-docstring", _restore, priority=600)
    original = sphinx.util.typing.stringify_annotation
    shown = without_marks(original)
    for module in [m for n, m in sorted(sys.modules.items()) if n.startswith("sphinx.")]:
        if vars(module).get("stringify_annotation") is original:
            vars(module)["stringify_annotation"] = shown
    return {"parallel_read_safe": True, "parallel_write_safe": True}
