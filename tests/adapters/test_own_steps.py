"""Clocks by parity: each step of diffusers' own unconditional pipelines beside our denoiser, from first to last.

A clock even in ln σ, with the timestep ¼ ln σ as in Stable Video Diffusion; flows whose time runs from noise to data.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LDMPipeline,
    MiniMaxH3Scheduler,
    UNet2DModel,
    VQModel,
)

from sigmascope.adapters.diffusers.pipelines import load_pipeline
from sigmascope.adapters.diffusers.units import ruler_of
from steps import ALONE, Step, steps_of

pytestmark = pytest.mark.filterwarnings("ignore")
COUNT = 9
VIDEO = {"timestep_type": "continuous", "prediction_type": "v_prediction", "use_karras_sigmas": True,
         "sigma_min": 0.002, "sigma_max": 700.0, "interpolation_type": "linear", **{"beta_schedule": "scaled_linear"},
         "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "leading", "steps_offset": 1}  # fmt: skip
"""The settings of Stable Video Diffusion."""
CASES = {
    "video": EulerDiscreteScheduler(**VIDEO),
    "video, of a table": EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"),
    "inverted": FlowMatchEulerDiscreteScheduler(shift=3.0, invert_sigmas=True),
    "inverted times": MiniMaxH3Scheduler(shift=3.0),
}


def network(channels: int) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=channels, out_channels=channels, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip


def latent(scheduler: Any) -> LDMPipeline:
    """A pipeline of latents."""
    torch.manual_seed(0)
    coder = VQModel(
        latent_channels=4, vq_embed_dim=4, num_vq_embeddings=8, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
    )  # fmt: skip
    pipe = LDMPipeline(coder, network(4), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Of each case our pipeline, the folder, and the steps of a run."""
    root, kept = tmp_path_factory.mktemp("clocks"), dict[str, Any]()

    def of(name: str) -> Any:
        if name not in kept:
            own, folder = latent(CASES[name]), root / name.replace(" ", "-").replace(",", "")
            own.save_pretrained(folder, safe_serialization=True)
            if not hasattr(own.scheduler, "scale_model_input"):  # of flows, which pipelines of flows do not call
                own.scheduler.scale_model_input, own.scheduler.init_noise_sigma = (lambda x, time: x), 1.0
            kept[name] = load_pipeline(folder), folder, steps_of(own, num_inference_steps=COUNT, output_type="np")
        return kept[name]

    return of


def apart(denoiser: Any, step: Step, sigma: float = 0.0) -> float:
    """The largest difference of our estimate from the scheduler's, relative to the largest value."""
    with torch.no_grad():
        found = denoiser(step.y, torch.tensor([sigma or step.sigma], dtype=torch.float64))
    return float((found - step.clean).abs().max() / step.clean.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_our_estimate_is_that_of_each_step(made, name):
    pipe, folder, steps = made(name)
    assert len(steps) == (COUNT - 1 if name == "inverted times" else COUNT)
    ruler = ruler_of(folder, COUNT)
    for k, step in enumerate(steps):
        assert apart(pipe.denoiser, step) < 1e-4, step.time
        if 1 / (1 + step.sigma) * (1 - 1e-6) > ALONE:
            assert ruler.of_step(k, COUNT).sigma == pytest.approx(step.sigma, rel=1e-5)
        assert ruler.of_step(k, COUNT).timestep == pytest.approx(step.time, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_seen(made, name):
    """Another level, another prediction, and another direction of time are each far from the pipeline."""
    pipe, _, steps = made(name)
    step, denoiser = steps[4], pipe.denoiser
    assert apart(denoiser, step, sigma=1.1 * step.sigma) > 3e-3
    own, clock, inner = denoiser.prediction, denoiser.clock, denoiser.network
    for other in {"epsilon", "v_prediction", "flow_prediction", "sample"} - {own}:
        denoiser.prediction = other
        assert apart(denoiser, step) > 1e-2, other
    denoiser.prediction = own
    if name.startswith("inverted"):
        denoiser.clock = lambda time: clock(1 - time)
        assert apart(denoiser, step) > 1e-3
        denoiser.clock, denoiser.network = clock, inner.inner
        assert apart(denoiser, step) > 1e-2
        denoiser.network = inner
    assert apart(denoiser, step) < 1e-4
