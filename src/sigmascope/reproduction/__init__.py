"""The paper's experiments: stages, figures, tables and their page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.reproduction.stages import Stage as Stage
    from sigmascope.reproduction.stages import reproduce as reproduce

_HOMES = {
    "Stage": "sigmascope.reproduction.stages",
    "reproduce": "sigmascope.reproduction.stages",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
