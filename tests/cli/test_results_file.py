"""A results.nc, a spec.toml and options that are bent: what came, and the one line that a user sees."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import fuzz_results
import sigmascope
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.studies.reading import read_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("studies")
    fuzz_results.prepare(place)
    return place


@pytest.fixture
def whole(folder):
    return xr.load_dataset(folder / "one" / "results.nc", engine="h5netcdf")


def values(ds, name, change):
    bent = ds[name].values.copy()
    change(bent)
    of = {name: (ds[name].dims, bent)}
    return ds.assign_coords(of) if name in ds.coords else ds.assign(of)


def put(at, value):
    def change(x):
        x.flat[at] = value

    return change


BENT = {
    "information": (lambda ds: ds.drop_vars("information"), "the results lack information"),
    "sigma": (lambda ds: ds.drop_vars("sigma"), "the results lack sigma"),
    "kind": (lambda ds: ds.drop_vars(["kind", "ceiling"]), "the results lack ceiling, kind"),
    "attribute": (lambda ds: ds.drop_vars("attribute"), "the results lack attribute"),
    "turned": (lambda ds: ds.assign(stderr=ds.stderr.transpose()), "stderr is over sigma, estimator, attribute"),
    "one axis less": (lambda ds: ds.assign(stderr=ds.stderr[0]), "stderr is over estimator, sigma: expected"),
    "text for numbers": (lambda ds: ds.assign(ceiling=ds.ceiling.astype(str)), "ceiling holds values of type"),
    "numbers for names": (lambda ds: ds.assign_coords(attribute=[1, 2]), "expected text"),
    "numbers for kinds": (lambda ds: ds.assign(kind=("estimator", [1, 2])), "expected text"),
    "other kinds": (lambda ds: ds.assign(kind=("estimator", ["x", "y"])), "a kind in it is 'x'"),
    "NaN level": (lambda ds: values(ds, "sigma", put(1, np.nan)), "not finite, above 0 and decreasing"),
    "infinite level": (lambda ds: values(ds, "sigma", put(0, np.inf)), "not finite, above 0 and decreasing"),
    "negative level": (lambda ds: values(ds, "sigma", put(4, -1.0)), "not finite, above 0 and decreasing"),
    "rising": (lambda ds: ds.isel(sigma=slice(None, None, -1)), "not finite, above 0 and decreasing"),
    "equal levels": (lambda ds: values(ds, "sigma", put(1, ds.sigma.values[0])), "not finite, above 0 and decreasing"),
    "one level": (lambda ds: ds.isel(sigma=[0]), "it has 1 along sigma: expected at least 2"),
    "no draws": (lambda ds: ds.isel(draw=[]), "it has 0 along draw"),
    "no attribute": (lambda ds: ds.isel(attribute=[]), "it has 0 along attribute"),
    "twice": (lambda ds: ds.assign_coords(attribute=["a", "a"]), "a name comes twice among its attributes"),
    "infinity": (lambda ds: values(ds, "information_per_draw", put(3, np.inf)), "holds an infinity"),
    "negative error": (lambda ds: values(ds, "stderr", put(3, -1.0)), "a standard error in it is negative"),
    "no ceiling": (lambda ds: values(ds, "ceiling", put(0, 0.0)), "a ceiling in it"),
    "NaN ceiling": (lambda ds: values(ds, "ceiling", put(0, np.nan)), "a ceiling in it"),
    "seed": (lambda ds: ds.assign_attrs(seed="x"), "its seed is 'x'"),
    "negative seed": (lambda ds: ds.assign_attrs(seed=-1), "its seed is '-1'"),
    "seeds": (lambda ds: ds.assign_attrs(seed=[1, 2]), "its seed is"),
    "main": (lambda ds: ds.assign_attrs(main_estimator="bound"), "main estimator 'bound' is not among"),
    "long": (lambda ds: ds.assign_attrs(data_name="x" * 10_000_001), "a text in it is longer than"),
    "kept": (lambda ds: ds.assign(kept_per_draw=ds.kept_per_draw[0]), "kept_per_draw is over sigma, draw"),
    "item": (lambda ds: ds.assign(item=ds.item * 1.5), "item holds values of type float64: expected whole numbers"),
    "half of values": (lambda ds: ds.drop_vars("value_half"), "of value_… it holds"),
    "empty": (lambda ds: xr.Dataset(), "the results lack"),
}


@pytest.mark.parametrize("name", BENT)
def test_results_that_are_bent(name, folder, whole, tmp_path, capsys):
    bend, words = BENT[name]
    (tmp_path / "results.nc").write_bytes(bend(whole).to_netcdf(engine="h5netcdf"))
    ways = (["advise", tmp_path], ["compare", tmp_path, folder / "two", "--out", tmp_path / "out"])
    for command in ways:
        assert main([str(c) for c in command]) == 2
        printed = capsys.readouterr()
        assert len(printed.err.strip().splitlines()) == 1
        assert f"{tmp_path / 'results.nc'}: " in printed.err
        assert words in printed.err
        assert len(printed.err) < 500
        assert printed.out == ""


def bytes_of(change):
    def make(source, target):
        held = bytearray(source.read_bytes())
        target.write_bytes(change(held))

    return make


def link(source, target):
    with h5py.File(target, "w") as file:
        file["information"] = h5py.ExternalLink(str(source), "/information")


def outside(source, target):
    with h5py.File(target, "w") as file:
        file.create_dataset("x", (4,), "f8", external=[("/etc/hostname", 0, 32)])


def bomb(source, target):
    with h5py.File(target, "w") as file:
        x = file.create_dataset("x", (10**9, 100), "f8", chunks=(1000, 100), compression="gzip")
        for i, axis in enumerate("ab"):
            file.create_dataset(axis, (x.shape[i],), "f4", chunks=(1000 if i == 0 else 100,)).make_scale(axis)
            x.dims[i].attach_scale(file[axis])


FILES = {
    "nothing": (bytes_of(lambda b: b""), "cannot be read"),
    "half": (bytes_of(lambda b: b[: len(b) // 2]), "cannot be read"),
    "other text": (bytes_of(lambda b: b"no results"), "cannot be read"),
    "a link": (link, "is a link to somewhere else"),
    "a device behind it": (outside, "lies in other files"),
    "a bomb": (bomb, "GB of numbers in"),
    "a pipe": (lambda source, target: os.mkfifo(target), "it is no plain file"),
    "a folder": (lambda source, target: target.mkdir(), "it is no plain file"),
    "a device": (lambda source, target: target.symlink_to("/dev/zero"), "it is no plain file"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_none(name, folder, tmp_path):
    make, words = FILES[name]
    make(folder / "one" / "results.nc", tmp_path / "results.nc")
    with pytest.raises(InputError) as refusal:
        read_study(tmp_path / "results.nc", "run the study again")
    assert words in str(refusal.value)
    assert str(refusal.value).endswith(": run the study again")
    assert "\n" not in str(refusal.value)


def test_a_bomb_is_refused_before_its_coordinates_are_read(tmp_path, monkeypatch):
    """xarray reads these when it opens a file: here 4 GB of them."""
    bomb(None, tmp_path / "results.nc")
    monkeypatch.setattr(xr, "open_dataset", lambda *a, **k: pytest.fail("the file was opened"))
    with pytest.raises(InputError, match="GB of numbers in"):
        read_study(tmp_path / "results.nc", "run the study again")


def test_levels_without_a_number_are_left_out_of_a_comparison_and_no_advice(folder, whole, tmp_path, capsys):
    bent = whole.copy(deep=True)
    for name in ("information", "stderr", "information_per_draw"):
        bent[name].values[:, :, -1] = np.nan
    (tmp_path / "results.nc").write_bytes(bent.to_netcdf(engine="h5netcdf"))
    assert main(["compare", str(tmp_path), str(folder / "two"), "--out", str(tmp_path / "c")]) == 0
    capsys.readouterr()
    assert main(["advise", str(tmp_path)]) == 2
    assert "has no number at some levels: choose another --estimator" in capsys.readouterr().err


def test_a_dataset_that_is_bent_in_python(whole):
    for name in ("information", "turned", "rising", "twice"):
        bend, words = BENT[name]
        with pytest.raises(InputError, match=words):
            sigmascope.plot(bend(whole))


SPECS = {
    "deep": ("x = " + "[" * 100_000, "not a specification"),
    "deep table": ("[" + "a." * 50_000 + "b]", "not a specification"),
    "endless number": ("[study]\ndata = 'x'\ndraws = " + "9" * 5000, "not a specification"),
    "large number": ("[study]\ndata = 'x'\nsigma_max = 1" + "0" * 400, "sigma_max is a number of more than 40 digits"),
    "large draws": ("[study]\ndata = 'x'\ndraws = 1" + "0" * 400, "draws is a number of more than 40 digits"),
    "NUL": ('[study]\ndata = "x\\u0000y"', "it contains NUL"),
    "NUL in a name": ('[study]\ndata = "x"\nattributes = ["a\\u0000"]', "it contains NUL"),
    "a list": ("[study]\ndata = ['x']", "data is list: expected str"),
    "numbers for names": ("[study]\ndata = 'x'\nattributes = [1]", "attributes is list: expected tuple"),
    "a date": ("[study]\ndata = 1979-05-27", "expected str"),
    "a table": ("[study.data]\nx = 1", "data is dict: expected str"),
    "twice": ("[study]\ndata = 'x'\ndata = 'y'", "not a specification"),
    "not a number": ("[study]\ndata = 'x'\nsigma_max = nan", "must be finite"),
    "a long key": (f"[study]\ndata = 'x'\n{'k' * 5000} = 1", "unknown setting"),
    "what it cannot use": ("[study]\ndata = 'x'\nbudget = 5", "--budget 5 is an option of a model"),
    "no text": (b"[study]\ndata = '\xff\xfe'", "not a specification"),
}


@pytest.mark.parametrize("name", SPECS)
def test_specifications_that_are_bent(name, tmp_path, capsys):
    text, words = SPECS[name]
    path = tmp_path / "s.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["study", "--spec", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert said.startswith(f"sigmascope: {path}: ")
    assert words in said
    assert len(said) < 1000
    assert not (tmp_path / "out").exists()


def test_a_specification_from_a_device(capsys):
    assert main(["study", "--spec", "/dev/zero"]) == 2
    assert "it is no plain file" in capsys.readouterr().err


def test_a_checkpoint_that_is_bent(folder, tmp_path, monkeypatch, capsys):
    """One that cannot be read begins anew; one that can, of another shape, is said."""
    monkeypatch.setattr("sigmascope.report.page.rendered", lambda figure, kind: kind.encode())
    command = ["study", str(folder / "data.npz"), "--draws", "8", "--levels", "5", "--out", str(tmp_path / "a")]
    assert main(command) == 0
    (tmp_path / "a" / "results.nc").unlink()
    np.savez(tmp_path / "a" / "checkpoint.npz", **{"work0.blocks": np.array(0), "work0.pass.next_tile": np.array("x")})
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("sigmascope: the checkpoint ")
    assert said[-1].endswith("and run again")
    (tmp_path / "a" / "checkpoint.npz").write_bytes(b"PK\x03\x04 torn")
    assert main(command) == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_a_part_of_the_fuzz(folder, seed):
    assert fuzz_results.run(folder, seed, range(45)) == []


def test_memory_and_time_are_predicted(monkeypatch):
    """Three cheap shapes of those that the benchmark has; processors that others use, too, differ in speed."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import predicted

    for name in ("plain", "heldout", "hierarchy"):
        found = predicted.measured(predicted.SHAPES[name])
        memory, peak = found["memory"]
        assert 1 / 1.3 < memory / peak < 1.3, (name, memory, peak)
        said, took = found["seconds"]
        assert 1 / 1.6 < said / took < 1.6, (name, said, took)


def test_no_time_is_said_of_what_does_not_fit(tmp_path, monkeypatch, capsys):
    data = tmp_path / "data.npz"
    np.savez(data, images=np.zeros((40, 2, 2), np.float32) + np.arange(40)[:, None, None] / 40, a=np.arange(40) % 2)
    monkeypatch.setattr("sigmascope.studies.costs.available_bytes", lambda: 1_000_000)
    assert main(["study", str(data), "--dry-run"]) == 0
    assert "time        not measured: too little memory is free" in capsys.readouterr().out
