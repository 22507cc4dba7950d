"""Laws that are known exactly: their denoisers and their posteriors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.exact.finite.filter import FiniteDenoiser as FiniteDenoiser
    from sigmascope.exact.gaussian import GaussianDenoiser as GaussianDenoiser
    from sigmascope.exact.gaussian import MixtureDenoiser as MixtureDenoiser
    from sigmascope.exact.hierarchy import HierarchyDenoiser as HierarchyDenoiser

_HOMES = {
    "FiniteDenoiser": "sigmascope.exact.finite.filter",
    "GaussianDenoiser": "sigmascope.exact.gaussian",
    "HierarchyDenoiser": "sigmascope.exact.hierarchy",
    "MixtureDenoiser": "sigmascope.exact.gaussian",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
