"""Numbers in words, and the table of onsets as CSV and as text for a terminal."""

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
    """Three significant digits without an exponent; ∞ for a level above all of those studied."""
    if math.isinf(x):
        return "∞"
    return f"{x:.{_decimals(x, 3)}f}"


def _decimals(x: float, digits: int) -> int:
    """Decimal places that show so many significant digits of a number."""
    return max(0, digits - 1 - math.floor(math.log10(abs(x)))) if x else 0


def plus_minus(value: float, half: float) -> str:
    """``0.123 ± 0.016``: a value and half of its interval, both rounded as the latter allows (one or two digits)."""
    if not (math.isfinite(half) and half > 0.0):
        return f"{value:.3g}".replace("-", "−")
    leading = half / 10 ** math.floor(math.log10(half))
    places = _decimals(half, 2 if leading < 3.95 else 1)
    return f"{round(value, places) + 0.0:.{places}f} ± {half:.{places}f}".replace("-", "−")


def onset_csv(table: Sequence[Onset], doubts: Mapping[str, str] | None = None) -> str:
    """The table of onsets as CSV.

    Columns: order, attribute, ceiling (nats), sigma at 10, 50, 90 % and at the peak rate, each with its 95 % interval,
    peak rate (nats per unit of ln sigma), probability that the order to the next row holds, state, and the verdict on a
    curve that is marked as biased.  The cells of levels that are not reached and of other verdicts are empty.

    Args:
        table: onsets, in order.
        doubts: the verdict on each attribute whose curve is marked as biased.
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
    """The values of each attribute in order, as CSV.

    Columns: attribute, order within it, value, ceiling -ln p(value) (nats), sigma where half of it is known with its
    95 % interval, probability that the order to the next row holds.  The cell of a level that is not reached is empty.
    """
    writer = Sheet()
    writer.writerow(
        ["attribute", "order", "value", "ceiling", "sigma_50", "sigma_50_low", "sigma_50_high", "before_next"]
    )
    attribute, half = results.value_attribute.values, results.value_half.values
    columns = [results[f"value_{k}"].values for k in ("half", "half_low", "half_high", "before_next")]
    for name in dict.fromkeys(attribute):
        rows = np.flatnonzero(attribute == name)
        for order, k in enumerate(rows[np.argsort(-half[rows], kind="stable")], 1):
            ceiling = f"{float(results.value_ceiling[k]):.6f}"
            writer.writerow([name, order, results.value.values[k], ceiling, *(_cell(float(x[k])) for x in columns)])
    return writer.getvalue()


def chain_csv(results: xr.Dataset) -> str:
    """What each attribute of a chain adds to those before it, as CSV, one row for each link and noise level.

    Columns: link, sigma, information with its standard error, entropy added (the most that it can be), nats for each
    unit of ln sigma with their standard error (empty with two levels).
    """
    writer = Sheet()
    writer.writerow(["link", "sigma", "information", "stderr", "ceiling", "density", "density_stderr"])
    for i, link in enumerate(results.link.values):
        for j, sigma in enumerate(results.sigma.values):
            cells = [results[f"link_{k}"].values[i, j] for k in ("information", "stderr")]
            slope = [results[k].values[i, j] for k in ("link_density", "link_density_stderr") if k in results]
            numbers = [*cells, results.link_ceiling.values[i], *slope, *[math.nan] * (2 - len(slope))]
            writer.writerow([link, f"{sigma:.6g}", *("" if math.isnan(x) else f"{x:.6f}" for x in numbers)])
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
        places = min(_decimals(q.value, 3), _decimals(max((q.high - q.low) / 2, 1e-12), 2))
        # A level is never rounded to 0.
        value, *ends = (f"{x:.{max(places, _decimals(x, 1))}f}" for x in (q.value, q.low, q.high))
        return f"{value} ({' to '.join(ends)})"
    if low or high:
        return f"{number(q.value)} ({f'at least {number(q.low)}' if low else f'at most {number(q.high)}'})"
    return f"{number(q.value)} (its interval is wider than the levels of the study)"


def cells(row: Onset) -> list[str]:
    """10, 50, 90 % and the peak of one row in words."""
    return [describe(q) for q in (*row.at, row.peak)]


def probability(row: Onset) -> str:
    """The probability of the order to the next row, in as many digits as 2,000 resamples give."""
    p = row.before_next
    return "" if math.isnan(p) else "> 0.999" if p > 0.999 else f"{p:.2f}" if 0.01 < p < 0.99 else f"{p:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for a terminal, the first of them its head."""
    rows = [[spelled(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return [lines[0], "─" * max(map(len, lines)), *lines[1:]]


def onset_text(table: Sequence[Onset], doubts: Mapping[str, str] | None = None) -> str:
    """The table for a terminal, in order of emergence, and below it the curves that are marked as biased."""
    head = ["attribute", "σ at 10 % (95 % interval)", "σ at 50 %", "σ at 90 %", "σ of peak rate", "P(before next)"]
    lines = aligned([head, *([row.attribute, *cells(row), probability(row)] for row in table)])
    return "\n".join([*lines, *(f"{spelled(n)} is marked: {spelled(w)}" for n, w in (doubts or {}).items())])
