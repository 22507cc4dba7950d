"""A figure of results, from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from sigmascope.report.figures import curves_figure
from sigmascope.studies.results import to_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(results: xr.Dataset, estimator: str = "") -> Figure:
    """Information curves with 95 % bands over ln sigma.

    Args:
        results: what :func:`sigmascope.study` returned, or an opened ``results.nc``.
        estimator: which estimator; empty: the study's main one.

    Returns: a matplotlib Figure; save it with ``savefig``.
    """
    return curves_figure(to_curves(results, estimator), str(results.attrs.get("data_name", "")))
