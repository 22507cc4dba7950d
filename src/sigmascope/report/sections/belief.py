"""What to believe of a study of a network: its losses, the curves that are marked, and the list of measurements."""

from __future__ import annotations

import json
from html import escape

import numpy as np
import xarray as xr

from sigmascope.report.by_estimator import calibration_figure
from sigmascope.report.findings import Findings
from sigmascope.report.losses import levels_figure, network_label
from sigmascope.report.precision import real_attributes
from sigmascope.report.section import Pictures, Section, figure, holds, shows, table
from sigmascope.report.table import plus_minus


def _losses(pictures: Pictures, findings: Findings) -> list[str]:
    """The denoising losses as a figure and a table."""
    results = findings.results
    conditions = [network_label(str(c)) for c in results.loss_condition.values]
    rows = []
    for k, sigma in enumerate(results.loss_sigma.values):
        data = [(results[f"loss_{name}"][k], results[f"loss_{name}_stderr"][k]) for name in ("mean", "linear")]
        network = [(results.loss[j, k], results.loss_stderr[j, k]) for j in range(len(conditions))]
        rows.append((f"{sigma:.3g}", *(plus_minus(float(x), 1.96 * float(e)) for x, e in (*data, *network))))
    words = (
        "The mean squared error of a coordinate, with its 95 % interval, on the same noisy images for all of them. The "
        "linear denoiser and the mean image come from other items than the ones they are measured on. The loss of a "
        "network that is wrapped correctly and trained well lies below both, and given the right value of an attribute "
        "it lies below the unconditional one."
    )
    head = ["σ", "mean image", "best linear denoiser", *conditions]
    return [figure(pictures["losses"], "Denoising losses", words), table(head, rows)]


def _belief(pictures: Pictures, findings: Findings) -> list[str]:
    results, a = findings.results, findings.results.attrs
    gaps, names = findings.estimators("estimate"), results.attribute.values
    verdicts = [(n, *(results.verdict.sel(attribute=n, estimator=e).values for e in gaps)) for n in names]
    caption = (
        "Three quantities that are zero for true conditional means. Calibration: 2⟨D_A − D, v − D_A⟩, which is "
        "mmse_gap minus score_gap. The chain rule: the information about all attributes together, minus that about A, "
        "minus what all the others add when A is known. Grey: the score gap of random labels, which is pure error of "
        f"the network. The pale band is {100 * float(a['trust_tolerance']):g} % of H(A)."
    )
    return [
        *(f"<p>{escape(w)}</p>" for w in above_entropy(results, gaps)),
        table(("attribute", *gaps), verdicts),
        f"<p class='note'>{escape(str(a['trust_rule']))} "
        "The exact curve, if it is shown, is not used. A gap that shows none of these signs can still be biased.</p>",
        figure(pictures["calibration"], "Calibration", caption),
        f'<p class="note">{_null(results)}</p>',
    ]


def above_entropy(results: xr.Dataset, estimators: list[str]) -> list[str]:
    """Estimates that lie above H(A), which no information can; a sentence for each attribute."""
    sentences = []
    for name in map(str, results.attribute.values):
        row, over = results.sel(attribute=name), []
        ceiling = float(row.ceiling)
        for e in estimators:
            value = row.information.sel(estimator=e).values
            if np.isnan(value).all():  # of a real-valued attribute, which not every estimator measures
                continue
            k = int(np.nanargmax(value))
            if value[k] > (1.0 + float(results.attrs["trust_tolerance"])) * ceiling:
                over.append(f"{e} is {value[k]:.1f} nats at σ {row.sigma.values[k]:.3g}")
        if over:
            most = "ceiling" if name in real_attributes(results) else "entropy"
            sentences.append(f"{name}: {' and '.join(over)}, above its {most} of {ceiling:.1f} nats.")
    return sentences


def _null(results: xr.Dataset) -> str:
    """The score gap and the best bound of random labels, in words."""
    if "null_number_score_gap" in results:
        gap, stderr = float(results.null_number_score_gap[-1]), float(results.null_number_score_gap_stderr[-1])
        numbers = (
            "The true information about the numbers of a real-valued attribute in random order is 0, too. Their score "
            f"gap adds up to {plus_minus(gap, 1.96 * stderr)} nats at the last level."
        )
    else:
        numbers = ""
    if "null_score_gap" not in results:
        none = "This model has no control attribute of random labels; sigmascope train --null makes one."
        return numbers.replace(" is 0, too", " is 0") or none
    value, error = float(results.null_score_gap[-1]), 1.96 * float(results.null_score_gap_stderr[-1])
    words = (
        "The true information about random labels is 0. Their score gap adds up to "
        f"{plus_minus(value, error)} nats at the last level"
    )
    if "null_bound" in results:
        words += f"; their best bound is at most {float(results.null_bound.max()):.2g} at every level"
    return f"{words}. {numbers}".strip()


def _measured(pictures: Pictures, findings: Findings) -> list[str]:
    ways = findings.words([str(e) for e in findings.results.estimator.values])
    return [f"<ul>{''.join(f'<li>{escape(w)}</li>' for w in ways)}</ul>"]


def _classes(pictures: Pictures, findings: Findings) -> list[str]:
    """The class of a pipeline's network for each value."""
    head = (str(findings.results.attribute.values[0]), "class of the network", "its name there")
    return [table(head, json.loads(findings.results.attrs["classes"]))]


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
CLASSES = Section("Which class is which", _classes, applies=lambda findings: "classes" in findings.results.attrs)
