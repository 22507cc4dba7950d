"""Progress bars: their unit is a word, and they end at their total, also where the total grows on the way."""

from __future__ import annotations

import importlib
import io
import pipes
import re

import numpy as np
import pytest

from sigmascope import console
from sigmascope.cli import main

MODULES = ("run", "training", "following", "prompting", "subjects.generated")


@pytest.fixture
def bars(monkeypatch):
    """Every bar that is shown, with its name."""
    shown = []

    def noted(words, total, unit, **options):
        bar = console.progress_bar(words, total, unit, **options | {"disable": False})
        shown.append((words, unit, bar))
        return bar

    for name in MODULES:
        monkeypatch.setattr(importlib.import_module(f"sigmascope.studies.{name}"), "progress_bar", noted)
    return shown


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    a = np.arange(80) % 2
    np.savez(tmp_path / "x.npz", images=0.5 * (rng.random((80, 4, 4)) + a[:, None, None]), a=a)
    return tmp_path / "x.npz"


def ended(bars, count):
    assert len(bars) == count
    for words, unit, bar in bars:
        assert bar.n == bar.total, (words, bar.n, bar.total)
        assert re.fullmatch(r"[a-z ]+s", unit)


MLP = ("--network", "mlp", "--width", "8", "--depth", "1", "--batch", "8", "--warmup", "2")
COMMANDS = {
    "study": (["study", "DATA", "--draws", "8", "--levels", "5"], 1),
    "generate": (["generate", "DATA", "--n", "2", "--steps", "4"], 1),
    "fork": (["fork", "DATA", "--sampler", "sde", "--forks", "3", "--seeds", "2", "--steps", "4"], 1),
    "train": (["train", "DATA", *MLP, "--steps", "6", "--classifier-steps", "4"], 2),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bar_ends_where_it_said(name, bars, data, tmp_path, capsys):
    line, count = COMMANDS[name]
    assert main([*(str(data) if word == "DATA" else word for word in line), "--out", str(tmp_path / "out")]) == 0
    ended(bars, count)
    assert re.search(r"100 %\|.*\| (\d+) of \1 (steps|levels) \[", capsys.readouterr().err)


def test_a_total_that_grows(bars, data, tmp_path):
    """A model's gaps are allotted after a pilot: how many network calls there are is known only then."""
    assert main(["train", str(data), *MLP, "--steps", "80", "--out", str(tmp_path / "model")]) == 0
    bars.clear()
    study = ["study", str(data), "--model", str(tmp_path / "model"), "--draws", "8", "--levels", "5"]
    assert main([*study, "--budget", "2000", "--estimators", "score_gap", "--out", str(tmp_path / "out")]) == 0
    ended(bars, 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("against", [[], ["--against", "a blue cube"]])
def test_prompts(bars, tmp_path, against):
    pipes.stable(tmp_path / "pipe")
    line = ["prompts", "--model", f"diffusers:{tmp_path / 'pipe'}", "--prompt", "a red cube", *against, "--n", "2"]
    few = ["--steps", "3", "--levels", "4", "--noises", "2"]
    assert main([*line, *few, "--out", str(tmp_path / "out")]) == 0
    ended(bars, 1)


def test_the_words_of_a_bar(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    with console.progress_bar("scenes", 235, "steps", initial=27) as bar:
        bar.update(0)
    assert re.search(r"scenes:  11 %\|.*\| 27 of 235 steps \[\d\d:\d\d, .* left\]", out.getvalue())
