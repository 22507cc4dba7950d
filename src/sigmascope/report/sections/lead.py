"""The beginning of a page: three sentences of summary, the order of the attributes, and what was studied."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import xarray as xr
from jaxtyping import Float

from sigmascope.analysis.onset import Onset
from sigmascope.core import Curve
from sigmascope.report.findings import Findings
from sigmascope.report.precision import real_attributes
from sigmascope.report.section import Pictures, Section, of_conditional, of_data, of_labels, of_sampler
from sigmascope.report.table import brief, number, plus_minus

_SETTLED = 0.975  # share of resamples from which the order of two attributes counts as settled


def title_of(findings: Findings) -> str:
    """The title of the page, as text."""
    a = findings.results.attrs
    if findings.of_sampler:
        return f"{a['model_network']}: when are the attributes of its images decided?"
    return f"{a['data_name']}, by a learned model" if findings.of_model else str(a["data_name"])


def _lead(pictures: Pictures, findings: Findings) -> list[str]:
    question = "" if findings.of_sampler else ": at which noise level is each attribute decided?"
    most = "ceiling" if real_attributes(findings.results) else "entropy"  # of a real-valued attribute: I(A + r N; A)
    by = f"By {findings.called(findings.main)}. " if findings.of_model else ""
    drawn = int(findings.results.attrs.get("draws", 0))
    return [
        f"<h1>{escape(title_of(findings))}{question}</h1>",
        *_warnings(findings.results),
        f'<p class="lead">{" ".join(summary(findings.onsets, findings.curves, findings.doubts, most, drawn))}</p>',
        f"<p>{by}{order_of(findings.onsets, findings.doubts, most)}</p>",
    ]


def _warnings(results: xr.Dataset) -> list[str]:
    """Warnings that come first: that the network seems to be wrapped wrongly, and on the main curve."""
    lines = []
    if wrapping := str(results.attrs.get("wrapping", "")):
        lines.append(f"Do not rely on what this page says about the model: {wrapping}.")
    if why := str(results.attrs.get("main_reason", "")):
        lines.append(f"{why.replace(f' ({wrapping})', '')}.")
    return [f'<p class="lead"><strong>{escape(w)}</strong></p>' for w in lines]


def summary(
    table: Sequence[Onset],
    curves: Sequence[Curve],
    doubts: Mapping[str, str] | None = None,
    most: str = "entropy",
    drawn: int = 0,
) -> list[str]:
    """Up to three sentences, HTML: which attribute is decided first and last, how sure that is, and what to do.

    Args:
        table: onsets, in order.
        curves: that they were read off.
        doubts: the verdict on each attribute whose curve is marked as biased; these are left out.
        most: what the ceiling of an attribute is called.
        drawn: draws of the study, where the columns of its curves are means of several.
    """
    rows = [row for row in table if row.attribute not in (doubts or {})]
    reached = [row for row in rows if row.state == "reached"]
    decided = _decided(rows, reached, curves[0].sigma, most)
    # Where every curve is doubted there are no levels to be sure of, and a wider range would not help.
    return [decided, _certainty(reached, curves[0], drawn), _action(reached)] if rows else [decided]


def _decided(rows: Sequence[Onset], reached: Sequence[Onset], sigma: Float[np.ndarray, " levels"], most: str) -> str:
    levels = f"between σ {float(sigma[0]):g} and {float(sigma[-1]):g}"
    if not rows:
        return (
            "Every curve of this study is marked as biased at some levels, so no order of the attributes is reported."
        )
    if not reached:
        return f"No attribute passes half of its {most} {levels}, the noise levels of this study."
    first, last = reached[0], reached[-1]
    if first is last:
        text = f"{_name(first)} is decided at noise level σ {brief(first.at[1])}, where half of its {most} is known"
    else:
        text = (
            f"Generation decides {_name(first)} first, at noise level σ {brief(first.at[1])}, and {_name(last)} last, "
            f"at σ {brief(last.at[1])}"
        )
    left = len(rows) - len(reached)
    return text + (f"; {left} of {len(rows)} attributes are not decided {levels}." if left else ".")


def _certainty(reached: Sequence[Onset], curve: Curve, drawn: int) -> str:
    draws = f"{max(curve.per_draw.shape[1] * curve.draws_per_column, drawn):,} draws"
    kind = {
        "exact": f"These levels are exact for the data up to the chance of {draws}",
        "lower bound": f"These levels are lower bounds from {draws}: the true level is the same or higher",
    }.get(curve.kind, f"These levels are estimates from {draws}; errors of the network come on top")
    open_pairs = [(a, b) for a, b in itertools.pairwise(reached) if not a.before_next >= _SETTLED]
    if len(reached) < 2:
        return f"{kind}; brackets are 95 % intervals."
    if not open_pairs:
        return f"{kind}, and the order of the {len(reached)} attributes is settled (in 97.5 % of resamples or more)."
    a, b = open_pairs[0]
    more = f" and of {len(open_pairs) - 1} more neighbouring pairs" if len(open_pairs) > 1 else ""
    return f"{kind}; the order of {_name(a)} and {_name(b)}{more} is open and needs more draws."


def _action(reached: Sequence[Onset]) -> str:
    if not reached:
        return "Widen the range of noise levels (--sigma-max, --sigma-min) before you use these numbers."
    first, last = reached[0], reached[-1]
    keep, redraw = first.at[2], last.at[0]
    if first is not last and keep.reached and redraw.reached and keep.value > redraw.value:
        return (
            f"To redraw {_name(last)} and keep {_name(first)}, add noise up to a σ between {number(redraw.value)} and "
            f"{number(keep.value)}; guide {_name(first)} above that range and {_name(last)} below it."
        )
    window = [number(q.value) for q in (first.at[0], first.at[2]) if q.reached]
    if first is last:
        between = (
            f" from σ {' down to '.join(window)}" if len(window) == 2 else f" around σ {number(first.at[1].value)}"
        )
        return f"Guidance and training for {_name(first)} matter{between}; noise above it redraws the attribute."
    if keep.reached:
        return (
            f"To redraw {_name(last)} and keep {_name(first)} in most images, add noise up to σ {number(keep.value)}; "
            f"their windows overlap, so {_name(last)} changes only in part."
        )
    return f"The windows of {_name(first)} and {_name(last)} overlap: no noise level redraws one and keeps the other."


def _name(row: Onset) -> str:
    return f"<strong>{escape(row.attribute)}</strong>"


def order_of(table: Sequence[Onset], doubts: Mapping[str, str] | None = None, most: str = "entropy") -> str:
    """The order of the attributes in a sentence or two, HTML.

    Args:
        table: onsets, in order.
        doubts: the verdict on each attribute whose curve is marked as biased; these are left out of the order.
        most: what the ceiling of an attribute is called.
        drawn: draws of the study, where the columns of its curves are means of several.
    """
    doubts = doubts or {}
    left_out = [f" <strong>{escape(n)}</strong> is left out: {escape(w)}." for n, w in doubts.items()]
    sure = [row for row in table if row.attribute not in doubts]
    return (_order(sure, most) if sure else "No curve is free of bias.") + "".join(left_out)


def _order(table: Sequence[Onset], most: str) -> str:
    names = {
        state: [escape(row.attribute) for row in table if row.state == state] for state in ("not reached", "beyond")
    }
    reached = [row for row in table if row.state == "reached"]
    if not reached:
        if not names["beyond"]:
            return f"No attribute reaches half of its {most} within these levels."
        first = f"Half-information is already known at the first level: {', '.join(names['beyond'])}."
        return f"{first} No other attribute reaches half of its {most} within these levels."
    steps = []
    for i, row in enumerate(reached):
        joint = "" if i + 1 == len(reached) else " → " if row.before_next >= _SETTLED else " ≈ "
        steps.append(f"<strong>{escape(row.attribute)}</strong> (σ {number(row.at[1].value)}){joint}")
    text = "In order of half-information, as noise falls: " + "".join(steps) + "."
    if any(row.before_next < _SETTLED for row in reached[:-1]):
        text += " Where ≈ stands, these draws do not settle the order (less than 97.5 % of resamples)."
    words = {"not reached": "not reached by the last level", "beyond": "already known at the first level"}
    return text + "".join(f" Half-information {words[s]}: {', '.join(n)}." for s, n in names.items() if n)


def _of_data(pictures: Pictures, findings: Findings) -> list[str]:
    a, sizes, sigma = findings.results.attrs, findings.results.sizes, findings.results.sigma
    return _note(
        f"{a['data_words']}, {sizes['draw']} draws, {sizes['sigma']} noise levels from {float(sigma[0]):g} to "
        f"{float(sigma[-1]):g}. One unit of σ is {a['unit_of_sigma']}."
    )


def _of_model(pictures: Pictures, findings: Findings) -> list[str]:
    results, a = findings.results, findings.results.attrs
    where = "values kept out of its training" if a.get("held_out") else "values that it may have been trained on"
    trained = f", {int(a['model_steps']):,} steps of training" if a["model_steps"] else ""
    along = " and the model's own path" if "path_information" in results else ""
    return _note(
        f"Model: {a['model_network']}, {int(a['model_parameters']):,} parameters{trained}. Measured on {where}: "
        f"{a['data_words']}, {int(a['network_calls']):,} network calls for the gaps{along}, "
        f"{results.sizes['sigma']} noise levels. One unit of σ is {a['unit_of_sigma']}.{_unconditional(results)}"
    )


def _of_sampler(pictures: Pictures, findings: Findings) -> list[str]:
    results, a = findings.results, findings.results.attrs
    images = "images that the model generated" if a["generated"] else str(a["data_words"])
    return _note(
        f"Model: {a['model']}, {int(a['model_parameters']):,} parameters, unconditional. Measured on {images}; "
        f"{results.sizes['draw']} noisy images at {results.sizes['sigma']} noise levels, {int(a['network_calls']):,} "
        f"network calls. Labels of continuations: {a['labeller']}.{_labels(results)} "
        f"One unit of σ is {a['unit_of_sigma']}.{_unconditional(results)}"
    )


def _note(text: str) -> list[str]:
    return [f'<p class="note">{escape(text)}</p>']


def _unconditional(results: xr.Dataset) -> str:
    """How the unconditional output of a network without an empty class is computed; empty for others."""
    if "unconditional" not in results.attrs:
        return ""
    return (
        " The network has no empty class: its unconditional output is the mixture over its classes by its own "
        f"likelihood, of {int(results.attrs['unconditional_calls'])} network calls each."
    )


def _labels(results: xr.Dataset) -> str:
    """How good the labels of the nearest other items are; empty where a user's function labels."""
    if "labeller_right" not in results:
        return ""
    right = "; ".join(
        f"{name} in {plus_minus(100 * float(r), 196 * float(e))} %"
        for name, r, e in zip(
            results.attribute.values, results.labeller_right, results.labeller_right_stderr, strict=True
        )
    )
    largest = int(results.left_out.max())
    copies = f" Up to {largest - 1:,} near copies of an image are left out." if largest > 1 else ""
    generated = (
        " Images that the model generated are no items, and nothing is left out for their continuations."
        if "path_information" in results
        else ""
    )
    return (
        f" The nearest other item of an image has the image's value of {right}: agreement beyond that cannot be "
        f"measured, and a classifier of your own may label better (--labeller).{copies}{generated}"
    )


LEAD = Section("summary", _lead, applies=of_labels, headed=False)
DATA = Section("data", _of_data, applies=of_data, headed=False)
MODEL = Section("model", _of_model, applies=of_conditional, headed=False)
SAMPLER = Section("sampler", _of_sampler, applies=of_sampler, headed=False)
