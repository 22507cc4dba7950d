"""What a check is, how it is judged, and the table of all of them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor

from sigmascope.console import spelled
from sigmascope.core import generator
from sigmascope.errors import InputError
from sigmascope.streams import Alone

_MODULES = ("laws", "equations", "information", "attributes", "crosschecks", "diffusion", "generation")
SIGMAS = 4.0
"""A row is red where it is more than so many standard errors off."""


@dataclass(frozen=True)
class Effort:
    """How much to simulate, and whether to spoil the named ingredient."""

    fast: bool
    seed: int
    broken: bool
    stream: int

    def paths(self, full: int) -> int:
        """Number of paths: an eighth of the full run's where it should be fast."""
        return full // 8 if self.fast else full

    def generator(self, *stream: int) -> torch.Generator:
        """A generator of this row alone."""
        return generator(self.seed, Alone.CHECKS, self.stream, *stream)


@dataclass(frozen=True)
class Outcome:
    """A measured statistic and what it should be.

    Args:
        statistic: measured.
        expected: by theory.
        error: standard error of the statistic; 0 for a number without chance.
        allowance: what discretisation or rounding may add to the difference.
        at_least: the statistic should be the expected one or more.
    """

    statistic: float
    expected: float
    error: float = 0.0
    allowance: float = 0.0
    at_least: bool = False

    @property
    def green(self) -> bool:
        off = self.statistic - self.expected
        if not math.isfinite(off) or not math.isfinite(self.error):
            return False
        return (min(off, 0.0) if self.at_least else off) ** 2 <= (SIGMAS * self.error + self.allowance) ** 2


def average(values: Tensor, expected: float = 0.0, *, allowance: float = 0.0, at_least: bool = False) -> Outcome:
    """The mean of independent values, with its standard error."""
    return Outcome(float(values.mean()), expected, float(values.std()) / len(values) ** 0.5, allowance, at_least)


@dataclass(frozen=True)
class Row:
    """A statement, where it is from, the system it is tried on, what spoils it, and the trial."""

    name: str
    statement: str
    reference: str
    system: str
    spoiled: str
    trial: Callable[[Effort], Outcome]


@dataclass(frozen=True)
class Verdict:
    """A judged row."""

    row: Row
    outcome: Outcome
    seconds: float

    @property
    def green(self) -> bool:
        return self.outcome.green


_ROWS: dict[str, Row] = {}


def check(
    name: str, statement: str, reference: str, system: str, spoiled: str
) -> Callable[[Callable[[Effort], Outcome]], Callable[[Effort], Outcome]]:
    """Register a trial as a row.

    Args:
        name: short, unique.
        statement: what is claimed.
        reference: who proved it.
        system: what is simulated.
        spoiled: which ingredient is corrupted where the row is told to fail.
    """

    def register(trial: Callable[[Effort], Outcome]) -> Callable[[Effort], Outcome]:
        if name in _ROWS and _ROWS[name].trial.__qualname__ != trial.__qualname__:
            raise ValueError(f"two rows are called {name!r}")
        _ROWS[name] = Row(name, statement, reference, system, spoiled, trial)
        return trial

    return register


def rows() -> tuple[Row, ...]:
    """All rows, in the order of the table."""
    for module in _MODULES:
        import_module(f"sigmascope.checks.{module}")
    return tuple(_ROWS.values())


def names() -> tuple[str, ...]:
    """Names of all rows."""
    return tuple(r.name for r in rows())


def run_checks(*, fast: bool = False, seed: int = 0, spoil: str = "") -> Iterator[Verdict]:
    """Try every statement, one after the other.

    Args:
        fast: an eighth of the paths.
        seed: of everything random; each row has its own stream.
        spoil: name of a row whose ingredient is to be corrupted: it must turn red.

    Raises: InputError for a name that is no row's.
    """
    found = rows()
    if spoil and spoil not in names():
        raise InputError(f"no check is called {spoil!r}: choose among {', '.join(names())}")
    return (_judged(row, Effort(fast, seed, row.name == spoil, i)) for i, row in enumerate(found))


def _judged(row: Row, effort: Effort) -> Verdict:
    start = time.perf_counter()
    outcome = row.trial(effort)
    return Verdict(row, outcome, time.perf_counter() - start)


_MEASURED = "measured ± error"


def header() -> str:
    """Over the table."""
    return f"{'verdict':7}  {'row':21}{spelled(_MEASURED):>17}    expected (margin)\n"


def table(verdict: Verdict) -> str:
    """One row of the table, as text: numbers, the statement, whose it is and where it was tried."""
    o, sign = verdict.outcome, "≥" if verdict.outcome.at_least else "="
    margin = SIGMAS * o.error + o.allowance
    colour = "green" if verdict.green else "RED"
    measured = f"{_short(o.statistic)} ± {o.error:.1g}" if o.error else _short(o.statistic)
    width = max(17, len(spelled(_MEASURED)))
    sign = spelled(sign).ljust(len(spelled("≥")))
    numbers = f"{spelled(measured):>{width}}  {sign} {_short(o.expected):<7} (within {margin:.1g})"
    row = verdict.row
    return f"{colour:7}  {row.name:21}{numbers}\n         {row.statement}\n         [{row.system}; {row.reference}]"


def _short(x: float) -> str:
    return f"{x:.4f}" if x == 0 or 1e-3 <= abs(x) < 1e4 else f"{x:.1e}"


def to_json(verdicts: list[Verdict], *, fast: bool, seed: int) -> str:
    """All rows as JSON; a statistic that is not finite becomes null."""
    entries = []
    for v in verdicts:
        o = v.outcome
        numbers = {
            "statistic": o.statistic,
            "error": o.error,
            "expected": o.expected,
            "allowance": o.allowance,
        }
        entries.append(
            {
                "name": v.row.name,
                "verdict": "green" if v.green else "red",
                **{k: x if math.isfinite(x) else None for k, x in numbers.items()},
                "relation": "at least" if o.at_least else "equal",
                "statement": v.row.statement,
                "reference": v.row.reference,
                "system": v.row.system,
                "seconds": round(v.seconds, 3),
            }
        )
    return json.dumps({"rows": entries, "fast": fast, "seed": seed}, indent=1, ensure_ascii=False) + "\n"
