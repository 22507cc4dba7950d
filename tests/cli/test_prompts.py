"""sigmascope prompts on tiny pipelines: its numbers by hand, closed forms, images from files, bad input."""

from __future__ import annotations

import json
import math
import pipes
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

from sigmascope.adapters.diffusers.text import load_prompted
from sigmascope.adapters.diffusers.units import Ruler
from sigmascope.cli import main
from sigmascope.core import generator
from sigmascope.information.maps import from_infinity
from sigmascope.sample import Streams

pytestmark = pytest.mark.filterwarnings("ignore")
A, B = "a red cube", "a blue ball"
QUICK = ("--n", "2", "--steps", "3", "--levels", "6", "--noises", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipes") / "stable"
    pipes.stable(path)
    return path


def run(*args):
    return main(["prompts", *map(str, args)])


def read(out):
    with xr.open_dataset(out / "results.nc", engine="h5netcdf") as file:
        return json.loads((out / "prompts.json").read_text()), file.load()


def test_its_numbers_by_hand(folder, tmp_path, capsys):
    """From the stored images alone: every network call made one by one, the integral by its weights."""
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).random((3, 16, 16, 3)).astype(np.float32))
    out = tmp_path / "out"
    options = ("--levels", "6", "--noises", "2", "--seed", "5")
    assert (
        run("--model", f"diffusers:{folder}", "--prompt", A, "--images", tmp_path / "x.npz", *options, "--out", out)
        == 0
    )
    printed = capsys.readouterr()
    said, held = read(out)
    pipe = load_prompted(folder, ["", A])
    sigma = held.sigma.values
    schedule = pipe.denoiser.schedule
    ends = [float(schedule.sigma(t)) for t in (schedule.noise_time, schedule.data_time)]
    assert [sigma[0], sigma[-1]] == pytest.approx(ends)
    pixels = torch.from_numpy(np.load(tmp_path / "x.npz")["images"]).movedim(3, 1)
    latents = torch.cat([pipe.encode(p[None]) for p in pixels]).double()
    rate, error = np.zeros((6, 3, 2)), np.zeros((6, 3, 2))
    where = np.zeros((3, 2, 8, 8))
    weights = from_infinity(sigma)
    for i, v in enumerate(latents):
        for j in range(2):
            noise, y = Streams(5, [(2, 1, i, j)], (4, 8, 8)), v
            below = 0.0
            for k in range(5, -1, -1):
                y, below = y + math.sqrt(sigma[k] ** 2 - below**2) * noise()[0], sigma[k]
                level = torch.tensor([sigma[k]])
                conditional, free = (pipe.denoiser(y[None], level, {"prompt": torch.tensor([a])})[0] for a in (1, 0))
                square = (conditional - free) ** 2 / sigma[k] ** 2
                rate[k, i, j] = float(square.sum())
                error[k, i, j] = float(((v - free) ** 2 - (v - conditional) ** 2).sum()) / sigma[k] ** 2
                where[i, j] += weights[-1, k] * square.sum(0).numpy()
    image = np.einsum("lk,kij->lij", weights, rate).mean(2)
    found = said["divergence"][0]
    assert np.allclose(found["nats"], image.mean(1), rtol=1e-4, atol=1e-7)
    assert np.allclose(found["stderr"], image.std(1, ddof=1) / 3**0.5, rtol=1e-3, atol=1e-7)
    assert np.allclose(found["image_nats"], image[-1], rtol=1e-4)
    assert np.allclose(found["by_errors"], np.einsum("lk,kij->l", weights, error) / 6, rtol=1e-3, atol=1e-5)
    assert np.allclose(held.maps.values[0], where.mean(1), rtol=1e-4, atol=1e-8)
    assert np.allclose(held.maps_stderr.values[0], abs(where[:, 0] - where[:, 1]) / 2, rtol=1e-3, atol=1e-7)
    last = np.einsum("k,kij->ij", weights[-1], rate)
    assert np.allclose(found["image_stderr"], abs(last[:, 0] - last[:, 1]) / 2, rtol=1e-3, atol=1e-7)
    assert np.allclose(held.rate.values[0], rate, rtol=1e-4, atol=1e-8)
    ruler = Ruler(pipe.scheduler, 30)
    assert [x["timestep"] for x in said["levels"]] == pytest.approx([ruler.of_sigma(float(s)).timestep for s in sigma])
    assert said["levels"][0]["percent"] == pytest.approx(0.0, abs=1e-6)
    assert f"“{A}” against the empty prompt: {found['nats'][-1]:.1f} ± {found['stderr'][-1]:.1f} nats" in printed.out
    assert "the images came from a file" in printed.out
    assert said["divergence"][0]["against"] == ""
    assert printed.err.strip() == f"See {out / 'prompts.png'}"
    with Image.open(out / "prompts.png") as picture:
        assert min(picture.size) > 500
    assert (out / "prompts.svg").read_text().startswith("<?xml")
    assert {p.name for p in out.iterdir()} == {
        "prompts.png", "prompts.svg", "prompts.json", "prompts.toml", "results.nc",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_numbers(folder, tmp_path, capsys):
    def found(name, *options):
        assert run("--model", folder, "--prompt", A, *QUICK, *options, "--out", tmp_path / name) == 0
        return (tmp_path / name / "prompts.json").read_text(), (tmp_path / name / "prompts.svg").read_bytes()

    first, again = found("a"), found("b")
    assert first == again
    other = json.loads(found("c", "--seed", "1")[0])
    assert other["divergence"][0]["nats"] != json.loads(first[0])["divergence"][0]["nats"]
    assert found("a") == first  # the folder of the same command
    capsys.readouterr()
    assert run("--model", folder, "--prompt", B, *QUICK, "--out", tmp_path / "a") == 2
    assert "results of something else" in capsys.readouterr().err


def test_pictures_of_a_folder_are_those_of_a_file(folder, tmp_path):
    images = np.random.default_rng(1).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images)
    (tmp_path / "x").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "x" / f"{i}.png")
    for name in ("x.npz", "x"):
        out = tmp_path / f"of-{name}"
        options = (*QUICK[:2], *QUICK[4:], "--images", tmp_path / name)  # no steps: nothing is generated
        assert run("--model", folder, "--prompt", A, *options, "--out", out) == 0
    one, two = (read(tmp_path / f"of-{name}") for name in ("x.npz", "x"))
    assert one[0]["divergence"] == two[0]["divergence"]
    assert one[0]["images"] == 2  # --n takes the first
    assert one[1].equals(two[1])


class Exact(torch.nn.Module):
    """The exact denoiser of N(m, c), m by prompt, in the words of epsilon."""

    def __init__(self, network, schedule, spread):
        super().__init__()
        self.kept = torch.nn.Parameter(torch.zeros(()))
        self.schedule, self.spread = schedule, spread
        self.reading = 0.05 * torch.randn(16, 256, generator=generator(3)).double()
        self.means = self.mean(network.text)

    def mean(self, text):
        return text.double().mean(1) @ self.reading

    def forward(self, x, time, encoder_hidden_states):
        t = time.double().numpy()
        alpha, s = (torch.from_numpy(f(t))[:, None] for f in (self.schedule.alpha, self.schedule.sigma))
        y, m = x.double().flatten(1) / alpha, self.mean(encoder_hidden_states)
        v = m + self.spread / (self.spread + s**2) * (y - m)
        return SimpleNamespace(sample=((y - v) / s).reshape(x.shape).float())


@pytest.mark.parametrize("against", ["", B])
def test_an_exact_network_gives_the_closed_form(folder, tmp_path, monkeypatch, against, capsys):
    """KL = ½‖m_A − m_B‖² / (c + σ²), on images of its own; half of it where σ² = c; and at most ln 2 of which."""
    kept = {}

    def exact(path, *, prompts, size, allow_pickle, null, **options):
        pipe = load_prompted(path, prompts, size=size, **options)
        kept["net"] = pipe.denoiser.network.unet = Exact(pipe.denoiser.network, pipe.denoiser.schedule, 0.5)
        return pipe

    monkeypatch.setattr("sigmascope.adapters.models.load_pipeline", exact)
    options = ["--n", "6", "--steps", "12", "--noises", "3", "--out", tmp_path / "out"]
    assert run("--model", folder, "--prompt", A, *options, *(["--against", against] if against else [])) == 0
    said, held = read(tmp_path / "out")
    sigma, m = held.sigma.values, kept["net"].means
    square = float(((m[1] - m[0]) ** 2).sum())
    wanted = 0.5 * square / (0.5 + sigma**2)
    for d in said["divergence"]:
        # Conditional apart by their means alone, every image has the same score gap.
        assert np.allclose(d["nats"], wanted, rtol=0.01, atol=2e-3 * wanted[-1])
        assert abs(d["calibration"]) < 4.5 * d["calibration_stderr"]
    middle = said["shares"][1]
    assert middle["sigma"] == pytest.approx((0.5 + 2 * sigma[-1] ** 2) ** 0.5, rel=0.03)
    assert middle["timestep"] == pytest.approx(
        Ruler(load_prompted(folder, [A]).scheduler).of_sigma(middle["sigma"]).timestep
    )
    assert held.maps.values[0].mean(0).sum() == pytest.approx(wanted[-1], rel=0.01)
    by_place = ((m[1] - m[0]) ** 2).reshape(4, 64).sum(0).numpy() / square
    assert np.allclose(held.maps.values[0].mean(0).ravel() / wanted[-1], by_place, atol=2e-3)
    assert "above σ" not in capsys.readouterr().out
    if not against:
        assert "which" not in said
        assert len(said["divergence"]) == 1
        return
    assert [d["prompt"] for d in said["divergence"]] == [A, B]
    x = np.linspace(-30, 30, 200_001)  # of the projection on the difference, whose variance is c + σ²
    for j in (10, 16, 23):
        half, spread = square**0.5 / 2, (0.5 + sigma[j] ** 2) ** 0.5
        p = np.exp(-((x - half) ** 2) / (2 * spread**2)) / (2 * np.pi) ** 0.5 / spread
        truth = math.log(2) - np.trapezoid(p * np.logaddexp(0, -2 * x * half / spread**2), x)
        assert abs(said["which"]["nats"][j] - truth) < 4 * said["which"]["stderr"][j] + 0.02, j
    assert said["which"]["ceiling"] == pytest.approx(math.log(2))
    assert abs(said["which"]["by_scores"] - truth) < 4 * said["which"]["by_scores_stderr"] + 0.03


def test_a_network_that_does_not_hear_the_prompt(folder, tmp_path, monkeypatch, capsys):
    def deaf(path, *, prompts, size, allow_pickle, null, **options):
        pipe = load_prompted(path, prompts, size=size, **options)
        pipe.denoiser.network.text[1] = pipe.denoiser.network.text[0]
        return pipe

    monkeypatch.setattr("sigmascope.adapters.models.load_pipeline", deaf)
    assert run("--model", folder, "--prompt", A, *QUICK, "--out", tmp_path / "out") == 0
    said, _ = read(tmp_path / "out")
    assert said["divergence"][0]["nats"] == [0.0] * 6
    assert said["shares"][1]["sigma"] is None
    printed = capsys.readouterr().out
    assert "prompt: 0 nats down to" in printed
    assert "50 %           –" in printed


def test_a_flow_of_two_encoders(tmp_path, capsys):
    pipes.flux(tmp_path / "flux")
    out = tmp_path / "out"
    command = ("--model", tmp_path / "flux", "--prompt", A, "--against", B, *QUICK, "--size", "16", "--out", out)
    assert run(*command) == 0
    said, held = read(out)
    assert said["pipeline"] == "FluxPipeline"
    assert said["sigma"][0] == pytest.approx(100.0)
    assert said["levels"][-1]["timestep"] == pytest.approx(1000 * 0.02 / 1.02)
    assert held.maps.shape == (2, 2, 8, 8)
    assert said["which"]["kind"] == "lower bound"
    assert "information about which prompt it is" in capsys.readouterr().out


def test_words_that_are_cut_off_are_said(folder, tmp_path, capsys):
    assert run("--model", folder, "--prompt", "abc " * 12, *QUICK, "--out", tmp_path / "out") == 0
    assert "is cut off" in capsys.readouterr().out


def refused(capsys, *args, words):
    status = run(*args)
    printed = capsys.readouterr()
    assert status == 2, printed
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert words in lines[0]
    assert printed.out == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompt", ""], "no prompt is given"),
        (["--against", A], "both prompts are 'a red cube'"),
        (["--n", "1"], "n is 1: from 2"),
        (["--steps", "1"], "steps is 1: it must be at least 2"),
        (["--levels", "3"], "levels is 3"),
        (["--noises", "1"], "noises is 1"),
        (["--seed", "-1"], "seed is -1"),
        (["--size", "15"], "must be a multiple of 2 pixels"),
        (["--size", "32", "--images", "x.npz"], "images are 16 × 16 and the model's 32 × 32"),
        (["--images", "none.npz"], "no such file"),
        (["--images", "empty"], "there is no picture"),
        (["--images", "no.npz"], "no 'images' can be read from it"),
        (["--images", "text.npz"], "no 'images' can be read from it"),
        (["--images", "one.npz"], "it holds 1 image: at least 2"),
        (["--images", "far.npz"], "pixels go from 0 to 2: expected 0 to 1"),
        (["--images", "low.npz"], "pixels go from -1 to 0: expected 0 to 1"),
        (["--images", "nan.npz"], "not finite"),
        (["--images", "thin.npz"], "expected (height, width, 3)"),
        (["--device", "quantum"], "device 'quantum' cannot be used"),
        (["--model", "nowhere"], "there is no such folder"),
        (["--model", ""], "no pipeline is named"),
        (["--out", ""], "pass --out FOLDER"),
        (["--out", "x.npz"], "it is a file"),
        (["--out", "thesis"], "choose an empty or a new folder"),
    ],
)
def test_bad_input(folder, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    good = np.zeros((2, 16, 16, 3), np.float32)
    np.savez("x.npz", images=good)
    np.savez("no.npz", pictures=good)
    np.savez("one.npz", images=good[:1])
    np.savez("far.npz", images=np.concatenate([good, good + 2]))
    np.savez("low.npz", images=np.concatenate([good, good - 1]))
    np.savez("nan.npz", images=good * np.nan)
    np.savez("thin.npz", images=good[..., 0, 0])
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty").mkdir()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    given = {"--model": str(folder), "--prompt": A, "--out": "out", "--n": "4", "--levels": "4", "--noises": "2"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    refused(capsys, *(x for pair in given.items() for x in pair), words=words)
    assert not (tmp_path / "out").exists()
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_folders_of_models_that_cannot_be_used(folder, tmp_path, capsys):
    own = tmp_path / "pipe"
    pipes.stable(own)
    index = own / "model_index.json"
    whole = json.loads(index.read_text())
    command = ("--prompt", A, *QUICK, "--out", tmp_path / "out", "--model", own)
    capsys.readouterr()  # the bars of saving it
    index.write_text(json.dumps(whole | {"_class_name": "DDPMPipeline"}))
    refused(capsys, *command, words="DDPMPipeline takes no prompts here")
    index.write_text(json.dumps(whole))
    weights = next((own / "unet").glob("*.safetensors"))
    torch.save(torch.nn.Linear(1, 1).state_dict(), own / "unet" / "diffusion_pytorch_model.bin")
    weights.unlink()
    refused(capsys, *command, words="--allow-pickle")
    assert not (tmp_path / "out").exists()
