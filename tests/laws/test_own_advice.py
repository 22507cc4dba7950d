"""A new kind of advice is an object in a registry: it is said by the command, in its JSON and on the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sigmascope.cli import main
from sigmascope.core import Curve
from sigmascope.data import from_array
from sigmascope.report.table import brief
from sigmascope.studies.advice_kinds import Advice, Case, Kind
from sigmascope.studies.advice_of import page_advice
from sigmascope.studies.advising import KINDS, Advisor
from sigmascope.studies.results import to_dataset
from sigmascope.studies.spec import spec_of

SIGMA = np.array([8.0, 4.0, 2.0, 1.0])
KNOWN = {"early": (0.0, 0.5, 0.9, 1.0), "never": (0.0, 0.1, 0.2, 0.3)}
"""What is known of two attributes at each level, in shares of H."""


class PreviewLevel(Kind):
    """Where half of an attribute is known, a preview is worth a look."""

    name = "preview_level"

    def read(self, case: Case) -> Advice:
        at = case.view.half(case.name)
        reason = case.doubt(at) if at.reached else f"half of it is not known within the levels: {case.so_far()}"
        words = f"look at {case.name} in a preview at σ {brief(at)}"
        return self.advice(case, "I(A; Y_σ) = H(A) / 2", words, high=at, reason=reason)

    def in_units(self, high, low):
        at = "before step {step} of {steps} (timestep {timestep:.4g})"
        return "" if high is None else f" — {at.format(**high)}"


@pytest.fixture
def study(tmp_path):
    """A finished study of two attributes: half of the one is known at σ 4, of the other at no level."""
    data = from_array(np.random.default_rng(0).normal(size=(8, 2)), {name: [0, 1] * 4 for name in KNOWN})
    h = float(np.log(2))
    curves = [
        Curve.of_draws(name, "bound", SIGMA, np.repeat(h * np.array(shares)[:, None], 8, 1), h, kind="lower bound")
        for name, shares in KNOWN.items()
    ]
    results = to_dataset(curves, data, data.attributes, torch.arange(8), spec_of(data="x"))
    results.attrs["main_estimator"] = "bound"
    results.to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    return tmp_path, results


def said(capsys, folder, *options) -> str:
    words = [] if "--json" in options else ["--words"]
    assert main(["advise", str(folder), *options, *words]) == 0
    return capsys.readouterr().out


def test_a_kind_that_is_registered_is_given_everywhere(study, monkeypatch, capsys):
    folder, results = study
    assert "preview" not in said(capsys, folder) + page_advice(results)
    monkeypatch.setitem(KINDS, PreviewLevel.name, PreviewLevel())
    at = Advisor(results).advice("preview_level", "early").high
    assert at.value == pytest.approx(4.0, rel=1e-6)
    words = said(capsys, folder)
    assert f"  preview level: look at early in a preview at σ {brief(at)}\n      [I(A; Y_σ) = H(A) / 2]" in words
    assert main(["advise", str(folder)]) == 0
    assert "preview level" in capsys.readouterr().out.splitlines()[0]
    page = page_advice(results)
    assert f"<strong>preview level</strong>: look at early in a preview at σ {brief(at)}" in page
    found = [a for a in json.loads(said(capsys, folder, "--json")) if a["kind"] == "preview_level"]
    assert [(a["attribute"], a["high"]["value"]) for a in found] == [("early", at.value)]


def test_what_it_cannot_advise_is_left_out_with_its_reason(study, monkeypatch, capsys):
    folder, results = study
    monkeypatch.setitem(KINDS, PreviewLevel.name, PreviewLevel())
    reason = (
        "no preview level, since half of it is not known within the levels: at the last level, σ 1.00, at least 0.208"
    )
    for text in (said(capsys, folder), page_advice(results)):
        assert reason in text
        assert "look at never" not in text


def test_it_is_given_in_the_units_of_a_pipeline(study, monkeypatch, capsys):
    from diffusers import DDIMScheduler

    folder, _ = study
    monkeypatch.setitem(KINDS, PreviewLevel.name, PreviewLevel())
    pipeline = folder / "pipe"
    DDIMScheduler().save_pretrained(pipeline / "scheduler")
    (pipeline / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", "scheduler": ["diffusers"]}))
    words = said(capsys, folder, "--model", f"diffusers:{pipeline}")
    (line,) = [x for x in words.splitlines() if "look at early" in x]
    assert " — before step " in line
    assert " of 50 (timestep " in line


def own_path(results, gain: float, by: str = "gap"):
    """The study with a curve along the model's own path that ends at ``gain`` times H(A)."""
    h, shares = float(np.log(2)), np.array([0.012, 0.05, 0.95, 1.0])
    axes, drawn = ("attribute", "sigma"), ("attribute", "sigma", "path_draw")
    value = np.tile(gain * h * shares, (2, 1))
    per_draw = value[..., None] + 1e-3 * np.array([-1.0, 1.0] * 16)
    path = results.assign(
        path_information=(axes, value, {"by": by}),
        path_stderr=(axes, np.full_like(value, 1e-4)),
        path_quadrature_error=(axes, np.zeros_like(value)),
        path_information_per_draw=(drawn, per_draw),
        path_ceiling=("attribute", np.full(2, max(gain, 1.0) * h)),
    )
    return Advisor(path).advice("guidance_interval", "early")


def test_a_path_that_exceeds_the_entropy_begins_earlier_and_ends_with_a_mark(study):
    """4 H(A) are not about A: 5 % of H(A) are reached far above 5 % of them, and the lower end is marked."""
    right, wrong, forked = (own_path(study[1], *case) for case in ((1.0,), (4.0,), (4.0, "forks")))
    assert [a.high.value for a in (right, forked)] == pytest.approx([4.0, 4.0])
    assert 7.0 < wrong.high.value < 8.0
    assert [a.low.value for a in (right, wrong, forked)] == pytest.approx([2.0, 2.0, 2.0])
    assert "this end is not reliable" in wrong.words
    assert "2.63 nats exceed H(A) = 0.693" in wrong.words
    assert "not reliable" not in right.words + forked.words
