"""Standard output and standard error, which may be closed, full, gone, or without Greek letters; and progress bars.

The conventions are those of Python and of the shell.  A stream that was closed at the start (``>&-``) prints nothing,
and the status is that of the command.  A reader that leaves early (``| head -1``) ends the command silently with 141,
as SIGPIPE would (128 + 13).  A standard output that takes no more, for example on a full disk, is an error of one line.
Results are written before anything is printed, so none of these loses them.  Messages and progress on standard error
that cannot be written are dropped.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from tqdm import tqdm

__all__ = ["BROKEN_PIPE", "Bar", "prepared", "progress_bar", "silence", "spelled"]

if TYPE_CHECKING:
    Bar: TypeAlias = tqdm[Any]
else:  # tqdm of the lowest version takes no type
    Bar = tqdm
BROKEN_PIPE = 141
"""Exit status of a command whose output nobody reads any more."""
_WORDS = "sigmascope.words"
_ASCII = {
    **{"σ": "sigma", "Σ": "Sum", "Δ": "Delta", "π": "pi", "²": "^2", "³": "^3", "½": "1/2", "⁻": "^-", "√": "sqrt "},
    **{"−": "-", "–": "-", "—": "-", "─": "-", "━": "-", "…": "...", "→": "->", "←": "<-", "·": ".", "×": "x"},
    **{"±": "+/-", "≥": ">=", "≤": "<=", "≈": "~", "∞": "inf", "│": "|", "┃": "|", "“": '"', "”": '"', "’": "'"},
    **{"‘": "'", "„": '"', "°": " deg"},
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+"),
}


def _in_words(error: UnicodeError) -> tuple[str | bytes, int]:
    """In ASCII what an encoding does not have: Greek letters by name, signs by similar ones, the rest escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = []
    for c in error.object[error.start : error.end]:
        greek = unicodedata.name(c, "").split(" LETTER ")
        if c in _ASCII:
            parts.append(_ASCII[c])
        elif greek[0].startswith("GREEK") and len(greek) == 2:
            parts.append(greek[1].split()[0].lower())
        else:
            parts.append(c.encode("ascii", "backslashreplace").decode())
    return "".join(parts), error.end


codecs.register_error(_WORDS, _in_words)


def spelled(text: str) -> str:
    """A text as standard output can print it; for the cells of tables, whose columns must stay aligned."""
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
    """Make the standard streams safe for the time of a command: nothing that is printed can break it."""
    for descriptor in (0, 1, 2):  # else the next file to be opened takes its number, and receives what is printed
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


def progress_bar(
    words: str, total: int, unit: str, *, initial: int = 0, disable: bool | None = False, leave: bool = True
) -> Bar:
    """A bar on standard error: ``scenes:  12 %|██      | 27 of 235 steps [00:12, 01:30 left]``.

    Args:
        words: what is being done.
        total: how many units there are; the caller may set ``bar.total`` where more turn out to be needed.
        unit: the name of a unit, in the plural.
        initial: how many are done already.
        disable: True: show nothing; None: show it on a terminal only.
        leave: keep the bar on the screen at the end.
    """
    form = "{desc}: {percentage:3.0f} %|{bar}| {n_fmt} of {total_fmt} {unit} [{elapsed}, {remaining} left{postfix}]"
    return tqdm(
        desc=words, total=total, unit=unit, initial=initial, disable=disable, leave=leave, file=sys.stderr,
        bar_format=form,
    )  # fmt: skip


def silence() -> None:
    """Discard what is still to be printed, so that the process can end without an error."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
