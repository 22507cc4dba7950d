"""Laws that are known exactly: Gaussian mixtures and fields, random hierarchies, and finite sets of items."""

from __future__ import annotations

from sigmascope.exact.features import Feature, parse_features
from sigmascope.exact.field import GaussianField, fit_field
from sigmascope.exact.finite import FiniteDenoiser, ItemBelief, ScreenedDenoiser, answer
from sigmascope.exact.gaussian import GaussianDenoiser, MixtureDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser

__all__ = [
    "Feature",
    "FiniteDenoiser",
    "GaussianDenoiser",
    "GaussianField",
    "HierarchyDenoiser",
    "ItemBelief",
    "MixtureDenoiser",
    "ScreenedDenoiser",
    "answer",
    "fit_field",
    "parse_features",
]
