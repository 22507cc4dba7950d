"""The notebook runs from the first cell to the last, quickly, and is stored without outputs."""

from __future__ import annotations

import time

import pytest

from conftest import ROOT

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install 'sigmascope[test]'")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'sigmascope[test]'")

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SECONDS = 60
"""At most: 20 on two free cores, and the tests share theirs."""


def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    began = time.monotonic()
    nbclient.NotebookClient(book, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert time.monotonic() - began < SECONDS
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    assert "floor_hue: window from sigma" in printed
    assert "one item is identified below sigma" in printed


def test_it_is_stored_without_outputs():
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in book.cells)
