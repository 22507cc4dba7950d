"""What to believe of a study of a network: whether it denoises, which curves are marked, what was measured."""

from __future__ import annotations

import json
from html import escape

import numpy as np
import xarray as xr

from sigmascope.report.by_estimator import calibration_figure
from sigmascope.report.findings import Findings
from sigmascope.report.losses import levels_figure
from sigmascope.report.section import Pictures, Section, figure, holds, shows, table


def _losses(pictures: Pictures, found: Findings) -> list[str]:
    """The denoising losses as a figure and a table."""
    results = found.results
    told = [str(t) for t in results.loss_condition.values]
    head = ["σ", "mean image", "best linear denoiser", *(f"network, told {t.strip('()')}" for t in told)]
    rows = []
    for k, sigma in enumerate(results.loss_sigma.values):
        alone = [(results[f"loss_{of}"][k], results[f"loss_{of}_stderr"][k]) for of in ("mean", "linear")]
        pairs = [*alone, *((results.loss[j, k], results.loss_stderr[j, k]) for j in range(len(told)))]
        rows.append((f"{sigma:.3g}", *(f"{float(x):.3g} ± {1.96 * float(e):.1g}" for x, e in pairs)))
    words = (
        "The mean squared error of a coordinate, on the same noisy images for all of them, and its 95 % interval. The "
        "linear denoiser and the mean image are of other items than those they are measured on. A network that is "
        "wrapped rightly and trained well lies below both; told the right value of an attribute it lies below what it "
        "is told nothing."
    )
    return [figure(pictures["losses"], "Denoising losses", words), table(head, rows)]


def _belief(pictures: Pictures, found: Findings) -> list[str]:
    results, a = found.results, found.results.attrs
    gaps, names = found.estimators("estimate"), results.attribute.values
    verdicts = [(n, *(results.verdict.sel(attribute=n, estimator=e).values for e in gaps)) for n in names]
    caption = (
        "Three things that are zero for true conditional means. Calibration: 2⟨D_A − D, v − D_A⟩, which is "
        "mmse_gap less score_gap. The chain rule: what all tell together, less what A tells first and what all "
        "others then add. Grey: the score gap of random labels, which is nothing but noise of the network. The "
        f"pale band is {100 * float(a['trust_tolerance']):g} % of H(A)."
    )
    return [
        *(f"<p>{escape(w)}</p>" for w in above_entropy(results, gaps)),
        table(("attribute", *gaps), verdicts),
        f"<p class='note'>{escape(str(a['trust_rule']))} "
        "The exact curve, if it is shown, is not used. These signs are necessary, not sufficient: an error that none "
        "of them sees goes unmarked.</p>",
        figure(pictures["calibration"], "Calibration", caption),
        f'<p class="note">{_null(results)}</p>',
    ]


def above_entropy(results: xr.Dataset, estimators: list[str]) -> list[str]:
    """Estimates that lie above H(A), which no information can, by how much; a sentence for each attribute."""
    said = []
    for name in map(str, results.attribute.values):
        one, found = results.sel(attribute=name), []
        ceiling = float(one.ceiling)
        for e in estimators:
            value = one.information.sel(estimator=e).values
            k = int(np.nanargmax(value))
            if value[k] > (1.0 + float(results.attrs["trust_tolerance"])) * ceiling:
                found.append(f"{e} is {value[k]:.1f} of {ceiling:.1f} nats at σ {one.sigma.values[k]:.3g}")
        if found:
            said.append(f"{name}: {' and '.join(found)}, more than there is to know.")
    return said


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


def _measured(pictures: Pictures, found: Findings) -> list[str]:
    ways = found.words([str(e) for e in found.results.estimator.values])
    return [f"<ul>{''.join(f'<li>{escape(w)}</li>' for w in ways)}</ul>"]


def _classes(pictures: Pictures, found: Findings) -> list[str]:
    """Which class of a pipeline's network stood for which value."""
    head = (str(found.results.attribute.values[0]), "class of the network", "its name there")
    return [table(head, json.loads(found.results.attrs["classes"]))]


LOSSES = Section(
    "Does the network denoise?", _losses, shows("losses", lambda few: levels_figure(few.results)), holds("loss")
)
BELIEF = Section(
    "What to believe",
    _belief,
    shows("calibration", lambda few: calibration_figure(few.results)),
    holds("calibration"),
)
MEASURED = Section("What was measured", _measured, applies=holds("calibration"))
CLASSES = Section("Which class is which", _classes, applies=lambda found: "classes" in found.results.attrs)
