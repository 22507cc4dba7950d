"""Networks of other programs as denoisers: each adapter holds all of a foreign convention."""

from sigmascope.adapters.foreign import PREDICTIONS, Foreign, Unit

__all__ = ["PREDICTIONS", "Foreign", "Unit"]
