"""How a page begins: the finding in a sentence or two, and what it is the finding of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import xarray as xr

from sigmascope.analysis.onset import Onset
from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, of_conditional, of_data, of_sampler
from sigmascope.report.table import number


def title_of(found: Findings) -> str:
    """The title of the page, as text."""
    a = found.results.attrs
    if found.of_sampler:
        return f"{a['model_network']}: when are the attributes of its images decided?"
    return f"{a['data_name']}, as a learned model sees it" if found.of_model else str(a["data_name"])


def _finding(pictures: Pictures, found: Findings) -> list[str]:
    asked = "" if found.of_sampler else ": at which noise level is each attribute decided?"
    by = f"By {found.called(found.main)}. " if found.of_model else ""
    return [
        f"<h1>{escape(title_of(found))}{asked}</h1>",
        *_warned(found.results),
        f'<p class="lead">{by}{order_of(found.onsets, found.doubts)}</p>',
    ]


def _warned(results: xr.Dataset) -> list[str]:
    """What is said before all else: that the network seems to be wrapped wrongly, and on the main curve."""
    said = []
    if wrapping := str(results.attrs.get("wrapping", "")):
        said.append(f"Nothing that this study says of the model can be believed as it is: {wrapping}.")
    if why := str(results.attrs.get("main_reason", "")):
        said.append(f"{why.replace(f' ({wrapping})', '')}.")
    return [f'<p class="lead"><strong>{escape(w)}</strong></p>' for w in said]


def order_of(table: Sequence[Onset], doubts: Mapping[str, str] | None = None) -> str:
    """The finding in a sentence or two.

    Args:
        table: onsets, in order.
        doubts: of attributes whose curves are marked as biased, the verdict: they are no part of the finding.
    """
    doubts = doubts or {}
    said = [f" <strong>{escape(n)}</strong> is left out of it: {escape(w)}." for n, w in doubts.items()]
    sure = [row for row in table if row.attribute not in doubts]
    return (_order(sure) if sure else "No curve is free of bias.") + "".join(said)


def _order(table: Sequence[Onset]) -> str:
    reached = [row for row in table if row.state == "reached"]
    if not reached:
        known = [escape(row.attribute) for row in table if row.state == "beyond"]
        if not known:
            return "No attribute reaches half of its entropy within these levels."
        first = f"Half-information is already known at the first level: {', '.join(known)}."
        return f"{first} No other attribute reaches half of its entropy within these levels."
    steps = []
    for i, row in enumerate(reached):
        joint = "" if i + 1 == len(reached) else " → " if row.before_next >= 0.975 else " ≈ "
        steps.append(f"<strong>{escape(row.attribute)}</strong> (σ {number(row.at[1].value)}){joint}")
    text = "In order of half-information, as noise falls: " + "".join(steps) + "."
    if any(row.before_next < 0.975 for row in reached[:-1]):
        text += " Where ≈ stands, these draws do not settle the order (less than 97.5 % of resamples)."
    words_of = {"not reached": "not reached by the last level", "beyond": "already known at the first level"}
    for state, words in words_of.items():
        names = [escape(row.attribute) for row in table if row.state == state]
        if names:
            text += f" Half-information {words}: {', '.join(names)}."
    return text


def _of_data(pictures: Pictures, found: Findings) -> list[str]:
    a, sizes, sigma = found.results.attrs, found.results.sizes, found.results.sigma
    return _note(
        f"{a['data_words']}, {sizes['draw']} draws, {sizes['sigma']} noise levels from {float(sigma[0]):g} to "
        f"{float(sigma[-1]):g}. One unit of σ is {a['unit_of_sigma']}."
    )


def _of_model(pictures: Pictures, found: Findings) -> list[str]:
    results, a = found.results, found.results.attrs
    where = "values kept out of its training" if a.get("held_out") else "values that it may have been trained on"
    trained = f", {int(a['model_steps']):,} steps of training" if a["model_steps"] else ""
    along = " and the model's own path" if "path_information" in results else ""
    return _note(
        f"Model: {a['model_network']}, {int(a['model_parameters']):,} parameters{trained}. Measured on {where}: "
        f"{a['data_words']}, {int(a['network_calls']):,} network calls for the gaps{along}, "
        f"{results.sizes['sigma']} noise levels. One unit of σ is {a['unit_of_sigma']}.{_unconditional(results)}"
    )


def _of_sampler(pictures: Pictures, found: Findings) -> list[str]:
    results, a = found.results, found.results.attrs
    images = "images that it made itself" if a["generated"] else str(a["data_words"])
    return _note(
        f"Model: {a['model']}, {int(a['model_parameters']):,} parameters, told nothing. Measured on {images}; "
        f"{results.sizes['draw']} noisy images at {results.sizes['sigma']} noise levels, {int(a['network_calls']):,} "
        f"network calls. Labels of children: {a['labeller']}.{_labels(results)} "
        f"One unit of σ is {a['unit_of_sigma']}.{_unconditional(results)}"
    )


def _note(text: str) -> list[str]:
    return [f'<p class="note">{escape(text)}</p>']


def _unconditional(results: xr.Dataset) -> str:
    """What is said of a network without an empty class; nothing of others."""
    if "unconditional" not in results.attrs:
        return ""
    return (
        " Its network has no empty class: its unconditional output is the mixture over its classes by its own "
        "likelihood, "
        f"of {int(results.attrs['unconditional_calls'])} network calls each."
    )


def _labels(results: xr.Dataset) -> str:
    """What the labels of the nearest other items are worth; empty where a user's function labels."""
    if "labeller_right" not in results:
        return ""
    right = "; ".join(
        f"{name} in {100 * float(r):.0f} ± {196 * float(e):.0f} %"
        for name, r, e in zip(
            results.attribute.values, results.labeller_right, results.labeller_right_stderr, strict=True
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


FINDING = Section("finding", _finding, headed=False)
DATA = Section("data", _of_data, applies=of_data, headed=False)
MODEL = Section("model", _of_model, applies=of_conditional, headed=False)
SAMPLER = Section("sampler", _of_sampler, applies=of_sampler, headed=False)
