"""The sections of the page of a study.  A new one is a file here and a line below."""

from __future__ import annotations

from sigmascope.report.section import Section
from sigmascope.report.sections.belief import BELIEF, CLASSES, LOSSES, MEASURED
from sigmascope.report.sections.beyond import ITEMS, PAIRS, VALUES
from sigmascope.report.sections.curves import (
    BOUNDS,
    CHILDREN,
    CURVES,
    CURVES_OF_MODEL,
    CURVES_OF_SAMPLER,
    ONSETS,
    STRIP,
)
from sigmascope.report.sections.lead import DATA, FINDING, MODEL, SAMPLER
from sigmascope.report.sections.made import ADVICE, MADE, METHOD, WHOSE
from sigmascope.report.sections.ways import AGREEMENT, CONDITIONAL, TREE

SECTIONS: list[Section] = [
    FINDING, DATA, MODEL, SAMPLER, LOSSES,
    CURVES, CURVES_OF_MODEL, CURVES_OF_SAMPLER, BELIEF, CHILDREN, ONSETS,
    CONDITIONAL, PAIRS, TREE, VALUES, ITEMS, AGREEMENT, BOUNDS, MEASURED,
    STRIP, ADVICE, WHOSE, CLASSES, MADE, METHOD,
]  # fmt: skip
"""In the order of the page."""

__all__ = ["SECTIONS"]
