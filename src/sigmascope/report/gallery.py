"""Figures of generated images: a grid, when each was decided, noisy parents with their children."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sigmascope.core import Abstraction
from sigmascope.report.figures import STYLE, label_of, sigma_axis, style_of

_CHILDREN, _PARENTS = 16, 16  # at most so many are drawn


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a PNG or SVG file, the same every time."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE):  # its salt makes the names inside an SVG the same every time
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def show_item(ax: Axes, v: Float[np.ndarray, "*event"], spread: float | None = None) -> None:
    """Draw one value: a picture as such, a table of leaves by symbols in grey, anything else as a line.

    Args:
        spread: standard deviation to which contrast is reduced, for noisy pictures; None leaves it.
    """
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    if v.ndim == 3 and v.shape[0] in (1, 3) and min(v.shape[1:]) > 1:
        if spread is not None:
            v = float(v.mean()) + (v - v.mean()) * spread / max(float(v.std()), 1e-9)
        picture = np.moveaxis(np.clip(v, 0, 1), 0, -1)
        ax.imshow(picture if v.shape[0] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1)
    elif v.ndim == 2 and min(v.shape) > 1:
        ax.imshow(v.T, cmap="gray_r", aspect="auto", interpolation="nearest")
        ax.spines[:].set(visible=True, color="0.7", linewidth=0.5)
    else:
        ax.plot(v.reshape(-1), linewidth=0.8, color=style_of(0)[0])


def grid_figure(images: Float[np.ndarray, "images *event"], captions: Sequence[Sequence[str]]) -> Figure:
    """Images in a grid, under each what it shows."""
    columns = min(8, math.ceil(math.sqrt(len(images)) * 1.3))
    count = -(-len(images) // columns)
    height = 1.25 + 0.11 * max(len(c) for c in captions)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(1.35 * columns, height * count), layout="constrained")
        for ax in fig.subplots(count, columns, squeeze=False).flat:
            ax.set_axis_off()
        for ax, v, words in zip(fig.axes, images, captions, strict=False):
            ax.set_axis_on()
            show_item(ax, v)
            ax.set_xlabel("\n".join(words), fontsize=5.5)
    return fig


def decisions_figure(
    sigma: Float[np.ndarray, " levels"],
    posterior: Mapping[str, Float[np.ndarray, "levels images values"]],
    abstractions: Sequence[Abstraction],
) -> Figure:
    """When each image was decided: what is still open of each attribute, H(A | Y = y), along its path."""
    columns = min(3, len(abstractions))
    count = -(-len(abstractions) // columns)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(9.0, 2.3 * count + 0.3), layout="constrained")
        panels = fig.subplots(count, columns, squeeze=False, sharex=True)
        for ax in panels.flat:
            ax.set_axis_off()
        for ax, a in zip(panels.flat, abstractions, strict=False):
            ax.set_axis_on()
            p = posterior[a.name]
            entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(2)
            ends = p[-1].argmax(1)
            for i, line in enumerate(entropy.T):
                ax.plot(sigma, line, color=style_of(int(ends[i]))[0], linewidth=0.8, alpha=0.7)
            ax.plot(sigma, entropy.mean(1), color="black", linewidth=1.8)
            ax.axhline(a.entropy, color="0.55", linewidth=0.8, linestyle=(0, (1, 3)))
            sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False)
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0,)))
            ax.set_xlabel("")
            ax.set_title(label_of(a.name), fontsize=9.5, loc="left")
        fig.supxlabel("noise level σ   (generation runs to the right →)", fontsize=9)
        fig.supylabel("still open: H(A | Y = y), nats", fontsize=9)
    return fig


def forks_figure(
    parents: Float[np.ndarray, "parents *event"],
    children: Float[np.ndarray, "forks parents *event"],
    sigma: float,
    shared: Sequence[Sequence[str]],
) -> Figure:
    """Each noisy parent, its children, and the attributes in which all of them agree."""
    rows, forks = min(len(parents), _PARENTS), min(len(children), _CHILDREN)
    spread = float(children.std())
    with matplotlib.rc_context(STYLE):
        height = max(0.75, 0.13 * (1 + max(len(s) for s in shared)))
        fig = Figure(figsize=(2.6 + 0.72 * (forks + 1), height * rows + 0.4), layout="constrained")
        panels = fig.subplots(rows, forks + 2, squeeze=False, width_ratios=[2.2, *[1.0] * (forks + 1)])
        for i, line in enumerate(panels):
            line[0].set_axis_off()
            words = "\n".join(shared[i]) or "nothing"
            line[0].text(1.0, 0.5, words, ha="right", va="center", fontsize=6.5, transform=line[0].transAxes)
            show_item(line[1], parents[i], spread)
            for k in range(forks):
                show_item(line[k + 2], children[k, i])
        panels[0, 0].set_title("all children agree in", fontsize=7.5, loc="right")
        panels[0, 1].set_title(f"σ = {sigma:g}", fontsize=7.5)
        panels[0, 2].set_title("children", fontsize=7.5, loc="left")
    return fig
