"""A study by forks that trains a classifier: measured on items that it has not seen, and a check of the forks."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import xarray as xr

import sigmascope
from dressing import Exact, pictures
from sigmascope.adapters import Foreign, Unit
from sigmascope.adapters.models import load_model
from sigmascope.cli import main
from sigmascope.information.estimators.bounds import ClassifierOfSampler
from sigmascope.noise import Discrete
from sigmascope.studies.options import changed
from sigmascope.studies.spec import spec_of
from sigmascope.studies.subjects.opened import Opened
from sigmascope.studies.subjects.sampler import open_sampler

OPTIONS = {"draws": 24, "levels": 5, "sigma_max": 8.0, "sigma_min": 0.06, "forks": 6, "steps": 6}
LABELLERS = """
import torch

def at_random(images):
    g = torch.Generator().manual_seed(int(images.double().sum() * 1e6) % 2**31)
    return torch.randint(0, 3, (len(images),), generator=g)

def right(images):
    return torch.tensor([2, 1, 0])[images.mean((2, 3)).argmax(1)]  # blue, green, red is their order
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    pictures(tmp_path, 300)
    (tmp_path / "labellers.py").write_text(LABELLERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("labellers", None)
    yield
    sys.modules.pop("labellers", None)


def network():
    return Foreign(Exact("pictures.npz"), (3, 4, 4), Discrete.linear(), "epsilon", unit=Unit(2.0, -1.0))


def opened(**options):
    model = load_model(network())
    spec = spec_of(data="pictures.npz", attributes="colour", model="m:f", classifier_steps=8, **OPTIONS, **options)
    return open_sampler(spec, Opened(model), False, None)


def study(steps, estimators="forks,classifier", labeller="", **sampling):
    return sigmascope.study(
        "pictures.npz", network(), attributes="colour", estimators=estimators,
        sampling=sigmascope.Sampling(**({k: v for k, v in OPTIONS.items() if k not in ("forks", "steps")} | sampling)),
        options=[sigmascope.ClassifierOptions(steps), sigmascope.ForkOptions(6, 6, labeller)],
    )  # fmt: skip


def test_what_is_measured_was_not_seen_in_training():
    subject, spec = opened()
    problem, kept_out = subject.problem(spec), torch.from_numpy(subject.trainer.source.kept_out)
    assert 55 <= int(kept_out.sum()) <= 65
    assert kept_out[problem.draws.items].all()
    assert kept_out[problem.fit.items].all()
    assert not kept_out[problem.train().items].any()
    assert not torch.equal(problem.fit.items, problem.draws.items[: len(problem.fit)])
    assert spec.estimators[-1] == "classifier"


def test_its_bound_lies_between_nothing_and_everything(capsys):
    r = study(120, draws=64)
    bound, error = (r[k].sel(estimator="classifier", attribute="colour") for k in ("information", "stderr"))
    assert float(bound[0]) < 0.1
    assert float(bound[-1]) > 0.8 * np.log(3)
    assert float((bound - 3 * error)[-1]) < float(r.ceiling[0])
    assert r.attrs["classifier_steps"] == 120
    # The exact posterior of all items knows more than any classifier of some of them.
    truth = sigmascope.study(
        "pictures.npz", attributes="colour", estimators="posterior",
        sampling=sigmascope.Sampling(draws=512, levels=5, sigma_max=8.0, sigma_min=0.06),
    )  # fmt: skip
    exact, off = (truth[k].sel(estimator="posterior", attribute="colour") for k in ("information", "stderr"))
    assert (bound.values - exact.values < 3 * np.hypot(error, off) + 0.01).all()


@pytest.mark.parametrize(("labeller", "trusted"), [("at_random", False), ("right", True)])
def test_it_marks_forks_that_the_data_contradict(labeller, trusted):
    """Labels at random make the forks say that nothing is ever decided."""
    r = study(120, labeller=f"labellers:{labeller}", draws=64)
    last = r.trusted.sel(estimator="forks", attribute="colour").astype(bool)[-1]
    assert bool(last) == trusted
    if not trusted:
        assert "lower bound that holds for any network" in str(r.reason.sel(estimator="forks").values[0, -1])
        assert r.attrs["main_estimator"] == "classifier"
        assert not bool(study(0, "forks", f"labellers:{labeller}").attrs["main_estimator"] == "classifier")


def test_its_intervals_cover():
    """Those of 96 sets of draws, each with a temperature of its own, around the mean of many draws."""
    covered, errors = 0, []
    subject, spec = opened()
    while subject.trainer.done < 8:
        subject.trainer.step()
    many = 4000
    whole = subject.problem(changed(spec, draws=many, seed=10_000))
    reference = ClassifierOfSampler()
    job = reference.jobs(whole)["classifier"]
    finish(job)
    for seed in range(96):
        problem = subject.problem(changed(spec, draws=48, seed=seed))
        done = reference.jobs(problem)
        finish(done["classifier"])
        (curve,) = reference.curves(problem, done)
        truth = truth_of(problem, done["classifier"], whole, job)
        z = (curve.value[-1] - truth[-1]) / curve.stderr[-1]
        covered += abs(z) < 1.96
        errors.append(z)
    assert covered >= 84, covered  # 96 × .95 less three standard errors of a share
    assert np.std(errors) > 0.7
    assert sum(abs(z) < 0.98 for z in errors) < 84  # half of the interval is not enough


def finish(job):
    while not job.done:
        job.step()


def truth_of(problem, job, whole, of_whole):
    """The mean, over many draws, of the bound with the temperature of the few."""
    from sigmascope.information.likelihood import tempered

    a, n, m = problem.attributes[0], len(problem.draws), len(whole.draws)
    q, all_q = job.log_q(a.name), of_whole.log_q(a.name)
    own = whole.draws.labels[a.name]
    return tempered(a, problem.sigma, q[:, n:], problem.fit.labels[a.name], all_q[:, :m], own).value


def test_what_goes_with_it_is_said(tmp_path, capsys):
    module = f"import sys\nsys.path.insert(0, {str(sys.path[0])!r})\n"
    text = "from dressing import Exact\nfrom sigmascope import Foreign, Unit\nfrom sigmascope.noise import Discrete\n"
    build = (
        "def free():\n    return Foreign(Exact('pictures.npz'), (3, 4, 4), Discrete.linear(), 'epsilon',"
        " unit=Unit(2.0, -1.0))\n"
    )
    (tmp_path / "free_model.py").write_text(module + text + build)
    command = ["study", "pictures.npz", "--attributes", "colour", "--model", "free_model:free", "--out", "o"]
    command += [
        "--levels",
        "4",
        "--sigma-max",
        "8",
        "--sigma-min",
        ".06",
        "--draws",
        "8",
        "--forks",
        "4",
        "--steps",
        "4",
    ]
    assert main([*command, "--estimators", "forks", "--classifier-steps", "9"]) == 2
    assert "add classifier to --estimators, or leave out --classifier-steps" in capsys.readouterr().err
    assert main([*command, "--estimators", "forks,classifier"]) == 2
    assert "add --classifier-steps 2000, or leave classifier out of --estimators" in capsys.readouterr().err
    made = ["study", "generated", "--labeller", "labellers:right", *command[4:], "--classifier-steps", "9"]
    assert main(made) == 2
    assert "--classifier-steps 9 is an option of labelled data: leave it out" in capsys.readouterr().err
    assert main([*command, "--classifier-steps", "9", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "training    9 steps of the classifier" in printed
    assert "classifier  48 calls" in printed
    assert main([*command, "--classifier-steps", "9"]) == 0
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "Classifier: a lower bound by a classifier of noisy images" in page
    with xr.open_dataset("o/results.nc", engine="h5netcdf") as r:
        assert list(r.estimator.values).count("classifier") == 1
