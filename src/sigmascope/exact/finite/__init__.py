"""The exact filter of a finite set of items: for any rows, in passes over the set, from few items, along paths."""

from __future__ import annotations

from sigmascope.exact.finite.evidence import Answer, answer
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.heldout import HeldOutPass
from sigmascope.exact.finite.items import ItemBelief
from sigmascope.exact.finite.path import PathPass
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.exact.finite.screened import Certified, ScreenedDenoiser
from sigmascope.exact.finite.sketch import Sketch, make_sketch

__all__ = [
    "Answer",
    "Certified",
    "FiniteDenoiser",
    "HeldOutPass",
    "ItemBelief",
    "PathPass",
    "PosteriorPass",
    "ScreenedDenoiser",
    "Sketch",
    "answer",
    "make_sketch",
]
