"""A network that is wrapped wrongly does not look like a right one: its denoising losses are said before any number."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import xarray as xr

from asked import study
from sigmascope.adapters.diffusers.opening import Pipeline
from sigmascope.adapters.foreign import Foreign, Unit
from sigmascope.analysis.trust import judge
from sigmascope.cli import main
from sigmascope.core import Attribute
from sigmascope.data import from_array, load
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.jobs.losses import LossJob
from sigmascope.learn.sources import Items
from sigmascope.noise import Discrete, sigma_grid
from sigmascope.studies.marks import against
from sigmascope.studies.results import to_curves

COLOURS = ("blue", "green", "red")
NULL = 3


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Pictures of three colours, each brighter or darker; as a file."""
    rng = np.random.default_rng(5)
    colour, bright = rng.integers(0, 3, 120), rng.integers(0, 2, 120)
    v = rng.uniform(0.0, 0.3, (120, 4, 4, 3))
    for k in range(3):
        v[colour == k, :, :, k] += 0.25 + 0.4 * bright[colour == k, None, None]
    file = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez_compressed(file, images=(255 * v).round().astype(np.uint8), colour=np.array(COLOURS)[colour])
    return file


class Network:
    """What an ideal network of these pictures says of x: the noise in it, given a class or nothing (the last index).

    Args:
        path: of the pictures.
        sign: of what it says.
        share: of the difference that a class makes: 1 in an ideal one.
    """

    schedule = Discrete.linear()

    def __init__(self, path, sign=1.0, share=1.0):
        with np.load(path) as file:
            self.data = from_array(file["images"].transpose(0, 3, 1, 2), {"colour": file["colour"]})
        self.exact, self.sign, self.share = FiniteDenoiser(self.data), sign, share

    def __call__(self, x, time, label):
        t = time.double().numpy()
        sigma = torch.from_numpy(self.schedule.sigma(t))[:, None, None, None]
        y = x.double() / torch.from_numpy(self.schedule.alpha(t))[:, None, None, None]
        ours, level = (y + 1) / 2, sigma.flatten() / 2
        d = self.exact(ours, level)
        if label is not None and bool((label != NULL).any()):
            given = self.exact(ours, level, {"colour": torch.where(label == NULL, -1, label)})
            d = d + self.share * (given - d)
        return (self.sign * (y - (2 * d - 1)) / sigma).float()


@pytest.fixture
def wrapped(path, monkeypatch):
    """A pipeline whose network is exact, wrapped as the test says."""

    def wrap(
        *, unit=None, null=NULL, sign=1.0, share=1.0, prediction="epsilon", schedule=None, names=COLOURS, classes=True
    ):
        network = Network(path, sign, share)
        a = Attribute("class", names, torch.full((3,), 1 / 3, dtype=torch.float64)) if classes else None
        foreign = Foreign(
            network, (3, 4, 4), schedule or network.schedule, prediction, attribute=a,
            null=null if classes else None, unit=unit or Unit(2.0, -1.0),
        )  # fmt: skip
        scheduler = type("Scheduler", (), {"config": {"kind": "linear"}})()
        pipe = Pipeline("exact", "Exact", foreign, scheduler)
        monkeypatch.setattr("sigmascope.adapters.models.load_pipeline", lambda *_, **__: pipe)

    return wrap


WRONG = {
    "range": ({"unit": Unit(1.0, 0.0)}, "check the pixel range"),
    "offset": ({"unit": Unit(1.0, -0.5)}, "check the pixel range"),
    "sign": ({"sign": -1.0}, "check the pixel range, what it predicts (and its sign)"),
    "prediction": ({"prediction": "v_prediction"}, "what it predicts"),
    "schedule": ({"schedule": Discrete.cosine()}, "and the schedule"),
    "empty class": ({"null": 0}, "check which class is the empty one"),
    "order of classes": ({"names": ("red", "blue", "green")}, "check the order of its classes"),
}
SHORT = ["--levels", "7", "--sigma-max", "8", "--sigma-min", "0.06", "--draws", "32"]


@pytest.mark.filterwarnings("ignore::sigmascope.information.above.CoarseTopWarning")
@pytest.mark.parametrize("wrong", WRONG)
def test_each_wrong_wrapping_is_said_before_the_numbers(wrong, wrapped, path, tmp_path, capsys):
    options, said = WRONG[wrong]
    wrapped(**options)
    out = tmp_path / "out"
    command = ["study", str(path), "--model", "diffusers:x", *SHORT, "--budget", "2000", "--out", str(out)]
    assert main([*command, "--estimators", "score_gap"]) == 0
    captured = capsys.readouterr()
    lines = [x for x in captured.err.replace("\r", "\n").splitlines() if x.startswith("sigmascope: warning")]
    assert len(lines) == 1, captured.err
    assert re.search(r"warning: the (unconditional )?network", lines[0])
    assert said in lines[0]
    assert "sigmascope: note: score_gap is biased: heldout is shown instead" in captured.err
    page = (out / "report.html").read_text(encoding="utf-8")
    first = page.index("Do not rely on what this page says about the model")
    assert first < page.index("By the lower bound of the data alone")
    results = xr.load_dataset(out / "results.nc", engine="h5netcdf")
    assert not results.trusted.sel(estimator="score_gap").any()
    assert results.attrs["wrapping"] in against(results, "colour", "score_gap")
    gap, ceiling = results.information.sel(estimator="score_gap").values[0], float(results.ceiling[0])
    highest, at = float(gap.max()), float(results.sigma[gap.argmax()])
    number = f"score_gap is {highest:.1f} nats at σ {at:.3g}, above its entropy of {ceiling:.1f} nats"
    assert (number in page) == (highest > 1.1 * ceiling)
    assert highest > 5 * ceiling or wrong != "empty class"
    assert results.attrs["main_estimator"] == "heldout"
    assert re.match(r"score_gap is biased \(the (unconditional )?network", results.attrs["main_reason"])


def test_a_right_wrapping_says_nothing(wrapped, path, tmp_path, capsys):
    wrapped()
    command = ["study", str(path), "--model", "diffusers:x", *SHORT, "--budget", "4000", "--out", str(tmp_path / "out")]
    assert main([*command, "--estimators", "score_gap"]) == 0
    assert "warning" not in capsys.readouterr().err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Do not rely on what this page says" not in page
    assert "Does the network denoise?" in page
    assert ">network, given classes at random</th>" in page
    assert main([*command[:-2], "--estimators", "score_gap", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"losses      {64 * 7 * 6:,} network calls" in out
    assert "heldout     about" in out


def test_what_the_data_prove_marks_a_weak_network(wrapped, path):
    """Given its class, the network moves by half as much as it should: only a bound of the data alone sees that."""
    found = {}
    for share in (1.0, 0.5):
        wrapped(share=share)
        r = study(
            str(path), model="diffusers:x", levels=9, sigma_max=8.0, sigma_min=0.06, draws=32, budget=6000,
            estimators="score_gap",
        )  # fmt: skip
        assert r.attrs["wrapping"] == ""
        found[share] = r
    gap, bound = (next(c for c in to_curves(found[0.5], e)) for e in ("score_gap", "heldout"))
    assert judge(gap).trusted.all()
    marked = judge(gap, data_bound=bound)
    assert not marked.trusted.any(where=gap.sigma < 1.0)
    assert "a lower bound that the data give without any network" in marked.words
    right = next(c for c in to_curves(found[1.0], "score_gap"))
    assert judge(right, data_bound=next(c for c in to_curves(found[1.0], "heldout"))).trusted.all()
    assert found[1.0].trusted.all()
    assert found[1.0].attrs["main_estimator"] == "score_gap"
    assert found[0.5].attrs["main_estimator"] == "heldout"
    assert "without any network" in against(found[0.5], "colour", "score_gap", high=0.5)


def test_losses_are_those_of_the_network(wrapped, path):
    """They are above those of the exact denoiser nowhere, and differences are paired."""
    wrapped()
    r = study(
        str(path), model="diffusers:x", levels=7, sigma_max=8.0, sigma_min=0.06, draws=32, budget=2000,
        estimators="score_gap",
    )  # fmt: skip
    assert list(r.loss_condition.values) == ["(nothing)", "colour", "(classes at random)"]
    assert float((r.loss_over_linear[0] / r.loss_over_linear_stderr[0]).max()) < 2
    assert float((r.loss_over_unconditional[1] / r.loss_over_unconditional_stderr[1]).max()) < 2
    assert np.allclose(r.loss_over_linear[0], r.loss[0] - r.loss_linear)
    apart = np.hypot(r.loss_stderr[0], r.loss_linear_stderr)
    assert float((r.loss_over_linear_stderr[0] / apart)[0]) < 0.5  # at much noise both err alike
    assert float(r.loss_mean[0] / r.loss_linear[-1]) > 10


@pytest.mark.parametrize(("wrong", "said"), [(None, ""), ("sign", "what it predicts")])
def test_a_network_that_is_given_nothing(wrong, said, wrapped, path, capsys):
    """Measured by forks: the same losses, and forks of a network that is worse than linear are biased."""
    wrapped(classes=False, **(WRONG[wrong][0] if wrong else {}))
    r = study(
        str(path), model="diffusers:x", levels=4, sigma_max=4.0, sigma_min=0.06, draws=8, forks=8, steps=8,
        estimators="forks",
    )  # fmt: skip
    assert said in r.attrs["wrapping"]
    assert bool(r.attrs["wrapping"]) == bool(said) == ("warning" in capsys.readouterr().err)
    assert bool(r.trusted.sel(estimator="forks").all()) != bool(said)
    assert r.attrs["main_estimator"] == ("heldout" if said else "forks")


def test_the_bundled_model_is_wrapped_rightly(capsys):
    """Its losses lie below those of the linear denoiser at every level where that has found something."""
    from sigmascope.studies.spec import spec_of
    from sigmascope.studies.subjects.model import open_model

    learned, spec = open_model(spec_of(data="scenes", model="bundled", levels=8).resolve(), torch.device("cpu"))
    sigma = sigma_grid(spec.sampling.sigma_max, spec.sampling.sigma_min, spec.sampling.levels)
    work = LossJob(learned.network.model, learned.source, sigma, learned.attributes[:2], False, 1, 0)
    while not work.done:
        work.step()
    assert work.warning() == ""
    assert capsys.readouterr().err == ""
    losses = work.losses()
    assert (losses.network[0].mean(1) < 0.5 * losses.linear.mean(1))[-4:].all()


def test_a_ddpm_of_digits_that_nobody_here_trained(shared, monkeypatch):
    """As in examples/mnist_ddpm.py it is right; with pixels from -1 to 1 it is not."""
    from conftest import ROOT

    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from mnist_network import read_model

    network, schedule = read_model(shared / "models" / "mnist-ddpm.pth")
    data = load(shared / "data" / "mnist-10k.npz", ["digit"])
    source = Items(data, holdout=0.0, null=0)

    def said(unit: Unit) -> str:
        given = Foreign(network, data.event, schedule, "epsilon", clock=lambda t: t / 1000, unit=unit)
        work = LossJob(given, source, sigma_grid(10.0, 0.1, 5), (), False, 1, 0)
        while not work.done:
            work.step()
        return work.warning()

    assert said(Unit(1.0, -0.5)) == ""
    assert "check the pixel range" in said(Unit(2.0, -1.0))
