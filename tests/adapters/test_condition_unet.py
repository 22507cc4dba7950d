"""UNet2DConditionModels without prompts: with classes of their own, with a table of classes, with neither."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import (
    ConfigMixin,
    DDIMScheduler,
    DDPMPipeline,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    ModelMixin,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from diffusers.configuration_utils import register_to_config

from sigmascope.adapters import load_model
from sigmascope.adapters.diffusers.pipelines import load_pipeline, read_pipeline
from sigmascope.adapters.diffusers.units import ruler_of
from sigmascope.core import InputError, generator

pytestmark = pytest.mark.filterwarnings("ignore")
WIDTH, CLASSES = 12, 5
STEPS = 10
SCHEDULERS = {
    "ddim": DDIMScheduler(clip_sample=False, timestep_spacing="trailing"),
    "ddim, v": DDIMScheduler(clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=False),
    "euler": EulerDiscreteScheduler(),
    "euler, v": EulerDiscreteScheduler(prediction_type="v_prediction", use_karras_sigmas=False),
}


def unet(attends: bool = False, **options: Any) -> UNet2DConditionModel:
    torch.manual_seed(0)
    kind = "CrossAttn{}Block2D" if attends else "{}Block2D"
    return UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D", kind.format("Down")), attention_head_dim=4,
        up_block_types=(kind.format("Up"), "UpBlock2D"), cross_attention_dim=WIDTH,
        mid_block_type="UNetMidBlock2DCrossAttn" if attends else "UNetMidBlock2D", **options,
    )  # fmt: skip


class Table(ModelMixin, ConfigMixin):
    """Tokens of each class."""

    @register_to_config
    def __init__(self, classes: int = CLASSES, width: int = WIDTH, tokens: int = 1) -> None:
        super().__init__()
        self.tokens = tokens
        self.embedding = torch.nn.Embedding(classes, width)

    def forward(self, label: torch.Tensor) -> torch.Tensor:
        row = self.embedding(label)
        return row if self.tokens == 1 else row[:, None].repeat(1, self.tokens, 1) * torch.arange(self.tokens)[:, None]


class TablePipeline(DiffusionPipeline):
    """Of a network that attends to its class."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: Any, table: Table) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, table=table)


def check(denoiser: Any, net: Any, scheduler: Any, given: dict[str, Any], known: dict[str, Any] | None) -> None:
    """At the first, some and the last state, our estimate is the scheduler's own, from the network called by hand."""
    scheduler.set_timesteps(STEPS)
    g = generator(1)
    for k in (0, 1, 5, STEPS - 1):
        time = scheduler.timesteps[k]
        if isinstance(scheduler, EulerDiscreteScheduler):
            scheduler.set_begin_index(k)
            scheduler._step_index = None
            sigma, alpha = float(scheduler.sigmas[k]), 1.0
        else:
            kept = float(scheduler.alphas_cumprod[int(time)])
            sigma, alpha = math.sqrt((1 - kept) / kept), math.sqrt(kept)
        x = alpha * math.hypot(1, sigma) * torch.randn(2, 3, 8, 8, generator=g)
        with torch.no_grad():
            out = net(scheduler.scale_model_input(x, time), time, **given).sample
            clean = scheduler.step(out, time, x).pred_original_sample.double()
            y = (x.double() / alpha + 1) / 2
            found = 2 * denoiser(y, torch.full((2,), sigma / 2, dtype=torch.float64), known) - 1
            assert torch.allclose(found, clean, atol=1e-4 * float(clean.abs().max()), rtol=0), time
            if k == 5:  # another level is seen
                wrong = 2 * denoiser(y, torch.full((2,), 0.45 * sigma, dtype=torch.float64), known) - 1
                assert float((wrong - clean).abs().max()) > 1e-2 * float(clean.abs().max())


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_a_network_with_classes_of_its_own(tmp_path, name, classes):
    net = unet(num_class_embeds=classes).eval()
    scheduler = SCHEDULERS[name]
    DDPMPipeline(net, scheduler).save_pretrained(tmp_path, safe_serialization=True)
    pipe = load_pipeline(tmp_path, null=4 if classes else None)
    label = torch.tensor([0, 3])
    known = {"class": label} if classes else None
    check(pipe.denoiser, net, scheduler, {"encoder_hidden_states": None, "class_labels": known and label}, known)
    ruler = ruler_of(tmp_path, STEPS)
    scheduler.set_timesteps(STEPS)
    assert [ruler.of_step(k, STEPS).timestep for k in range(STEPS)] == pytest.approx(scheduler.timesteps.tolist())
    if classes:
        assert pipe.denoiser.attributes[0].values == tuple("0123")
        none = {"encoder_hidden_states": None, "class_labels": torch.tensor([4, 4])}
        check(pipe.denoiser, net, scheduler, none, None)


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_network_that_attends_to_its_class(tokens):
    """The part of the pipeline that makes states of a class is found by its table."""
    net, table, scheduler = unet(attends=True).eval(), Table(tokens=tokens).eval(), SCHEDULERS["ddim"]
    own = TablePipeline(net, scheduler, table)
    label = torch.tensor([1, 4])
    with torch.no_grad():
        states = table(label)
        states = states[:, None] if tokens == 1 else states
    denoiser = read_pipeline(own).denoiser
    assert denoiser.attributes[0].values == tuple("01234")
    check(denoiser, net, scheduler, {"encoder_hidden_states": states}, {"class": label})
    y, sigma = torch.randn(2, 3, 8, 8, generator=generator(0)).double(), torch.tensor([0.5, 0.5]).double()
    with torch.no_grad():
        one, other = (denoiser(y, sigma, {"class": torch.full((2,), k)}) for k in (0, 1))
    assert float((one - other).abs().max()) > 1e-4
    assert load_model(own, null=4).denoiser.null == 4


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DDPMPipeline(unet(attends=True), DDIMScheduler()), "no part of DDPMPipeline makes these of a class"),
        (lambda: DDPMPipeline(unet(True, num_class_embeds=3), DDIMScheduler()), "attends to states"),
        (lambda: DDPMPipeline(unet(class_embed_type="timestep"), DDIMScheduler()), "class_embed_type is 'timestep'"),
        (lambda: DDPMPipeline(unet(time_cond_proj_dim=4), DDIMScheduler()), "time_cond_proj_dim is 4"),
        (lambda: TablePipeline(unet(True), DDIMScheduler(), Table(width=7)), "states of 12 numbers"),
    ],
)
def test_what_takes_more_than_a_class(make, said):
    with pytest.raises(InputError) as error:
        read_pipeline(make())
    assert said in str(error.value)
    assert "wrap it in adapters.Foreign" in str(error.value)
    assert "\n" not in str(error.value)


class VideoPipeline(DiffusionPipeline):
    """The network and the scheduler of Stable Video Diffusion."""

    def __init__(self, unet: UNetSpatioTemporalConditionModel, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)


def test_a_network_of_videos_takes_an_image():
    net = UNetSpatioTemporalConditionModel(
        sample_size=8, block_out_channels=(32, 32), layers_per_block=1, num_attention_heads=(1, 1),
        cross_attention_dim=8, down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12,
    )  # fmt: skip
    with pytest.raises(InputError, match="takes the latents of an image besides the noise: wrap it in adapters"):
        read_pipeline(VideoPipeline(net, EulerDiscreteScheduler()))
