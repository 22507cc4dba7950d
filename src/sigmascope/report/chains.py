"""Figures of a chain of attributes."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sigmascope.report.figures import (
    band,
    ceiling_line,
    label_of,
    legend_beside,
    moving,
    short,
    sigma_axis,
    single,
    style_of,
    styled,
)


@styled
def chain_figure(results: xr.Dataset) -> Figure:
    """What each attribute adds to those before it, one upon the other, with the entropy of all as a dotted line."""
    sigma, added = results.sigma.values, results.link_information.values
    fig, ax = single(4.2)
    tops = np.cumsum(added, axis=0)
    for i, (link, below, top) in enumerate(zip(_names(results), tops - added, tops, strict=True)):
        colour, _ = style_of(i)
        ax.fill_between(sigma, below, top, color=colour, alpha=0.35, linewidth=0, label=link)
        ax.plot(sigma, top, color=colour, linewidth=1.3)
    ceiling_line(ax, float(results.link_ceiling.sum()))
    sigma_axis(ax, *moving(sigma, added), decibels=True, ticks=7)
    ax.set_ylim(bottom=0.0)
    ax.set_ylabel("information, nats")
    legend_beside(ax, "lowest band first", 8.5)
    return fig


@styled
def density_figure(results: xr.Dataset) -> Figure:
    """What each attribute adds for each unit of ln σ, with 95 % bands."""
    sigma = results.sigma.values
    fig, ax = single(3.8)
    rows = zip(_names(results), results.link_density.values, results.link_density_stderr.values, strict=True)
    for i, (link, value, error) in enumerate(rows):
        colour, dash = style_of(i)
        band(ax, sigma, value, 1.96 * error, colour, linestyle=dash, linewidth=1.5, label=link)
    ax.axhline(0.0, color="0.3", linewidth=0.8)
    sigma_axis(ax, *moving(sigma, results.link_information.values), decibels=True, ticks=7)
    ax.set_ylabel("nats for each unit of ln σ")
    legend_beside(ax, size=8.5)
    return fig


def _names(results: xr.Dataset) -> list[str]:
    return [label_of(short(str(link), 26)) for link in results.link.values]
