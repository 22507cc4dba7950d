"""The table of onsets: as CSV, and as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from sigmascope.analysis.onset import Onset, Quantity
from sigmascope.console import spelled
from sigmascope.report.sheets import Sheet

_COLUMNS = ("sigma_10", "sigma_50", "sigma_90", "sigma_peak")


def number(x: float) -> str:
    """Three significant digits without an exponent; a level above all of those studied is infinite."""
    if math.isinf(x):
        return "∞"
    digits = max(0, 2 - math.floor(math.log10(abs(x)))) if x else 0
    return f"{x:.{digits}f}"


def onset_csv(table: Sequence[Onset], doubts: Mapping[str, str] | None = None) -> str:
    """Columns: order, attribute, ceiling (nats), sigma at 10, 50, 90 % and at the peak rate, each with its 95 %
    interval, peak rate (nats per unit of ln sigma), probability that the order to the next row holds, state, and why
    the curve is marked as biased.

    A level that is not reached is an empty cell; so is the mark of a curve that is not biased.

    Args:
        table: onsets, in order.
        doubts: of attributes whose curves are marked as biased, the verdict.
    """
    doubts = doubts or {}
    writer = Sheet()
    head = ["order", "attribute", "ceiling"]
    for name in _COLUMNS:
        head += [name, f"{name}_low", f"{name}_high"]
    writer.writerow([*head, "peak_rate", "before_next", "state", "biased"])
    for i, row in enumerate(table, 1):
        cells: list[object] = [i, row.attribute, f"{row.ceiling:.6f}"]
        for q in (*row.at, row.peak):
            cells += [_cell(q.value), _cell(q.low), _cell(q.high)]
        mark = doubts.get(row.attribute, "")
        writer.writerow([*cells, f"{row.peak_rate:.6g}", _cell(row.before_next), row.state, mark])
    return writer.getvalue()


def values_csv(results: xr.Dataset) -> str:
    """Columns: attribute, order within it, value, ceiling -ln p(value) (nats), sigma where half of it is known with
    its 95 % interval, probability that the order to the next row holds.

    A level that is not reached is an empty cell.
    """
    writer = Sheet()
    writer.writerow(
        ["attribute", "order", "value", "ceiling", "sigma_50", "sigma_50_low", "sigma_50_high", "before_next"]
    )
    whose, half = results.value_attribute.values, results.value_half.values
    ends = [results[f"value_half{end}"].values for end in ("", "_low", "_high")]
    for name in dict.fromkeys(whose):
        mine = np.flatnonzero(whose == name)
        for order, k in enumerate(mine[np.argsort(-half[mine], kind="stable")], 1):
            cells = [_cell(float(x[k])) for x in (*ends, results.value_before_next.values)]
            ceiling = f"{float(results.value_ceiling[k]):.6f}"
            writer.writerow([name, order, results.value.values[k], ceiling, *cells])
    return writer.getvalue()


def _cell(x: float) -> str:
    return f"{x:.6g}" if 0.0 < x < math.inf else ""


def describe(q: Quantity) -> str:
    """:func:`brief`, or that the level is not reached."""
    if math.isnan(q.value):
        return "–"
    if not q.reached:
        return "not reached" if q.value == 0.0 else "above the levels"
    return brief(q)


def brief(q: Quantity) -> str:
    """``0.62 (0.58 to 0.66)`` of a level that is reached; an end of the interval outside the levels is left out."""
    low, high = q.low > 0.0, q.high < math.inf
    if low and high:
        return f"{number(q.value)} ({number(q.low)} to {number(q.high)})"
    if low or high:
        return f"{number(q.value)} ({f'at least {number(q.low)}' if low else f'at most {number(q.high)}'})"
    return f"{number(q.value)} (its interval is wider than the levels of the study)"


def cells(row: Onset) -> list[str]:
    """10, 50, 90 % and the peak of one row in words."""
    return [describe(q) for q in (*row.at, row.peak)]


def probability(row: Onset) -> str:
    """The probability of the order to the next row; more digits are not to be had from 2,000 resamples."""
    p = row.before_next
    return "" if math.isnan(p) else "> 0.999" if p > 0.999 else f"{p:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for a terminal, the first of them its head."""
    rows = [[spelled(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return [lines[0], "─" * max(map(len, lines)), *lines[1:]]


def onset_text(table: Sequence[Onset], doubts: Mapping[str, str] | None = None) -> str:
    """The table for a terminal, in order of emergence, and below it which curves are marked as biased."""
    head = ["attribute", "σ at 10 % (95 % interval)", "σ at 50 %", "σ at 90 %", "σ of peak rate", "P(before next)"]
    lines = aligned([head, *([row.attribute, *cells(row), probability(row)] for row in table)])
    return "\n".join([*lines, *(f"{spelled(n)} is marked: {spelled(w)}" for n, w in (doubts or {}).items())])
