"""Laws that are known exactly: Gaussian mixtures, random hierarchies, and finite sets of items."""

from __future__ import annotations

from sigmascope.exact.finite import FiniteDenoiser, ItemBelief, ScreenedDenoiser, answer
from sigmascope.exact.gaussian import GaussianDenoiser, MixtureDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser

__all__ = [
    "FiniteDenoiser",
    "GaussianDenoiser",
    "HierarchyDenoiser",
    "ItemBelief",
    "MixtureDenoiser",
    "ScreenedDenoiser",
    "answer",
]
