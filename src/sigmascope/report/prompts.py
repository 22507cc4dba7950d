"""Figure and table of a comparison of prompts: curves in nats, rates, images beside their maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from sigmascope.analysis.onset import Quantity
from sigmascope.core import Curve
from sigmascope.report.figures import STYLE, band, ceiling_line, curve_band, short, sigma_axis, style_of
from sigmascope.report.gallery import show_item
from sigmascope.report.table import aligned, describe, number, plus_minus

_IMAGES = 8  # of each prompt that are drawn
_GAMMA = 0.5  # the colour scale is the square root, so that faint parts stay visible


@dataclass(frozen=True, eq=False)
class Panel:
    """Images of one prompt and the measurements on them.

    Args:
        own: the prompt.
        other: the prompt that it is compared with; empty: the empty prompt.
        curve: the divergence by score gaps, one draw an image.
        errors: the same by gaps of squared errors.
        rate: nats per unit of ln sigma of each image.
        images: decoded, from 0 to 1.
        maps: nats by latent position.
    """

    own: str
    other: str
    curve: Curve
    errors: Curve
    rate: Float[np.ndarray, "levels images"]
    images: Float[np.ndarray, "images channels height width"]
    maps: Float[np.ndarray, "images rows columns"]


def named(prompt: str) -> str:
    """A prompt in quotation marks, cut to fit."""
    return f"“{short(prompt, 40)}”" if prompt else "the empty prompt"


def prompts_figure(
    panels: Sequence[Panel], mixture: Curve | None, shares: Sequence[Quantity], timestep: Callable[[float], float]
) -> Figure:
    """Curves above, images and their maps below.

    Args:
        panels: of the prompt, and perhaps of the other one.
        mixture: lower bound of the information about which of the two prompts made an image.
        shares: noise levels of 5, 50 and 95 % of the first panel's divergence.
        timestep: the network's timestep at a noise level.
    """
    shown = min(_IMAGES, max(len(p.images) for p in panels))
    with matplotlib.rc_context(STYLE):
        wide = max(9.0, 1.25 * shown + 1.4)
        fig = Figure(figsize=(wide, 4.2 + 2.75 * len(panels)), layout="constrained")
        parts: Any = fig.subfigures(1 + len(panels), 1, height_ratios=[4.2, *[2.75] * len(panels)])
        above = parts[0].subplots(1, 2 if mixture is None else 3)
        _curves(above[0], panels, shares)
        _rates(above[1], panels, shares)
        if mixture is not None:
            _mixture(above[2], mixture)
        sigma = panels[0].curve.sigma
        for ax in above:
            sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False, ticks=6)
            ax.set_xlabel("noise level σ of the latents  →")
            _timesteps(ax, sigma, timestep)
        first = panels[0]
        ends = " to ".join(describe(q).split(" (")[0] for q in (shares[0], shares[-1]))
        title = f"{named(first.own)} against {named(first.other)}\n5 to 95 % of the nats (grey): σ from {ends}"
        parts[0].suptitle(title, fontsize=10)
        scale = PowerNorm(_GAMMA, vmin=0.0, vmax=max(*(float(p.maps[:shown].max()) for p in panels), 1e-12))
        for part, panel in zip(parts[1:], panels, strict=True):
            _pictures(part, panel, shown, scale)
    return fig


def _curves(ax: Axes, panels: Sequence[Panel], shares: Sequence[Quantity]) -> None:
    _shade(ax, panels[0].curve.sigma, shares)
    for k, p in enumerate(panels):
        colour, c = style_of(k)[0], p.curve
        ax.plot(c.sigma, c.per_draw, color=colour, linewidth=0.5, alpha=0.3)
        curve_band(ax, c, colour, 0.22, linewidth=1.8, label=f"images of {named(short(p.own, 24))}")
        ax.plot(p.errors.sigma, p.errors.value, color=colour, linewidth=1.2, linestyle="--")
    ax.set_ylabel("divergence down to σ, nats")
    legend = ax.legend(loc="best", title="thin: an image\ndashed: by squared errors", title_fontsize=8, fontsize=8)
    legend.get_frame().set(linewidth=0, alpha=0.9)


def _rates(ax: Axes, panels: Sequence[Panel], shares: Sequence[Quantity]) -> None:
    _shade(ax, panels[0].curve.sigma, shares)
    for k, p in enumerate(panels):
        mean = p.rate.mean(1)
        half = 1.96 * p.rate.std(1, ddof=1) / p.rate.shape[1] ** 0.5
        band(ax, p.curve.sigma, mean, half, style_of(k)[0], 0.22, linewidth=1.8)
    ax.set_ylim(0.0, None)
    ax.set_ylabel("nats per e-fold of σ")


def _mixture(ax: Axes, c: Curve) -> None:
    half = 1.96 * c.stderr
    ceiling_line(ax, c.ceiling)
    band(ax, c.sigma, c.value, half, "0.2", 0.22, linewidth=1.8)
    ax.set_ylim(min(-0.03, float((c.value - half).min())), 0.76)
    ax.set_ylabel("information about the prompt:\nlower bound, nats")


def _shade(ax: Axes, sigma: Float[np.ndarray, " levels"], shares: Sequence[Quantity]) -> None:
    """The interval of noise levels that holds 5 to 95 %."""
    high, low = (float(np.clip(shares[k].value, sigma[-1], sigma[0])) for k in (0, -1))
    if np.isnan([high, low]).any():
        return
    ax.axvspan(low, high, color="0.93", zorder=0)


def _timesteps(ax: Axes, sigma: Float[np.ndarray, " levels"], timestep: Callable[[float], float]) -> None:
    """The network's timesteps, along the top."""
    at = np.geomspace(sigma[0], sigma[-1], 4)
    top = ax.secondary_xaxis("top")
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xticks(at, [f"{timestep(float(s)):.3g}" for s in at], fontsize=8)
    top.set_xlabel("timestep of the model", fontsize=8.5)


def _pictures(part: Any, panel: Panel, shown: int, scale: PowerNorm) -> None:
    axes = part.subplots(2, shown, squeeze=False)
    for column, (above, below) in enumerate(axes.T):
        if column >= len(panel.images):
            above.set_axis_off()
            below.set_axis_off()
            continue
        v, m = panel.images[column], panel.maps[column]
        show_item(above, v)
        above.set_title(f"{m.sum():.3g} nats", fontsize=8)
        height, width = v.shape[1:]
        drawn = below.imshow(
            np.maximum(m, 0.0), cmap="viridis", norm=scale, interpolation="bilinear", extent=(0, width, height, 0)
        )
        below.set_xticks([])
        below.set_yticks([])
        below.spines[:].set_visible(False)
    bar = part.colorbar(drawn, ax=axes, shrink=0.85, aspect=22)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.set_label("nats per latent position", fontsize=8)
    more = f" ({shown} of {len(panel.images)})" if len(panel.images) > shown else ""
    part.suptitle(f"images of {named(panel.own)}{more}, and where they differ from {named(panel.other)}", fontsize=9)


def prompts_text(results: Mapping[str, Any], shares: Sequence[Quantity]) -> str:
    """The table for a terminal.

    Args:
        results: what prompts.json holds.
        shares: its noise levels of 5, 50 and 95 %.
    """
    last = f"σ {number(results['sigma'][-1])}"
    lines = []
    for d in results["divergence"]:
        lines.append(
            f"{named(d['prompt'])} against {named(d['against'])}: {plus_minus(d['nats'][-1], d['stderr'][-1])} nats "
            f"down to {last} ({results['images']} images, {results['made']})"
        )
        lines.append(
            f"  by squared errors {plus_minus(d['by_errors'][-1], d['by_errors_stderr'][-1])}; the difference, "
            f"{plus_minus(d['calibration'], d['calibration_stderr'])}, is 0 for exact denoisers"
        )
    if "which" in results:
        w = results["which"]
        lines.append(
            f"information about which prompt it is: at least {plus_minus(w['nats'][-1], w['stderr'][-1])} of "
            f"{w['ceiling']:.3f} nats; by score gaps {plus_minus(w['by_scores'], w['by_scores_stderr'])}"
        )
    rows = [["share of nats", "σ (95 % interval)", "timestep", "percent"]]
    for s, q in zip(results["shares"], shares, strict=True):
        rows.append([f"{100 * s['share']:.0f} %", describe(q), *(_unit(s[n]) for n in ("timestep", "percent"))])
    return "\n".join([*lines, "", *aligned(rows), *(f"note: {n}" for n in results["notes"])])


def _unit(x: float | None) -> str:
    return "–" if x is None else f"{x:.4g}"
