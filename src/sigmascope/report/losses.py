"""Losses of denoisers: by decade over a training, and by level before a study of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sigmascope.report.figures import STYLE, label_of, sigma_axis, style_of
from sigmascope.report.sections import figure

_DEEPEST = 1e-3  # of the linear denoiser's least loss: what a network that knows the items has left is not drawn


def losses_figure(history: Sequence[Mapping[str, Any]], decades: np.ndarray, what: str) -> Figure:
    """Training loss (thin) and loss on values kept out of training (thick) over steps, a colour for each decade."""
    steps = [entry["step"] for entry in history]
    kinds = [k for k in history[0] if k != "step"]
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(8.0, 3.8), layout="constrained")
        ax = fig.subplots()
        for j, d in enumerate(decades):
            colour = style_of(j)[0]
            for kind, line in zip(kinds, ("-", "-", ":"), strict=False):
                y = np.array([np.nan if e[kind][j] is None else e[kind][j] for e in history], dtype=np.float64)
                label = f"σ {10.0**d:g} to {10.0 ** (d + 1):g}" if kind == kinds[-1] else None
                width = 0.7 if kind == "loss" else 1.8
                ax.plot(steps, y, line, color=colour, linewidth=width, label=label)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
        ax.legend(fontsize=7.5, ncols=2)
        dotted = "; dotted: told everything" if "held_out_told" in kinds else ""
        ax.set_title(
            f"{what}: thin, on the batches; thick, on values kept out of training{dotted}", fontsize=9, loc="left"
        )
    return fig


def levels_figure(results: xr.Dataset) -> Figure:
    """Squared error by noise level: of the network, of the best linear denoiser, of the mean image."""
    sigma = results.loss_sigma.values
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(8.0, 3.8), layout="constrained")
        ax = fig.subplots()

        def draw(value: np.ndarray, error: np.ndarray, label: str, **style: Any) -> None:
            low = np.maximum(value - 1.96 * error, value * 1e-3)
            ax.fill_between(sigma, low, value + 1.96 * error, color=style["color"], alpha=0.15, linewidth=0)
            ax.plot(sigma, value, label=label, marker="o", markersize=3, **style)

        draw(results.loss_mean.values, results.loss_mean_stderr.values, "mean image", color="0.55", linestyle=":")
        linear = results.loss_linear.values, results.loss_linear_stderr.values
        draw(*linear, "best linear denoiser", color="black", linestyle=(0, (4, 2)))
        for j, told in enumerate(results.loss_told.values):
            colour, dash = style_of(j)
            one = results.sel(loss_told=told)
            label = f"network, told {label_of(str(told)).strip('()')}"
            draw(one.loss.values, one.loss_stderr.values, label, color=colour, linestyle=dash)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(bottom=max(ax.get_ylim()[0], _DEEPEST * float(results.loss_linear.min())))
        sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False)
        ax.set_ylabel("squared error of a coordinate")
        ax.legend(fontsize=7.5)
    return fig


def losses_figures(results: xr.Dataset) -> dict[str, Figure]:
    """The figure of the section, where the results hold losses."""
    return {"losses": levels_figure(results)} if "loss" in results else {}


def warned(results: xr.Dataset) -> list[str]:
    """What is said before all else of a page: that the network seems to be wrapped wrongly, and on the main curve."""
    said = []
    if wrapping := str(results.attrs.get("wrapping", "")):
        said.append(f"Nothing that this study says of the model can be believed as it is: {wrapping}.")
    if why := str(results.attrs.get("main_reason", "")):
        said.append(f"{why.replace(f' ({wrapping})', '')}.")
    return [f'<p class="lead"><strong>{escape(w)}</strong></p>' for w in said]


def losses_section(pictures: Mapping[str, str], results: xr.Dataset) -> list[str]:
    """The denoising losses as a figure and a table."""
    if "losses" not in pictures:
        return []
    told = [str(t) for t in results.loss_told.values]
    head = ["σ", "mean image", "best linear denoiser", *(f"network, told {t.strip('()')}" for t in told)]
    rows = []
    for k, sigma in enumerate(results.loss_sigma.values):
        cells = [_plus_minus(results.loss_mean[k], results.loss_mean_stderr[k])]
        cells.append(_plus_minus(results.loss_linear[k], results.loss_linear_stderr[k]))
        cells += [_plus_minus(results.loss[j, k], results.loss_stderr[j, k]) for j in range(len(told))]
        rows.append(f'<tr><th scope="row">{sigma:.3g}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>')
    words = (
        "The mean squared error of a coordinate, on the same noisy images for all of them, and its 95 % interval. The "
        "linear denoiser and the mean image are of other items than those they are measured on. A network that is "
        "wrapped rightly and trained well lies below both; told the right value of an attribute it lies below what it "
        "is told nothing."
    )
    return [
        "<h2>Does the network denoise?</h2>",
        figure(pictures["losses"], "Denoising losses", words),
        f'<div class="scroll"><table><tr>{"".join(f"<th>{escape(h)}</th>" for h in head)}</tr>'
        f"{''.join(rows)}</table></div>",
    ]


def _plus_minus(value: xr.DataArray, error: xr.DataArray) -> str:
    return f"{float(value):.3g} ± {1.96 * float(error):.1g}"
