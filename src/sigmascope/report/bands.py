"""Figures and the table of a study of features of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sigmascope.core import Curve
from sigmascope.report.figures import (
    band,
    label_of,
    legend_beside,
    moving,
    plain_numbers,
    short,
    sigma_axis,
    single,
    style_of,
    styled,
)
from sigmascope.report.sheets import Sheet


def _colours(count: int) -> list[str]:
    """Colours of features in their order, from dark to light: neighbouring bands have neighbouring colours."""
    if count <= 4:
        return [style_of(i)[0] for i in range(count)]
    return [to_hex(matplotlib.colormaps["viridis"](0.92 * i / (count - 1))) for i in range(count)]


@styled
def resolved_figure(results: xr.Dataset) -> Figure:
    """The resolved share of each feature by the exact filter (full, 95 % bands) and by a Gaussian model (dashed)."""
    fig, ax = single(max(3.8, 1.4 + 0.2 * results.sizes["attribute"]))
    sigma, colours = results.sigma.values, _colours(results.sizes["attribute"])
    for i, name in enumerate(map(str, results.attribute.values)):
        row, colour = results.sel(attribute=name), colours[i]
        marker = ("o", "s", "^")[i // 7 % 3]
        line: dict[str, Any] = {"linewidth": 1.6, "marker": marker, "ms": 2.5, "label": label_of(short(name, 26))}
        band(ax, sigma, row.resolved_share.values, 1.96 * row.resolved_stderr.values, colour, 0.2, **line)
        if "gaussian_share" in results:
            ax.plot(sigma, row.gaussian_share.values, color=colour, linewidth=1.1, linestyle="--")
    ax.axhline(0.5, color="0.6", linewidth=0.8, linestyle=(0, (1, 3)))
    ax.set_ylim(-0.04, 1.04)
    ax.set_ylabel("resolved share of the power")
    shares = [results.resolved_share.values, *([results.gaussian_share.values] if "gaussian_share" in results else [])]
    sigma_axis(ax, *moving(sigma, np.concatenate(shares)), decibels=False, ticks=7)
    legend_beside(ax, "full: exact filter\ndashed: Gaussian model")
    return fig


@styled
def information_figure(curves: Sequence[Curve], results: xr.Dataset) -> Figure:
    """The information about each feature and about the whole picture by a Gaussian model, with 95 % bands."""
    fig, ax = single(max(3.8, 1.4 + 0.2 * len(curves)))
    colours = _colours(len(curves))
    for i, c in enumerate(curves):
        band(ax, c.sigma, c.value, 1.96 * c.error, colours[i], 0.2, linewidth=1.6, label=label_of(c.attribute))
    total = results.gaussian_total.values
    ax.plot(results.sigma.values, total, color="0.4", linewidth=1.0, linestyle=(0, (1, 2)), label="whole picture")
    ax.set_yscale("log")
    plain_numbers(ax.yaxis)
    ax.set_ylim(max(1e-3, float(min(c.value[0] for c in curves)) / 2), float(total[-1]) * 1.5)
    ax.set_ylabel("information, nats")
    sigma_axis(ax, float(curves[0].sigma[-1]), float(curves[0].sigma[0]), decibels=False, ticks=7)
    legend_beside(ax, "95 % bands")
    return fig


def features_csv(results: xr.Dataset) -> str:
    """Features of the pictures as CSV, one row for each feature and noise level.

    Columns: feature, sigma, information by the Gaussian model (nats) with half its 95 % interval by 1.96, resolved
    share by the exact filter with its standard error, resolved share of the Gaussian model, information for each unit
    of ln sigma.
    """
    writer = Sheet()
    head = ["feature", "sigma", "information", "stderr", "resolved_share", "resolved_stderr", "gaussian_share"]
    writer.writerow([*head, "gaussian_rate"])
    model = str(results.attrs["main_estimator"])
    for name in map(str, results.attribute.values):
        row = results.sel(attribute=name, estimator=model)
        error = np.hypot(row.stderr.values, row.quadrature_error.values)
        columns = [row.information.values, error, row.resolved_share.values, row.resolved_stderr.values]
        columns += [row.gaussian_share.values, row.gaussian_rate.values]
        for j, sigma in enumerate(results.sigma.values):
            writer.writerow([name, f"{sigma:.6g}", *(f"{column[j]:.6f}" for column in columns)])
    return writer.getvalue()
