"""How a statement of the theory is tested and judged, and the table of all statements."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module

import torch
from torch import Tensor

from sigmascope.console import spelled
from sigmascope.core import generator
from sigmascope.errors import InputError
from sigmascope.streams import Alone

_MODULES = ("laws", "equations", "information", "attributes", "crosschecks", "diffusion", "generation")
SIGMAS = 4.0
"""A row is red if it is off by more than this many standard errors."""


@dataclass(frozen=True)
class Effort:
    """How much a trial simulates, its random stream, and whether it must corrupt one ingredient on purpose."""

    fast: bool
    seed: int
    broken: bool
    stream: int

    def paths(self, full: int) -> int:
        """The number of paths: an eighth of the full number in a fast run."""
        return full // 8 if self.fast else full

    def generator(self, *stream: int) -> torch.Generator:
        """A random generator that no other row uses."""
        return generator(self.seed, Alone.CHECKS, self.stream, *stream)


@dataclass(frozen=True)
class Outcome:
    """A measured statistic and its expected value.

    Args:
        statistic: the measured value.
        expected: the value that the theory predicts.
        error: standard error of the statistic; 0 for a deterministic one.
        allowance: how much discretisation or rounding may add to the difference.
        at_least: whether the statistic may also exceed the expected value.
    """

    statistic: float
    expected: float
    error: float = 0.0
    allowance: float = 0.0
    at_least: bool = False

    @property
    def margin(self) -> float:
        """The largest difference that is accepted."""
        return SIGMAS * self.error + self.allowance

    @property
    def green(self) -> bool:
        difference = self.statistic - self.expected
        if not math.isfinite(difference) or not math.isfinite(self.error):
            return False
        return abs(min(difference, 0.0) if self.at_least else difference) <= self.margin


def average(values: Tensor, expected: float = 0.0, *, allowance: float = 0.0, at_least: bool = False) -> Outcome:
    """The mean of independent values, with its standard error."""
    return Outcome(float(values.mean()), expected, float(values.std()) / len(values) ** 0.5, allowance, at_least)


Trial = Callable[[Effort], Outcome]


@dataclass(frozen=True)
class Row:
    """A statement and its trial.

    Args:
        name: short, unique.
        statement: the claim, and what is measured.
        reference: where it is proved.
        system: what is simulated.
        spoiled: which ingredient is corrupted when the row is meant to fail.
        trial: simulates and measures.
    """

    name: str
    statement: str
    reference: str
    system: str
    spoiled: str
    trial: Trial


@dataclass(frozen=True)
class Verdict:
    """A row with the outcome of its trial.

    Args:
        row: the statement.
        outcome: what was measured, beside what was expected.
        seconds: how long the trial took.
    """

    row: Row
    outcome: Outcome
    seconds: float

    @property
    def green(self) -> bool:
        return self.outcome.green


_ROWS: dict[str, Row] = {}


def check(name: str, reference: str, system: str, spoiled: str, statement: str = "") -> Callable[[Trial], Trial]:
    """Register the decorated trial as a :class:`Row`; the statement is its docstring unless it is passed."""

    def register(trial: Trial) -> Trial:
        if name in _ROWS and _ROWS[name].trial.__qualname__ != trial.__qualname__:
            raise ValueError(f"two rows are called {name!r}")
        _ROWS[name] = Row(name, statement or trial.__doc__ or "", reference, system, spoiled, trial)
        return trial

    return register


def rows() -> tuple[Row, ...]:
    """All rows, in the order of the table."""
    for module in _MODULES:
        import_module(f"sigmascope.checks.{module}")
    return tuple(_ROWS.values())


def names() -> tuple[str, ...]:
    """Names of all rows, in the order of the table."""
    return tuple(r.name for r in rows())


def run_checks(*, fast: bool = False, seed: int = 0, spoil: str = "") -> Iterator[Verdict]:
    """Test every statement, one after the other.

    Args:
        fast: simulate an eighth of the paths.
        seed: of all random numbers; each row has a stream of its own.
        spoil: name of a row whose ingredient is corrupted, so that it must turn red; empty: none.

    Yields: the verdict on each row, as soon as it is known.

    Raises: InputError for a name that no row has.
    """
    table = rows()
    if spoil and spoil not in names():
        raise InputError(f"no check is called {spoil!r}: choose among {', '.join(names())}")
    return (_judged(row, Effort(fast, seed, row.name == spoil, i)) for i, row in enumerate(table))


def _judged(row: Row, effort: Effort) -> Verdict:
    start = time.perf_counter()
    outcome = row.trial(effort)
    return Verdict(row, outcome, time.perf_counter() - start)


_MEASURED = "measured ± error"


def header() -> str:
    """The heading of the table that :func:`table` makes, a line of text."""
    return f"{'verdict':7}  {'row':22}{spelled(_MEASURED):>17}    expected (margin)\n"


def table(verdict: Verdict) -> str:
    """One row of the table as text.

    Args:
        verdict: on the row.

    Returns: three lines: the numbers; the statement; the system that was simulated and the reference.
    """
    o, row = verdict.outcome, verdict.row
    colour = "green" if verdict.green else "RED"
    measured = spelled(f"{_short(o.statistic)} ± {o.error:.1g}" if o.error else _short(o.statistic))
    width = max(17, len(spelled(_MEASURED)))
    sign = spelled("≥" if o.at_least else "=").ljust(len(spelled("≥")))
    numbers = f"{measured:>{width}}  {sign} {_short(o.expected):<7} (within {o.margin:.1g})"
    return f"{colour:7}  {row.name:22}{numbers}\n         {row.statement}\n         [{row.system}; {row.reference}]"


def _short(x: float) -> str:
    return f"{x:.4f}" if x == 0 or 1e-3 <= abs(x) < 1e4 else f"{x:.1e}"


def to_json(verdicts: list[Verdict], *, fast: bool, seed: int) -> str:
    """All rows as JSON.

    Args:
        verdicts: on the rows.
        fast: whether an eighth of the paths was simulated, for the record.
        seed: of the random numbers, for the record.

    Returns: the text; a statistic that is not finite is null.
    """
    entries = []
    for v in verdicts:
        numbers = asdict(v.outcome)
        relation = "at least" if numbers.pop("at_least") else "equal"
        entries.append(
            {"name": v.row.name, "verdict": "green" if v.green else "red", "relation": relation}
            | {k: x if math.isfinite(x) else None for k, x in numbers.items()}
            | {k: getattr(v.row, k) for k in ("statement", "reference", "system")}
            | {"seconds": round(v.seconds, 3)}
        )
    return json.dumps({"rows": entries, "fast": fast, "seed": seed}, indent=1, ensure_ascii=False) + "\n"
