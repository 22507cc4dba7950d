"""The section on a chain of attributes: what each adds to those before it."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from sigmascope.report.chains import chain_figure, density_figure
from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, figure, holds, quantity, table
from sigmascope.report.table import describe, plus_minus

_ADDS = (
    "The information about all attributes of the chain. The lowest band is the first attribute; each further band is "
    "what the next attribute adds to those below it. Dotted: the entropy of all, which is the most that there is to "
    "know."
)
_GAINED = (
    "The information that each attribute adds for each unit of ln σ, −dI/d ln σ, with 95 % bands: its peak is the "
    "noise level at which it is decided."
)


def _figures(findings: Findings) -> dict[str, Figure]:
    results = findings.few.results
    figures = {"chain": chain_figure(results)}
    return figures | ({"link_density": density_figure(results)} if "link_density" in results else {})


def _chain(pictures: Pictures, findings: Findings) -> list[str]:
    results = findings.results
    parts = [figure(pictures["chain"], "Information of the chain", _ADDS), table(_HEAD, _rows(results))]
    if "link_density" in pictures:
        parts.append(figure(pictures["link_density"], "Where the information is gained", _GAINED))
    return parts


_HEAD = (
    "attribute",
    "adds at most, nats",
    "σ where half of it is added",
    "Shapley share (mean over all orders) at the last level, nats",
)


def _rows(results: xr.Dataset) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for i, link in enumerate(results.link.values):
        at = quantity(results, "link_half", i)
        share, error = (float(results[f"shapley_{k}"][i, -1]) for k in ("information", "stderr"))
        rows.append((str(link), f"{float(results.link_ceiling[i]):.3f}", describe(at), plus_minus(share, 1.96 * error)))
    return rows


CHAIN = Section("A chain of attributes", _chain, _figures, holds("link_information"))
