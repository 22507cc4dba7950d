"""What an exact filter tells beyond attributes: single values, pairs of attributes, and the items themselves."""

from __future__ import annotations

from html import escape

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sigmascope.analysis.onset import Quantity
from sigmascope.report import panels
from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, figure, holds, shows, table
from sigmascope.report.table import describe, number


def _figures_of_values(found: Findings) -> dict[str, Figure]:
    results = found.few.results
    return {"values": panels.values_figure(results), "value_onset": panels.value_halves_figure(results)}


def _values(pictures: Pictures, found: Findings) -> list[str]:
    """Which value of each attribute is decided first."""
    results, rows = found.results, []
    for name in panels.attributes_of_values(results):
        mine = np.flatnonzero(results.value_attribute.values == name)
        order = mine[np.argsort(-results.value_half.values[mine], kind="stable")]
        ends = (int(order[0]), int(order[-1]))
        rows.append((name, *(f"{results.value.values[k]}: {describe(_half(results, k))}" for k in ends)))
    head = ("attribute", "first value: σ at half", "last value: σ at half")
    curves = (
        "For each value of an attribute, how much the noisy image says in its favour where it is the true one: the "
        "divergence of the noisy images of that value from all noisy images, as a share of −ln p(value), which is all "
        "there is to know. Weighted by the values' frequencies they add up to the attribute's own curve."
    )
    halves = (
        "Where half of it is known of each value, the first on top. Of many values, the first and the last lie apart "
        "in part by chance: <code>values.csv</code> holds all of them, with how sure their order is."
    )
    return [
        figure(pictures["values"], "Information about single values", curves),
        figure(pictures["value_onset"], "Half of each value", halves),
        table(head, rows),
    ]


def _half(results: xr.Dataset, k: int) -> Quantity:
    return Quantity(*(float(results[f"value_half{end}"][k]) for end in ("", "_low", "_high")))


def _pairs(found: Findings) -> dict[str, Figure]:
    results = found.few.results
    figures, strongest = {"pairs": panels.pairs_figure(results)}, panels.strongest_pairs(results)
    return figures | ({"pair_curves": panels.pair_curves_figure(results, strongest)} if strongest else {})


def pairs_html(pictures: Pictures, results: xr.Dataset) -> list[str]:
    """What the noisy image tells of two attributes twice, and what only together."""
    strongest, sigma = panels.strongest_pairs(results), results.sigma.values
    said = []
    for sign, words in ((1, "told twice"), (-1, "told only together")):
        for first, second, k in strongest:
            value = float(results.pair_interaction.sel(first=first, second=second)[k])
            if value * sign > 0:
                error = 1.96 * float(results.pair_stderr.sel(first=first, second=second)[k])
                said.append(
                    f"Most is {words} of {escape(first)} and {escape(second)}: {abs(value):.2g} ± {error:.1g} nats "
                    f"at σ {number(float(sigma[k]))}."
                )
                break
    if not said:
        said = ["No pair stands out by four standard errors at any level."]
    caption = (
        "I(A; B; Y) = I(A; Y) + I(B; Y) − I(A, B; Y), at the first level where it is farthest from 0. Above 0, the two "
        "are in part told twice: reading one is reading something of the other. Below 0, part of what the noisy image "
        "tells is told only of the two together: knowing one helps to read the other. Attributes that are independent "
        "in the data cannot be told twice. The largest of many levels is a little too large by chance."
    )
    parts = [
        f"<p>{' '.join(said)}</p>",
        figure(pictures["pairs"], "Interaction of pairs", caption),
    ]
    if "pair_curves" in pictures:
        words = (
            "The pairs that stand out most, with 95 % bands. Dotted: I(A; B), how much the two have in common in the "
            "data, which no curve exceeds."
        )
        parts.append(figure(pictures["pair_curves"], "Strongest pairs", words))
    return parts


def items_html(pictures: Pictures, results: xr.Dataset) -> list[str]:
    """When the filter has identified the item itself."""
    at = Quantity(*(float(results[f"identified_sigma{end}"]) for end in ("", "_low", "_high")))
    copied = float((results.effective_items_limit.values > 1.5).mean())
    if at.reached:
        found = f"Below σ {describe(at)}, the filter has identified the item, for half of the noisy images or more."
    elif at.value == 0.0:
        found = "Within these levels the filter does not identify the item of half of the noisy images."
    else:
        found = "At the first level the filter has already identified the item of half of the noisy images."
    if copied > 0:
        found += f" {100 * copied:.0f} % of the draws are of items that have equal copies, which are never told apart."
    caption = (
        "The effective number of items that the filter still holds for possible, 1 / Σ p(item | y)². Where it is below "
        "2 (dotted), two guesses at the item are more often the same than not: the filter has recognised it. From "
        "there on it tells the attributes of the image from memory of exactly this item; what a model could tell that "
        "was never given the item is another question."
    )
    return [f"<p>{found}</p>", figure(pictures["items"], "Items left", caption)]


VALUES = Section(
    "Which value is decided first",
    _values,
    _figures_of_values,
    holds("value_information"),
)
PAIRS = Section(
    "Pairs of attributes",
    lambda pictures, found: pairs_html(pictures, found.results),
    _pairs,
    holds("pair_interaction"),
)
ITEMS = Section(
    "When it knows the image itself",
    lambda pictures, found: items_html(pictures, found.results),
    shows("items", lambda few: panels.items_figure(few.results)),
    holds("effective_items"),
)
