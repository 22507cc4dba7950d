"""Studies of pipelines: an exact network in a pipeline's clothes gives the exact curves, with classes or without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

from asked import study
from dressing import COLOURS, Exact, pictures
from dressing import dressed as dress_up
from sigmascope.cli import main
from sigmascope.core import Attribute, InputError
from sigmascope.information.jobs.losses import loss_calls
from sigmascope.studies.labelling import Nearest, by_function
from sigmascope.studies.laws import OWN_PATH
from sigmascope.studies.results import path_curves


@pytest.fixture
def dressed(tmp_path, monkeypatch):
    """A pipeline whose network is exact: its classes in another order than the values of the data."""
    path = pictures(tmp_path)

    def dress(classes: bool, names=("blue", "red", "green"), empty=True):
        pipe = dress_up(Exact(path, ("blue", "red", "green")), classes, names, empty)
        monkeypatch.setattr("sigmascope.adapters.models.load_pipeline", lambda *_, **__: pipe)
        return str(path)

    return dress


def apart(results: xr.Dataset, estimator: str) -> np.ndarray:
    """How far an estimator is from the posterior on the same draws, in paired standard errors, by level."""
    per_draw = results.information_per_draw
    off = per_draw.sel(estimator=estimator) - per_draw.sel(estimator="posterior")
    error = np.sqrt(off.var("draw", ddof=1) / off.sizes["draw"]) + 1e-3
    return ((off.mean("draw")) / error).values[0]


def test_forks_of_an_exact_network_are_the_posterior(dressed):
    """Children by the sampler, labelled by the nearest item; the pipeline's clock, unit and parametrisation between."""
    results = study(
        dressed(False), attributes="colour", model="diffusers:x", draws=48, levels=7, sigma_max=8.0, forks=24,
        steps=30, estimators="forks,posterior", sigma_min=0.06,
    )  # fmt: skip
    truth = results.information.sel(estimator="posterior").values[0]
    assert truth[0] < 0.1 < 0.9 < truth[-1]
    assert np.abs(apart(results, "forks")).max() < 4
    assert results.attrs["network_calls"] > 48 * 24 * 7
    assert results.children.shape[1:] == (6, 3, 4, 4)
    kept = results.kept_per_draw.mean("draw").values[0]
    assert kept[0] < 0.5 < 0.95 < kept[-1]
    assert abs(float(results.made_entropy[0]) - float(results.ceiling[0])) < 0.1


def test_proportions_that_differ_are_marked(tmp_path, monkeypatch, capsys):
    """A pipeline that makes three of four images in one colour: its curve of the colour is biased, and no ground for
    advice; that of the brightness, which it makes as often as the data have it, is one."""
    path = pictures(tmp_path)
    with np.load(path) as file:
        weights = np.where(file["colour"] == "red", 6.0, 1.0)
    pipe = dress_up(Exact(path, COLOURS, weights), False)
    monkeypatch.setattr("sigmascope.adapters.models.load_pipeline", lambda *_, **__: pipe)
    options = ["--draws", "24", "--levels", "6", "--sigma-max", "8", "--sigma-min", ".06", "--forks", "12"]
    options += ["--steps", "10", "--estimators", "forks"]
    out = tmp_path / "out"
    assert main(["study", str(path), "--model", "diffusers:x", *options, "--out", str(out)]) == 0
    results = xr.load_dataset(out / "results.nc", engine="h5netcdf").sel(estimator="forks")
    assert not results.trusted.sel(attribute="colour").any()
    assert results.trusted.sel(attribute="bright").all()
    assert "does not make its values in the proportions" in str(results.verdict.sel(attribute="colour").values)
    assert results.attrs["main_estimator"] == "heldout"  # the data alone, since forks are biased
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "By the lower bound of the data alone. In order" in page
    assert "forks is biased (the model does not make its values in the proportions" in page
    capsys.readouterr()
    assert main(["advise", str(out), "--words", "--estimator", "forks"]) == 0
    words = capsys.readouterr().out
    assert "guide towards bright" in words
    assert "guide towards colour" not in words
    assert "forks is marked as biased there (biased at all levels" in words


def test_parents_have_streams_of_their_own(dressed, monkeypatch):
    """The same parent, many times over: its children must not be the same in every block of draws."""
    import sigmascope.studies.subjects.sampler as module
    from sigmascope.core import Draws

    path, own = dressed(False), module.draw_items

    def same(*args):
        d = own(*args)
        return Draws(d.items, d.v[:1].expand_as(d.v), d.noise[:1].expand_as(d.noise), d.labels)

    monkeypatch.setattr(module, "draw_items", same)
    monkeypatch.setattr("sigmascope.information.jobs.forking._ROWS", 24)
    results = study(
        path, attributes="colour", model="diffusers:x", draws=6, levels=2, sigma_max=2.0, forks=24, steps=8,
        estimators="forks", sigma_min=1.0,
    )  # fmt: skip
    assert len(np.unique(results.information_per_draw.values[0, 0, 0])) > 2


def test_the_check_would_see_children_of_another_level(dressed, monkeypatch):
    import sigmascope.information.jobs.forking as module

    path, own = dressed(False), module.fork
    monkeypatch.setattr(module, "fork", lambda d, y, levels, *a, **k: own(d, y, [2 * s for s in levels], *a, **k))
    results = study(
        path, attributes="colour", model="diffusers:x", draws=48, levels=5, sigma_max=4.0, forks=24, steps=20,
        estimators="forks,posterior", sigma_min=0.06,
    )  # fmt: skip
    assert np.abs(apart(results, "forks")).max() > 8


def test_given_classes_by_name(dressed):
    """Gaps and the filter of a class-conditional network whose classes stand in another order than the data's."""
    results = study(
        dressed(True), attributes="colour", model="diffusers:x", draws=128, levels=7, sigma_max=8.0,
        sigma_min=0.06, budget=15_000, estimators="score_gap,mmse_gap,filter,posterior",
    )  # fmt: skip
    truth = results.information.sel(estimator="posterior")
    for e in ("score_gap", "mmse_gap"):
        of = results.sel(estimator=e)
        error = np.hypot(of.stderr, results.stderr.sel(estimator="posterior")).values[0] + 2e-3
        assert np.abs((of.information - truth).values[0] / error).max() < 4, e
    assert apart(results, "bound").max() < 4
    assert results.attrs["main_estimator"] == "bound"


@pytest.mark.parametrize("empty", [True, False])
def test_network_calls_are_those_that_the_network_answers(dressed, monkeypatch, empty):
    """Gaps and the model's own path; those of the losses come before all numbers, and are said apart."""
    asked, own = [], Exact.__call__

    def recorded(self, x, *rest):
        asked.append(len(x))
        return own(self, x, *rest)

    monkeypatch.setattr(Exact, "__call__", recorded)
    path = dressed(True, empty=empty)
    results = study(
        path, attributes="colour", model="diffusers:x", draws=32, levels=3, sigma_max=4.0, sigma_min=0.2,
        budget=2000 if empty else 31_000, estimators="score_gap,own_path",
    )  # fmt: skip
    unconditional = 1 if empty else int(results.attrs["unconditional_calls"])
    assert results.attrs["network_calls"] == sum(asked) - loss_calls(3, 1, True, unconditional)[1]


def test_the_own_path_of_a_conditional_network(dressed, tmp_path, capsys):
    """Of an exact one it carries what noised data do; its generations are the model's, and the results say so."""
    options = ["--attributes", "colour", "--model", "diffusers:x", "--draws", "96", "--levels", "5"]
    options += ["--sigma-max", "8", "--sigma-min", ".06", "--budget", "3000"]
    options += ["--estimators", "score_gap,posterior,own_path"]
    path = dressed(True)
    assert main(["study", path, *options, "--dry-run"]) == 0
    assert "own path    " in capsys.readouterr().out
    assert main(["study", path, *options, "--out", str(tmp_path / "out")]) == 0
    results = xr.load_dataset(tmp_path / "out" / "results.nc", engine="h5netcdf")
    own = path_curves(results)["colour"]
    exact = results.sel(estimator="posterior")
    error = np.hypot(own.stderr, exact.stderr.values[0]) + 2e-3
    assert np.abs((own.value - exact.information.values[0]) / error).max() < 3
    assert results.path_information.attrs.items() >= {"law": OWN_PATH, "by": "gap"}.items()
    capsys.readouterr()
    assert main(["advise", str(tmp_path / "out")]) == 0
    assert "own path" in capsys.readouterr().out


def test_a_network_without_an_empty_class_is_the_mixture_over_its_classes(dressed, tmp_path):
    """Its gaps are those of the exact posterior, the filter's bound is below them; and it is marked as such."""
    results = study(
        dressed(True, empty=False), attributes="colour", model="diffusers:x", draws=64, levels=5, sigma_max=8.0,
        sigma_min=0.06, budget=150_000, estimators="score_gap,mmse_gap,filter,posterior", out=tmp_path / "out",
    )  # fmt: skip
    truth = results.information.sel(estimator="posterior")
    for e in ("score_gap", "mmse_gap"):
        of = results.sel(estimator=e)
        error = np.hypot(of.stderr, results.stderr.sel(estimator="posterior")).values[0] + 2e-3
        assert np.abs((of.information - truth).values[0] / error).max() < 4, e
        assert float(of.stderr.max()) < 0.08
    assert apart(results, "bound").max() < 4
    assert results.attrs["unconditional"] == "mixture over classes"
    assert results.attrs["unconditional_calls"] == 3 * 25
    assert 100_000 < results.attrs["network_calls"] <= 150_000
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The network has no empty class: its unconditional output is the mixture over its classes" in page
    assert "Which class is which" in page
    assert '<tr><th scope="row">blue</th><td>0</td><td>blue</td></tr>' in page


def test_forks_of_a_network_without_an_empty_class(dressed):
    """They follow the mixture over its classes, at equal shares."""
    results = study(
        dressed(True, empty=False), attributes="colour", model="diffusers:x", draws=8, levels=2, sigma_max=2.0,
        forks=8, steps=6, estimators="forks,posterior", sigma_min=0.2,
    )  # fmt: skip
    assert np.abs(apart(results, "forks")).max() < 4
    assert results.attrs["unconditional"] == "mixture over classes"


def test_labels_of_a_function():
    a = Attribute("digit", ("0", "1", "2"), torch.full((3,), 1 / 3, dtype=torch.float64))
    images = torch.rand(4, 3, 8, 8)
    assert by_function(lambda x: [0, 1, 2, 0], "d", [a])(images)["digit"].tolist() == [0, 1, 2, 0]
    assert list(by_function(lambda x: {"b": [0] * 4, "c": [1] * 4}, "d", [])(images)) == ["b", "c"]
    for given, said in (
        (lambda x: [0, 1, 2], "one index of a value per image"),
        (lambda x: torch.rand(4), "one index of a value per image"),
        (lambda x: [0, 1, 2, 3], "from 0 to 3: expected 0 to 2"),
        (lambda x: {"hue": [0, 1, 2, 0]}, "digit is missing"),
    ):
        with pytest.raises(InputError, match=said):
            by_function(given, "d", [a])(images)


def test_the_nearest_item_labels(tmp_path):
    data = Exact(pictures(tmp_path)).data
    v = data.source.read(0, len(data))
    near = v + 0.02 * torch.randn(v.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Nearest(data)(near)["colour"], data.labels["colour"])


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Tiny pipelines with random weights, with and without classes, and pictures."""
    folder = tmp_path_factory.mktemp("pipes")
    for name, classes in (("free", None), ("classes", 4)):
        torch.manual_seed(0)
        net = UNet2DModel(
            sample_size=4, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
            norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
            num_class_embeds=classes,
        )  # fmt: skip
        DDPMPipeline(net, DDIMScheduler()).save_pretrained(folder / name, safe_serialization=True)
    DDPMPipeline(net, DDIMScheduler()).save_pretrained(folder / "pickled", safe_serialization=False)
    (folder / "mine.py").write_text("def colour(images):\n    return images.mean((2, 3)).argmax(1)\n")
    return folder, pictures(folder)


SHORT = ["--draws", "8", "--levels", "4", "--forks", "6", "--steps", "6"]


def _not_made_again(made, out, monkeypatch, capsys):
    """Images are kept: a study that goes on takes them; nothing of others is lost."""
    from sigmascope.studies.subjects import generated

    calls = []
    whole = generated._Images
    monkeypatch.setattr(generated, "_Images", lambda *args: (calls.append(1), whole(*args))[1])

    def refused(folder, said, *options):
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert main([*made, *options, "--out", str(folder)]) == 2
        assert said in capsys.readouterr().err
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
        assert not calls

    assert main([*made, "--out", str(out)]) == 0
    assert "holds these results already; nothing was done" in capsys.readouterr().err
    refused(out, "its seed is 0, not 1", "--seed", "1")
    fresh = out.parent / "fresh"
    fresh.mkdir()
    (fresh / "generated.npz").write_bytes((out / "generated.npz").read_bytes())  # stopped before all else
    refused(fresh, "images of another study", "--seed", "1")
    assert main([*made, "--out", str(fresh)]) == 0
    assert not calls
    assert (fresh / "results.nc").exists()
    other = out.parent / "other"
    other.mkdir()
    for content in (b"mine", (out / "generated.npz").read_bytes()[:1000]):
        (other / "generated.npz").write_bytes(content)
        refused(other, "no images of a study")
    np.savez(other / "generated.npz", images=np.zeros(3))
    refused(other, "no images of a study")
    (other / "generated.npz").unlink()
    monkeypatch.setattr(generated, "_ROWS", 8)
    steps = []
    step = generated.sample
    monkeypatch.setattr(generated, "sample", lambda *args, **more: (steps.append(1), step(*args, **more))[1])
    assert main([*made, "--attributes", "nope", "--out", str(other)]) == 2
    assert "it gives no 'nope'" in capsys.readouterr().err
    assert len(steps) == 1


@pytest.mark.filterwarnings("ignore")
def test_commands_from_folder_to_page(real, tmp_path, capsys, monkeypatch):
    folder, path = real
    monkeypatch.chdir(folder)
    model = f"diffusers:{folder / 'free'}"
    data = [str(path), "--attributes", "colour"]
    assert main(["study", *data, "--model", model, *SHORT, "--out", str(tmp_path / "a")]) == 0
    assert "σ at 50 %" in capsys.readouterr().out
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "parameters, unconditional" in page
    assert "the nearest item of the data" in page
    assert main(["study", *data, "--model", model, *SHORT, "--out", str(tmp_path / "a")]) == 0
    assert "holds these results already; nothing was done" in capsys.readouterr().err
    made = ["study", "generated", "--labeller", "mine:colour", "--model", model, *SHORT]
    capsys.readouterr()
    assert main([*made, "--out", str(tmp_path / "b"), "--dry-run"]) == 0
    assert "520 images by the model: 6,240 network calls" in capsys.readouterr().out
    assert not (tmp_path / "b").exists()
    for name in ("b", "c"):
        assert main([*made, "--out", str(tmp_path / name)]) == 0
    _not_made_again(made, tmp_path / "b", monkeypatch, capsys)
    one, two = (xr.load_dataset(tmp_path / n / "results.nc", engine="h5netcdf") for n in "bc")
    assert list(one.attribute.values) == ["label"]
    assert list(one.estimator.values) == ["forks", "probes:noisy", "probes:features"]
    assert np.array_equal(one.information, two.information)
    conditional = ["study", *data, "--model", f"diffusers:{folder / 'classes'}", "--null-class", "3", *SHORT[:4]]
    conditional += ["--classes", "by-order"]
    assert main([*conditional, "--budget", "2500", "--out", str(tmp_path / "d")]) == 0
    assert "DDPMPipeline of diffusers" in (tmp_path / "d" / "report.html").read_text(encoding="utf-8")
    pickled = ["--model", f"diffusers:{folder / 'pickled'}", "--allow-pickle", "--null-class", "3"]
    pickled += ["--classes", "by-order"]
    assert main(["study", *data, *pickled, *SHORT[:4], "--dry-run"]) == 0
    assert main(["study", *data, "--model", model, *SHORT, "--dry-run"]) == 0
    assert "parameters, unconditional" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_interrupted_between_levels(real, tmp_path, monkeypatch, capsys):
    folder, path = real
    import sigmascope.studies.run as compute
    from sigmascope.information.jobs.forking import ForkJob

    monkeypatch.setattr(compute, "CHECKPOINT_SECONDS", 0.0)
    args = ["study", str(path), "--attributes", "colour", "--model", f"diffusers:{folder / 'free'}", *SHORT]
    args += ["--estimators", "forks", "--out"]
    assert main([*args, str(tmp_path / "whole")]) == 0
    own, done = ForkJob.step, []

    def step(self):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        own(self)

    monkeypatch.setattr(ForkJob, "step", step)
    assert main([*args, str(tmp_path / "part")]) == 130
    monkeypatch.setattr(ForkJob, "step", own)
    assert main([*args, str(tmp_path / "part")]) == 0
    one, two = (xr.load_dataset(tmp_path / n / "results.nc", engine="h5netcdf") for n in ("whole", "part"))
    assert np.array_equal(one.information_per_draw, two.information_per_draw)
    assert one.attrs["network_calls"] == two.attrs["network_calls"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["DATA", "--model", "diffusers:nowhere"], "there is no such folder"),
        (["DATA", "--model", "FREE", "--estimators", "score_gap"], "the network has none"),
        (["DATA", "--model", "CLASSES", "--estimators", "score_gap"], "name the one that is the class of the"),
        (["DATA", "--model", "CLASSES", "--null-class", "1"], "only the last, 3, can be one"),
        (["DATA", "--model", "CLASSES", "--null-class", "3"], "name the one that is the class of the"),
        (["DATA", "--model", "PICKLED"], "pass --allow-pickle if you trust"),
        (["generated", "--model", "FREE"], "pass --labeller"),
        (["generated", "--model", "FREE", "--labeller", "mine"], "expected module:function"),
        (["generated", "--model", "FREE", "--labeller", "nowhere:f"], "cannot be imported"),
        (["DATA", "--model", "FREE", "--forks", "2"], "pass at least --forks 3"),
        (["DATA", "--model", "FREE", "--sigma-max", "0.004", "--sigma-min", "0.001"], "no level of the study"),
        (["DATA", "--model", "FREE", "--estimators", "probes"], "is measured by forks"),
        (["scenes", "--size", "16", "--model", "FREE"], "the model's (3, 4, 4)"),
        (["DATA", "--labeller", "a:b"], "--labeller a:b is an option of a pipeline"),
        (["DATA", "--model", "bundled", "--steps", "3"], "--steps 3 is an option of a pipeline"),
    ],
)
def test_what_cannot_be_studied(real, options, said, tmp_path, capsys):
    folder, path = real
    places = {"DATA": str(path), "FREE": f"diffusers:{folder / 'free'}", "CLASSES": f"diffusers:{folder / 'classes'}"}
    places["PICKLED"] = f"diffusers:{folder / 'pickled'}"
    assert main(["study", *(places.get(o, o) for o in options), "--out", str(tmp_path / "out")]) == 2
    words = capsys.readouterr().err.strip()
    assert said in words
    assert "\n" not in words
    assert not (tmp_path / "out").exists()
