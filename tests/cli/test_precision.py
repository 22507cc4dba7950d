"""A network computes in bfloat16 only where that moves what the study measures by little; the decision is kept."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from dressing import pictures
from sigmascope.adapters import Foreign
from sigmascope.cli import main
from sigmascope.core import Attribute, Draws, InputError
from sigmascope.data import load
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.learn.calling import called, callings
from sigmascope.learn.frames import RoundFrame
from sigmascope.learn.networks import Architecture
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.noise import Discrete, sigma_grid
from sigmascope.studies.precision import choose_precision, moved_by_bfloat16
from sigmascope.studies.spec import read_spec

HALF = ["--precision", "bfloat16"]
pytestmark = pytest.mark.filterwarnings("ignore::sigmascope.information.above.CoarseTopWarning")  # rough networks
SMALL = ["--draws", "16", "--levels", "6", "--sigma-max", "8", "--sigma-min", ".06", "--budget", "4000"]
D, TOP, LOW = 12, 4.0, 0.05
FUNCTION = """
import torch
from pathlib import Path
from dressing import COLOURS, Exact
from sigmascope import Attribute, Foreign, Unit
from sigmascope.noise import Discrete

PATH = Path({path!r})

def foreign(network):
    return Foreign(network, (3, 4, 4), Discrete.linear(), "epsilon", attribute=Attribute("colour", COLOURS), null=3,
                   unit=Unit(2.0, -1.0))

def exact():
    return foreign(Exact(PATH, COLOURS))  # in float64, which bfloat16 does not change

def rough():
    torch.manual_seed(0)
    ideal, layer = Exact(PATH, COLOURS), torch.nn.Linear(48, 48)
    layer.weight.data = torch.eye(48)
    layer.bias.data.zero_()


    def network(x, t, c):
        f = ideal(x, t, c).flatten(1)
        return (layer(8 * f) - layer(7 * f)).reshape(x.shape)  # which rounding spoils

    return foreign(network)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    path = pictures(tmp_path, 120)
    (tmp_path / "halved.py").write_text(FUNCTION.format(path=str(path)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("halved", None)
    yield
    sys.modules.pop("halved", None)


def study(model, *options):
    command = ["study", "pictures.npz", "--attributes", "colour", "--model", model, *SMALL]
    return main([*command, "--estimators", "score_gap,filter", *options])


def results(folder):
    return xr.load_dataset(folder / "results.nc", engine="h5netcdf")


def test_a_network_that_it_does_not_change_goes_on_in_it(tmp_path, capsys):
    assert study("halved:exact", *HALF, "--out", "a") == 0
    assert (
        "sigmascope: note: the network computes in bfloat16: it moves the score gaps by 0 " in capsys.readouterr().err
    )
    assert read_spec(tmp_path / "a" / "spec.toml").network.computed_in == "bfloat16"
    assert results(tmp_path / "a").attrs["precision"] == "bfloat16"


def test_a_network_that_it_changes_stays_at_float32(tmp_path, capsys):
    """With the numbers of a study that does not ask; a repetition does not decide again."""
    assert study("halved:rough", *HALF, "--out", "a") == 0
    said = [x for x in capsys.readouterr().err.splitlines() if "float32" in x]
    assert len(said) == 1
    assert "the network stays at float32, since bfloat16 would change results: it moves the score gaps by" in said[0]
    assert "0.25 of 1 % of H(A), is allowed" in said[0]
    spec = read_spec(tmp_path / "a" / "spec.toml")
    assert (spec.network.precision, spec.network.computed_in) == ("bfloat16", "float32")
    assert study("halved:rough", "--out", "b") == 0
    a, b = results(tmp_path / "a"), results(tmp_path / "b")
    assert np.array_equal(a.information.values, b.information.values)
    assert a.attrs["precision"] == "float32"
    capsys.readouterr()
    (tmp_path / "a" / "results.nc").unlink()
    (tmp_path / "a" / "report.html").unlink()
    assert study("halved:rough", *HALF, "--out", "a") == 0
    assert "stays at float32" not in capsys.readouterr().err
    assert np.array_equal(results(tmp_path / "a").information.values, b.information.values)


def test_what_was_decided_is_repeated(tmp_path, monkeypatch, capsys):
    """With a decision for bfloat16 in the file, the numbers are those of bfloat16, and not those of float32."""
    assert study("halved:rough", "--out", "a") == 0
    assert study("halved:rough", *HALF, "--target-stderr", "5", "--budget", "0", "--out", "b") == 0
    assert "computes in bfloat16" in capsys.readouterr().err
    text = (tmp_path / "b" / "spec.toml").read_text()
    (tmp_path / "s.toml").write_text(text.replace("target_stderr = 5.0", "target_stderr = 0.0").replace(
        "budget = 0", "budget = 4000"))  # fmt: skip
    for out in ("c", "d"):
        assert main(["study", "--spec", "s.toml", "--model", "halved:rough", "--out", out]) == 0
    a, c, d = (results(tmp_path / x) for x in "acd")
    assert np.array_equal(c.information.values, d.information.values)
    assert not np.array_equal(c.information.values, a.information.values)
    assert np.allclose(c.information.values, a.information.values, atol=0.2)
    assert "bfloat16" not in capsys.readouterr().err


def problem(offset, seed=0, draws=24, classes=True, scatter=False):
    """A network without an opinion, whose output in bfloat16 is larger by an offset, given a class or always."""

    def network(x, t, c):
        f = torch.zeros_like(x)
        if torch.is_autocast_enabled("cpu"):
            share = 2 * ((x.double().sum(1) * 997) % 1)[:, None] if scatter else 1.0
            f = f + offset * (share**0.5 if scatter else 1.0) * (torch.ones_like(x) if c is None else (c != 2)[:, None])
        return f

    a = Attribute("a", ("0", "1"))
    known = {"attribute": a, "null": 2} if classes else {}
    model = Foreign(network, (D,), Discrete.linear(), "epsilon", **known)
    g = torch.Generator().manual_seed(seed)
    drawn = Draws(torch.arange(draws), torch.randn(draws, D, generator=g), torch.randn(draws, D, generator=g),
                  {"a": torch.arange(draws) % 2})  # fmt: skip
    made = {"gap_job": None} if classes else {}
    return SimpleNamespace(model=model, draws=drawn, sigma=sigma_grid(TOP, LOW, 12), attributes=(a,),
                           unconditional_calls=1, **made)  # fmt: skip


@pytest.mark.parametrize("classes", [True, False])
def test_it_measures_what_is_moved(classes):
    """Outputs that are larger by c in each of d coordinates move the integral by c² d ln(σ_max/σ_min)."""
    moved = moved_by_bfloat16(problem(0.01, classes=classes))
    assert moved.nats == pytest.approx(1e-4 * D * np.log(TOP / LOW), rel=1e-3)
    assert moved.stderr < 1e-5
    assert moved.sigma == pytest.approx(LOW)


@pytest.mark.parametrize("classes", [True, False])
def test_the_limit_is_a_share_of_what_is_aimed_at(classes):
    limit = 0.25 * 0.1 if classes else 0.01 * np.log(2)
    for share, precision in ((0.98, "bfloat16"), (1.02, "float32")):
        offset = (share * limit / (D * np.log(TOP / LOW))) ** 0.5
        choice = choose_precision(problem(offset, classes=classes), 0.1)
        assert choice.precision == precision
        assert ("the score gaps" if classes else "the paths of its generations") in choice.words


def test_its_interval_covers():
    """Offsets that vary from draw to draw, with the mean square of the fixed one."""
    truth, z = 0.01**2 * D * np.log(TOP / LOW), []
    for seed in range(96):
        moved = moved_by_bfloat16(problem(0.01, seed, scatter=True))
        z.append((moved.nats - truth) / moved.stderr)
    assert np.mean(np.abs(z) < 2) > 0.85
    assert np.mean(np.abs(z) < 0.5) < 0.6


def test_a_slower_one_is_said(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sigmascope.studies.precision.time.perf_counter", lambda: now[0])
    p = problem(0.0)
    quick = p.model.network

    def slow(x, t, c):
        now[0] += 3.0 if torch.is_autocast_enabled("cpu") else 1.0
        return quick(x, t, c)

    p.model.network = slow
    assert choose_precision(p, 0.1).words.endswith("a call takes 3.0 times as long as in float32 here")


def test_only_the_network_computes_in_it():
    """Its input, the time and what is made of its output keep their precision; it comes back as it was."""
    seen = []
    layer = torch.nn.Linear(D, D)

    def network(x, t):
        out = layer(x)
        seen.append((x.dtype, t.dtype, out.dtype))
        return out

    model = Foreign(network, (D,), Discrete.linear(), "epsilon")
    y, sigma = torch.randn(5, D, dtype=torch.float64), torch.full((5,), 0.37, dtype=torch.float64)
    with torch.no_grad():
        full = model(y, sigma)
        with called(model, bfloat16=True):
            half = model(y, sigma)
        again = model(y, sigma)
    assert [s[2] for s in seen] == [torch.float32, torch.bfloat16, torch.float32]
    assert {s[0] for s in seen} == {torch.float32}
    assert {s[1] for s in seen} <= {torch.float32, torch.float64}
    assert half.dtype == torch.float64
    assert torch.equal(full, again)
    off = float((half - full).abs().max())
    assert 0 < off < 0.02 * 0.37
    # What it makes of the output is exact: D = y - sigma f.
    t = torch.from_numpy(Discrete.linear().time(sigma.numpy()))
    alpha = torch.from_numpy(Discrete.linear().alpha(t.numpy()))[:, None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        f = layer((alpha * y).float()).double()
    assert torch.allclose(half, y - 0.37 * f, atol=1e-12)


def test_a_trained_network_computes_in_it_too():
    torch.manual_seed(0)
    frame = RoundFrame(torch.zeros(D), 1.0)
    model = NeuralDenoiser((D,), (Attribute("a", ("0", "1")),), Architecture("mlp", 32, 2), frame).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    y, sigma, known = torch.randn(6, D), torch.full((6,), 0.5), {"a": torch.arange(6) % 2}
    with torch.no_grad():
        full = model(y, sigma, known)
        with called(model, bfloat16=True):
            half = model(y, sigma, known)
            clean = model(y, torch.full((6,), 1e-6), known)
    assert half.dtype == torch.float32
    assert 0 < float((half - full).abs().max()) < 0.1
    assert torch.allclose(clean, y, atol=1e-5)  # bfloat16 would have rounded y by .004


def test_no_network_no_precision():
    exact = FiniteDenoiser(load("pictures.npz"))
    assert callings(exact) == []
    with pytest.raises(InputError, match="no network that can be called in it: leave --precision out"):
        choose_precision(SimpleNamespace(model=exact), 0.1)
