"""Figures and page of a study of a learned model: what it knows at least, what its gaps say, and what to believe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sigmascope.analysis.onset import Onset
from sigmascope.core import Curve
from sigmascope.report.figures import (
    STYLE,
    half_interval,
    label_of,
    sigma_axis,
    strip_figure,
    strip_levels,
    style_of,
    windows_figure,
)
from sigmascope.report.losses import losses_figures, losses_section, warned
from sigmascope.report.page import Write, document, onset_table, order_of, repeat_words, write_figures
from sigmascope.report.sections import figure

_WAYS = {
    "score_gap": "score_gap (the paper's measure): how far the network's outputs with and without the attribute are "
    "apart. The network's error can bias it either way.",
    "mmse_gap": "mmse_gap: how much better the network denoises when it is told the attribute. Biased by the network's "
    "error, too.",
    "filter": "filter: the network's own posterior, carried along one path of falling noise. A lower bound whatever "
    "the network's error.",
    "likelihood": "likelihood: the network's own posterior, from how well it predicts the noisy image back. A lower "
    "bound whatever its error.",
    "classifier": "classifier: a classifier of noisy images trained along. A lower bound, of what noisy images tell "
    "at least, by another network.",
    "probes:noisy": "probes:noisy: logistic regression on the noisy values. A lower bound, of what is usable linearly.",
    "probes:features": "probes:features: the same on what the network sees in them, block by block, averaged over "
    "pixels.",
    "heldout": "heldout: kernel filters of other labelled items, with no network. A lower bound of what noisy images "
    "tell, which binds whatever the model.",
    "bound": "bound: the best of the lower bounds at this or a higher noise level, chosen on other draws.",
    "posterior": "posterior: the exact filter of the data, for comparison; the verdicts do not use it.",
}
_MAIN = {
    "bound": "the best lower bound",
    "score_gap": "the score gap",
    "mmse_gap": "the gap of squared errors",
    "heldout": "the lower bound of the data alone",
}
_TOP = 1.35  # of H(A): the upper edge of a panel
_COLOURS = {
    "bound": 0,
    "score_gap": 1,
    "mmse_gap": 2,
    "filter": 3,
    "classifier": 4,
    "likelihood": 5,
    "heldout": 5,
    "posterior": 6,
    "probes:noisy": 6,
    "probes:features": 2,
}


def panels(results: xr.Dataset, draw: Callable[[Axes, xr.Dataset], None], sideways: str, columns: int) -> Figure:
    """A figure with a panel for each attribute, its entropy dotted, and a legend in so many columns."""
    names, sigma = results.abstraction.values, results.sigma.values
    wide = min(3, len(names))
    count = -(-len(names) // wide)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(9.0, 2.6 * count + 0.6), layout="constrained")
        axes = list(fig.subplots(count, wide, squeeze=False, sharex=True).flat)
        for ax in axes[len(names) :]:
            ax.set_axis_off()
        for ax, name in zip(axes, names, strict=False):
            one = results.sel(abstraction=name)
            draw(ax, one)
            ax.axhline(float(one.ceiling), color="0.55", linewidth=0.8, linestyle=(0, (1, 3)))
            sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False)
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0,)))
            ax.set_xlabel("")
            ax.set_title(str(name), fontsize=9.5, loc="left")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=8.5)
        fig.supxlabel("noise level σ   (generation runs to the right →)", fontsize=9)
        fig.supylabel(sideways, fontsize=9)
    return fig


def learned_figure(results: xr.Dataset) -> Figure:
    """For each attribute the best bound, the gaps (dotted where they are marked as biased), and the exact curve."""
    every = ("posterior", "heldout", "bound", "mmse_gap", "score_gap")
    shown = [e for e in every if e in results.estimator.values]

    def draw(ax: Axes, one: xr.Dataset) -> None:
        sigma, ceiling = one.sigma.values, float(one.ceiling)
        ax.set_ylim(-0.05 * ceiling, _TOP * ceiling)
        over = [w for e in shown if (w := _over_the_top(one, e))]
        ax.text(0.98, 0.97, "\n".join(over), transform=ax.transAxes, ha="right", va="top", fontsize=7.5)
        for e in shown:
            of = one.sel(estimator=e)
            value, half = of.information.values, half_interval(of)
            if e == "posterior":
                ax.plot(sigma, value, color="black", linewidth=1.0, linestyle=(0, (4, 2)), label="exact")
                continue
            colour = style_of(_COLOURS[e])[0]
            ax.fill_between(sigma, value - half, value + half, color=colour, alpha=0.18, linewidth=0)
            if e in ("bound", "heldout"):
                words, width = ("best lower bound", 2.2) if e == "bound" else ("lower bound of the data alone", 1.4)
                ax.plot(sigma, value, color=colour, linewidth=width, label=words)
                continue
            good = of.trusted.values.astype(bool)
            # A line goes on to the neighbouring level, so that no gap opens between trusted and biased.
            near = good | np.roll(good, 1) & (np.arange(len(good)) > 0)
            ax.plot(sigma, np.where(near, value, np.nan), color=colour, linewidth=1.4, label=f"{e}, trusted")
            ax.plot(
                sigma, np.where(good, np.nan, value), color=colour, linewidth=1.1, linestyle=(0, (1, 1.5)),
                label=f"{e}, biased",
            )  # fmt: skip

    return panels(results, draw, "information, nats", 3)


def _over_the_top(one: xr.Dataset, estimator: str) -> str:
    """How high a curve goes that leaves the panel, with an arrow; empty where none does."""
    value, ceiling = one.information.sel(estimator=estimator).values, float(one.ceiling)
    highest = float(np.nanmax(value, initial=-np.inf))
    return f"↑ {estimator}: {highest:.3g} of {ceiling:.2g} nats" if highest > _TOP * ceiling else ""


def above_entropy(results: xr.Dataset) -> list[str]:
    """Gaps that lie above H(A), which no information can, by how much; a sentence for each attribute."""
    said = []
    for name in map(str, results.abstraction.values):
        one, found = results.sel(abstraction=name), []
        ceiling = float(one.ceiling)
        for e in ("score_gap", "mmse_gap"):
            if e in results.estimator.values:
                value = one.information.sel(estimator=e).values
                k = int(np.nanargmax(value))
                if value[k] > (1.0 + float(results.attrs["trust_tolerance"])) * ceiling:
                    found.append(f"{e} is {value[k]:.1f} of {ceiling:.1f} nats at σ {one.sigma.values[k]:.3g}")
        if found:
            said.append(f"{name}: {' and '.join(found)}, more than there is to know.")
    return said


def bounds_figure(results: xr.Dataset) -> Figure:
    """Each of the lower bounds of each attribute."""
    every = ("filter", "likelihood", "classifier", "probes:noisy", "probes:features", "heldout", "bound")
    shown = [e for e in every if e in results.estimator.values]

    def draw(ax: Axes, one: xr.Dataset) -> None:
        for e in shown:
            wide = e == "bound"
            ax.plot(
                one.sigma.values, one.information.sel(estimator=e).values, color=style_of(_COLOURS[e])[0],
                linewidth=3.0 if wide else 1.2, alpha=0.45 if wide else 1.0, label=e,
            )  # fmt: skip

    return panels(results, draw, "lower bound, nats", 4)


def calibration_figure(results: xr.Dataset) -> Figure:
    """What must be zero for true conditional means, as a share of H(A): calibration, chain rule, random labels."""
    sigma = results.sigma.values
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(9.0, 3.6), layout="constrained")
        kinds = [("calibration", "calibration")]
        kinds += [("chain_residual", "chain rule's residual")] if "chain_residual" in results else []
        axes = fig.subplots(1, len(kinds), squeeze=False)[0]
        for ax, (kind, title) in zip(axes, kinds, strict=True):
            error = results[{"calibration": "calibration_stderr", "chain_residual": "chain_stderr"}[kind]]
            for i, name in enumerate(results.abstraction.values):
                ceiling = float(results.ceiling.sel(abstraction=name))
                value = 100 * results[kind].sel(abstraction=name).values / ceiling
                half = 196 * error.sel(abstraction=name).values / ceiling
                colour, dash = style_of(i)
                ax.fill_between(sigma, value - half, value + half, color=colour, alpha=0.15, linewidth=0)
                ax.plot(sigma, value, color=colour, linestyle=dash, linewidth=1.3, label=label_of(str(name)))
            if kind == "calibration" and "null_score_gap" in results:
                mean = float(results.ceiling.mean())
                ax.plot(sigma, 100 * results.null_score_gap.values / mean, color="0.4", linewidth=2.0, alpha=0.6,
                        label="score gap of random labels")  # fmt: skip
            share = 100 * float(results.attrs["trust_tolerance"])
            ax.axhspan(-share, share, color="0.9", zorder=0)
            ax.axhline(0.0, color="0.3", linewidth=0.8)
            ax.set_ylim(-60, 60)
            sigma_axis(ax, float(sigma.min()), float(sigma.max()), decibels=False)
            ax.set_title(title, fontsize=9.5, loc="left")
            ax.set_ylabel("% of H(A)")
        axes[0].legend(fontsize=7.5, loc="lower left")
    return fig


def write_learned_report(
    write: Write,
    results: xr.Dataset,
    curves: Sequence[Curve],
    table: Sequence[Onset],
    example: tuple[np.ndarray, np.ndarray],
    advice: str,
    doubts: Mapping[str, str],
) -> None:
    """Write ``figures/`` as PNG and SVG, then ``report.html``.

    Args:
        write: called with a file's name and a function that writes it.
        results: of the study.
        curves: of its main estimator.
        table: their onsets, in order.
        example: an item and a noise, for the strip.
        advice: what to do with it, HTML.
        doubts: of attributes whose curves are marked as biased, the verdict.
    """
    drawn = {
        **losses_figures(results),
        "information": learned_figure(results),
        "onset": windows_figure(table, curves),
        "calibration": calibration_figure(results),
        "strip": strip_figure(*example, strip_levels(table, curves[0].sigma)),
    }
    if "bound" in results.estimator.values:
        drawn["bounds"] = bounds_figure(results)
    pictures = write_figures(write, drawn)
    page = _page(results, curves, table, pictures, advice, doubts)
    write("report.html", lambda p: p.write_text(page, encoding="utf-8"))


def _page(
    results: xr.Dataset,
    curves: Sequence[Curve],
    table: Sequence[Onset],
    pictures: dict[str, str],
    advice: str,
    doubts: Mapping[str, str],
) -> str:
    a = results.attrs
    title = f"{a['data_name']}, as a learned model sees it"
    where = "values kept out of its training" if a.get("held_out") else "values that it may have been trained on"
    trained = f", {int(a['model_steps']):,} steps of training" if a["model_steps"] else ""
    along = " and the model's own path" if "path_information" in results else ""
    facts = (
        f"Model: {escape(str(a['model_network']))}, {int(a['model_parameters']):,} parameters{trained}. Measured on "
        f"{where}: {escape(str(a['data_words']))}, {int(a['network_calls']):,} network calls for the gaps{along}, "
        f"{results.sizes['sigma']} noise levels. One unit of σ is {escape(str(a['unit_of_sigma']))}."
    )
    facts += untold_note(results)
    main = str(a["main_estimator"])
    lower = str(results.kind.sel(estimator=main).values) == "lower bound"
    lead = f"By {_MAIN[main]}. {order_of(table, doubts)}"
    ways = [_WAYS[str(e)] for e in results.estimator.values if str(e) in _WAYS]
    parts = [
        f"<h1>{escape(title)}: at which noise level is each attribute decided?</h1>",
        *warned(results),
        f'<p class="lead">{lead}</p><p class="note">{facts}</p>',
        *losses_section(pictures, results),
        "<h2>What is known of each attribute</h2>",
        figure(
            pictures["information"],
            "Information by a learned model",
            "Information in nats that the noisy image carries about each attribute, as far as this model shows it. "
            "Thick: the best lower bound, which holds whatever the network's error. Thin: a lower bound of the "
            "labelled data alone, with no network. The gaps are estimates that the network's error can bias; where "
            "they are marked as biased they are dotted: believe the bounds there. "
            "Dotted line: the entropy H(A). Bands: 95 %, of the draws alone.",
        ),
        "<h2>What to believe</h2>",
        *(f"<p>{escape(w)}</p>" for w in above_entropy(results)),
        _verdicts(results),
        f"<p class='note'>{escape(str(a['trust_rule']))} "
        "The exact curve, if it is shown, is not used. These signs are necessary, not sufficient: an error that none "
        "of them sees goes unmarked.</p>",
        figure(
            pictures["calibration"],
            "Calibration",
            "Three things that are zero for true conditional means. Calibration: 2⟨D_A − D, v − D_A⟩, which is "
            "mmse_gap less score_gap. The chain rule: what all tell together, less what A tells first and what all "
            "others then add. Grey: the score gap of random labels, which is nothing but noise of the network. The "
            f"pale band is {100 * float(a['trust_tolerance']):g} % of H(A).",
        ),
        f'<p class="note">{_null(results)}</p>',
        "<h2>When it is decided</h2>",
        figure(
            pictures["onset"],
            "Onset windows",
            "The bar runs from where 10 % of H(A) is known to where 90 % is"
            + (f", by {_MAIN[main]}: the truth is at the same level or a higher one." if lower else "."),
        ),
        onset_table(table),
    ]
    if "bounds" in pictures:
        cheap = int(a.get("classified_draws", 0))
        sharper = (
            f" The chance that the classifier sees in their draws is taken away: it was asked about {cheap:,} others."
        )
        parts += [
            "<h2>The bounds</h2>",
            figure(
                pictures["bounds"],
                "Lower bounds",
                "Each lower bound by itself, and the best of them." + (sharper if cheap else ""),
            ),
        ]
    parts += [
        "<h2>What was measured</h2>",
        f"<ul>{''.join(f'<li>{escape(w)}</li>' for w in ways)}</ul>",
        "<h2>What it looks like</h2>",
        figure(pictures["strip"], "One image at nine noise levels", "Contrast is reduced as noise grows."),
        "<h2>What to do with it</h2>",
        advice,
        *_classes(results),
        "<h2>How it was made</h2>",
        f'<p class="note">sigmascope {escape(str(a["sigmascope_version"]))}; data fingerprint '
        f"<code>{escape(str(a['data_fingerprint']))}</code>. {repeat_words(str(a['specification']))}</p>",
        f"<pre>{escape(str(a['specification']))}</pre>",
    ]
    return document(title, parts)


def untold_note(results: xr.Dataset) -> str:
    """What is said of a network without an empty class; nothing of others."""
    if "unconditional" not in results.attrs:
        return ""
    return (
        " Its network has no empty class: what it says untold is the mixture over its classes by its own likelihood, "
        f"of {int(results.attrs['unconditional_calls'])} network calls each."
    )


def _classes(results: xr.Dataset) -> list[str]:
    """Which class of a pipeline's network stood for which value, as a table."""
    if "classes" not in results.attrs:
        return []
    name = escape(str(results.abstraction.values[0]))
    rows = "".join(
        f'<tr><th scope="row">{escape(value)}</th><td>{k}</td><td>{escape(own)}</td></tr>'
        for value, k, own in json.loads(results.attrs["classes"])
    )
    head = "".join(f'<th scope="col">{h}</th>' for h in (name, "class of the network", "its name there"))
    return ["<h2>Which class is which</h2>", f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>']


def _verdicts(results: xr.Dataset) -> str:
    shown = [e for e in ("score_gap", "mmse_gap") if e in results.estimator.values]
    head = "".join(f'<th scope="col">{h}</th>' for h in ("attribute", *shown))
    rows = [
        f'<tr><th scope="row">{escape(str(name))}</th>'
        + "".join(f"<td>{escape(str(results.verdict.sel(abstraction=name, estimator=e).values))}</td>" for e in shown)
        + "</tr>"
        for name in results.abstraction.values
    ]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _null(results: xr.Dataset) -> str:
    """What the spare attribute of random labels says, in words."""
    if "null_score_gap" not in results:
        return "The model was trained without a spare attribute of random labels (train --null 8)."
    value, error = float(results.null_score_gap[-1]), 1.96 * float(results.null_score_gap_stderr[-1])
    words = (
        "Random labels, of which nothing can be known: their score gap adds up to "
        f"{value:.3f} ± {error:.3f} nats at the last level"
    )
    if "null_bound" in results:
        words += f", their best bound is nowhere above {float(results.null_bound.max()):.3f}"
    return words + "."
