"""How precisely real-valued attributes are known."""

from __future__ import annotations

from html import escape

from sigmascope.report.findings import Findings
from sigmascope.report.precision import known_to, precision_figure
from sigmascope.report.section import Pictures, Section, figure, holds, shows


def _precision(pictures: Pictures, findings: Findings) -> list[str]:
    caption = (
        "The root mean square of the difference between a real-valued attribute and its mean given the noisy image, in "
        "the unit of the attribute, with its 95 % interval: no estimate from the noisy image has a smaller one. On a "
        "circle the difference is wrapped and taken from the mean direction. Dotted: the resolution r. The information "
        "is that about the attribute with noise of this size, A + r N; its ceiling is I(A + r N; A)."
    )
    return [
        *(f"<p>{escape(s)}</p>" for s in known_to(findings.results, findings.onsets)),
        figure(pictures["precision"], "Precision of real-valued attributes", caption),
    ]


PRECISION = Section(
    "How precisely it is known",
    _precision,
    shows("precision", lambda few: precision_figure(few.results, few.curves)),
    holds("precision"),
)
