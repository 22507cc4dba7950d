"""Figures 1, 2 and 4 of a reproduction: two systems, one image under the schedule, forks of one generation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sigmascope.report.figures import short, style_of, styled
from sigmascope.report.gallery import show_item
from sigmascope.report.table import number

TAU = "intensity τ   (generation runs to the right →)"
_MAX_VALUES = 24  # of an attribute whose posterior is drawn value by value
_STRIP = 9  # images of a strip
_WIDE = 18  # letters of a name or a value


def intensity(sigma: Float[np.ndarray, " levels"], ends: tuple[float, float]) -> Float[np.ndarray, " levels"]:
    """tau of sigma on the variance-exploding schedule between these ends."""
    return np.log(sigma / ends[0]) / math.log(ends[1] / ends[0])


def tau_axis(ax: Axes, ends: tuple[float, float], *, decibels: bool = False) -> None:
    """Intensity falling from left to right, the way of generation; sigma above, and with it decibels of SNR."""
    ax.set_xlim(1.0, 0.0)
    ax.set_xlabel(TAU, fontsize=8.5)
    top = ax.secondary_xaxis("top")
    marks = (90.0, 10.0, 1.0, 0.1, 0.01) if decibels else (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
    ticks = [s for s in marks if ends[0] <= s <= ends[1]]
    labels = [f"{s:g}" + (f"\n{-20 * math.log10(s) + 0.0:.0f} dB" if decibels else "") for s in ticks]
    top.set_xticks([float(intensity(np.array([s]), ends)[0]) for s in ticks], labels, fontsize=7)
    top.set_xlabel("σ, signal-to-noise ratio" if decibels else "σ", fontsize=8)


@styled
def systems_figure(systems: xr.Dataset, values: dict[str, tuple[str, ...]], about: str) -> Figure:
    """Figure 1: a hidden switch with its measurement and filter, and a generation with its pathway and filter.

    Args:
        systems: the results of the simulation.
        values: of every attribute.
        about: the attribute whose posterior is drawn.
    """
    fig = Figure(figsize=(11.0, 6.2), layout="constrained")
    halves: Any = fig.subfigures(1, 2, width_ratios=[1.0, 1.35], wspace=0.04)
    left, right = halves
    left.suptitle("Nonlinear filtering", fontsize=11)
    panels = left.subplots(3, 1, sharex=True)
    time, pi = systems.time.values, systems["filter"].values
    states = [f"{s:g}" for s in systems.slope.values]
    panels[0].step(time, systems.hidden.values, where="post", color=style_of(1)[0], lw=1.4)
    panels[0].set_yticks(range(len(states)), states)
    panels[0].set_ylabel("hidden X\n(slope of Y)")
    panels[1].plot(time, systems.measured.values, color="0.25", lw=0.8)
    panels[1].set_ylabel("measured Y")
    panels[2].imshow(
        pi.T, aspect="auto", origin="lower", cmap="Blues", vmin=0, vmax=1, interpolation="nearest",
        extent=(float(time[0]), float(time[-1]), -0.5, len(states) - 0.5),
    )  # fmt: skip
    panels[2].step(time, systems.hidden.values, where="post", color=style_of(1)[0], lw=0.9)
    panels[2].set_yticks(range(len(states)), states)
    panels[2].set_ylabel("filter π\n(orange: truth)")
    panels[2].set_xlabel("time")
    _generation(right, systems, values, about)
    return fig


def _generation(fig: Any, systems: xr.Dataset, values: dict[str, tuple[str, ...]], about: str) -> None:
    """The right half of Figure 1."""
    sigma = systems.sigma.values
    at = np.unique(np.linspace(0, len(sigma) - 1, _STRIP).round().astype(int))
    spread = float(systems["mean"].values[-1].std())
    fig.suptitle("Generation from the latent filter alone", fontsize=11)
    grid = fig.add_gridspec(4, len(at), height_ratios=[1.0, 1.0, 2.2, 1.4])
    for c, k in enumerate(at):
        for r, (name, what) in enumerate((("y", "pathway Y"), ("mean", "denoiser\nΣ π v"))):
            ax = fig.add_subplot(grid[r, c])
            show_item(ax, systems[name].values[k], spread if name == "y" else None)
            if r == 0:
                ax.set_title(f"σ {number(float(sigma[k]))}", fontsize=6.5)
            if c == 0:
                ax.set_ylabel(what, fontsize=8)
    posterior = fig.add_subplot(grid[2, :])
    pi = systems[f"pi.{list(values).index(about)}"].values
    step = np.arange(len(sigma))
    posterior.imshow(pi.T, aspect="auto", origin="lower", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if len(values[about]) <= _MAX_VALUES:
        posterior.set_yticks(range(len(values[about])), values[about], fontsize=6)
    posterior.set_ylabel(f"filter π of\n{about}", fontsize=8)
    posterior.set_xticks([])
    entropies = fig.add_subplot(grid[3, :])
    for i, name in enumerate(values):
        p = systems[f"pi.{i}"].values
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
        colour, dash = style_of(i)
        entropies.plot(step, entropy, color=colour, linestyle=dash, lw=1.3, label=name)
    ticks = [int(k) for k in at]
    entropies.set_xticks(ticks, [number(float(sigma[k])) for k in ticks], fontsize=7)
    entropies.set_xlim(-0.5, len(sigma) - 0.5)
    entropies.set_ylabel("entropy left,\nnats", fontsize=8)
    entropies.set_xlabel("σ along the path", fontsize=8)
    entropies.legend(fontsize=6, ncols=2, frameon=False, loc="upper right")


@styled
def schedule_figure(schedule: xr.Dataset) -> Figure:
    """Figure 2: one image at eleven intensities, and under each the entropy that is left of every attribute."""
    tau, sigma = schedule.tau.values[::-1], schedule.sigma.values[::-1]
    names = [str(n) for n in schedule.attribute.values]
    noised, entropy = schedule.noised.values[::-1], schedule.entropy.values[:, ::-1]
    spread, ceiling = float(schedule.clean.values.std()), schedule.ceiling.values
    columns, left, side = len(tau), 0.12, 0.86
    height = 1.95 + 0.28 * len(names)
    fig = Figure(figsize=(11.0, height))
    width = side / columns
    rows = 0.28 * len(names) / height
    for c in range(columns):
        ax = fig.add_axes((left + c * width + 0.003, rows + 0.35 / height, width - 0.006, 0.95 / height))
        show_item(ax, noised[c], spread if sigma[c] > 0.1 * spread else None)
        decibels = -20 * math.log10(float(sigma[c])) + 0.0
        title = f"τ = {tau[c]:.1f}\nσ = {number(float(sigma[c]))}\n{decibels:.0f} dB"
        ax.set_title(title, fontsize=7.5)
    ax = fig.add_axes((left, 0.02, side, rows))
    share = entropy / np.maximum(ceiling[:, None], 1e-12)
    ax.imshow(share, aspect="auto", cmap="Blues", vmin=0, vmax=1.3)
    for i in range(len(names)):
        for c in range(columns):
            ax.text(c, i, f"{entropy[i, c]:.2f}", ha="center", va="center", fontsize=7)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    at = rows + 0.12 / height
    fig.text(0.01, at, "entropy left: H(A | Y = y), nats", fontsize=7.5, color="0.35")
    return fig


@styled
def forks_of_one_figure(forks: xr.Dataset, values: dict[str, tuple[str, ...]]) -> Figure:
    """Figure 4: states on the path of one generation, their continuations, and the attributes in which these agree.

    Args:
        forks: the results of the stage.
        values: of every attribute.
    """
    tau, sigma = forks.tau.values, forks.sigma.values
    names, children = [str(n) for n in forks.attribute.values], forks.child.values
    spread = float(children.std())
    fig = Figure(figsize=(9.5, max(1.25, 0.19 * len(names) + 0.15) * len(tau) + 0.4), layout="constrained")
    count = children.shape[1]
    panels = fig.subplots(len(tau), count + 2, squeeze=False, width_ratios=[*[1.0] * (count + 1), 3.4])
    for i, line in enumerate(panels):
        show_item(line[0], forks.parent.values[i], spread)
        line[0].set_ylabel(f"τ = {tau[i]:g}\nσ = {number(float(sigma[i]))}", fontsize=8)
        for k in range(count):
            show_item(line[k + 1], children[i, k])
        line[-1].set_axis_off()
        for j, name in enumerate(names):
            label = forks.label.values[j, i]
            same = len(set(label.tolist())) == 1
            p = float(forks.agreement.values[j, i])
            value = values[name][int(label[0])] if same else "differ"
            height = 0.97 * (1 - (j + 0.5) / len(names))
            line[-1].text(
                0.02, height, f"{short(name, _WIDE)}: {short(value, _WIDE)}", fontsize=7.5, va="center",
                color="black" if same else "0.6", weight="bold" if same else "normal", transform=line[-1].transAxes,
            )  # fmt: skip
            line[-1].text(
                0.98, height, f"P(agree) {p:.2f}", fontsize=7.5, va="center", ha="right",
                color="black" if same else "0.6", transform=line[-1].transAxes,
            )  # fmt: skip
    panels[0, 0].set_title("noisy", fontsize=8)
    for k in range(count):
        panels[0, k + 1].set_title(f"continuation {k + 1}", fontsize=8)
    panels[0, -1].set_title("bold: all continuations agree", fontsize=8)
    return fig
