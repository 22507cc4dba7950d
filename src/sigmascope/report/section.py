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


Applies = Callable[[Findings], bool]


@dataclass(frozen=True)
class Section:
    """A part of the page of a study.

    Args:
        name: of the section, its heading unless it has none; no other has it.
        html: its parts below the heading, given the figures of the page.
        figures: that it shows, by the names of their files.
        applies: whether the findings hold what it shows; every page has it, as a rule.
        headed: whether its name stands above it.
    """

    name: str
    html: Callable[[Pictures, Findings], list[str]]
    figures: Callable[[Findings], dict[str, Figure]] = lambda found: {}
    applies: Applies = lambda found: True
    headed: bool = True

    def parts(self, pictures: Pictures, found: Findings) -> list[str]:
        """Its HTML, heading and all."""
        return [*([f"<h2>{escape(self.name)}</h2>"] if self.headed else []), *self.html(pictures, found)]


def shows(name: str, draw: Callable[[Findings], Figure]) -> Callable[[Findings], dict[str, Figure]]:
    """That a section has one figure, of the first attributes alone where there are many."""
    return lambda found: {name: draw(found.few)}


def holds(variable: str) -> Applies:
    """That the results hold this variable."""
    return lambda found: variable in found.results


def of_data(found: Findings) -> bool:
    """That no network was studied."""
    return not found.of_model


def of_conditional(found: Findings) -> bool:
    """That a network was studied that is told attributes."""
    return found.of_model and not found.of_sampler


of_sampler = holds("children")
"""That a network was studied that is told nothing."""


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
    return table(head, [(row.attribute, *cells(row), probability(row)) for row in onsets])
