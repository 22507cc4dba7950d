"""The page of a reproduction: figures and tables of the paper, the choices made here, and further experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sigmascope.report.explorer import Explored, explorer_section
from sigmascope.report.figures import agreement_figure, curves_figure
from sigmascope.report.gallery import rendered
from sigmascope.report.page import Write, document, for_page
from sigmascope.report.section import figure, table
from sigmascope.report.sections.lead import order_of, summary
from sigmascope.reproduction import curves as pc
from sigmascope.reproduction import figures as pf
from sigmascope.reproduction import tables as pt
from sigmascope.reproduction.reproduced import WORDS, Reproduced, all_verdicts, biased_gaps, lines_of
from sigmascope.reproduction.words import captions, findings

CONFIRMED = (
    "the variance-exploding schedule, indexed by an intensity τ from 0 to 1",
    "3D Shapes with its six factors as data (the built-in scenes have its layout and factors)",
    "the three measurements: mutual information from the score gap, entropy across forked pathways, linear probes",
    "num_forks = 4 at τ = 0.4 in the figure of forks",
    "the three curves of the figure of probes: feature map, noisy image, random guess",
)
"""Choices that the text of the paper states."""

OURS = (
    "σ from 0.01 to 90 for pixels between 0 and 1",
    "number of draws, levels and children, and the seed (all in reproduce.toml)",
    "the network: the bundled perceptron or the one that was named; and the curves of the exact filter beside it",
    "how probes are trained: multinomial logistic regression on principal directions, regulariser by cross-validation",
    "the further intensities of the figure of forks, and that the parent lies on the path of the first figure",
    "the contents of all tables",
    "everything under “Beyond the paper”",
)
"""Choices that the paper leaves open, or that could not be followed."""

BEYOND = {
    "beyond-numerics": "Four estimators of one number",
    "beyond-null": "Random labels",
    "beyond-u-turn": "There and back",
    "beyond-deterministic": "Deterministic paths",
    "beyond-grain": "The finest detail comes last",
    "beyond-second": "A second data set",
}
"""Figures beyond the paper, with their headings, in order."""


def figures_of(results: Reproduced) -> dict[str, Figure]:
    """All figures, by the names of their files."""
    s, ends = results.stages, results.ends
    values = {a.name: a.values for a in results.attributes}
    exact = results.exact["posterior"]
    about = min(results.attributes, key=lambda a: (abs(len(a.values) - 8), a.name)).name
    lines = lines_of(results)
    learned = "model" in s
    owners = (" (learned)", " (exact)") if learned else ("", "")
    biased = biased_gaps(results)
    gap = results.others["model:score_gap"] if learned else results.exact["score_gap"]
    drawn = {
        "figure-1-systems": pf.systems_figure(s["systems"], values, about),
        "figure-2-schedule": pf.schedule_figure(s["schedule"]),
        "figure-3-three-measurements": pc.three_figure(gap, results.exact["forks"], s["probes"], ends, owners, biased),
        "figure-3-in-nats": pc.one_axis_figure(exact, lines, ends, {"model: score gap": biased}),
        "figure-4-forks": pf.forks_of_one_figure(s["forks"], values),
        "figure-5-probes": pc.probes_figure(s["probes"], ends),
        "beyond-numerics": agreement_figure(results.agreements, exact),
        "beyond-u-turn": pc.turn_figure(s["turn"]),
        "beyond-deterministic": pc.deterministic_figure(s["deterministic"], exact),
    }
    if results.null:
        items = s["curves"].effective_items.values if "effective_items" in s["curves"] else None
        levels = len(results.null[0].sigma)
        median = None if items is None else np.median(items.reshape(-1, items.shape[-1])[:levels], 1)
        drawn["beyond-null"] = pc.null_figure(results.null, median)
    if "grain" in results.others:
        drawn["beyond-grain"] = curves_figure(results.others["grain"], "scenes with grain")
    if "second-empirical" in results.others:
        empirical, heldout = (results.others[f"second-{law}"] for law in ("empirical", "heldout"))
        laws = {"these items": empirical, "population (bound)": heldout}
        drawn["beyond-second"] = pc.second_figure(laws)
    return drawn


def tables_of(results: Reproduced) -> list[pt.Table]:
    """All tables."""
    values = {a.name: a.values for a in results.attributes}
    exact, lines = results.exact["posterior"], lines_of(results)
    facts = {k: str(v) for k, v in results.settings.items() if k not in ("attributes",)}
    facts["features probed"] = str(results.stages["probes"].attrs["reader"])
    if "model" in results.stages:
        a = results.stages["model"].attrs
        facts["network"] = (
            f"{a['model_network']}, {int(a['model_parameters']):,} parameters, {int(a['model_steps']):,} steps"
        )
    return [
        pt.data_table(exact, values, results.data_words),
        pt.schedule_table(results.ends, facts),
        pt.at_tau_table(exact, lines, results.ends),
        pt.onset_table(results.onsets, WORDS),
        pt.agreement_table(all_verdicts(results)),
        pt.cost_table(results.stages),
    ]


def write_paper(write: Write, results: Reproduced) -> str:
    """Write figures (SVG and PDF), tables (CSV) and ``report.html``; return the summary for a terminal."""
    pictures = {}
    for name, drawn in figures_of(results).items():
        for kind in ("svg", "pdf"):
            data = rendered(drawn, kind)
            write(f"figures/{name}.{kind}", _writer(data))
            if kind == "svg":
                pictures[name] = for_page(data)
    tables = tables_of(results)
    for t in tables:
        write(f"tables/{t.name}.csv", _text(t.csv()))
    page = _page(results, pictures, tables)
    write("report.html", _text(page))
    return _summary(results)


def _writer(data: bytes) -> Callable[[Path], object]:
    return lambda p: p.write_bytes(data)


def _text(text: str) -> Callable[[Path], object]:
    return lambda p: p.write_text(text, encoding="utf-8")


def _summary(results: Reproduced) -> str:
    """The agreement of each measurement with the exact filter, for a terminal."""
    verdicts = all_verdicts(results)
    lines = []
    for name in dict.fromkeys(v.measurement for v in verdicts):
        rows = [v for v in verdicts if v.measurement == name]
        bad = [v.attribute for v in rows if not v.agrees]
        words = "stays below the exact curve" if rows[0].bound else "agrees with the exact curve"
        largest = max(v.errors_apart for v in rows)
        text = (
            f"{words} (at most {largest:.1f} standard errors off)" if not bad else f"does not agree: {', '.join(bad)}"
        )
        lines.append(f"{name:22} {text}")
    return "\n".join(lines)


def _explorer(results: Reproduced) -> str:
    stage = results.stages["explorer"]
    names = [a.name for a in results.attributes]
    explored = Explored(
        sigma=stage.sigma.values,
        tau=stage.tau.values,
        noised=stage.noised.values,
        denoised=stage.denoised.values,
        children=stage.child.values,
        labels={n: stage[f"label.{i}"].values for i, n in enumerate(names)},
        posterior={n: stage[f"posterior.{i}"].values for i, n in enumerate(names)},
        truth={n: int(stage[f"truth.{i}"]) for i, n in enumerate(names)},
        attributes=list(results.attributes),
    )
    return explorer_section(explored, results.exact["posterior"])


def _page(results: Reproduced, pictures: Mapping[str, str], tables: Sequence[pt.Table]) -> str:
    caption, sentences = captions(results), findings(results, all_verdicts(results))
    title = f"{str(results.settings['data']).rpartition('/')[2]}: the experiments of the paper, reproduced"

    def shown(*names: str) -> list[str]:
        return [figure(pictures[n], n, caption[n]) for n in names if n in pictures]

    curves = results.exact["posterior"]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{" ".join(summary(results.onsets["exact"], curves))}</p>',
        f"<p>{order_of(results.onsets['exact'])}</p>",
        f'<p class="note">{escape(results.data_words)}. Model: {escape(str(results.settings["model"]))}. Every number '
        "is in <code>results.nc</code> (a group for each stage), every table in <code>tables/</code>, every figure in "
        "<code>figures/</code> as SVG and PDF.</p>",
        *sentences["agreement"],
        _explorer(results),
        "<h2>Figure 1: two systems</h2>",
        *shown("figure-1-systems"),
        "<h2>Figure 2: the schedule</h2>",
        *shown("figure-2-schedule"),
        "<h2>Figure 3: three measurements</h2>",
        *shown("figure-3-three-measurements", "figure-3-in-nats"),
        *sentences["three"],
        "<h2>Figure 4: forks</h2>",
        *shown("figure-4-forks"),
        *sentences["forks"],
        "<h2>Figure 5: probes</h2>",
        *shown("figure-5-probes"),
        "<h2>Tables</h2>",
        *(_table(t) for t in tables),
        "<h2>Beyond the paper</h2>",
        *(x for n in BEYOND if n in pictures for x in (f"<h3>{BEYOND[n]}</h3>", *shown(n), *sentences.get(n, []))),
        "<h2>Choices of the paper, and choices made here</h2>",
        "<p>Stated by the paper: " + "; ".join(CONFIRMED) + ".</p>",
        "<p>Chosen here: " + "; ".join(OURS) + ".</p>",
        '<p class="note">Franzese, Martini, Corallo, Papotti, Michiardi, “Latent Abstractions in Generative Diffusion '
        "Models”, Entropy 27(4):371, 2025.</p>",
    ]
    return document(title, parts)


def _table(t: pt.Table) -> str:
    return (
        f"<details{' open' if len(t.rows) < 12 else ''}><summary>Table {escape(t.name[0])}. "
        f"{escape(t.caption)} (<code>tables/{escape(t.name)}.csv</code>)</summary>{table(t.head, t.rows)}</details>"
    )
