"""Models of other programs as denoisers.  Each adapter holds all of one foreign convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.adapters.bridge import ByPosterior as ByPosterior
    from sigmascope.adapters.foreign import PREDICTIONS as PREDICTIONS
    from sigmascope.adapters.foreign import Foreign as Foreign
    from sigmascope.adapters.foreign import Unit as Unit
    from sigmascope.adapters.hooks import Featured as Featured
    from sigmascope.adapters.models import LoadedModel as LoadedModel
    from sigmascope.adapters.models import load_model as load_model

_HOMES = {
    "ByPosterior": "sigmascope.adapters.bridge",
    "Featured": "sigmascope.adapters.hooks",
    "Foreign": "sigmascope.adapters.foreign",
    "LoadedModel": "sigmascope.adapters.models",
    "PREDICTIONS": "sigmascope.adapters.foreign",
    "Unit": "sigmascope.adapters.foreign",
    "load_model": "sigmascope.adapters.models",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
