"""Attributes cut into bins, and joint ones of them, by every route that a study, a training or a task can take."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import xarray as xr
from PIL import Image

from asked import study
from sigmascope import from_array
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.data import load

ITEMS, BINS = 48, 4
RNG = np.random.default_rng(0)
DIGIT = np.arange(ITEMS) % 3
SLANT = RNG.random(ITEMS)
IMAGES = (RNG.integers(0, 100, (ITEMS, 5, 5)) + 50 * DIGIT[:, None, None]).astype(np.uint8)
QUICK = {"draws": 8, "levels": 4}
ENTRIES = {
    "digit,slant:bins=4": ["digit", "slant"],
    "slant:bins=4": ["slant"],
    "digit,slant:bins=4,digit+slant": ["digit", "slant", "digit+slant"],
    "digit+slant,slant:bins=4": ["digit+slant", "slant"],
    "digit+slant:bins=4": ["digit+slant"],
    "digit+slant:bins=4,slant": ["digit+slant", "slant"],
}


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def routes(tmp_path_factory) -> dict[str, Path]:
    """The same data as a file of every kind that has columns."""
    root = tmp_path_factory.mktemp("routes")
    np.savez(root / "x.npz", images=IMAGES, digit=DIGIT, slant=SLANT)
    (root / "folder").mkdir()
    rows = "".join(f"{i}.png,{DIGIT[i]},{float(SLANT[i])!r}\n" for i in range(ITEMS))
    (root / "folder" / "metadata.csv").write_text("file_name,digit,slant\n" + rows)
    for i, pixels in enumerate(IMAGES):
        (root / "folder" / f"{i}.png").write_bytes(png(pixels))
    image = pa.array([{"bytes": png(p), "path": None} for p in IMAGES])
    pq.write_table(pa.table({"image": image, "digit": DIGIT, "slant": SLANT}), root / "x.parquet")
    return {"npz": root / "x.npz", "folder": root / "folder", "parquet": root / "x.parquet"}


def expected(names: list[str]) -> dict[str, float]:
    """Entropies, counted without the package."""
    edges = np.quantile(SLANT, np.linspace(0, 1, BINS + 1)[1:-1])
    of = {"digit": DIGIT, "slant": np.searchsorted(edges, SLANT, side="right")}
    found = {}
    for name in names:
        code = sum(10**j * of[part] for j, part in enumerate(name.split("+")))
        p = np.unique(code, return_counts=True)[1] / ITEMS
        found[name] = float(-(p * np.log(p)).sum())
    return found


def require_right(results: xr.Dataset, names: list[str]) -> None:
    assert list(results.attribute.values) == names
    assert results.ceiling.values == pytest.approx(list(expected(names).values()))


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("route", ["npz", "folder", "parquet", "array", "data"])
def test_from_python(routes, route, entries):
    labels = {"digit": DIGIT, "slant": SLANT}
    if route == "array":
        results = study(IMAGES, labels, attributes=entries, **QUICK)
    elif route == "data":
        made = from_array(IMAGES, labels, attributes=entries.split(","))
        results = study(made, attributes=entries, **QUICK)
    else:
        results = study(str(routes[route]), attributes=entries.split(","), **QUICK)
    require_right(results, ENTRIES[entries])


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("route", ["npz", "folder", "parquet"])
def test_dry_run(routes, route, entries, capsys, monkeypatch):
    monkeypatch.setattr("sigmascope.studies.costs.seconds_of", lambda *a: 0.0)
    assert main(["study", str(routes[route]), "--attributes", entries, "--dry-run"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("attributes  "))
    assert line.split(None, 1)[1] == ", ".join(
        f"{n} ({len(np.unique(load(str(routes[route]), entries.split(',')).labels[n]))})" for n in ENTRIES[entries]
    )


def test_other_laws_and_estimators(routes):
    for options in ({"law": "heldout", "draws": 16}, {"pairs": True}, {"estimators": "posterior,filter,forks"}):
        results = study(str(routes["npz"]), attributes="digit,slant:bins=4", **(QUICK | options))
        require_right(results, ["digit", "slant"])


def test_a_study_and_its_repetition(routes, tmp_path):
    entries = "digit,slant:bins=4,digit+slant"
    command = ["study", str(routes["npz"]), "--attributes", entries, "--draws", "8", "--levels", "4"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    assert main([*command, "--out", str(tmp_path / "a")]) == 0  # finished
    again = ["study", "--spec", str(tmp_path / "a" / "spec.toml"), "--out", str(tmp_path / "b")]
    assert main(again) == 0
    with xr.open_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf") as results:
        require_right(results, ENTRIES[entries])
    assert (tmp_path / "a" / "onset.csv").read_bytes() == (tmp_path / "b" / "onset.csv").read_bytes()


@pytest.mark.parametrize(
    "command", [["generate", "--n", "2", "--steps", "3"], ["fork", "--forks", "12", "--seeds", "2"]]
)
def test_generate_and_fork(routes, tmp_path, command):
    out = tmp_path / "out"
    whole = [command[0], str(routes["npz"]), *command[1:], "--attributes", "digit,slant:bins=4,digit+slant"]
    assert main([*whole, "--out", str(out)]) == 0
    assert main([*whole, "--out", str(out)]) == 0
    text = next(out.glob("*.csv")).read_text()
    assert all(name in text for name in ("digit", "slant", "digit+slant"))


def test_a_model_that_was_trained_with_bins(routes, tmp_path, capsys):
    model, data = str(tmp_path / "model"), str(routes["npz"])
    small = ["--network", "mlp", "--width", "16", "--depth", "1", "--steps", "20", "--batch", "16"]
    assert main(["train", data, "--attributes", "digit,slant:bins=4", *small, "--out", model]) == 0
    for chosen in ("", "slant", "slant:bins=4", "digit,slant:bins=4"):
        options = ["--attributes", chosen] if chosen else []
        assert main(["study", data, "--model", model, *options, "--dry-run"]) == 0
        assert f"gaps {'':7}until" in capsys.readouterr().out
    results = study(
        data, model=model, attributes="slant:bins=4", draws=8, levels=4, budget=2000, estimators="score_gap"
    )
    require_right(results, ["slant"])
    with pytest.raises(InputError, match=r"trained with 4 bins of 'slant', not 8: write slant"):
        study(data, model=model, attributes="slant:bins=8", **QUICK)
    with pytest.raises(InputError, match=r"is not conditional on 'size'"):
        study(data, model=model, attributes="size", **QUICK)


def test_several_processes(routes, tmp_path):
    entries, out = "digit,slant:bins=4,digit+slant", tmp_path / "out"
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "sigmascope"]
    options = ["--attributes", entries, "--draws", "8", "--levels", "4", "--out", str(out)]
    done = subprocess.run(
        [*run, "study", str(routes["folder"]), *options], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    with xr.open_dataset(out / "results.nc", engine="h5netcdf") as results:
        require_right(results, ENTRIES[entries])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["slant"], "slant:bins=8"),
        (["slant:bins=4", "slant:bins=8"], "asked for twice"),
        (["slant:bins=4", "digit+slant:bins=8"], "different bins"),
        (["slant:bins=1"], "at least 2"),
        (["slant:bins=900"], "900 bins of 48 items"),
        (["slant:bins=9999999999"], "cannot be read"),
        (["slant:bins=4:bins=4"], "cannot be read"),
        (["slant:bins=4+slant"], "joins an attribute with itself"),
        (["digit+size:bins=4"], "no attribute is called 'size': choose among digit, slant"),
        (["word:bins=3"], "no attribute is called 'word'"),
    ],
)
def test_what_cannot_be_cut(entries, words):
    with pytest.raises(InputError, match=words):
        study(IMAGES, {"digit": DIGIT, "slant": SLANT}, attributes=entries, **QUICK)


def test_columns_whose_names_have_signs_in_them():
    labels = {"a+b": DIGIT, "c": SLANT, "d,e": DIGIT > 0, " f": SLANT > 0.5, "g:bins=2": DIGIT}
    entries = ["a+b", "a+b+c", "c:bins=3", "d,e", " f", "g:bins=2"]
    data = from_array(IMAGES, labels, attributes=entries)
    assert [a.name for a in data.attributes] == ["a+b", "a+b+c", "c", "d,e", " f", "g:bins=2"]
    assert data.attribute("a+b").parts == ()
    assert data.attribute("a+b+c").parts == ("a+b", "c")
    assert list(study(data, attributes=entries, **QUICK).attribute.values) == [a.name for a in data.attributes]


def test_bins_of_the_scenes_change_the_fingerprint():
    plain, cut = load("scenes", ["scale"], size=16), load("scenes", ["scale:bins=4"], size=16)
    assert len(cut.attribute("scale").values) == 4
    assert plain.fingerprint != cut.fingerprint
    assert torch.equal(cut.labels["scale"], plain.labels["scale"] // 2)
