"""A study of a model in several processes: the numbers of one process to the last digit, and shares of the work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gold_inputs
from asked import study
from cli.test_ranks import launch, one_thread
from dressing import pictures

WORKER = Path(__file__).with_name("ranks_models_worker.py")
__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("pictures.npz", "classes", "free", "labels.py"):
        assert gold_inputs.ready(folder, name, folder)
    (folder / "many").mkdir()
    pictures(folder / "many", 120)  # a fifth of them is enough to measure on
    return folder


@pytest.fixture(scope="module")
def said(folder):
    """How many steps each rank took, for each study."""
    done = launch(WORKER, "everything", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"said{i}.json").read_text()) for i in range(2)]


def studies(folder):
    """The studies of the worker."""
    before, sys.argv = sys.argv, ["worker", "none", str(folder)]
    try:
        from cli import ranks_models_worker
    finally:
        sys.argv = before
    return ranks_models_worker.STUDIES


def identical(a: xr.Dataset, b: xr.Dataset, *, rounded: bool = False) -> None:
    """The same variables and attributes, every float to the last digit, or rounded."""
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        one, other = a[name].values, b[name].values
        if rounded and one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=str(name))
        else:
            np.testing.assert_array_equal(one, other, err_msg=str(name))
    assert list(map(repr, a.attrs.items())) == list(map(repr, b.attrs.items()))


@pytest.mark.filterwarnings("ignore")  # the weights are random
@pytest.mark.parametrize("name", ["bundled", "until", "classes", "trained", "free and trained", "free", "made"])
def test_two_ranks_have_the_numbers_of_one_process(folder, said, name, one_thread, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("sigmascope.studies.subjects.generated._ROWS", 16)
    study(**studies(folder)[name]).to_netcdf(folder / "alone.nc", engine="h5netcdf")
    with (
        xr.open_dataset(folder / f"{name}.nc", engine="h5netcdf") as together,
        xr.open_dataset(folder / "alone.nc", engine="h5netcdf") as alone,
    ):
        # Ranks share the batches of a training, so its gradients are sums in another order.
        identical(together, alone, rounded="trained" in name)


@pytest.mark.parametrize("name", ["bundled", "until"])
def test_ranks_have_like_shares(said, name):
    one, two = (s[name] for s in said)
    assert min(one, two) > 0.4 * (one + two)


def test_a_killed_rank_ends_a_study_of_a_model_which_can_go_on(folder, said, tmp_path):
    options = ["--attributes=colour", "--draws=8", "--levels=4", "--budget=2500", "--null-class=3"]
    options += ["--classes=by-order", f"--model=diffusers:{folder / 'classes'}", "--out", tmp_path / "out"]
    options += ["--estimators=score_gap,mmse_gap,filter,likelihood,probes,posterior,own_path"]
    command = ["study", folder / "pictures.npz", *options]
    killed = launch(WORKER, "killed", folder, 25, *command)
    assert killed.returncode != 0
    lines = [line for line in killed.stderr.splitlines() if "sigmascope: " in line and "warning" not in line]
    assert len(lines) == 1, killed.stderr[-3000:]
    assert "a rank was lost" in lines[0]
    assert lines[0].endswith("run the same command again to continue")
    assert (tmp_path / "out/checkpoint-0-of-2.npz").exists()
    again = launch(WORKER, "again", folder, 0, *command)
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout.count("attribute ") == 1
    assert not list((tmp_path / "out").glob("checkpoint*"))
    with (
        xr.open_dataset(tmp_path / "out/results.nc", engine="h5netcdf") as whole,
        xr.open_dataset(folder / "classes.nc", engine="h5netcdf") as expected,
    ):
        identical(whole, expected)
