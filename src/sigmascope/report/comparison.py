"""Two studies beside each other: each attribute as a table, CSV, JSON, sentences and a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sigmascope.analysis.comparison import Comparison, Estimate
from sigmascope.analysis.onset import Quantity
from sigmascope.report.figures import (
    GENERATION,
    NARROW,
    WIDE,
    ceiling_line,
    curve_band,
    label_of,
    short,
    span_of,
    style_of,
    styled,
    titled,
)
from sigmascope.report.sheets import Sheet
from sigmascope.report.table import aligned, describe, number

_DRAWN = 18  # attributes of a figure
_LOOKS = (style_of(0)[0], "-"), (style_of(1)[0], "--")  # of A and of B


def words(c: Comparison) -> str:
    """One sentence: which study decides the attribute earlier, and at which noise levels."""
    one, two = (describe(q) for q in c.half)
    name, ratio = c.attribute, _ratio(c.shift)
    if not any(q.reached for q in c.half) and c.half[0].value == c.half[1].value:
        where = "at levels above those that both have" if c.half[0].value > 0 else "within the levels that both have"
        return f"{name}: {'both reach half' if c.half[0].value > 0 else 'neither reaches half'} {where}"
    tail = f"; ratio of levels A/B {ratio}" if ratio else ""
    places = f"half at σ {one} in A, {two} in B"
    if any(c.doubts):
        marks = "; ".join(f"{k} is {why}" for k, why in zip("AB", c.doubts, strict=True) if why)
        return f"{name}: no order is shown, since a curve is marked ({marks}): {places}{tail}"
    if c.mixed:
        bounded = "A" if c.a.kind == "lower bound" else "B"
        why = f"{bounded} is a lower bound, and the truth may be reached earlier"
        return f"{name}: no order is shown, since {why}: {places}{tail}"
    if c.earlier:
        first, second = (one, two) if c.earlier == "A" else (two, one)
        decides = f"{c.earlier} decides {name} earlier"
        if c.kind == "lower bound":
            decides = f"{c.earlier} is shown to decide {name} earlier, by lower bounds of both"
        return f"{decides}: half at σ {first} against {second}{tail}"
    return f"{name}: no difference shown: half at σ {one} in A, {two} in B{tail}"


def notes(rows: Sequence[Comparison]) -> list[str]:
    """What a reader of the table must know: how errors were joined, the kind of the curves, the levels."""
    lines = []
    paired = [c.attribute for c in rows if c.paired]
    if len(paired) == len(rows):
        same = all(c.same_data for c in rows)
        shared = "the same draws (items and seed) in both" if same else "the same items and seed, of data that differ"
        lines.append(f"Paired: {shared}; intervals are of differences draw by draw.")
    else:
        unpaired = ", ".join(c.attribute for c in rows if not c.paired)
        names = "" if not paired else f" ({unpaired})"
        lines.append(f"Not paired{names}: the draws differ; errors are added as of independent studies.")
    if any(c.interpolated for c in rows):
        high, low = rows[0].sigma[0], rows[0].sigma[-1]
        lines.append(f"The levels differ: compared from σ {number(high)} to {number(low)}, interpolated in ln σ.")
    bounds = [c.attribute for c in rows if "lower bound" in c.kind]
    if bounds:
        lines.append(
            f"Lower bounds ({', '.join(bounds)}): the information is at least this much; "
            "their difference bounds nothing."
        )
    if any("estimate" in c.kind for c in rows):
        biased = ", ".join(c.attribute for c in rows if "estimate" in c.kind)
        lines.append(f"Estimates ({biased}): errors of a model are not in the intervals.")
    for c in rows:
        if abs(c.a.ceiling - c.b.ceiling) > 1e-6 * max(c.a.ceiling, c.b.ceiling):
            lines.append(
                f"H({c.attribute}) is {c.a.ceiling:.3f} nats in A, {c.b.ceiling:.3f} in B: each half is of its own H."
            )
    lines.append("Each 95 % interval holds by itself.")
    return lines


def comparison_text(rows: Sequence[Comparison]) -> str:
    """The table for a terminal, and the sentences."""
    head = ["attribute", "estimator", "σ at half, A (95 %)", "σ at half, B", "ratio A/B", "P(A earlier)"]
    table = [[*head, "largest I(A) − I(B), nats"]]
    for c in rows:
        largest, where = c.largest
        gap = f"{_signed(largest.value)} ({_signed(largest.low)} to {_signed(largest.high)}) at σ {number(where)}"
        cells = [c.attribute, c.estimator, *(describe(q) for q in c.half), _ratio(c.shift) or "–"]
        table.append([*cells, _probability(c.a_earlier), gap])
    return "\n".join([*aligned(table), "", *(words(c) for c in rows), "", *notes(rows)])


_CSV_HEAD = ("attribute", "estimator", "kind", "paired", "ceiling_a", "ceiling_b", "sigma_50_a", "sigma_50_a_low",
             "sigma_50_a_high", "sigma_50_b", "sigma_50_b_low", "sigma_50_b_high", "shift", "shift_low", "shift_high",
             "a_earlier", "earlier", "largest_difference", "largest_difference_low", "largest_difference_high",
             "largest_difference_sigma")  # fmt: skip


def comparison_csv(rows: Sequence[Comparison]) -> str:
    """One row for each attribute; shift is ln sigma at half of A less that of B, differences are in nats.

    What is not reached is an empty cell.
    """
    writer = Sheet()
    writer.writerow(_CSV_HEAD)
    for c in rows:
        largest, where = c.largest
        halves = [x if 0.0 < x < math.inf else math.nan for q in c.half for x in (q.value, q.low, q.high)]
        numbers = [*halves, c.shift.value, c.shift.low, c.shift.high, c.a_earlier]
        cells = [f"{x:.6g}" if math.isfinite(x) else "" for x in numbers]
        gap = [f"{x:.6g}" for x in (largest.value, largest.low, largest.high, where)]
        first = [c.attribute, c.estimator, c.kind, str(c.paired).lower()]
        writer.writerow([*first, f"{c.a.ceiling:.6f}", f"{c.b.ceiling:.6f}", *cells, c.earlier, *gap])
    return writer.getvalue()


def comparison_json(comparisons: Sequence[Comparison], studies: Mapping[str, Mapping[str, Any]]) -> str:
    """Everything, curves and differences at every level included; null where there is no number.

    Args:
        comparisons: one for each attribute.
        studies: under ``A`` and ``B``, what each study was of.
    """
    rows = []
    for c in comparisons:
        states = ["reached" if q.reached else "beyond" if q.value > 0 else "not reached" for q in c.half]
        rows.append(
            {
                "attribute": c.attribute,
                "estimator": c.estimator,
                "kind": c.kind,
                "paired": c.paired,
                "interpolated": c.interpolated,
                "half": {k: _quantity(q) | {"state": s} for k, q, s in zip("AB", c.half, states, strict=True)},
                "shift": _numbers({"value": c.shift.value, "low": c.shift.low, "high": c.shift.high}),
                "a_earlier": _number(c.a_earlier),
                "earlier": c.earlier,
                "biased": dict(zip("AB", c.doubts, strict=True)),
                "words": words(c),
                "sigma": c.sigma.tolist(),
                "difference": {"value": c.difference.tolist(), "low": c.low.tolist(), "high": c.high.tolist()},
                "curves": {
                    k: {"sigma": x.sigma.tolist(), "information": x.value.tolist(), "stderr": x.stderr.tolist(),
                        "ceiling": x.ceiling}
                    for k, x in (("A", c.a), ("B", c.b))
                },
            }
        )  # fmt: skip
    table = {"units": "nats", "studies": studies, "notes": notes(comparisons), "attributes": rows}
    return json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@styled
def comparison_figure(comparisons: Sequence[Comparison], names: tuple[str, str]) -> Figure:
    """For each attribute the curves of both studies with 95 % bands, and below their difference with its own.

    Args:
        comparisons: one for each attribute.
        names: of A and B in the legend.
    """
    drawn = comparisons[:_DRAWN]
    columns = min(3, len(drawn))
    rows = -(-len(drawn) // columns)
    span = span_of([x for c in drawn for x in (c.a, c.b)])
    fig = Figure(figsize=(WIDE if columns > 1 else NARROW, 3.4 * rows + 1.0), layout="constrained")
    panels = fig.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.0, 1.0] * rows)
    for k in range(rows * columns):
        upper, lower = panels[2 * (k // columns), k % columns], panels[2 * (k // columns) + 1, k % columns]
        if k >= len(drawn):
            upper.set_axis_off()
            lower.set_axis_off()
            continue
        c = drawn[k]
        _curves(upper, c, names)
        _difference(lower, c)
        kind = {"exact": "", "lower bound": " (bounds)", "estimate": " (estimates)"}.get(c.kind, "")
        titled(upper, span, f"{short(c.attribute, 18)}{kind}")
        titled(lower, span, "")
        upper.set_xticklabels([])
        if k % columns == 0:
            upper.set_ylabel("information, nats", fontsize=8.5)
            lower.set_ylabel("A − B, nats", fontsize=8.5)
    _legend(fig, panels[0, 0], panels[1, 0], columns)
    more = "" if len(drawn) == len(comparisons) else f"; {len(comparisons) - len(drawn)} more in comparison.csv"
    fig.supxlabel(f"{GENERATION}{more}", fontsize=9)
    return fig


def _legend(fig: Figure, upper: Axes, lower: Axes, columns: int) -> None:
    """One legend above all panels: both studies, their difference, and the signs."""
    handles, labels = (a + b for a, b in zip(*(x.get_legend_handles_labels() for x in (upper, lower)), strict=True))
    signs: dict[str, dict[str, Any]] = {
        "dotted: entropy H": {"linestyle": (0, (1, 3))},
        "bar: σ at half of H, 95 %": {"linewidth": 6, "alpha": 0.6},
    }
    handles += [Line2D([], [], color="0.45", **look) for look in signs.values()]
    fig.legend(
        handles, [*labels, *signs], loc="outside upper center", ncols=min(columns, 2), frameon=False, fontsize=8.5
    )


def _curves(ax: Axes, c: Comparison, names: tuple[str, str]) -> None:
    """The curves of both, with the level of half information."""
    top = max(c.a.ceiling, c.b.ceiling)
    for (colour, dash), curve, half, letter, name in zip(_LOOKS, (c.a, c.b), c.half, "AB", names, strict=True):
        label = label_of(short(name if name.startswith(letter) else f"{letter}: {name}", 44))
        curve_band(ax, curve, colour, 0.2, linestyle=dash, linewidth=1.6, label=label)
        ceiling_line(ax, curve.ceiling)
        if half.reached:
            ends = np.clip([half.low, half.high], curve.sigma[-1], curve.sigma[0])
            ax.plot(ends, [curve.ceiling / 2] * 2, color=colour, linewidth=7, solid_capstyle="butt")
            ax.plot([half.value], [curve.ceiling / 2], "o", color="white", markersize=2.5)
    bottom = min(float((x.value - 1.96 * x.stderr).min()) for x in (c.a, c.b))
    highest = max(float(x.value.max()) for x in (c.a, c.b))  # a biased estimate may pass H
    ax.set_ylim(max(min(-0.05 * top, bottom), -0.6 * top), min(max(1.12 * top, 1.05 * highest), 2.5 * top))
    ratio = _ratio(c.shift)
    order = f"{c.earlier} earlier" if c.earlier else "no difference shown"
    text = f"{order}\nσ ratio A/B\n{ratio.replace(' (', chr(10) + '(')}" if ratio else order
    ax.text(0.98, 0.05, text, transform=ax.transAxes, fontsize=8, ha="right", va="bottom", color="0.2",
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1})  # fmt: skip


def _difference(ax: Axes, c: Comparison) -> None:
    """Their difference, with its 95 % band."""
    ax.fill_between(c.sigma, c.low, c.high, color="0.35", alpha=0.3, linewidth=0)
    ax.plot(c.sigma, c.difference, color="0.1", linewidth=1.3, label="A − B, with its 95 % band")
    ax.axhline(0.0, color="0.3", linewidth=0.8)
    ax.yaxis.set_major_locator(MaxNLocator(4, symmetric=False))
    ax.tick_params(axis="y", labelsize=8)


def _ratio(shift: Estimate) -> str:
    """The ratio of the two levels with its interval; nothing where one is not reached."""
    if math.isnan(shift.value):
        return ""
    low = number(math.exp(shift.low)) if math.isfinite(shift.low) else "any less"
    high = number(math.exp(shift.high)) if math.isfinite(shift.high) else "any more"
    return f"{number(math.exp(shift.value))} ({low} to {high})"


def _signed(x: float) -> str:
    return f"{x:+.3f}".replace("-", "−")


def _probability(p: float) -> str:
    """More digits are not to be had from 2,000 resamples."""
    return "–" if math.isnan(p) else "> 0.999" if p > 0.999 else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _numbers(table: Mapping[str, float]) -> dict[str, float | None]:
    return {k: _number(x) for k, x in table.items()}


def _quantity(q: Quantity) -> dict[str, Any]:
    ends = {"sigma": q.value, "low": q.low, "high": q.high}
    return {k: x if 0.0 < x < math.inf else None for k, x in ends.items()}
