"""Every option of every command is honoured or refused before work starts: what came, and what a user sees."""

from __future__ import annotations

import inspect
import re
import tomllib

import numpy as np
import pytest

import sigmascope
from asked import study
from sigmascope.cli import main
from sigmascope.commands.study import from_file
from sigmascope.core import InputError
from sigmascope.information.estimator import register, unregister
from sigmascope.information.estimators.posterior import Posterior
from sigmascope.limits import real, whole
from sigmascope.studies.options import (
    DataOptions,
    ExactOptions,
    ForkOptions,
    GapOptions,
    PipelineOptions,
    StudyOptions,
    changed,
    flat,
)
from sigmascope.studies.spec import ExactSpec, ForeignSpec, HeldoutSpec, ModelSpec, read_spec, spec_of

HUGE = "1" + "0" * 30
ENDLESS = "1" + "0" * 5000
HELDOUT = ("--law", "heldout")
MODEL = ("--model", "bundled")
PIPE = ("--model", "diffusers:nowhere")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "good.npz"
    rng = np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 255, (40, 4, 4), dtype=np.uint8), digit=np.arange(40) % 2)
    return path


STUDY = [
    ((*HELDOUT, "--estimators", "nonsense"), "estimators are nonsense: the held-out law has only one, heldout"),
    ((*HELDOUT, "--estimators", "posterior"), "the held-out law has only one, heldout"),
    ((*HELDOUT, "--forks", "8"), "--forks 8 is an option of the estimator forks: leave it out for the held-out law"),
    ((*HELDOUT, "--pairs"), "leave out --pairs, or --law heldout"),
    ((*HELDOUT, "--chain", "a,b"), "leave out --chain, or --law heldout"),
    ((*HELDOUT, "--target-stderr", "0.1"), "--target-stderr 0.1 is an option of a model"),
    ((*HELDOUT, "--budget", "100"), "--budget 100 is an option of a model"),
    ((*HELDOUT, "--like", "x"), "--like x is an option of a model"),
    ((*HELDOUT, "--precision", "bfloat16"), "--precision bfloat16 is an option of a model"),
    (("--precision", "bfloat16"), "--precision bfloat16 is an option of a model"),
    ((*MODEL, "--precision", "float16"), "precision is 'float16': expected float32 or bfloat16"),
    ((*HELDOUT, "--labeller", "a:b"), "--labeller a:b is an option of a pipeline"),
    ((*HELDOUT, "--steps", "5"), "--steps 5 is an option of a pipeline"),
    ((*HELDOUT, "--null-class", "3"), "--null-class 3 is an option of a pipeline"),
    ((*HELDOUT, "--allow-pickle"), "--allow-pickle is an option of a pipeline"),
    ((*HELDOUT, *MODEL), "--pairs, --chain and --law are options of the exact filter"),
    (("--estimators", "heldout"), "expected posterior, and optionally"),
    (("--forks", "8"), "--forks 8 is an option of the estimator forks"),
    (("--forks", "1", "--estimators", "posterior,forks"), "at least 2 continuations"),
    (("--forks", "-3", "--estimators", "posterior,forks"), "forks is -3"),
    (("--forks", HUGE, "--estimators", "posterior,forks"), "expected a number from 0 to 100,000"),
    (("--labeller", "a:b"), "--labeller a:b is an option of a pipeline"),
    (("--target-stderr", "0.1"), "--target-stderr 0.1 is an option of a model"),
    (("--budget", "9"), "--budget 9 is an option of a model"),
    (("--like", "x"), "--like x is an option of a model"),
    (("--steps", "9"), "--steps 9 is an option of a pipeline"),
    (("--null-class", "0"), "--null-class 0 is an option of a pipeline"),
    (("--allow-pickle",), "--allow-pickle is an option of a pipeline"),
    (("--size", "64"), "it is an option of the scenes"),
    (("--grain",), "--grain is an option of the scenes"),
    ((*MODEL, "--forks", "8"), "--forks 8 is an option of the exact filter"),
    ((*MODEL, "--labeller", "a:b"), "--labeller a:b is an option of a pipeline"),
    ((*MODEL, "--steps", "9"), "--steps 9 is an option of a pipeline"),
    ((*MODEL, "--null-class", "9"), "--null-class 9 is an option of a pipeline"),
    ((*MODEL, "--allow-pickle"), "--allow-pickle is an option of a pipeline"),
    ((*MODEL, "--size", "64"), "it is an option of the scenes"),
    ((*MODEL, "--target-stderr", "nan"), "target_stderr is nan: it must be finite"),
    ((*MODEL, "--target-stderr", "-1"), "target_stderr is -1: it must be finite and not negative"),
    ((*MODEL, "--budget", HUGE), "budget is 1000000000000000000000000000000: expected a number"),
    ((*PIPE, "--null-class", "-5"), "null_class is -5"),
    ((*PIPE, "--forks", "1"), "forks is 1: at least 2"),
    ((*PIPE, "--steps", "-2"), "steps is -2"),
    ((*PIPE, "--pairs"), "leave them out with --model"),
    (("--draws", "1e400"), "--draws"),
    (("--draws", HUGE), "expected a number from 2 to 10,000,000"),
    (("--draws", ENDLESS), "--draws"),
    (("--levels", "10**30"), "--levels"),
    (("--levels", HUGE), "expected a number from 2 to 100,000"),
    (("--levels", "-4"), "levels is -4"),
    (("--seed", "-1"), "seed is -1: it must not be negative"),
    (("--seed", HUGE), "less than 2^63"),
    (("--sigma-max", "1e400"), "must be finite"),
    (("--sigma-max", "1e200"), "sigma_max is 1e+200: expected a noise level from 1e-12 to 1e+12"),
    (("--sigma-min", "1e-300"), "sigma_min is 1e-300: expected a noise level"),
    (("--sigma-min", "nan"), "must be finite"),
    (("--sigma-min", "-inf"), "must be finite"),
    (("--device", "cuda:99999999999999999999"), "cannot be used here"),
]


OTHERS = [
    (("generate", "DATA", "--watch", "digit"), "it goes with --sampler filter"),
    (("generate", "DATA", "--size", "64"), "it is an option of the scenes"),
    (("generate", "DATA", "--grain"), "--grain is an option of the scenes"),
    (("generate", "DATA", "--n", HUGE), "from 1 to 4096 images"),
    (("generate", "DATA", "--steps", HUGE), "from 1 to 100000"),
    (("generate", "DATA", "--sigma-max", "1e200"), "expected a noise level"),
    (("generate", "DATA", "--sigma-min", "nan"), "both must be finite"),
    (("generate", "DATA", "--seed", HUGE), "less than 2^63"),
    (("generate", "hierarchy", "--size", "16"), "it is an option of the scenes"),
    (
        ("fork", "DATA", "--steps", "5"),
        "--steps 5 is an option of the samplers sde and ode: leave it out for",
    ),
    (("fork", "DATA", "--sigma-min", "0.5"), "--sigma-min 0.5 is an option of the samplers sde and ode"),
    (("fork", "DATA", "--renoise", "9"), "--renoise goes with sde and ode"),
    (("fork", "DATA", "--sampler", "sde", "--renoise", "nan"), "renoise is nan"),
    (("fork", "DATA", "--sampler", "sde", "--sigma", "0.01"), "the levels go from 0.01 down to 0.02"),
    (("fork", "DATA", "--sigma", "inf"), "must be finite"),
    (("fork", "DATA", "--forks", HUGE), "at most 65,536 continuations"),
    (("fork", "DATA", "--size", "64"), "it is an option of the scenes"),
    (("train", "DATA", "--log-mean", "1"), "--log-mean 1 is an option of --noise lognormal"),
    (("train", "DATA", "--log-std", "2"), "--log-std 2 is an option of --noise lognormal"),
    (("train", "DATA", "--noise", "lognormal", "--log-std", "1e300"), "log_std is 1e+300"),
    (("train", "DATA", "--size", "64"), "it is an option of the scenes"),
    (("train", "DATA", "--grain"), "--grain is an option of the scenes"),
    (("train", "DATA", "--width", HUGE), "expected a number from 0 to 65,536"),
    (("train", "DATA", "--batch", HUGE), "expected a number from 1 to 1,048,576"),
    (("train", "DATA", "--learning-rate", "nan"), "learning_rate is nan"),
    (("train", "DATA", "--checkpoint-seconds", "nan"), "checkpoint_seconds is nan"),
    (("train", "DATA", "--classifier-steps", "-1"), "must not be negative"),
    (("train", "hierarchy:v=4,m=2,s=2,L=2", "--holdout", "0.2"), "--holdout 0.2 is an option of data with items"),
    (
        ("prompts", "--model", "x", "--prompt", "a", "--images", "y", "--steps", "5"),
        "is an option of the sampler that generates",
    ),
    (("prompts", "--model", "x", "--prompt", "a", "--levels", HUGE), "levels is 1000000000000000000000000000000"),
    (("prompts", "--model", "x", "--prompt", "a", "--seed", "-1"), "seed is -1"),
    (("translate", "--model", "x", "--step", "3/10", "--steps", "20"), "came with --steps 20: leave out --steps"),
    (("translate", "--model", "x", "--steps", HUGE), "expected a number from 1 to 100,000"),
    (("translate", "--model", "x", "--sigma", "1", "--percent", "3"), "pass one level"),
    (("advise", "x", "--steps", HUGE), "expected a number from 2 to 100,000"),
    (("check", "--seed", HUGE), "less than 2^63"),
    (("reproduce", "--size", HUGE), "expected a number from 0 to 100,000"),
    (("reproduce", "--model", "bundled", "--size", "64"), "of a size of its own, 16"),
]


def refused(capsys, *args):
    status = main([str(a) for a in args])
    printed = capsys.readouterr()
    assert status == 2, printed
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("sigmascope: ")
    assert len(lines[0]) < 400
    assert printed.out == ""
    return lines[0]


@pytest.mark.parametrize(("options", "words"), STUDY)
def test_a_study_refuses_what_it_cannot_use(good, tmp_path, capsys, options, words):
    assert words in refused(capsys, "study", good, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("command", "words"), OTHERS)
def test_other_commands_refuse_what_they_cannot_use(good, tmp_path, capsys, command, words):
    out = () if command[0] in ("translate", "advise") else ("--out", tmp_path / "out")
    assert words in refused(capsys, *(good if c == "DATA" else c for c in command), *out)
    assert not (tmp_path / "out").exists()


ALL = {"data", "attributes", "draws", "levels", "sigma_min", "sigma_max", "seed", "device", "law", "model", "ground"}
PRINTS = {"fingerprint", "model_fingerprint"}
NETWORK = ("precision", "computed_in", "batch")
HONOURED = {
    "exact": (ExactSpec, {}, {"estimators", "pairs", "chain"}),
    "exact, with forks": (ExactSpec, {"estimators": "posterior,forks"}, {"estimators", "pairs", "chain", "forks"}),
    "scenes": (ExactSpec, {"data": "scenes"}, {"estimators", "pairs", "chain", "size", "grain"}),
    "heldout": (HeldoutSpec, {"law": "heldout"}, set()),
    "model": (
        ModelSpec,
        {"model": "m"},
        {"estimators", "target_stderr", "budget", "like", "minutes", "most_calls", *NETWORK},
    ),
    "given pipeline": (
        ForeignSpec,
        {"model": "diffusers:m"},
        {"estimators", "target_stderr", "budget", "like", "null_class", "classes", "allow_pickle", "variant", "minutes"}
        | {"most_calls", "classifier_steps", *NETWORK},
    ),
    "forked pipeline": (
        ForeignSpec,
        {"model": "diffusers:m", "estimators": "forks"},
        {"estimators", "forks", "labeller", "steps", "null_class", "allow_pickle", "variant", "minutes", "most_calls"}
        | {"classifier_steps", *NETWORK},
    ),
}
OTHER = {
    "size": 64, "grain": True, "estimators": ("nonsense",), "forks": 7, "pairs": True, "chain": ("a", "b"),
    "target_stderr": 0.5, "budget": 9, "like": "y", "labeller": "a:b", "steps": 7, "null_class": 3,
    "allow_pickle": True, "classes": "by-order", "variant": "fp16", "minutes": 3.0, "most_calls": 9,
    "classifier_steps": 7, "precision": "bfloat16", "computed_in": "bfloat16", "batch": 64,
}  # fmt: skip


def checked(kind, **more):
    """The specification of a kind of study, filled in, and filled in once more without a change."""
    of, options, _ = HONOURED[kind]
    spec = spec_of(**({"data": "x.npz"} | options | more))
    assert type(spec) is of
    if kind == "given pipeline":
        spec.validate_conditional()
    elif kind == "forked pipeline":
        spec.validate_forked()
        spec = spec.resolve_forked(("forks",))
    found = spec.resolve()
    found.validate()
    assert found.resolve() == found
    return found


def test_the_tables_name_every_option():
    assert ALL | OTHER.keys() | PRINTS == flat(StudyOptions()).keys()


@pytest.mark.parametrize("kind", HONOURED)
def test_each_option_of_each_kind_of_study(kind):
    """What is not honoured is refused; an option that is new belongs into these tables."""
    honoured = HONOURED[kind][2]
    for name, value in OTHER.items():
        if name in honoured and name != "estimators":
            assert flat(checked(kind, **{name: value}))[name] == value
        else:
            with pytest.raises(InputError):
                checked(kind, **{name: value})


@pytest.mark.parametrize("kind", HONOURED)
def test_a_specification_has_the_options_that_its_kind_can_use(kind, tmp_path):
    """And a file names these, and the law."""
    spec = checked(kind)
    of_scenes, of_forks = {"size", "grain"}, {"forks", "labeller", "steps"}
    of_gaps = {"target_stderr", "budget", "like", "classes"}
    may = HONOURED[kind][2] | of_scenes | {"estimators"} | (of_forks if kind == "given pipeline" else set())
    may |= of_gaps if kind == "forked pipeline" else {"forks"} if kind in ("exact", "scenes") else set()
    assert flat(spec).keys() & OTHER.keys() == may
    named = set(tomllib.loads(spec.to_toml())["study"])
    assert named == flat(spec).keys() | (set() if "model" in named else {"law"})
    (tmp_path / "s.toml").write_text(spec.to_toml())
    assert read_spec(tmp_path / "s.toml") == spec


def test_options_are_changed_by_their_own_names():
    spec = spec_of(data="x.npz", model="diffusers:m")
    found = changed(spec, draws=8, steps=3, budget=7, estimators=("forks",))
    assert (found.sampling.draws, found.forking.steps, found.gaps.budget, found.estimators) == (8, 3, 7, ("forks",))
    assert changed(found, draws=256, steps=0, budget=0, estimators=()) == spec
    with pytest.raises(TypeError, match="ForeignSpec has no option 'pairs'"):
        changed(spec, pairs=True)


@pytest.mark.parametrize(("name", "value"), [*OTHER.items(), ("draws", 99), ("sigma_min", 0.5), ("law", "heldout")])
def test_two_studies_that_differ_say_in_what(name, value):
    kind = next((k for k, (*_, honoured) in HONOURED.items() if name in honoured), "heldout")
    if name in ("estimators", "size", "grain"):
        kind, value = "scenes", ("posterior",) if name == "estimators" else value
    one = checked("exact" if name == "law" else kind)
    other = checked("heldout") if name == "law" else changed(one, **{name: value})
    assert re.match(f"its {name} is .*, not ", one.difference(other))
    assert one.difference(other)
    assert not one.difference(changed(one, device="cuda", data="elsewhere"))
    assert one.difference(changed(one, fingerprint="another")) == "of other data"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 64}, "option of the scenes"),
        ({"grain": True}, "option of the scenes"),
        ({"law": "heldout", "estimators": "score_gap"}, "only one, heldout"),
        ({"levels": 10**5000}, "levels is a number of more than 40 digits"),
        ({"sigma_max": 10**400}, "sigma_max is a number of more than 40 digits: expected a number"),
        ({"labeller": "a\0b"}, "it contains NUL"),
        ({"attributes": ["\ud800"]}, "not UTF-8"),
    ],
)
def test_from_python(options, words):
    with pytest.raises(InputError, match=words) as refusal:
        study(np.zeros((4, 2)), {"a": [0, 1, 0, 1]}, **options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (whole, 2.5, "x is 2.5: expected a whole number"),
        (whole, float("nan"), "x is nan: expected a whole number"),
        (whole, None, "x is None: expected a whole number"),
        (real, "low", "x is low: expected a number"),
        (real, [1, 2], "expected a number"),
    ],
)
def test_numbers_from_python(read, value, words):
    with pytest.raises(InputError, match=words):
        read("x", value)


def test_the_held_out_bound_has_a_name_of_its_own(good, tmp_path):
    assert main(["study", str(good), *HELDOUT, "--draws", "16", "--levels", "4", "--out", str(tmp_path / "a")]) == 0
    assert main(["study", "--spec", str(tmp_path / "a" / "spec.toml"), "--out", str(tmp_path / "b")]) == 0
    results = study(str(good), law="heldout", draws=16, levels=4)
    assert results.estimator.values.tolist() == ["heldout"]
    assert results.attrs["main_estimator"] == "heldout"
    assert {c.estimator for c in sigmascope.to_curves(results)} == {"heldout"}
    assert len(sigmascope.plot(results).get_lines()) >= 1
    with pytest.raises(InputError, match="choose among heldout"):
        sigmascope.to_curves(results, "posterior")
    assert "<code>heldout</code>" in (tmp_path / "b" / "report.html").read_text()


def test_a_study_from_python_has_ten_parameters():
    assert len(inspect.signature(sigmascope.study).parameters) <= 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (GapOptions(budget=9), "--budget 9 is an option of a model: leave it out for a study of data alone"),
        (PipelineOptions(allow_pickle=True), "--allow-pickle is an option of a pipeline"),
        ([ExactOptions(law="heldout"), ForkOptions(forks=8)], "--forks 8 is an option of the estimator forks"),
        (DataOptions("scenes"), "data and attributes are arguments of study: leave them out of DataOptions"),
        (DataOptions(attributes=("a",)), "data and attributes are arguments of study"),
        ({"draws": 8}, "options are .*: pass groups of options, e.g. ExactOptions"),
    ],
)
def test_groups_of_options_from_python(options, words):
    with pytest.raises(InputError, match=words):
        inspect.unwrap(sigmascope.study)(np.zeros((4, 2)), labels={"a": [0, 1, 0, 1]}, options=options)


class Toy(Posterior):
    """An estimator of this file alone."""

    name, usual, help = "toy", (), "of a test alone"


def test_help_and_specification_have_an_estimator_that_is_registered_now(capsys):
    def helped():
        with pytest.raises(SystemExit):
            main(["study", "--help"])
        return " ".join(re.sub(r"[│╭╮╰╯]", " ", capsys.readouterr().out).split())

    with pytest.raises(InputError, match="expected posterior, and optionally score_gap, mmse_gap, filter and forks"):
        spec_of(data="x.npz", estimators="posterior,toy")
    toy = register(Toy())
    try:
        assert "toy (of a test alone)" in helped()
        assert spec_of(data="x.npz", estimators="posterior,toy").estimators == ("posterior", "toy")
    finally:
        unregister(toy)
    assert "toy" not in helped()


def test_help_is_in_groups_by_purpose_and_names_stay_short(capsys):
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    found = capsys.readouterr().out
    for title in ("data", "sampling", "exact filter", "gap", "fork", "pipeline"):
        assert f"{title} options" in found
    names = set(re.findall(r"--([a-z-]+)", found))
    assert {
        n.replace("_", "-") for n in flat(StudyOptions()).keys() - PRINTS - {"data", "most_calls", *NETWORK[1:]}
    } <= names


def test_a_name_with_a_comma_comes_back_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", images=rng.integers(0, 255, (40, 4, 4), dtype=np.uint8), **{"a,b": np.arange(40) % 2})
    spec = spec_of(data=str(tmp_path / "d.npz"), attributes=("a,b",), draws=8, levels=4)
    (tmp_path / "s.toml").write_text(spec.to_toml())
    command = from_file(str(tmp_path / "s.toml"))
    assert command.inputs.attributes == ("a,b",)
    assert main(["study", "--spec", str(tmp_path / "s.toml"), "--draws", "6", "--dry-run"]) == 0
