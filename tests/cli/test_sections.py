"""A section that nobody knew before is a record and a place in a list: every page then has it where it applies."""

from __future__ import annotations

import json
import re

import pytest
from diffusers import DDIMScheduler
from matplotlib.figure import Figure

from dressing import COLOURS, Exact, dressed, pictures
from sigmascope.cli import main
from sigmascope.information.estimator import Derived, in_order, look
from sigmascope.report.findings import Findings
from sigmascope.report.section import Section, figure, of_sampler
from sigmascope.report.sections import SECTIONS


def _drawn(found: Findings) -> dict[str, Figure]:
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot(found.results.sigma.values, found.curves[0].value)
    return {"toy": drawn}


def _said(pictures, found: Findings) -> list[str]:
    return [f"<p>{len(found.onsets)} toys</p>", figure(pictures["toy"], "A toy", f"by {found.main}")]


TOY = Section("A toy <i>", _said, _drawn)
RARE = Section("A rare toy", lambda pictures, found: [], applies=of_sampler)


@pytest.fixture
def toys():
    at = [section.name for section in SECTIONS].index("What to do with it")
    SECTIONS[at:at] = [TOY, RARE]
    yield
    SECTIONS.remove(TOY)
    SECTIONS.remove(RARE)


@pytest.mark.parametrize("kind", ["exact", "model", "sampler"])
def test_every_page_has_the_section(kind, toys, tmp_path, monkeypatch):
    monkeypatch.setattr("sigmascope.report.page.rendered", lambda figure, of: of.encode())
    path, pipeline, options = pictures(tmp_path), tmp_path / "pipeline", []
    if kind != "exact":
        DDIMScheduler().save_pretrained(pipeline / "scheduler")
        index = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDIMScheduler"]}
        (pipeline / "model_index.json").write_text(json.dumps(index))
        pipe = dressed(Exact(path, COLOURS), kind == "model")
        monkeypatch.setattr("sigmascope.adapters.models.load_pipeline", lambda *_, **__: pipe)
        options = ["--model", f"diffusers:{pipeline}"]
        options += ["--budget", "1000"] if kind == "model" else ["--forks", "4", "--steps", "3"]
    few = ["--draws", "8", "--levels", "4", "--sigma-max", "8", "--attributes", "colour"]
    out = tmp_path / "out"
    assert main(["study", str(path), *few, *options, "--out", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    at = heads.index("A toy &lt;i&gt;")
    assert "<p>1 toys</p>" in page
    assert "A rare toy" in heads if kind == "sampler" else "A rare toy" not in heads
    assert heads[at + 1 + (kind == "sampler")] == "What to do with it"
    assert '<img alt="A toy"' in page
    assert (out / "figures" / "toy.svg").exists()


def test_a_page_without_it_lacks_it():
    """The toys are gone after their test, and no two sections have one name."""
    names = [section.name for section in SECTIONS]
    assert TOY.name not in names
    assert len(set(names)) == len(names)


def test_how_a_curve_is_shown_is_read_from_the_register():
    for name, kind, label, called in (
        ("bound", "conditional model", "best lower bound", "the best lower bound"),
        ("heldout", "sampler", "the data alone (bound)", "the lower bound of the data alone"),
        ("posterior", "conditional model", "exact", ""),
        ("posterior", "sampler", "exact filter of data", ""),
    ):
        shown = look(name, kind)
        assert shown is not None
        assert (shown.label, shown.called) == (label, called)
    assert isinstance(look("bound"), Derived)
    assert in_order(["nobody", "bound", "mmse_gap", "score_gap"], "conditional model") == [
        *("score_gap", "mmse_gap", "bound", "nobody")
    ]
