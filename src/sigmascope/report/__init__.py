"""Figures and pages, drawn into files: no window, and no backend that shows one."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.report.page import write_page as write_page

_HOMES = {"write_page": "sigmascope.report.page"}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)


def _load_matplotlib() -> None:
    """Load matplotlib, also where the environment names a backend that is not installed here.

    The kernel of a notebook names its own to every process that it starts, and matplotlib refuses to be imported where
    that one is missing.
    """
    named = os.environ.get("MPLBACKEND")
    if named is None or "matplotlib" in sys.modules:
        return
    try:
        importlib.import_module("matplotlib")
    except (ValueError, ImportError):
        for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # the half of it that was loaded
        os.environ["MPLBACKEND"] = "agg"
        try:
            importlib.import_module("matplotlib")
        finally:
            os.environ["MPLBACKEND"] = named


_load_matplotlib()
