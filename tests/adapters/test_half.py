"""Networks with weights in half precision: what is not the network's stays in float32 and float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, EDMEulerScheduler, UNet2DModel

import gold_inputs
from sigmascope.adapters import Foreign
from sigmascope.adapters.models import load_model
from sigmascope.core import Denoiser, generator
from sigmascope.noise import Discrete
from sigmascope.sample.schemes import Model, home_of

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers about itself
HALVES = {torch.bfloat16: 0.01, torch.float16: 0.0015}
"""Each with the largest error of a denoised value, as a share of sigma: some units in the last place."""


def edm(path: Path) -> None:
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=4, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    DDPMPipeline(net, EDMEulerScheduler()).save_pretrained(path, safe_serialization=True)


MAKERS: dict[str, Callable[[Path], None]] = {
    "pixels": lambda path: gold_inputs.pixel_pipeline(path, 4),
    "latents": gold_inputs.latent_pipeline,
    "stable": lambda path: gold_inputs.text_pipeline(path, "stable"),
    "flux": lambda path: gold_inputs.text_pipeline(path, "flux"),
    "edm": edm,
}


def denoised(d: Denoiser, sigma: float) -> torch.Tensor:
    v = torch.rand(4, *d.event, generator=generator(0), dtype=torch.float64)
    y = v + sigma * torch.randn(v.shape, generator=generator(1), dtype=torch.float64)
    return Model(d, {a.name: torch.arange(4) % 2 for a in d.attributes}).denoise(y, sigma)


@pytest.mark.parametrize("name", MAKERS)
def test_half_weights(name, tmp_path):
    """The denoised value differs by the rounding of the network's output, a share of sigma however small that is."""
    MAKERS[name](tmp_path / "pipe")
    options = {"prompts": ("a cube", "a ball")} if name in ("stable", "flux") else {}
    levels = (0.03, 0.5) if name != "edm" else (0.003, 0.03, 0.5)
    for dtype, most in HALVES.items():
        d = load_model(f"diffusers:{tmp_path / 'pipe'}", **options).denoiser
        full = {s: denoised(d, s) for s in levels}
        d.to(dtype)
        assert home_of(d)[1] == torch.float32
        for s, wanted in full.items():
            off = float((denoised(d, s) - wanted).square().mean().sqrt())
            assert 0 < off < most * s, (dtype, s)


class Heard(torch.nn.Linear):
    """A network that keeps what it was given."""

    def forward(self, x, time):
        self.given = x.dtype, time
        return super().forward(x)


def test_times_are_not_rounded():
    """In half precision the time 501 would be 500 or 502."""
    net = Heard(3, 3).bfloat16()
    schedule = Discrete.linear()
    sigma = torch.from_numpy(schedule.sigma(torch.tensor([501.0, 999.0]).double().numpy()))
    Foreign(net, (3,), schedule, "epsilon")(torch.zeros(2, 3), sigma)
    kind, time = net.given
    assert kind == torch.bfloat16
    assert time.dtype == torch.float32
    assert torch.allclose(time, torch.tensor([501.0, 999.0]), atol=1e-2)
    assert not torch.allclose(time.bfloat16().float(), time, atol=0.5)
