"""generate and fork as a user runs them, and a study of a hierarchy."""

from __future__ import annotations

import csv
import json
import tomllib

import numpy as np
import pytest
import xarray as xr

from sigmascope.cli import main
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.studies import GenerateTask, generate
from sigmascope.studies.options import changed

SMALL = "hierarchy:v=4,m=2,s=2,L=3,seed=2"


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """An .npz of 600 small images with two attributes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "blocks.npz"
    place, colour = rng.integers(0, 4, 600), rng.integers(0, 3, 600)
    images = rng.integers(0, 30, (600, 8, 8, 3), dtype=np.uint8)
    for p in range(4):
        for c in range(3):
            images[(place == p) & (colour == c), 2 * p : 2 * p + 2, :, c] += 200
    np.savez(path, images=images, place=place, colour=colour)
    return path


def run(*args) -> int:
    return main([str(a) for a in args])


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return {k: file[k] for k in file.files}


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("sampler", ["sde", "ode", "filter"])
def test_generate_from_items(blocks, tmp_path, capsys, sampler):
    out = tmp_path / "out"
    assert run("generate", blocks, "--n", 6, "--sampler", sampler, "--steps", 20, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "colour  decided (p > 0.9) in 6 of 6 images" in printed
    if sampler == "filter":
        assert "the image agrees with the belief in 6 of 6" in printed
    made = arrays(out / "generate.npz")
    assert made["images"].shape == (6, 3, 8, 8)
    assert made["posterior.place"].shape == (16, 6, 4)
    assert np.all(np.diff(made["sigma"]) < 0)
    # The exact model of a finite set makes its items (and what a coarse grid leaves of noise).
    with np.load(blocks) as file:
        items = np.moveaxis(file["images"].astype(np.float32) / 255, -1, 1)
        place = file["place"]
    apart = ((made["images"][:, None] - items) ** 2).mean((2, 3, 4))
    assert apart.min(1).max() < 1e-3
    assert np.array_equal(place[apart.argmin(1)], made["posterior.place"][-1].argmax(1))
    table = rows_of(out / "images.csv")
    assert [r["place"] for r in table] == [str(p) for p in place[apart.argmin(1)]]
    assert {p.name for p in out.iterdir()} == {"generate.toml", "generate.npz", "images.csv"} | {
        f"{n}.{k}" for n in ("images", "decisions") for k in ("png", "svg")
    }
    assert tomllib.loads((out / "generate.toml").read_text())["generate"]["sampler"] == sampler


def test_belief_on_one_attribute(blocks, tmp_path, capsys):
    command = ["generate", blocks, "--n", 8, "--sampler", "filter", "--watch", "place", "--steps", 60]
    assert run(*command, "--out", tmp_path / "a") == 0
    assert "place   decided (p > 0.9) in 8 of 8 images; the image agrees with the belief in 8 of 8" in (
        capsys.readouterr().out
    )


def test_an_image_is_the_same_whatever_is_beside_it(blocks, tmp_path):
    for n in (3, 5):
        assert run("generate", blocks, "--n", n, "--steps", 8, "--out", tmp_path / str(n)) == 0
    few, more = (arrays(tmp_path / str(n) / "generate.npz")["images"] for n in (3, 5))
    assert np.allclose(few, more[:3], atol=1e-6)
    assert len({image.round(2).tobytes() for image in more}) > 1


@pytest.mark.parametrize(
    "options",
    [
        ("generate", "--n", 4, "--steps", 12),
        ("generate", "--n", 4, "--steps", 12, "--sampler", "filter"),
        ("generate", "--n", 4, "--steps", 12, "--sampler", "filter", "--watch", "colour"),
        ("fork", "--sigma", 2, "--forks", 5, "--seeds", 3, "--sampler", "sde", "--steps", 12),
        ("fork", "--sigma", 0.4, "--forks", 5, "--seeds", 3, "--sampler", "ode", "--renoise", 2, "--steps", 9),
    ],
    ids=["sde", "items", "values", "fork", "u-turn"],
)
def test_interrupted_goes_on_to_the_same_numbers(blocks, tmp_path, monkeypatch, capsys, options):
    monkeypatch.setattr("sigmascope.studies.following.CHECKPOINT_SECONDS", 0.0)
    command, rest = options[0], options[1:]
    assert run(command, blocks, *rest, "--out", tmp_path / "whole") == 0
    real, calls = FiniteDenoiser.tiles, []

    def breaks(self, batch):
        calls.append(batch)
        if len(calls) == 9:  # early: later every path has settled, whatever its noise
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr(FiniteDenoiser, "tiles", breaks)
    assert run(command, blocks, *rest, "--out", tmp_path / "broken") == 130
    assert "run the same command again" in capsys.readouterr().err
    held = {p.name for p in (tmp_path / "broken").iterdir()}
    assert held == {f"{command}.toml", "checkpoint.npz"}
    before = len(calls)
    assert run(command, blocks, *rest, "--out", tmp_path / "broken") == 0
    assert len(calls) - before > 5
    one, two = (arrays(tmp_path / d / f"{command}.npz") for d in ("whole", "broken"))
    assert one.keys() == two.keys()
    for key in one:
        assert np.array_equal(one[key], two[key]), key
    capsys.readouterr()
    assert run(command, blocks, *rest, "--out", tmp_path / "broken") == 0
    assert "holds these results already; nothing was done" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["generate", "fork"])
def test_stopped_while_it_draws(blocks, tmp_path, monkeypatch, capsys, command):
    """The last step is done and held: only the figures are made again."""
    monkeypatch.setattr("sigmascope.studies.following.CHECKPOINT_SECONDS", -1.0)
    options = {"generate": ["--n", 3], "fork": ["--forks", 4, "--seeds", 2, "--sampler", "sde"]}[command]
    name = {"generate": "making.grid_figure", "fork": "made_tables.forks_figure"}[command]

    def stops(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(f"sigmascope.studies.{name}", stops)
        assert run(command, blocks, *options, "--steps", 5, "--out", tmp_path / "a") == 130
    assert run(command, blocks, *options, "--steps", 5, "--out", tmp_path / "a") == 0
    assert run(command, blocks, *options, "--steps", 5, "--out", tmp_path / "b") == 0
    one, two = (arrays(tmp_path / d / f"{command}.npz") for d in "ab")
    assert all(np.array_equal(one[k], two[k]) for k in one)


def test_u_turn_is_not_called_information(blocks, tmp_path, capsys):
    options = ["--sigma", 0.4, "--sampler", "ode", "--renoise", 8, "--forks", 8, "--seeds", 3, "--steps", 9]
    assert run("fork", blocks, *options, "--out", tmp_path / "a") == 0
    printed = capsys.readouterr().out
    assert "sigma 0.4, after noising to 8, 3 × 8 continuations" in printed
    assert "their entropy is" in printed
    assert "I = " not in printed
    assert {r["note"] for r in rows_of(tmp_path / "a" / "forks.csv")} == {"continuations after noising to 8"}


def test_labels_are_right_at_any_last_level(blocks, tmp_path):
    """Where the last level leaves an attribute open, labels are drawn from what is known, not taken for decided."""
    options = ["--sigma", 6, "--forks", 64, "--seeds", 16, "--seed", 1]
    means = []
    for extra in (["--sampler", "exact"], ["--sampler", "sde", "--sigma-min", 5, "--steps", 8]):
        out = tmp_path / extra[1]
        assert run("fork", blocks, *options, *extra, "--out", out) == 0
        table = rows_of(out / "forks.csv")
        apart = np.array([float(r["forked_entropy"]) - float(r["exact_entropy"]) for r in table])
        means.append((apart.mean(), apart.std() / len(apart) ** 0.5))
    for mean, error in means:
        assert abs(mean) < 4 * error + 0.01, means


def test_a_start_too_low_for_the_data_is_refused(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "far.npz", images=np.r_[rng.normal(size=(9, 1)), [[1000.0]]], side=np.arange(10) == 9)
    assert run("generate", tmp_path / "far.npz", "--out", tmp_path / "a") == 2
    assert "too low for the spread of these data" in capsys.readouterr().err
    options = ["--n", 400, "--sigma-max", 3000, "--steps", 60]
    assert run("generate", tmp_path / "far.npz", *options, "--out", tmp_path / "a") == 0
    made = arrays(tmp_path / "a" / "generate.npz")["images"]
    assert abs(float((made > 500).mean()) - 0.1) < 4 * (0.09 / 400) ** 0.5


@pytest.mark.filterwarnings("error")
def test_figures_of_odd_shapes(tmp_path):
    rng = np.random.default_rng(0)
    many = {f"attribute number {i} with a long name": rng.integers(0, 2, 40) for i in range(13)}
    many["_under"] = np.array(["<script>alert(1)</script>", "a$b$c"])[rng.integers(0, 2, 40)]
    np.savez(tmp_path / "many.npz", images=rng.random((40, 6, 6)), **many)
    np.savez(tmp_path / "one.npz", images=rng.random((40, 1)), a=rng.integers(0, 2, 40))
    for name, options in {"many": ["--n", 1], "one": ["--n", 2]}.items():
        out = tmp_path / f"g-{name}"
        assert run("generate", tmp_path / f"{name}.npz", *options, "--steps", 4, "--out", out) == 0
        assert "<script>" not in (out / "images.svg").read_text()
        assert (
            run("fork", tmp_path / f"{name}.npz", "--sigma", 0.05, "--forks", 20, "--out", tmp_path / f"f-{name}") == 0
        )
        assert "<script>" not in (tmp_path / f"f-{name}" / "forks.svg").read_text()


@pytest.mark.parametrize("sampler", ["exact", "sde"])
def test_forks_find_the_exact_entropy(blocks, tmp_path, capsys, sampler):
    out = tmp_path / "out"
    options = ["--sigma", 4, "--forks", 48, "--seeds", 12, "--sampler", sampler]
    options += [] if sampler == "exact" else ["--steps", 24]
    assert run("fork", blocks, *options, "--out", out) == 0
    assert "12 × 48 continuations" in capsys.readouterr().out
    table = rows_of(out / "forks.csv")
    assert len(table) == 24
    apart = [float(r["forked_entropy"]) - float(r["exact_entropy"]) for r in table]
    assert np.abs(np.mean(apart)) < 4 * np.std(apart) / len(apart) ** 0.5
    assert np.std([float(r["exact_entropy"]) for r in table]) > 0.1
    made = arrays(out / "fork.npz")
    assert made["children"].shape == (48, 12, 3, 8, 8)
    assert made["label.place"].shape == (48, 12)


def test_too_few_forks_are_marked(blocks, tmp_path, capsys):
    assert run("fork", blocks, "--forks", 3, "--seeds", 2, "--out", tmp_path / "out") == 0
    assert "3 continuations are too few for 4 values" in capsys.readouterr().out
    notes = {r["attribute"]: r["note"] for r in rows_of(tmp_path / "out" / "forks.csv")}
    assert notes["place"] == "3 continuations are too few for 4 values"
    assert notes["colour"] == ""


def test_generate_and_fork_a_hierarchy(tmp_path, capsys):
    assert run("generate", SMALL, "--n", 8, "--sampler", "filter", "--sigma-max", 20, "--out", tmp_path / "g") == 0
    assert "root     decided (p > 0.9) in 8 of 8 images; the image agrees with the belief in 8 of 8" in (
        capsys.readouterr().out
    )
    assert run("fork", SMALL, "--sigma", 0.4, "--forks", 8, "--seeds", 4, "--out", tmp_path / "f") == 0
    made = arrays(tmp_path / "f" / "fork.npz")
    assert made["children"].shape == (8, 4, 8, 4)
    assert set(np.unique(made["children"])) == {0.0, 1.0}


def test_study_of_a_hierarchy(tmp_path):
    out = tmp_path / "out"
    options = ["--draws", 96, "--levels", 12, "--sigma-max", 20, "--sigma-min", 0.05]
    assert run("study", SMALL, *options, "--estimators", "posterior,score_gap,forks", "--out", out) == 0
    results = xr.load_dataset(out / "results.nc", engine="h5netcdf")
    assert list(results.attribute.values) == ["root", "level 1", "level 2", "leaf"]
    for e in ("score_gap", "forks"):
        off = np.abs(results.information.sel(estimator=e) - results.information.sel(estimator="posterior"))
        error = np.hypot(results.stderr.sel(estimator=e), results.stderr.sel(estimator="posterior"))
        assert float((off / (error + 0.01)).max()) < 4
    whole = results.whole_information.values
    assert np.all(np.diff(whole, axis=0) > -1e-9)  # a level below holds what those above do
    assert np.allclose(whole[:, -1], results.whole_ceiling, atol=0.05)
    assert np.allclose(whole[0], results.information.sel(attribute="root", estimator="posterior"))
    assert (out / "figures" / "tree.png").stat().st_size > 10_000
    page = (out / "report.html").read_text()
    assert "Level by level" in page
    assert "10^3 data of 8 leaves of 4 numbers" in page


def test_every_estimator_on_one_page(blocks, tmp_path):
    out = tmp_path / "out"
    ways = "posterior,score_gap,mmse_gap,filter,forks"
    assert run("study", blocks, "--draws", 128, "--levels", 24, "--estimators", ways, "--out", out) == 0
    results = xr.load_dataset(out / "results.nc", engine="h5netcdf")
    assert list(results.estimator.values) == ways.split(",")
    assert results.kind.values.tolist() == ["exact", "estimate", "estimate", "lower bound", "estimate"]
    base = results.information.sel(estimator="posterior")
    for e in ways.split(",")[1:]:
        apart = results.information_per_draw.sel(estimator=e) - results.information_per_draw.sel(estimator="posterior")
        error = np.hypot(apart.std("draw") / 128**0.5, results.quadrature_error.sel(estimator=e))
        assert float((np.abs(apart.mean("draw")) / (error + 0.002 * results.ceiling)).max()) < 4.5, e
    assert float(base.max()) > 1.0
    page = (out / "report.html").read_text()
    for e in ways.split(",")[1:]:
        assert f"{e} minus posterior: the largest difference is" in page
    assert (out / "figures" / "estimators.svg").exists()


@pytest.mark.parametrize("data", ["DATA", SMALL])
def test_blocks_of_paths_do_not_matter(blocks, tmp_path, monkeypatch, data):
    """A path has its own noise, whatever the block of draws that it is worked in."""
    chosen = blocks if data == "DATA" else data
    found = []
    for size in (3e8, 1e5):
        monkeypatch.setattr("sigmascope.information.jobs.levels.PATH_BYTES", size)
        options = ["--draws", 7, "--levels", 5, "--estimators", "posterior,filter", "--out", tmp_path / f"{size:g}"]
        assert run("study", chosen, *options) == 0
        results = xr.load_dataset(tmp_path / f"{size:g}" / "results.nc", engine="h5netcdf")
        found.append(results.information_per_draw.sel(estimator="filter").values)
    assert np.allclose(*found, atol=1e-8)
    assert len(np.unique(found[0][0, 2].round(6))) > 5


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["generate", "DATA", "--n", "0"], "n is 0"),
        (["generate", "DATA", "--sampler", "magic"], "sampler is 'magic': expected sde, ode, filter"),
        (["generate", "DATA", "--watch", "place"], "goes with --sampler filter"),
        (["generate", "DATA", "--sampler", "filter", "--watch", "smell"], "watch is 'smell': choose one of"),
        (["study", SMALL, "--attributes", "root+leaf"], "only data files have joint attributes"),
        (["generate", "DATA", "--sigma-max", "0.01"], "the last above 0 and lower"),
        (["generate", "DATA", "--steps", "0"], "steps is 0"),
        (["generate", "DATA", "--seed", "-1"], "must not be negative"),
        (["generate"], "no data are named"),
        (["generate", "nothing.npz"], "there is no such file"),
        (["fork", "DATA", "--sampler", "ode"], "deterministic"),
        (["fork", "DATA", "--sampler", "ode", "--renoise", "1"], "must be above sigma"),
        (["fork", "DATA", "--renoise", "9"], "--renoise goes with sde and ode"),
        (["fork", "DATA", "--sigma", "0"], "sigma is 0"),
        (["fork", "DATA", "--forks", "1"], "at least 2 of each"),
        (["fork", "DATA", "--attributes", "smell"], "no attribute is called 'smell'"),
        (["fork", "DATA", "--drows", "3"], "see sigmascope fork --help"),
        (["study", "DATA", "--estimators", "posterior,forks", "--forks", "3"], "pass at least --forks 4"),
        (["study", "DATA", "--estimators", "posterior,telepathy"], "expected posterior, and optionally"),
        (["study", "hierarchy:v=4,m=9", "--draws", "4"], "v"),
        (["study", "hierarchy:colour=3"], "hierarchy:colour=3"),
        (["study", SMALL, "--law", "heldout"], "leave out --law heldout"),
        (["study", SMALL, "--grain"], "--grain is an option of the scenes"),
        (["study", SMALL, "--attributes", "trunk"], "choose among root, level 1, level 2, leaf"),
        (["study", SMALL, "--attributes", "root,root"], "asked for twice"),
    ],
)
def test_bad_input_is_one_line(blocks, tmp_path, capsys, args, words):
    given = [str(blocks) if a == "DATA" else a for a in args]
    assert run(*given, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert words in lines[0]
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_folders_of_others_are_not_touched(blocks, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    for command in ("generate", "fork"):
        assert run(command, blocks, "--out", out) == 2
    assert run("generate", blocks) == 2
    assert "pass --out FOLDER" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]
    assert run("fork", blocks, "--forks", 4, "--seeds", 2, "--out", tmp_path / "a") == 0
    assert run("fork", blocks, "--forks", 5, "--seeds", 2, "--out", tmp_path / "a") == 2
    assert "its forks is 4, not 5" in capsys.readouterr().err
    (tmp_path / "a" / "fork.toml").write_text("nonsense = [")
    assert run("fork", blocks, "--forks", 4, "--seeds", 2, "--out", tmp_path / "a") == 2


def test_dry_run_of_a_hierarchy(capsys):
    assert run("study", SMALL, "--estimators", "posterior,filter", "--draws", 8, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "10^3 data of 8 leaves of 4 numbers" in printed
    assert "denoisings" in printed
    assert json.dumps("posterior") in printed


def test_python_generates_by_a_model_too(tmp_path):
    """A task that names a model is not made by the filter of its data."""
    task = changed(GenerateTask(), model="bundled", n=2, steps=3, watch=("shape",))
    assert "shape" in generate(task, tmp_path / "made", progress=False)[0]
    assert 'model = "bundled"' in (tmp_path / "made" / "generate.toml").read_text(encoding="utf-8")
    with np.load(tmp_path / "made" / "generate.npz") as file:
        assert file["images"].shape == (2, 3, 16, 16)
