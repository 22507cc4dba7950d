"""The README is short, its links lead somewhere, and the examples give the numbers that they should."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from conftest import ROOT

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    """Those of the documentation are followed where it is built."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGES[name])
    assert name != "README.md" or any(link.endswith(".png") for link in links)
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_the_readme_is_short():
    assert len(PAGES["README.md"].split()) <= 900


def test_example_of_the_filter_runs(tmp_path):
    figure = tmp_path / "wonham.png"
    command = [sys.executable, str(ROOT / "examples" / "wonham.py"), str(figure), "--paths", "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert figure.stat().st_size > 10_000
    found = re.findall(r": ([\d.]+) ± ([\d.]+) nats, by ratio ([\d.]+) ± ([\d.]+)", done.stdout)
    assert len(found) == 2
    for gap, gap_error, ratio, ratio_error in (map(float, f) for f in found):
        assert abs(gap - ratio) < 4 * (gap_error + ratio_error)


def test_example_runs_on_the_real_file(shared, tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "cifar10.py"), str(shared / "data" / "cifar10-train.parquet")]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), "--draws", "16", "--levels", "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(exact)") == done.stdout.count("(lower bound)") == 2
    for law in ("empirical", "heldout"):
        assert (tmp_path / "out" / law / "report.html").exists()
