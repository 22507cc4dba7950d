"""Values of an attribute and classes of a network are matched by name, or as the user says: never by the alphabet."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

from asked import study
from sigmascope.adapters.diffusers.pipelines import load_pipeline
from sigmascope.cli import main
from sigmascope.core import Attribute, InputError
from sigmascope.studies.classes import BY_ORDER, read_classes
from sigmascope.studies.subjects.conditional import classes_of

CLOTHES = ("Dress", "Pullover", "T-shirt", "Trouser")  # as folders are sorted
FASHION = ["T-shirt", "Trouser", "Pullover", "Dress"]  # as classes are numbered
NUMBERS = ("0", "1", "2", "3")


def found(values, own, classes=""):
    a, conditional = (
        Attribute(name, tuple(x), torch.full((len(x),), 1 / len(x), dtype=torch.float64))
        for name, x in (("label", values), ("class", own))
    )
    return classes_of(a, conditional, "m", read_classes(classes))


@pytest.mark.parametrize(
    ("values", "own", "classes", "wanted"),
    [
        (CLOTHES, FASHION, "", [3, 2, 0, 1]),
        (("dress ", "PULLOVER"), FASHION, "", [3, 2]),
        (CLOTHES, NUMBERS, FASHION, [3, 2, 0, 1]),
        (CLOTHES, NUMBERS, dict(enumerate(FASHION)), [3, 2, 0, 1]),
        (CLOTHES, NUMBERS, {n: k for k, n in enumerate(FASHION)}, [3, 2, 0, 1]),
        (CLOTHES, NUMBERS, json.dumps(FASHION), [3, 2, 0, 1]),
        (CLOTHES, NUMBERS, BY_ORDER, [0, 1, 2, 3]),
        (("kitten", "dog"), ("0", "1"), {"cat": 0, "kitten": 0, "dog": 1}, [0, 1]),
        (("1", "0"), ("0", "1"), "", [1, 0]),
        (("00", "07", "09"), [str(k) for k in range(10)], "", [0, 7, 9]),
        (("7", "3"), [f"{k:02d}" for k in range(10)], "", [7, 3]),
        (("goldfish", "great white shark"), ("tench, Tinca tinca", "goldfish, Carassius", "Great  white shark"), "",
         [1, 2]),
        # Accents apart from their letters, as macOS writes the names of folders.
        (("cafe\u0301", "Cr\u00eape"), ("cre\u0302pe", "caf\u00e9"), "", [1, 0]),
        (("crane, bird", "x"), ("crane, bird", "crane", "x"), "", [0, 2]),
    ],
)  # fmt: skip
def test_by_name(values, own, classes, wanted):
    assert found(values, own, classes) == wanted


@pytest.mark.parametrize(
    ("values", "own", "classes", "said"),
    [
        (CLOTHES, NUMBERS, "", "(0, 1, 2, 3) are not the 4 values of 'label' (Dress, Pullover, T-shirt, Trouser)"),
        (CLOTHES, NUMBERS, "", "pass --classes FILE"),
        (CLOTHES, NUMBERS, "", "--classes by-order"),
        (("minus", "plus"), ("0", "1"), "", "'minus' is no class"),
        (("0", "1"), ("cat", "dog"), "", "'0' is no class"),
        (("0", "1", "2"), ("0", "1"), "", "'2' is no class"),
        (("0", "1", "2"), ("0", "1"), BY_ORDER, "as many of them"),
        (("crane", "x"), ("crane (0)", "crane (1)", "x (2)"), "", "stands for classes 0, 1"),
        (("Cat", "cat"), ("cat", "dog"), "", "are one class, 0"),
        (("a", "b"), ("0", "1"), ["a", "b", "c"], "--classes has 3 names, the network 2 classes"),
        (("a", "b"), ("0", "1"), {"a": 0, "b": 5}, "'b' is class 5: the network has classes 0 to 1"),
        (("a", "b"), ("0", "1"), {"a": 0.5}, "the classes cannot be used"),
        (("a", "b"), ("0", "1"), [], "the classes cannot be used"),
        (("a", "b"), ("0", "1"), "{", "no JSON"),
        (("a", "b"), ("0", "1"), "nowhere.txt", "no such file"),
    ],
)
def test_what_has_no_class(values, own, classes, said):
    with pytest.raises(InputError) as error:
        found(values, own, classes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """A pipeline of four numbered classes, pictures of clothes, and files that name the classes."""
    folder = tmp_path_factory.mktemp("clothes")
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=4, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, num_class_embeds=5,
    )  # fmt: skip
    for name in ("plain", "named"):
        DDPMPipeline(net, DDIMScheduler()).save_pretrained(folder / name)
    index = folder / "named" / "model_index.json"
    held = json.loads(index.read_text()) | {"id2label": dict(enumerate([*FASHION, "none"]))}
    index.write_text(json.dumps(held))
    rng = np.random.default_rng(0)
    label = np.arange(40) % 4
    images = (rng.random((40, 4, 4)) * 60 + label[:, None, None] * 50).astype(np.uint8)
    np.savez(folder / "data.npz", images=images, kind=np.array(FASHION)[label])
    (folder / "names.txt").write_text("\n".join(FASHION) + "\n")
    (folder / "names.json").write_text(json.dumps(FASHION))
    return folder


SHORT = ["--draws", "8", "--levels", "4", "--null-class", "4", "--dry-run"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "classes", "conditional"),
    [
        ("plain", ["names.txt"], "Dress     → class 3"),
        ("plain", ["names.json"], "T-shirt   → class 0"),
        ("plain", ["by-order"], "Dress     → class 0"),
        ("named", [], "Dress     → class 3 (Dress)"),
        ("plain", [], None),
        ("plain", ["nowhere.txt"], None),
    ],
)
def test_the_table_is_shown(clothes, model, classes, conditional, capsys):
    given = [x if x == BY_ORDER else str(clothes / x) for x in classes]
    options = ["--classes", *given] if given else []
    args = ["study", str(clothes / "data.npz"), "--model", f"diffusers:{clothes / model}", *SHORT, *options]
    assert main(args) == (0 if conditional else 2)
    said = capsys.readouterr()
    if conditional:
        assert conditional in said.out
    else:
        assert said.err.count("\n") == 1
        assert "--classes" in said.err


@pytest.mark.filterwarnings("ignore")
def test_a_page_has_the_table_and_a_specification_the_names(clothes, tmp_path, capsys):
    model, out = f"diffusers:{clothes / 'plain'}", tmp_path / "out"
    results = study(
        clothes / "data.npz", model=model, null_class=4, classes=dict(enumerate(FASHION)), draws=8, levels=3,
        budget=1500, estimators="score_gap", out=out,
    )  # fmt: skip
    assert json.loads(results.attrs["classes"])[0] == ["Dress", 3, "3"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert '<tr><th scope="row">Dress</th><td>3</td><td>3</td></tr>' in page
    assert main(["study", "--spec", str(out / "spec.toml"), "--dry-run"]) == 0
    assert "T-shirt   → class 0" in capsys.readouterr().out


def test_names_of_a_pipeline_of_pictures(clothes):
    assert load_pipeline(clothes / "named", null=4).denoiser.attributes[0].values == tuple(FASHION)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["scenes", "--classes", "by-order"], "--classes by-order is an option of a pipeline"),
        (["scenes", "--model", "bundled", "--classes", "by-order"], "--classes by-order is an option of a pipeline"),
        (["DATA", "--model", "PIPE", "--estimators", "forks", "--classes", "by-order"], "leave out --classes"),
    ],
)
def test_classes_of_what_has_none(clothes, options, said, capsys):
    places = {"DATA": str(clothes / "data.npz"), "PIPE": f"diffusers:{clothes / 'plain'}"}
    assert main(["study", *(places.get(o, o) for o in options), "--dry-run"]) == 2
    assert said in capsys.readouterr().err
