"""Figures of the losses of denoisers: over the steps of a training, and over noise levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sigmascope.report.figures import (
    legend_beside,
    plain_numbers,
    short,
    sigma_axis,
    single,
    style_of,
    styled,
)

_LOWEST = 1e-3  # of the linear denoiser's smallest loss: smaller ones, of a network that memorised items, are cut


@styled
def losses_figure(history: Sequence[Mapping[str, Any]], decades: np.ndarray, title: str) -> Figure:
    """Training loss (thin) and loss on values kept out of training (thick) over steps, a colour for each decade."""
    steps = [entry["step"] for entry in history]
    kinds = [k for k in history[0] if k != "step"]
    fig, ax = single(3.8)
    for j, d in enumerate(decades):
        colour = style_of(j)[0]
        for kind, line in zip(kinds, ("-", "-", ":"), strict=False):
            y = np.array([np.nan if e[kind][j] is None else e[kind][j] for e in history], dtype=np.float64)
            label = f"σ {10.0**d:g} to {10.0 ** (d + 1):g}" if kind == kinds[-1] else None
            width = 0.7 if kind == "loss" else 1.8
            ax.plot(steps, y, line, color=colour, linewidth=width, label=label)
    ax.set_yscale("log")
    plain_numbers(ax.yaxis)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    dotted = "\ndotted: conditional" if "held_out_conditional" in kinds else ""
    legend_beside(ax, f"thin: batches\nthick: held out{dotted}", 8.5)
    ax.set_title(title, fontsize=9.5, loc="left")
    return fig


def network_label(condition: str) -> str:
    """The name of a network's loss: unconditional, or conditional on an attribute."""
    name = condition.strip("()")
    return "network, unconditional" if name in ("nothing", "unconditional") else f"network, given {short(name, 18)}"


@styled
def levels_figure(results: xr.Dataset) -> Figure:
    """Squared error by noise level: of the network, of the best linear denoiser, of the mean image."""
    sigma = results.loss_sigma.values
    fig, ax = single(3.8)

    def draw(value: np.ndarray, error: np.ndarray, label: str, **style: Any) -> None:
        low = np.maximum(value - 1.96 * error, value * 1e-3)
        ax.fill_between(sigma, low, value + 1.96 * error, color=style["color"], alpha=0.15, linewidth=0)
        ax.plot(sigma, value, label=label, marker="o", markersize=3, **style)

    draw(results.loss_mean.values, results.loss_mean_stderr.values, "mean image", color="0.6", linestyle=":")
    linear = results.loss_linear.values, results.loss_linear_stderr.values
    draw(*linear, "best linear\ndenoiser", color="0.35", linestyle=(0, (4, 2)))
    for j, condition in enumerate(results.loss_condition.values):
        colour, dash = style_of(j)
        row = results.sel(loss_condition=condition)
        draw(row.loss.values, row.loss_stderr.values, network_label(str(condition)), color=colour, linestyle=dash)
    ax.set_yscale("log")
    plain_numbers(ax.yaxis)
    ax.set_ylim(bottom=max(ax.get_ylim()[0], _LOWEST * float(results.loss_linear.min())))
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False, ticks=7)
    ax.set_ylabel("squared error of a coordinate")
    legend_beside(ax, size=8.5)
    return fig
