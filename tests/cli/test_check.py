"""The checks: green, able to turn red one by one, and as a command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from sigmascope.checks import names
from sigmascope.checks.rows import Effort, Outcome, Verdict, rows, table, to_json
from sigmascope.cli import main


@pytest.mark.parametrize("name", names())
def test_a_spoiled_ingredient_turns_its_row_red(name):
    place = names().index(name)
    row = rows()[place]
    spoiled = row.trial(Effort(fast=True, seed=0, broken=True, stream=place))
    assert not spoiled.green, f"{name} stays green when {row.spoiled}"


def test_all_green_as_a_command(tmp_path):
    out = tmp_path / "checks.json"
    command = [sys.executable, "-m", "sigmascope", "check", "--fast", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())["rows"]
    assert [r["name"] for r in found] == list(names())
    assert {r["verdict"] for r in found} == {"green"}
    for r in found:
        assert math.isfinite(r["statistic"])
        assert math.isfinite(r["expected"])
        assert r["statement"] in done.stdout
    assert f"{len(found)} of {len(found)} green" in done.stdout
    assert os.listdir(tmp_path) == ["checks.json"]


def test_a_red_row_is_the_exit_status(monkeypatch, capsys, tmp_path):
    import sigmascope.checks.rows as module

    quick = tuple(r for r in rows() if r.name in ("independent", "denoiser"))
    monkeypatch.setattr(module, "rows", lambda: quick)
    out = tmp_path / "c.json"
    assert main(["check", "--fast", "--out", str(out)]) == 0
    first = json.loads(out.read_text())
    assert main(["check", "--fast", "--break", "denoiser", "--out", str(out)]) == 1
    assert [r["verdict"] for r in json.loads(out.read_text())["rows"]] == ["green", "red"]
    assert "red: denoiser" in capsys.readouterr().out
    assert main(["check", "--fast", "--out", str(out)]) == 0
    again = json.loads(out.read_text())
    for a, b in zip(first["rows"], again["rows"], strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}  # the same command gives the same numbers
    assert main(["check", "--fast", "--seed", "3", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["rows"][1]["statistic"] != first["rows"][1]["statistic"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["check", "--break", "nope"], "no check is called 'nope': choose among bayes, tower"),
        (["check", "--break"], "needs the name of a row"),
        (["check", "--seed", "-1"], "must not be negative"),
        (["check", "--out", "/no/such/folder/x.json"], "in a folder that can be written"),
        (["check", "--out", "/tmp"], "it is a folder: pass --out the name of a file"),
        (["check", "--quick"], "see sigmascope check --help"),
    ],
)
def test_bad_input(args, said, capsys):
    assert main(args) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_hidden_option_is_hidden(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["check", "--help"])
    assert stop.value.code == 0
    help = capsys.readouterr().out
    assert "--fast" in help
    assert "break" not in help
    assert "spoil" not in help


def test_verdicts():
    assert Outcome(1.05, 1.0, error=0.02).green
    assert not Outcome(1.09, 1.0, error=0.02).green
    assert Outcome(1.09, 1.0, error=0.02, allowance=0.02).green
    assert not Outcome(float("nan"), 1.0, error=0.02).green
    assert not Outcome(1.0, 1.0, error=float("inf")).green
    assert Outcome(5.0, 1.0, error=0.02, at_least=True).green
    assert not Outcome(0.5, 1.0, error=0.02, at_least=True).green
    lost = Verdict(rows()[0], Outcome(float("nan"), 1.0), 0.0)
    assert json.loads(to_json([lost], fast=True, seed=0))["rows"][0] == {
        **json.loads(to_json([lost], fast=True, seed=0))["rows"][0],
        "verdict": "red",
        "statistic": None,
    }
    assert table(lost).startswith("RED")
