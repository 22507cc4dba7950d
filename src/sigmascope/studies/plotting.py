"""A plot of results, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

import sigmascope.report  # noqa: F401  (first: it lets matplotlib load whatever backend the environment names)

# isort: split
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sigmascope.adapters.diffusers.units import ruler_of
from sigmascope.adapters.naming import HUB, PIPELINE
from sigmascope.core import InputError
from sigmascope.report.figures import draw_curves, moving, sigma_axis, styled
from sigmascope.studies.advice_of import STEPS, unit_factor
from sigmascope.studies.results import to_curves


@styled
def plot(
    results: xr.Dataset,
    ax: Axes | None = None,
    *,
    estimator: str = "",
    labels: Mapping[str, str] | Sequence[str] | None = None,
    colors: Mapping[str, Any] | Sequence[Any] | None = None,
    x: str = "sigma",
) -> Axes:
    """Information curves of every attribute with 95 % bands and the entropies H(A), in nats.

    Args:
        results: what :func:`sigmascope.study` returned, or an opened ``results.nc``.
        ax: axes of yours to draw into; None: those of a new figure, which is ``.figure`` of what is returned.
        estimator: its name; empty: the study's main one.
        labels: legend of the attributes, by name or in order; None: their names.
        colors: of the curves, by name or in order; None: colours that colour-blind readers tell apart.
        x: the horizontal axis, on which generation runs to the right: the noise level ``sigma``, the signal-to-noise
            ratio ``snr_db`` = -20 log10 sigma in decibels, or the ``timestep`` of the pipeline that was studied.

    Returns: the axes; save the figure with ``plot(results).figure.savefig("curves.png")``.

    Raises: InputError for an unknown ``x``, a number of labels or colors that is not that of the attributes, or
        timesteps of a study that is not of a pipeline.
    """
    curves = to_curves(results, estimator)
    names = [c.attribute for c in curves]
    if x not in ("sigma", "snr_db", "timestep"):
        raise InputError(f"x is {x!r}: expected 'sigma', 'snr_db' or 'timestep'")
    legend, colours = _in_order("labels", labels, names), _in_order("colors", colors, names)
    if ax is None:
        ax = Figure(figsize=(6.4, 4.0), layout="constrained").subplots()
    sigma = curves[0].sigma
    spans = np.array([moving(sigma, c.value) for c in curves])
    low, high = float(spans[:, 0].min()), float(spans[:, 1].max())
    if x == "sigma":
        draw_curves(ax, curves, labels=legend, colors=colours)
        sigma_axis(ax, low, high, decibels=True, ticks=7)
    elif x == "snr_db":
        draw_curves(ax, curves, -20 * np.log10(sigma), labels=legend, colors=colours)
        ax.set_xlim(*(-20 * np.log10([high, low])))
        ax.set_xlabel("signal-to-noise ratio, dB   (generation runs to the right →)")
    else:
        steps = _timesteps(results)
        draw_curves(ax, curves, steps, labels=legend, colors=colours)
        ends = steps[np.isfinite(steps) & (sigma >= low) & (sigma <= high)]
        if len(ends) > 1:
            ax.set_xlim(ends.max(), ends.min())
        ax.set_xlabel("timestep   (generation runs to the right →)")
    return ax


def _in_order(argument: str, given: Mapping[str, Any] | Sequence[Any] | None, names: Sequence[str]) -> list[Any]:
    """One entry for each attribute; none where nothing was given."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        if unknown := [n for n in given if n not in names]:
            raise InputError(f"{argument} name {unknown[0]!r}: the attributes are {', '.join(names)}")
        missing = [n for n in names if n not in given]
        if argument == "colors" and missing:
            raise InputError(f"colors lack {missing[0]!r}: pass a color for each of {', '.join(names)}")
        return [given.get(n, n) for n in names]
    if len(given) != len(names) or isinstance(given, str):
        raise InputError(f"{argument} has {len(given)} entries: expected {len(names)}, one for each attribute")
    return list(given)


def _timesteps(results: xr.Dataset) -> np.ndarray:
    """The timestep of each level of a pipeline's study; NaN where its schedule does not reach the level."""
    model = str(results.attrs.get("model", ""))
    if not model.startswith((PIPELINE, HUB)):
        raise InputError("x is 'timestep', but this study is not of a pipeline: pass x='sigma' or x='snr_db'")
    ruler = ruler_of(model, STEPS)
    factor = unit_factor(str(results.attrs.get("unit_of_sigma", "")), ruler, "this study", model)
    steps = np.full(results.sizes["sigma"], np.nan)
    for k, sigma in enumerate(factor * results.sigma.values):
        if ruler.lowest <= sigma <= ruler.highest:
            steps[k] = ruler.of_sigma(float(sigma)).timestep
    return steps
