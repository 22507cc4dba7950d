"""A study of a model fits its network calls to the minutes that it may take, and a repetition follows the same plan."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import xarray as xr

import sigmascope
from dressing import COLOURS, Exact, pictures
from sigmascope.adapters import Foreign, Unit
from sigmascope.cli import main
from sigmascope.core import Attribute, Denoiser
from sigmascope.noise import Discrete
from sigmascope.studies import planning
from sigmascope.studies.spec import read_spec

FUNCTION = """
from pathlib import Path
from dressing import COLOURS, Exact
from sigmascope import Attribute, Foreign, Unit
from sigmascope.noise import Discrete

PATH = Path({path!r})

def build():
    colour = Attribute("colour", COLOURS)
    return Foreign(Exact(PATH, COLOURS), (3, 4, 4), Discrete.linear(), "epsilon", attribute=colour, null=3,
                   unit=Unit(2.0, -1.0))

def free():
    return Foreign(Exact(PATH), (3, 4, 4), Discrete.linear(), "epsilon", unit=Unit(2.0, -1.0))
"""
RANGE = ["--sigma-max", "8", "--sigma-min", ".06"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    path = pictures(tmp_path, 200)
    (tmp_path / "planned_models.py").write_text(FUNCTION.format(path=str(path)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("planned_models", None)
    yield
    sys.modules.pop("planned_models", None)


def run(*args) -> int:
    return main([str(a) for a in args])


def study(*options, model="planned_models:build"):
    return run("study", "pictures.npz", "--attributes", "colour", "--model", model, *RANGE, *options)


def at(rate):
    return lambda model: rate


def test_a_slow_network_gets_fewer_draws_and_calls(tmp_path, monkeypatch, capsys):
    """Draws are cut so that the other estimators take six tenths of the time; the gaps get the rest."""
    monkeypatch.setattr(planning, "rows_per_second", at(40.0))
    assert study("--minutes", 5, "--levels", 6, "--estimators", "score_gap,filter", "--out", "a") == 0
    sampling, time = read_spec(tmp_path / "a" / "spec.toml").sampling, read_spec(tmp_path / "a" / "spec.toml").time
    calls = 5 * 60 * 40
    assert 32 <= sampling.draws < 256
    assert sampling.levels == 6
    assert time.minutes == 5
    results = xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf")
    assert results.attrs["network_calls"] <= time.most_calls < calls
    capsys.readouterr()
    # The same command goes on with its plan, whatever the speed is now.
    monkeypatch.setattr(planning, "rows_per_second", at(3000.0))
    (tmp_path / "a" / "results.nc").unlink()
    (tmp_path / "a" / "report.html").unlink()
    assert study("--minutes", 5, "--levels", 6, "--estimators", "score_gap,filter", "--out", "a") == 0
    again = xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf")
    assert np.array_equal(again.information.values, results.information.values)
    # So does the specification, on any machine.
    spec = ["--spec", tmp_path / "a" / "spec.toml", "--model", "planned_models:build"]
    assert run("study", *spec, "--out", "b") == 0
    other = xr.load_dataset(tmp_path / "b" / "results.nc", engine="h5netcdf")
    assert np.array_equal(other.information.values, results.information.values)


def test_what_was_asked_for_stays(tmp_path, monkeypatch):
    """Draws that were passed, a budget, a target, and --minutes 0."""
    monkeypatch.setattr(planning, "rows_per_second", at(10.0))
    options = ["--levels", 6, "--estimators", "score_gap,filter"]
    assert study("--minutes", 1, "--draws", 64, *options, "--out", "a") == 0
    assert read_spec(tmp_path / "a" / "spec.toml").sampling.draws == 64
    assert study("--draws", 16, "--budget", 6000, *options, "--out", "b") == 0
    assert read_spec(tmp_path / "b" / "spec.toml").time.most_calls == 0
    assert study("--draws", 16, "--minutes", 0, "--target-stderr", 0.2, *options, "--out", "c") == 0
    assert read_spec(tmp_path / "c" / "spec.toml").time.most_calls == 0


def test_a_fast_network_is_not_cut(tmp_path, monkeypatch):
    """The target of the standard error ends the gaps, not the time."""
    monkeypatch.setattr(planning, "rows_per_second", at(1e9))
    options = ["--draws", 16, "--levels", 6, "--estimators", "score_gap,filter"]
    assert study(*options, "--out", "a") == 0
    results = xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf")
    assert float(results.stderr.sel(estimator="score_gap").max()) <= 0.0201


def test_forks_are_planned_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(planning, "rows_per_second", at(100.0))
    options = ["--forks", 4, "--steps", 8, "--estimators", "forks", "--minutes", 5, "--dry-run"]
    assert study(*options, model="planned_models:free") == 0
    printed = capsys.readouterr().out
    draws, levels = (int(printed.split(f"\n{name} = ")[1].split("\n")[0]) for name in ("draws", "levels"))
    assert draws == 32
    assert 16 <= levels < 40
    assert run("study", "scenes", "--minutes", 3, "--dry-run") == 2
    assert "--minutes 3" in capsys.readouterr().err


def test_the_speed_is_that_of_the_network(monkeypatch):
    """By a clock that only the network moves: a millisecond a row."""
    now = [0.0]
    monkeypatch.setattr(planning.time, "perf_counter", lambda: now[0])

    class Slow(Denoiser):
        event, attributes = (2,), ()
        per_row = 1e-3

        def forward(self, y, sigma, known=None):
            now[0] += self.per_row * len(y)
            return y

    slow = Slow()
    assert planning.rows_per_second(slow) == pytest.approx(1000)
    slow.per_row = 0.5  # then it is not asked for many rows
    before = now[0]
    assert planning.rows_per_second(slow) == pytest.approx(2)
    assert now[0] - before < 10


def test_a_classifier_is_trained_for_the_study(tmp_path, capsys):
    """Its bound is beside the gaps, measured on items that it was not trained on; an interruption changes nothing."""
    options = ["--draws", 16, "--levels", 6, "--budget", 6000, "--classifier-steps", 40]
    assert study(*options, "--out", "a") == 0
    results = xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf")
    assert "classifier" in results.estimator.values
    assert results.attrs["classifier_steps"] == 40
    assert results.attrs["held_out"] == 1
    capsys.readouterr()
    assert (
        study("--draws", 16, "--levels", 6, "--budget", 6000, "--estimators", "score_gap,classifier", "--out", "b") == 2
    )
    assert "add --classifier-steps" in capsys.readouterr().err


def test_an_interrupted_training_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    from sigmascope.information.jobs.training import ClassifierTraining

    sampling = sigmascope.Sampling(draws=16, levels=4, sigma_max=8.0, sigma_min=0.06)
    options = [sigmascope.GapOptions(budget=6000), sigmascope.ClassifierOptions(classifier_steps=24)]
    network = Foreign(
        Exact(tmp_path / "pictures.npz", COLOURS), (3, 4, 4), Discrete.linear(), "epsilon",
        attribute=Attribute("colour", COLOURS), null=3, unit=Unit(2.0, -1.0),
    )  # fmt: skip

    def whole(out):
        return sigmascope.study(
            "pictures.npz", network, attributes="colour", estimators="classifier", sampling=sampling, options=options,
            out=out,
        )  # fmt: skip

    first, step, steps = whole(tmp_path / "a"), ClassifierTraining.step, [0]
    monkeypatch.setattr("sigmascope.studies.run.CHECKPOINT_SECONDS", 0.0)

    def stopping(self):
        steps[0] += 1
        if steps[0] == 3:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(ClassifierTraining, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        whole(tmp_path / "b")
    monkeypatch.setattr(ClassifierTraining, "step", step)
    second = whole(tmp_path / "b")
    assert np.array_equal(first.information.values, second.information.values)


def test_a_classifier_needs_items(tmp_path, capsys):
    pictures(tmp_path, 40)
    assert study("--draws", 16, "--levels", 4, "--budget", 6000, "--classifier-steps", 4, "--out", "a") == 2
    assert "leave out --classifier-steps" in capsys.readouterr().err


def test_an_attribute_without_a_prior_is_even():
    assert torch.equal(Attribute("colour", COLOURS).prior, torch.full((3,), 1 / 3, dtype=torch.float64))
