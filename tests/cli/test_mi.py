"""The command ``mi`` as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import pytest

from sigmascope.cli import main


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    rng = np.random.default_rng(0)
    z, u, v = rng.normal(size=(3, 400))
    path = tmp_path_factory.mktemp("data") / "samples.npz"
    np.savez(
        path, x=z + u, y=np.stack([z + v, u], 1), z=z, short=z[:300], words=np.array(["a", "b"] * 200),
        kind=(z > 0).astype(int), objects=np.array([None] * 400, dtype=object), hole=np.where(z > 1, np.nan, z),
        one=np.ones(400), **{"<b>": u},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def done(samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("mi") / "out"
    assert main(["mi", str(samples), "--x", "<b>", "--out", str(out), "--steps", "20"]) == 0
    return out


def test_files(done):
    assert {p.name for p in done.iterdir()} == {
        "mi.toml", "mutual.csv", "mutual.json", "mutual.png", "mutual.svg", "report.html"
    }  # fmt: skip
    record = json.loads((done / "mutual.json").read_text(encoding="utf-8"))
    assert record["x"] == "<b>"
    assert 0 <= record["low"] <= record["value"] <= record["high"]
    rows = {r["quantity"]: r for r in csv.DictReader(io.StringIO((done / "mutual.csv").read_text(encoding="utf-8")))}
    assert float(rows["information"]["nats"]) == pytest.approx(record["value"], abs=1e-6)
    assert float(rows["gap of squared errors, noise on x"]["nats"]) == pytest.approx(
        record["x_noised"]["mmse_gap"], abs=1e-6
    )
    assert len(record["y_noised"]["rate_score_gap"]) == len(record["y_noised"]["sigma"])


def test_page(done):
    page = (done / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    record = json.loads((done / "mutual.json").read_text(encoding="utf-8"))
    assert f"{record['value']:.3f} nats" in page
    assert "noise on" in page


def test_the_same_command_again(done, samples, capsys):
    before = (done / "mutual.json").stat().st_mtime_ns
    assert main(["mi", str(samples), "--x", "<b>", "--out", str(done), "--steps", "20"]) == 0
    assert "holds these results already" in capsys.readouterr().err
    assert (done / "mutual.json").stat().st_mtime_ns == before
    assert main(["mi", str(samples), "--x", "<b>", "--out", str(done), "--steps", "30"]) == 2
    assert "holds the information of other arrays" in capsys.readouterr().err


def test_given_and_seed(samples, tmp_path, capsys):
    records = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        line = ["mi", str(samples), "--given", "z", "--steps", "20", "--seed", seed, "--out", str(tmp_path / name)]
        assert main(line) == 0
        assert "I(X; Y | Z) = " in capsys.readouterr().out
        records.append(json.loads((tmp_path / name / "mutual.json").read_text(encoding="utf-8")) | {"seconds": 0})
    assert records[0] == records[1]
    assert records[0]["value"] != records[2]["value"]
    assert records[0]["lower_bound"] is None
    assert records[0]["given"] == "z"


def test_classes_are_counted(samples, tmp_path, capsys):
    np.savez(tmp_path / "classes.npz", x=np.arange(400) % 3, y=np.arange(400) % 2)
    assert main(["mi", str(tmp_path / "classes.npz"), "--out", str(tmp_path / "out")]) == 0
    assert "I(X; Y) = 0.000 nats" in capsys.readouterr().out
    assert "counts" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--x", "nothing"], "it has no array 'nothing': its arrays are <b>, hole, kind"),
        (["--y", "short"], "x has 400 samples, y has 300: pass the same number of each"),
        (["--y", "words"], "y has dtype <U1: expected numbers"),
        (["--y", "objects"], "it holds Python objects"),
        (["--y", "hole"], "y has values that are not finite"),
        (["--y", "one"], "column 0 of y is constant: leave it out"),
        (["--y", "x"], "--x, --y and --given name the same array"),
        (["--given", "y"], "--x, --y and --given name the same array"),
        (["--steps", "1"], "--steps is 1: expected a number from 10"),
        (["--seed", "-1"], "--seed is -1"),
    ],
)
def test_bad_input_is_one_line(samples, tmp_path, capsys, options, words):
    assert main(["mi", str(samples), *options, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read(samples, tmp_path, capsys):
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    for arguments, words in (
        ([], "no file is named"),
        ([str(samples)], "pass --out FOLDER"),
        ([str(tmp_path / "absent.npz"), "--out", str(tmp_path / "o")], "cannot be read"),
        ([str(tmp_path / "text.npz"), "--out", str(tmp_path / "o")], "cannot be read"),
        ([str(tmp_path), "--out", str(tmp_path / "o")], "it is a folder"),
    ):
        assert main(["mi", *arguments]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_a_size_is_not_believed(tmp_path, capsys):
    """An array that claims to be larger than its part of the file is refused before memory is taken for it."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, header.getvalue() + bytes(80))
    assert main(["mi", str(tmp_path / "large.npz"), "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert "which does not fit their length" in said
    assert said.count("\n") == 1
