"""Figures: information curves, onset windows, one image at nine noise levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sigmascope.analysis.onset import Onset
from sigmascope.core import Agreement, Curve

# Okabe & Ito's colours, told apart by colour-blind readers; dashes begin where they run out.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.parse_math": False,  # names of attributes are text, whatever signs they hold
    "svg.hashsalt": "sigmascope",
    "svg.fonttype": "path",
    "figure.dpi": 110,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,  # each figure asks for its own layout
}


def style_of(index: int) -> tuple[str, str]:
    """Colour and dash of the index-th attribute."""
    return _COLOURS[index % len(_COLOURS)], _DASHES[(index // len(_COLOURS)) % len(_DASHES)]


def label_of(name: str) -> str:
    """A name for a legend, which would leave out one that begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


styled = matplotlib.rc_context(STYLE)
"""Decorates a function that draws: its figure is in the style of the house."""


def band(
    ax: Axes, sigma: np.ndarray, value: np.ndarray, half: np.ndarray, colour: str, alpha: float = 0.2, **line: Any
) -> None:
    """A curve with a pale band of ``half`` on each side of it."""
    ax.fill_between(sigma, value - half, value + half, color=colour, alpha=alpha, linewidth=0)
    ax.plot(sigma, value, color=colour, **line)


def curve_band(ax: Axes, c: Curve, colour: str, alpha: float, **line: Any) -> None:
    """A curve with its 95 % band."""
    band(ax, c.sigma, c.value, 1.96 * c.error, colour, alpha, **line)


def sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel, in inches."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots()


def tiled(count: int, height: float, more: float, **told: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, up to three in a row of this height in inches, with ``more`` for what is around."""
    columns = min(3, count)
    rows = -(-count // columns)
    fig = Figure(figsize=(9.0, height * rows + more), layout="constrained")
    axes = list(fig.subplots(rows, columns, squeeze=False, **told).flat)
    for ax in axes[count:]:
        ax.set_axis_off()
    return fig, axes[:count]


def titled(ax: Axes, sigma: np.ndarray, title: str) -> None:
    """One of several panels over the noise level: a tick a decade, and no words along the axis."""
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,)))
    ax.set_xlabel("")
    ax.set_title(title, fontsize=9.5, loc="left")


def plain_numbers(axis: Axis) -> None:
    """Numbers along a logarithmic axis as they are, without powers of ten."""
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def ceiling_line(ax: Axes, ceiling: float, color: str = "0.55", linewidth: float = 0.8) -> None:
    """A dotted line at H(A)."""
    ax.axhline(ceiling, color=color, linewidth=linewidth, linestyle=(0, (1, 3)))


def short(text: str, most: int) -> str:
    """As much of a text as fits."""
    return text if len(text) <= most else text[: most - 1] + "…"


def half_interval(of: xr.Dataset) -> Float[np.ndarray, " levels"]:
    """Half of the 95 % interval of one attribute by one estimator, from the results of a study."""
    curve = Curve(
        "",
        "",
        of.sigma.values,
        of.information.values,
        of.stderr.values,
        float(of.ceiling),
        of.information_per_draw.values,
        str(of.kind.values),
        of.quadrature_error.values,
        int(of.get("draws_per_column", 1)),
    )
    return 1.96 * curve.error


def sigma_axis(ax: Axes, low: float, high: float, *, decibels: bool) -> None:
    """ln sigma falling from left to right, the way of generation; decibels of SNR along the top."""
    ax.set_xscale("log")
    ax.set_xlim(high, low)
    plain_numbers(ax.xaxis)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 3e4 else (1.0,)))
    ax.set_xlabel("noise level σ   (generation runs to the right →)")
    if decibels:
        top = ax.secondary_xaxis("top")
        top.xaxis.set_major_locator(LogLocator(subs=(1.0,)))
        top.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{-20 * math.log10(x) + 0.0:.0f}"))
        top.xaxis.set_minor_formatter(NullFormatter())
        top.set_xlabel("signal-to-noise ratio σ⁻², dB")


@styled
def curves_figure(curves: Sequence[Curve], title: str = "") -> Figure:
    """I(A; Y_sigma) of each attribute with its 95 % band and its ceiling H(A), in nats."""
    if not curves:
        raise ValueError("there is no curve to draw")
    fig, ax = sheet(8.0, 4.8)
    for i, c in enumerate(curves):
        colour, dash = style_of(i)
        line = {"linestyle": dash, "linewidth": 1.6, "marker": "o", "ms": 2.2}
        curve_band(ax, c, colour, 0.22, label=label_of(c.attribute), **line)
    sigma = curves[0].sigma
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=True)
    for ceiling in dict.fromkeys(round(c.ceiling, 6) for c in curves):
        ceiling_line(ax, ceiling)
    top = max(c.ceiling for c in curves)
    ax.set_ylim(min(-0.03 * top, min(float((c.value - 1.96 * c.error).min()) for c in curves)), top * 1.06)
    ax.set_ylabel("information about the attribute, nats")
    bound = any(c.kind == "lower bound" for c in curves)
    what = ("lower bounds; " if bound else "") + "95 % bands; dotted: entropy H(A)"
    fig.suptitle(f"{title}: what the noisy image tells" if title else "What the noisy image tells", fontsize=11)
    legend = ax.legend(loc="upper left", title=what, title_fontsize=8, fontsize=9, ncols=1 + (len(curves) > 9))
    legend.get_frame().set(linewidth=0, alpha=0.9)
    return fig


@styled
def estimators_figure(curves: Sequence[Curve], others: Sequence[Curve]) -> Figure:
    """Every estimator of every attribute on one axis of nats, with 95 % bands."""
    estimators = list(dict.fromkeys(c.estimator for c in (*curves, *others)))
    fig, panels = tiled(len(curves), 2.5, 0.5, sharex=True)
    for ax, base in zip(panels, curves, strict=True):
        for c in (base, *(o for o in others if o.attribute == base.attribute)):
            colour, _ = style_of(estimators.index(c.estimator))
            width, dash = (2.4, "-") if c is base else (1.2, "--")
            curve_band(ax, c, colour, 0.15, linewidth=width, linestyle=dash, label=c.estimator)
        ax.lines[0].set_alpha(0.55)  # of the main one, which the others lie upon
        ceiling_line(ax, base.ceiling)
        sigma_axis(ax, float(base.sigma.min()), float(base.sigma.max()), decibels=False)
        ax.set_xlabel("")
        ax.set_title(base.attribute, fontsize=9.5, loc="left")
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    fig.supxlabel("noise level σ", fontsize=9)
    fig.supylabel("information, nats", fontsize=9)
    return fig


@styled
def tree_figure(curves: Sequence[Curve], results: xr.Dataset) -> Figure:
    """A hierarchy: shares I/H of the first node of each level, and information about all of each level together.

    Args:
        curves: of the first nodes that were studied, from the root down.
        results: of the study, which hold I(A_l; Y) of whole levels, shape (tree, levels), its error and H(A_l).
    """
    whole, error, ceiling = (results[f"whole_{k}"].values for k in ("information", "stderr", "ceiling"))
    sigma = curves[0].sigma
    fig = Figure(figsize=(9.0, 4.0), layout="constrained")
    left, right = fig.subplots(1, 2)
    for i, c in enumerate(curves):
        colour, dash = style_of(i)
        share, half = c.value / c.ceiling, 1.96 * c.error / c.ceiling
        band(left, sigma, share, half, colour, 0.2, linestyle=dash, linewidth=1.5, label=c.attribute)
    left.set_ylabel("share I/H of the first node of a level")
    left.legend(loc="upper left", fontsize=8, frameon=False)
    for level, (value, half) in enumerate(zip(whole, 1.96 * error, strict=True)):
        colour, dash = style_of(level)
        name = "root" if level == 0 else "leaves" if level == len(whole) - 1 else f"level {level}"
        band(right, sigma, value, half, colour, 0.2, linestyle=dash, linewidth=1.5, label=name)
        ceiling_line(right, ceiling[level], color=colour, linewidth=0.6)
    right.set_yscale("log")
    plain_numbers(right.yaxis)
    right.set_ylim(max(1e-3, float(whole[0, 0]) / 2), float(ceiling[-1]) * 1.5)
    right.set_ylabel("information about all nodes of a level, nats")
    right.legend(loc="lower right", fontsize=8, frameon=False)
    for ax in (left, right):
        sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False)
        ax.set_xlabel("noise level σ")
    return fig


@styled
def agreement_figure(agreements: Sequence[Agreement], curves: Sequence[Curve]) -> Figure:
    """Difference of each estimator from the posterior one, as a share of H(A), with 95 % bands."""
    index = {c.attribute: i for i, c in enumerate(curves)}
    estimators = list(dict.fromkeys(a.estimator for a in agreements))
    fig = Figure(figsize=(8.0, 2.4 * len(estimators) + 0.4), layout="constrained")
    panels = fig.subplots(len(estimators), 1, squeeze=False)[:, 0]
    for ax, estimator in zip(panels, estimators, strict=True):
        for a in agreements:
            if a.estimator != estimator:
                continue
            colour, dash = style_of(index[a.attribute])
            middle, half = 100 * a.difference / a.ceiling, 196 * a.stderr / a.ceiling
            band(ax, a.sigma, middle, half, colour, 0.12, linestyle=dash, linewidth=1.3, label=a.attribute)
        ax.axhline(0.0, color="0.3", linewidth=0.8)
        sigma_axis(ax, float(agreements[0].sigma.min()), float(agreements[0].sigma.max()), decibels=False)
        ax.set_ylabel("% of H(A)")
        ax.set_title(f"{estimator} less posterior", fontsize=9.5, loc="left")
    return fig


@styled
def conditional_figure(pairs: Sequence[tuple[Curve, Curve]]) -> Figure:
    """Information about an attribute when another is known (full), beside when nothing is (dashed)."""
    fig, ax = sheet(8.0, 4.4)
    for i, (given, alone) in enumerate(pairs):
        colour, _ = style_of(i)
        curve_band(ax, given, colour, 0.22, linewidth=1.6, label=f"I({given.attribute})")
        ax.plot(alone.sigma, alone.value, color=colour, linewidth=1.1, linestyle="--")
    sigma = pairs[0][0].sigma
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=True)
    ax.set_ylabel("information, nats")
    legend = ax.legend(loc="upper left", title="full: the other known; dashed: not", title_fontsize=8, fontsize=9)
    legend.get_frame().set(linewidth=0, alpha=0.9)
    return fig


@styled
def windows_figure(table: Sequence[Onset], curves: Sequence[Curve]) -> Figure:
    """Windows from 10 to 90 % of H(A) as bars, half information as a dot with its 95 % interval."""
    index = {c.attribute: i for i, c in enumerate(curves)}
    fig, ax = sheet(8.0, 1.5 + 0.42 * len(table))
    low, high = float(curves[0].sigma.min()), float(curves[0].sigma.max())
    for y, row in enumerate(table):
        colour, _ = style_of(index[row.attribute])
        start, half, end = row.at
        left, right = min(start.value, high), max(end.value, low)
        if left > right:
            hatch = None if start.reached and end.reached else "///"
            ax.barh(y, left - right, left=right, height=0.5, color=colour, alpha=0.35, hatch=hatch)
        else:
            text = "not reached within these levels" if start.value == 0.0 else "decided above these levels"
            ax.text(math.sqrt(low * high), y, text, ha="center", va="center", color="0.4", fontsize=9)
        if half.reached:
            ends = [min(half.high, high), max(half.low, low)]
            ax.plot(ends, [y, y], color=colour, linewidth=7, solid_capstyle="butt")
            ax.plot([half.value], [y], "o", color="white", markersize=3)
        if row.peak.reached:
            ax.plot([row.peak.value], [y], "|", color="0.15", markersize=13, markeredgewidth=1.2)
    ax.set_yticks(range(len(table)), [row.attribute for row in table])
    ax.set_ylim(len(table) - 0.4, -0.6)
    sigma_axis(ax, low, high, decibels=False)
    said = "pale bar: 10 to 90 % of H(A) · full bar and dot: half, with its 95 % interval · tick: peak rate"
    ax.set_title(said, fontsize=9, loc="left")
    return fig


def strip_levels(table: Sequence[Onset], sigma: np.ndarray, count: int = 9) -> np.ndarray:
    """Noise levels for the strip, spread over the windows of all attributes."""
    seen = [q.value for row in table for q in row.at if q.reached]
    high = min(float(sigma.max()), 2.0 * max(seen)) if seen else float(sigma.max())
    low = max(float(sigma.min()), 0.05 * min(seen)) if seen else float(sigma.min())
    return np.geomspace(high, low, count)


@styled
def strip_figure(v: np.ndarray, noise: np.ndarray, sigmas: np.ndarray) -> Figure:
    """One item under the same noise at several levels; contrast is reduced as noise grows, to stay visible.

    Args:
        v: an item, shape (channels, height, width), or any other shape: then it is drawn as a line.
        noise: standard normal, same shape.
        sigmas: levels, decreasing.
    """
    picture = v.ndim == 3 and v.shape[0] in (1, 3) and min(v.shape[1:]) > 1
    middle, spread = float(v.mean()), max(float(v.std()), 1e-6)
    fig = Figure(figsize=(9.0, 1.55), layout="constrained")
    for ax, s in zip(fig.subplots(1, len(sigmas)), sigmas, strict=True):
        y = v + s * noise
        if picture:
            shown = middle + (y - middle) * spread / math.hypot(spread, s) if s > 0.02 else y
            low, high = min(0.0, float(v.min())), max(1.0, float(v.max()))
            shown = np.clip((shown - low) / (high - low), 0, 1)
            image = np.moveaxis(shown, 0, -1)
            ax.imshow(image if v.shape[0] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
            ax.spines[:].set_visible(False)
        elif v.ndim == 2 and min(v.shape) > 1:
            ax.imshow(y.T, cmap="gray_r", aspect="auto", interpolation="nearest")
        else:
            ax.plot(y.reshape(-1), linewidth=0.8, color=_COLOURS[0])
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(f"σ = {s:.3g}", fontsize=8.5)
    return fig
