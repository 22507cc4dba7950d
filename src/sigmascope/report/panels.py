"""Figures of what an exact filter tells beyond attributes: single values, pairs, and the items themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sigmascope.report.figures import (
    band,
    ceiling_line,
    label_of,
    sheet,
    short,
    sigma_axis,
    style_of,
    styled,
    tiled,
    titled,
)

_NAMED = 16  # values of an attribute that a legend can name
_WRITTEN = 10  # attributes of a matrix whose cells hold numbers
_SHOWN = 6  # pairs whose curves are drawn
_SURE = 4.0  # standard errors beyond which the largest value over levels is taken for one


def attributes_of_values(results: xr.Dataset) -> list[str]:
    """Names of the attributes whose single values were looked at, in order."""
    return list(dict.fromkeys(str(n) for n in results.value_attribute.values))


def _of(results: xr.Dataset, name: str) -> xr.Dataset:
    return results.isel(value=np.flatnonzero(results.value_attribute.values == name))


def _look(index: int, count: int) -> dict[str, Any]:
    """Colour and dash of one of ``count`` values: told apart where they are few, in order where they are many."""
    if count <= 7:
        colour, dash = style_of(index)
        return {"color": colour, "linestyle": dash}
    return {"color": matplotlib.colormaps["viridis"](0.92 * index / (count - 1)), "linestyle": "-"}


@styled
def values_figure(results: xr.Dataset) -> Figure:
    """For each attribute, the share of -ln p(a) that is known of each of its values, with 95 % bands."""
    names = attributes_of_values(results)
    sigma = results.sigma.values
    fig, panels = tiled(len(names), 2.9, 0.3)
    for ax, name in zip(panels, names, strict=True):
        mine = _of(results, name)
        count = mine.sizes["value"]
        for i in range(count):
            ceiling = max(float(mine.value_ceiling[i]), 1e-12)
            share = mine.value_information.values[i] / ceiling
            half = 1.96 * mine.value_stderr.values[i] / ceiling
            look = _look(i, count)
            if count <= _NAMED:
                ax.fill_between(sigma, share - half, share + half, color=look["color"], alpha=0.1, linewidth=0)
            ax.plot(sigma, share, linewidth=1.2, label=label_of(short(str(mine.value.values[i]), 18)), **look)
        ceiling_line(ax, 1.0)
        titled(ax, sigma, short(name, 28))
        ax.minorticks_off()
        ax.set_ylim(-0.12, 1.12)
        if count <= _NAMED:
            legend = ax.legend(loc="upper left", fontsize=6, handlelength=1.3, labelspacing=0.25)
            legend.get_frame().set(linewidth=0, alpha=0.8)
    fig.supxlabel("noise level σ", fontsize=9)
    fig.supylabel("share of −ln p(value) known", fontsize=9)
    return fig


@styled
def value_halves_figure(results: xr.Dataset) -> Figure:
    """For each attribute, where half is known of each of its values, with its 95 % interval, the first on top."""
    names = attributes_of_values(results)
    columns = min(3, len(names))
    counts = [int((results.value_attribute.values == n).sum()) for n in names]
    heights = [max(counts[k : k + columns]) for k in range(0, len(names), columns)]
    low, high = _span(results)
    fig = Figure(figsize=(9.0, sum(0.17 * h + 0.75 for h in heights) + 0.3), layout="constrained")
    panels = fig.subplots(len(heights), columns, squeeze=False, height_ratios=[h + 2.5 for h in heights]).flat
    for ax in panels[len(names) :]:
        ax.set_axis_off()
    for ax, name in zip(panels, names, strict=False):
        mine = _of(results, name)
        half = mine.value_half.values
        order = np.argsort(-half, kind="stable")
        for y, k in enumerate(order):
            look = _look(int(k), len(order))["color"]
            if 0.0 < half[k] < math.inf:
                ends = (float(mine.value_half_low[k]), float(mine.value_half_high[k]))
                ax.plot(np.clip(ends, low, high), [y, y], color=look, linewidth=2.2, alpha=0.7)
                ax.plot([half[k]], [y], "o", color=look, markersize=4)
            else:
                ax.plot([low if half[k] == 0.0 else high], [y], ">" if half[k] == 0.0 else "<", color=look)
        ax.set_yticks(range(len(order)), [short(str(mine.value.values[k]), 18) for k in order], fontsize=6.5)
        ax.set_ylim(len(order) - 0.3, -0.7)
        sigma_axis(ax, low, high, decibels=False)
        if high / low < 30:
            close = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
            ax.xaxis.set_major_locator(LogLocator(subs=close if high / low < 3 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        ax.tick_params(axis="x", labelsize=7.5)
        ax.set_xlabel("")
        ax.set_title(short(name, 28), fontsize=9.5, loc="left")
    fig.supxlabel("noise level σ at which half of −ln p(value) is known; bars: 95 % intervals", fontsize=9)
    return fig


def _span(results: xr.Dataset) -> tuple[float, float]:
    """Levels that hold all halves and their intervals, as far as they were studied."""
    ends = np.concatenate([results[f"value_half{k}"].values for k in ("", "_low", "_high")])
    seen = ends[(ends > 0.0) & np.isfinite(ends)]
    first, last = float(results.sigma[0]), float(results.sigma[-1])
    if not len(seen):
        return last, first
    return max(last, float(seen.min()) / 1.15), min(first, float(seen.max()) * 1.15)


@styled
def items_figure(results: xr.Dataset) -> Figure:
    """Effective number of items over the noise level: median and 10 to 90 % of the draws, and where it falls to one."""
    sigma, items = results.sigma.values, results.effective_items.values
    low, middle, high = np.quantile(items, [0.1, 0.5, 0.9], axis=1)
    at, ends = float(results.identified_sigma), [float(results[f"identified_sigma_{k}"]) for k in ("low", "high")]
    fig, ax = sheet(8.0, 3.8)
    colour, _ = style_of(0)
    ax.fill_between(sigma, low, high, color=colour, alpha=0.22, linewidth=0, label="10 to 90 % of the noisy images")
    ax.plot(sigma, middle, color=colour, linewidth=1.7, marker="o", ms=2.5, label="median")
    ceiling_line(ax, 2.0)
    if 0.0 < at < math.inf:
        mark, _ = style_of(1)
        ax.axvspan(*np.clip(ends, sigma.min(), sigma.max()), color=mark, alpha=0.25, linewidth=0)
        ax.axvline(at, color=mark, linewidth=1.2, label=f"identified below σ = {at:.3g}")
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=True)
    ax.set_yscale("log")
    ax.set_ylim(0.8, 1.6 * float(items.max()))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("items still possible, 1 / Σ p²")
    ax.legend(loc="upper right", fontsize=9, frameon=False)
    return fig


def strongest_pairs(results: xr.Dataset) -> list[tuple[str, str, int]]:
    """Pairs and the level of the largest interaction of each, the largest first; only what stands out of its error."""
    value, error = results.pair_interaction.values, results.pair_stderr.values
    names, found, level = [str(n) for n in results["first"].values], [], _peaks(value)
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            k = int(level[i, j])
            if abs(value[i, j, k]) > _SURE * error[i, j, k]:
                found.append((abs(value[i, j, k]), names[i], names[j], k))
    return [(a, b, k) for _, a, b, k in sorted(found, key=lambda row: -row[0])]


def _peaks(value: Float[np.ndarray, "first second levels"]) -> Int64[np.ndarray, "first second"]:
    """The first level of each curve that is within 1 % of where it is farthest from 0: it may stay there."""
    far = np.abs(value)
    return (far >= 0.99 * far.max(2, keepdims=True)).argmax(2)


@styled
def pairs_figure(results: xr.Dataset) -> Figure:
    """The largest interaction of each pair as a matrix: violet redundant, orange synergistic, with its level."""
    value, names = results.pair_interaction.values, [short(str(n), 20) for n in results["first"].values]
    n = len(names)
    level = _peaks(value)
    peak = np.take_along_axis(value, level[..., None], 2)[..., 0]
    peak[np.triu_indices(n)] = 0.0
    most = max(float(np.abs(peak).max()), 1e-9)
    fig, ax = sheet(min(9.0, 3.4 + 0.9 * n), min(8.0, 1.6 + 0.62 * n))
    shown = np.ma.masked_where(np.triu(np.ones((n, n), dtype=bool)), peak)[1:, :-1]
    picture = ax.imshow(shown, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
    if n <= _WRITTEN:
        for i in range(1, n):
            for j in range(i):
                ink = "white" if abs(peak[i, j]) > 0.65 * most else "0.1"
                text = f"{peak[i, j]:+.2g}\nσ {float(results.sigma[level[i, j]]):.2g}".replace("-", "−")
                ax.text(j, i - 1, text, ha="center", va="center", fontsize=8, color=ink)
    ax.set_xticks(range(n - 1), names[:-1], rotation=30, ha="right", fontsize=8.5)
    ax.set_yticks(range(n - 1), names[1:], fontsize=8.5)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    bar = fig.colorbar(picture, ax=ax, shrink=0.85)
    bar.set_label("nats; above 0: told twice, below: only together", fontsize=8.5)
    return fig


@styled
def pair_curves_figure(results: xr.Dataset, pairs: Sequence[tuple[str, str, int]]) -> Figure:
    """Interaction information of some pairs over the noise level, with 95 % bands; dotted: I(A; B)."""
    sigma = results.sigma.values
    fig, ax = sheet(8.0, 4.0)
    for i, (first, second, _) in enumerate(pairs[:_SHOWN]):
        colour, dash = style_of(i)
        of = results.sel(first=first, second=second)
        value, half = of.pair_interaction.values, 1.96 * of.pair_stderr.values
        name = label_of(f"{short(first, 20)}, {short(second, 20)}")
        band(ax, sigma, value, half, colour, linestyle=dash, linewidth=1.5, label=name)
        if float(of.pair_ceiling) > 1e-9:
            ceiling_line(ax, float(of.pair_ceiling), color=colour, linewidth=0.8)
    ax.axhline(0.0, color="0.3", linewidth=0.8)
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=True)
    ax.set_ylabel("interaction information, nats")
    ax.legend(fontsize=8.5, frameon=False)
    return fig
