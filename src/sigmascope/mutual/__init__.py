"""Mutual information of two arrays of samples, by diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.mutual.estimate import mutual_information as mutual_information
    from sigmascope.mutual.results import MutualInformation as MutualInformation
    from sigmascope.mutual.results import Way as Way

_HOMES = {
    "MutualInformation": "sigmascope.mutual.results",
    "Way": "sigmascope.mutual.results",
    "mutual_information": "sigmascope.mutual.estimate",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
