"""The table of estimators in the documentation says what the estimators themselves say."""

from __future__ import annotations

from pathlib import Path

import pytest

import sigmascope.information.estimators  # noqa: F401  (registers them)
from sigmascope.information.estimator import SUBJECTS, every

PAGE = Path(__file__).resolve().parents[2] / "docs" / "estimators.md"
OF = {
    "exact law": "Data, by their exact filter",
    "population": "A population, by items held out",
    "conditional model": "A network that can be conditional",
    "sampler": "A network without conditions",
    "pictures": "Features of the pictures themselves",
}


def table(subject: str) -> str:
    """The table of a kind of subject, as it must stand in the page."""
    rows = ["| estimator | is | needs | bias | cost |", "|---|---|---|---|---|"]
    for kind, e in every():
        if kind == subject:
            rows.append(f"| `{e.name}` | {e.kind} | {e.facts.needs} | {e.facts.bias} | {e.facts.cost} |")
    return "\n".join(rows)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_page_has_the_table_of_the_register(subject):
    text = PAGE.read_text(encoding="utf-8")
    part = text.partition(f"## {OF[subject]}\n")[2].partition("\n## ")[0]
    assert table(subject) in part, table(subject)


def test_every_estimator_says_what_it_is():
    for _, e in every():
        assert all((e.facts.needs, e.facts.bias, e.facts.cost)), e.name
        assert not any(c in text for text in vars(e.facts).values() for c in "|\n."), e.name
