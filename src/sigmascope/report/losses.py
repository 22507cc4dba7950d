"""Losses of denoisers: by decade over a training, and by level before a study of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sigmascope.report.figures import label_of, plain_numbers, sheet, sigma_axis, style_of, styled

_DEEPEST = 1e-3  # of the linear denoiser's least loss: what a network that knows the items has left is not drawn


@styled
def losses_figure(history: Sequence[Mapping[str, Any]], decades: np.ndarray, what: str) -> Figure:
    """Training loss (thin) and loss on values kept out of training (thick) over steps, a colour for each decade."""
    steps = [entry["step"] for entry in history]
    kinds = [k for k in history[0] if k != "step"]
    fig, ax = sheet(8.0, 3.8)
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
    ax.legend(fontsize=7.5, ncols=2)
    dotted = "; dotted: told everything" if "held_out_conditional" in kinds else ""
    ax.set_title(f"{what}: thin, on the batches; thick, on values kept out of training{dotted}", fontsize=9, loc="left")
    return fig


@styled
def levels_figure(results: xr.Dataset) -> Figure:
    """Squared error by noise level: of the network, of the best linear denoiser, of the mean image."""
    sigma = results.loss_sigma.values
    fig, ax = sheet(8.0, 3.8)

    def draw(value: np.ndarray, error: np.ndarray, label: str, **style: Any) -> None:
        low = np.maximum(value - 1.96 * error, value * 1e-3)
        ax.fill_between(sigma, low, value + 1.96 * error, color=style["color"], alpha=0.15, linewidth=0)
        ax.plot(sigma, value, label=label, marker="o", markersize=3, **style)

    draw(results.loss_mean.values, results.loss_mean_stderr.values, "mean image", color="0.55", linestyle=":")
    linear = results.loss_linear.values, results.loss_linear_stderr.values
    draw(*linear, "best linear denoiser", color="black", linestyle=(0, (4, 2)))
    for j, told in enumerate(results.loss_condition.values):
        colour, dash = style_of(j)
        one = results.sel(loss_condition=told)
        label = f"network, told {label_of(str(told)).strip('()')}"
        draw(one.loss.values, one.loss_stderr.values, label, color=colour, linestyle=dash)
    ax.set_yscale("log")
    plain_numbers(ax.yaxis)
    ax.set_ylim(bottom=max(ax.get_ylim()[0], _DEEPEST * float(results.loss_linear.min())))
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False)
    ax.set_ylabel("squared error of a coordinate")
    ax.legend(fontsize=7.5)
    return fig
