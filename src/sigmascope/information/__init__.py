"""Estimators of the information that noisy values carry about attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.information.estimator import Derived as Derived
    from sigmascope.information.estimator import Estimator as Estimator
    from sigmascope.information.estimator import register as register
    from sigmascope.information.estimator import unregister as unregister
    from sigmascope.information.gaps import mmse_gap as mmse_gap
    from sigmascope.information.gaps import score_gap as score_gap
    from sigmascope.information.maps import InformationMap as InformationMap
    from sigmascope.information.maps import information_maps as information_maps
    from sigmascope.information.mixture import Mixture as Mixture
    from sigmascope.information.pointwise import Pointwise as Pointwise
    from sigmascope.information.probes import Probed as Probed
    from sigmascope.information.resolved import ResolvedShares as ResolvedShares
    from sigmascope.information.resolved import resolved_shares as resolved_shares

_HOMES = {
    "Derived": "sigmascope.information.estimator",
    "Estimator": "sigmascope.information.estimator",
    "InformationMap": "sigmascope.information.maps",
    "Mixture": "sigmascope.information.mixture",
    "Pointwise": "sigmascope.information.pointwise",
    "Probed": "sigmascope.information.probes",
    "information_maps": "sigmascope.information.maps",
    "mmse_gap": "sigmascope.information.gaps",
    "register": "sigmascope.information.estimator",
    "ResolvedShares": "sigmascope.information.resolved",
    "resolved_shares": "sigmascope.information.resolved",
    "score_gap": "sigmascope.information.gaps",
    "unregister": "sigmascope.information.estimator",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
