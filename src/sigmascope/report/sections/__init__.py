"""The sections of the page of a study.  A new section is a file here and a line below."""

from __future__ import annotations

from sigmascope.report.section import Section
from sigmascope.report.sections import bands, belief, beyond, chain, curves, lead, made, precise, ways

SECTIONS: list[Section] = [
    lead.LEAD, bands.LEAD, lead.DATA, lead.MODEL, lead.SAMPLER, belief.LOSSES,
    bands.RESOLVED, bands.INFORMATION,
    curves.CURVES, curves.CURVES_OF_MODEL, curves.CURVES_OF_SAMPLER, belief.BELIEF, curves.CHILDREN, curves.ONSETS,
    precise.PRECISION,
    curves.EXPLORER,
    ways.CONDITIONAL, chain.CHAIN, beyond.PAIRS, ways.TREE, beyond.VALUES, beyond.ITEMS, ways.AGREEMENT,
    curves.BOUNDS, belief.MEASURED, curves.STRIP, made.ADVICE, made.LAW, belief.CLASSES, made.MADE, made.METHOD,
]  # fmt: skip
"""In the order of the page."""

__all__ = ["SECTIONS"]
