"""A figure of results, from Python."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from sigmascope.report.figures import curves_figure
from sigmascope.studies.results import to_curves


def plot(results: xr.Dataset, estimator: str = "") -> Figure:
    """Information curves with 95 % bands over ln sigma.

    Args:
        results: what :func:`sigmascope.study` returned, or an opened ``results.nc``.
        estimator: which estimator; empty: ``posterior`` where the study has it, else its main one.

    Returns: a matplotlib Figure; save it with ``savefig``.
    """
    if not estimator and "estimator" in results.coords and "posterior" in results.estimator.values:
        estimator = "posterior"
    return curves_figure(to_curves(results, estimator), str(results.attrs.get("data_name", "")))
