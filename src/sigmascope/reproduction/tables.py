"""Tables of a reproduction as CSV and for its page, and the verdicts on the agreement of its measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from sigmascope.analysis.onset import Onset
from sigmascope.core import Agreement, Curve
from sigmascope.report.sheets import Sheet
from sigmascope.report.table import cells, probability
from sigmascope.reproduction.figures import intensity

AT_TAU = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Intensities of the third table."""
_TOLERANCE = 4.0  # standard errors beyond which two measurements disagree


@dataclass(frozen=True)
class Table:
    """A table: the name of its file, its caption, head and rows."""

    name: str
    caption: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def csv(self) -> str:
        """As a file."""
        writer = Sheet()
        writer.writerow(self.head)
        for row in self.rows:
            writer.writerow(row)
        return writer.getvalue()


@dataclass(frozen=True)
class Verdict:
    """Whether one measurement agrees with the exact curve.

    Attributes:
        measurement: its name.
        attribute: its name.
        bound: whether the measurement is a lower bound.
        largest: largest difference, nats, with its sign.
        error: standard error at that level.
        sigma: that level.
        errors_apart: largest difference in standard errors; for a bound, of those above the exact curve.
    """

    measurement: str
    attribute: str
    bound: bool
    largest: float
    error: float
    sigma: float
    errors_apart: float

    @property
    def agrees(self) -> bool:
        """Whether no level differs by more than four standard errors; a bound may lie below by any amount."""
        return self.errors_apart <= _TOLERANCE


def verdict_of(agreement: Agreement) -> Verdict:
    """The verdict on two estimators on the same draws."""
    share, error, sigma = agreement.largest
    c = agreement.ceiling
    return Verdict(agreement.estimator, agreement.attribute, False, share * c, error * c, sigma, agreement.errors_apart)


def verdict_against(
    name: str, exact: Curve, line: tuple[np.ndarray, np.ndarray, np.ndarray], *, bound: bool
) -> Verdict:
    """The verdict on a measurement at other levels and on other draws; the exact curve is interpolated in ln sigma.

    Args:
        name: of the measurement.
        exact: the exact curve.
        line: sigma, value and standard error.
        bound: whether it is a lower bound.
    """
    sigma, value, error = line
    x, at = np.log(exact.sigma[::-1]), np.log(sigma)
    true, own = (np.interp(at, x, v[::-1]) for v in (exact.value, exact.error))
    both = np.hypot(np.maximum(error, 2e-3 * exact.ceiling), own)
    z = (value - true) / both
    k = int(np.argmax(z if bound else np.abs(z)))
    largest = int(np.argmax(np.abs(value - true)))
    return Verdict(
        name, exact.attribute, bound, float((value - true)[largest]), float(both[largest]), float(sigma[largest]),
        max(float(z[k]), 0.0) if bound else abs(float(z[k])),
    )  # fmt: skip


def data_table(curves: Sequence[Curve], values: Mapping[str, tuple[str, ...]], words: str) -> Table:
    """Table 1: the data and their attributes."""
    rows = [
        [c.attribute, str(len(values[c.attribute])), f"{c.ceiling:.4f}", _listed(values[c.attribute])] for c in curves
    ]
    return Table("1-data", f"The data: {words}.", ("attribute", "values", "H(A), nats", "names"), rows)


def schedule_table(ends: tuple[float, float], facts: Mapping[str, str]) -> Table:
    """Table 2: the schedule and the settings."""
    rows = [["schedule", f"variance exploding, σ(τ) = {ends[0]:g} · ({ends[1] / ends[0]:g})^τ"]]
    rows += [[f"τ = {t:.1f}", f"σ {s:.4g}, {-20 * math.log10(s) + 0.0:.1f} dB"] for t, s in _levels(ends)]
    rows += [[k, v] for k, v in facts.items()]
    return Table("2-schedule-and-model", "The schedule and the model.", ("setting", "value"), rows)


def _levels(ends: tuple[float, float]) -> list[tuple[float, float]]:
    return [(t, ends[0] * (ends[1] / ends[0]) ** t) for t in np.linspace(0, 1, 11).tolist()]


def at_tau_table(
    exact: Sequence[Curve],
    lines: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]],
    ends: tuple[float, float],
) -> Table:
    """Table 3: every measurement of every attribute at fixed intensities, interpolated in ln sigma."""
    rows = []
    for c in exact:
        measured = {"exact filter": (c.sigma, c.value, c.error)}
        measured |= {name: line[c.attribute] for name, line in lines.items() if c.attribute in line}
        for t in AT_TAU:
            row = [_at(measured[name], t, ends) if name in measured else "" for name in ("exact filter", *lines)]
            rows.append([c.attribute, f"{t:.1f}", f"{ends[0] * (ends[1] / ends[0]) ** t:.4g}", *row])
    head = ("attribute", "τ", "σ", "exact filter", *lines)
    caption = (
        "Information at fixed intensities, nats ± standard error. The entropy across forks is H(A) minus its column."
    )
    return Table("3-at-fixed-intensity", caption, head, rows)


def _at(line: tuple[np.ndarray, np.ndarray, np.ndarray], tau: float, ends: tuple[float, float]) -> str:
    sigma, value, error = line
    x = intensity(sigma, ends)
    if not x.min() - 1e-9 <= tau <= x.max() + 1e-9:
        return ""
    order = np.argsort(x)
    v, e = (float(np.interp(tau, x[order], y[order])) for y in (value, error))
    return f"{v:.3f} ± {e:.3f}"


def onset_table(tables: Mapping[str, Sequence[Onset]], words: Mapping[str, str]) -> Table:
    """Table 4: onset, window and order, with 95 % intervals."""
    rows = []
    for name, table in tables.items():
        rows += [[words[name], str(i), row.attribute, *cells(row), probability(row)] for i, row in enumerate(table, 1)]
    head = ("curves", "order", "attribute", "σ at 10 % of H(A)", "at 50 %", "at 90 %", "peak rate", "P(before next)")
    return Table("4-onset-and-order", "When each attribute is decided; intervals are 95 %.", head, rows)


def agreement_table(verdicts: Sequence[Verdict]) -> Table:
    """Table 5: every measurement against the exact filter."""
    rows = [
        [
            v.measurement, v.attribute, "lower bound" if v.bound else "estimate", f"{v.largest:+.4f}",
            f"{v.error:.4f}", f"{v.sigma:.3g}", f"{v.errors_apart:.1f}", "yes" if v.agrees else "no",
        ]
        for v in verdicts
    ]  # fmt: skip
    head = (
        "measurement", "attribute", "kind", "largest difference, nats", "its standard error", "at σ",
        "difference in standard errors (bounds: above only)", "agrees",
    )  # fmt: skip
    return Table("5-agreement", "Agreement with the exact filter, at all levels.", head, rows)


def cost_table(stages: Mapping[str, xr.Dataset]) -> Table:
    """Table 6: the cost of each stage."""
    rows = []
    for name, stage in stages.items():
        a = stage.attrs
        calls = f"{int(a['network_calls']):,} for the gaps" if "network_calls" in a else ""
        rows.append([name, f"{a['seconds']:.1f}", calls, f"{a['peak_bytes'] / 1e9:.2f}"])
    rows.append(["all", f"{sum(x.attrs['seconds'] for x in stages.values()):.1f}", "", ""])
    head = ("stage", "seconds", "network calls", "peak memory of the process so far, GB")
    return Table("6-cost", "The cost of each stage.", head, rows)


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values) if len(values) <= 12 else f"{values[0]} … {values[-1]}"
