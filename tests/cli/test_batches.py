"""The number of rows of a network call is tried, stored, and changes no number; the memory of a network is said."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import xarray as xr

import sigmascope
from dressing import pictures
from sigmascope.adapters import Foreign
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.data import load
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.learn.calling import called
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.noise import Discrete
from sigmascope.studies import batches, planning
from sigmascope.studies.batches import fastest_rows, memory_of
from sigmascope.studies.spec import read_spec

FUNCTION = """
import torch
from sigmascope import Attribute, Foreign, Unit
from sigmascope.noise import Discrete

def build():
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Linear(52, 64), torch.nn.Tanh(), torch.nn.Linear(64, 48))
    def network(x, t, c):
        seen = torch.nn.functional.one_hot(c, 4)
        return inner(torch.cat([x.flatten(1), seen.float()], 1)).reshape(x.shape)
    colour = Attribute("colour", ("red", "green", "blue"))
    return Foreign(network, (3, 4, 4), Discrete.linear(), "epsilon", attribute=colour, null=3, unit=Unit(2.0, -1.0))
"""
pytestmark = pytest.mark.filterwarnings("ignore::sigmascope.information.above.CoarseTopWarning")  # rough networks
SMALL = ["--levels", "6", "--sigma-max", "8", "--sigma-min", ".06"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    pictures(tmp_path, 120)
    (tmp_path / "batched.py").write_text(FUNCTION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("batched", None)
    yield
    sys.modules.pop("batched", None)


class Clocked:
    """A network whose calls move a clock: by so many seconds a row, and where it has no memory for more rows."""

    def __init__(self, monkeypatch, per_row, most=10**9):
        self.now, self.per_row, self.most, self.asked = 0.0, per_row, most, []
        monkeypatch.setattr(batches.time, "perf_counter", lambda: self.now)
        self.denoiser = Foreign(lambda x, t: self(x), (2,), Discrete.linear(), "epsilon")

    def __call__(self, x):
        self.asked.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        self.now += self.per_row(len(x)) * len(x)
        return torch.zeros_like(x)


def test_the_fastest_is_taken(monkeypatch):
    clocked = Clocked(monkeypatch, lambda rows: 1e-4 if rows == 64 else 2e-4)
    assert fastest_rows(clocked.denoiser) == 64
    assert set(clocked.asked) == {16, 32, 64, 128, 256, 512}
    assert clocked.denoiser.calling.rows == 256  # as it was


@pytest.mark.parametrize("per_row", [lambda rows: 1e-4, lambda rows: 1e-4 if rows == 256 else 0.95e-4])
def test_the_usual_one_stays_where_another_is_no_faster(monkeypatch, per_row):
    assert fastest_rows(Clocked(monkeypatch, per_row).denoiser) == 256


def test_a_slow_network_is_not_asked_for_long(monkeypatch):
    clocked = Clocked(monkeypatch, lambda rows: 0.05)
    assert fastest_rows(clocked.denoiser) == 256
    assert clocked.now < 8


@pytest.mark.parametrize(("most", "best"), [(100, 64), (16, 16), (5, 4), (1, 1)])
def test_what_does_not_fit_is_halved(monkeypatch, most, best):
    assert fastest_rows(Clocked(monkeypatch, lambda rows: 1.0 / (1000 + rows), most).denoiser) == best


def test_other_errors_and_too_little_memory(monkeypatch):
    with pytest.raises(InputError, match="a single row of the network does not fit"):
        fastest_rows(Clocked(monkeypatch, lambda rows: 1e-4, 0).denoiser)

    def broken(x, t):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        fastest_rows(Foreign(broken, (2,), Discrete.linear(), "epsilon"))
    assert fastest_rows(FiniteDenoiser(load("pictures.npz"))) == 0


def study(out, *options):
    command = ["study", "pictures.npz", "--attributes", "colour", "--model", "batched:build", *SMALL, "--out", str(out)]
    return main([*command, "--estimators", "score_gap,filter", *map(str, options)])


def results(folder):
    return xr.load_dataset(folder / "results.nc", engine="h5netcdf")


def test_it_is_stored_and_a_draw_is_the_same_whatever_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(planning, "rows_per_second", lambda model: 100.0)
    found = {}
    for rows in (16, 512):
        monkeypatch.setattr(planning, "fastest_rows", lambda model, rows=rows: rows)
        assert study(tmp_path / f"a{rows}", "--minutes", 3, "--draws", 32) == 0
        assert read_spec(tmp_path / f"a{rows}" / "spec.toml").network.batch == rows
        found[rows] = results(tmp_path / f"a{rows}").information.values
    assert np.allclose(found[16], found[512], rtol=1e-5, atol=1e-5)
    # A repetition calls the network as the plan says, and has the same digits.
    most = []
    own = Foreign._rows
    monkeypatch.setattr(Foreign, "_rows", lambda self, y, *rest: most.append(len(y)) or own(self, y, *rest))
    monkeypatch.setattr(planning, "fastest_rows", lambda model: 7)
    spec = ["study", "--spec", str(tmp_path / "a16" / "spec.toml"), "--model", "batched:build"]
    assert main([*spec, "--out", str(tmp_path / "b")]) == 0
    assert max(most) == 16
    assert np.array_equal(results(tmp_path / "b").information.values, found[16])


def test_parts_of_a_call_are_calls(monkeypatch):
    """Rows do not depend on each other: any number of them at once gives the same rows."""
    monkeypatch.syspath_prepend(".")
    from batched import build

    models = [build(), sigmascope.NeuralDenoiser.load("bundled")]
    for model in models:
        known = {model.attributes[0].name: torch.arange(40) % 3}
        y, sigma = torch.randn(40, *model.event), torch.linspace(0.1, 5, 40)
        with torch.no_grad():
            whole = model(y, sigma, known)
            with called(model, rows=7):
                parts = model(y, sigma, known)
        assert torch.allclose(whole, parts, atol=2e-5)
    assert isinstance(models[1], NeuralDenoiser)


def test_memory_is_counted():
    """Weights, biases and a buffer once each, and the outputs of every layer for a row."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(6, 50), torch.nn.Linear(50, 6)
            self.again = self.a  # the same weights under a second name
            self.register_buffer("table", torch.zeros(7, dtype=torch.float64))

        def forward(self, x, t):
            return self.b(self.a(x).relu())

    net = Net()
    held, outputs = 4 * (6 * 50 + 50 + 50 * 6 + 6) + 7 * 8, 4 * (50 + 6)
    for network in (net, lambda x, t: net(x, t)):
        assert memory_of(Foreign(network, (6,), Discrete.linear(), "epsilon")) == (held, outputs * 256, 256)
    assert not net.a._forward_hooks


def test_a_dry_run_says_the_memory(capsys):
    assert main(["study", "pictures.npz", "--attributes", "colour", "--model", "batched:build", *SMALL, "--budget",
                 "4000", "--estimators", "score_gap", "--dry-run", "--out", "x"]) == 0  # fmt: skip
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("memory"))
    count, outputs = 52 * 64 + 64 + 64 * 48 + 48, 64 + 64 + 48
    assert line == (
        f"memory      {4 * count / 1e6:.1f} MB of parameters and buffers; about {4 * outputs * 256 / 1e6:.1f} MB for a "
        "call of 256 rows"
    )
