"""Said and seen: the trial of advice by simulation, its exact part run here, and all of it as it is stored."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from conftest import ROOT
from sigmascope.studies.options import changed

STORED = ROOT / "benchmarks" / "advised.json"


def apart(row: dict) -> float:
    """How far seen is from said, in joint standard errors; how far above, of what is said to be at most."""
    (said, error), (seen, chance) = row["said"], row["seen"]
    off = (seen - said) / np.hypot(error, chance)
    return max(off, 0.0) if row["what"].endswith("at most") else abs(off)


@pytest.fixture(scope="module")
def trial():
    spec = importlib.util.spec_from_file_location("advised", ROOT / "benchmarks" / "advised.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["advised"] = module
    spec.loader.exec_module(module)
    return module


def test_what_is_stored_was_said_and_seen_alike():
    rows = json.loads(STORED.read_text(encoding="utf-8"))
    for model in ("exact model", "DDPM of digits"):
        of = [r for r in rows if r["model"] == model]
        assert {r["advice"] for r in of} >= {"sdedit_strength", "fork_point", "guidance_interval"}, model
        assert any("own path" in r["law"] for r in of), model
    for r in rows:
        assert apart(r) < 2, r
    digits = next(r for r in rows if r["model"] == "DDPM of digits" and r["advice"] == "sdedit_strength")
    with_parents, error = digits["seen_by_nearest_of_all"]
    assert with_parents > digits["seen"][0] + error  # the parent's own item would have said more


def test_the_exact_part(trial, tmp_path):
    of = trial.exact(tmp_path)
    few = replace(of, spec=changed(of.spec, draws=96, levels=6), parents=tuple(x[:120] for x in of.parents))
    rows = trial.tried(few)
    assert len(rows) == 5
    for r in rows:
        assert apart(r) < 2.5, r


def test_the_trial_would_see_a_wrong_law(trial, tmp_path, monkeypatch):
    """Redraws from twice the level that was advised."""
    of = trial.exact(tmp_path)
    few = replace(of, spec=changed(of.spec, draws=64, levels=6, estimators=("forks",)))
    own = trial.redrawn
    monkeypatch.setattr(trial, "redrawn", lambda subject, sigma: own(subject, 2 * sigma))
    monkeypatch.setattr(trial, "states", lambda subject, levels: {s: subject.parents[0].double() for s in levels})
    edit = next(r for r in trial.tried(few) if r["advice"] == "sdedit_strength")
    assert apart(edit) > 3


def test_a_study_that_ends_early_says_what_is_open(trial, tmp_path):
    (row,) = trial.ends_early(tmp_path)
    assert not row["end_is_shown"]
    assert row["said"][0] == pytest.approx(0.225, abs=0.01)
    assert apart(row) < 2
