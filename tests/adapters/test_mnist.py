"""The example of the DDPM of digits, on the real files: one rough run, its numbers, and the same once more."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
import torch

from conftest import ROOT, SHARED, lacking

EXAMPLE = ROOT / "examples" / "mnist_ddpm.py"
MODEL, DIGITS = SHARED / "models" / "mnist-ddpm.pth", SHARED / "data" / "mnist-10k.npz"
# 1.35 times the mean squared errors of epsilon at timesteps 50, 200, 400, 600, 800, 950 of 128 digits.
LIMITS = 1.35 * np.array([0.0658, 0.0342, 0.0126, 0.0021, 0.0006, 0.0005])


@pytest.fixture(scope="module")
def real():
    if not (MODEL.is_file() and DIGITS.is_file()):
        lacking(f"the model and its digits are not at {SHARED}")


@pytest.fixture(scope="module")
def ran(real, tmp_path_factory):
    """The folder of a rough run."""
    out = tmp_path_factory.mktemp("mnist") / "one"
    command = [sys.executable, str(EXAMPLE), str(MODEL), str(DIGITS), str(out), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def found(ran):
    return json.loads((ran / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def curves(ran):
    """Rows (sigma, timestep, information, standard error, gauge of the bias, ceiling) of every estimator."""
    table = defaultdict(list)
    with (ran / "results.csv").open(encoding="utf-8") as file:
        for row in csv.reader(list(file)[1:]):
            table[row[0]].append([float(x) for x in row[2:]])
    return {name: np.array(rows) for name, rows in table.items()}


def test_the_network_is_what_was_trained(found):
    """The definition keeps every limit; each other variant breaks at least one."""
    variants = {name: np.array(x) for name, x in found["epsilon_loss"]["variants"].items()}
    ours = variants.pop("as in the docstring")
    assert np.all(ours < LIMITS)
    assert len(variants) == 11
    for name, losses in variants.items():
        assert np.any(losses > LIMITS), name
        assert np.max(losses / ours) > 2, name


def test_digits_are_known_at_little_noise_and_unknown_at_much(curves):
    for name in ("forks of real digits", "forks of its own values", "probes:features", "probes:noisy"):
        sigma, information, error = curves[name][:, 0], curves[name][:, 2], curves[name][:, 3]
        assert sigma[0] > 3.5
        assert sigma[-1] < 0.7
        assert information[0] < 0.4 + 3 * error[0], name
        assert information[-1] > 1.0, name
        assert information[-1] - information[0] > 3 * np.hypot(error[0], error[-1]), name


def test_bounds_keep_below_what_bounds_them(curves):
    exact = curves["exact filter of these digits"]
    for name in ("probes:noisy", "probes:features", "classifier", "filter, digits held out"):
        sigma, _, information, error, _, ceiling = curves[name].T
        assert np.all(information < ceiling), name
        where = [int(np.argmin(np.abs(exact[:, 0] / s - 1))) for s in sigma]
        above = information - exact[where, 2]
        assert np.all(above < 3 * np.hypot(error, exact[where, 3])), name
    assert curves["probes:features"][-1, 2] > curves["probes:noisy"][-1, 2]  # what the model sees is easier to read


def test_samples_and_classifier(found):
    accuracy, error = found["classifier"]["accuracy"]
    assert accuracy > 0.93  # of the rough run; the whole one trains for longer
    assert error < 0.01
    share, error = found["samples"]["unclear"]
    assert 0.3 - 2 * error < share < 0.7 + 2 * error  # its authors say: about half are clean digits
    assert sum(found["samples"]["digits"]) == found["samples"]["count"]


def test_children_agree_as_siblings_do(found):
    """Of a value of the model's own, parent and children are alike draws given y: they agree as children do."""
    for mean, error in found["agreement"]["forks of its own values"]["parent less siblings"]:
        assert abs(mean) < 4 * error + 0.02


def test_figures_are_drawn(ran):
    for name in ("curves.png", "forks.png", "samples.png"):
        assert (ran / "report" / name).stat().st_size > 10_000


@pytest.mark.usefixtures("real")
def test_the_same_command_gives_the_same_numbers(tmp_path, monkeypatch):
    """Two runs, one after the other, with little training and few samples."""
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    of = importlib.util.spec_from_file_location("mnist_ddpm_again", EXAMPLE)
    example = importlib.util.module_from_spec(of)
    monkeypatch.setitem(sys.modules, of.name, example)
    of.loader.exec_module(example)
    train, generate = example.train, example.generate
    monkeypatch.setattr(example, "report", lambda *_: None)
    monkeypatch.setattr(example, "train", lambda source, steps, *rest: train(source, 10, *rest))
    monkeypatch.setattr(example, "generate", lambda model, schedule, *_: generate(model, schedule, 6, 1.0, 0))
    for name in ("one", "two"):
        command = [str(EXAMPLE), str(MODEL), str(DIGITS), str(tmp_path / name), "--quick", "--draws", "3"]
        monkeypatch.setattr(sys, "argv", command)
        example.main()
        torch.rand(3)  # what is drawn elsewhere makes no difference
    for name in ("results.json", "results.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


class Unsafe:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("content", [{"weights": torch.zeros(3)}, Unsafe()], ids=["another model", "code"])
def test_other_files_are_refused(tmp_path, content):
    images = np.arange(4, dtype=np.uint8)[:, None, None] + np.zeros((4, 28, 28), np.uint8)
    np.savez(tmp_path / "digits.npz", images=images, digit=np.arange(4) % 2)
    torch.save(content, tmp_path / "model.pth")
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "model.pth"), str(tmp_path / "digits.npz")]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no state dict of this model" in done.stderr
    assert "Traceback" not in done.stderr
