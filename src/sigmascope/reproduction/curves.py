"""Curves of a reproduction: three measurements of one quantity, probes, and further experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sigmascope.core import Curve
from sigmascope.report.figures import STYLE, label_of, sigma_axis, span_of, style_of
from sigmascope.reproduction.figures import intensity, tau_axis

Ends = tuple[float, float]
Marks = Mapping[str, np.ndarray]
"""For each attribute, the levels at which a curve is marked as biased."""
DOTTED = (0, (1, 1.5))
"""The line style of levels that are marked as biased."""
WHERE = {"features": "feature maps", "noisy": "noisy image", "prior": "random guess"}


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
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(11.0, 4.2), layout="constrained")
        panels = fig.subplots(1, 3)
        heads = (f"mutual information{names[0]}", f"entropy across forks{names[1]}", "accuracy of linear probes")
        for ax, head, unit in zip(panels, heads, ("nats", "nats", "share right"), strict=True):
            ax.set_title(head, fontsize=9.5, loc="left")
            ax.set_ylabel(unit)
            tau_axis(ax, ends, decibels=True)
        for i, (g, f) in enumerate(zip(gap, forks, strict=True)):
            colour, dash = style_of(i)
            mark = (biased or {}).get(g.attribute)
            _band(panels[0], intensity(g.sigma, ends), g.value, g.error, colour, dash, g.attribute, biased=mark)
            _band(panels[1], intensity(f.sigma, ends), f.ceiling - f.value, f.error, colour, dash, f.attribute)
        for i, name in enumerate(probes.attribute.values):
            colour, _ = style_of(i)
            for where, line in (("features", "-"), ("noisy", "--"), ("prior", ":")):
                panels[2].plot(
                    probes.tau, probes.accuracy.sel(attribute=name, where=where), color=colour, linestyle=line, lw=1.2
                )
        panels[2].plot([], [], "-", color="0.3", label=WHERE["features"])
        panels[2].plot([], [], "--", color="0.3", label=WHERE["noisy"])
        panels[2].plot([], [], ":", color="0.3", label=WHERE["prior"])
        panels[2].legend(fontsize=7.5, frameon=False, loc="upper left")
        panels[0].legend(fontsize=7.5, frameon=False, loc="upper left")
    return fig


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
    columns = min(3, len(exact))
    count = -(-len(exact) // columns)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(11.0, 2.7 * count + 0.6), layout="constrained")
        panels = list(fig.subplots(count, columns, squeeze=False).flat)
        for ax in panels[len(exact) :]:
            ax.set_axis_off()
        for ax, c in zip(panels, exact, strict=False):
            tau = intensity(c.sigma, ends)
            ax.fill_between(tau, c.value - 1.96 * c.error, c.value + 1.96 * c.error, color="0.55", alpha=0.4, lw=0)
            ax.plot(tau, c.value, color="0.35", lw=2.6, alpha=0.6, label="exact filter")
            for k, (name, rows) in enumerate(lines.items()):
                if c.attribute not in rows:
                    continue
                sigma, value, error = rows[c.attribute]
                dash = ("-", "--", "-.", ":")[k % 4]
                look: dict = {"markers": len(sigma) < 20, "biased": (biased or {}).get(name, {}).get(c.attribute)}
                _band(ax, intensity(sigma, ends), value, error, style_of(k)[0], dash, name, **look)
            ax.axhline(c.ceiling, color="0.55", lw=0.8, linestyle=(0, (1, 3)))
            ax.set_ylim(-0.12 * c.ceiling, 1.12 * c.ceiling)
            tau_axis(ax, ends)
            ax.set_xlabel("")
            ax.set_title(label_of(c.attribute), fontsize=9.5, loc="left")
        named = {w: h for ax in panels for h, w in zip(*ax.get_legend_handles_labels(), strict=True)}
        handles, labels = list(named.values()), list(named)
        fig.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 6), frameon=False, fontsize=8.5)
        fig.supxlabel("intensity τ   (generation runs to the right →)", fontsize=9)
        fig.supylabel("information, nats", fontsize=9)
    return fig


def probes_figure(probes: xr.Dataset, ends: Ends) -> Figure:
    """Figure 5: log-probability and accuracy of linear classifiers on three inputs."""
    names = [str(n) for n in probes.attribute.values]
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(2.1 * len(names) + 0.8, 5.2), layout="constrained")
        panels = fig.subplots(2, len(names), squeeze=False, sharex=True)
        for r, (kind, words) in enumerate((("log_score", "log-probability, nats"), ("accuracy", "accuracy"))):
            for ax, name in zip(panels[r], names, strict=True):
                for i, where in enumerate(WHERE):
                    line = probes[kind].sel(where=where, attribute=name).values
                    colour, dash = style_of(i)[0], ("-", "--", ":")[i]
                    if kind == "log_score":
                        error = probes.stderr.sel(where=where, attribute=name).values
                        _band(ax, probes.tau.values, line, error, colour, dash, WHERE[where])
                    else:
                        ax.plot(probes.tau, line, color=colour, linestyle=dash, lw=1.4, label=WHERE[where])
                ax.set_xlim(1.0, 0.0)
                if r == 0:
                    ax.set_title(label_of(name), fontsize=9, loc="left")
            panels[r, 0].set_ylabel(words)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
        fig.supxlabel("intensity τ   (generation runs to the right →)", fontsize=9)
    return fig


def turn_figure(turn: xr.Dataset) -> Figure:
    """The U-turn: the probabilities that an attribute is kept and that two continuations agree, over sigma."""
    names = [str(n) for n in turn.attribute.values]
    draws = turn.sizes["draw"]
    sigma = turn.sigma.values
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(8.0, 4.6), layout="constrained")
        ax = fig.subplots()
        for i, name in enumerate(names):
            colour, _ = style_of(i)
            row = turn.sel(attribute=name)
            agree = row.agree.values
            _band(ax, sigma, agree.mean(1), agree.std(1, ddof=1) / draws**0.5, colour, "-", name)
            kept = row.kept.values.mean(1)
            error = np.sqrt(np.maximum(kept * (1 - kept), 1.0 / draws) / draws)
            ax.errorbar(sigma, kept, 1.96 * error, color=colour, fmt="o", ms=3, lw=0.8)
        sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=True)
        ax.set_ylim(-0.03, 1.05)
        ax.set_ylabel("probability")
        legend = ax.legend(
            loc="upper left", fontsize=8.5, title="line: two continuations agree; dots: the attribute is kept"
        )
        legend.get_title().set_fontsize(8)
        legend.get_frame().set(linewidth=0, alpha=0.9)
    return fig


def deterministic_figure(paths: xr.Dataset, exact: Sequence[Curve]) -> Figure:
    """How early the filter predicts the value that a deterministic path ends with, over sigma, in nats."""
    sigma, count = paths.sigma.values, paths.sizes["path"]
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(8.0, 4.6), layout="constrained")
        ax = fig.subplots()
        for i, name in enumerate(paths.attribute.values):
            colour, _ = style_of(i)
            gained = paths.gained.sel(attribute=name).values
            _band(ax, sigma, gained.mean(1), gained.std(1, ddof=1) / count**0.5, colour, "-", str(name))
            c = next(c for c in exact if c.attribute == name)
            ax.plot(c.sigma, c.value, color=colour, linestyle="--", lw=1.0)
        sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=True)
        ax.set_ylabel("nats")
        legend = ax.legend(loc="upper left", fontsize=8.5, title="full: deterministic paths; dashed: exact information")
        legend.get_title().set_fontsize(8)
        legend.get_frame().set(linewidth=0, alpha=0.9)
    return fig


def null_figure(curves: Sequence[Curve], items: np.ndarray | None) -> Figure:
    """Each estimator for random labels, over sigma; in grey the number of items that are still possible."""
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(8.0, 3.8), layout="constrained")
        ax = fig.subplots()
        for i, c in enumerate(curves):
            colour, dash = style_of(i)
            _band(ax, c.sigma, c.value, c.error, colour, dash, c.estimator)
        ax.axhline(0.0, color="0.3", lw=0.8)
        ax.axhline(curves[0].ceiling, color="0.55", lw=0.8, linestyle=(0, (1, 3)))
        sigma_axis(ax, float(curves[0].sigma.min()), float(curves[0].sigma.max()), decibels=True)
        ax.set_ylabel("nats about random labels")
        if items is not None:
            other = ax.twinx()
            other.plot(curves[0].sigma, items, color="0.6", lw=1.2)
            other.set_yscale("log")
            other.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
            other.yaxis.set_minor_formatter(NullFormatter())
            other.set_ylabel("items still possible (median, grey)", color="0.45")
            other.spines["top"].set_visible(False)
        ax.legend(loc="center left", fontsize=8.5, frameon=False)
    return fig


def second_figure(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """A second data set under two laws: the information (left) and the entropy that is left (right), nats."""
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(10.0, 4.2), layout="constrained")
        left, right = fig.subplots(1, 2)
        for k, (law, rows) in enumerate(curves.items()):
            for i, c in enumerate(rows):
                colour, dash = style_of(i)[0], ("-", "--")[k % 2]
                name = f"{c.attribute}, {law}"
                _band(left, c.sigma, c.value, c.error, colour, dash, name)
                _band(right, c.sigma, c.ceiling - c.value, c.error, colour, dash, name)
        for ax, words in ((left, "information, nats"), (right, "entropy that is left: H(A) − I, nats")):
            sigma_axis(ax, *span_of([c for x in curves.values() for c in x]), decibels=True, ticks=6)
            ax.set_ylabel(words)
        left.legend(fontsize=8, frameon=False, loc="upper left")
    return fig


def _band(
    ax: Axes,
    x: np.ndarray,
    value: np.ndarray,
    error: np.ndarray,
    colour: str,
    dash: str,
    name: str,
    *,
    markers: bool = False,
    biased: np.ndarray | None = None,
) -> None:
    """A line with its 95 % band; thin and dotted where it is marked as biased."""
    ax.fill_between(x, value - 1.96 * error, value + 1.96 * error, color=colour, alpha=0.18, linewidth=0)
    dots = "o" if markers else None
    if biased is not None and biased.any():
        # A line goes on to the neighbouring level, so that no gap opens between trusted and biased.
        dotted = np.where(biased, value, np.nan)
        ax.plot(x, dotted, color=colour, linewidth=1.1, linestyle=DOTTED, label=label_of(f"{name}, biased"))
        good = ~biased
        value = np.where(good | np.roll(good, 1) & (np.arange(len(good)) > 0), value, np.nan)
    ax.plot(x, value, color=colour, linestyle=dash, linewidth=1.4, label=label_of(name), marker=dots, ms=2.6)
