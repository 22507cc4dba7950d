"""Checks of files and folders before they are opened, and text that messages can show."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sigmascope.core import InputError
from sigmascope.data.memory import require

_SYSTEM = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
_CACHE_DEPTH = 3  # folders from the data up to the one that holds ``blobs`` in a cache of the Hugging Face hub
_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)  # fmt: skip


def is_system_file(name: str) -> bool:
    """Whether a name is hidden, or of a file or folder that operating systems leave beside the user's own."""
    return name.startswith(".") or name.lower() in _SYSTEM


def require_file(path: Path, shown: str = "") -> None:
    """Refuse what is no regular file or link to one: reading a pipe or a device may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise InputError(f"{shown or path}: it cannot be read ({error_words(error)}): correct its name") from error
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in _KINDS if test(mode)), "no file")
        raise InputError(f"{shown or path}: it is {kind}: expected a plain file; remove it, or name another")


def require_inside(path: Path, home: Path, root: Path, shown: str) -> None:
    """Refuse a link out of ``home``: through it, whoever made the data could show any file of this machine.

    Links into a folder ``blobs`` beside the data's folder ``root``, or up to three folders above it, are followed: a
    cache of the Hugging Face hub keeps its files there.
    """
    try:
        real = path.resolve(strict=True)
    except RuntimeError as error:  # of older versions of Python
        raise InputError(f"{shown}: it cannot be read (it is a loop of links): remove or replace it") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{shown}: it cannot be read ({error_words(error)}): remove or replace it") from error
    blobs = (above / "blobs" for above in list(root.parents)[:_CACHE_DEPTH])
    if not real.is_relative_to(home) and not any(real.is_relative_to(b) for b in blobs):
        raise InputError(f"{shown}: it is a link out of the folder: put the file itself there")


def read_text(path: Path) -> str:
    """The text of a regular file in UTF-8, with or without a byte-order mark."""
    require_file(path)
    require(4 * path.stat().st_size, f"{path.name} in memory", "use a machine with more, or a smaller table")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: it cannot be read (it is not UTF-8): save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({error_words(error)}): correct it") from error


def printable(name: str) -> str:
    """Text with escapes in place of characters that cannot be printed on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def error_words(error: BaseException) -> str:
    """The first line of the message of an exception, or its class where it has no message."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(message.splitlines()[0]) if message.strip() else type(error).__name__


def require_text(text: str, meaning: str) -> None:
    """Refuse text that no file of results can hold: with a NUL or half of a surrogate pair."""
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError(f"{meaning} is {text!a}, which holds a character that is no text: rename it")
