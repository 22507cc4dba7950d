"""What each command says of each kind of study: a table, and no sentence with an empty number in any."""

from __future__ import annotations

import html
import json
import re
import shutil

import numpy as np
import pytest
import xarray as xr
from diffusers import DDIMScheduler

from dressing import COLOURS, Exact, dressed, pictures
from problems import two_points
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.noise import sigma_grid
from sigmascope.studies.advice_of import advise
from sigmascope.studies.advice_words import line

HOLLOW = re.compile(r"σ \(|σ 0\.?0*(?![.\d])|\b(nan|inf|None)\b|\((below|above)\b|\(\s*(to\b|\))|to\s*\)|[:;,] *[;,.]")
"""A place where a number is missing, or stands for one that there is not."""


def test_the_pattern_sees_what_is_hollow():
    for said in ("act above σ (below the levels of the study): below", "at σ 0, nan", "between σ inf and 2", "(None)"):
        assert HOLLOW.search(said), said
    for said in (
        "at σ 0.05 (0.04 to 0.06)",
        "the lower end is not reached, since at the last level, σ 0.0100, 1.2 nats are",
    ):
        assert not HOLLOW.search(said), said


def text_of(page: str) -> str:
    """The text of a page, without figures, styles and the specification."""
    page = re.sub(r"<(style|script|pre|figure)\b.*?</\1>", " ", page, flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One finished study of each kind, by its command."""
    root = tmp_path_factory.mktemp("sentences")
    path, pipeline = pictures(root), root / "pipeline"
    DDIMScheduler().save_pretrained(pipeline / "scheduler")
    index = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDIMScheduler"]}
    (pipeline / "model_index.json").write_text(json.dumps(index))
    patch = pytest.MonkeyPatch()
    few = ["--draws", "24", "--levels", "10", "--sigma-max", "8"]

    def study(name: str, *options: str, pipe=None, some=few) -> None:
        if pipe is not None:
            patch.setattr("sigmascope.adapters.models.load_pipeline", lambda *_, **__: pipe)
            options = (*options, "--model", f"diffusers:{pipeline}")
        assert main(["study", str(path), *some, *options, "--out", str(root / name)]) == 0, name

    study("exact")
    study("early", "--sigma-min", "0.8", "--estimators", "posterior")
    study("heldout", "--law", "heldout")
    unconditional = ["--draws", "16", "--levels", "6", "--sigma-max", "8", "--sigma-min", ".06", "--forks", "12"]
    colour = ["--attributes", "colour"]
    exact = Exact(path, COLOURS)
    study("unconditional", "--steps", "8", pipe=dressed(exact, False), some=[*unconditional, *colour])
    study("conditional", "--budget", "1500", "--seed", "2", pipe=dressed(exact, True), some=[*few[2:], *colour])
    patch.undo()
    return root


LEVEL = r"σ \d[\d.]* \([^)]*\d[^)]*\)"

TABLE = [
    (
        "exact",
        ["advise"],
        rf"guide towards colour from {LEVEL} down to {LEVEL}; a redraw from there changes it in \d",
    ),
    (
        "exact",
        ["advise"],
        r"^All advice holds for noised images of the data, read by the exact filter of exactly these items",
    ),
    (
        "exact",
        ["advise", "--probability", "0.99"],
        r"this is memory: below σ [\d.]+ the exact filter has identified the item",
    ),
    ("exact", ["advise", "--estimator", "score_gap"], r"redraw from there changes it in at most \d"),
    (
        "early",
        ["advise"],
        r"the lower end is not reached, since at the last level, σ 0.800, [\d.]+ of [\d.]+ nats are known",
    ),
    ("early", ["advise"], r"a redraw from there changes it in [1-9][\d.]* ± [\d.]+ % of the images"),
    ("early", ["advise"], r"no training range, since 95 % of the information of a clean image is not reached"),
    ("early", ["advise"], r"since P_keep stays below 0.9: at the last level, σ 0.800, it is 0\.\d+"),
    (
        "heldout",
        ["advise"],
        r"^All advice holds for noised images of the population that the data come from",
    ),
    (
        "heldout",
        ["advise"],
        r"from a lower bound: the true curve reaches the same shares at these levels or above",
    ),
    (
        "unconditional",
        ["advise"],
        r"^Advice holds for: \(a\) the model's own path: .*; \(b\) noised images of the data",
    ),
    ("unconditional", ["advise"], r"guidance interval \(a\): guide .*"),
    (
        "unconditional",
        ["advise"],
        r"guide towards colour .* — steps \d+ to \d+ of 50 \(timestep [\d.]+ to timestep [\d.]+; ",
    ),
    (
        "unconditional",
        ["advise", "--steps", "20"],
        r"sdedit strength .* — strength 0\.\d+ of 20 steps \(timestep [\d.]+, ",
    ),
    ("unconditional", ["advise"], r"sdedit strength \(b\): noise an image"),
    ("unconditional", ["advise"], rf"guide towards colour from {LEVEL}"),
    (
        "conditional",
        ["advise"],
        r"^Advice holds for: \(a\) the model's own path: .*; \(b\) .*, read by the model",
    ),
    ("conditional", ["advise"], rf"guidance interval \(a\): guide towards colour from {LEVEL} down to σ"),
    ("conditional", ["advise", "--probability", "0.99"], r"sdedit strength|left out: "),
]


@pytest.mark.parametrize(("name", "command", "said"), TABLE, ids=lambda x: x if isinstance(x, str) else " ".join(x))
def test_sentences(folders, capsys, name, command, said):
    words = ["--words"] if command[0] == "advise" else []  # beside the table
    assert main([command[0], str(folders / name), *command[1:], *words]) == 0
    words = capsys.readouterr().out
    assert re.search(said, words, re.M), words
    assert not (hollow := HOLLOW.search(words)), words[hollow.start() - 80 : hollow.end() + 40]


@pytest.mark.parametrize("name", ["exact", "early", "heldout", "unconditional", "conditional"])
def test_the_page_is_the_advice(folders, name):
    """Every line of ``advise`` stands on the page, and the page has no other and no hollow one."""
    page = text_of((folders / name / "report.html").read_text(encoding="utf-8"))
    section = re.sub(r"\s+", " ", page).split("What to do with it")[1]
    given = advise(folders / name)
    assert given
    for a in given:
        assert re.sub(r"\s+", " ", line(a)) in section, a.kind
    assert section.count("guidance interval") == sum(a.kind == "guidance_interval" for a in given)
    assert not (hollow := HOLLOW.search(page)), page[hollow.start() - 80 : hollow.end() + 40]


def test_a_pipeline_of_the_hub_has_its_steps_too(folders, tmp_path, monkeypatch, capsys):
    """Or, where it is out of reach, the advice without them and a note."""
    from sigmascope.adapters.diffusers import units

    study = tmp_path / "study"
    shutil.copytree(folders / "unconditional", study)
    spec = (study / "spec.toml").read_text(encoding="utf-8")
    spec = re.sub(r"^model = .*$", 'model = "hub:owner/name"', spec, flags=re.M)
    (study / "spec.toml").write_text(spec, encoding="utf-8")
    monkeypatch.setattr(units, "described", lambda _: folders / "pipeline")
    assert main(["advise", str(study), "--words"]) == 0
    assert "of 50 (timestep" in capsys.readouterr().out

    def away(_):
        raise InputError("hub:owner/name: it cannot be fetched")

    monkeypatch.setattr(units, "described", away)
    assert main(["advise", str(study), "--words"]) == 0
    said = capsys.readouterr()
    assert "guide towards colour" in said.out
    assert "of 50 (timestep" not in said.out
    assert "note: hub:owner/name: it cannot be fetched; its steps are left out" in said.err
    assert main(["advise", str(study), "--model", "hub:owner/name"]) == 2


def test_nothing_is_said_of_a_fixed_attribute(folders):
    for name in ("exact", "early", "heldout", "unconditional", "conditional"):
        assert "is fixed" not in (folders / name / "report.html").read_text(encoding="utf-8")


def marked(folder, trusted: np.ndarray, verdict: str) -> None:
    """A study of a model whose only curve, a score gap, is marked."""
    from sigmascope.core import Curve
    from sigmascope.data import from_array
    from sigmascope.studies.results import to_dataset
    from sigmascope.studies.spec import spec_of

    law, sigma = two_points(), sigma_grid(20.0, 0.1, 20)
    data = from_array(np.random.default_rng(0).normal(size=(8, 2)), {"sign": [0, 1] * 4})
    rng = np.random.default_rng(1)
    value = np.array([law.information("sign", s) for s in sigma])
    per_draw = value[:, None] * (1 + 0.1 * rng.normal(size=(20, 32)))
    curve = Curve.of_draws("sign", "score_gap", sigma, per_draw, np.log(2), kind="estimate")
    import torch

    results = to_dataset([curve], data, data.attributes, torch.arange(32), spec_of(data="x"))
    axes = ("attribute", "estimator", "sigma")
    results = results.assign(
        trusted=(axes, trusted.reshape(1, 1, 20).astype(np.int8)), verdict=(axes[:2], np.array([[verdict]]))
    )
    results.attrs |= {"main_estimator": "score_gap", "model": "models/x"}
    folder.mkdir(exist_ok=True)
    results.to_netcdf(folder / "results.nc", engine="h5netcdf")


BIASED = "biased at all levels: it lies above the entropy, which no information exceeds"


def test_advice_reads_the_marks(tmp_path, capsys):
    marked(tmp_path / "good", np.ones(20), "trusted at all levels")
    marked(tmp_path / "bad", np.zeros(20), BIASED)
    half = np.arange(20) < 8
    marked(tmp_path / "part", half, "trusted at σ 20 to 3; biased elsewhere: it lies below a bound")
    said = {}
    for name in ("good", "bad", "part"):
        assert main(["advise", str(tmp_path / name), "--words"]) == 0
        said[name] = capsys.readouterr().out
        assert not HOLLOW.search(said[name])
    assert "guide towards sign from" in said["good"]
    assert "biased" not in said["good"]
    assert "guide towards" not in said["bad"]
    assert said["bad"].count(BIASED) == 1  # the reason once
    assert "no sampling steps, since every curve is marked as biased" in said["bad"]
    assert "this end is not reliable: score_gap is marked as biased there" in said["part"]
    assert re.search(r"no training range[^;,]*, since score_gap is marked as biased there", said["part"])


def test_compare_reads_kinds_and_marks(folders, tmp_path, capsys):
    """The main curve of each, no order of a bound beside an exact curve, none of a curve that is biased."""

    def compared(a, b, *options) -> str:
        out = tmp_path / f"{a.name}-{b.name}-{len(options)}"
        assert main(["compare", str(a), str(b), *options, "--out", str(out)]) == 0
        found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
        return capsys.readouterr().out, found["attributes"]

    words, rows = compared(folders / "exact", folders / "heldout")
    assert rows[0]["estimator"] == "posterior:heldout"
    assert {r["earlier"] for r in rows} == {""}
    assert "colour: no order is shown, since B is a lower bound, and the truth may be reached earlier" in words
    assert "decides" not in words
    words, rows = compared(folders / "exact", folders / "unconditional")
    assert [r["estimator"] for r in rows] == ["posterior:forks"]
    assert "By forks: noised images of the data, continued by the pipeline" in words
    words, rows = compared(folders / "conditional", folders / "unconditional")
    assert rows[0]["estimator"].endswith(":forks")
    marked(tmp_path / "good", np.ones(20), "trusted at all levels")
    marked(tmp_path / "bad", np.zeros(20), BIASED)
    words, rows = compared(tmp_path / "good", tmp_path / "bad")
    assert rows[0]["earlier"] == ""
    assert f"sign: no order is shown, since a curve is marked (B is {BIASED})" in words


def test_plot_draws_the_main_curve(folders):
    import sigmascope

    results = xr.load_dataset(folders / "unconditional" / "results.nc", engine="h5netcdf")
    drawn = [x for x in sigmascope.plot(results).lines if len(x.get_ydata()) == results.sizes["sigma"]]
    main_curve = results.information.sel(estimator="forks").values[0]
    assert any(np.allclose(x.get_ydata(), main_curve) for x in drawn)
    exact = results.information.sel(estimator="posterior").values[0]
    assert not any(np.allclose(x.get_ydata(), exact) for x in drawn)
