"""The information of two arrays as a figure, a page, CSV and JSON."""

from __future__ import annotations

import json
import math
from html import escape

from matplotlib.figure import Figure

from sigmascope.mutual.results import MutualInformation
from sigmascope.report.figures import label_of, sigma_axis, style_of, styled, tiled
from sigmascope.report.gallery import rendered
from sigmascope.report.page import document, for_page
from sigmascope.report.section import figure, table
from sigmascope.report.sheets import Sheet


def mutual_csv(result: MutualInformation) -> str:
    """The value, what it is made of, and the lower bound: one row each, in nats."""
    sheet = Sheet()
    sheet.writerow(["quantity", "nats", "low", "high"])
    for name, *numbers in _rows(result):
        sheet.writerow([name, *(f"{x:.6f}" if math.isfinite(x) else "" for x in numbers)])
    return sheet.getvalue()


def mutual_json(result: MutualInformation, x: str, y: str, given: str) -> str:
    """Everything, the rates at each level included.

    Args:
        result: of the measurement.
        x: name of the first array.
        y: name of the second.
        given: name of the third; empty: none.
    """
    record = {"unit": "nats", "x": x, "y": y, "given": given or None} | result.record()
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@styled
def mutual_figure(result: MutualInformation, x: str, y: str) -> Figure:
    """The rate of information at each noise level by both gaps, with noise on each array."""
    fig, axes = tiled(len(result.ways), 2.9, 0.5, columns=2, sharey=True)
    for ax, way in zip(axes, result.ways, strict=True):
        for index, (label, dash) in enumerate((("score gap", "-"), ("gap of squared errors", "--"))):
            ax.plot(way.sigma, way.rate[index], dash, color=style_of(index)[0], linewidth=1.6, label=label)
        sigma_axis(ax, float(way.sigma[0]), float(way.sigma[-1]), decibels=False, ticks=6)
        ax.axhline(0.0, color="0.45", linewidth=0.8)
        ax.set_title(f"noise on {label_of({'x': x, 'y': y}[way.noised])}", fontsize=9.5, loc="left")
    axes[0].set_ylabel("−dI / d ln σ, nats")
    axes[0].legend(frameon=False, fontsize=8.5)
    return fig


def mutual_page(result: MutualInformation, names: tuple[str, str, str]) -> str:
    """A page with the value, the verdict, the table and the figure.

    Args:
        result: of the measurement.
        names: of the arrays x, y and given; text that is escaped.
    """
    x, y, given = (escape(n) for n in names)
    title = f"I({names[0]}; {names[1]}{' | ' + names[2] if given else ''})"
    parts = [
        f"<h1>Mutual information of {x} and {y}{' given ' + given if given else ''}</h1>",
        f"<p><strong>{result.value:.3f} nats</strong>, interval {result.low:.3f} to {result.high:.3f}. "
        f"{escape(result.verdict)}</p>",
    ]
    if result.ways:
        parts.append(
            "<p>Noise of standard deviation σ is added to one array, and networks remove it with and without the other "
            "array. The area between their squared errors, over σ², is the information. The score gap measures the "
            "same from the distance of both estimates. Where the curves differ, the networks have not learned the "
            "conditional means; the value may then be biased, mostly downward. All curves are of samples that the "
            "networks have not seen.</p>"
        )
        picture = for_page(rendered(mutual_figure(result, names[0], names[1]), "svg"))
        parts.append(figure(picture, "rate of information by noise level", "Rate of information at each σ."))
    else:
        parts.append("<p>All columns are classes: the value is that of their counts, corrected for their number.</p>")
    rows = [[n, *(f"{v:.3f}" if math.isfinite(v) else "–" for v in values)] for n, *values in _rows(result)]
    parts.append(table(["quantity", "nats", "low", "high"], rows))
    parts.append(f"<p>{result.samples:,} samples; {result.seconds:.0f} s.</p>")
    return document(title, parts)


def _rows(result: MutualInformation) -> list[tuple[str, float, float, float]]:
    rows = [("information", result.value, result.low, result.high)]
    bound, half = result.lower_bound, 1.96 * result.lower_bound_stderr
    if math.isfinite(bound):
        rows.append(("lower bound", bound, bound - half, bound + half))
    if math.isfinite(result.linear):
        rows.append(("linear part", result.linear, math.nan, math.nan))
    for way in result.ways:
        for name in ("score", "mmse", "mean"):
            words = {"score": "score gap", "mmse": "gap of squared errors", "mean": "mean of both"}[name]
            rows.append((f"{words}, noise on {way.noised}", getattr(way, name), math.nan, math.nan))
    return rows
