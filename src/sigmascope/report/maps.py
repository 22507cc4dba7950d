"""Where in an image its attributes are written: maps per pixel at several noise levels, on one scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sigmascope.report.figures import styled
from sigmascope.report.gallery import show_item
from sigmascope.report.table import number

_GAMMA = 0.5  # colours go as the square root: faint parts stay visible beside edges
_COLUMNS = 5


def map_levels(sigma: Float[np.ndarray, " levels"], totals: list[np.ndarray], count: int = _COLUMNS) -> list[int]:
    """Indices of levels spread over the range in which the maps grow, from 5 to 98 % of their final sum."""
    shares = [t / t[-1] for t in totals if t[-1] > 0]
    if not shares:
        return np.unique(np.linspace(0, len(sigma) - 1, count).round().astype(int)).tolist()
    first = min(int((s >= 0.05).argmax()) for s in shares)
    last = max(int((s >= 0.98).argmax()) for s in shares)
    return np.unique(np.linspace(first, last, count).round().astype(int)).tolist()


@styled
def maps_figure(
    v: Float[np.ndarray, "*event"],
    sigma: Float[np.ndarray, " levels"],
    maps: Mapping[str, Float[np.ndarray, "levels height width"]],
    levels: list[int] | None = None,
    title: str = "",
) -> Figure:
    """An image, and for each attribute how many nats of its score gap lie on each pixel down to some noise levels.

    Args:
        v: the image, shape (channels, height, width).
        sigma: decreasing levels.
        maps: for each attribute, which may be named with its value, nats per pixel above each level.
        levels: indices of the levels to draw, 4 to 6 of them; None spreads five over where the maps grow.
        title: what the image is.

    Returns: one row for each attribute, the image first; one scale of colour for all, the sum of a map above it.
    """
    if levels is None:
        levels = map_levels(sigma, [m.sum((1, 2)) for m in maps.values()])
    most = max(float(m[levels].max()) for m in maps.values())
    scale = PowerNorm(_GAMMA, vmin=0.0, vmax=max(most, 1e-12))
    fig = Figure(figsize=(1.45 * (len(levels) + 1) + 1.0, 1.5 * len(maps) + 0.7), layout="constrained")
    panels = fig.subplots(len(maps), len(levels) + 1, squeeze=False)
    for row, (name, m) in zip(panels, maps.items(), strict=True):
        show_item(row[0], v)
        row[0].set_ylabel(name, fontsize=9)
        for ax, j in zip(row[1:], levels, strict=True):
            drawn = ax.imshow(np.maximum(m[j], 0.0), cmap="viridis", norm=scale, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            ax.set_title(f"σ {number(float(sigma[j]))}: {m[j].sum():.2f} nats", fontsize=8)
    bar = fig.colorbar(drawn, ax=panels, shrink=0.9, aspect=25)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.set_label("score gap down to σ, nats per pixel", fontsize=8.5)
    what = "Score gap per pixel; summed over pixels, and averaged over images, it is the information"
    fig.suptitle(f"{title}: {what[0].lower()}{what[1:]}" if title else what, fontsize=9.5)
    return fig
