"""Sections of a study of features of the pictures: what is resolved at which noise level, and the information."""

from __future__ import annotations

from html import escape

from matplotlib.figure import Figure

from sigmascope.information.resolved import share_curves
from sigmascope.report.bands import information_figure, resolved_figure
from sigmascope.report.figures import windows_figure
from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, figure, holds, onset_table, shows, table
from sigmascope.report.table import describe

of_features = holds("resolved_share")


def _lead(pictures: Pictures, findings: Findings) -> list[str]:
    reached = [row for row in findings.onsets if row.state == "reached"]
    order = " → ".join(f"<strong>{escape(row.attribute)}</strong> (σ {describe(row.at[1])})" for row in reached)
    left = ", ".join(escape(row.attribute) for row in findings.onsets if row.state != "reached")
    return [
        f"<h1>{escape(str(findings.results.attrs['data_name']))}: at which noise level is each part of the picture "
        "resolved?</h1>",
        f'<p class="lead">Half of the power is resolved, as noise falls: {order or "nowhere within these levels"}.'
        f"{f' Not within these levels: {left}.' if left and reached else ''} Brackets are 95 % intervals.</p>",
    ]


def _windows(few: Findings) -> Figure:
    names = [str(n) for n in few.results.attribute.values]
    curves = share_curves(names, few.results.sigma.values, few.results.resolved_per_draw.values)
    return windows_figure(few.onsets, curves, "the power")


def _resolved(pictures: Pictures, findings: Findings) -> list[str]:
    caption = (
        "The share of a feature's power that is known from the noisy picture, 1 − E|B − E[B | Y]|² / E|B − E[B]|². "
        "Full, with 95 % bands: the exact filter of exactly these pictures. Dashed: the same if the pictures were "
        "Gaussian with the covariance of the data. Where the full curve lies above the dashed one, more than second "
        "moments helps; the exact filter of few pictures recognises the picture itself there."
    )
    windows = (
        "The pale bar runs from the level at which 10 % of the power is resolved to that of 90 %; the dot is the "
        "level of half, with its 95 % interval; the tick is where the share rises fastest."
    )
    results = findings.results
    sizes = [
        (str(n), int(results.feature_size.sel(attribute=n)), f"{float(results.feature_power.sel(attribute=n)):.4g}")
        for n in results.attribute.values
    ]
    return [
        figure(pictures["resolved"], "Resolved share of each feature", caption),
        figure(pictures["onset"], "Levels at which each feature is resolved", windows),
        onset_table(findings.onsets),
        table(("feature", "coordinates", "power, σ²"), sizes),
    ]


def _information(pictures: Pictures, findings: Findings) -> list[str]:
    caption = (
        "The information that the noisy picture carries about each feature, in nats, by "
        f"{escape(str(findings.results.attrs['field']))}. It grows without end as σ → 0, by one nat for each "
        "coordinate and unit of ln σ, since a feature is a real number. The bias of an estimated covariance is taken "
        "off (results.nc holds the value without correction); bands are 95 % intervals of the chance of the pictures "
        "and of that correction. Dotted: the information about the whole picture."
    )
    return [
        figure(pictures["information"], "Information about each feature", caption),
        *(f'<p class="note">{escape(w)}</p>' for w in findings.words([findings.main])),
    ]


LEAD = Section("features", _lead, applies=of_features, headed=False)
RESOLVED = Section(
    "What is resolved",
    _resolved,
    lambda findings: {
        "resolved": resolved_figure(findings.few.results),
        "onset": _windows(findings.few),
    },
    of_features,
)
INFORMATION = Section(
    "Information about each feature",
    _information,
    shows("information", lambda few: information_figure(few.curves, few.results)),
    of_features,
)
