"""The page of a reproduction: figures and tables of the paper, what is ours in them, and what goes beyond it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sigmascope.report.explorer import Explored, explorer_section
from sigmascope.report.figures import agreement_figure, curves_figure
from sigmascope.report.gallery import rendered
from sigmascope.report.page import Write, document
from sigmascope.report.section import figure
from sigmascope.report.sections.lead import order_of
from sigmascope.reproduction import curves as pc
from sigmascope.reproduction import figures as pf
from sigmascope.reproduction import tables as pt
from sigmascope.reproduction.found import WORDS, Found, all_verdicts, biased_gaps, lines_of
from sigmascope.reproduction.words import captions, findings

CONFIRMED = (
    "the variance-exploding schedule, indexed by an intensity τ from 0 to 1",
    "3D Shapes with its six factors as data (the built-in scenes have its layout and factors)",
    "the three measurements: mutual information from the score gap, entropy across forked pathways, linear probes",
    "num_forks = 4 at τ = 0.4 in the figure of forks",
    "the three curves of the figure of probes: feature map, noisy image, random guess",
)
"""What is known of the paper's own choices, from its text."""

OURS = (
    "σ from 0.01 to 90 for pixels between 0 and 1",
    "number of draws, levels and children, and the seed (all in reproduce.toml)",
    "the network: the bundled perceptron, or the one that was named; and that curves are of the exact filter beside it",
    "how probes are trained: multinomial logistic regression on principal directions, regulariser by cross-validation",
    "the further intensities of the figure of forks, and that the parent lies on the path of the first figure",
    "the contents of all tables",
    "everything under “Beyond the paper”",
)
"""What the paper leaves open, or what was not at hand, and was chosen here."""


BEYOND = {
    "beyond-numerics": "Four estimators of one number",
    "beyond-null": "Random labels",
    "beyond-u-turn": "There and back",
    "beyond-deterministic": "Deterministic paths",
    "beyond-grain": "The finest detail comes last",
    "beyond-second": "A second data set",
}
"""Figures beyond the paper, with their headings, in order."""


def figures_of(found: Found) -> dict[str, Figure]:
    """All figures, by the names of their files."""
    s, ends = found.stages, found.ends
    values = {a.name: a.values for a in found.attributes}
    exact = found.exact["posterior"]
    about = min(found.attributes, key=lambda a: (abs(len(a.values) - 8), a.name)).name
    lines = lines_of(found)
    learned = "model" in s
    whose = (" (learned)", " (exact)") if learned else ("", "")
    biased = biased_gaps(found)
    gap = found.others["model:score_gap"] if learned else found.exact["score_gap"]
    drawn = {
        "figure-1-systems": pf.systems_figure(s["systems"], values, about),
        "figure-2-schedule": pf.schedule_figure(s["schedule"]),
        "figure-3-three-measurements": pc.three_figure(
            gap,
            found.exact["forks"],
            s["probes"],
            ends,
            whose,
            biased,
        ),
        "figure-3-in-nats": pc.one_axis_figure(exact, lines, ends, {"model: score gap": biased}),
        "figure-4-forks": pf.forks_of_one_figure(s["forks"], values),
        "figure-5-probes": pc.probes_figure(s["probes"], ends),
        "beyond-numerics": agreement_figure(found.agreements, exact),
        "beyond-u-turn": pc.turn_figure(s["turn"]),
        "beyond-deterministic": pc.deterministic_figure(s["deterministic"], exact),
    }
    if found.null:
        items = s["curves"].effective_items.values if "effective_items" in s["curves"] else None
        median = None if items is None else np.median(items.reshape(-1, items.shape[-1])[: len(found.null[0].sigma)], 1)
        drawn["beyond-null"] = pc.null_figure(found.null, median)
    if "grain" in found.others:
        drawn["beyond-grain"] = curves_figure(found.others["grain"], "scenes with grain")
    if "second-empirical" in found.others:
        laws = {"these items": found.others["second-empirical"], "population (bound)": found.others["second-heldout"]}
        drawn["beyond-second"] = pc.second_figure(laws)
    return drawn


def tables_of(found: Found) -> list[pt.Table]:
    """All tables."""
    values = {a.name: a.values for a in found.attributes}
    exact, lines = found.exact["posterior"], lines_of(found)
    facts = {k: str(v) for k, v in found.settings.items() if k not in ("attributes",)}
    facts["features probed"] = str(found.stages["probes"].attrs["reader"])
    if "model" in found.stages:
        a = found.stages["model"].attrs
        facts["network"] = (
            f"{a['model_network']}, {int(a['model_parameters']):,} parameters, {int(a['model_steps']):,} steps"
        )
    return [
        pt.data_table(exact, values, found.data_words),
        pt.schedule_table(found.ends, facts),
        pt.at_tau_table(exact, lines, found.ends),
        pt.onset_table(found.onsets, WORDS),
        pt.agreement_table(all_verdicts(found)),
        pt.cost_table(found.stages),
    ]


def write_paper(write: Write, found: Found) -> str:
    """Write figures (SVG and PDF), tables (CSV) and ``report.html``; what to print."""
    pictures = {}
    for name, drawn in figures_of(found).items():
        for kind in ("svg", "pdf"):
            data = rendered(drawn, kind)
            write(f"figures/{name}.{kind}", _writer(data))
            if kind == "svg":
                pictures[name] = base64.b64encode(data).decode()
    tables = tables_of(found)
    for table in tables:
        write(f"tables/{table.name}.csv", _text(table.csv()))
    page = _page(found, pictures, tables)
    write("report.html", _text(page))
    return _summary(found)


def _writer(data: bytes) -> Callable[[Path], object]:
    return lambda p: p.write_bytes(data)


def _text(text: str) -> Callable[[Path], object]:
    return lambda p: p.write_text(text, encoding="utf-8")


def _summary(found: Found) -> str:
    """The findings for a terminal."""
    verdicts = all_verdicts(found)
    lines = []
    for name in dict.fromkeys(v.measurement for v in verdicts):
        mine = [v for v in verdicts if v.measurement == name]
        bad = [v.attribute for v in mine if not v.agrees]
        what = "stays below the exact curve" if mine[0].bound else "agrees with the exact curve"
        far = max(v.apart for v in mine)
        said = f"{what} (at most {far:.1f} standard errors off)" if not bad else f"does not agree: {', '.join(bad)}"
        lines.append(f"{name:22} {said}")
    return "\n".join(lines)


def _explorer(found: Found) -> str:
    of = found.stages["explorer"]
    names = [a.name for a in found.attributes]
    explored = Explored(
        sigma=of.sigma.values,
        tau=of.tau.values,
        noised=of.noised.values,
        denoised=of.denoised.values,
        children=of.child.values,
        labels={n: of[f"label.{i}"].values for i, n in enumerate(names)},
        posterior={n: of[f"posterior.{i}"].values for i, n in enumerate(names)},
        truth={n: int(of[f"truth.{i}"]) for i, n in enumerate(names)},
        attributes=list(found.attributes),
    )
    return explorer_section(explored, found.exact["posterior"])


def _page(found: Found, pictures: Mapping[str, str], tables: Sequence[pt.Table]) -> str:
    said, told = captions(found), findings(found, all_verdicts(found))
    title = f"{str(found.settings['data']).rpartition('/')[2]}: the experiments of the paper, reproduced"

    def shown(*names: str) -> list[str]:
        return [figure(pictures[n], n, said[n]) for n in names if n in pictures]

    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{order_of(found.onsets["exact"])}</p>',
        f'<p class="note">{escape(found.data_words)}. Model: {escape(str(found.settings["model"]))}. Every number is '
        "in <code>results.nc</code> (a group for each stage), every table in <code>tables/</code>, every figure in "
        "<code>figures/</code> as SVG and PDF.</p>",
        *told["agreement"],
        _explorer(found),
        "<h2>Figure 1: two systems</h2>",
        *shown("figure-1-systems"),
        "<h2>Figure 2: the schedule</h2>",
        *shown("figure-2-schedule"),
        "<h2>Figure 3: three measurements</h2>",
        *shown("figure-3-three-measurements", "figure-3-in-nats"),
        *told["three"],
        "<h2>Figure 4: forks</h2>",
        *shown("figure-4-forks"),
        *told["forks"],
        "<h2>Figure 5: probes</h2>",
        *shown("figure-5-probes"),
        "<h2>Tables</h2>",
        *(_table(t) for t in tables),
        "<h2>Beyond the paper</h2>",
        *(x for n in BEYOND if n in pictures for x in (f"<h3>{BEYOND[n]}</h3>", *shown(n), *told.get(n, []))),
        "<h2>What is the paper's, and what is ours</h2>",
        "<p>Known from the paper's text: " + "; ".join(CONFIRMED) + ".</p>",
        "<p>Chosen here: " + "; ".join(OURS) + ".</p>",
        '<p class="note">Franzese, Martini, Corallo, Papotti, Michiardi, “Latent Abstractions in Generative Diffusion '
        "Models”, Entropy 27(4):371, 2025.</p>",
    ]
    return document(title, parts)


def _table(table: pt.Table) -> str:
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in table.rows)
    return (
        f"<details{' open' if len(table.rows) < 12 else ''}><summary>Table {escape(table.name[0])}. "
        f"{escape(table.caption)} (<code>tables/{escape(table.name)}.csv</code>)</summary>"
        f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div></details>'
    )
