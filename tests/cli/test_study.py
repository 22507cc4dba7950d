"""The command as a user runs it."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
import xarray as xr

import sigmascope
from asked import study
from sigmascope.cli import main
from sigmascope.exact.finite.posterior import PosteriorPass

OPTIONS = ["--draws", "24", "--levels", "12"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """An .npz of 3,000 small images with two attributes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    shape = rng.integers(0, 5, 3000)
    images = rng.integers(0, 40, (3000, 8, 8, 3), dtype=np.uint8)
    for s in range(5):
        images[shape == s, s : s + 3, :, s % 3] += 120
    np.savez(path, images=images, shape=shape, noise=rng.integers(0, 2, 3000))
    return path


def run(*args: str) -> int:
    return main([str(a) for a in args])


def test_files_of_a_study(digits, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("study", digits, "--out", out, *OPTIONS) == 0
    printed = capsys.readouterr()
    found = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    pictures = ("information", "onset", "strip", "estimators", "agreement", "values", "value_onset", "items")
    assert found == {"results.nc", "spec.toml", "onset.csv", "values.csv", "report.html"} | {
        f"figures/{n}.{k}" for n in pictures for k in ("png", "svg")
    }
    with xr.open_dataset(out / "results.nc", engine="h5netcdf") as results:
        results.load()
    assert dict(results.sizes) == {"attribute": 2, "estimator": 2, "sigma": 12, "draw": 24, "value": 7}
    assert results.attrs["units"] == "nats"
    assert results.attrs["seed"] == 0
    assert results.attrs["sigmascope_version"] == sigmascope.__version__
    assert tomllib.loads(results.attrs["specification"])["study"]["draws"] == 24
    assert results.kind.values.tolist() == ["exact", "estimate"]
    per_draw = results.information_per_draw
    assert np.allclose(per_draw.mean("draw"), results.information)
    spread = per_draw.std("draw", ddof=1) / 24**0.5
    assert np.allclose(spread.sel(estimator="posterior"), results.stderr.sel(estimator="posterior"))
    assert np.all(spread <= results.stderr + 1e-12)  # the random directions add to the others' error
    assert np.all(np.diff(results.sigma) < 0)
    with (out / "onset.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["attribute"] for r in rows} == {"shape", "noise"}
    assert rows[0]["attribute"] == "shape"
    assert float(rows[0]["sigma_10"]) > float(rows[0]["sigma_50"]) > float(rows[0]["sigma_90"])
    assert float(rows[0]["sigma_50_low"]) < float(rows[0]["sigma_50"]) < float(rows[0]["sigma_50_high"])
    assert "shape" in printed.out
    assert "100 %" in printed.err


def test_spec_repeats_the_numbers(digits, tmp_path):
    assert run("study", digits, "--out", tmp_path / "a", "--attributes", "shape", "--seed", "7", *OPTIONS) == 0
    assert run("study", "--spec", tmp_path / "a" / "spec.toml", "--out", tmp_path / "b") == 0
    one, two = (xr.load_dataset(tmp_path / d / "results.nc", engine="h5netcdf") for d in "ab")
    assert xr.testing.assert_identical(one, two) is None
    assert (tmp_path / "a" / "onset.csv").read_bytes() == (tmp_path / "b" / "onset.csv").read_bytes()
    assert run("study", "--spec", tmp_path / "a" / "spec.toml", "--seed", "8", "--out", tmp_path / "c") == 0
    three = xr.load_dataset(tmp_path / "c" / "results.nc", engine="h5netcdf")
    assert not np.array_equal(one.information, three.information)


def test_from_python_the_same_numbers(digits, tmp_path):
    assert run("study", digits, "--out", tmp_path / "a", *OPTIONS) == 0
    stored = xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf")
    with np.load(digits) as file:
        images, shape, noise = file["images"], file["shape"], file["noise"]
    results = study(images, labels={"shape": shape, "noise": noise}, draws=24, levels=12)
    wanted = stored.information.sel(attribute=results.attribute)
    assert np.array_equal(results.information, wanted)
    data = sigmascope.from_array(images, {"shape": shape, "noise": noise})
    again = study(sigmascope.FiniteDenoiser(data), draws=24, levels=12)
    assert np.array_equal(results.information, again.information)
    ax = sigmascope.plot(results)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["shape", "noise"]


def test_a_finished_study_is_left_alone(digits, tmp_path, capsys):
    command = ["study", digits, "--out", tmp_path / "a", *OPTIONS]
    assert run(*command) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*.*") if p.name != "spec.toml"}
    capsys.readouterr()
    assert run(*command) == 0
    assert "holds these results already; nothing was done" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_lost_page_is_made_again(digits, tmp_path):
    command = ["study", digits, "--out", tmp_path / "a", *OPTIONS]
    assert run(*command) == 0
    page = (tmp_path / "a" / "report.html").read_text()
    (tmp_path / "a" / "report.html").unlink()
    assert run(*command) == 0
    assert (tmp_path / "a" / "report.html").read_text() == page


@pytest.fixture
def small_steps(monkeypatch):
    """A step is one tile of at most 256 items, whatever the machine's threads."""
    monkeypatch.setattr("sigmascope.exact.finite.posterior.MEANS_ROWS", 256)
    monkeypatch.setattr("sigmascope.exact.finite.posterior.workers", lambda device: 1)


@pytest.mark.usefixtures("small_steps")
def test_interrupted_goes_on_to_the_same_numbers(digits, tmp_path, monkeypatch, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run("study", digits, "--out", whole, *OPTIONS) == 0
    monkeypatch.setattr("sigmascope.studies.run.CHECKPOINT_SECONDS", 0.0)
    step, tiles = PosteriorPass.step, []

    def stop_at_second(self):
        if len(tiles) == 1:
            raise KeyboardInterrupt
        tiles.append(self.position)
        step(self)

    monkeypatch.setattr(PosteriorPass, "step", stop_at_second)
    assert run("study", digits, "--out", broken, *OPTIONS) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert not (broken / "results.nc").exists()

    def count(self):
        tiles.append(self.position)
        step(self)

    monkeypatch.setattr(PosteriorPass, "step", count)
    assert run("study", digits, "--out", broken, *OPTIONS) == 0
    assert tiles == list(range(len(tiles)))  # the first tile was not done again
    assert len(tiles) > 2
    assert (whole / "onset.csv").read_bytes() == (broken / "onset.csv").read_bytes()
    one, two = (xr.load_dataset(d / "results.nc", engine="h5netcdf") for d in (whole, broken))
    assert xr.testing.assert_identical(one, two) is None
    assert not (broken / "checkpoint.npz").exists()


def test_killed_for_real(digits, tmp_path):
    """SIGKILL in the middle of the data; the same command goes on from the checkpoint."""
    out = tmp_path / "out"
    code = """
import time, sigmascope.cli, sigmascope.exact.finite.posterior as posterior, sigmascope.studies.run as run
run.CHECKPOINT_SECONDS, posterior.MEANS_ROWS, posterior.workers = 0, 64, lambda device: 1
step = posterior.PosteriorPass.step
posterior.PosteriorPass.step = lambda self: (step(self), time.sleep(0.03))  # so that there is time to kill it
sigmascope.cli.main()
"""
    command = [sys.executable, "-c", code, "study", str(digits), "--draws", "48", "--levels", "5"]
    child = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.npz").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (out / "results.nc").exists()
    (out / ".part-left-over.npz").write_bytes(b"half")
    again = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=True)
    first = re.search(r"(\d+) of \d{2} steps", again.stderr)
    assert first is not None
    assert int(first[1]) > 0
    assert not list(out.glob(".part*"))
    whole = subprocess.run([*command, "--out", str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    assert whole.stdout == again.stdout
    one, two = (xr.load_dataset(d / "results.nc", engine="h5netcdf") for d in (out, tmp_path / "whole"))
    assert xr.testing.assert_identical(one, two) is None


def test_a_dry_run_of_the_heldout_law_with_uneven_values(tmp_path, capsys):
    """Its sample of the work has proportions of its own, which sum to one to the last digit."""
    value = np.arange(4000) % 7
    images = np.random.default_rng(0).normal(size=(4000, 1, 2, 2)) + value[:, None, None, None]
    np.savez(tmp_path / "sevenths.npz", images=images.astype(np.float32), value=value)
    options = ["--law", "heldout", "--draws", "16", "--levels", "4", "--dry-run"]
    assert run("study", tmp_path / "sevenths.npz", *options) == 0
    assert "time" in capsys.readouterr().out


def test_dry_run_computes_and_writes_nothing(digits, tmp_path, capsys, monkeypatch):
    """But for samples of the work, which are timed."""
    monkeypatch.setattr("sigmascope.studies.run.measure", lambda *_: pytest.fail("work was done"))
    assert run("study", digits, "--out", tmp_path / "a", "--dry-run", *OPTIONS) == 0
    printed = capsys.readouterr().out
    assert not (tmp_path / "a").exists()
    table = tomllib.loads(printed.split("\ndata  ")[0])["study"]
    assert table["draws"] == 24
    assert table["attributes"] == ["shape", "noise"]
    assert re.search(r"memory +about \d+\.\d+ GB", printed)
    assert re.search(r"cost +\d\.?\d*e\+\d+ operations", printed)


def test_order_of_the_scenes(tmp_path):
    """Floor and wall hue come before object hue, by the measured intervals."""
    options = ["--size", "16", "--draws", "64", "--levels", "24", "--estimators", "posterior"]
    assert run("study", "scenes", *options, "--out", tmp_path / "a") == 0
    with (tmp_path / "a" / "onset.csv").open() as file:
        rows = {r["attribute"]: r for r in csv.DictReader(file)}
    for early in ("floor_hue", "wall_hue"):
        assert float(rows[early]["sigma_50_low"]) > float(rows["object_hue"]["sigma_50_high"])


def test_level_not_reached_is_an_empty_cell(digits, tmp_path, capsys):
    options = ["--sigma-min", "2", "--sigma-max", "20", *OPTIONS]
    assert run("study", digits, "--attributes", "noise", "--out", tmp_path / "a", *options) == 0
    assert "not reached" in capsys.readouterr().out
    with (tmp_path / "a" / "onset.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["sigma_50"] == ""
    assert row["state"] == "not reached"
    page = (tmp_path / "a" / "report.html").read_text()
    assert page.count("not reached") >= 3


def test_labels_that_the_image_does_not_show(tmp_path):
    """Equal images with different labels: the curve saturates at I(A; V) < H(A), and the page says so."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.random((40, 3, 3)).astype(np.float32), 2, axis=0)
    labels = {"known": np.repeat(np.arange(40) % 4, 2), "half": np.tile([0, 1], 40)}
    results = study(images, labels=labels, draws=40, levels=16, out=tmp_path / "a")
    last = results.information.isel(sigma=-1, estimator=0)
    assert float(last.sel(attribute="known")) == pytest.approx(np.log(4), abs=1e-6)
    assert float(last.sel(attribute="half")) == pytest.approx(0.0, abs=1e-9)
    assert float(results.information_limit.sel(attribute="half")) == pytest.approx(0.0, abs=1e-9)
    page = (tmp_path / "a" / "report.html").read_text()
    assert "half: equal images carry different labels" in page
    assert "known: equal images" not in page


def test_help_is_quick_and_loads_no_torch():
    code = "import sys, sigmascope.cli as c\ntry: c.main(['study', '--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.rstrip().endswith("False")
    for word in ("report.html", "name:bins=8", "quantile", "--sigma-min", "same numbers"):
        assert word in done.stdout


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"sigmascope {sigmascope.__version__}"


def test_page_shows_how_well_the_ways_agree_and_what_is_known_given_another(digits, tmp_path):
    options = ["--draws", "64", "--levels", "30", "--estimators", "posterior,score_gap,mmse_gap"]
    assert run("study", digits, "--attributes", "shape,noise,shape+noise", "--out", tmp_path / "a", *options) == 0
    page = (tmp_path / "a" / "report.html").read_text()
    assert "score_gap minus posterior: the largest difference is" in page
    assert "mmse_gap minus posterior: the largest difference is" in page
    assert page.count("the two agree: no level differs by more than four standard errors") == 2
    assert "shape | noise" in page
    assert (tmp_path / "a" / "figures" / "agreement.png").exists()
    assert (tmp_path / "a" / "figures" / "conditional.svg").exists()
    results = xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf")
    assert results.estimator.values.tolist() == ["posterior", "score_gap", "mmse_gap"]
    given = sigmascope.conditional(results, "shape", given="noise")
    joint, noise = (results.information.sel(attribute=n, estimator="posterior") for n in ("shape+noise", "noise"))
    assert np.allclose(given.value, joint - noise)
    with pytest.raises(sigmascope.InputError, match="--attributes shape,shape\\+colour"):
        sigmascope.conditional(results, "colour", given="shape")


@pytest.mark.usefixtures("small_steps")
def test_blocks_of_draws_and_interruption_give_the_same_numbers(digits, tmp_path, monkeypatch):
    """Draws are worked off in blocks; neither the size of a block nor a kill between two changes a number."""
    options = ["--draws", "40", "--levels", "12"]
    assert run("study", digits, "--out", tmp_path / "whole", *options) == 0
    monkeypatch.setattr("sigmascope.information.jobs.passes.block_draws", lambda *a: 16)
    monkeypatch.setattr("sigmascope.studies.run.CHECKPOINT_SECONDS", 0.0)
    step, count = PosteriorPass.step, []

    def stop(self):
        if len(count) == 5:
            raise KeyboardInterrupt
        count.append(1)
        step(self)

    monkeypatch.setattr(PosteriorPass, "step", stop)
    assert run("study", digits, "--out", tmp_path / "blocks", *options) == 130
    monkeypatch.setattr(PosteriorPass, "step", step)
    assert run("study", digits, "--out", tmp_path / "blocks", *options) == 0
    one, two = (xr.load_dataset(tmp_path / d / "results.nc", engine="h5netcdf") for d in ("whole", "blocks"))
    for name in ("information", "stderr", "information_per_draw"):
        assert np.allclose(one[name], two[name], atol=2e-6), name


def test_lower_bounds_are_marked(digits, tmp_path, capsys):
    assert run("study", digits, "--law", "heldout", "--out", tmp_path / "a", *OPTIONS) == 0
    results = xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf")
    assert results.kind.values.tolist() == ["lower bound"]
    assert results.estimator.values.tolist() == ["heldout"]
    assert results.attrs["main_estimator"] == "heldout"
    assert float(results.information.sel(attribute="shape")[0, -1]) > 1.0
    assert abs(float(results.information.sel(attribute="noise")[0, -1])) < 0.1  # labels that say nothing
    page = (tmp_path / "a" / "report.html").read_text()
    assert "All curves are lower bounds" in page
    assert "exact filter" not in page
    assert "from a lower bound: the true curve reaches the same shares" in page
    capsys.readouterr()
    assert run("study", digits, "--law", "popular", "--out", tmp_path / "b", *OPTIONS) == 2
    assert "expected empirical or heldout" in capsys.readouterr().err
    assert run("study", digits, "--estimators", "score_gap", "--out", tmp_path / "b", *OPTIONS) == 2
    assert "expected posterior" in capsys.readouterr().err


def test_heldout_resumes_to_the_same_numbers(digits, tmp_path, monkeypatch):
    from sigmascope.exact.finite.heldout import HeldOutPass

    command = ["study", digits, "--law", "heldout", *OPTIONS, "--out"]
    assert run(*command, tmp_path / "whole") == 0
    monkeypatch.setattr("sigmascope.studies.run.CHECKPOINT_SECONDS", 0.0)
    step, done = HeldOutPass.step, []

    def stop(self):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        step(self)

    monkeypatch.setattr(HeldOutPass, "step", stop)
    assert run(*command, tmp_path / "broken") == 130
    monkeypatch.setattr(HeldOutPass, "step", step)
    assert run(*command, tmp_path / "broken") == 0
    one, two = (xr.load_dataset(tmp_path / d / "results.nc", engine="h5netcdf") for d in ("whole", "broken"))
    assert xr.testing.assert_identical(one, two) is None


def test_columns_with_commas_and_overrides_keep_the_check_of_the_data(tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, **{"x,y": np.arange(60) % 2, "_z": np.arange(60) % 3})
    assert run("study", tmp_path / "x.npz", "--out", tmp_path / "a", *OPTIONS) == 0
    assert run("study", "--spec", tmp_path / "a" / "spec.toml", "--seed", "1", "--out", tmp_path / "b") == 0
    np.savez(tmp_path / "x.npz", images=255 - images, **{"x,y": np.arange(60) % 2, "_z": np.arange(60) % 3})
    capsys.readouterr()
    assert run("study", "--spec", tmp_path / "a" / "spec.toml", "--seed", "2", "--out", tmp_path / "c") == 2
    assert "fingerprint" in capsys.readouterr().err
    ax = sigmascope.plot(xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf"))
    assert [t.get_text().strip() for t in ax.get_legend().get_texts()] == ["x,y", "_z"]


def test_data_from_python_are_not_repeated_by_a_file(tmp_path, capsys):
    x, a = np.random.default_rng(0).random((60, 4)), np.arange(60) % 2
    study(x, labels={"a": a}, draws=8, levels=5, seed=3, out=tmp_path / "a")
    assert "The data came from Python" in (tmp_path / "a" / "report.html").read_text()
    assert run("study", "--spec", tmp_path / "a" / "spec.toml", "--out", tmp_path / "b") == 2
    assert "came from Python" in capsys.readouterr().err
    with pytest.raises(sigmascope.InputError, match="go with an array"):
        study(sigmascope.from_array(x, {"a": a}), labels={"a": a})


def test_a_folder_called_scenes_does_not_shadow_the_scenes(tmp_path, monkeypatch):
    from sigmascope.studies.spec import spec_of
    from sigmascope.studies.subjects.openings import open_data

    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").mkdir()
    assert open_data(spec_of(data="scenes", size=16))[1].inputs.data == "scenes"
