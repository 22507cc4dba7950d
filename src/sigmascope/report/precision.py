"""The figure of how precisely real-valued attributes are known, and the sentences that go with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sigmascope.analysis.onset import Onset
from sigmascope.core import Curve
from sigmascope.report.figures import GENERATION, band, sigma_axis, span_of, style_of, styled, tiled, titled
from sigmascope.report.table import number, plus_minus


def real_attributes(results: xr.Dataset) -> list[str]:
    """Names of the real-valued attributes of a study."""
    known = np.isfinite(results.resolution.values) if "resolution" in results else np.zeros(0, dtype=bool)
    return [str(n) for n in results.attribute.values[: len(known)][known]]


@styled
def precision_figure(results: xr.Dataset, curves: Sequence[Curve]) -> Figure:
    """The root mean square error of each real-valued attribute over the noise level, with 95 % bands.

    Args:
        results: of a study.
        curves: of its main estimator; they give the range of levels.
    """
    names = real_attributes(results)
    span = span_of([c for c in curves if c.attribute in names])
    fig, panels = tiled(len(names), 2.9, 0.5)
    for k, (ax, name) in enumerate(zip(panels, names, strict=True)):
        row = results.sel(attribute=name)
        value, half = row.precision.values, 1.96 * row.precision_stderr.values
        titled(ax, span, name)
        band(ax, row.sigma.values, value, half, style_of(k)[0], linewidth=1.6, marker="o", ms=2.2)
        ax.axhline(float(row.resolution), color="0.45", linewidth=0.9, linestyle=(0, (1, 3)))
        seen = (row.sigma.values <= span[1]) & (row.sigma.values >= span[0])
        ax.set_ylim(0.0, 1.08 * max(float((value + half)[seen].max()), float(row.resolution)))
        unit = str(row.precision_unit.values)
        ax.set_ylabel("± error (root mean square)" + (f", {unit}" if unit else ""))
    if len(panels) == 1:
        sigma_axis(panels[0], *span, decibels=True, ticks=7)
    else:
        fig.supxlabel(GENERATION, fontsize=9)
    return fig


def known_to(results: xr.Dataset, onsets: Sequence[Onset]) -> list[str]:
    """How precisely each real-valued attribute is known where half of its information is there, as text."""
    sentences = []
    for row in onsets:
        if row.attribute not in real_attributes(results):
            continue
        of, half = results.sel(attribute=row.attribute), row.at[1]
        unit = str(of.precision_unit.values)
        unit = unit if unit in ("", "°") else f" {unit}"
        if not half.reached:
            continue
        x = np.log(of.sigma.values[::-1])
        value, error = (
            float(np.interp(np.log(half.value), x, of[n].values[::-1])) for n in ("precision", "precision_stderr")
        )
        sentences.append(
            f"At σ {number(half.value)}, where half of the information about {row.attribute} is there, it is known to "
            f"± {value:.3g}{unit} (95 % interval: {plus_minus(value, 1.96 * error)}); at the first level, "
            f"σ {number(float(of.sigma[0]))}, to ± {float(of.precision[0]):.3g}{unit}."
        )
    return sentences
