"""What commands share.  Imports nothing heavy."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from sigmascope.arguments import arg
from sigmascope.errors import InputError

T = TypeVar("T")
Folder = Annotated[str, arg("FOLDER", "(required)")]
"""Of results."""


def folder(out: str) -> Path:
    """The folder for the results.

    Raises: InputError where none is named.
    """
    if not out:
        raise InputError("no folder for the results was named: pass --out FOLDER")
    return Path(out)


def options_of(kind: type[T], command: Any) -> T:
    """What a command was options_of, without what is the command's own.

    Args:
        kind: a dataclass that the command's own class extends.
        command: what was parsed.
    """
    return kind(**{f.name: getattr(command, f.name) for f in fields(kind)})  # type: ignore[arg-type]


def write_whole(out: Path, text: str) -> None:
    """Write a file so that it is whole, or not there."""
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def finish(words: str, finished: bool, out: Path, picture: str) -> int:
    """Say what was made, or that nothing was left to do; the exit status."""
    if finished:
        print(f"{out}: this is finished; nothing was done", file=sys.stderr)
        return 0
    print(words)
    print(f"\nSee {out / picture}", file=sys.stderr)
    return 0
