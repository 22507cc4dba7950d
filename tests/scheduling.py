"""Which tests run first, and which belong to `make test-fast`: both follow from ``seconds.json``, times by file.

``python -m pytest -n 2 --dist loadfile --store-seconds`` writes the table again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
TABLE = TESTS / "seconds.json"
QUICK = 6.0
"""Seconds: files of `--fast` take no longer."""
UNKNOWN = 30.0
"""Seconds, of a file that the table does not hold yet."""
EACH_KIND = (
    "tests/adapters/test_studies.py::test_parents_have_streams_of_their_own",
    "tests/cli/test_making.py::test_generate_and_fork_a_hierarchy",
    "tests/cli/test_study.py::test_files_of_a_study",
    "tests/cli/test_train.py::test_a_hierarchy_is_learned",
    "tests/house/test_arrows.py",
    "tests/house/test_classes.py",
    "tests/house/test_functions.py",
    "tests/house/test_streams.py",
)
"""What `--fast` takes of slower files: one study of each kind, a training, and the rules of the house."""


@cache
def seconds() -> dict[str, float]:
    """Time of each file, without what is shared by all."""
    return json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}


def file_of(nodeid: str) -> str:
    """The file of a test, as the table names it."""
    return nodeid.split("::")[0]


def longest_first(items: list[pytest.Item]) -> None:
    """Order the files so that what begins last is short; the order within a file stays."""
    known = seconds()
    items.sort(key=lambda item: -known.get(file_of(item.nodeid), UNKNOWN))


def is_fast(nodeid: str) -> bool:
    """Whether a test belongs to the fast ones."""
    file, name = file_of(nodeid), nodeid.split("[")[0]
    return seconds().get(file, UNKNOWN) <= QUICK or file in EACH_KIND or name in EACH_KIND


def holds_fast(file: str) -> bool:
    """Whether any test of a file belongs to the fast ones."""
    return is_fast(file) or any(file_of(name) == file for name in EACH_KIND)


class Clock:
    """Adds up what the tests of each file take, and writes the table at the end."""

    def __init__(self) -> None:
        self.found: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.found[file_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        known = seconds() | {file: round(s, 1) for file, s in self.found.items()}
        there = {file: s for file, s in sorted(known.items()) if (TESTS.parent / file).exists()}
        TABLE.write_text(json.dumps(there, indent=1) + "\n", encoding="utf-8")
