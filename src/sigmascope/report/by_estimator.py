"""Figures of a study of a model: every estimator of each attribute, the bounds, the checks, and continuations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sigmascope.report.figures import (
    GENERATION,
    NARROW,
    WIDE,
    band,
    ceiling_line,
    half_interval,
    label_of,
    legend_above,
    legend_beside,
    moving,
    short,
    sigma_axis,
    style_of,
    styled,
    tiled,
    titled,
)
from sigmascope.report.findings import Findings
from sigmascope.report.gallery import show_item
from sigmascope.report.precision import real_attributes

_NULLS = (
    ("null_score_gap", "random labels", "-"),
    ("null_number_score_gap", "numbers in\nrandom order", ":"),
)
_TOP = 1.35  # of H(A): the upper edge of a panel
_OWN_PATH = 4  # colour of the curve along the model's own path
_BLACK = 6  # index of black, which belongs to the exact curve
_EXACT = (0, (5, 2))
_DASHES = ("-", "--", ":", "-.")  # of bounds that share a colour
_COLUMNS = 9  # noise levels of the gallery
_SPREAD = 0.25  # standard deviation of the pixels of noisier images as they are drawn


def _colour(findings: Findings, estimator: str) -> str:
    """The colour of an estimator that is not exact: never black."""
    index = findings.look(estimator).colour
    return "#6F4E37" if index == _BLACK else style_of(index)[0]


def _span(results: xr.Dataset) -> tuple[float, float]:
    """The range of noise levels in which any curve moves; biased estimates that leave H(A) do not count beyond it."""
    ceiling = results.ceiling.values[:, None, None]
    values = results.information.transpose("attribute", "estimator", "sigma").values
    return moving(results.sigma.values, np.minimum(values / ceiling, 1.0))


@styled
def _panels(results: xr.Dataset, draw: Callable[[Axes, xr.Dataset], None], label: str, columns: int) -> Figure:
    """A figure with a panel for each attribute, its entropy dotted, and a legend with this many columns."""
    span = _span(results)
    fig, axes = tiled(results.sizes["attribute"], 2.5, 0.9, sharex=True)
    for ax, name in zip(axes, results.attribute.values, strict=True):
        row = results.sel(attribute=name)
        draw(ax, row)
        ceiling_line(ax, float(row.ceiling))
        titled(ax, span, str(name))
    legend_above(fig, columns if len(axes) > 1 else 2)
    fig.supxlabel(GENERATION, fontsize=9)
    fig.supylabel(label, fontsize=9)
    return fig


def _curve(ax: Axes, row: xr.Dataset, estimator: str, findings: Findings, width: float) -> None:
    """The curve of an estimator: an exact one dashed in black, any other in colour with its band."""
    curve, label = row.sel(estimator=estimator), findings.label(estimator)
    sigma, value = curve.sigma.values, curve.information.values
    if findings.look(estimator).kind == "exact":
        ax.plot(sigma, value, color="black", linewidth=1.2, linestyle=_EXACT, label=label)
    else:
        band(ax, sigma, value, half_interval(curve), _colour(findings, estimator), 0.18, linewidth=width, label=label)


def model_figure(findings: Findings) -> Figure:
    """For each attribute the best bound, the gaps (dotted where they are marked as biased), and the exact curve."""
    gaps = findings.estimators("estimate")[::-1]  # the first on top
    bounds = [e for e in findings.estimators("lower bound") if e in ("heldout", "bound")]
    curves = [*findings.estimators("exact"), *bounds]

    def draw(ax: Axes, row: xr.Dataset) -> None:
        ceiling = float(row.ceiling)
        ax.set_ylim(-0.05 * ceiling, _TOP * ceiling)
        over = [line for e in (*curves, *gaps) if (line := _over_the_top(row, e))]
        ax.text(0.98, 0.97, "\n".join(over), transform=ax.transAxes, ha="right", va="top", fontsize=8)
        for e in curves:
            _curve(ax, row, e, findings, 2.4 if e == "bound" else 1.4)
        for e in gaps:
            gap = row.sel(estimator=e)
            biased, colour = ~gap.trusted.values.astype(bool), _colour(findings, e)
            values, half = gap.information.values, half_interval(gap)
            band(ax, gap.sigma.values, values, half, colour, biased=biased, linewidth=1.5, label=e)

    return _panels(findings.results, draw, "information, nats", 3)


def _over_the_top(row: xr.Dataset, estimator: str) -> str:
    """How high a curve goes that leaves the panel, with an arrow; empty where none does."""
    value, ceiling = row.information.sel(estimator=estimator).values, float(row.ceiling)
    highest = float(np.nanmax(value, initial=-np.inf))
    return f"↑ {estimator}: {highest:.3g} of {ceiling:.2g} nats" if highest > _TOP * ceiling else ""


def sampler_figure(findings: Findings) -> Figure:
    """For each attribute the information by forks, the probes' bounds, and the exact filter's curve."""

    def draw(ax: Axes, row: xr.Dataset) -> None:
        ceiling = float(row.ceiling)
        ax.set_ylim(-0.08 * ceiling, 1.2 * ceiling)
        for e in map(str, row.estimator.values):
            _curve(ax, row, e, findings, 2.4 if e == "forks" else 1.4)
        if "path_information" in row:
            half = 1.96 * np.hypot(row.path_stderr.values, row.path_quadrature_error.values)
            line: dict[str, Any] = {"linewidth": 1.8, "linestyle": "-.", "label": "forks along the model's own path"}
            band(ax, row.sigma.values, row.path_information.values, half, style_of(_OWN_PATH)[0], 0.18, **line)

    return _panels(findings.results, draw, "information, nats", 3)


def bounds_figure(findings: Findings) -> Figure:
    """Each lower bound of each attribute, and the best of them broad and pale."""

    def draw(ax: Axes, row: xr.Dataset) -> None:
        drawn: list[str] = []
        for e in findings.estimators("lower bound"):
            colour = _colour(findings, e)
            dash = _DASHES[drawn.count(colour) % len(_DASHES)]
            drawn += [colour] if e != "bound" else []
            width, alpha = (4.0, 0.4) if e == "bound" else (1.4, 1.0)
            value = row.information.sel(estimator=e).values
            ax.plot(row.sigma.values, value, color=colour, linewidth=width, alpha=alpha, linestyle=dash, label=e)

    bounded = findings.results.information.sel(estimator=findings.estimators("lower bound")).notnull()
    some = bounded.any(("estimator", "sigma")).values  # real-valued attributes have no bounds
    return _panels(findings.results.isel(attribute=some), draw, "lower bound, nats", 4)


@styled
def calibration_figure(results: xr.Dataset) -> Figure:
    """Three quantities that are zero for exact denoisers, as shares of H(A)."""
    sigma = results.sigma.values
    titles = {"calibration": "calibration", "chain": "chain rule: what is left"}
    titles = {k: words for k, words in titles.items() if f"{k}_stderr" in results}
    fig = Figure(figsize=(NARROW, 2.6 * len(titles) + 0.5), layout="constrained")
    axes = fig.subplots(len(titles), 1, squeeze=False)[:, 0]
    for ax, (kind, title) in zip(axes, titles.items(), strict=True):
        values, error = results["chain_residual" if kind == "chain" else kind], results[f"{kind}_stderr"]
        for i, name in enumerate(results.attribute.values):
            ceiling, (colour, dash) = float(results.ceiling.sel(attribute=name)), style_of(i)
            value = 100 * values.sel(attribute=name).values / ceiling
            half = 196 * error.sel(attribute=name).values / ceiling
            label = label_of(short(str(name), 26))
            band(ax, sigma, value, half, colour, 0.15, linestyle=dash, linewidth=1.3, label=label)
        for variable, words, style in _NULLS if kind == "calibration" else ():
            if variable in results:
                null = 100 * results[variable].values / float(results.ceiling.mean())
                label = f"{words}:\nscore gap"
                ax.plot(sigma, null, color="0.4", linewidth=2.2, alpha=0.6, linestyle=style, label=label)
        share = 100 * float(results.attrs["trust_tolerance"])
        ax.axhspan(-share, share, color="0.9", zorder=0)
        ax.axhline(0.0, color="0.3", linewidth=0.8)
        ax.set_ylim(-60, 60)
        sigma_axis(ax, *_span(results), decibels=False, ticks=7)
        ax.set_xlabel(GENERATION if ax is axes[-1] else "")
        ax.set_title(title, fontsize=9.5, loc="left")
        ax.set_ylabel("% of the ceiling" if real_attributes(results) else "% of H(A)")
    legend_beside(axes[0], size=8.5)
    return fig


@styled
def children_figure(results: xr.Dataset) -> Figure:
    """One image at falling noise, and below each noisy image some continuations by the pipeline."""
    sigma = results.sigma.values
    at = np.unique(np.linspace(0, len(sigma) - 1, min(_COLUMNS, len(sigma))).round().astype(int))
    count = results.sizes["child"]
    fig = Figure(figsize=(min(WIDE, 1.05 * len(at)), 1.05 * (count + 1) + 0.5), layout="constrained")
    axes = fig.subplots(count + 1, len(at), squeeze=False)
    for column, k in enumerate(at.tolist()):
        noisy = results.parent.values[k]
        show_item(axes[0][column], noisy, spread=_SPREAD if sigma[k] > _SPREAD else None)
        axes[0][column].set_title(f"σ = {sigma[k]:.2g}", fontsize=8.5)
        for row in range(count):
            show_item(axes[row + 1][column], results.children.values[k, row])
    axes[0][0].set_ylabel("noisy", fontsize=8.5)
    axes[1][0].set_ylabel("continuations", fontsize=8.5)
    return fig
