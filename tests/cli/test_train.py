"""Training and studies of learned models, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from asked import study
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.information.joining import Joining

QUICK = ["--network", "mlp", "--width", "48", "--depth", "1", "--batch", "128", "--warmup", "20", "--sigma-max", "40"]


def run(*args: str) -> int:
    return main([str(a) for a in args])


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """2,000 points in 6 dimensions: around one of four centres, two attributes of which one is read off easily."""
    rng = np.random.default_rng(0)
    side, slot = rng.integers(0, 2, 2000), rng.integers(0, 3, 2000)
    v = 0.3 * rng.normal(size=(2000, 6))
    v[:, 0] += 4.0 * (side - 0.5)
    v[np.arange(2000), 1 + slot] += 1.0
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, images=v.astype(np.float32), side=side, slot=slot)
    return path


@pytest.fixture(scope="module")
def model(blobs, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "blobs"
    options = [*QUICK, "--steps", "1200", "--classifier-steps", "400", "--learning-rate", "3e-3"]
    assert run("train", blobs, "--out", out, *options) == 0
    return out


def test_files_of_a_training(model, blobs, capsys):
    found = {str(p.relative_to(model)) for p in model.rglob("*") if p.is_file()}
    assert found == {
        "train.toml", "model.json", "model.safetensors", "classifier.safetensors", "losses-denoiser.csv",
        "losses-denoiser.png", "losses-classifier.csv", "losses-classifier.png",
    }  # fmt: skip
    card = json.loads((model / "model.json").read_text())["card"]
    assert card["finished"]
    assert card["steps"] == 1200
    before = (model / "model.safetensors").read_bytes()
    options = [*QUICK, "--steps", "1200", "--classifier-steps", "400", "--learning-rate", "3e-3"]
    assert run("train", blobs, "--out", model, *options) == 0
    assert "nothing was done" in capsys.readouterr().err
    assert (model / "model.safetensors").read_bytes() == before
    lines = (model / "losses-denoiser.csv").read_text().splitlines()
    first, last = (np.array([float(x or "nan") for x in line.split(",")]) for line in (lines[1], lines[-1]))
    column = lines[0].split(",").index("held_out_conditional 1e+0")
    assert last[column] < 0.5 * first[column]


def test_another_training_in_the_folder(model, blobs, capsys):
    assert run("train", blobs, "--out", model, *QUICK, "--steps", "7") == 2
    assert "it holds another training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "x"], "no data are named"),
        (["scenes"], "pass --out FOLDER"),
        (["scenes", "--out", "x", "--network", "cnn"], "expected auto, unet, mlp"),
        (["scenes", "--out", "x", "--steps", "0"], "at least 1 is needed"),
        (["scenes", "--out", "x", "--sigma-min", "9", "--sigma-max", "3"], "sigma_min must be the smaller"),
        (["nowhere.npz", "--out", "x"], "nowhere.npz"),
        (["scenes", "--out", "x", "--classifier-steps", "-1"], "must not be negative"),
    ],
)
def test_what_cannot_be_trained(options, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", *options) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_killed_while_it_writes_checkpoints(blobs, tmp_path):
    """SIGKILL at once after a checkpoint begins; the same command ends with the losses of an unbroken run."""
    options = [*QUICK, "--steps", "120", "--classifier-steps", "20", "--checkpoint-seconds", "0"]
    command = [sys.executable, "-m", "sigmascope", "train", str(blobs), *options, "--out"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    broken = tmp_path / "broken"
    for kills in range(2):  # a checkpoint after every step: a kill at any time is likely to meet one
        child = subprocess.Popen([*command, str(broken)], **quiet)
        deadline = time.monotonic() + 120
        steps = -1
        while steps < 30 * (kills + 1):
            assert time.monotonic() < deadline
            assert child.poll() is None
            parts = list(broken.glob(".part*")) if broken.exists() else []
            card = broken / "model.json"
            if parts and card.exists():
                steps = json.loads(card.read_text())["card"]["steps"]
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert (broken / "training.safetensors").exists()
    subprocess.run([*command, str(broken)], check=True, **quiet)
    subprocess.run([*command, str(tmp_path / "whole")], check=True, **quiet)
    for name in ("losses-denoiser.csv", "losses-classifier.csv"):
        assert (broken / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert not list(broken.glob(".part*"))


@pytest.fixture(scope="module")
def learned(model, blobs, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "learned"
    options = ["--draws", "256", "--levels", "16", "--sigma-min", "0.05", "--target-stderr", "0.02"]
    every = "score_gap,mmse_gap,filter,likelihood,classifier,posterior"
    assert run("study", blobs, "--model", model, "--out", out, *options, "--estimators", every) == 0
    return out


def test_time_of_a_training_that_was_stopped(blobs, tmp_path, monkeypatch):
    """Stopped between classifier and denoiser: the card counts both."""
    from sigmascope.learn.classifying import ClassifierTrainer
    from sigmascope.learn.training import Trainer

    command = ["train", blobs, "--out", tmp_path / "net", *QUICK, "--steps", "5", "--classifier-steps", "30"]
    step = ClassifierTrainer.step
    with monkeypatch.context() as m:
        m.setattr(ClassifierTrainer, "step", lambda self: (time.sleep(0.2), step(self))[1])
        m.setattr(Trainer, "step", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(*command) == 130
    assert run(*command) == 0
    card = json.loads((tmp_path / "net" / "model.json").read_text())["card"]
    assert card["seconds"] > 30 * 0.2


def test_study_of_a_model(learned):
    r = xr.load_dataset(learned / "results.nc", engine="h5netcdf")
    assert set(r.estimator.values) == {
        "score_gap", "mmse_gap", "filter", "likelihood", "classifier", "bound", "posterior", "heldout",
    }  # fmt: skip
    assert r.attrs["held_out"] == 1
    exact = r.information.sel(estimator="posterior")
    for e in ("filter", "likelihood", "classifier", "bound", "heldout"):
        apart = r.information.sel(estimator=e) - exact
        error = np.hypot(r.stderr.sel(estimator=e), r.stderr.sel(estimator="posterior"))
        assert float((apart / error.clip(1e-3)).max()) < 4, e
    assert float(np.abs(r.information.sel(estimator="score_gap") - exact).sel(attribute="side").max()) < 0.07
    assert float(r.information.sel(estimator="bound", attribute="side")[-1]) > 0.95 * np.log(2)
    assert float(r.stderr.sel(estimator="score_gap").max()) < 0.03
    assert bool(r.trusted.sel(estimator="score_gap", attribute="side", sigma=slice(99.0, 0.12)).all())
    assert abs(float(r.null_bound.max())) < 0.05
    assert (learned / "report.html").exists()
    page = (learned / "report.html").read_text(encoding="utf-8")
    assert "What to believe" in page
    assert "Does the network denoise?" in page
    assert r.attrs["wrapping"] == r.attrs["main_reason"] == ""
    assert float((r.loss_over_linear / r.loss_over_linear_stderr).max()) < 3
    assert {p.name for p in (learned / "figures").glob("*.png")} == {
        "information.png", "onset.png", "calibration.png", "strip.png", "bounds.png", "losses.png",
    }  # fmt: skip


def test_a_classifier_makes_curves_sharper(learned, model, blobs, monkeypatch):
    """The same draws without the classifier's many cheap ones: the same curves, with much wider errors."""

    class Blind(Joining):
        def __init__(self, *others):
            super().__init__(*others)
            self._known, self.others = {}, 0

    monkeypatch.setattr("sigmascope.studies.subjects.model.Joining", Blind)
    r = study(str(blobs), model=model, draws=256, levels=16, sigma_min=0.05, budget=8000, estimators="filter,posterior")
    sharp = xr.load_dataset(learned / "results.nc", engine="h5netcdf")
    for e, times in (("posterior", 2.0), ("filter", 1.5)):
        known = sharp.information.sel(estimator="posterior") / sharp.ceiling
        partly = ((known > 0.2) & (known < 0.8)).values.ravel()
        one, two = (x.sel(estimator=e) for x in (sharp, r))
        ratio = two.stderr.values.ravel()[partly] / one.stderr.values.ravel()[partly]
        assert partly.sum() >= 6
        assert np.exp(np.log(ratio).mean()) > times, e
        apart = (two.information.values - one.information.values).ravel()[partly]
        assert np.abs(apart / two.stderr.values.ravel()[partly]).max() < 4, e


def test_a_finished_study_is_left_alone(learned, model, blobs, capsys):
    options = ["--draws", "256", "--levels", "16", "--sigma-min", "0.05", "--target-stderr", "0.02"]
    every = "score_gap,mmse_gap,filter,likelihood,classifier,posterior"
    assert run("study", blobs, "--model", model, "--out", learned, *options, "--estimators", every) == 0
    assert "nothing was done" in capsys.readouterr().err


def test_interrupted_study_of_a_model(model, blobs, tmp_path, monkeypatch):
    """Stopped in every kind of work, the same command comes to the same numbers."""
    from sigmascope.exact.finite.heldout import HeldOutPass
    from sigmascope.information.adaptive import GapJob
    from sigmascope.information.jobs.losses import LossJob
    from sigmascope.information.jobs.networks import ChainJob, ClassifierJob, ControlJob

    options = ["--draws", "32", "--levels", "8", "--budget", "6000", "--estimators", "score_gap,filter,classifier"]
    command = ["study", blobs, "--model", model, *options, "--out"]
    assert run(*command, tmp_path / "whole") == 0
    monkeypatch.setattr("sigmascope.studies.run.CHECKPOINT_SECONDS", 0.0)
    for kind in (LossJob, GapJob, ClassifierJob, HeldOutPass, ControlJob, ChainJob):  # in their order
        step, count = kind.step, []

        def stop(self, step=step, count=count):
            if len(count) == 1:
                raise KeyboardInterrupt
            count.append(1)
            step(self)

        monkeypatch.setattr(kind, "step", stop)
        assert run(*command, tmp_path / "broken") == 130
        monkeypatch.setattr(kind, "step", step)
    assert run(*command, tmp_path / "broken") == 0
    one, two = (xr.load_dataset(tmp_path / d / "results.nc", engine="h5netcdf") for d in ("whole", "broken"))
    for name in ("information", "stderr", "calibration", "chain_residual", "trusted", "loss", "loss_linear"):
        assert np.array_equal(one[name], two[name]), name


def test_the_same_draws_for_another_model(learned, model, blobs, tmp_path):
    """--like takes the draws of another study: the gaps of the same model are then the same numbers."""
    options = ["--draws", "64", "--levels", "16", "--sigma-min", "0.05", "--estimators", "score_gap"]
    assert run("study", blobs, "--model", model, "--like", learned, "--out", tmp_path / "b", *options) == 0
    one, two = (xr.load_dataset(d / "results.nc", engine="h5netcdf") for d in (learned, tmp_path / "b"))
    a, b = (r.information_per_draw.sel(estimator="score_gap").values for r in (one, two))
    assert np.allclose(a, b, atol=1e-9)


def test_many_bad_networks_never_exceed_the_truth(blobs, tmp_path):
    """Bounds of networks that are untrained, half trained or badly trained stay below the exact curve."""
    far = []
    for k, extra in enumerate(
        (
            ["--steps", "1"],
            ["--steps", "30"],
            ["--steps", "200", "--learning-rate", "0.03"],
            ["--steps", "100", "--average", "1", "--noise", "lognormal"],
            ["--steps", "150", "--width", "8"],
        )
    ):
        out = tmp_path / f"net{k}"
        assert run("train", blobs, "--out", out, *QUICK, "--classifier-steps", str(5 + 40 * k), *extra) == 0
        r = study(
            str(blobs), model=out, draws=128, levels=10, sigma_min=0.1, budget=4000,
            estimators="score_gap,filter,classifier,posterior",
        )  # fmt: skip
        exact = r.information_per_draw.sel(estimator="posterior")
        for e in ("filter", "classifier", "bound"):
            apart = r.information_per_draw.sel(estimator=e) - exact
            error = apart.std("draw", ddof=1) / apart.sizes["draw"] ** 0.5
            assert float((apart.mean("draw") / error.clip(0.003)).max()) < 4, (k, e)
        gap = r.information.sel(estimator="score_gap") - exact.mean("draw")
        far.append(float(np.abs(gap / r.ceiling).max()))
    assert max(far) > 0.3  # networks as bad as that


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "nowhere"], "holds no model.safetensors"),
        (["--budget", "100"], "--budget 100 is an option of a model"),
        (["--model", "MODEL", "--pairs"], "leave them out with --model"),
        (["--model", "MODEL", "--estimators", "forks"], "expected, for a model"),
        (["--model", "MODEL", "--attributes", "colour"], "is not conditional on 'colour'"),
        (["--model", "MODEL", "--budget", "9", "--target-stderr", "0.1"], "pass one of them"),
        (["--model", "MODEL", "--sigma-min", "50"], "no level of the study"),
        (["--model", "MODEL", "--like", "nowhere"], "cannot be read"),
    ],
)
def test_what_cannot_be_studied(options, said, blobs, model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [str(model) if x == "MODEL" else x for x in options]
    assert run("study", blobs, "--out", "x", *given) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_data_of_another_kind(model, tmp_path, blobs):
    held = np.load(blobs)
    np.savez(tmp_path / "other.npz", images=held["images"], side=held["side"] + 5, slot=held["slot"])
    with pytest.raises(InputError, match="are not those of the training"):
        study(str(tmp_path / "other.npz"), model=model)
    np.savez(tmp_path / "other.npz", images=held["images"][:, :5], side=held["side"], slot=held["slot"])
    with pytest.raises(InputError, match="the model has"):
        study(str(tmp_path / "other.npz"), model=model)


def test_data_that_are_not_those_of_the_training_have_no_split(model, tmp_path, blobs):
    held = np.load(blobs)
    np.savez(tmp_path / "other.npz", images=held["images"][::2], side=held["side"][::2], slot=held["slot"][::2])
    r = study(str(tmp_path / "other.npz"), model=model, draws=32, levels=6, budget=8000)
    assert r.attrs["held_out"] == 0


def test_a_hierarchy_is_learned(tmp_path):
    out, data = tmp_path / "tree", "hierarchy:v=4,m=2,s=2,L=2"
    assert run("train", data, "--out", out, *QUICK, "--steps", "60") == 0
    r = study(data, model=out, draws=32, levels=6, budget=8000)
    assert list(r.estimator.values) == ["filter", "bound", "score_gap", "mmse_gap"]


def test_dry_run_of_a_model(model, blobs, capsys, tmp_path):
    assert run("study", blobs, "--model", model, "--out", tmp_path / "a", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "items kept out of training" in printed
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_two_processes_learn_the_same(tmp_path, network):
    """Under torchrun each process does half of every batch; the losses are those of one process, but for rounding."""
    rng = np.random.default_rng(1)
    light = rng.integers(0, 2, 400)
    images = rng.uniform(0, 0.3, (400, 8, 8, 3)) + 0.5 * light[:, None, None, None]
    data = tmp_path / "data.npz"
    np.savez(data, images=images.astype(np.float32), light=light)
    options = ["--network", network, "--width", "16", "--depth", "2", "--batch", "32", "--warmup", "3", "--steps", "14"]
    command = ["train", str(data), *options, "--classifier-steps", "14", "--out"]
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "sigmascope"]
    done = subprocess.run(
        [*together, *command, str(tmp_path / "two")], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert run(*command, tmp_path / "one") == 0
    for part in ("denoiser", "classifier"):
        one, two = (
            np.genfromtxt(tmp_path / name / f"losses-{part}.csv", delimiter=",", skip_header=1)
            for name in ("one", "two")
        )
        assert np.allclose(one, two, rtol=2e-3, equal_nan=True), part
        assert np.isfinite(one[:, 1:]).any()
