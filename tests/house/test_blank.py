"""Figures are blank where the table says so, and drawn elsewhere; the tests that it names exist."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from blank import DRAWN, DRAWN_FOR_ALL, PICTURES, blank, shared, undrawn_figures
from conftest import ROOT


def test_what_the_table_names_is_there():
    assert set(DRAWN_FOR_ALL) <= set(DRAWN)
    for file, names in DRAWN.items():
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        for name in names:
            assert f"def {name}(" in text, f"{file} has no {name}"


def test_what_is_drawn_and_what_is_blank(tmp_path):
    figure = Figure()
    figure.subplots().plot([0, 1])
    with undrawn_figures():
        figure.savefig(tmp_path / "x.svg")
        figure.savefig(buffer := io.BytesIO(), format="png", dpi=100)
    assert (tmp_path / "x.svg").read_bytes() == PICTURES["svg"]
    assert buffer.getvalue() == PICTURES["png"]
    with undrawn_figures(False):
        figure.savefig(tmp_path / "x.svg")
    assert len((tmp_path / "x.svg").read_bytes()) > 1000


def test_of_which_tests():
    assert blank("tests/cli/test_study.py::test_version")
    assert not blank("tests/cli/test_study.py::test_files_of_a_study[x]")
    assert not blank("tests/cli/test_page.py::test_x")
    assert shared("tests/cli/test_sentences.py")
    assert not shared("tests/cli/test_train.py")
