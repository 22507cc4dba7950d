"""Figures and page of a study by forks: curves, when each attribute is decided, and children to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sigmascope.analysis.onset import Onset
from sigmascope.core import Curve
from sigmascope.report.figures import STYLE, half_interval, style_of, windows_figure
from sigmascope.report.gallery import show_item
from sigmascope.report.learned import panels, untold_note
from sigmascope.report.losses import losses_figures, losses_section, warned
from sigmascope.report.page import Write, document, onset_table, order_of, repeat_words, write_figures
from sigmascope.report.sections import figure

_LINES = {
    "forks": (1, "forks of the model", 2.2),
    "probes:noisy": (6, "probes on noisy values (bound)", 1.2),
    "probes:features": (2, "probes on the network's features (bound)", 1.2),
    "heldout": (5, "the data alone (bound)", 1.2),
}
_MAIN = {"forks": "forks", "heldout": "the lower bound of the data alone", "probes:noisy": "probes on noisy values"}
_COLUMNS = 9  # noise levels of the gallery
_SPREAD = 0.25  # to which the contrast of noisier images is reduced


def forked_figure(results: xr.Dataset) -> Figure:
    """For each attribute the information by forks, the probes' bounds, and the exact filter's curve."""

    def draw(ax: Axes, one: xr.Dataset) -> None:
        sigma, ceiling = one.sigma.values, float(one.ceiling)
        ax.set_ylim(-0.08 * ceiling, 1.2 * ceiling)
        for e in one.estimator.values:
            of = one.sel(estimator=e)
            value, half = of.information.values, half_interval(of)
            if e == "posterior":
                ax.plot(sigma, value, color="black", linewidth=1.0, linestyle=(0, (4, 2)), label="exact filter of data")
                continue
            index, label, width = _LINES[str(e)]
            colour = style_of(index)[0]
            ax.fill_between(sigma, value - half, value + half, color=colour, alpha=0.18, linewidth=0)
            ax.plot(sigma, value, color=colour, linewidth=width, label=label)
        if "path_information" in one:
            value, half = one.path_information.values, 1.96 * np.hypot(one.path_stderr, one.path_quadrature_error)
            colour = style_of(4)[0]
            ax.fill_between(sigma, value - half, value + half, color=colour, alpha=0.18, linewidth=0)
            ax.plot(sigma, value, color=colour, linewidth=1.6, label="forks along the model's own path")

    return panels(results, draw, "information, nats", 2)


def children_figure(results: xr.Dataset) -> Figure:
    """One image at falling noise, and below each noisy image what the pipeline makes of it, several times."""
    sigma = results.sigma.values
    at = np.unique(np.linspace(0, len(sigma) - 1, min(_COLUMNS, len(sigma))).round().astype(int))
    count = results.sizes["child"]
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(1.05 * len(at), 1.05 * (count + 1) + 0.5), layout="constrained")
        axes = fig.subplots(count + 1, len(at), squeeze=False)
        for column, k in enumerate(at.tolist()):
            noisy = results.parent.values[k]
            show_item(axes[0][column], noisy, spread=_SPREAD if sigma[k] > _SPREAD else None)
            axes[0][column].set_title(f"σ = {sigma[k]:.2g}", fontsize=8)
            for row in range(count):
                show_item(axes[row + 1][column], results.children.values[k, row])
        axes[0][0].set_ylabel("noisy", fontsize=8)
        axes[1][0].set_ylabel("children", fontsize=8)
    return fig


def write_forked_report(
    write: Write,
    results: xr.Dataset,
    curves: Sequence[Curve],
    table: Sequence[Onset],
    advice: str,
    doubts: Mapping[str, str],
) -> None:
    """Write ``figures/`` as PNG and SVG, then ``report.html``.

    Args:
        write: called with a file's name and a function that writes it.
        results: of the study.
        curves: of the main estimator, forks where they are not biased.
        table: their onsets, in order.
        advice: what to do with it, HTML.
        doubts: of attributes whose curves are marked as biased, the verdict.
    """
    drawn = {
        **losses_figures(results),
        "information": forked_figure(results),
        "children": children_figure(results),
        "onset": windows_figure(table, curves),
    }
    pictures = write_figures(write, drawn)
    page = _page(results, table, pictures, advice, doubts)
    write("report.html", lambda p: p.write_text(page, encoding="utf-8"))


def labels_words(results: xr.Dataset) -> str:
    """What the labels of the nearest other items are worth; empty where a user's function labels."""
    if "labeller_right" not in results:
        return ""
    right = "; ".join(
        f"{name} in {100 * float(r):.0f} ± {196 * float(e):.0f} %"
        for name, r, e in zip(
            results.abstraction.values, results.labeller_right, results.labeller_right_stderr, strict=True
        )
    )
    most = int(results.left_out.max())
    copies = f" Up to {most - 1:,} near copies of an image are left out." if most > 1 else ""
    made = (
        " Images that the model made are no items, and nothing is left out for their children."
        if "path_information" in results
        else ""
    )
    return (
        f" The nearest other item of an image has its value of {right}: what redraws keep cannot be seen beyond that, "
        f"and labels of your own classifier may be better (--labeller).{copies}{made}"
    )


def _page(
    results: xr.Dataset, table: Sequence[Onset], pictures: dict[str, str], advice: str, doubts: Mapping[str, str]
) -> str:
    a = results.attrs
    title = f"{a['model_network']}: when are the attributes of its images decided?"
    images = "images that it made itself" if a["generated"] else str(a["data_words"])
    facts = (
        f"Model: {a['model']}, {int(a['model_parameters']):,} parameters, told nothing. Measured on {images}; "
        f"{results.sizes['draw']} noisy images at {results.sizes['sigma']} noise levels, {int(a['network_calls']):,} "
        f"network calls. Labels of children: {a['labeller']}.{labels_words(results)} "
        f"One unit of σ is {a['unit_of_sigma']}.{untold_note(results)}"
    )
    along = (
        " Own path: the same of states that the model's own generation visits, about its own end."
        if "path_information" in results
        else ""
    )
    rough = float(results.quadrature_error.sel(estimator="forks").max())
    parts = [
        f"<h1>{escape(title)}</h1>",
        *warned(results),
        f'<p class="lead">By {_MAIN[str(a["main_estimator"])]}. {order_of(table, doubts)}</p>',
        f'<p class="note">{escape(facts)}</p>',
        *losses_section(pictures, results),
        figure(
            pictures["information"],
            "Information about each attribute",
            "Information in nats that the noisy image carries about each attribute. Forks: the entropy of the labels "
            "of the model's own continuations, less bias; what the model decides. Probes: lower bounds of what noisy "
            "images tell. The data alone: a lower bound by filters of other labelled items. Exact filter: of the "
            f"items of the data, which it recognises one by one.{along} Dotted: the entropy H(A). Bands: 95 %, of the "
            f"draws and of the bias of forks that may be left ({rough:.3f} nats at most).",
        ),
        "<h2>What it makes of one noisy image</h2>",
        figure(
            pictures["children"],
            "Children at falling noise",
            "Above, one image at falling noise; below each, some continuations. What they share is decided.",
        ),
        "<h2>When it is decided</h2>",
        figure(pictures["onset"], "Onset windows", "The bar runs from where 10 % of H(A) is known to where 90 % is."),
        onset_table(table),
        "<h2>What to do with it</h2>",
        advice,
        "<h2>How it was made</h2>",
        f'<p class="note">sigmascope {escape(str(a["sigmascope_version"]))}; data fingerprint '
        f"<code>{escape(str(a['data_fingerprint']))}</code>. {repeat_words(str(a['specification']))}</p>",
        f"<pre>{escape(str(a['specification']))}</pre>",
    ]
    return document(title, parts)
