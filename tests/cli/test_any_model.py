"""Every command takes every kind of model, in the same words; what is no model is refused in one line."""

from __future__ import annotations

import csv
import json
import os
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

import sigmascope
from dressing import COLOURS, Exact, pictures
from sigmascope.adapters import Foreign, Unit, load_model
from sigmascope.cli import main
from sigmascope.core import Attribute, Denoiser, InputError
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.noise import Discrete
from sigmascope.studies.subjects.model import ConditionalModel

SMALL = ["--draws", "16", "--levels", "6", "--sigma-max", "8", "--sigma-min", ".06"]
FUNCTION = """
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from pathlib import Path
from dressing import COLOURS, Exact
from sigmascope.adapters import Foreign, Unit
from sigmascope.core import Attribute
from sigmascope.noise import Discrete

PATH = Path({path!r})
colour = Attribute("colour", COLOURS, torch.full((3,), 1 / 3, dtype=torch.float64))

def build():
    return Foreign(Exact(PATH, COLOURS), (3, 4, 4), Discrete.linear(), "epsilon", attribute=colour, null=3,
                   unit=Unit(2.0, -1.0))

def free():
    return Foreign(Exact(PATH), (3, 4, 4), Discrete.linear(), "epsilon", unit=Unit(2.0, -1.0))

def pipe():
    return DDIMPipeline(UNet2DModel.from_pretrained({pipeline!r}, subfolder="unet"), DDIMScheduler())

def folder():
    return {trained!r}

def name():
    return "bundled"

def raises():
    raise RuntimeError("no weights here")

def leaves():
    raise SystemExit(0)

def other():
    return 3

def network():
    return torch.nn.Linear(3, 3)

def again():
    return "mine:build"

def wants(device):
    return build()

def wrong_shape():
    return Foreign(Exact(PATH), (3, 8, 8), Discrete.linear(), "epsilon")

number = 3
"""


def unet(seed=0, classes=4):
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=4, in_channels=3, out_channels=3, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=classes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with data, a trained model, a pipeline, a hub's cache and a module that returns models."""
    root = tmp_path_factory.mktemp("work")
    path = pictures(root)
    pipe = DDIMPipeline(unet(), DDIMScheduler(clip_sample=False))
    pipe.register_to_config(id2label=dict(enumerate(COLOURS)))
    pipe.save_pretrained(root / "pipeline")
    snapshot = root / "hub" / "models--me--mine" / "snapshots" / "0123456789abcdef"
    pipe.save_pretrained(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    trained = ["train", str(path), "--attributes", "colour", "--steps", "4", "--width", "8", "--depth", "1"]
    assert main([*trained, "--network", "mlp", "--out", str(root / "trained")]) == 0
    text = FUNCTION.format(path=str(path), pipeline=str(root / "pipeline"), trained=str(root / "trained"))
    (root / "mine.py").write_text(text)
    (root / "classes.txt").write_text("\n".join(COLOURS))
    return root


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.DIFFUSERS_CACHE", str(place / "hub"), raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sys.modules.pop("mine", None)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != os.getcwd()])
    yield
    sys.modules.pop("mine", None)


MODELS = {
    "function": ["mine:build"],
    "training": ["trained"],
    "pipeline": ["pipeline", "--null-class", "3"],
    "pipeline by its prefix": ["diffusers:pipeline", "--null-class", "3"],
    "object of a pipeline": ["mine:pipe", "--null-class", "3", "--classes", "classes.txt"],
    "hub": ["hub:me/mine", "--null-class", "3"],
    "function that names a folder": ["mine:folder"],
}


def run(*args) -> int:
    return main([str(a) for a in args])


@pytest.mark.filterwarnings("ignore::sigmascope.information.above.CoarseTopWarning")  # the networks are untrained
@pytest.mark.parametrize("kind", MODELS)
def test_study_generate_fork_advise_compare(place, tmp_path, capsys, kind):
    data = ["pictures.npz", "--attributes", "colour"]
    budget = ["--budget", "6000", "--estimators", "score_gap,filter,likelihood"]
    for out, seed in ((tmp_path / "a", 0), (tmp_path / "b", 1)):
        assert run("study", *data, "--model", *MODELS[kind], *SMALL, *budget, "--seed", seed, "--out", out) == 0
    results = xr.load_dataset(tmp_path / "a" / "results.nc", engine="h5netcdf")
    assert list(results.attribute.values) == ["colour"]
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert (" --model mine:" in page) == MODELS[kind][0].startswith("mine:")
    assert run("advise", tmp_path / "a", "--words") == 0
    assert run("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "compared") == 0
    capsys.readouterr()
    assert run("generate", *data, "--model", *MODELS[kind], "--n", 4, "--steps", 12, "--watch", "colour",
               "--out", tmp_path / "made") == 0  # fmt: skip
    assert "colour  decided (p > 0.9) in" in capsys.readouterr().out
    assert run("fork", *data, "--model", *MODELS[kind][:3], "--sigma", 2, "--seeds", 3, "--forks", 4, "--steps", 8,
               "--out", tmp_path / "forked") == 0  # fmt: skip
    with np.load(tmp_path / "made" / "generate.npz") as file:
        assert file["images"].shape == (4, 3, 4, 4)
        assert file["posterior.colour"].shape[1:] == (4, 3)
    with (tmp_path / "forked" / "forks.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3


def test_a_model_is_loaded_once_and_its_problem_is_made_once(tmp_path, monkeypatch):
    """Where a function names the folder of a training, and where a study is planned."""
    counts, load, make = {"load": 0, "problem": 0}, NeuralDenoiser.load.__func__, ConditionalModel.problem

    def loading(cls, *args):
        counts["load"] += 1
        return load(cls, *args)

    def making(self, spec):
        counts["problem"] += 1
        return make(self, spec)

    monkeypatch.setattr(NeuralDenoiser, "load", classmethod(loading))
    monkeypatch.setattr(ConditionalModel, "problem", making)
    data = ["pictures.npz", "--attributes", "colour", "--model", "mine:folder", *SMALL, "--budget", "4000"]
    assert run("study", *data, "--estimators", "score_gap", "--out", tmp_path / "a") == 0
    assert counts == {"load": 1, "problem": 1}


@pytest.mark.parametrize("model", ["pipeline", "diffusers:pipeline", "mine:pipe", "hub:me/mine"])
def test_translate_takes_pipelines(capsys, model):
    assert run("translate", "--model", model, "--strength", ".5", "--json") == 0
    assert abs(json.loads(capsys.readouterr().out)["strength"] - 0.5) < 0.02


def test_translate_takes_a_network_with_a_schedule(capsys):
    """The table of its own schedule: it has timesteps, and no sampler of its own."""
    assert run("translate", "--model", "mine:build", "--sigma", "1", "--json") == 0
    level = json.loads(capsys.readouterr().out)
    own = Discrete.linear()
    assert abs(float(own.sigma(level["timestep"])) / 2 - 1) < 1e-3
    assert level["network_sigma"] == pytest.approx(2)


def test_advice_in_the_units_of_any_pipeline(tmp_path, capsys):
    """A study of a network without a scheduler, in the steps of a pipeline that a function returns."""
    data = ["pictures.npz", "--attributes", "colour", "--model", "mine:build", *SMALL, "--budget", "6000"]
    assert run("study", *data, "--estimators", "score_gap,filter", "--out", tmp_path / "a") == 0
    capsys.readouterr()
    assert run("advise", tmp_path / "a", "--model", "mine:pipe", "--steps", 30, "--words") == 0
    assert "of 30" in capsys.readouterr().out
    assert run("advise", tmp_path / "a", "--model", "mine:build") == 2
    assert "has no scheduler" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["trained", "bundled", "mine:folder"])
def test_translate_says_what_has_no_units(capsys, model):
    assert run("translate", "--model", model, "--sigma", "1") == 2
    words = capsys.readouterr().err
    assert "has no scheduler" in words
    assert words.count("\n") == 1


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere:build", "cannot be imported"),
        ("mine:nothing", "cannot be imported"),
        ("mine:number", "is a int: expected a function"),
        ("mine:raises", "raised RuntimeError: no weights here"),
        ("mine:leaves", "raised SystemExit: 0"),
        ("mine:other", "a int is no model"),
        ("mine:network", "a Linear is a network, and not yet a denoiser"),
        ("mine:again", "another function"),
        ("mine:wants", "raised TypeError: wants() missing 1 required positional argument: 'device'"),
        ("mine:wrong_shape", "expected"),
        ("nothing-here", "nothing-here: "),
    ],
)
@pytest.mark.parametrize("command", ["study", "generate", "fork"])
def test_what_is_no_model_is_one_line(tmp_path, capsys, command, model, said):
    out = tmp_path / "out"
    assert run(command, "pictures.npz", "--attributes", "colour", "--model", model, "--out", out) == 2
    words = capsys.readouterr().err
    assert said in words
    assert words.startswith("sigmascope: ")
    assert words.count("\n") == 1
    assert not out.exists()


def test_prompts_and_a_model_without_prompts(tmp_path, capsys):
    for model in ("pipeline", "mine:pipe", "mine:build", "trained"):
        assert run("prompts", "--model", model, "--prompt", "a red cube", "--out", tmp_path / "p") == 2
        words = capsys.readouterr().err
        assert "prompts" in words
        assert words.count("\n") == 1


def test_a_specification_alone_imports_nothing(tmp_path, capsys):
    data = ["pictures.npz", "--attributes", "colour", "--model", "mine:build", *SMALL, "--budget", "6000"]
    assert run("study", *data, "--estimators", "score_gap", "--out", tmp_path / "a") == 0
    sys.modules.pop("mine", None)
    capsys.readouterr()
    again = ["study", "--spec", tmp_path / "a" / "spec.toml", "--out", tmp_path / "b"]
    assert run(*again) == 2
    assert (
        "it runs the function 'mine:build' as model: add --model mine:build if you trust it" in capsys.readouterr().err
    )
    assert "mine" not in sys.modules
    assert run(*again, "--model", "mine:build") == 0
    first, second = (xr.load_dataset(tmp_path / x / "results.nc", engine="h5netcdf") for x in "ab")
    assert np.array_equal(first.information.values, second.information.values)
    text = (tmp_path / "a" / "spec.toml").read_text()
    assert 'model = "mine:build"' in text
    assert 'model_fingerprint = "' in text


def test_other_weights_are_seen(tmp_path, place, capsys):
    data = ["pictures.npz", "--attributes", "colour", "--model", "mine:net", *SMALL, "--budget", "6000"]
    module = place / "mine.py"
    text = module.read_text()
    build = (
        "\ndef net():\n    torch.manual_seed({})\n    linear = torch.nn.Linear(48, 48)\n"
        "    network = lambda x, t, c: linear(x.flatten(1)).reshape(x.shape)\n"
        "    return Foreign(network, (3, 4, 4), Discrete.linear(), 'epsilon', attribute=colour, null=3,"
        " unit=Unit(2.0, -1.0))\n"
    )
    try:
        module.write_text(text + build.format(0))
        assert run("study", *data, "--estimators", "score_gap", "--out", tmp_path / "a") == 0
        sys.modules.pop("mine", None)
        module.write_text(text + build.format(1))
        os.utime(module, (1, 1))
        again = ["study", "--spec", tmp_path / "a" / "spec.toml", "--model", "mine:net", "--out", tmp_path / "b"]
        assert run(*again) == 2
        assert "the model is not that of the specification" in capsys.readouterr().err
    finally:
        module.write_text(text)
        os.utime(module, None)


def foreign(path, **options):
    colour = Attribute("colour", COLOURS, torch.full((3,), 1 / 3, dtype=torch.float64))
    usual = {"attribute": colour, "null": 3, "unit": Unit(2.0, -1.0)}
    return Foreign(Exact(path, COLOURS), (3, 4, 4), Discrete.linear(), "epsilon", **(usual | options))


@pytest.mark.filterwarnings("ignore::sigmascope.information.above.CoarseTopWarning")  # the pipeline is untrained
def test_objects_of_python(place, tmp_path):
    """A denoiser, a pipeline and what wraps them, with data by name and by array; objects come back as they were."""
    sampling = sigmascope.Sampling(draws=16, levels=6, sigma_max=8.0, sigma_min=0.06)
    options = sigmascope.GapOptions(budget=6000)
    named = sigmascope.study(
        "pictures.npz", foreign(place / "pictures.npz"), attributes="colour", estimators="score_gap,filter",
        sampling=sampling, options=options, out=tmp_path / "a",
    )  # fmt: skip
    by_name = sigmascope.study(
        "pictures.npz", "mine:build", attributes="colour", estimators="score_gap,filter", sampling=sampling,
        options=options,
    )  # fmt: skip
    assert np.array_equal(named.information.values, by_name.information.values)
    assert "came from Python" in (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    with np.load("pictures.npz") as file:
        images, labels = file["images"].transpose(0, 3, 1, 2) / 255.0, file["colour"]
    by_array = sigmascope.study(
        images, foreign(place / "pictures.npz"), labels={"colour": labels}, estimators="score_gap,filter",
        sampling=sampling, options=options,
    )  # fmt: skip
    assert np.allclose(named.information.values, by_array.information.values, atol=1e-5)
    pipe = DDPMPipeline(unet(), DDPMScheduler())
    pipe.register_to_config(id2label=dict(enumerate(COLOURS)))
    pipe.unet.train()
    sigmascope.study(
        "pictures.npz", pipe, attributes="colour", estimators="score_gap", sampling=sampling,
        options=[options, sigmascope.PipelineOptions(null_class=3)],
    )  # fmt: skip
    assert pipe.unet.training
    assert all(p.requires_grad for p in pipe.unet.parameters())


def test_an_object_is_not_read_from_a_specification(place, tmp_path, capsys):
    sampling = sigmascope.Sampling(draws=16, levels=6, sigma_max=8.0, sigma_min=0.06)
    sigmascope.study(
        "pictures.npz", foreign(place / "pictures.npz"), attributes="colour", estimators="score_gap", sampling=sampling,
        options=sigmascope.GapOptions(budget=6000), out=tmp_path / "a",
    )  # fmt: skip
    assert run("study", "--spec", tmp_path / "a" / "spec.toml", "--out", tmp_path / "b") == 2
    assert "this model came from Python" in capsys.readouterr().err


def test_several_attributes_of_one_denoiser(place):
    """A denoiser that knows two attributes by name: both are measured."""
    data = sigmascope.load("pictures.npz")
    exact = sigmascope.FiniteDenoiser(data)
    results = sigmascope.study(
        data, exact, estimators="score_gap,filter", options=sigmascope.GapOptions(budget=40_000),
        sampling=sigmascope.Sampling(draws=64, levels=6, sigma_max=8.0, sigma_min=0.06),
    )  # fmt: skip
    truth = sigmascope.study(
        data, sampling=sigmascope.Sampling(draws=512, levels=6, sigma_max=8.0, sigma_min=0.06), estimators="posterior"
    )
    for name in ("colour", "bright"):
        off = results.information.sel(estimator="score_gap", attribute=name) - truth.information.sel(
            estimator="posterior", attribute=name
        )
        error = np.hypot(
            results.stderr.sel(estimator="score_gap", attribute=name),
            truth.stderr.sel(estimator="posterior", attribute=name),
        )
        assert float((np.abs(off) / (error + 0.01)).max()) < 4


def test_a_network_without_classes(place, tmp_path, capsys):
    """It is studied by forks; generated images are labelled by continuations, or not at all without data."""
    data = ["pictures.npz", "--attributes", "colour", "--model", "mine:free"]
    assert run("study", *data, *SMALL, "--forks", 8, "--steps", 8, "--estimators", "forks,own_path",
               "--out", tmp_path / "a") == 0  # fmt: skip
    capsys.readouterr()
    assert run("generate", *data, "--n", 6, "--steps", 20, "--out", tmp_path / "b") == 0
    assert "colour  decided (p > 0.9) in 6 of 6 images, in half of these by step" in capsys.readouterr().out
    assert run("generate", "--model", "mine:free", "--n", 3, "--steps", 10, "--out", tmp_path / "c") == 0
    assert "no attribute to follow" in capsys.readouterr().out
    assert not (tmp_path / "c" / "decisions.png").exists()
    assert run("fork", "--model", "mine:free", "--sigma", 1, "--seeds", 2, "--forks", 3, "--out", tmp_path / "d") == 0
    assert run("generate", "--model", "mine:free", "--watch", "colour", "--out", tmp_path / "e") == 2
    assert "the model has no attribute: name labelled DATA" in capsys.readouterr().err


def test_decided_steps_of_an_exact_network(place, tmp_path, capsys):
    """Each image is decided where its belief stays above .9, and ends at an item of the decided value."""
    assert run("generate", "pictures.npz", "--attributes", "colour", "--model", "mine:build", "--n", 24, "--steps",
               150, "--out", tmp_path / "made") == 0  # fmt: skip
    with np.load(tmp_path / "made" / "generate.npz") as file:
        images, belief, step = file["images"], file["posterior.colour"], file["step"]
    assert np.array_equal(step, np.arange(len(belief)))
    values = sorted(COLOURS)
    brightest = images.mean((2, 3)).argmax(1)  # red, green, blue
    with (tmp_path / "made" / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    sure = [row for row in rows if row["colour_step"]]
    assert len(sure) >= 22
    assert sum(row["colour"] == COLOURS[brightest[int(row["image"])]] for row in sure) >= len(sure) - 1
    for row in sure:
        own = belief[:, int(row["image"]), values.index(row["colour"])]
        k = int(row["colour_step"])
        assert (own[k:] > 0.9).all()
        assert k == 0 or own[k - 1] <= 0.9


def test_a_bare_network_and_other_things_are_refused():
    with pytest.raises(InputError, match="is a network, and not yet a denoiser"):
        load_model(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="is no model: expected a denoiser"):
        load_model({"weights": 1})

    class Odd(Denoiser):
        def forward(self, y, sigma, known=None):
            return y

    with pytest.raises(InputError, match="has no event or no attributes"):
        load_model(Odd())
    broken = foreign("pictures.npz", unit=None)
    broken.network = lambda x, t, c: x[:, :2]
    with pytest.raises(InputError, match="expected the same"):
        load_model(broken)
    broken.network = lambda x, t, c: x / 0
    with pytest.raises(InputError, match="is not finite"):
        load_model(broken)
    broken.network = lambda x, t, c: torch.zeros(3) @ x
    with pytest.raises(InputError, match="its network raised RuntimeError"):
        load_model(broken)


def test_a_network_that_takes_no_class():
    linear = torch.nn.Linear(2, 2)
    loaded = load_model(Foreign(lambda x, t: linear(x), (2,), Discrete.linear(), "epsilon"))
    assert loaded.denoiser(torch.zeros(1, 2), torch.ones(1)).shape == (1, 2)
