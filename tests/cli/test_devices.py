"""The device that a user names is where the model of every command computes, on a GPU that is pretended."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import shown
from conftest import SHARED
from gold_inputs import ready
from pretended import Seen, pretended_cuda
from sigmascope.cli import main
from sigmascope.commands import COMMANDS

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers about itself, and of few draws
SMALL = "hierarchy:v=4,m=2,s=2,L=3,seed=2"
EVERY = "posterior,score_gap,mmse_gap,filter,forks"
OF_MODEL = "score_gap,classifier,probes"
TRAIN = "train IN/blocks.npz --attributes place,colour --width 8 --depth 1 --batch 16 --steps 6 --warmup 2 --out OUT"
BLOCKS, TWO = "IN/blocks.npz --attributes place,colour", "--attributes colour --draws 8 --levels 3"
GIVEN = f"{TWO} --null-class 3 --classes by-order --budget 2500"
LINES = {
    "study": f"study {BLOCKS} --pairs --draws 8 --levels 3 --forks 6 --estimators {EVERY}",
    "study, held out": f"study {BLOCKS} --law heldout --draws 16 --levels 4",
    "study, hierarchy": f"study {SMALL} --draws 2 --levels 2 --sigma-max 20 --sigma-min 0.05",
    "study, dry": f"study {BLOCKS} --draws 8 --levels 4 --dry-run",
    "study, classes": f"study IN/pictures.npz --model diffusers:IN/classes {GIVEN} --estimators score_gap,probes",
    "study, forks": f"study IN/pictures.npz --model diffusers:IN/free {TWO} --forks 6 --steps 4 --estimators forks",
    "study, latents": f"study IN/wider.npz --model diffusers:IN/latent {GIVEN} --estimators score_gap,mmse_gap",
    "study, generated": "study generated --labeller labels:colour --model diffusers:IN/free --draws 8 --levels 3 "
    "--forks 6 --steps 4 --estimators forks",
    "generate": f"generate {BLOCKS} --n 4 --steps 6",
    "generate, filter": f"generate {BLOCKS} --n 4 --steps 6 --sampler filter",
    "generate, watched": f"generate {BLOCKS} --n 4 --steps 6 --sampler filter --watch colour",
    "generate, model": "generate IN/pictures.npz --attributes colour --model diffusers:IN/classes --null-class 3 "
    "--classes by-order --n 4 --steps 4 --watch colour",
    "fork": f"fork {BLOCKS} --sigma 2 --forks 8 --seeds 3",
    "fork, sampler": f"fork {BLOCKS} --sigma 2 --forks 8 --seeds 3 --sampler sde --steps 6",
    "fork, hierarchy": f"fork {SMALL} --sigma 0.4 --forks 8 --seeds 4",
    "fork, model": "fork IN/pictures.npz --attributes colour --model diffusers:IN/free --sigma 2 --seeds 2 --forks 4 "
    "--steps 4",
    "prompts": "prompts --model diffusers:IN/stable --prompt a_red_cube --n 2 --steps 2 --levels 4 --noises 2",
    "prompts, xl": "prompts --model IN/xl --prompt a_red_cube --n 2 --steps 2 --levels 4 --noises 2",
}  # fmt: skip
"""Of each command with a device some lines; ``IN/`` is the folder of inputs. Training is in a test of their own."""
CONVOLVED = ("study, classes", "study, forks", "study, latents", "study, generated", "generate, model", "fork, model",
             "prompts", "prompts, xl")  # fmt: skip
"""Those that call a network with convolutions, or an autoencoder."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("in")


def run_there(line: str, inputs: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Run a command in the folder of its inputs, on the device."""
    for word in (*line.replace(":IN/", " IN/").split(), *(["IN/labels.py"] if "labels:" in line else [])):
        if word.startswith("IN/"):
            assert ready(inputs, word.removeprefix("IN/"), SHARED)
    monkeypatch.chdir(inputs)
    monkeypatch.syspath_prepend(inputs)
    line = line.replace("IN/", f"{inputs}/").replace("OUT", str(out))
    where = [] if "--out" in line or "--dry-run" in line else ["--out", str(out)]
    with pretended_cuda() as seen:
        assert main([*line.split(), "--device", "cuda", *where]) == 0
    return seen


def test_no_command_is_forgotten():
    with_device = {name for name in COMMANDS if "--device" in shown.help_of(name)}
    assert with_device == {name.partition(",")[0] for name in LINES} | {"train"}


@pytest.mark.parametrize("name", LINES)
def test_commands(name, inputs, tmp_path, monkeypatch):
    seen = run_there(LINES[name], inputs, tmp_path / "out", monkeypatch)
    assert sum(seen.there.values()) > 100
    if name in CONVOLVED:
        assert seen.there["convolution"]
        assert not seen.here["convolution"]


def test_training_and_the_study_of_what_it_made(inputs, tmp_path, monkeypatch):
    """The network and its classifier are trained there, resumed from a checkpoint, and studied there."""
    line = f"{TRAIN} --network unet --sigma-max 40 --classifier-steps 4"
    seen = run_there(line, inputs, tmp_path / "model", monkeypatch)
    assert seen.there["convolution_backward"]
    assert seen.there["convolution"]
    assert not seen.here["convolution"]
    model = f"--model {tmp_path / 'model'} --draws 12 --levels 3 --budget 2500 --estimators {OF_MODEL}"
    seen = run_there(f"study IN/blocks.npz {model}", inputs, tmp_path / "out", monkeypatch)
    assert seen.there["convolution"]
    assert not seen.here["convolution"]


def test_a_model_that_stays_on_the_cpu_is_seen(inputs, tmp_path, monkeypatch):
    from sigmascope.studies.subjects import openings

    monkeypatch.setattr(openings, "resolve_device", lambda name: torch.device("cpu"))
    seen = run_there(LINES["study, latents"], inputs, tmp_path / "out", monkeypatch)
    assert seen.here["convolution"]
    assert not seen.there["convolution"]
