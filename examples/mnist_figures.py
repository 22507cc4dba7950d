"""The figures of mnist_ddpm.py: curves, trees of forks, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

from sigmascope.core import Curve
from sigmascope.noise import Schedule
from sigmascope.report.figures import STYLE, sigma_axis

TIMES = (990, 900, 800, 700, 600, 500, 400, 300, 200, 150, 100, 70, 50, 30)
LOOK = {  # colour, dash, words
    "exact filter of these digits": ("#000000", "-", "exact filter of these 10,000 digits"),
    "classifier": ("#009E73", "-", "≥ classifier of noisy digits"),
    "filter, digits held out": ("#009E73", ":", "≥ exact filter, digits held out"),
    "probes:features": ("#CC79A7", "-", "≥ probes of what the model sees"),
    "probes:noisy": ("#CC79A7", ":", "≥ probes of the noisy digit"),
    "forks of real digits": ("#0072B2", "-", "forks of the model, real digits noised"),
    "forks of its own values": ("#D55E00", "-", "forks of the model, its own values noised"),
}


def digit_colour(k: int) -> Any:
    return "#ffe04a" if k == 7 else matplotlib.colormaps["tab10"](k)  # grey is for what is no digit


def timestep_axis(ax: Axes, schedule: Schedule) -> None:
    """The model's timesteps along the top."""
    low, high = sorted(ax.get_xlim())
    shown = [t for t in TIMES if low < float(schedule.sigma(t)) < high]
    top = ax.secondary_xaxis("top")
    top.xaxis.set_major_locator(FixedLocator([float(schedule.sigma(t)) for t in shown]))
    top.xaxis.set_minor_locator(NullLocator())
    top.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{float(schedule.time(x)):.0f}"))
    top.set_xlabel("timestep of the model")


def curves(estimates: Sequence[Curve], results: Mapping[str, Any], schedule: Schedule) -> Figure:
    """All estimators with 95 % bands, and below how children agree."""
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(8.6, 7.4), layout="constrained")
        ax, below = fig.subplots(2, 1, sharex=True, height_ratios=[2.1, 1])
        by_name = {c.estimator: c for c in estimates}
        for name, (colour, dash, words) in LOOK.items():
            c = by_name[name]
            shown = c.value > -0.25  # a bound far below 0 says nothing
            x, v, half = c.sigma[shown], c.value[shown], 1.96 * c.stderr[shown]
            # Few children look too alike, never too different: what that may be is a gauge to one side.
            gauge = 0.0 if c.quadrature_error is None else c.quadrature_error[shown]
            ax.fill_between(x, v - half - gauge, v + half, color=colour, alpha=0.15, linewidth=0)
            ax.plot(x, v, dash, color=colour, lw=1.6, marker="o" if "forks" in name else "", ms=3.5, label=words)
        ceiling = results["ceiling"]
        ax.axhline(ceiling, color="0.45", lw=0.9, ls=(0, (1, 3)))
        ax.text(0.995, ceiling + 0.03, f"H(digit) = {ceiling:.3f} nats", fontsize=8.5, color="0.35", ha="right",
                transform=ax.get_yaxis_transform())  # fmt: skip
        ax.set_ylim(-0.12, ceiling * 1.09)
        ax.set_ylabel("information about the digit, nats")
        sigma = by_name["exact filter of these digits"].sigma
        sigma_axis(below, float(sigma.min()), float(sigma.max()), decibels=False)
        ticks = [s for s in (8, 5, 3, 2, 1.5, 1, 0.7, 0.5, 0.3, 0.2, 0.1) if sigma.min() <= s <= sigma.max() * 1.001]
        below.xaxis.set_major_locator(FixedLocator(ticks))
        timestep_axis(ax, schedule)
        ax.set_xlabel("")
        legend = ax.legend(
            loc="lower right",
            fontsize=8.5,
            title="bands: 95 %, and below forks their bias;  ≥: lower bounds",
            title_fontsize=8,
        )
        legend.get_frame().set(linewidth=0, alpha=0.85)
        for name, short in (("forks of real digits", "real"), ("forks of its own values", "its own")):
            a, colour = results["agreement"][name], LOOK[name][0]
            for what, dash, words in (("parent", "-", "with the digit it came from"), ("siblings", "--", "in pairs")):
                m, e = np.array(a[what]).T
                below.fill_between(a["sigma"], m - 1.96 * e, m + 1.96 * e, color=colour, alpha=0.12, linewidth=0)
                below.plot(a["sigma"], m, dash, color=colour, lw=1.4, marker="o", ms=3, label=f"{short}: {words}")
        below.set_ylim(0, 1.03)
        below.set_ylabel("share of children\nthat agree")
        below.legend(loc="lower right", fontsize=8, frameon=False)
    return fig


def _mark(ax: Axes, text: str, colour: Any) -> None:
    box = {"facecolor": "black", "edgecolor": "none", "pad": 0.6}
    ax.text(0.9, 0.9, text, transform=ax.transAxes, color=colour, fontsize=8, ha="right", va="top", weight="bold",
            bbox=box)  # fmt: skip


def _picture(ax: Axes, image: Any, colour: Any = None, width: float = 1.8, low: float = 0, high: float = 1) -> None:
    ax.imshow(np.asarray(image), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(colour is not None)
        side.set_color(colour)
        side.set_linewidth(width)


def trees(groups: Sequence[tuple[str, Sequence[Any]]], schedule: Schedule) -> Figure:
    """For each image, at falling levels: the noisy image, the model's posterior mean, and continuations."""
    children = len(groups[0][1][0][3])
    rows, columns = len(groups[0][1]), children + 2
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(0.66 * columns + 1.0, (0.66 * rows + 0.65) * len(groups)), layout="constrained")
        fig.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
        for sub, (name, levels) in zip(np.atleast_1d(fig.subfigures(len(groups), 1)), groups, strict=True):
            sub.suptitle(f"Continuations of {name}", fontsize=10, x=0.02, ha="left")
            axes = sub.subplots(rows, columns, squeeze=False)
            for row, (sigma, y, mean, ends, labels, clear) in zip(axes, levels, strict=True):
                _picture(row[0], y, low=-1.5 * sigma, high=1 + 1.5 * sigma)
                row[0].set_ylabel(f"σ = {sigma:g}\nt = {float(schedule.time(sigma)):.0f}", rotation=0, ha="right",
                                  va="center", fontsize=7.5)  # fmt: skip
                _picture(row[1], mean)
                for ax, image, label, sure in zip(row[2:], ends, labels.tolist(), clear.tolist(), strict=True):
                    _picture(ax, image, digit_colour(label))
                    _mark(ax, f"{label}" if sure else f"{label}?", digit_colour(label))
            axes[0, 0].set_title("noisy", fontsize=8)
            axes[0, 1].set_title("mean", fontsize=8)
            words = "continuations, and how they are read (?: no clear digit)"
            words = axes[0, 2].annotate(words, (0, 1.08), xycoords="axes fraction", fontsize=8)
            words.set_in_layout(False)  # it is wider than its panel
    return fig


def samples(values: Tensor, labels: Tensor, sure: Tensor, clear: float) -> Figure:
    """What the model makes from noise alone, in order of how sure the classifier is; grey labels: no clear digit."""
    count = min(len(values), 96)
    columns = 16
    order = np.argsort(-sure[:count].numpy(), kind="stable")
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(9.0, 0.58 * -(-count // columns) + 0.4), layout="constrained")
        for ax in (axes := fig.subplots(-(-count // columns), columns, squeeze=False).flat)[count:]:
            ax.set_axis_off()
        for ax, i in zip(axes, order.tolist(), strict=False):
            clearly = float(sure[i]) >= clear
            _picture(ax, values[i, 0], digit_colour(int(labels[i])) if clearly else "0.6")
            _mark(ax, str(int(labels[i])) if clearly else "?", digit_colour(int(labels[i])) if clearly else "0.75")
        fig.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
        fig.suptitle("Samples of the model, from the surest to the least sure; ?: no clear digit", fontsize=10)
    return fig
