"""Sections that need an exact filter: single values, pairs of attributes, and the items themselves."""

from __future__ import annotations

from html import escape

import xarray as xr
from matplotlib.figure import Figure

from sigmascope.report import panels
from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, figure, holds, quantity, shows, table
from sigmascope.report.table import describe, number, plus_minus


def _figures_of_values(findings: Findings) -> dict[str, Figure]:
    results = findings.few.results
    return {"values": panels.values_figure(results), "value_onset": panels.value_halves_figure(results)}


def _values(pictures: Pictures, findings: Findings) -> list[str]:
    """The values of each attribute that are decided first and last."""
    rows = []
    for name in panels.attributes_of_values(findings.results):
        values = panels.values_of(findings.results, name)
        ends = [f"{values.value.values[k]}: {describe(quantity(values, 'value_half', k))}" for k in (0, -1)]
        rows.append((name, *ends))
    head = ("attribute", "first value: σ at half", "last value: σ at half")
    curves = (
        "For each value of an attribute, the information that noisy images of this value carry about it, as a share of "
        "−ln p(value), the most that there is (formally KL[p(y | value) ‖ p(y)]). Weighted by the frequencies of the "
        "values, the curves add up to that of the attribute."
    )
    halves = (
        "The level at which half is known of each value, the first on top. Among many values, the first and the last "
        "differ in part by chance: <code>values.csv</code> lists all values and how sure their order is."
    )
    return [
        figure(pictures["values"], "Information about single values", curves),
        figure(pictures["value_onset"], "Half of each value", halves),
        table(head, rows),
    ]


def _figures_of_pairs(findings: Findings) -> dict[str, Figure]:
    results = findings.few.results
    figures, strongest = {"pairs": panels.pairs_figure(results)}, panels.strongest_pairs(results)
    return figures | ({"pair_curves": panels.pair_curves_figure(results, strongest)} if strongest else {})


def pairs_html(pictures: Pictures, results: xr.Dataset) -> list[str]:
    """The information that two attributes share, and that which needs both."""
    strongest, sigma = panels.strongest_pairs(results), results.sigma.values
    sentences = []
    for sign, words in ((1, "redundant information is on"), (-1, "information that needs both attributes is on")):
        for first, second, k in strongest:
            value = float(results.pair_interaction.sel(first=first, second=second)[k])
            if value * sign > 0:
                error = 1.96 * float(results.pair_stderr.sel(first=first, second=second)[k])
                sentences.append(
                    f"The most {words} {escape(first)} and {escape(second)}: {plus_minus(abs(value), error)} nats at σ "
                    f"{number(float(sigma[k]))}."
                )
                break
    if not sentences:
        sentences = ["No pair differs from 0 by four standard errors at any level."]
    caption = (
        "I(A; B; Y) = I(A; Y) + I(B; Y) − I(A, B; Y), at the first level where it is farthest from 0. Above 0 the "
        "information is redundant: reading one attribute is reading part of the other. Below 0 some information is "
        "only about the two together: knowing one helps to read the other. Attributes that are independent in the data "
        "cannot be redundant. The largest of many levels is a little too large by chance."
    )
    parts = [f"<p>{' '.join(sentences)}</p>", figure(pictures["pairs"], "Interaction of pairs", caption)]
    if "pair_curves" in pictures:
        words = (
            "The pairs with the largest interaction, with 95 % bands. Dotted: I(A; B), the information that the two "
            "attributes share in the data, which no curve exceeds."
        )
        parts.append(figure(pictures["pair_curves"], "Strongest pairs", words))
    return parts


def items_html(pictures: Pictures, results: xr.Dataset) -> list[str]:
    """The noise level at which the item itself is identified."""
    at = quantity(results, "identified_sigma")
    copied = float((results.effective_items_limit.values > 1.5).mean())
    if at.reached:
        text = f"Below σ {describe(at)} the item is identified in half of the noisy images or more."
    elif at.value == 0.0:
        text = "Within these levels the item is not identified in half of the noisy images."
    else:
        text = "At the first level the item is already identified in half of the noisy images."
    if copied > 0:
        text += (
            f" {100 * copied:.0f} % of the draws are of items that have equal copies, which no filter can tell apart."
        )
    caption = (
        "The effective number of items that are still possible, 1 / Σ p(item | y)². Below 2 (dotted) one item carries "
        "most of the posterior: it is identified. From there on the exact filter reads the attributes off this one "
        "item; how a model would do that was not trained on the item is another question."
    )
    return [f"<p>{text}</p>", figure(pictures["items"], "Items that are still possible", caption)]


VALUES = Section("Which value is decided first", _values, _figures_of_values, holds("value_information"))
PAIRS = Section(
    "Pairs of attributes",
    lambda pictures, findings: pairs_html(pictures, findings.results),
    _figures_of_pairs,
    holds("pair_interaction"),
)
ITEMS = Section(
    "When the item is identified",
    lambda pictures, findings: items_html(pictures, findings.results),
    shows("items", lambda few: panels.items_figure(few.results)),
    holds("effective_items"),
)
