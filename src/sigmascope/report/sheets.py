"""Rows as CSV that a spreadsheet reads as text and numbers, whatever the names in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

_FORMULA = "=+-@\t\r\n＝＋－＠"  # what a spreadsheet takes for the beginning of a formula, or skips before one


class Sheet:
    """Rows of CSV, in which no name from the data is a formula.

    A cell of text that a spreadsheet would compute gets an apostrophe before it, which a spreadsheet does not show;
    numbers, negative ones too, stay numbers.
    """

    def __init__(self) -> None:
        self._out = io.StringIO()
        self._writer = csv.writer(self._out, lineterminator="\n")

    def writerow(self, cells: Iterable[object]) -> None:
        """Add a row."""
        self._writer.writerow([guarded(c) for c in cells])

    def getvalue(self) -> str:
        """The text of all rows."""
        return self._out.getvalue()


def guarded(cell: object) -> object:
    """A cell that is no formula: text that looks like one gets an apostrophe before it."""
    if not isinstance(cell, str) or not cell.lstrip(" ")[:1] or cell.lstrip(" ")[0] not in _FORMULA:
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
