"""Bad input: one line that says what came and what to do, exit status 2, nothing half-written."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from sigmascope.cli import main
from sigmascope.commands import COMMANDS

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (30, 5, 5), dtype=np.uint8)
DIGIT = np.arange(30) % 3


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.npz"
    np.savez(path, images=IMAGES, digit=DIGIT, depth=RNG.random(30))
    return path


def refused(capsys, *args, words):
    status = main([str(a) for a in args])
    printed = capsys.readouterr()
    assert status == 2, printed
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("sigmascope: ")
    assert words in lines[0]
    assert printed.out == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sigma-min", "90", "--sigma-max", "1"], "sigma_min must be the smaller"),
        (["--sigma-min", "1", "--sigma-max", "1"], "sigma_min must be the smaller"),
        (["--sigma-min", "0"], "greater than 0"),
        (["--sigma-max", "inf"], "finite"),
        (["--sigma-max", "nan"], "finite"),
        (["--draws", "0"], "draws is 0: at least 2"),
        (["--draws", "1"], "draws is 1: at least 2"),
        (["--levels", "1"], "levels is 1"),
        (["--seed", "-1"], "must not be negative"),
        (["--attributes", "colour"], "no attribute is called 'colour': choose among digit, depth"),
        (["--attributes", "depth"], "--attributes depth:bins=8"),
        (["--attributes", "depth:bins=1"], "at least 2 are needed"),
        (["--attributes", "digit:bins=x"], "cannot be read"),
        (["--attributes", "digit,digit"], "asked for twice"),
        (["--attributes", "digit", "--device", "quantum"], "device 'quantum' cannot be used"),
        (["--draws", "many"], "--draws"),
        (["--drows", "3"], "--drows"),
    ],
)
def test_options(good, tmp_path, capsys, options, words):
    refused(capsys, "study", good, "--out", tmp_path / "out", *options, words=words)
    assert not (tmp_path / "out").exists()


def test_no_data_and_no_folder(good, tmp_path, capsys):
    refused(capsys, "study", "--out", tmp_path / "out", words="no data are named")
    refused(capsys, "study", good, "--attributes", "digit", words="pass --out FOLDER")
    refused(capsys, "study", tmp_path / "none.npz", "--out", tmp_path / "out", words="no such file")
    refused(capsys, words=f"no command is named: expected one of {', '.join(COMMANDS)}; see sigmascope --help")
    refused(capsys, "stuby", words="no command 'stuby': did you mean study? see sigmascope --help")
    refused(capsys, "--spec", words="no command '--spec': expected one of study, ")
    assert not (tmp_path / "out").exists()


def test_foreign_folder_is_not_touched(good, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    refused(capsys, "study", good, "--attributes", "digit", "--out", out, words="holds no study")
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]
    refused(capsys, "study", good, "--attributes", "digit", "--out", out / "thesis.tex", words="it is a file")


def test_folder_that_cannot_be_written(good, tmp_path, capsys, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: False if str(p) == str(locked) else real(p, mode))
    refused(capsys, "study", good, "--attributes", "digit", "--out", locked / "a", words="cannot be written")


def test_results_of_another_study(good, tmp_path, capsys):
    command = ["study", good, "--attributes", "digit", "--draws", "8", "--levels", "5"]
    assert main([str(a) for a in [*command, "--out", tmp_path / "a"]]) == 0
    kept = {p: p.read_bytes() for p in (tmp_path / "a").rglob("*.*") if p.is_file()}
    capsys.readouterr()
    refused(capsys, *command, "--seed", "3", "--out", tmp_path / "a", words="another study (its seed is 0, not 3)")
    other = tmp_path / "other.npz"
    np.savez(other, images=255 - IMAGES, digit=DIGIT)
    refused(
        capsys,
        "study",
        other,
        "--draws",
        "8",
        "--levels",
        "5",
        "--out",
        tmp_path / "a",
        words="another study (of other",
    )
    assert {p: p.read_bytes() for p in kept} == kept
    assert main([str(a) for a in ["study", other, "--draws", "8", "--levels", "5", "--out", tmp_path / "b"]]) == 0
    capsys.readouterr()
    shutil.copy(tmp_path / "b" / "results.nc", tmp_path / "a" / "results.nc")
    refused(capsys, *command, "--out", tmp_path / "a", words="the results are of another study")
    (tmp_path / "a" / "results.nc").write_bytes(b"nonsense")
    refused(capsys, *command, "--out", tmp_path / "a", words="cannot be read")


def test_checkpoint_that_is_damaged_starts_anew(good, tmp_path):
    command = ["study", good, "--attributes", "digit", "--draws", "8", "--levels", "5", "--out"]
    assert main([str(a) for a in [*command, tmp_path / "a"]]) == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "results.nc").unlink()
    (tmp_path / "b" / "checkpoint.npz").write_bytes(b"PK\x03\x04 torn")
    assert main([str(a) for a in [*command, tmp_path / "b"]]) == 0
    assert (tmp_path / "a" / "onset.csv").read_bytes() == (tmp_path / "b" / "onset.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected TOML with a table [study]"),
        ("[study", "not a specification"),
        ("[study]\ndata = 3\n", "data is 3: expected str"),
        ("[study]\ndata = 'scenes'\ndrows = 3\n", "unknown setting 'drows'"),
        ("[study]\ndraws = 3\n", "names no data"),
        ("study = 3", "expected [study]"),
        ("[study]\ndata = 'scenes'\nsigma_min = 2\nsigma_max = 1\n", "must be the smaller"),
    ],
)
def test_specifications(tmp_path, capsys, text, words):
    (tmp_path / "s.toml").write_text(text)
    refused(capsys, "study", "--spec", tmp_path / "s.toml", "--out", tmp_path / "out", words=words)
    refused(capsys, "study", "--spec", tmp_path / "none.toml", "--out", tmp_path / "out", words="no such file")


def test_data_that_have_changed_since_the_specification(good, tmp_path, capsys):
    command = ["study", good, "--attributes", "digit", "--draws", "8", "--levels", "5", "--out", tmp_path / "a"]
    assert main([str(a) for a in command]) == 0
    np.savez(good, images=IMAGES[::-1], digit=DIGIT)
    capsys.readouterr()
    refused(capsys, "study", "--spec", tmp_path / "a" / "spec.toml", "--out", tmp_path / "b", words="fingerprint")


def test_too_little_memory_is_said_before_work_starts(good, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sigmascope.data.memory.available_bytes", lambda: 10_000_000)
    words = "GB of memory and 0.0 GB is free"
    refused(capsys, "study", good, "--attributes", "digit", "--out", tmp_path / "out", words=words)
    assert not (tmp_path / "out").exists()


def test_values_that_are_one(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", images=IMAGES, digit=np.zeros(30, int))
    refused(capsys, "study", tmp_path / "x.npz", "--out", tmp_path / "out", words="'digit' has 1 value")
    assert not (tmp_path / "out").exists()
