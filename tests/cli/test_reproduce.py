"""The paper's experiments by one command: on a file of the layout of 3D Shapes, and on strangers' names."""

from __future__ import annotations

import csv
import json
import shutil
from html import escape

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from playwright.sync_api import sync_playwright

from asked import study
from sigmascope.cli import main
from sigmascope.core import Curve, InputError
from sigmascope.data import from_array, load
from sigmascope.data.in_memory import in_memory
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.noise import VarianceExploding
from sigmascope.reproduction import experiments
from sigmascope.reproduction.curves import WHERE, one_axis_figure, three_figure
from sigmascope.reproduction.experiments import TAUS, Effort
from sigmascope.reproduction.experiments_beyond import child_labels
from sigmascope.reproduction.tables import verdict_against
from sigmascope.studies.labelling import Nearest

HOSTILE = '<script>document.title="stolen"</script>'
TINY = Effort(96, 14, 32, 8, True, 3, 192, 96, 8, 6, 8, 8, 64, (3, 8, 16), 0.2)
FIGURES = {
    "figure-1-systems", "figure-2-schedule", "figure-3-three-measurements", "figure-3-in-nats", "figure-4-forks",
    "figure-5-probes", "beyond-numerics", "beyond-null", "beyond-u-turn", "beyond-deterministic",
}  # fmt: skip


def run(*args: object) -> int:
    return main([str(a) for a in args])


def reproduce(*args: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "QUICK", TINY)
        return run("reproduce", "--quick", *args)


def shapes_file(path, hues=3, sizes=2, turns=2):
    """Scenes of 64 × 64 pixels as the file of 3D Shapes has them, fewer of them."""
    scenes = load("scenes", size=64)
    keep = torch.ones(len(scenes), dtype=torch.bool)
    most = {"floor_hue": hues, "wall_hue": hues, "object_hue": hues, "scale": sizes, "orientation": turns}
    for name, many in most.items():
        keep &= scenes.labels[name] < many
    items = keep.nonzero()[:, 0]
    images = (scenes.source.take(items).clamp(0, 1) * 255).round().byte().movedim(1, -1).numpy()
    names = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    labels = np.stack([scenes.labels[n][items].numpy() for n in names], 1).astype(np.float64)
    labels[:, 3], labels[:, 5] = 0.75 + labels[:, 3] / 14, -30 + 60 * labels[:, 5] / 14  # as the real file says them
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = images, labels
    return images, labels


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes") / "3dshapes.h5"
    shapes_file(path)
    out = path.parent / "out"
    assert reproduce("--data", path, "--out", out) == 0
    return path, out


def tree(out):
    return xr.open_datatree(out / "results.nc", engine="h5netcdf")


def table(out, name):
    with next((out / "tables").glob(f"{name}-*.csv")).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_figures_and_tables(shapes):
    _, out = shapes
    for kind, head in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        found = {p.stem: p.read_bytes() for p in (out / "figures").glob(f"*.{kind}")}
        assert set(found) == FIGURES
        assert all(x.startswith(head) for x in found.values())
    assert len(list((out / "tables").glob("*.csv"))) == 6
    data = table(out, "1")
    assert {r["attribute"]: r["values"] for r in data}["shape"] == "4"
    assert next(r["names"] for r in data if r["attribute"] == "shape") == "capsule, cube, cylinder, sphere"
    assert {r["agrees"] for r in table(out, "5")} == {"yes"}
    assert len(table(out, "5")) == 5 * 6  # two gaps, forks, two probes, of six attributes
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "items of 3 × 64 × 64, reduced to 3 × 16 × 16" in text
    assert "score_gap</strong> agrees with the exact curve" in text


def test_curves_are_those_of_the_reduced_pictures(shapes):
    """Pictures of 64 × 64 become means of blocks of 4 × 4; the numbers are those of a study of these means."""
    path, out = shapes
    with h5py.File(path) as file:
        images = file["images"][:].astype(np.float64) / 255
    small = images.reshape(-1, 16, 4, 16, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2).astype(np.float32)
    mine = in_memory(load(str(path)), 16)
    assert np.abs(mine.source.read(0, len(small)).numpy() - small).max() < 1e-6
    own = from_array(small, {n: x.numpy() for n, x in mine.labels.items()})
    again = study(own, draws=TINY.draws, levels=TINY.levels, estimators="posterior")
    with tree(out) as found:
        curves = found["curves"].to_dataset()
        for name in again.attribute.values:
            one = curves.information.sel(attribute=name, estimator="posterior").values
            assert np.allclose(one, again.information.sel(attribute=name, estimator="posterior").values, atol=1e-4)


def test_every_number_of_the_third_table_is_in_the_results(shapes):
    _, out = shapes
    low, high = 0.01, 90.0
    with tree(out) as found:
        curves = found["curves"].to_dataset().load()
        row = next(r for r in table(out, "3") if r["attribute"] == "floor_hue" and r["τ"] == "0.6")
        for column, estimator in (("exact filter", "posterior"), ("score gap", "score_gap"), ("forks", "forks")):
            of = curves.sel(attribute="floor_hue", estimator=estimator)
            at = np.interp(0.6, np.log(of.sigma.values[::-1] / low) / np.log(high / low), of.information.values[::-1])
            assert abs(float(row[column].split(" ± ")[0]) - at) < 6e-4
        assert float(row["σ"]) == pytest.approx(low * (high / low) ** 0.6, rel=1e-3)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert escape(row["exact filter"]) in text


def test_probability_that_children_agree(shapes):
    """Of the forks' figure: from the posterior of the parent, drawn on the path of the first figure."""
    path, out = shapes
    data = in_memory(load(str(path)), 16)
    exact = FiniteDenoiser(data)
    with tree(out) as found:
        forks, systems = found["forks"].to_dataset().load(), found["systems"].to_dataset().load()
    assert forks.tau.values.tolist() == list(TAUS)
    level = torch.from_numpy(VarianceExploding().sigma(np.array(TAUS)))
    for k, s in enumerate(level.tolist()):
        on_path = int(np.abs(systems.sigma.values - s).argmin())
        assert systems.sigma.values[on_path] == pytest.approx(s, rel=1e-9)
        assert np.array_equal(systems.y.values[on_path], forks.parent.values[k])
    parents = torch.from_numpy(forks.parent.values).double()
    for name, log_p in exact.all_log_posteriors(parents, level).items():
        expected = (log_p.exp() ** 4).sum(1).numpy()
        assert np.allclose(forks.agreement.sel(attribute=name).values, expected, atol=1e-6)
    last = {name: set(forks.label.sel(attribute=name).values[-1].tolist()) for name in forks.attribute.values}
    assert all(len(x) == 1 for x in last.values())  # at tau .2 nothing is open in so few scenes
    children = torch.from_numpy(forks.child.values[-1])
    nearest = ((data.source.read(0, len(data))[None] - children[:, None]) ** 2).flatten(2).sum(2)
    assert float(nearest.min(1).values.max()) < 0.1  # the children are items
    for name in forks.attribute.values:
        assert data.labels[name][nearest.argmin(1)].tolist() == forks.label.sel(attribute=name).values[-1].tolist()


def test_there_and_back(shapes):
    """A child keeps an attribute as often as two children agree; both are certain without noise, chance with all."""
    _, out = shapes
    with tree(out) as found:
        turn = found["turn"].to_dataset().load()
    apart = (turn.kept_probability - turn.agree).astype(float)
    error = apart.std("draw", ddof=1) / turn.sizes["draw"] ** 0.5
    assert float((np.abs(apart.mean("draw")) / error.clip(1e-4)).max()) < 4
    assert float(turn.agree.isel(level=-1).min()) > 0.9
    first = turn.agree.isel(level=0).mean("draw")
    assert float(first.sel(attribute="shape")) == pytest.approx(0.25, abs=0.02)
    assert np.allclose((turn.agree4 - turn.agree).max(), 0, atol=1e-6)  # four agree no more often than two


def test_deterministic_paths(shapes):
    """At the end the filter knows with what they end, and at the start it knows nothing of it."""
    _, out = shapes
    with tree(out) as found:
        of = found["deterministic"].to_dataset().load()
    assert np.allclose(of.gained.isel(level=-1).mean("path"), of.ceiling, atol=0.05)
    assert float(np.abs(of.gained.isel(level=0).mean("path")).max()) < 0.1
    assert float((of.open.isel(level=0).mean("path") / of.ceiling).min()) > 0.95


def test_stages_are_kept_by_fingerprint(shapes, tmp_path, capsys):
    path, done = shapes
    out = tmp_path / "copy"
    shutil.copytree(done, out)
    with tree(done) as found:
        before = {n: found[n].attrs["seconds"] for n in found.children}
        turned = found["turn"].to_dataset().load()
    assert reproduce("--data", path, "--out", out) == 0
    assert "nothing was done" in capsys.readouterr().err
    (out / "stages" / "turn.nc").write_bytes(b"half a file")
    (out / "report.html").unlink()
    assert reproduce("--data", path, "--out", out) == 0
    with tree(out) as found:
        after = {n: found[n].attrs["seconds"] for n in found.children}
        assert found["turn"].to_dataset().load().drop_attrs().equals(turned.drop_attrs())
    assert {n for n in before if before[n] != after[n]} == {"turn"}
    assert reproduce("--data", path, "--out", out, "--seed", 1) == 0
    with tree(out) as found:
        again = {n: found[n].attrs["seconds"] for n in found.children}
    assert all(after[n] != again[n] for n in after)
    onsets = [(x / "tables" / "4-onset-and-order.csv").read_bytes() for x in (out, done)]
    assert onsets[0] != onsets[1]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_page_in_a_browser(tmp_path, chromium):
    """Names from a stranger's file are text; the slider moves the posterior; nothing is fetched."""
    rng = np.random.default_rng(0)
    v = rng.random((300, 8, 8, 3)).astype(np.float32)
    kind = np.array([HOSTILE, "</script><b>x</b>", "plain"])[np.arange(300) % 3]
    v += 0.8 * (np.arange(300) % 3)[:, None, None, None]
    path = tmp_path / "<img src=x onerror=alert(1)>.npz"
    np.savez(path, images=v, **{"<b>kind</b>": kind, "bright": (v.mean((1, 2, 3)) > 1).astype(int)})
    assert reproduce("--data", path, "--out", tmp_path / "out") == 0
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        requests, errors = [], []
        page.on("request", lambda r: requests.append(r.url))
        page.on("console", lambda m: errors.append(m.text))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("dialog", lambda d: errors.append(d.message))
        file = tmp_path / "out" / "report.html"
        page.goto(file.as_uri())
        assert errors == []
        assert [u for u in requests if not u.startswith("data:")] == [file.as_uri()]
        assert page.title() != "stolen"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert HOSTILE in page.locator("body").inner_text()
        for picture in page.locator("img[src^='data:image/svg']").all():
            assert picture.evaluate("i => i.complete && i.naturalWidth > 200")
        slider = page.locator("input[type=range]").first
        seen = set()
        for place in ("min", "max"):
            slider.evaluate(f"e => {{ e.value = e.{place}; e.dispatchEvent(new Event('input', {{bubbles: true}})); }}")
            seen.add(page.locator("#explorer-charts").inner_html())
        assert len(seen) == 2
        assert errors == []
        assert [u for u in requests if not u.startswith("data:")] == [file.as_uri()]
        browser.close()


def test_a_learned_model_stands_beside_the_exact_filter(tmp_path):
    rng = np.random.default_rng(2)
    side, slot = rng.integers(0, 2, 1500), rng.integers(0, 3, 1500)
    v = 0.25 * rng.normal(size=(1500, 6))
    v[:, 0] += 4.0 * (side - 0.5)
    v[np.arange(1500), 1 + slot] += 1.2
    np.savez(tmp_path / "blobs.npz", images=v.astype(np.float32), side=side, slot=slot)
    options = ["--network", "mlp", "--width", 48, "--depth", 1, "--warmup", 20, "--learning-rate", "3e-3"]
    made = tmp_path / "model"
    assert run("train", tmp_path / "blobs.npz", "--out", made, "--steps", 800, "--classifier-steps", 300, *options) == 0
    out = tmp_path / "out"
    assert reproduce("--data", tmp_path / "blobs.npz", "--model", made, "--out", out) == 0
    said = {(r["measurement"], r["attribute"]): r for r in table(out, "5")}
    for name in ("side", "slot"):
        assert said["model: bound", name]["agrees"] == "yes"
        assert said["probe: feature maps", name]["agrees"] == "yes"
        assert abs(float(said["model: forks", name]["largest difference, nats"])) < 0.35
    with tree(out) as found:
        assert "the parent" in found["model-forks"].attrs["labeller"]
        assert found["model"].attrs["network_calls"] > 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "marks its score gap as biased" in page
    assert "Labels of the model's forks: the nearest item of the data except the parent&#x27;s item" in page
    assert (out / "model" / "report.html").exists()
    assert json.loads((made / "model.json").read_text())["card"]["steps"] == 800


def test_children_of_a_model_are_not_labelled_by_their_own_parents():
    """Random labels of items: a child that lies on its parent has the parent's label as often as chance says."""
    rng = np.random.default_rng(0)
    values, own = rng.normal(size=(600, 12)).astype(np.float32), rng.integers(0, 2, 600)
    data = from_array(values, {"coin": own})
    lab = experiments.Laboratory(data, FiniteDenoiser(data), TINY, 0)
    parents, ends = torch.arange(600), torch.from_numpy(values).double()
    found = child_labels(lab, Nearest(data), ends, parents)["coin"]
    assert abs(float((found == torch.from_numpy(own)).double().mean()) - 0.5) < 4 * 0.5 / 600**0.5
    # Items that are the only ones of their kind: there is no other to be labelled by.
    data = from_array(values[:12], {"which": np.arange(12)})
    lab = experiments.Laboratory(data, FiniteDenoiser(data), TINY, 0)
    found = child_labels(lab, Nearest(data), ends[:12], parents[:12])["which"]
    assert np.array_equal(found, np.arange(12))


def test_a_biased_gap_is_drawn_with_its_mark():
    sigma = np.geomspace(10, 0.1, 9)
    per_draw = (1 / (1 + sigma**2))[:, None] + 0.01 * np.random.default_rng(0).normal(size=(9, 40))
    curve = Curve.of_draws("a", "score_gap", sigma, per_draw, 1.0, kind="estimate")
    biased = np.arange(9) >= 6
    probes = xr.Dataset(
        {"accuracy": (("where", "attribute", "level"), np.zeros((3, 1, 9))), "tau": ("level", np.linspace(1, 0, 9))},
        {"where": list(WHERE), "attribute": ["a"]},
    )
    lines = {"model: score gap": {"a": (sigma, curve.value, curve.error)}}
    for mark in (biased, ~biased, None):
        of = {} if mark is None else {"a": mark}
        three = three_figure([curve], [curve], probes, (0.01, 90.0), biased=of)
        one = one_axis_figure([curve], lines, (0.01, 90.0), {"model: score gap": of})
        for figure in (three, one):
            (dots,) = [x for x in figure.axes[0].lines if "biased" in str(x.get_label())] or [None]
            assert (dots is None) == (mark is None)
            if dots is not None:
                assert np.array_equal(np.isfinite(dots.get_ydata()), mark)
                assert dots.get_linestyle() != "-"


def test_a_bound_above_the_exact_curve_is_no_agreement():
    sigma = np.geomspace(10, 0.1, 9)
    rise = 1 / (1 + sigma**2)
    per_draw = rise[:, None] + 0.01 * np.random.default_rng(0).normal(size=(9, 100))
    exact = Curve.of_draws("a", "posterior", sigma, per_draw, 1.0, kind="exact")
    error = np.full(9, 0.01)
    assert verdict_against("probe", exact, (sigma, exact.value - 0.3, error), bound=True).agrees
    assert not verdict_against("forks", exact, (sigma, exact.value - 0.3, error), bound=False).agrees
    assert not verdict_against("probe", exact, (sigma, exact.value + 0.06, error), bound=True).agrees
    off = verdict_against("forks", exact, (sigma, exact.value + 0.3 * (sigma < 0.12), error), bound=False)
    assert off.largest == pytest.approx(0.3)
    assert off.sigma == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "hierarchy", "--out", "x"], "want a finite set"),
        (["--data", "scenes", "--size", "20", "--out", "x"], "a side of 16, 32 or 64"),
        (["--data", "scenes"], "pass --out FOLDER"),
        (["--model", "nowhere", "--out", "x"], "it holds no model.safetensors"),
        (["--data", "nowhere.npz", "--out", "x"], "nowhere.npz"),
        (["--seed", "-1", "--out", "x"], "must not be negative"),
    ],
)
def test_bad_input(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("reproduce", *options) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_sides_that_do_not_divide():
    data = from_array(np.zeros((4, 9, 9), dtype=np.uint8), {"a": [0, 1, 0, 1]})
    with pytest.raises(InputError, match="do not divide into blocks"):
        in_memory(data, 4)
    assert in_memory(data, 3).event == (1, 3, 3)
    assert in_memory(data, 3).fingerprint != data.fingerprint
    assert in_memory(data).fingerprint == data.fingerprint
