"""The record of a section of a page, and the pieces of HTML that sections are made of."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import xarray as xr
from matplotlib.figure import Figure

from sigmascope.analysis.onset import Onset, Quantity
from sigmascope.report.findings import Findings
from sigmascope.report.table import cells, probability

Pictures = Mapping[str, str]
"""Figures of a page by the names of their files: SVG in base 64."""
Applies = Callable[[Findings], bool]


@dataclass(frozen=True)
class Section:
    """A part of the page of a study.

    Args:
        name: unique; the heading of the section, unless it has none.
        html: its parts below the heading, made from the figures of the page and the findings.
        figures: of the section, by the names of their files.
        applies: whether the findings hold what the section needs; by default every page has it.
        headed: whether its name stands above it.
    """

    name: str
    html: Callable[[Pictures, Findings], list[str]]
    figures: Callable[[Findings], dict[str, Figure]] = lambda findings: {}
    applies: Applies = lambda findings: True
    headed: bool = True

    def parts(self, pictures: Pictures, findings: Findings) -> list[str]:
        """Its HTML with the heading."""
        return [*([f"<h2>{escape(self.name)}</h2>"] if self.headed else []), *self.html(pictures, findings)]


def shows(name: str, draw: Callable[[Findings], Figure]) -> Callable[[Findings], dict[str, Figure]]:
    """For a section with one figure, which shows the first attributes where there are many."""
    return lambda findings: {name: draw(findings.few)}


def holds(variable: str) -> Applies:
    """Whether the results hold this variable."""
    return lambda findings: variable in findings.results


def of_data(findings: Findings) -> bool:
    """Whether no network was studied."""
    return not findings.of_model


def of_labels(findings: Findings) -> bool:
    """Whether labels were studied, and not features of the pictures."""
    return "resolved_share" not in findings.results


def of_labelled_data(findings: Findings) -> bool:
    """Whether labels were studied without a network."""
    return of_data(findings) and of_labels(findings)


def of_conditional(findings: Findings) -> bool:
    """Whether a conditional network was studied."""
    return findings.of_model and not findings.of_sampler


of_sampler = holds("children")
"""Whether an unconditional network was studied."""


def figure(svg: str, alt: str, caption: str) -> str:
    """A figure of the page, with its caption in HTML.

    Args:
        svg: in base 64.
        alt: a text for readers who do not see it.
        caption: HTML.
    """
    width = re.search(rb'width="([\d.]+)pt"', base64.b64decode(svg[:2000]))
    size = f' style="--width:{float(width[1]):.0f}"' if width else ""
    return (
        f'<figure><div class="scroll" tabindex="0" role="group" aria-label="{escape(alt)}">'
        f'<img alt="{escape(alt)}"{size} src="data:image/svg+xml;base64,{svg}"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def quantity(results: xr.Dataset, name: str, k: int | None = None) -> Quantity:
    """A level with its interval, from the variables of this name."""
    ends = [results[f"{name}{end}"].values for end in ("", "_low", "_high")]
    return Quantity(*(float(x if k is None else x[k]) for x in ends))


def table(head: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of text whose first column names the rows; the text is escaped."""
    head = list(head)
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(f"<td>{escape(str(c))}</td>" for c in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table: {escape(", ".join(head))}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def onset_table(onsets: Sequence[Onset]) -> str:
    """The onsets as a table of HTML."""
    head = ("attribute", "σ at 10 %", "σ at 50 %", "σ at 90 %", "σ of peak rate", "P(before next)")
    return table(head, [(row.attribute, *cells(row), probability(row)) for row in onsets])
