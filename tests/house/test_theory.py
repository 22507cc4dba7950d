"""docs/theory.md names every row of the checks, and code that exists."""

from __future__ import annotations

import re

import sigmascope.exact.finite.items
import sigmascope.exact.gaussian
import sigmascope.exact.hierarchy
import sigmascope.information.direct
import sigmascope.information.forks
import sigmascope.information.laws
import sigmascope.information.path
from conftest import ROOT
from sigmascope import filtering, information, sample
from sigmascope.checks import names

TEXT = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
TABLE = [re.split(r"(?<!\\)\|", line)[1:-1] for line in TEXT.splitlines() if line.startswith("| ")][1:]

HOMES = (
    filtering,
    sample,
    sigmascope.exact.gaussian,
    sigmascope.exact.hierarchy,
    sigmascope.exact.finite.items,
    information.direct,
    information.forks,
    information.laws,
    information.path,
)


def test_every_row_is_mapped():
    mapped = [name for cells in TABLE for name in re.findall(r"`([a-z-]+)`", cells[2])]
    assert sorted(mapped) == sorted(names())


def test_the_code_it_names_exists():
    for cells in TABLE:
        for name in re.findall(r"`([A-Za-z_]+)", cells[1]):
            assert name == "FiniteDenoiser" or any(hasattr(home, name) for home in HOMES), name


def test_each_statement_says_whose_it_is():
    for cells in TABLE:
        assert re.search("text|reconstructed|ours|not in the paper", cells[3]), cells
