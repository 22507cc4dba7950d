"""Pipelines made on the spot: what diffusers does with a network in a step, the adapter's denoiser must say too."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchLCMScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UNet2DModel,
)

from sigmascope.adapters.diffusers.pipelines import load_pipeline
from sigmascope.adapters.diffusers.units import ruler_of
from sigmascope.core import InputError

pytestmark = pytest.mark.filterwarnings("ignore")


def unet(classes: int | None = None, dead: bool = False) -> UNet2DModel:
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        num_class_embeds=classes,
    )  # fmt: skip
    if dead:  # it says 0, whatever it sees
        torch.nn.init.zeros_(net.conv_out.weight)
        torch.nn.init.zeros_(net.conv_out.bias)
    return net


def saved(tmp_path, net, scheduler):
    DDPMPipeline(net, scheduler).save_pretrained(tmp_path / "pipe", safe_serialization=True)
    return tmp_path / "pipe"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_a_step_of_ddim(tmp_path, prediction, betas):
    """DDIM's own step from t to the next is α'(D + σ'(y − D)/σ): in y, with our D of the same random network."""
    scheduler = DDIMScheduler(
        beta_schedule=betas, prediction_type=prediction, clip_sample=False, timestep_spacing="trailing"
    )
    folder = saved(tmp_path, unet(), scheduler)
    pipe = load_pipeline(f"diffusers:{folder}")
    net, own = unet(), pipe.scheduler
    own.set_timesteps(10)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    for now, then in zip(own.timesteps[2:6], own.timesteps[3:7], strict=True):
        with torch.no_grad():
            after = own.step(net(x, now).sample, now, x).prev_sample
        levels = [pipe.denoiser.schedule.sigma(float(t)) for t in (now, then)]
        alphas = [pipe.denoiser.schedule.alpha(float(t)) for t in (now, then)]
        y = x.double() / float(alphas[0])  # in the network's unit; ours is (y + 1) / 2
        d = pipe.denoiser((y + 1) / 2, torch.full((2,), float(levels[0]) / 2, dtype=torch.float64))
        clean = 2 * d - 1
        wanted = float(alphas[1]) * (clean + float(levels[1]) / float(levels[0]) * (y - clean))
        assert torch.allclose(wanted, after.double(), atol=2e-4 * float(wanted.abs().max())), (prediction, now)


def test_a_step_of_euler_flow(tmp_path):
    """Flow matching with a shift: x' = x + (t' − t) u, which moves y to D + σ'(y − D)/σ."""
    folder = saved(tmp_path, unet(), FlowMatchEulerDiscreteScheduler(shift=3.0))
    pipe = load_pipeline(folder)
    net, own = unet(), pipe.scheduler
    own.set_timesteps(8)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for k in (2, 3, 5):
        own._step_index = None
        with torch.no_grad():
            after = own.step(net(x, own.timesteps[k]).sample, own.timesteps[k], x).prev_sample
        t, u = float(own.sigmas[k]), float(own.sigmas[k + 1])
        y = x.double() / (1 - t)
        clean = 2 * pipe.denoiser((y + 1) / 2, torch.full((2,), t / (1 - t) / 2, dtype=torch.float64)) - 1
        there = clean + (u / (1 - u)) / (t / (1 - t)) * (y - clean)
        assert torch.allclose((1 - u) * there, after.double(), atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_step_of_edm(tmp_path, prediction):
    folder = saved(tmp_path, unet(), EDMEulerScheduler(sigma_data=0.7, prediction_type=prediction))
    pipe = load_pipeline(folder)
    net, own = unet(), pipe.scheduler
    own.set_timesteps(8)
    x = 5 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for k in (1, 4):
        own._step_index = None
        own.is_scale_input_called = False
        now = own.timesteps[k]
        with torch.no_grad():
            after = own.step(net(own.scale_model_input(x, now), now).sample, now, x).prev_sample
        s, then = float(own.sigmas[k]), float(own.sigmas[k + 1])
        clean = 2 * pipe.denoiser((x.double() + 1) / 2, torch.full((2,), s / 2, dtype=torch.float64)) - 1
        wanted = clean + then / s * (x.double() - clean)
        assert torch.allclose(wanted, after.double(), atol=1e-3 * s)


@pytest.mark.parametrize(
    ("scheduler", "variance"),
    [
        (DDPMScheduler(prediction_type="v_prediction"), 1.0),
        (DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True), 1.0),
        (EulerDiscreteScheduler(prediction_type="v_prediction"), 1.0),
        (EDMEulerScheduler(sigma_data=0.5), 0.25),
    ],
)
def test_a_network_that_says_nothing_is_the_denoiser_of_a_gaussian(tmp_path, scheduler, variance):
    """Zero, in the words of v or of EDM, is D = s² y / (s² + σ²) in the network's unit: the Wiener gain of N(0, s²)."""
    pipe = load_pipeline(saved(tmp_path, unet(dead=True), scheduler))
    g = torch.Generator().manual_seed(0)
    for sigma in (0.05, 0.5, 4.0, 30.0):  # in our unit: half of the network's
        y = 0.5 + sigma * torch.randn(4, 3, 8, 8, generator=g, dtype=torch.float64)
        d = pipe.denoiser(y, torch.full((4,), sigma, dtype=torch.float64))
        gain = variance / (variance + 4 * sigma**2)
        assert torch.allclose(d, 0.5 + gain * (y - 0.5), atol=1e-5 * (1 + sigma))


def test_classes_of_a_unet(tmp_path):
    net = unet(classes=4)
    folder = saved(tmp_path, net, DDPMScheduler())
    y, sigma = torch.rand(3, 3, 8, 8), torch.full((3,), 0.5)
    pipe = load_pipeline(folder)
    assert pipe.denoiser.attributes[0].values == ("0", "1", "2", "3")
    with pytest.raises(InputError, match="always needs 'class'"):
        pipe.denoiser(y, sigma)
    label = torch.tensor([0, 3, 1])
    given = pipe.denoiser(y, sigma, {"class": label})
    assert not torch.allclose(given, pipe.denoiser(y, sigma, {"class": label.flip(0)}))
    guided = load_pipeline(folder, null=3)
    assert guided.denoiser.attributes[0].values == ("0", "1", "2")
    free = guided.denoiser(y, sigma)
    assert torch.equal(free, pipe.denoiser(y, sigma, {"class": torch.full((3,), 3)}))


def test_dit(tmp_path):
    """Class-conditional latents: its empty class is one more than its classes, and its variance is left out."""
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=4,
        num_embeds_ada_norm=5, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, sample_size=8, scaling_factor=0.3,
    )  # fmt: skip
    names = {0: "cat", 1: "dog", 2: "cat", 3: "owl", 4: "fox"}
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    DiTPipeline(transformer, vae, scheduler, id2label=names).save_pretrained(tmp_path / "dit")
    pipe = load_pipeline(tmp_path / "dit")
    assert pipe.kind == "DiTPipeline"
    assert pipe.denoiser.event == (4, 4, 4)
    assert len(pipe.denoiser.attributes[0].values) == 5
    own = pipe.scheduler
    own.set_timesteps(10)
    x, label = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 5])
    now, then = own.timesteps[4], own.timesteps[5]
    with torch.no_grad():
        said = transformer.eval()(x, timestep=now.expand(2), class_labels=label).sample[:, :4]
        after = own.step(said, now, x).prev_sample
    schedule = pipe.denoiser.schedule
    s, u = (float(schedule.sigma(float(t))) for t in (now, then))
    a, b = (float(schedule.alpha(float(t))) for t in (now, then))
    y = x.double() / a
    d = pipe.denoiser(y, torch.full((2,), s, dtype=torch.float64), {"class": torch.tensor([3, -1])})
    assert torch.allclose(b * (d + u / s * (y - d)), after.double(), atol=1e-4)
    pixels = torch.rand(2, 3, 8, 8)
    latents = pipe.encode(pixels)
    assert latents.shape == (2, 4, 4, 4)
    with torch.no_grad():
        assert torch.allclose(latents, vae.eval().encode(2 * pixels - 1).latent_dist.mean * 0.3, atol=1e-5)
    assert pipe.decode(latents).shape == pixels.shape


def test_what_cannot_be_opened(tmp_path):
    def said(path, **options):
        with pytest.raises(InputError) as error:
            load_pipeline(path, **options)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "there is no such folder" in said(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "it holds no model_index.json" in said(tmp_path / "empty")
    (tmp_path / "empty" / "model_index.json").write_text("{")
    assert "expected JSON" in said(tmp_path / "empty")
    folder = saved(tmp_path, unet(), DDPMScheduler())
    weights = next((folder / "unet").glob("*.safetensors"))
    torch.save(unet().state_dict(), weights.with_suffix(".bin"))
    weights.unlink()
    assert "which can run any code" in said(folder)
    assert load_pipeline(folder, allow_pickle=True).denoiser.event == (3, 8, 8)
    folder = saved(tmp_path / "b", unet(), DDPMScheduler())
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prediction_type": "score"}))
    assert "prediction_type is 'score'" in said(folder)
    config.unlink()
    assert "cannot open it" in said(folder)
    folder = saved(tmp_path / "c", unet(classes=4), DDPMScheduler())
    assert "pass an index below that" in said(folder, null=4)
    assert "only the last, 3" in said(folder, null=1)


def test_every_table_of_diffusers_is_read(tmp_path):
    """The level at every timestep, against diffusers' own alphas."""
    for scheduler in (DDIMScheduler(), LCMScheduler(), DDPMScheduler(beta_schedule="squaredcos_cap_v2")):
        pipe = load_pipeline(saved(tmp_path, unet(), scheduler))
        alphas = scheduler.alphas_cumprod.double().numpy()
        mine = pipe.denoiser.schedule.sigma(np.arange(len(alphas)))
        assert np.allclose(mine, np.sqrt((1 - alphas) / alphas), rtol=1e-6)


@pytest.mark.parametrize(
    "scheduler",
    [
        DPMSolverMultistepScheduler(
            solver_order=1, use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
        ),
        DPMSolverMultistepScheduler(solver_order=1, use_karras_sigmas=True, prediction_type="v_prediction"),
        EulerDiscreteScheduler(
            timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True, sigma_min=0.002,
            sigma_max=700.0,
        ),
        EulerDiscreteScheduler(interpolation_type="log_linear"),
        HeunDiscreteScheduler(),
    ],
    ids=["flow sigmas", "karras", "continuous", "log linear", "heun"],
)  # fmt: skip
def test_a_step_of_schedulers_whose_levels_are_read(tmp_path, scheduler):
    """What translate reads, a study can use: the first-order step of each is D + σ'(y − D)/σ, with our D."""
    folder = saved(tmp_path, unet(), scheduler)
    pipe, ruler, net = load_pipeline(folder), ruler_of(folder, 10), unet().eval()
    flow = bool(scheduler.config.get("use_flow_sigmas"))
    preserving = isinstance(scheduler, DPMSolverMultistepScheduler)
    for k in (3, 5, 6):
        own = type(scheduler).from_config(scheduler.config)
        own.set_timesteps(10)
        entry = k * own.order
        now, s, u = own.timesteps[entry], float(own.sigmas[entry]), float(own.sigmas[entry + 1])
        own.set_begin_index(entry)
        level, then = (s / (1 - s), u / (1 - u)) if flow else (s, u)
        scale = (lambda x: 1 - x) if flow else (lambda x: 1 / math.hypot(1, x)) if preserving else (lambda x: 1.0)
        alpha, later = scale(s), scale(u)
        x = alpha * level * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(k))
        # The network is given the level's own timestep: that of the list may be rounded.
        exact = torch.tensor(ruler.clock.timestep(level))
        with torch.no_grad():
            after = own.step(net(own.scale_model_input(x, now), exact).sample, now, x).prev_sample
        y = x.double() / alpha
        found = ruler.of_step(k, 10)
        assert found.network_sigma == pytest.approx(level, rel=1e-5)
        d = 2 * pipe.denoiser((y + 1) / 2, torch.full((2,), level / 2, dtype=torch.float64)) - 1
        wanted = d + then / level * (y - d)
        assert torch.allclose(later * wanted, after.double(), atol=2e-4 * float(after.abs().max()))


def test_what_translate_reads_and_no_denoiser_is(tmp_path):
    """A consistency model gives the end of a path, an inverted flow may not tell its direction: each is said."""
    for scheduler, said in (
        (CMStochasticIterativeScheduler(), "is a consistency model"),
        (FlowMatchLCMScheduler(invert_sigmas=True), "time runs from the noise to the data"),
    ):
        folder = saved(tmp_path / type(scheduler).__name__, unet(), scheduler)
        with pytest.raises(InputError, match=said):
            load_pipeline(folder)
        assert ruler_of(folder, 10).of_step(4, 10).step == 4
