"""A study of features of the pictures, as a user runs it: specification, dry run, page, CSV, comparison, refusals."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
import xarray as xr

import sigmascope
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.exact.features import parse_features, radii
from sigmascope.studies.spec import ExactSpec, FeatureSpec, spec_of

HOW = ["--draws", "48", "--levels", "8", "--sigma-max", "20", "--sigma-min", "0.1"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """White noise of unit variance: every band has power one for each coordinate."""
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    rng = np.random.default_rng(0)
    slant = rng.normal(size=900)  # a real-valued column, which a study of labels would cut into bins
    np.savez(path, images=rng.normal(size=(900, 3, 6, 5)).astype(np.float32), digit=np.arange(900) % 3, slant=slant)
    return path


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("bands") / "one"
    assert main(["study", str(pictures), "--attributes", "bands:2,gray", *HOW, "--out", str(out)]) == 0
    return out


def test_the_study_measures_every_feature(finished):
    results = xr.load_dataset(finished / "results.nc", engine="h5netcdf")
    assert list(results.attribute.values) == ["band:1/2", "band:2/2", "gray"]
    assert list(results.estimator.values) == ["gaussian"]
    size = results.feature_size.values
    for f, own in zip(parse_features(["bands:2"]), size[:2], strict=True):
        assert own == 3 * int(f.frequencies(6, 5).sum())
    assert size[2] == len(radii(6, 5))
    sigma = results.sigma.values
    truth = 0.5 * size[:, None] * np.log1p(sigma**-2)
    error = np.hypot(results.stderr.values, results.quadrature_error.values)[:, 0]
    # The spectrum of few pictures: levels and features share their chance, and six standard errors hold for all.
    assert np.all(np.abs(results.information.values[:, 0] - truth) < 6 * error + 1e-3)
    np.testing.assert_allclose(results.feature_power, size, rtol=0.25)
    assert np.all(np.abs(results.gaussian_share - 1 / (1 + sigma**2)) < 0.05)
    assert float(results.resolved_share[0, -1]) > 0.95
    assert "Gaussian model" in results.attrs["field"]


def test_the_page_and_the_tables(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "What is resolved" in page
    assert "H(A)" not in page
    with (finished / "features.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 8
    assert {r["feature"] for r in rows} == {"band:1/2", "band:2/2", "gray"}
    results = xr.load_dataset(finished / "results.nc", engine="h5netcdf")
    assert float(rows[0]["resolved_share"]) == pytest.approx(float(results.resolved_share[0, 0]), abs=1e-6)
    assert all((finished / "figures" / f"{n}.png").exists() for n in ("resolved", "onset", "information", "strip"))


def test_the_specification_repeats_the_study(finished, tmp_path, capsys):
    out = tmp_path / "again"
    assert main(["study", "--spec", str(finished / "spec.toml"), "--out", str(out)]) == 0
    one, two = (xr.load_dataset(f / "results.nc", engine="h5netcdf") for f in (finished, out))
    xr.testing.assert_equal(one, two)
    capsys.readouterr()
    assert main(["compare", str(finished), str(out), "--out", str(tmp_path / "compared")]) == 0
    assert "Gaussian model of the data" in capsys.readouterr().out


def test_dry_run(pictures, capsys):
    assert main(["study", str(pictures), "--attributes", "bands:2", *HOW, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert 'estimators = [\n    "gaussian",\n]' in out
    assert "the full covariance of 90 coordinates" in out
    assert re.search(r"time +about \d+ s on this machine", out)


def test_python_takes_an_array_without_labels(finished, pictures):
    how = sigmascope.Sampling(draws=48, levels=8, sigma_max=20, sigma_min=0.1)
    with np.load(pictures) as file:
        results = sigmascope.study(file["images"], attributes=("bands:2", "gray"), sampling=how)
    stored = xr.load_dataset(finished / "results.nc", engine="h5netcdf")
    np.testing.assert_array_equal(results.information, stored.information)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--attributes", "band:1/2,digit"], "digit is a label; measure them in two studies"),
        (["--attributes", "band:3/2"], "bands are numbered from 1"),
        (["--attributes", "lowpass:2"], "at most 1"),
        (["--attributes", "bands:2,band:1/2"], "asked for twice"),
        (["--attributes", "bands:200"], "holds no frequency"),
        (["--attributes", "bands:2", "--estimators", "posterior"], "have no classes, and are measured by gaussian"),
        (["--attributes", "bands:2", "--model", "bundled"], "resolved_shares"),
        (["--attributes", "bands:2", "--law", "heldout"], "are for labels, not for features"),
        (["--attributes", "bands:2", "--pairs"], "are for labels, not for features"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(pictures, tmp_path, capsys, options, words):
    assert main(["study", str(pictures), *options, *HOW, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]


def test_other_commands_say_that_they_need_labels(finished, pictures, capsys):
    assert main(["advise", str(finished)]) == 2
    assert "features of the pictures, not labels" in capsys.readouterr().err


def test_a_label_of_the_name_of_a_feature(pictures, tmp_path):
    images = np.random.default_rng(1).normal(size=(20, 1, 4, 4)).astype(np.float32)
    with pytest.raises(InputError, match="rename the label"):
        sigmascope.study(images, labels={"gray": np.arange(20) % 2}, attributes="gray")
    np.savez(tmp_path / "both.npz", images=images, gray=np.arange(20) % 2)
    with pytest.raises(InputError, match="rename the label"):
        sigmascope.study(tmp_path / "both.npz", attributes="gray")
    np.savez(tmp_path / "bare.npz", images=images)
    how = sigmascope.Sampling(draws=4, levels=3)
    assert sigmascope.study(tmp_path / "bare.npz", attributes="gray", sampling=how).sizes["attribute"] == 1
    assert isinstance(spec_of(data="x", attributes="gray,shape"), ExactSpec)
    assert isinstance(spec_of(data="x", attributes="gray,bands:2"), FeatureSpec)
    with pytest.raises(InputError, match="feature of pictures"):
        sigmascope.study("hierarchy:v=4,m=2,s=2,L=2", attributes="bands:2")
