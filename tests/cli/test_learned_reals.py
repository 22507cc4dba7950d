"""Training on real-valued attributes and studies of such a network, as a user runs them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from sigmascope.cli import main
from sigmascope.studies.reading import read_study

SMALL = ["--network", "mlp", "--width", "16", "--depth", "1", "--batch", "64", "--warmup", "5", "--sigma-max", "40"]
STEPS = ["--steps", "60"]
STUDY = ["--draws", "64", "--levels", "6", "--budget", "6000"]
ENTRIES = "kind,x:resolution=0.2:unit=mm,angle:resolution=20:period=360"


def run(*args: object) -> int:
    return main([str(a) for a in args])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng, n = np.random.default_rng(0), 600
    kind, x, angle = rng.integers(0, 2, n), rng.normal(size=n), rng.uniform(0, 360, n)
    v = 0.2 * rng.normal(size=(n, 4))
    v[:, 0] += x
    v[:, 1] += np.cos(np.deg2rad(angle))
    v[:, 2] += np.sin(np.deg2rad(angle))
    v[:, 3] += 2 * (kind - 0.5)
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, images=v.astype(np.float32), kind=kind, x=x, angle=angle)
    return path


@pytest.fixture(scope="module")
def model(path, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "mixed"
    assert run("train", path, "--attributes", ENTRIES, "--out", out, *SMALL, *STEPS) == 0
    return out


@pytest.fixture(scope="module")
def folder(path, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "mixed"
    estimators = "score_gap,mmse_gap,filter,posterior,own_path"
    assert run("study", path, "--model", model, "--out", out, *STUDY, "--estimators", estimators) == 0
    return out


def test_the_card_says_how_the_data_are_read(model):
    card = json.loads((model / "model.json").read_text())["card"]
    assert card["attributes"] == ENTRIES.split(",")
    assert [(a["name"], a["resolution"], a["period"], a["unit"]) for a in card["reals"]] == [
        ("x", 0.2, None, "mm"), ("angle", 20.0, 360.0, ""),
    ]  # fmt: skip


def test_a_study_holds_gaps_and_the_exact_filter_of_numbers(folder):
    results = read_study(folder / "results.nc", "")
    assert list(results.attribute.values) == ["kind", "x", "angle"]
    reals = ["x", "angle"]
    for name in ("score_gap", "mmse_gap", "posterior"):
        assert np.isfinite(results.information.sel(estimator=name)).all()
    for name in ("filter", "bound"):
        assert np.isnan(results.information.sel(estimator=name, attribute=reals)).all()
        assert np.isfinite(results.information.sel(estimator=name, attribute="kind")).all()
    assert np.isnan(results.path_information.sel(attribute=reals)).all()
    assert np.isfinite(results.path_information.sel(attribute="kind")).all()
    assert np.isfinite(results.chain_residual).all()
    assert list(results.precision_unit.values) == ["", "mm", ""]
    assert (results.precision.sel(attribute=reals).isel(sigma=slice(3)) > 0).all()
    # The ceiling is that of all items; the draws of the exact curve end near it.
    limit = results.information.sel(estimator="posterior", attribute=reals).isel(sigma=-1)
    error = results.stderr.sel(estimator="posterior", attribute=reals).isel(sigma=-1)
    assert (abs(limit - results.ceiling.sel(attribute=reals)) < 4 * error + 0.1).all()
    assert results.attrs["main_estimator"] == "score_gap"
    assert {"null_score_gap", "null_number_score_gap"} <= set(results.data_vars)
    assert "cannot measure a real-valued attribute: x, angle is measured by" in results.attrs["data_words"]
    for variable in results.data_vars.values():
        assert variable.attrs["description"]


def test_the_page_and_the_tables_have_them(folder):
    page = (folder / "report.html").read_text()
    assert "numbers of a real-valued attribute in random order" in page
    assert "A + r N" in page
    assert ">nan" not in page.lower()
    assert "angle" in (folder / "onset.csv").read_text()


def test_a_repeated_study_and_one_on_the_same_draws(path, model, folder, tmp_path, capsys):
    again = tmp_path / "again"
    assert run("study", path, "--model", model, "--out", again, "--draws", "64", "--levels", "6", "--like", folder) == 0
    first, second = (read_study(f / "results.nc", "") for f in (folder, again))
    gaps = [x.information.sel(estimator="score_gap").values for x in (first, second)]
    assert np.allclose(*gaps, rtol=1e-6, atol=1e-9)
    assert run("compare", folder, again, "--out", tmp_path / "both") == 0
    capsys.readouterr()
    assert run("advise", folder, "--keep", "x", "--redraw", "kind") == 0
    words = capsys.readouterr().out
    assert "x" in words
    assert "nan" not in words.lower()


def test_numbers_alone(path, tmp_path, capsys):
    out = tmp_path / "model"
    assert run("train", path, "--attributes", "x:resolution=0.2", "--out", out, *SMALL, *STEPS) == 0
    assert run("study", path, "--model", out, "--out", tmp_path / "study", *STUDY) == 0
    results = read_study(tmp_path / "study" / "results.nc", "")
    assert list(results.attribute.values) == ["x"]
    assert sorted(results.estimator.values) == ["mmse_gap", "score_gap"]
    assert run("study", path, "--model", out, "--out", tmp_path / "bad", *STUDY, "--estimators", "filter") == 2
    assert "add score_gap" in capsys.readouterr().err
    assert run("advise", tmp_path / "study", "--keep", "x") == 0
    assert run("study", path, "--model", out, "--dry-run", *STUDY) == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("x:resolution=0.1", "trained with resolution 0.2 of x: write x"),
        ("angle:resolution=20", "trained with resolution 20 and period 360 of angle: write angle"),
        ("kind:resolution=1", "the model has no real-valued attribute 'kind'"),
    ],
)
def test_another_resolution_is_refused(path, model, entry, message, capsys):
    assert run("study", path, "--model", model, "--attributes", entry, "--out", model / "no", *STUDY) == 2
    assert message in capsys.readouterr().err


def test_a_subset_of_the_attributes(path, model, tmp_path):
    out = tmp_path / "some"
    entries = "x,angle:resolution=20:period=360"
    assert run("study", path, "--model", model, "--attributes", entries, "--out", out, *STUDY) == 0
    results = xr.load_dataset(out / "results.nc")
    assert list(results.attribute.values) == ["x", "angle"]


def test_a_card_that_was_changed_is_refused(path, model, tmp_path, capsys):
    import shutil

    from sigmascope.learn.neural import NeuralDenoiser

    for k, reals in enumerate(([], [{"name": "x"}], [{"name": "x", "resolution": -1, "columns": ["x"]}], "x", [1])):
        changed = tmp_path / f"m{k}"
        shutil.copytree(model, changed)
        network = NeuralDenoiser.load(changed)
        network.card["reals"] = reals
        network.save(changed / "model.safetensors")
        assert run("study", path, "--model", changed, "--out", tmp_path / "no", *STUDY) == 2
        assert "train it again" in capsys.readouterr().err


def test_an_interrupted_training_ends_with_the_same_losses(path, tmp_path, monkeypatch):
    """The noise of the resolution is that of the step, whenever the training was stopped."""
    from sigmascope.learn.training import Trainer

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--attributes", ENTRIES, *SMALL, "--steps", "24", "--checkpoint-seconds", "0"]
    assert run("train", path, "--out", whole, *options) == 0
    step = Trainer.step

    def stopped(self):
        if self.done == 11:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", stopped)
    assert run("train", path, "--out", parts, *options) != 0
    monkeypatch.setattr(Trainer, "step", step)
    assert run("train", path, "--out", parts, *options) == 0
    assert (whole / "losses-denoiser.csv").read_text() == (parts / "losses-denoiser.csv").read_text()
