"""Standard output and standard error as they may be: closed, full, gone, or without Greek letters.

Conventions, those of Python and of the shell: what is printed to a stream that was closed at the start (``>&-``) is not
printed, and the status is that of the work; a reader that leaves early (``| head -1``) ends the command with 141, as
SIGPIPE would (128 + 13), and without a word; a standard output that takes no more, on a full disk say, is an error of
one line.  Results are written before anything is printed, so none of these costs them.  Messages and progress on
standard error are best effort: what cannot be written there is dropped.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

BROKEN_PIPE = 141
"""Status of a command whose reader has left."""
_WORDS = "sigmascope.words"
_ASCII = {
    **{"σ": "sigma", "Σ": "Sum", "Δ": "Delta", "π": "pi", "²": "^2", "³": "^3", "½": "1/2", "⁻": "^-", "√": "sqrt "},
    **{"−": "-", "–": "-", "—": "-", "─": "-", "━": "-", "…": "...", "→": "->", "←": "<-", "·": ".", "×": "x"},
    **{"±": "+/-", "≥": ">=", "≤": "<=", "≈": "~", "∞": "inf", "│": "|", "┃": "|", "“": '"', "”": '"', "’": "'"},
    **{"‘": "'", "„": '"', "°": " deg"},
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+"),
}


def _in_words(error: UnicodeError) -> tuple[str | bytes, int]:
    """What an encoding cannot say, in ASCII: Greek letters by name, signs by likeness, the rest escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    said = []
    for c in error.object[error.start : error.end]:
        greek = unicodedata.name(c, "").split(" LETTER ")
        if c in _ASCII:
            said.append(_ASCII[c])
        elif greek[0].startswith("GREEK") and len(greek) == 2:
            said.append(greek[1].split()[0].lower())
        else:
            said.append(c.encode("ascii", "backslashreplace").decode())
    return "".join(said), error.end


codecs.register_error(_WORDS, _in_words)


def spelled(text: str) -> str:
    """A text as standard output can print it, for tables whose columns are to stay aligned."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, _WORDS).decode(encoding)
    except LookupError:
        return text


class _BestEffort:
    """A stream whose write errors are dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Standard streams that nothing which is printed can break, for the time of a command."""
    for descriptor in (0, 1, 2):  # else the next file that is opened takes its place, and gets what is printed
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_WORDS)
    with contextlib.redirect_stderr(_BestEffort(sys.stderr)):
        yield


def silence() -> None:
    """Let what is still to be printed go nowhere, so that the end of the process does not stumble over it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
