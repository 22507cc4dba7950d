"""Real-valued attributes as a user studies them: entries, files, results, page, and the commands that cannot."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import xarray as xr
from PIL import Image

from asked import study
from sigmascope import from_array, to_pandas
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.data import draw_items, load, load_scenes
from sigmascope.data.labels import parse_entry
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.laws import FiniteLaw
from sigmascope.information.reals import precision
from sigmascope.studies.exact_law import attributes_of

ITEMS = 60
RNG = np.random.default_rng(2)
KIND = np.arange(ITEMS) % 3
ANGLE = RNG.uniform(0, 360, ITEMS)
WIDTH = RNG.uniform(1, 2, ITEMS)
TEXT = np.array(["left", "right"])[KIND % 2]
IMAGES = np.clip(
    60 * KIND[:, None, None]
    + 40 * np.cos(np.deg2rad(ANGLE))[:, None, None] * np.eye(4)
    + RNG.normal(90, 4, (ITEMS, 4, 4)),
    0,
    255,
).astype(np.uint8)
COLUMNS = {"kind": KIND, "angle": ANGLE, "width": WIDTH, "text": TEXT}
TURN = "angle:resolution=20:period=360:unit=degrees"
QUICK = {"draws": 12, "levels": 5}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("reals") / "x.npz"
    np.savez(path, images=IMAGES, **COLUMNS)
    return path


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return study(IMAGES, COLUMNS, attributes=("kind", TURN, "pose=angle+width:resolution=0.5"), **QUICK)


def test_entries_are_read():
    real = parse_entry("pose = x + y:resolution=.1:unit=m", ("x", "y")).real
    assert (real.name, real.columns, real.resolution, real.period, real.unit) == ("pose", ("x", "y"), 0.1, None, "m")
    assert parse_entry("x:resolution=2:period=180").real.period == 180
    assert parse_entry("a+b:resolution=2", ("a+b",)).real.columns == ("a+b",)
    assert parse_entry("a=b:resolution=2", ("a=b",)).real.name == "a=b"
    assert parse_entry("x:bins=4").real is None
    assert parse_entry("a:resolution=3", ("a:resolution=3",)).real is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("angle:resolution=0", "resolution is '0', expected a number greater than 0"),
        ("angle:resolution=wide", "resolution is 'wide'"),
        ("angle:resolution=nan", "resolution is 'nan'"),
        ("angle:period=360", "has no resolution"),
        ("angle:resolution=1:resolution=2", "names an option twice"),
        ("angle:resolution=200:period=360", "must be below half of the period"),
        ("angle+width:resolution=1:period=360", "a period is of one column only"),
        ("angle+angle:resolution=1", "joins a column with itself"),
        ("text:resolution=1", "expected numbers"),
        ("depth:resolution=1", "no attribute is called 'depth'"),
        ("angle", "say its resolution, e.g. --attributes angle:resolution=.*tenth of its standard.*angle:bins=8"),
    ],
)
def test_entries_that_cannot_be_read_are_refused_in_a_line(entry, message):
    with pytest.raises(InputError, match=message) as caught:
        from_array(IMAGES, COLUMNS, attributes=(entry,))
    assert "\n" not in str(caught.value)


def test_numbers_that_are_missing_or_equal():
    gone = np.where(np.arange(ITEMS) < 5, np.nan, ANGLE)
    data = from_array(IMAGES, {"angle": gone}, attributes=("angle:resolution=1",))
    assert len(data) == ITEMS - 5
    assert torch.equal(data.numbers["angle"][:, 0], torch.from_numpy(ANGLE[5:]))
    with pytest.raises(InputError, match="has one value"):
        from_array(IMAGES, {"angle": np.ones(ITEMS)}, attributes=("angle:resolution=1",))
    with pytest.raises(InputError, match="not finite"):
        from_array(IMAGES, {"angle": np.where(ANGLE > 60, ANGLE, np.inf)}, attributes=("angle:resolution=1",))


def test_the_fingerprint_holds_numbers_and_resolution():
    def of(column: np.ndarray, entry: str) -> str:
        return from_array(IMAGES, {"angle": column}, attributes=(entry,)).fingerprint

    first = of(ANGLE, "angle:resolution=1")
    assert first == of(ANGLE, "angle:resolution=1")
    others = {of(ANGLE + 1e-9, "angle:resolution=1"), of(ANGLE, "angle:resolution=2"), of(ANGLE, TURN)}
    assert len({first, *others}) == 4


def test_every_kind_of_file_has_the_same_numbers(path, tmp_path):
    (tmp_path / "folder").mkdir()
    rows = "".join(f"{i:02}.png,{ANGLE[i]!r}\n".replace("np.float64(", "").replace(")", "") for i in range(ITEMS))
    (tmp_path / "folder" / "metadata.csv").write_text("file_name,angle\n" + rows)
    pictures = []
    for i, pixels in enumerate(IMAGES):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (tmp_path / "folder" / f"{i:02}.png").write_bytes(buffer.getvalue())
        pictures.append({"bytes": buffer.getvalue(), "path": None})
    pq.write_table(pa.table({"image": pa.array(pictures), "angle": ANGLE}), tmp_path / "x.parquet")
    for source in (path, tmp_path / "folder", tmp_path / "x.parquet"):
        data = load(source, (TURN,))
        assert torch.equal(data.numbers["angle"][:, 0], torch.from_numpy(ANGLE)), source
        assert data.attributes == ()
        assert data.reals[0].period == 360


def test_results_hold_information_and_precision(results):
    assert list(results.attribute.values) == ["kind", "angle", "pose"]
    reals, exact = ["angle", "pose"], results.sel(estimator="posterior")
    assert np.isfinite(exact.information.values).all()
    assert np.isnan(results.information.sel(estimator="score_gap", attribute=reals).values).all()
    assert np.isfinite(results.information.sel(estimator="score_gap", attribute="kind").values).all()
    assert np.isnan(results.precision.sel(attribute="kind").values).all()
    assert (results.precision.sel(attribute=reals).values[:, :-1] > 0).all()
    assert list(results.precision_unit.values) == ["", "degrees", ""]
    assert results.resolution.values[1:].tolist() == [20.0, 0.5]
    for name in ("precision", "precision_stderr", "resolution", "period", "ceiling_stderr", "precision_unit"):
        assert results[name].attrs["units"]
        assert results[name].attrs["long_name"]
        assert results[name].attrs["description"]
    assert float(results.ceiling.sel(attribute="angle")) == pytest.approx(
        float(results.information_limit.sel(attribute="angle")), abs=1e-9
    )
    assert float(results.ceiling_stderr.sel(attribute="kind")) == 0.0
    assert "real-valued" in results.attrs["data_words"]
    table = to_pandas(results)
    assert set(table[table.attribute == "angle"].estimator) == {"posterior"}


def test_a_pass_of_its_own_and_a_shared_one_have_the_same_numbers(results):
    alone = study(IMAGES, COLUMNS, attributes=(TURN,), **QUICK)
    shared = study(IMAGES, COLUMNS, attributes=(TURN, "kind"), estimators=("posterior",), **QUICK)
    assert list(alone.estimator.values) == ["posterior"]
    for other in (alone, shared):
        a, b = (x.sel(attribute="angle", estimator="posterior") for x in (results, other))
        for name in ("information_per_draw", "precision", "precision_stderr", "ceiling"):
            np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(shared.effective_items, alone.effective_items, rtol=1e-9)


def test_blocks_of_draws_join(monkeypatch):
    data = from_array(IMAGES, COLUMNS, attributes=(TURN,))
    draws, sigma = draw_items(data, 12, 0), np.array([3.0, 1.0, 0.3])

    def of_blocks(size: int) -> np.ndarray:
        from sigmascope.information.jobs import passes
        from sigmascope.information.laws import problem_of

        monkeypatch.setattr(passes, "block_draws", lambda *_: size)
        problem = problem_of(FiniteDenoiser(data), draws, sigma, (), ("posterior",))
        problem.real_attributes = data.reals
        job = FiniteLaw(FiniteDenoiser(data)).reals(problem)
        while not job.done:
            job.step()
        return np.concatenate([job.real("angle").log_ratio, np.stack(precision(job.real("angle").squared_error)).T], 1)

    np.testing.assert_allclose(of_blocks(5), of_blocks(12), rtol=1e-12)


def test_a_study_from_the_command_line(path, tmp_path, capsys):
    out = tmp_path / "out"
    run = ["study", str(path), "--attributes", f"{TURN},kind", "--draws", "12", "--levels", "5", "--out", str(out)]
    assert main(run) == 0
    shown = capsys.readouterr()
    assert "angle" in shown.out
    assert "score_gap cannot measure a real-valued attribute: angle" in shown.err
    assert main(run) == 0
    assert "holds these results already" in capsys.readouterr().err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "How precisely it is known" in page
    assert "A + r N" in page
    assert (out / "figures" / "precision.png").stat().st_size > 5000
    assert "unit=degrees" in (out / "spec.toml").read_text(encoding="utf-8")
    again = tmp_path / "again"
    assert main(["study", "--spec", str(out / "spec.toml"), "--out", str(again)]) == 0
    first, second = (xr.load_dataset(p / "results.nc") for p in (out, again))
    assert np.array_equal(first.precision, second.precision, equal_nan=True)


def test_labels_of_the_page_are_escaped(tmp_path):
    name = "<b>turn</b>"
    images, columns = IMAGES, {name: ANGLE, "kind": KIND}
    out = tmp_path / "out"
    study(images, columns, attributes=(f"{name}:resolution=20:unit=<i>",), out=out, **QUICK)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert name not in page
    assert "<i>" not in page
    assert "&lt;b&gt;turn&lt;/b&gt;" in page


def test_advice_and_comparison_read_the_curves(path, tmp_path, capsys):
    outs = []
    for seed in ("0", "1"):
        outs.append(str(tmp_path / seed))
        run = ["study", str(path), "--attributes", TURN, "--draws", "64", "--levels", "12", "--seed", seed]
        assert main([*run, "--out", outs[-1]]) == 0
    capsys.readouterr()
    assert main(["advise", outs[0], "--words"]) == 0
    words = capsys.readouterr().out
    assert "guide towards angle from" in words
    assert "no values that are kept or lost" in words
    assert "nan" not in words
    assert main(["compare", *outs, "--out", str(tmp_path / "c")]) == 0
    assert "angle" in capsys.readouterr().out


@pytest.mark.parametrize(
    "run",
    [
        ("study", "--law", "heldout"),
        ("generate", "--sampler", "filter", "--watch", "angle"),
        ("fork",),
    ],
)  # fmt: skip
def test_commands_that_cannot_say_so_in_a_line(run, path, tmp_path, capsys):
    command, *options = run
    assert main([command, str(path), *options, "--attributes", TURN, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "real-valued attribute 'angle'" in said[-1], said
    assert len(said) == 1


def test_a_model_does_not_take_the_class_for_the_number():
    with pytest.raises(InputError, match="no real-valued attribute 'orientation'"):
        attributes_of(("orientation:resolution=4",), (), ("orientation", "shape"))


def test_a_dry_run_counts_real_valued_attributes(path, capsys):
    assert main(["study", str(path), "--attributes", f"{TURN},kind", "--dry-run"]) == 0
    assert "kind (3), angle (± 20 degrees)" in capsys.readouterr().out


def test_scenes_have_angles_and_sizes():
    data = load_scenes(16, ("orientation:resolution=4", "size=scale:resolution=0.05", "shape"))
    assert [a.name for a in data.attributes] == ["shape"]
    angle = data.numbers["orientation"][:, 0]
    assert torch.unique(angle).tolist() == pytest.approx(np.linspace(-30, 30, 15))
    assert torch.unique(data.numbers["size"]).tolist() == pytest.approx((0.75 + 0.5 * np.arange(8) / 7).tolist())
    assert data.reals[0].unit == "°"
    assert float(angle[7000]) == pytest.approx(0.0)  # the eighth orientation of the first scale and shape
    assert data.fingerprint != load_scenes(16, ("orientation:resolution=5", "shape")).fingerprint


def test_precision_without_noise_is_zero_and_with_much_is_the_spread():
    found = study(IMAGES, COLUMNS, attributes=(TURN,), draws=60, levels=30, sigma_max=1e4, sigma_min=1e-3)
    p = found.precision.values[0]
    assert p[-1] == pytest.approx(0.0, abs=1e-6)
    assert p[0] == pytest.approx(360 / math.sqrt(12), rel=0.25)
