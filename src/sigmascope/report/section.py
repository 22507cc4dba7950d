"""What a section of a page is, and the pieces of HTML that sections are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from sigmascope.analysis.onset import Onset
from sigmascope.report.findings import Findings
from sigmascope.report.table import cells, probability

Pictures = Mapping[str, str]
"""Figures of a page by the names of their files: SVG in base 64."""


def _no_figures(found: Findings) -> dict[str, Figure]:
    return {}


@dataclass(frozen=True)
class Section:
    """A part of the page of a study.

    Args:
        name: of the section; no other has it.
        applies: whether the findings hold what it shows.
        html: its parts, given the figures of the page.
        figures: that it shows, by the names of their files.
    """

    name: str
    applies: Callable[[Findings], bool]
    html: Callable[[Pictures, Findings], list[str]]
    figures: Callable[[Findings], dict[str, Figure]] = _no_figures


def always(found: Findings) -> bool:
    """A section that every page has."""
    return True


def figure(svg: str, alt: str, caption: str) -> str:
    """A figure of the page, with its caption in HTML."""
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{svg}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def table(head: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of text whose first column names the rows; it is escaped."""
    lines = ["".join(f'<th scope="col">{escape(h)}</th>' for h in head)]
    for first, *rest in rows:
        name = f'<th scope="row">{escape(str(first))}</th>'
        lines.append(name + "".join(f"<td>{escape(str(cell))}</td>" for cell in rest))
    return f'<div class="scroll"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def onset_table(onsets: Sequence[Onset]) -> str:
    """The onsets as a table of HTML."""
    head = ("attribute", "σ at 10 %", "σ at 50 %", "σ at 90 %", "σ of peak rate", "P(before next)")
    return table(head, [(row.abstraction, *cells(row), probability(row)) for row in onsets])
