"""Figures of generated images: a grid, the entropies along their paths, noisy images with their continuations."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Container, Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sigmascope.core import Attribute
from sigmascope.report.figures import (
    GENERATION,
    STYLE,
    ceiling_line,
    label_of,
    moving,
    short,
    style_of,
    styled,
    tiled,
    titled,
)

_CHILDREN, _PARENTS, _LINES = 16, 16, 10  # the most that are drawn
_DOTS, _MAX_PIXELS = 150, 20_000  # per inch, and along a side of a PNG: 2^16 and more cannot be drawn


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a PNG, SVG or PDF file, the same every time."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {"Software": None})
    dots = min(_DOTS, _MAX_PIXELS / max(figure.get_size_inches()))
    with matplotlib.rc_context(STYLE):  # its salt makes the names inside an SVG the same every time
        if (layout := figure.get_layout_engine()) is not None:  # once for all kinds: it takes as long as drawing
            layout.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=kind, dpi=dots, metadata=metadata)
    return _numbered(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def _numbered(svg: bytes) -> bytes:
    """An SVG whose clip paths are numbered; matplotlib names them by hashes that change with the last bit."""
    names = {name: b"p%d" % i for i, name in enumerate(re.findall(rb'id="(p[0-9a-f]{10})"', svg))}
    return re.sub(rb"(?<=[#\"])p[0-9a-f]{10}", lambda match: names.get(match[0], match[0]), svg)


Labelled = tuple[str, str]
"""An attribute and its value."""


def _line(labelled: Labelled) -> str:
    """An attribute and its value, cut to fit."""
    return f"{short(labelled[0], 16)}: {short(labelled[1], 12)}"


def show_item(ax: Axes, v: Float[np.ndarray, "*event"], spread: float | None = None) -> None:
    """Draw one value: a picture as such, a table of leaves by symbols in grey, anything else as a line.

    Args:
        spread: standard deviation that a noisy picture is scaled to; None leaves it.
    """
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    if v.ndim == 3 and v.shape[0] in (1, 3) and min(v.shape[1:]) > 1:
        if spread is not None:
            middle = min(max(float(v.mean()), 0.25), 0.75)  # that of strong noise lies anywhere
            v = middle + (v - v.mean()) * spread / max(float(v.std()), 1e-9)
        picture = np.moveaxis(np.clip(v, 0, 1), 0, -1)
        ax.imshow(picture if v.shape[0] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1)
    elif v.ndim == 2 and min(v.shape) > 1:
        ax.imshow(v.T, cmap="gray_r", aspect="auto", interpolation="nearest")
        ax.spines[:].set(visible=True, color="0.7", linewidth=0.5)
    elif v.size < 3:
        ax.bar(range(v.size), v.reshape(-1), color=style_of(0)[0])
        ax.axhline(0.0, color="0.3", linewidth=0.6)
    else:
        ax.plot(v.reshape(-1), linewidth=0.8, color=style_of(0)[0])


@styled
def grid_figure(images: Float[np.ndarray, "images *event"], captions: Sequence[Sequence[Labelled]]) -> Figure:
    """Images in a grid, each above its attributes."""
    columns = min(8, math.ceil(math.sqrt(len(images)) * 1.3))
    count = -(-len(images) // columns)
    lines = max(len(c) for c in captions)
    fig = Figure(figsize=(1.5 * columns, (1.55 + 0.14 * lines) * count), layout="constrained")
    panels = list(fig.subplots(count, columns, squeeze=False).flat)
    for ax in panels[len(images) :]:
        ax.set_axis_off()
    for ax, v, words in zip(panels, images, captions, strict=False):
        show_item(ax, v)
        ax.set_xlabel("\n".join(map(_line, words)), fontsize=6.5)
    return fig


@styled
def decisions_figure(
    sigma: Float[np.ndarray, " levels"],
    posterior: Mapping[str, Float[np.ndarray, "levels images values"]],
    attributes: Sequence[Attribute],
    held: Container[str] = (),
    counted: Mapping[str, Float[np.ndarray, "levels images"]] | None = None,
) -> Figure:
    """The entropy of each attribute given the state, H(A | Y = y), along the path of each image.

    Args:
        sigma: decreasing levels.
        posterior: of every attribute.
        attributes: in order.
        held: names of those whose posterior is the filter's own π; for the others it is the exact one at the state.
        counted: the entropies of those whose posterior is the shares of labels of continuations, which that of the
            shares would underestimate.
    """
    fig, panels = tiled(len(attributes), 2.3, 0.9)
    entropies = {a.name: -(p * np.log(np.maximum(p, 1e-300))).sum(2) for a in attributes for p in [posterior[a.name]]}
    entropies |= counted or {}
    span = moving(sigma, np.stack([e.mean(1) for e in entropies.values()]))
    for ax, a in zip(panels, attributes, strict=True):
        p, entropy = posterior[a.name], entropies[a.name]
        ends = p[-1].argmax(1)
        for i, line in enumerate(entropy.T):
            ax.plot(sigma, line, color=style_of(int(ends[i]))[0], linewidth=0.8, alpha=0.7)
        if entropy.shape[1] > 1:
            ax.plot(sigma, entropy.mean(1), color="black", linewidth=1.8)
        ceiling_line(ax, a.entropy)
        titled(ax, span, short(label_of(a.name), 26) + (": π" if a.name in held else ""))
    mean = "black: their mean; " if len(entropy.T) > 1 else ""
    words = f"thin: one image each, coloured by its final value\n{mean}dotted: H(A)"
    fig.suptitle(words, fontsize=8.5)
    fig.supxlabel(GENERATION, fontsize=9)
    fig.supylabel("H(A | Y = y), nats", fontsize=9)
    return fig


@styled
def forks_figure(
    parents: Float[np.ndarray, "parents *event"],
    children: Float[np.ndarray, "forks parents *event"],
    noise: str,
    shared: Sequence[Sequence[Labelled]],
) -> Figure:
    """Each noisy image, its continuations, and the attributes in which all of them agree.

    Args:
        parents: noisy images.
        children: their continuations.
        noise: the level of the noisy images, in words.
        shared: for each noisy image, the values in which all continuations agree.
    """
    rows, forks = min(len(parents), _PARENTS), min(len(children), _CHILDREN)
    spread = float(children.std())
    words = [[_line(w) for w in line[:_LINES]] + (["…"] if len(line) > _LINES else []) for line in shared[:rows]]
    shown = f" ({forks} of {len(children)} shown)" if forks < len(children) else ""
    cut = f"; {rows} of {len(parents)} noisy images shown" if rows < len(parents) else ""
    height = max(0.75, 0.13 * (1 + max(map(len, words))))
    fig = Figure(figsize=(3.0 + 0.72 * (forks + 1), height * rows + 0.6), layout="constrained")
    panels = fig.subplots(rows, forks + 2, squeeze=False, width_ratios=[2.6, *[1.0] * (forks + 1)])
    for i, line in enumerate(panels):
        line[0].set_axis_off()
        text = "\n".join(words[i]) or "no attribute"
        line[0].text(1.0, 0.5, text, ha="right", va="center", fontsize=7, transform=line[0].transAxes)
        show_item(line[1], parents[i], spread)
        for k in range(forks):
            show_item(line[k + 2], children[k, i])
    fig.suptitle(
        f"left: the values in which all {len(children)} continuations agree\n"
        f"first picture: the noisy image, {noise}; then its continuations{shown}{cut}",
        fontsize=8.5,
    )
    return fig
