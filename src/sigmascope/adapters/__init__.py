"""Networks of other programs as denoisers.  Each adapter holds all of one foreign convention."""

from sigmascope.adapters.bridge import ByPosterior
from sigmascope.adapters.foreign import PREDICTIONS, Foreign, Unit
from sigmascope.adapters.hooks import Featured

__all__ = ["PREDICTIONS", "ByPosterior", "Featured", "Foreign", "Unit"]
