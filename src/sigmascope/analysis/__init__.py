"""Onsets, comparisons, advice and verdicts, computed from curves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.analysis.memorisation import gaussian_collapse as gaussian_collapse
    from sigmascope.analysis.onset import Onset as Onset
    from sigmascope.analysis.onset import Quantity as Quantity
    from sigmascope.analysis.onset import crossings as crossings
    from sigmascope.analysis.onset import onsets as onsets
    from sigmascope.analysis.trust import Trust as Trust
    from sigmascope.analysis.trust import judge as judge

_HOMES = {
    "Onset": "sigmascope.analysis.onset",
    "Quantity": "sigmascope.analysis.onset",
    "Trust": "sigmascope.analysis.trust",
    "crossings": "sigmascope.analysis.onset",
    "gaussian_collapse": "sigmascope.analysis.memorisation",
    "judge": "sigmascope.analysis.trust",
    "onsets": "sigmascope.analysis.onset",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
