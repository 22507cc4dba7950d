"""An estimator and a subject made in this file alone go all the way: help, dry run, study, page, comparison."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

from problems import mixture, points, two_points
from sigmascope.cli import main
from sigmascope.core import Curve
from sigmascope.exact.gaussian import MixtureDenoiser
from sigmascope.information.estimator import CONDITIONAL, EXACT, Estimator, register, unregister
from sigmascope.information.laws import measure, problem_of
from sigmascope.noise import sigma_grid
from sigmascope.studies.spec import ExactSpec
from sigmascope.studies.subjects import base
from sigmascope.studies.subjects.exact import ExactSubject


class NearestMean(Estimator):
    """A lower bound by the class means of the draws' clean values: no job of its own, and none of others."""

    name, subjects, kind, columns = "nearest_mean", (EXACT, CONDITIONAL), "lower bound", "tested"
    words = "nearest_mean: which class mean is nearest. A toy."
    help = "a toy"

    def refusal(self, subject):
        return ""

    def jobs(self, problem):
        return {}

    def cost(self, problem):
        return "nearest", "next to nothing"

    def curves(self, problem, done):
        draws = getattr(problem, "test", problem.draws)
        v = draws.v.double().flatten(1)
        found = []
        for a in problem.attributes:
            own = draws.labels[a.name]
            means = torch.stack([v[own == k].mean(0) if (own == k).any() else v.mean(0) for k in range(len(a.values))])
            gains = []
            for sigma in problem.sigma.tolist():
                y = v + sigma * draws.noise.double().flatten(1)
                spread = float(((v - means[own]) ** 2).mean()) + sigma**2
                log_q = a.prior.log() - torch.cdist(y, means) ** 2 / (2 * spread)
                log_q = torch.logaddexp(log_q.log_softmax(1) + np.log(0.99), a.prior.log() + np.log(0.01))
                gains.append((log_q - a.prior.log())[torch.arange(len(own)), own].numpy())
            found.append(
                Curve.of_draws(a.name, self.name, problem.sigma, np.stack(gains), a.entropy, kind="lower bound")
            )
        return found


@pytest.fixture
def toy():
    estimator = register(NearestMean())
    yield estimator
    unregister(estimator)


@pytest.fixture
def digits(tmp_path):
    rng = np.random.default_rng(0)
    digit = rng.integers(0, 3, 60)
    images = rng.normal(0, 0.1, (60, 1, 4, 4)) + digit[:, None, None, None]
    np.savez(tmp_path / "digits.npz", images=images.astype(np.float32), digit=digit)
    return tmp_path / "digits.npz"


def run(*arguments):
    return main([str(a) for a in arguments])


def test_an_estimator_goes_all_the_way(toy, digits, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("study", "--help")
    assert "nearest_mean" in capsys.readouterr().out
    how = ["--draws", "16", "--levels", "5", "--sigma-max", "9", "--estimators", "posterior,nearest_mean"]
    assert run("study", digits, *how, "--dry-run") == 0
    assert "nearest_mean" in capsys.readouterr().out
    for out, seed in (("one", 0), ("two", 1)):
        assert run("study", digits, *how, "--seed", seed, "--out", tmp_path / out) == 0
    results = xr.load_dataset(tmp_path / "one" / "results.nc", engine="h5netcdf")
    assert list(results.estimator.values) == ["posterior", "nearest_mean"]
    assert str(results.kind.sel(estimator="nearest_mean").values) == "lower bound"
    assert np.isfinite(results.information.values).all()
    page = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "nearest_mean: which class mean is nearest. A toy." in page
    two = ["compare", tmp_path / "one", tmp_path / "two", "--estimator", "nearest_mean", "--out", tmp_path / "compared"]
    assert run(*two) == 0
    assert json.loads((tmp_path / "compared" / "comparison.json").read_text(encoding="utf-8"))
    assert run("study", digits, "--draws", "16", "--levels", "5", "--estimators", "posterior,mean", "--out", "x") == 2
    assert "nearest_mean" in capsys.readouterr().err


def test_an_estimator_measures_a_model(toy, tmp_path, capsys):
    how = ["--draws", "32", "--levels", "4", "--budget", "2000", "--attributes", "shape"]
    how += ["--estimators", "score_gap,nearest_mean", "--model", "bundled"]
    assert run("study", "scenes", *how, "--dry-run") == 0
    assert "nearest     next to nothing" in capsys.readouterr().out
    assert run("study", "scenes", *how, "--out", tmp_path / "out") == 0
    results = xr.load_dataset(tmp_path / "out" / "results.nc", engine="h5netcdf")
    assert set(results.estimator.values) >= {"score_gap", "nearest_mean"}
    assert NearestMean.words in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_an_estimator_meets_the_laws(toy):
    """A lower bound lies below the truth, and it is one of what is known: it rises as noise falls."""
    for make, name in ((lambda: points(two_points()), "sign"), (mixture, "side")):
        problem, sigma = make(), sigma_grid(30.0, 0.3, 12)
        denoiser = problem.denoiser()
        (curve,) = measure(problem_of(denoiser, denoiser.draw(4000, 1), sigma, [name], [toy.name]))
        truth = np.array([problem.information(name, s) for s in sigma])
        assert np.all(curve.value < truth + 4 * curve.error)
        assert curve.value[-1] > 0.5 * truth[-1]


def test_a_name_is_given_once(toy):
    with pytest.raises(ValueError, match="registered for exact law already"):
        register(NearestMean())


class Coin:
    """A law that no file holds: two Gaussians on a line, with draws of its own."""

    name, words, unit, fingerprint, event, size = "coin", "a coin under noise", "its own unit", "coin", (1,), 1

    def __init__(self):
        problem = mixture()
        self.denoiser: MixtureDenoiser = problem.denoiser()
        self.attributes = self.denoiser.attributes

    def draw(self, n, seed):
        return self.denoiser.draw(n, seed)

    def sample(self, n, generator):
        return self.denoiser.draw(n, 0).v, {}


@pytest.fixture
def coin():
    def open_coin(spec, out, progress):
        data = Coin()
        names = spec.inputs.attributes or tuple(a.name for a in data.attributes)
        return ExactSubject(data, data.denoiser, names), base.filled(spec, data, names)

    opening = base.register(
        base.Opening("a coin", lambda spec: isinstance(spec, ExactSpec) and spec.inputs.data == "coin", open_coin)
    )
    yield opening
    base.unregister(opening)


def test_a_subject_goes_all_the_way(coin, toy, tmp_path, capsys):
    how = ["study", "coin", "--draws", "256", "--levels", "12", "--sigma-min", "0.1", "--sigma-max", "60"]
    how += ["--estimators", "posterior,score_gap,filter,nearest_mean"]
    assert run(*how, "--dry-run") == 0
    assert "a coin under noise" in capsys.readouterr().out
    for out in ("one", "two"):
        assert run(*how, "--out", tmp_path / out, *(("--seed", 1) if out == "two" else ())) == 0
    results = xr.load_dataset(tmp_path / "one" / "results.nc", engine="h5netcdf")
    problem = mixture()
    for name in map(str, results.attribute.values):
        truth = np.array([problem.information(name, s) for s in results.sigma.values])
        one = results.sel(attribute=name, estimator="posterior")
        assert np.all(np.abs(one.information.values - truth) < 4 * one.stderr.values + 0.01)
    assert "coin" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert run("compare", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "compared") == 0
    assert "side" in capsys.readouterr().out
