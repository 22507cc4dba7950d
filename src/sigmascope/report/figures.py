"""Figures of a study, and what all figures share: colours, axes, bands, legends."""

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
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from sigmascope.analysis.onset import Onset
from sigmascope.core import Agreement, Curve

# The colours of Okabe & Ito, which colour-blind readers tell apart; line styles go on where the colours end.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")
NARROW, WIDE = 5.8, 9.0
"""Widths of figures in inches: of one panel, which a phone shows whole, and of several."""
GENERATION = "noise level σ   (generation runs to the right →)"
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
styled = matplotlib.rc_context(STYLE)
"""Decorates a function that draws: its figure has the style of the package."""


def style_of(index: int) -> tuple[str, str]:
    """Colour and line style of the index-th attribute, value or estimator."""
    return _COLOURS[index % len(_COLOURS)], _DASHES[(index // len(_COLOURS)) % len(_DASHES)]


def label_of(name: str) -> str:
    """A name for a legend; matplotlib leaves out one that begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def short(text: str, length: int) -> str:
    """A text cut to a number of characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def band(
    ax: Axes, x: np.ndarray, value: np.ndarray, half: np.ndarray, colour: str, alpha: float = 0.2, *,
    biased: np.ndarray | None = None, label: str | None = None, **line: Any,
) -> None:  # fmt: skip
    """A curve with a pale band of ``half`` on each side of it; thin and dotted where it is marked as biased."""
    ax.fill_between(x, value - half, value + half, color=colour, alpha=alpha, linewidth=0)
    if biased is not None and biased.any():
        # A line goes on to the neighbouring level, so that no gap opens between trusted and biased.
        near = ~biased | np.roll(~biased, 1) & (np.arange(len(biased)) > 0)
        dotted = np.where(biased, value, np.nan)
        ax.plot(x, dotted, color=colour, linewidth=1.2, linestyle=(0, (1, 1.5)), label=f"{label}, biased")
        value = np.where(near, value, np.nan)
    ax.plot(x, value, color=colour, label=label, **line)


def curve_band(ax: Axes, c: Curve, colour: str, alpha: float, **line: Any) -> None:
    """A curve with its 95 % band."""
    band(ax, c.sigma, c.value, 1.96 * c.error, colour, alpha, **line)


def single(height: float, width: float = NARROW) -> tuple[Figure, Axes]:
    """A figure of one panel, in inches."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots()


def tiled(count: int, height: float, extra: float, columns: int = 3, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels of this height in inches, with ``extra`` inches for what is around them."""
    columns = min(columns, count)
    rows = -(-count // columns)
    fig = Figure(figsize=(WIDE if columns > 1 else NARROW, height * rows + extra), layout="constrained")
    axes = list(fig.subplots(rows, columns, squeeze=False, **options).flat)
    for ax in axes[count:]:
        ax.set_axis_off()
    return fig, axes[:count]


def titled(ax: Axes, span: tuple[float, float], title: str) -> None:
    """One of several panels over the noise level: few ticks, and no label along the axis."""
    sigma_axis(ax, *span, decibels=False, ticks=6)
    ax.set_xlabel("")
    ax.set_title(short(title, 30), fontsize=9.5, loc="left")


def legend_above(fig: Figure, columns: int, size: float = 8.5) -> None:
    """One legend above all panels, with the lines of all of them."""
    lines = {label: h for ax in fig.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=columns, frameon=False, fontsize=size)


def legend_beside(ax: Axes, title: str = "", size: float = 9) -> None:
    """A legend to the right of a panel, where it covers no line."""
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize=size, title=title,
        title_fontsize=size - 1, alignment="left",
    )  # fmt: skip


def plain_numbers(axis: Axis) -> None:
    """Numbers along a logarithmic axis without powers of ten."""
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def ceiling_line(ax: Axes, ceiling: float, color: str = "0.45", linewidth: float = 0.9) -> None:
    """A dotted line at H(A)."""
    ax.axhline(ceiling, color=color, linewidth=linewidth, linestyle=(0, (1, 3)))


def half_interval(row: xr.Dataset) -> Float[np.ndarray, " levels"]:
    """Half of the 95 % interval of one attribute by one estimator, from the results of a study."""
    curve = Curve(
        "", "", row.sigma.values, row.information.values, row.stderr.values, float(row.ceiling),
        row.information_per_draw.values, str(row.kind.values), row.quadrature_error.values,
        int(row.get("draws_per_column", 1)),
    )  # fmt: skip
    return 1.96 * curve.error


def moving(sigma: Float[np.ndarray, " levels"], values: Float[np.ndarray, "*rows levels"]) -> tuple[float, float]:
    """The range of noise levels in which curves move: at least one of them is 2 % of its way from its ends.

    Args:
        sigma: decreasing levels.
        values: curves over them; a curve that hardly moves beside the others is left out.

    Returns: lowest and highest level; all levels where no curve moves.
    """
    rows = np.nan_to_num(values).reshape(-1, len(sigma))
    way = rows.max(1) - rows.min(1)
    rows, way = rows[way > 0.02 * way.max()], way[way > 0.02 * way.max(), None]
    if not len(rows):
        return float(sigma[-1]), float(sigma[0])
    first = int(np.flatnonzero((np.abs(rows - rows[:, :1]) > 0.02 * way).any(0))[0])
    last = int(np.flatnonzero((np.abs(rows - rows[:, -1:]) > 0.02 * way).any(0))[-1])
    return float(sigma[min(last + 1, len(sigma) - 1)]), float(sigma[max(first - 1, 0)])


def span_of(curves: Sequence[Curve]) -> tuple[float, float]:
    """The range of noise levels in which any of the curves moves."""
    spans = np.array([moving(c.sigma, c.value) for c in curves])
    return float(spans[:, 0].min()), float(spans[:, 1].max())


def sigma_ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round noise levels of a range, as dense as that allows."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**k for k in decades for m in digits if low / 1.001 <= m * 10.0**k <= high * 1.001]
        if len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)]


def sigma_axis(ax: Axes, low: float, high: float, *, decibels: bool, ticks: int = 8) -> None:
    """ln sigma that falls from left to right, as in generation; above it the signal-to-noise ratio in decibels."""
    ax.set_xscale("log")
    ax.set_xlim(high, low)
    plain_numbers(ax.xaxis)
    ax.xaxis.set_major_locator(FixedLocator(sigma_ticks(low, high, ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(GENERATION)
    if decibels:
        top = ax.secondary_xaxis("top")
        ends = [-20 * math.log10(x) for x in (high, low)]
        step = next((s for s in (2, 5, 10, 20, 40) if (ends[1] - ends[0]) / s <= ticks), 100)
        marks = [s * step for s in range(math.ceil(ends[0] / step), math.floor(ends[1] / step) + 1)]
        top.set_xticks([10 ** (-m / 20) for m in marks], [f"{m}".replace("-", "−") for m in marks])
        top.xaxis.set_minor_locator(NullLocator())
        top.set_xlabel("signal-to-noise ratio σ⁻², dB")


def draw_curves(
    ax: Axes, curves: Sequence[Curve], x: np.ndarray | None = None, *, labels: Sequence[str] = (),
    colors: Sequence[Any] = (), most: str = "H(A)",
) -> None:  # fmt: skip
    """Information curves with 95 % bands, dotted ceilings and a legend beside them.

    Args:
        ax: where to draw.
        curves: over the same levels.
        x: positions of the levels; None: the levels.
        labels: of the curves; empty: their attributes.
        colors: of the curves; empty: those of the package.
        most: what the dotted ceilings are called.
    """
    for i, c in enumerate(curves):
        colour, dash = style_of(i)
        label = label_of(labels[i] if labels else short(c.attribute, 26))
        line: dict[str, Any] = {"linestyle": dash, "linewidth": 1.6, "marker": "o", "ms": 2.2, "label": label}
        band(ax, c.sigma if x is None else x, c.value, 1.96 * c.error, colors[i] if colors else colour, 0.2, **line)
    for ceiling in dict.fromkeys(round(c.ceiling, 6) for c in curves):
        ceiling_line(ax, ceiling)
    top = max(c.ceiling for c in curves)
    ax.set_ylim(min(-0.03 * top, *(float((c.value - 1.96 * c.error).min()) for c in curves)), top * 1.06)
    bound = any(c.kind == "lower bound" for c in curves)
    ax.set_ylabel("information, nats" + (" (lower bounds)" if bound else ""))
    legend_beside(ax, f"95 % bands\ndotted: {most}")


@styled
def curves_figure(curves: Sequence[Curve], title: str = "", most: str = "H(A)") -> Figure:
    """I(A; Y_sigma) of each attribute with its 95 % band and its ceiling, by default H(A), in nats."""
    if not curves:
        raise ValueError("there is no curve to draw")
    fig, ax = single(max(3.8, 1.2 + 0.2 * len(curves)))
    draw_curves(ax, curves, most=most)
    sigma_axis(ax, *span_of(curves), decibels=True, ticks=7)
    if title:
        fig.suptitle(short(title, 60), fontsize=11)
    return fig


@styled
def estimators_figure(curves: Sequence[Curve], others: Sequence[Curve]) -> Figure:
    """Every estimator of every attribute in nats, with 95 % bands, a panel for each attribute."""
    estimators = list(dict.fromkeys(c.estimator for c in (*curves, *others)))
    span = span_of(curves)
    fig, panels = tiled(len(curves), 2.4, 0.7, sharex=True)
    for ax, base in zip(panels, curves, strict=True):
        for c in (base, *(o for o in others if o.attribute == base.attribute)):
            k = estimators.index(c.estimator)
            width, dash = (3.0, "-") if c is base else (1.3, _DASHES[1 + k % 3])
            curve_band(ax, c, style_of(k)[0], 0.15, linewidth=width, linestyle=dash, label=c.estimator)
        ax.lines[0].set_alpha(0.45)  # the main one, broad and pale, under the others
        ceiling_line(ax, base.ceiling)
        titled(ax, span, base.attribute)
    legend_above(fig, len(estimators))
    fig.supxlabel(GENERATION, fontsize=9)
    fig.supylabel("information, nats", fontsize=9)
    return fig


@styled
def tree_figure(curves: Sequence[Curve], results: xr.Dataset) -> Figure:
    """A hierarchy: shares I/H of the first node of each level, and information about all nodes of each level.

    Args:
        curves: of the first nodes that were studied, from the root down.
        results: of the study, which hold I(A_l; Y) of whole levels, shape (tree, levels), its error and H(A_l).
    """
    whole, error, ceiling = (results[f"whole_{k}"].values for k in ("information", "stderr", "ceiling"))
    sigma = curves[0].sigma
    fig = Figure(figsize=(WIDE, 4.2), layout="constrained")
    left, right = fig.subplots(1, 2)
    for i, c in enumerate(curves):
        colour, dash = style_of(i)
        share, half = c.value / c.ceiling, 1.96 * c.error / c.ceiling
        band(left, sigma, share, half, colour, 0.2, linestyle=dash, linewidth=1.5, label=c.attribute)
    left.set_ylabel("share I/H of the first node of a level")
    for level, (value, half) in enumerate(zip(whole, 1.96 * error, strict=True)):
        colour, dash = style_of(level)
        name = "root" if level == 0 else "leaves" if level == len(whole) - 1 else f"level {level}"
        band(right, sigma, value, half, colour, 0.2, linestyle=dash, linewidth=1.5, label=name)
        ceiling_line(right, ceiling[level], color=colour)
    right.set_yscale("log")
    plain_numbers(right.yaxis)
    right.set_ylim(max(1e-3, float(whole[0, 0]) / 2), float(ceiling[-1]) * 1.5)
    right.set_ylabel("information about all nodes of a level, nats")
    low, high = moving(sigma, np.concatenate([whole, [c.value for c in curves]]))
    for ax in (left, right):
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8.5, frameon=False)
        sigma_axis(ax, low, high, decibels=False, ticks=6)
        ax.set_xlabel("noise level σ")
    return fig


@styled
def agreement_figure(agreements: Sequence[Agreement], curves: Sequence[Curve]) -> Figure:
    """Difference of each estimator from the posterior one, as a share of H(A), with 95 % bands."""
    index = {c.attribute: i for i, c in enumerate(curves)}
    estimators = list(dict.fromkeys(a.estimator for a in agreements))
    low, high = span_of(curves)
    fig = Figure(figsize=(NARROW, 2.0 * len(estimators) + 0.7), layout="constrained")
    panels = fig.subplots(len(estimators), 1, squeeze=False, sharex=True)[:, 0]
    for ax, estimator in zip(panels, estimators, strict=True):
        for a in agreements:
            if a.estimator != estimator:
                continue
            colour, dash = style_of(index[a.attribute])
            middle, half = 100 * a.difference / a.ceiling, 196 * a.stderr / a.ceiling
            label = label_of(short(a.attribute, 26))
            band(ax, a.sigma, middle, half, colour, 0.12, linestyle=dash, linewidth=1.3, label=label)
        ax.axhline(0.0, color="0.3", linewidth=0.8)
        sigma_axis(ax, low, high, decibels=False, ticks=7)
        ax.set_xlabel(GENERATION if ax is panels[-1] else "")
        ax.set_ylabel("% of H(A)")
        ax.set_title(f"{estimator} minus posterior", fontsize=9.5, loc="left")
    legend_beside(panels[0], size=8.5)
    return fig


@styled
def conditional_figure(pairs: Sequence[tuple[Curve, Curve]]) -> Figure:
    """Information about an attribute where another one is known (full) and where none is (dashed), with ceilings."""
    fig, ax = single(4.2)
    for i, (given, alone) in enumerate(pairs):
        colour, _ = style_of(i)
        curve_band(ax, given, colour, 0.2, linewidth=1.8, label=f"I({short(given.attribute, 26)})")
        ax.plot(alone.sigma, alone.value, color=colour, linewidth=1.2, linestyle=_DASHES[1])
        ceiling_line(ax, given.ceiling, color=colour, linewidth=1.3)
        if abs(alone.ceiling - given.ceiling) > 1e-6:
            ax.axhline(alone.ceiling, color=colour, linewidth=0.8, linestyle=(0, (1, 6)))
    low, high = span_of([c for pair in pairs for c in pair])
    sigma_axis(ax, low, high, decibels=True, ticks=7)
    ax.set_ylabel("information, nats")
    legend_beside(ax, "full: the other is known\ndashed: it is not\ndotted: H(B | A); sparse: H(B)", 8.5)
    return fig


@styled
def windows_figure(table: Sequence[Onset], curves: Sequence[Curve], whole: str = "H(A)") -> Figure:
    """Windows from 10 to 90 % of H(A) or another whole as bars, the half as a dot with its 95 % interval."""
    index = {c.attribute: i for i, c in enumerate(curves)}
    fig, ax = single(1.5 + 0.36 * len(table))
    low, high = span_of(curves)
    for y, row in enumerate(table):
        colour, _ = style_of(index[row.attribute])
        start, half, end = row.at
        left, right = min(start.value, high), max(end.value, low)
        if left > right:
            hatch = None if start.reached and end.reached else "///"
            ax.barh(y, left - right, left=right, height=0.5, color=colour, alpha=0.35, hatch=hatch)
        else:
            text = "not reached within these levels" if start.value == 0.0 else "decided above these levels"
            ax.text(math.sqrt(low * high), y, text, ha="center", va="center", color="0.35", fontsize=9)
        if half.reached:
            ends = np.clip([half.high, half.low], low, high)
            ax.plot(ends, [y, y], color=colour, linewidth=7, solid_capstyle="butt")
            ax.plot([half.value], [y], "o", color="white", markersize=3)
        if row.peak.reached:
            ax.plot([row.peak.value], [y], "|", color="0.15", markersize=13, markeredgewidth=1.2)
    ax.set_yticks(range(len(table)), [short(row.attribute, 24) for row in table])
    ax.set_ylim(len(table) - 0.4, -0.6)
    sigma_axis(ax, low, high, decibels=False)
    key = f"pale: 10 to 90 % of {whole} · full, dot: half, with its 95 % interval · tick: peak rate"
    fig.suptitle(key, fontsize=8)
    return fig


def strip_levels(table: Sequence[Onset], sigma: np.ndarray, count: int = 9) -> np.ndarray:
    """Noise levels for the strip, spread over the windows of all attributes."""
    seen = [q.value for row in table for q in row.at if q.reached]
    high = min(float(sigma.max()), 2.0 * max(seen)) if seen else float(sigma.max())
    low = max(float(sigma.min()), 0.05 * min(seen)) if seen else float(sigma.min())
    return np.geomspace(high, low, count)


@styled
def strip_figure(v: np.ndarray, noise: np.ndarray, sigmas: np.ndarray) -> Figure:
    """One item under the same noise at several levels; contrast is reduced as noise grows.

    Args:
        v: an item, shape (channels, height, width), or any other shape: then it is drawn as a line.
        noise: standard normal, same shape.
        sigmas: levels, decreasing.
    """
    picture = v.ndim == 3 and v.shape[0] in (1, 3) and min(v.shape[1:]) > 1
    middle, spread = float(v.mean()), max(float(v.std()), 1e-6)
    fig = Figure(figsize=(WIDE, 1.55), layout="constrained")
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
