"""Units of noise levels are stored with a study, and compared where two meet."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from diffusers import DDIMScheduler

from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.data import from_array
from sigmascope.data.sigma_units import HALF, PIXELS, STORED, factor, range_of
from sigmascope.studies.subjects.opened import as_pixels

RNG = np.random.default_rng(0)
LABEL = np.arange(40) % 4
PICTURES = (RNG.random((40, 8, 8)) * 60 + LABEL[:, None, None] * 50).astype(np.uint8)
SETS = {
    "bytes": PICTURES,
    "floats": (PICTURES / 255).astype("f4"),
    "signed": (PICTURES / 127.5 - 1).astype("f4"),
    "other": (PICTURES / 20).astype("f4"),
}


@pytest.mark.parametrize(
    ("name", "unit", "range_"),
    [("bytes", PIXELS, 1.0), ("floats", PIXELS, 1.0), ("signed", HALF, 0.5), ("other", STORED, None)],
)
def test_the_unit_of_some_data(name, unit, range_):
    data = from_array(SETS[name], {"label": LABEL})
    assert data.unit.startswith(unit)
    assert range_of(data.unit) == range_


def test_vectors_are_no_pictures():
    assert from_array(RNG.random((20, 3)), {"a": np.arange(20) % 2}).unit == STORED


def test_factors():
    pixels, half = from_array(SETS["bytes"], {"a": LABEL}).unit, HALF
    assert factor(half, pixels) == 0.5
    assert factor(pixels, half) == 2.0
    assert factor(STORED, STORED) == 1.0
    assert factor("scaled latents of a", "scaled latents of b") is None
    assert factor(pixels, STORED) is None


def test_pictures_from_minus_one_to_one_become_pixels():
    data = as_pixels(from_array(SETS["signed"], {"label": LABEL}))
    assert data.unit.startswith(PIXELS)
    assert np.allclose(data.source.read(0, 40).numpy()[:, 0], PICTURES / 255, atol=1e-6)
    assert any("from -1 to 1" in n for n in data.notes)
    with pytest.raises(InputError, match="a pipeline takes pixels from 0 to 1"):
        as_pixels(from_array(SETS["other"], {"label": LABEL}))


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    for name, images in SETS.items():
        np.savez(folder / f"{name}.npz", images=images, label=LABEL)
        options = ["--draws", "32", "--levels", "12", "--out", str(folder / name)]
        assert main(["study", str(folder / f"{name}.npz"), *options]) == 0
    for name, vae in (("latent", {"vae": ["diffusers", "AutoencoderKL"]}), ("pixel", {})):
        DDIMScheduler().save_pretrained(folder / name / "scheduler")
        kind = "StableDiffusionPipeline" if vae else "DDPMPipeline"
        index = {"_class_name": kind, "scheduler": ["diffusers", "DDIMScheduler"], **vae}
        (folder / name / "model_index.json").write_text(json.dumps(index))
    return folder


def test_the_same_pictures_in_two_units_agree_once_converted(studies, tmp_path, capsys):
    assert main(["compare", str(studies / "bytes"), str(studies / "signed"), "--out", str(tmp_path / "c")]) == 0
    out = capsys.readouterr().out
    assert "σ of B is multiplied by 0.5" in out
    found = json.loads((tmp_path / "c" / "comparison.json").read_text(encoding="utf-8"))
    (one,) = found["attributes"]
    first, second = (one["half"][which]["sigma"] for which in "AB")
    assert first == pytest.approx(second, rel=0.2)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["compare", "bytes", "other", "--out", "OUT"], "neither can be converted"),
        (["advise", "bytes", "--model", "latent"], "its σ is of pixels and that of"),
        (["advise", "signed", "--model", "latent"], "its σ is of pixels and that of"),
        (["advise", "latents", "--model", "pixel"], "its σ is of latents and that of"),
    ],
)
def test_other_units_are_refused_in_one_line(studies, command, said, tmp_path, capsys):
    latents = studies / "latents"
    if not latents.exists():
        latents.mkdir()
        results = xr.load_dataset(studies / "bytes" / "results.nc", engine="h5netcdf")
        results.assign_attrs(unit_of_sigma="scaled latents of x").to_netcdf(latents / "results.nc", engine="h5netcdf")
    names = {p.name: str(p) for p in studies.iterdir()} | {"OUT": str(tmp_path / "out")}
    assert main([names.get(word, word) for word in command]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_advice_of_signed_pictures_is_in_the_pipelines_pixels(studies, capsys):
    """σ of 1 in pictures from -1 to 1 is .5 of black to white, and 1 in the network's own unit."""
    found = {}
    for name in ("bytes", "signed"):
        assert main(["advise", str(studies / name), "--model", str(studies / "pixel"), "--json"]) == 0
        advice = json.loads(capsys.readouterr().out)
        found[name] = next(a for a in advice if a["kind"] == "guidance_interval")
    signed = found["signed"]
    assert signed["units"]["high"]["sigma"] == pytest.approx(signed["high"]["value"] / 2)
    assert signed["units"]["high"]["network_sigma"] == pytest.approx(signed["high"]["value"])
    assert signed["units"]["high"]["timestep"] == pytest.approx(found["bytes"]["units"]["high"]["timestep"], rel=0.15)
