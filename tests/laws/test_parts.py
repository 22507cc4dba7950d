"""No step of a study of a model takes long on a slow network, and a study goes on from any step to the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gold_inputs
from sigmascope.information.jobs.levels import InTurn
from sigmascope.information.parts import whole, within
from sigmascope.studies import run
from sigmascope.studies.classes import read_classes
from sigmascope.studies.spec import spec_of
from sigmascope.studies.subjects import generated

ROWS_A_SECOND = 256  # of a slow network
LONGEST = 10.0  # seconds
CONDITIONAL = ["score_gap", "filter", "likelihood", "probes", "posterior", "own_path"]
COMMON = {"attributes": ("colour",), "draws": 64, "levels": 4, "sigma_min": 0.05, "sigma_max": 20.0}
STUDIES = {
    "classes": {"null_class": 3, "classes": "by-order", "budget": 6000, "estimators": CONDITIONAL},
    "all-classes": {"classes": "by-order", "budget": 31000, "estimators": ["score_gap", "filter"], "draws": 32},
    "free": {"forks": 16, "steps": 12, "estimators": ["forks", "probes", "own_path"], "draws": 32},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for name in ("pictures.npz", "labels.py", *STUDIES):
        assert gold_inputs.ready(folder, name, folder)
    return folder


@pytest.fixture
def seconds(monkeypatch):
    """Seconds that a slow network would have taken since the last look."""
    from diffusers import UNet2DModel

    forward, taken = UNet2DModel.forward, [0.0]

    def slow(net, sample, *args, **given):
        taken[0] += len(sample) / ROWS_A_SECOND
        return forward(net, sample, *args, **given)

    monkeypatch.setattr(UNet2DModel, "forward", slow)

    def look() -> float:
        now, taken[0] = taken[0], 0.0
        return now

    return look


def opened(folder: Path, name: str):
    given = COMMON | STUDIES[name] | {"data": str(folder / "pictures.npz"), "model": f"diffusers:{folder / name}"}
    given["classes"] = read_classes(given.get("classes", ""))
    subject, spec = run.open_subject(spec_of(**given), None, False)
    return subject, spec


class Collected(Exception):
    """The jobs of a study have been made."""


def jobs(subject, spec) -> InTurn:
    """All jobs of a study."""

    def advance(job: InTurn, *_: object) -> None:
        raise Collected(job)

    with pytest.MonkeyPatch.context() as to:
        to.setattr(run, "advance", advance)
        with pytest.raises(Collected) as made:
            run.measure(subject, subject.problem(spec), spec, None, False)
    return made.value.args[0]


@pytest.mark.filterwarnings("ignore")  # the weights are random
@pytest.mark.parametrize("name", list(STUDIES))
def test_no_step_is_long_and_each_can_be_the_last(folder, seconds, name):
    subject, spec = opened(folder, name)
    seconds()
    plain, resumed = jobs(subject, spec), jobs(subject, spec)
    rng, longest = np.random.default_rng(0), 0.0
    while not plain.done:
        plain.step()
        longest = max(longest, seconds())
        resumed.step()
        seconds()
        if rng.random() < 0.1:
            state = {k: np.array(v) for k, v in resumed.state().items()}
            resumed = jobs(subject, spec)
            resumed.restore(state)
    assert resumed.done
    assert longest <= LONGEST
    one, two = plain.state(), resumed.state()
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


def test_images_that_a_pipeline_makes_go_on_from_any_step(folder, seconds, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(generated, "CHECKPOINT_SECONDS", 0.0)
    given = {"data": "generated", "labeller": "labels:colour", "draws": 300, "levels": 3, "forks": 6, "steps": 6}
    spec = spec_of(**given, model=f"diffusers:{folder / 'free'}")
    step, left = generated._Images.step, [5]

    def interrupted(self):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        step(self)
        assert seconds() <= LONGEST

    monkeypatch.setattr(generated._Images, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.open_subject(spec, tmp_path / "out", False)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["generating.npz"]
    left[0] = 10**6
    subject, _ = run.open_subject(spec, tmp_path / "out", False)
    after = 10**6 - left[0]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["generated.npz"]
    left[0] = 10**6
    whole_run, _ = run.open_subject(spec, None, False)
    assert after == 10**6 - left[0] - 4
    read = [s.data.source.read(0, 300) for s in (subject, whole_run)]
    assert bool((read[0] == read[1]).all())


def test_what_is_done_around_a_computation_is_kept_with_it():
    def inner():
        yield lambda: {"inner": np.array(1)}
        return 7

    def outer():
        return (yield from within({"outer": np.array(2)}, inner()))

    assert next(outer())().keys() == {"inner", "outer"}
    assert whole(outer()) == 7
