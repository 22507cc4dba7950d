"""Figures that need an exact filter: single values, pairs of attributes, and the items themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sigmascope.report.figures import (
    GENERATION,
    WIDE,
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
    tiled,
    titled,
)
from sigmascope.report.table import plus_minus

_LEGEND = 14  # values of an attribute that a legend names; of more, the first and the last
_ENDS = 5  # how many of each
_BANDS = 7  # values of an attribute whose bands can be distinguished
_WRITTEN = 10  # attributes of a matrix whose cells hold numbers
_PAIRS = 6  # pairs whose curves are drawn
_INTERVAL = ("", "_low", "_high")
_SURE = 4.0  # standard errors beyond which the largest value over levels counts as more than chance


def attributes_of_values(results: xr.Dataset) -> list[str]:
    """Names of the attributes whose single values were studied, in order."""
    return list(dict.fromkeys(str(n) for n in results.value_attribute.values))


def values_of(results: xr.Dataset, name: str) -> xr.Dataset:
    """The part of the results about the values of one attribute, the value that is decided first on top."""
    rows = np.flatnonzero(results.value_attribute.values == name)
    return results.isel(value=rows[np.argsort(-results.value_half.values[rows], kind="stable")])


@styled
def values_figure(results: xr.Dataset) -> Figure:
    """For each attribute, the share of -ln p(a) that is known of each value, with 95 % bands where they are few."""
    names = attributes_of_values(results)
    sigma = results.sigma.values
    fig, panels = tiled(len(names), 2.7, 0.4, columns=2)
    for ax, name in zip(panels, names, strict=True):
        values = values_of(results, name)
        count = values.sizes["value"]
        ceilings = np.maximum(values.value_ceiling.values, 1e-12)[:, None]
        shares, halves = values.value_information.values / ceilings, 1.96 * values.value_stderr.values / ceilings
        few = count <= _LEGEND
        for i in reversed(range(count)):
            if not few and _ENDS <= i < count - _ENDS:
                ax.plot(sigma, shares[i], linewidth=0.6, color="0.75")
        for k, i in enumerate(range(count) if few else [*range(_ENDS), *range(count - _ENDS, count)]):
            colour, dash = style_of(k)
            label = label_of(short(str(values.value.values[i]), 18))
            half = halves[i] if count <= _BANDS else np.zeros_like(halves[i])
            band(ax, sigma, shares[i], half, colour, 0.12, linewidth=1.3, linestyle=dash, label=label)
        ceiling_line(ax, 1.0)
        titled(ax, moving(sigma, shares), name)
        ax.set_ylim(-0.12, 1.12)
        legend_beside(ax, "first decided on top" + ("" if few else f"\ngrey: {count - 2 * _ENDS} more"), 8)
    fig.supxlabel(GENERATION, fontsize=9)
    fig.supylabel("share of −ln p(value) that is known", fontsize=9)
    return fig


@styled
def value_halves_figure(results: xr.Dataset) -> Figure:
    """For each attribute, where half is known of each of its values, with its 95 % interval, the first on top."""
    names = attributes_of_values(results)
    columns = min(3, len(names))
    counts = [int((results.value_attribute.values == n).sum()) for n in names]
    heights = [max(counts[k : k + columns]) for k in range(0, len(names), columns)]
    low, high = _span(results)
    colour, _ = style_of(0)
    fig = Figure(figsize=(WIDE, sum(0.19 * h + 0.75 for h in heights) + 0.3), layout="constrained")
    panels = fig.subplots(len(heights), columns, squeeze=False, height_ratios=[h + 2.5 for h in heights]).flat
    for ax in panels[len(names) :]:
        ax.set_axis_off()
    for ax, name in zip(panels, names, strict=False):
        values = values_of(results, name)
        for y, (half, *ends) in enumerate(zip(*(values[f"value_half{e}"].values for e in _INTERVAL), strict=True)):
            if 0.0 < half < math.inf:
                ax.plot(np.clip(ends, low, high), [y, y], color=colour, linewidth=2.4, alpha=0.5)
                ax.plot([half], [y], "o", color=colour, markersize=4)
            else:
                ax.plot([low if half == 0.0 else high], [y], ">" if half == 0.0 else "<", color=colour)
        titled(ax, (low, high), name)
        ax.set_yticks(range(values.sizes["value"]), [short(str(v), 18) for v in values.value.values], fontsize=8)
        ax.set_ylim(values.sizes["value"] - 0.3, -0.7)
    fig.supxlabel("noise level σ at which half of −ln p(value) is known; bars: 95 % intervals", fontsize=9)
    return fig


def _span(results: xr.Dataset) -> tuple[float, float]:
    """Levels that hold all halves and their intervals, as far as they were studied."""
    ends = np.concatenate([results[f"value_half{k}"].values for k in _INTERVAL])
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
    fig, ax = single(3.8)
    colour, _ = style_of(0)
    ax.fill_between(sigma, low, high, color=colour, alpha=0.22, linewidth=0, label="10 to 90 % of the noisy images")
    ax.plot(sigma, middle, color=colour, linewidth=1.7, marker="o", ms=2.5, label="median")
    ceiling_line(ax, 2.0)
    if 0.0 < at < math.inf:
        mark, _ = style_of(1)
        ax.axvspan(*np.clip(ends, sigma.min(), sigma.max()), color=mark, alpha=0.25, linewidth=0)
        ax.axvline(at, color=mark, linewidth=1.2, label=f"identified below σ = {at:.3g}")
    sigma_axis(ax, *moving(sigma, np.log(middle[0]) - np.log([low, middle, high])), decibels=True, ticks=7)
    ax.set_yscale("log")
    ax.set_ylim(0.8, 1.6 * float(items.max()))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("items still possible, 1 / Σ p²")
    ax.legend(loc="lower left", fontsize=8.5, frameon=False)
    return fig


def strongest_pairs(results: xr.Dataset) -> list[tuple[str, str, int]]:
    """Pairs whose largest interaction exceeds four standard errors, with its level; the largest first."""
    value, error = results.pair_interaction.values, results.pair_stderr.values
    names, level = [str(n) for n in results["first"].values], _peaks(value)
    strong = []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            k = int(level[i, j])
            if abs(value[i, j, k]) > _SURE * error[i, j, k]:
                strong.append((abs(value[i, j, k]), names[i], names[j], k))
    return [(a, b, k) for _, a, b, k in sorted(strong, key=lambda row: -row[0])]


def _peaks(value: Float[np.ndarray, "first second levels"]) -> Int64[np.ndarray, "first second"]:
    """The first level of each curve that is within 1 % of where it is farthest from 0: it may stay there."""
    far = np.abs(value)
    return np.asarray((far >= 0.99 * far.max(2, keepdims=True)).argmax(2))


@styled
def pairs_figure(results: xr.Dataset) -> Figure:
    """The largest interaction of each pair as a matrix: violet redundant, orange synergistic, with its level."""
    value, error = results.pair_interaction.values, results.pair_stderr.values
    names = [short(str(n), 20) for n in results["first"].values]
    n = len(names)
    level = _peaks(value)
    peak = np.take_along_axis(value, level[..., None], 2)[..., 0]
    peak[np.triu_indices(n)] = 0.0
    limit = max(float(np.abs(peak).max()), 1e-9)
    fig, ax = single(min(8.0, 1.6 + 0.62 * n), min(WIDE, 2.9 + 0.9 * n))
    shown = np.ma.masked_where(np.triu(np.ones((n, n), dtype=bool)), peak)[1:, :-1]
    picture = ax.imshow(shown, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    if n <= _WRITTEN:
        for i in range(1, n):
            for j in range(i):
                # Neither black nor white: those a dark page exchanges, but not the colours of the cells.
                ink = "#fefefe" if abs(peak[i, j]) > 0.65 * limit else "#111111"
                number = plus_minus(peak[i, j], 1.96 * error[i, j, level[i, j]]).partition(" ±")[0]
                text = f"{number}\nσ {float(results.sigma[level[i, j]]):.2g}"
                ax.text(j, i - 1, text, ha="center", va="center", fontsize=8, color=ink)
    ax.set_xticks(range(n - 1), names[:-1], rotation=30, ha="right", fontsize=8.5)
    ax.set_yticks(range(n - 1), names[1:], fontsize=8.5)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    bar = fig.colorbar(picture, ax=ax, shrink=0.85)
    bar.set_label("nats; above 0: redundant, below: only together", fontsize=8.5)
    return fig


@styled
def pair_curves_figure(results: xr.Dataset, pairs: Sequence[tuple[str, str, int]]) -> Figure:
    """Interaction information of some pairs over the noise level, with 95 % bands; dotted: I(A; B)."""
    sigma = results.sigma.values
    fig, ax = single(3.8)
    values = []
    for i, (first, second, _) in enumerate(pairs[:_PAIRS]):
        colour, dash = style_of(i)
        pair = results.sel(first=first, second=second)
        value, half = pair.pair_interaction.values, 1.96 * pair.pair_stderr.values
        values.append(value)
        name = label_of(f"{short(first, 14)},\n{short(second, 14)}")
        band(ax, sigma, value, half, colour, linestyle=dash, linewidth=1.5, label=name)
        if float(pair.pair_ceiling) > 1e-9:
            ceiling_line(ax, float(pair.pair_ceiling), color=colour, linewidth=0.8)
    ax.axhline(0.0, color="0.3", linewidth=0.8)
    sigma_axis(ax, *moving(sigma, np.array(values)), decibels=True, ticks=7)
    ax.set_ylabel("interaction information, nats")
    legend_beside(ax, "dotted: I(A; B)", 8.5)
    return fig
