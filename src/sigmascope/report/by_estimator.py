"""Figures of a study of a model: all estimators of each attribute, the bounds, what must be zero, and children."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sigmascope.report.figures import (
    band,
    ceiling_line,
    half_interval,
    label_of,
    sigma_axis,
    style_of,
    styled,
    tiled,
    titled,
)
from sigmascope.report.findings import Findings
from sigmascope.report.gallery import show_item

_TOP = 1.35  # of H(A): the upper edge of a panel
_PATH = 4  # colour of what was found along the model's own path
_COLUMNS = 9  # noise levels of the gallery
_SPREAD = 0.25  # to which the contrast of noisier images is reduced


@styled
def _panels(results: xr.Dataset, draw: Callable[[Axes, xr.Dataset], None], sideways: str, columns: int) -> Figure:
    """A figure with a panel for each attribute, its entropy dotted, and a legend in so many columns."""
    names, sigma = results.attribute.values, results.sigma.values
    fig, axes = tiled(len(names), 2.6, 0.6, sharex=True)
    for ax, name in zip(axes, names, strict=True):
        one = results.sel(attribute=name)
        draw(ax, one)
        ceiling_line(ax, float(one.ceiling))
        titled(ax, sigma, str(name))
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=8.5)
    fig.supxlabel("noise level σ   (generation runs to the right →)", fontsize=9)
    fig.supylabel(sideways, fontsize=9)
    return fig


def _curve(ax: Axes, one: xr.Dataset, estimator: str, found: Findings, width: float) -> None:
    """The curve of an estimator: an exact one dashed in black, any other with its band."""
    of, look = one.sel(estimator=estimator), found.look(estimator)
    sigma, value, label = of.sigma.values, of.information.values, found.label(estimator)
    if look.kind == "exact":
        ax.plot(sigma, value, color="black", linewidth=1.0, linestyle=(0, (4, 2)), label=label)
    else:
        band(ax, sigma, value, half_interval(of), style_of(look.colour)[0], 0.18, linewidth=width, label=label)


def model_figure(found: Findings) -> Figure:
    """For each attribute the best bound, the gaps (dotted where they are marked as biased), and the exact curve."""
    gaps = found.estimators("estimate")[::-1]  # the first on top
    alone = [e for e in found.estimators("lower bound") if e in ("heldout", "bound")]
    shown = [*found.estimators("exact"), *alone]

    def draw(ax: Axes, one: xr.Dataset) -> None:
        ceiling = float(one.ceiling)
        ax.set_ylim(-0.05 * ceiling, _TOP * ceiling)
        over = [w for e in (*shown, *gaps) if (w := _over_the_top(one, e))]
        ax.text(0.98, 0.97, "\n".join(over), transform=ax.transAxes, ha="right", va="top", fontsize=7.5)
        for e in shown:
            _curve(ax, one, e, found, 2.2 if e == "bound" else 1.4)
        for e in gaps:
            _trusted_and_not(ax, one, e, style_of(found.look(e).colour)[0])

    return _panels(found.results, draw, "information, nats", 3)


def _trusted_and_not(ax: Axes, one: xr.Dataset, estimator: str, colour: str) -> None:
    """An estimate with its band, dotted at the levels at which it is marked as biased."""
    of = one.sel(estimator=estimator)
    sigma, value, good = of.sigma.values, of.information.values, of.trusted.values.astype(bool)
    # A line goes on to the neighbouring level, so that no gap opens between trusted and biased.
    near = good | np.roll(good, 1) & (np.arange(len(good)) > 0)
    half, biased = half_interval(of), {"linewidth": 1.1, "linestyle": (0, (1, 1.5))}
    ax.fill_between(sigma, value - half, value + half, color=colour, alpha=0.18, linewidth=0)
    ax.plot(sigma, np.where(near, value, np.nan), color=colour, linewidth=1.4, label=f"{estimator}, trusted")
    ax.plot(sigma, np.where(good, np.nan, value), color=colour, label=f"{estimator}, biased", **biased)  # type: ignore[arg-type]


def _over_the_top(one: xr.Dataset, estimator: str) -> str:
    """How high a curve goes that leaves the panel, with an arrow; empty where none does."""
    value, ceiling = one.information.sel(estimator=estimator).values, float(one.ceiling)
    highest = float(np.nanmax(value, initial=-np.inf))
    return f"↑ {estimator}: {highest:.3g} of {ceiling:.2g} nats" if highest > _TOP * ceiling else ""


def sampler_figure(found: Findings) -> Figure:
    """For each attribute the information by forks, the probes' bounds, and the exact filter's curve."""

    def draw(ax: Axes, one: xr.Dataset) -> None:
        ceiling = float(one.ceiling)
        ax.set_ylim(-0.08 * ceiling, 1.2 * ceiling)
        for e in map(str, one.estimator.values):
            _curve(ax, one, e, found, 2.2 if e == "forks" else 1.2)
        if "path_information" in one:
            half = 1.96 * np.hypot(one.path_stderr.values, one.path_quadrature_error.values)
            look = {"linewidth": 1.6, "label": "forks along the model's own path"}
            band(ax, one.sigma.values, one.path_information.values, half, style_of(_PATH)[0], 0.18, **look)

    return _panels(found.results, draw, "information, nats", 2)


def bounds_figure(found: Findings) -> Figure:
    """Each of the lower bounds of each attribute, and the best of them broad and pale."""

    def draw(ax: Axes, one: xr.Dataset) -> None:
        for e in found.estimators("lower bound"):
            width, alpha = (3.0, 0.45) if e == "bound" else (1.2, 1.0)
            value, colour = one.information.sel(estimator=e).values, style_of(found.look(e).colour)[0]
            ax.plot(one.sigma.values, value, color=colour, linewidth=width, alpha=alpha, label=e)

    return _panels(found.results, draw, "lower bound, nats", 4)


@styled
def calibration_figure(results: xr.Dataset) -> Figure:
    """What must be zero for true conditional means, as a share of H(A): calibration, chain rule, random labels."""
    sigma = results.sigma.values
    kinds = {"calibration": "calibration", "chain": "chain rule's residual"}
    kinds = {k: words for k, words in kinds.items() if f"{k}_stderr" in results}
    fig = Figure(figsize=(9.0, 3.6), layout="constrained")
    axes = fig.subplots(1, len(kinds), squeeze=False)[0]
    for ax, (kind, title) in zip(axes, kinds.items(), strict=True):
        values, error = results["chain_residual" if kind == "chain" else kind], results[f"{kind}_stderr"]
        for i, name in enumerate(results.attribute.values):
            ceiling, (colour, dash) = float(results.ceiling.sel(attribute=name)), style_of(i)
            value = 100 * values.sel(attribute=name).values / ceiling
            half = 196 * error.sel(attribute=name).values / ceiling
            band(ax, sigma, value, half, colour, 0.15, linestyle=dash, linewidth=1.3, label=label_of(str(name)))
        if kind == "calibration" and "null_score_gap" in results:
            null = 100 * results.null_score_gap.values / float(results.ceiling.mean())
            ax.plot(sigma, null, color="0.4", linewidth=2.0, alpha=0.6, label="score gap of random labels")
        share = 100 * float(results.attrs["trust_tolerance"])
        ax.axhspan(-share, share, color="0.9", zorder=0)
        ax.axhline(0.0, color="0.3", linewidth=0.8)
        ax.set_ylim(-60, 60)
        sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False)
        ax.set_title(title, fontsize=9.5, loc="left")
        ax.set_ylabel("% of H(A)")
    axes[0].legend(fontsize=7.5, loc="lower left")
    return fig


@styled
def children_figure(results: xr.Dataset) -> Figure:
    """One image at falling noise, and below each noisy image what the pipeline makes of it, several times."""
    sigma = results.sigma.values
    at = np.unique(np.linspace(0, len(sigma) - 1, min(_COLUMNS, len(sigma))).round().astype(int))
    count = results.sizes["child"]
    fig = Figure(figsize=(1.05 * len(at), 1.05 * (count + 1) + 0.5), layout="constrained")
    axes = fig.subplots(count + 1, len(at), squeeze=False)
    for column, k in enumerate(at.tolist()):
        noisy = results.parent.values[k]
        show_item(axes[0][column], noisy, spread=_SPREAD if sigma[k] > _SPREAD else None)
        axes[0][column].set_title(f"σ = {sigma[k]:.2g}", fontsize=8)
        for row in range(count):
            show_item(axes[row + 1][column], results.children.values[k, row])
    axes[0][0].set_ylabel("noisy", fontsize=8)
    axes[1][0].set_ylabel("children", fontsize=8)
    return fig
