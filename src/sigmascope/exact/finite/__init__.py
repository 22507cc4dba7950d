"""The exact filter of a finite set of items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.exact.finite.filter import FiniteDenoiser as FiniteDenoiser
    from sigmascope.exact.finite.heldout import HeldOutPass as HeldOutPass
    from sigmascope.exact.finite.path import PathPass as PathPass
    from sigmascope.exact.finite.posterior import PosteriorPass as PosteriorPass
    from sigmascope.exact.finite.screened import ScreenedDenoiser as ScreenedDenoiser

_HOMES = {
    "FiniteDenoiser": "sigmascope.exact.finite.filter",
    "HeldOutPass": "sigmascope.exact.finite.heldout",
    "PathPass": "sigmascope.exact.finite.path",
    "PosteriorPass": "sigmascope.exact.finite.posterior",
    "ScreenedDenoiser": "sigmascope.exact.finite.screened",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
