"""The walk-through from a pipeline's folder to a guidance interval is run, on a pipeline made on the spot."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

from conftest import ROOT
from sigmascope.cli import main

PAGE = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_the_five_commands(tmp_path, monkeypatch, capsys):
    commands = [shlex.split(line)[1:] for line in re.findall(r"```sh\n(.*?)```", PAGE, re.S)[0].splitlines()]
    assert [c[0] for c in commands] == ["translate", "study", "study", "advise", "translate"]
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    DDPMPipeline(net, DDIMScheduler()).save_pretrained("my-pipeline", safe_serialization=True)
    rng = np.random.default_rng(0)
    digit = np.arange(60) % 10
    images = (rng.uniform(size=(10, 8, 8))[digit] * 200 + rng.uniform(size=(60, 8, 8)) * 50).astype(np.uint8)
    np.savez("my-images.npz", images=images, digit=digit)
    said = []
    for c in commands:
        # A tenth of the draws and steps: what is tested is that the commands go together, not the numbers.
        few = ["--draws", "4", "--levels", "4", "--forks", "10", "--steps", "4"] if c[0] == "study" else []
        assert main([*c, *few]) == 0, c
        said.append(capsys.readouterr().out)
    assert "timestep" in said[0]
    assert "network calls" in said[1]
    assert "digit" in said[2]
    # A network that has learned nothing: its forks are marked, and the data alone are the main curve.
    assert "holds for noised images of the population that the data come from" in said[3]
    assert json.loads(said[4])["sigma"] == 0.8
    page = (tmp_path / "studies" / "mine" / "report.html").read_text(encoding="utf-8")
    assert "parameters, unconditional" in page
    assert "forks is biased" in page


def test_every_advice_is_in_the_table():
    from sigmascope.studies.advising import KINDS

    words = {"sdedit_strength": "editing strength"}
    for kind in KINDS:
        assert f"| {words.get(kind, kind.replace('_', ' '))} |" in PAGE
