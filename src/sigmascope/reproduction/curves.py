"""Curves of a reproduction: three measurements of one quantity, probes, and further experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sigmascope.core import Curve
from sigmascope.report.figures import (
    WIDE,
    band,
    ceiling_line,
    label_of,
    legend_above,
    legend_beside,
    sigma_axis,
    single,
    span_of,
    style_of,
    styled,
    tiled,
)
from sigmascope.reproduction.figures import TAU, intensity, tau_axis

Ends = tuple[float, float]
Marks = Mapping[str, np.ndarray]
"""For each attribute, the levels at which a curve is marked as biased."""
WHERE = {"features": "feature maps", "noisy": "noisy image", "prior": "random guess"}
_DASHES = ("-", "--", "-.", ":")


@styled
def three_figure(
    gap: Sequence[Curve],
    forks: Sequence[Curve],
    probes: xr.Dataset,
    ends: Ends,
    names: tuple[str, str] = ("", ""),
    biased: Marks | None = None,
) -> Figure:
    """Figure 3 as the paper lays it out: information, entropy of the forks, accuracy of probes, over the intensity.

    Args:
        gap: the paper's estimate for every attribute.
        forks: information by forks; H(A) minus it is drawn.
        probes: the results of the probes.
        ends: smallest and largest sigma of the schedule.
        names: the denoisers of the gap and of the forks.
        biased: levels at which the gap is biased; its line is dotted there.
    """
    fig = Figure(figsize=(11.0, 4.4), layout="constrained")
    panels = fig.subplots(1, 3)
    heads = (f"mutual information{names[0]}", f"entropy across forks{names[1]}", "accuracy of linear probes")
    for ax, head, unit in zip(panels, heads, ("nats", "nats", "share right"), strict=True):
        ax.set_title(head, fontsize=9.5, loc="left")
        ax.set_ylabel(unit)
        tau_axis(ax, ends, decibels=True)
    for i, (g, f) in enumerate(zip(gap, forks, strict=True)):
        colour, dash = style_of(i)
        mark = (biased or {}).get(g.attribute)
        line = {"linestyle": dash, "linewidth": 1.4, "label": label_of(g.attribute)}
        band(panels[0], intensity(g.sigma, ends), g.value, 1.96 * g.error, colour, 0.18, biased=mark, **line)
        band(panels[1], intensity(f.sigma, ends), f.ceiling - f.value, 1.96 * f.error, colour, 0.18, **line)
    for i, name in enumerate(probes.attribute.values):
        for where, dash in zip(WHERE, ("-", "--", ":"), strict=True):
            accuracy = probes.accuracy.sel(attribute=name, where=where)
            panels[2].plot(probes.tau, accuracy, color=style_of(i)[0], linestyle=dash, lw=1.2)
    for words, dash in zip(WHERE.values(), ("-", "--", ":"), strict=True):
        panels[2].plot([], [], dash, color="0.3", label=words)
    panels[2].legend(fontsize=8, frameon=False, loc="upper left")
    panels[0].legend(fontsize=8, frameon=False, loc="upper left")
    return fig


@styled
def one_axis_figure(
    exact: Sequence[Curve],
    lines: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]],
    ends: Ends,
    biased: Mapping[str, Marks] | None = None,
) -> Figure:
    """The same three measurements in nats on one axis, beside the exact curve.

    Args:
        exact: of every attribute.
        lines: by name of the measurement and attribute: sigma, value and standard error.
        ends: smallest and largest sigma of the schedule.
        biased: by name of the measurement, the levels at which it is biased; its line is dotted there.
    """
    fig, panels = tiled(len(exact), 2.7, 0.8)
    for ax, c in zip(panels, exact, strict=True):
        tau = intensity(c.sigma, ends)
        band(ax, tau, c.value, 1.96 * c.error, "0.35", 0.3, linewidth=2.6, label="exact filter")
        for k, (name, rows) in enumerate(lines.items()):
            if c.attribute not in rows:
                continue
            sigma, value, error = rows[c.attribute]
            mark = (biased or {}).get(name, {}).get(c.attribute)
            line = {
                "linestyle": _DASHES[k % 4],
                "linewidth": 1.4,
                "marker": "o" if len(sigma) < 20 else None,
                "ms": 2.6,
            }
            x = intensity(sigma, ends)
            band(ax, x, value, 1.96 * error, style_of(k)[0], 0.18, biased=mark, label=name, **line)
        ceiling_line(ax, c.ceiling)
        ax.set_ylim(-0.12 * c.ceiling, 1.12 * c.ceiling)
        tau_axis(ax, ends)
        ax.set_xlabel("")
        ax.set_title(label_of(c.attribute), fontsize=9.5, loc="left")
    legend_above(fig, 4)
    fig.supxlabel(TAU, fontsize=9)
    fig.supylabel("information, nats", fontsize=9)
    return fig


@styled
def probes_figure(probes: xr.Dataset, ends: Ends) -> Figure:
    """Figure 5: log-probability and accuracy of linear classifiers on three inputs."""
    names = [str(n) for n in probes.attribute.values]
    fig = Figure(figsize=(2.1 * len(names) + 0.8, 5.2), layout="constrained")
    panels = fig.subplots(2, len(names), squeeze=False, sharex=True)
    for row, (kind, words) in zip(
        panels, (("log_score", "log-probability, nats"), ("accuracy", "accuracy")), strict=True
    ):
        for ax, name in zip(row, names, strict=True):
            for i, where in enumerate(WHERE):
                probe = probes.sel(where=where, attribute=name)
                half = 1.96 * probe.stderr.values if kind == "log_score" else np.zeros(len(probes.tau))
                line = {"linestyle": ("-", "--", ":")[i], "linewidth": 1.4, "label": WHERE[where]}
                band(ax, probes.tau.values, probe[kind].values, half, style_of(i)[0], 0.18, **line)
            ax.set_xlim(1.0, 0.0)
            ax.set_title(label_of(name) if row is panels[0] else "", fontsize=9, loc="left")
        row[0].set_ylabel(words)
    legend_above(fig, 3)
    fig.supxlabel(TAU, fontsize=9)
    return fig


@styled
def turn_figure(turn: xr.Dataset) -> Figure:
    """The U-turn: the probabilities that an attribute is kept and that two continuations agree, over sigma."""
    draws, sigma = turn.sizes["draw"], turn.sigma.values
    fig, ax = single(4.2)
    for i, name in enumerate(turn.attribute.values):
        colour, _ = style_of(i)
        agree = turn.agree.sel(attribute=name).values
        half = 1.96 * agree.std(1, ddof=1) / draws**0.5
        band(ax, sigma, agree.mean(1), half, colour, 0.18, linewidth=1.4, label=label_of(str(name)))
        kept = turn.kept.sel(attribute=name).values.mean(1)
        error = np.sqrt(np.maximum(kept * (1 - kept), 1.0 / draws) / draws)
        ax.errorbar(sigma, kept, 1.96 * error, color=colour, fmt="o", ms=3, lw=0.8)
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=True, ticks=7)
    ax.set_ylim(-0.03, 1.05)
    ax.set_ylabel("probability")
    legend_beside(ax, "line: two\ncontinuations agree\ndots: the attribute\nis kept", 8.5)
    return fig


@styled
def deterministic_figure(paths: xr.Dataset, exact: Sequence[Curve]) -> Figure:
    """How early the filter predicts the value that a deterministic path ends with, over sigma, in nats."""
    sigma, count = paths.sigma.values, paths.sizes["path"]
    fig, ax = single(4.2)
    for i, name in enumerate(paths.attribute.values):
        colour, _ = style_of(i)
        gained = paths.gained.sel(attribute=name).values
        half = 1.96 * gained.std(1, ddof=1) / count**0.5
        band(ax, sigma, gained.mean(1), half, colour, 0.18, linewidth=1.4, label=label_of(str(name)))
        c = next(c for c in exact if c.attribute == name)
        ax.plot(c.sigma, c.value, color=colour, linestyle="--", lw=1.0)
    sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=True, ticks=7)
    ax.set_ylabel("nats")
    legend_beside(ax, "full: deterministic\npaths; dashed:\nexact information", 8.5)
    return fig


@styled
def null_figure(curves: Sequence[Curve], items: np.ndarray | None) -> Figure:
    """Each estimator for random labels, over sigma; in grey the number of items that are still possible."""
    fig, ax = single(3.8)
    for i, c in enumerate(curves):
        colour, dash = style_of(i)
        band(ax, c.sigma, c.value, 1.96 * c.error, colour, 0.18, linestyle=dash, linewidth=1.4, label=c.estimator)
    ax.axhline(0.0, color="0.3", lw=0.8)
    ceiling_line(ax, curves[0].ceiling)
    sigma_axis(ax, float(curves[0].sigma.min()), float(curves[0].sigma.max()), decibels=True, ticks=7)
    ax.set_ylabel("nats about random labels")
    if items is not None:
        other = ax.twinx()
        other.plot(curves[0].sigma, items, color="0.6", lw=1.2)
        other.set_yscale("log")
        other.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        other.yaxis.set_minor_formatter(NullFormatter())
        other.set_ylabel("items still possible (median, grey)", color="0.35")
        other.spines["top"].set_visible(False)
    ax.legend(loc="center left", fontsize=8.5, frameon=False)
    return fig


@styled
def second_figure(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """A second data set under two laws: the information (left) and the entropy that is left (right), nats."""
    fig = Figure(figsize=(WIDE, 4.2), layout="constrained")
    left, right = fig.subplots(1, 2)
    for k, (law, rows) in enumerate(curves.items()):
        for i, c in enumerate(rows):
            line = {"linestyle": _DASHES[k % 2], "linewidth": 1.4, "label": label_of(f"{c.attribute}, {law}")}
            band(left, c.sigma, c.value, 1.96 * c.error, style_of(i)[0], 0.18, **line)
            band(right, c.sigma, c.ceiling - c.value, 1.96 * c.error, style_of(i)[0], 0.18, **line)
    for ax, words in ((left, "information, nats"), (right, "entropy that is left: H(A) − I, nats")):
        sigma_axis(ax, *span_of([c for rows in curves.values() for c in rows]), decibels=True, ticks=6)
        ax.set_ylabel(words)
    left.legend(fontsize=8, frameon=False, loc="upper left")
    return fig
