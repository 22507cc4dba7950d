"""The page of a study: one file, no script, nothing fetched; every name from the data is escaped."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sigmascope.analysis.onset import Onset, onsets
from sigmascope.core import Agreement, Curve
from sigmascope.report.figures import (
    agreement_figure,
    conditional_figure,
    curves_figure,
    estimators_figure,
    strip_figure,
    strip_levels,
    tree_figure,
    windows_figure,
)
from sigmascope.report.gallery import rendered
from sigmascope.report.sections import extra_figures, figure, items_section, pairs_section, values_section
from sigmascope.report.table import cells, number, probability

Write = Callable[[str, Callable[[Path], object]], None]

_MOST_DRAWN = 40  # attributes in figures; tables hold all
_ENOUGH = 64  # draws for a verdict on agreement: below, four standard errors are crossed by chance
_CSS = """
:root{color-scheme:light}
body{font:16px/1.55 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}h3{font-size:1rem;margin:1.6rem 0 .3rem}
img{max-width:100%;height:auto;display:block}figure{margin:0}figcaption,.note{color:#444;font-size:.92rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
th{white-space:nowrap}summary{margin:.5rem 0;cursor:pointer}
pre{background:#f5f5f5;padding:.8rem;overflow-x:auto;font-size:.85rem}
.lead{font-size:1.05rem}
"""


_EXACT = (
    "<p>These numbers are those of the <em>exact filter</em> of this finite data set: the best that any denoiser "
    "trained on exactly these items could know. It has all items in memory, so for natural images it decides as soon "
    "as the nearest item is clear, earlier than a model of the population would (for that, --law heldout gives lower "
    "bounds). What a particular trained network decides may differ.</p>"
)
_WAYS = {
    "score_gap": "score_gap (the paper's measure): the gap between denoisers that know the attribute and those that do "
    "not, integrated over the levels.",
    "mmse_gap": "mmse_gap: the same in squared errors.",
    "filter": "filter: a lower bound, by the filter carried along one path of falling noise, on denoisers alone; what "
    "its steps lose is in its band.",
    "forks": "forks: the entropy of the labels of independent continuations from the noisy image.",
}
_BOUNDS = ("filter",)
_MARK = " <strong>All curves are lower bounds.</strong>"
_BOUND = (
    "<p>These numbers are <em>lower bounds</em> (estimator <code>heldout</code>) for the population that the items "
    "come from: images held out were "
    "classified under noise by a filter made of the rest, with a kernel that was chosen on other draws. The "
    "population's information is at least this much, and may be much more: a better classifier of noisy images would "
    "raise the bound. Where the bound is at 10 % of H(A), the truth is at 10 % or more, up to the bound's own error. "
    "Near copies among the items (augmented pictures, frames of a video) void it: a filter that holds a near copy of a "
    "held-out image knows it.</p>"
)


def write_report(
    write: Write,
    curves: Sequence[Curve],
    table: Sequence[Onset],
    results: xr.Dataset,
    example: tuple[np.ndarray, np.ndarray],
    agreements: Sequence[Agreement] = (),
    conditionals: Sequence[tuple[Curve, Curve]] = (),
    others: Sequence[Curve] = (),
    advice: str = "",
) -> None:
    """Write ``figures/`` as PNG and SVG, then ``report.html``.

    Args:
        write: called with a file's name and a function that writes it.
        curves: of the study.
        table: their onsets, in order.
        results: the study's Dataset, for its attributes.
        example: an item and a noise, for the strip.
        agreements: of the other estimators with the posterior one.
        conditionals: information about an attribute given another, and given nothing.
        others: curves of the other estimators.
        advice: what to do with it, HTML.
    """
    title = str(results.attrs["data_name"])
    levels = strip_levels(table, curves[0].sigma)
    every = (curves, table, results, agreements, conditionals)
    if len(table) > _MOST_DRAWN:
        drawn = {row.abstraction for row in table[:_MOST_DRAWN]}
        curves, others = ([c for c in of if c.abstraction in drawn] for of in (curves, others))
        agreements = [a for a in agreements if a.abstraction in drawn]
        table, conditionals = table[:_MOST_DRAWN], conditionals[:_MOST_DRAWN]
        of = {"value": "value_abstraction", "first": "first", "second": "second"}
        kept = {d: np.isin(results[n].values.astype(str), list(drawn)) for d, n in of.items() if d in results.dims}
        results = results.isel(kept)
    figures = {
        "information": curves_figure(curves, title),
        "onset": windows_figure(table, curves),
        "strip": strip_figure(*example, levels),
    }
    if agreements:
        figures["estimators"] = estimators_figure(curves, others)
        figures["agreement"] = agreement_figure(agreements, curves)
    if "whole_information" in results:
        whole = (results[f"whole_{k}"].values for k in ("information", "stderr", "ceiling"))
        figures["tree"] = tree_figure(curves, *whole)
    if conditionals:
        figures["conditional"] = conditional_figure(conditionals)
    figures |= extra_figures(results)
    pictures = write_figures(write, figures)
    page = _page(title, pictures, *every, advice)
    write("report.html", lambda p: p.write_text(page, encoding="utf-8"))


def write_figures(write: Write, figures: Mapping[str, Figure]) -> dict[str, str]:
    """Write figures as PNG and SVG; each as a page holds it, SVG in base 64."""
    pictures = {}
    for name, drawn in figures.items():
        svg, png = rendered(drawn, "svg"), rendered(drawn, "png")
        write(f"figures/{name}.svg", lambda p, b=svg: p.write_bytes(b))  # type: ignore[misc]
        write(f"figures/{name}.png", lambda p, b=png: p.write_bytes(b))  # type: ignore[misc]
        pictures[name] = base64.b64encode(svg).decode()
    return pictures


def _page(
    title: str,
    pictures: dict[str, str],
    curves: Sequence[Curve],
    table: Sequence[Onset],
    results: xr.Dataset,
    agreements: Sequence[Agreement],
    conditionals: Sequence[tuple[Curve, Curve]],
    advice: str,
) -> str:
    a = results.attrs
    sizes = results.sizes
    facts = (
        f"{escape(str(a['data_words']))}, {sizes['draw']} draws, {sizes['sigma']} noise levels from "
        f"{float(results.sigma[0]):g} to {float(results.sigma[-1]):g}. "
        f"One unit of σ is {escape(str(a['unit_of_sigma']))}."
    )
    parts = [
        f"<h1>{escape(title)}: at which noise level is each attribute decided?</h1>",
        f'<p class="lead">{order_of(table)}</p><p class="note">{facts}</p>',
        "<h2>What the noisy image tells</h2>",
        figure(
            pictures["information"],
            "Information curves",
            "Each curve is the information, in nats, that the noisy image y = v + σn carries about one attribute. "
            "At 0 nothing is decided yet. Where a curve reaches its "
            "dotted ceiling, the entropy H(A), the image settles the attribute. Bands are 95 % intervals of the mean "
            "over draws." + _drawn(len(table)) + (_MARK if curves[0].kind == "lower bound" else ""),
        ),
        *(f'<p class="note">{s}</p>' for s in _saturation(curves, results)),
        "<h2>When it is decided</h2>",
        figure(
            pictures["onset"],
            "Onset windows",
            "The bar runs from where 10 % of H(A) is known to where 90 % is; a hatched bar runs out of the levels "
            "studied.",
        ),
        onset_table(table),
        f'<p class="note">Intervals: 95 %, by resampling the draws ({sizes["draw"]}), the same for all attributes. '
        "“P(before next)” is the share of resamples in which the attribute reaches half of its entropy at a higher "
        "noise level than the one below it; near 0.5 the order of the two is open.</p>",
        *_conditional(pictures, conditionals),
        *pairs_section(pictures, results),
        *_tree(pictures, curves),
        *values_section(pictures, results),
        *items_section(pictures, results),
        *_agreement(pictures, agreements, sizes["draw"]),
        "<h2>What it looks like</h2>",
        figure(
            pictures["strip"],
            "One image at nine noise levels",
            "One image under the same noise at nine levels, over the range in which the attributes are decided. "
            "Contrast is reduced as noise grows, so that the picture stays within the range of the screen.",
        ),
        "<h2>What to do with it</h2>",
        advice,
        "<h2>Whose information</h2>",
        _BOUND if curves[0].kind == "lower bound" else _EXACT,
        "<h2>How it was made</h2>",
        f'<p class="note">sigmascope {escape(str(a["sigmascope_version"]))}; data fingerprint '
        f"<code>{escape(str(a['data_fingerprint']))}</code>. {repeat_words(str(a['specification']))}</p>",
        f"<pre>{escape(str(a['specification']))}</pre>",
        '<p class="note">Method: Franzese, Martini, Corallo, Papotti, Michiardi, “Latent Abstractions in Generative '
        "Diffusion Models”, Entropy 27(4):371, 2025.</p>",
    ]
    return document(title, parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A page of these parts, which are HTML; the title is text."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} – sigmascope</title><style>{_CSS}</style></head><body>{''.join(parts)}</body></html>"
    )


def repeat_words(specification: str) -> str:
    """How to repeat a study."""
    if 'data = "<' in specification:
        return "The data came from Python: the same call of <code>sigmascope.study</code> repeats the numbers."
    again = ""  # what can run code is not taken from a file
    if "\nallow_pickle = true" in specification:
        again += " --allow-pickle"
    labeller = re.search(r'\nlabeller = "([^"\n]+)"', specification)
    if labeller:
        again += f" --labeller {escape(labeller[1])}"
    return (
        "The specification below, in <code>spec.toml</code>, repeats the run to the same numbers with "
        f"<code>sigmascope study --spec spec.toml{again} --out FOLDER</code>."
    )


def order_of(table: Sequence[Onset], doubts: Mapping[str, str] | None = None) -> str:
    """The finding in a sentence or two.

    Args:
        table: onsets, in order.
        doubts: of attributes whose curves are marked as biased, the verdict: they are no part of the finding.
    """
    doubts = doubts or {}
    said = [f" <strong>{escape(n)}</strong> is left out of it: {escape(w)}." for n, w in doubts.items()]
    sure = [row for row in table if row.abstraction not in doubts]
    return (_order(sure) if sure else "No curve is free of bias.") + "".join(said)


def _order(table: Sequence[Onset]) -> str:
    reached = [row for row in table if row.state == "reached"]
    if not reached:
        known = [escape(row.abstraction) for row in table if row.state == "beyond"]
        first = f"Half-information is already known at the first level: {', '.join(known)}. " if known else ""
        return (
            first + "No other attribute reaches half of its entropy within these levels."
            if first
            else ("No attribute reaches half of its entropy within these levels.")
        )
    steps = []
    for i, row in enumerate(reached):
        sure = row.before_next
        joint = "" if i + 1 == len(reached) else (" → " if sure >= 0.975 else " ≈ ")
        steps.append(f"<strong>{escape(row.abstraction)}</strong> (σ {number(row.at[1].value)}){joint}")
    text = "In order of half-information, as noise falls: " + "".join(steps) + "."
    if any(row.before_next < 0.975 for row in reached[:-1]):
        text += " Where ≈ stands, these draws do not settle the order (less than 97.5 % of resamples)."
    words_of = {"not reached": "not reached by the last level", "beyond": "already known at the first level"}
    for state, words in words_of.items():
        names = [escape(row.abstraction) for row in table if row.state == state]
        if names:
            text += f" Half-information {words}: {', '.join(names)}."
    return text


def _drawn(attributes: int) -> str:
    return "" if attributes <= _MOST_DRAWN else f" Figures show the first {_MOST_DRAWN} of {attributes:,} attributes."


def _saturation(curves: Sequence[Curve], results: xr.Dataset) -> list[str]:
    notes = []
    for c in curves:
        limit = float(results.information_limit.sel(abstraction=c.abstraction))
        error = float(results.information_limit_stderr.sel(abstraction=c.abstraction))
        name = escape(c.abstraction)
        if c.ceiling - limit > max(4 * error, 1e-6):
            notes.append(
                f"{name}: equal images carry different labels, so even the clean image tells only "
                f"{limit:.3f} ± {1.96 * error:.3f} of {c.ceiling:.3f} nats; the curve saturates there."
            )
        elif limit - c.value[-1] > max(4 * float(c.stderr[-1]), 0.02 * c.ceiling):
            notes.append(
                f"{name}: at the last level {c.value[-1]:.3f} of {c.ceiling:.3f} nats are reached; a smaller "
                "--sigma-min shows the rest."
            )
    return notes


def _conditional(pictures: dict[str, str], pairs: Sequence[tuple[Curve, Curve]]) -> list[str]:
    """What the noisy image adds about one attribute once another is known."""
    if not pairs:
        return []
    caption = (
        "I(B; Y | A) = I(A, B; Y) − I(A; Y): what the noisy image still tells about an attribute when another is "
        "known. Where the full curve lies above the dashed one, knowing the other helps to read it."
    )
    table = onset_table(onsets([given for given, _ in pairs]))
    return ["<h2>When another attribute is known</h2>", figure(pictures["conditional"], "Conditional", caption), table]


def _tree(pictures: dict[str, str], curves: Sequence[Curve]) -> list[str]:
    """Levels of a hierarchy, and where the shares of two of them cross."""
    if "tree" not in pictures:
        return []
    found = []
    for above, below in itertools.pairwise(curves):
        ahead = above.per_draw / above.ceiling - below.per_draw / below.ceiling
        z = ahead.mean(1) / np.maximum(ahead.std(1, ddof=1) / ahead.shape[1] ** 0.5, 1e-12)
        sign = np.where(np.abs(z) > 3, np.sign(z), 0)
        some = np.flatnonzero(sign)
        turns = [int(k) for j, k in itertools.pairwise(some) if sign[j] != sign[k]]
        names = f"{escape(above.abstraction)} and {escape(below.abstraction)}"
        where = ", ".join(f"σ {number(float(above.sigma[k]))}" for k in turns)
        if turns:
            found.append(f"{names} cross by {where}")
    caption = (
        "Left: the share of its entropy that is known of the first node of each level. No order of these shares is "
        "laid down: a leaf can be ahead of the root. Right: information about all nodes of a level together; here a "
        "level below always holds what the levels above it do. Of the shares on the left, seen beyond three standard "
        f"errors: {'; '.join(found) or 'no two neighbouring levels cross'}."
    )
    return ["<h2>Level by level</h2>", figure(pictures["tree"], "Levels of the hierarchy", caption)]


def _agreement(pictures: dict[str, str], agreements: Sequence[Agreement], draws: int) -> list[str]:
    """The same information measured in other ways, and the largest difference found."""
    if not agreements:
        return []
    lines = []
    for estimator in dict.fromkeys(a.estimator for a in agreements):
        mine = [a for a in agreements if a.estimator == estimator]
        worst = max(mine, key=lambda a: abs(a.largest[0]))
        share, error, sigma = worst.largest
        farthest = max(mine, key=lambda a: a.errors_apart)
        verdict = (
            f"with fewer than {_ENOUGH} draws, standard errors are too rough for a verdict"
            if draws < _ENOUGH
            else "they agree within four standard errors at every level"
            if farthest.errors_apart <= 4
            else "it lies below by more than four standard errors, as a bound may: more --levels raise it"
            if estimator in _BOUNDS and all(a.errors_above <= 4 for a in mine)
            else "<strong>this is more than four standard errors: one of the two is wrong here</strong>"
        )
        lines.append(
            f"<p>{escape(estimator)}: the largest difference is {100 * share:+.2f} ± {196 * error:.2f} % of H(A) "
            f"({escape(worst.abstraction)}, σ {number(sigma)}); in standard errors of the paired difference, "
            f"{farthest.errors_apart:.1f} ({escape(farthest.abstraction)}): {verdict}.</p>"
        )
    ways = [_WAYS[e] for e in dict.fromkeys(a.estimator for a in agreements) if e in _WAYS]
    together = f"All ways on one axis; bands are 95 %. {' '.join(ways)}"
    apart = "The difference from the posterior's measure on the same draws, with its 95 % band."
    return [
        "<h2>Measured in other ways</h2>",
        *lines,
        figure(pictures["estimators"], "Every estimator", together),
        figure(pictures["agreement"], "Agreement", apart),
    ]


def onset_table(table: Sequence[Onset]) -> str:
    """The onsets as a table of HTML."""
    head = ("attribute", "σ at 10 %", "σ at 50 %", "σ at 90 %", "σ of peak rate", "P(before next)")
    rows = ["<tr>" + "".join(f'<th scope="col">{h}</th>' for h in head) + "</tr>"]
    for row in table:
        texts = [*cells(row), probability(row)]
        rows.append(
            f'<tr><th scope="row">{escape(row.abstraction)}</th>'
            + "".join(f"<td>{escape(t)}</td>" for t in texts)
            + "</tr>"
        )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'
