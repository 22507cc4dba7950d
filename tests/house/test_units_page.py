"""The commands of docs/units.md are run as they stand, on schedulers as it describes them."""

from __future__ import annotations

import json
import re
import shlex

import diffusers
import pytest
from conftest import ROOT

from sigmascope.cli import main

PAGE = (ROOT / "docs" / "units.md").read_text(encoding="utf-8")
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
WORKED = re.findall(r"```sh\n(sigmascope translate .*?)\n```\n\n```text\n(.*?)\n```", PAGE, re.S)
FOLDERS = {
    "ddpm": ("DDPMPipeline", diffusers.DDPMScheduler()),
    "stable-diffusion": (
        "StableDiffusionPipeline",
        diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False),
    ),
    "heun": ("StableDiffusionXLPipeline", diffusers.HeunDiscreteScheduler(**BETAS)),
    "zero-snr": (
        "StableDiffusionPipeline",
        diffusers.DDIMScheduler(
            **BETAS, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
        ),
    ),
    "sd3": ("StableDiffusion3Pipeline", diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)),
    "flux": ("FluxPipeline", diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)),
    "edm": ("DDPMPipeline", diffusers.EDMEulerScheduler()),
    "svd": (
        "StableVideoDiffusionPipeline",
        diffusers.EulerDiscreteScheduler(
            **BETAS, timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True,
            sigma_min=0.002, sigma_max=700.0,
        ),
    ),
}  # fmt: skip


def test_each_family_has_a_worked_line():
    assert len(WORKED) == PAGE.count("```sh") == len(FOLDERS)
    assert {re.search(r"diffusers:(\S+)", command)[1] for command, _ in WORKED} == set(FOLDERS)


@pytest.mark.parametrize(("command", "shown"), WORKED)
def test_worked_lines(command, shown, tmp_path, monkeypatch, capsys):
    name = re.search(r"diffusers:(\S+)", command)[1]
    kind, scheduler = FOLDERS[name]
    scheduler.save_pretrained(tmp_path / name / "scheduler")
    index = {"_class_name": kind, "scheduler": ["diffusers", type(scheduler).__name__]}
    if kind != "DDPMPipeline":
        index["vae"] = ["diffusers", "AutoencoderKL"]
    (tmp_path / name / "model_index.json").write_text(json.dumps(index))
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.rstrip() == shown
