"""Latent or pixel, by what the network takes; and every kind of autoencoder with its own scale and shift."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    LDMPipeline,
    UNet2DModel,
    VQModel,
)

from sigmascope.adapters.diffusers.coding import coding
from sigmascope.adapters.diffusers.folders import checked_index
from sigmascope.adapters.diffusers.pipelines import in_latents, load_pipeline
from sigmascope.core import InputError

pytestmark = pytest.mark.filterwarnings("ignore")


def unet(channels: int = 3, side: int = 4, **more) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=side, in_channels=channels, out_channels=channels, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, **more,
    )  # fmt: skip


def vq(**more) -> VQModel:
    torch.manual_seed(1)
    return VQModel(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=3, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2, num_vq_embeddings=16, sample_size=8, scaling_factor=0.4, **more,
    )  # fmt: skip


def kl(**more) -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2, sample_size=8, scaling_factor=0.3, **more,
    )  # fmt: skip


def tiny() -> AutoencoderTiny:
    torch.manual_seed(1)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4, scaling_factor=0.7, shift_factor=0.2,
    )  # fmt: skip


def dit(vae) -> DiTPipeline:
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=4,
        num_embeds_ada_norm=5, norm_num_groups=4,
    )  # fmt: skip
    return DiTPipeline(transformer, vae, DDIMScheduler(clip_sample=False))


ABSENT, KL, VQ = [None, None], ["diffusers", "AutoencoderKL"], ["diffusers", "VQModel"]
U2D, COND = ["diffusers", "UNet2DModel"], ["diffusers", "UNet2DConditionModel"]


@pytest.mark.parametrize(
    ("kind", "index", "configs", "latent"),
    [
        ("StableDiffusionPipeline", {"vae": KL}, {}, True),
        ("LDMPipeline", {"vae": ABSENT, "vqvae": VQ}, {}, True),
        ("KandinskyV22Pipeline", {"vae": ABSENT, "movq": VQ}, {}, True),
        ("StableCascadeDecoderPipeline", {"vqgan": ["wuerstchen", "PaellaVQModel"]}, {}, True),
        ("StableDiffusionPipeline", {"vae": ["diffusers", "AutoencoderTiny"]}, {}, True),
        ("DiTPipeline", {"vae": ["diffusers", "AutoencoderDC"]}, {}, True),
        ("DDPMPipeline", {}, {}, False),
        ("DDPMPipeline", {"vae": ABSENT, "unet": U2D}, {"unet": {"in_channels": 3, "out_channels": 3}}, False),
        ("DDPMPipeline", {"unet": U2D}, {"unet": {"in_channels": 1, "out_channels": 2}}, False),
        ("DDPMPipeline", {"vae": ABSENT, "unet": U2D}, {"unet": {"in_channels": 4, "out_channels": 4}}, True),
        ("StableDiffusionPipeline", {"vae": ABSENT, "unet": COND}, {"unet": {"in_channels": 9, "out_channels": 4}},
         True),
        ("StableDiffusionPipeline", {"vae": ABSENT}, {}, True),  # its class has an autoencoder
        ("LDMPipeline", {"vqvae": VQ, "unet": U2D},
         {"unet": {"in_channels": 3, "out_channels": 3}, "vqvae": {"in_channels": 3, "latent_channels": 3}}, True),
        ("Mine", {"vae": KL, "unet": U2D},
         {"unet": {"in_channels": 3, "out_channels": 3}, "vae": {"in_channels": 3, "latent_channels": 4}}, False),
        ("Mine", {"vae": KL, "unet": U2D},
         {"unet": {"in_channels": 1, "out_channels": 1}, "vae": {"in_channels": 3, "latent_channels": 1}}, True),
        ("IFSuperResolutionPipeline", {"unet": COND}, {"unet": {"in_channels": 6, "out_channels": 6}}, False),
        ("IFPipeline", {"unet": COND}, {"unet": {"in_channels": 3, "out_channels": 6}}, False),
        ("KandinskyPriorPipeline", {"prior": ["diffusers", "PriorTransformer"]}, {"prior": {"embedding_dim": 8}}, True),
        ("FluxPipeline", {"vae": KL, "transformer": ["diffusers", "FluxTransformer2DModel"]},
         {"transformer": {"in_channels": 64, "out_channels": None}, "vae": {"in_channels": 3, "latent_channels": 16}},
         True),
        (7, {"vae": "rubbish", "unet": [1, 2]}, {}, False),
    ],
)  # fmt: skip
def test_latent_or_pixel(tmp_path, kind, index, configs, latent):
    for part, config in configs.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    assert in_latents(tmp_path, {"_class_name": kind, "scheduler": ["diffusers", "DDIMScheduler"], **index}) is latent


def test_latent_diffusion_without_text(tmp_path):
    """Its latents are scaled, and the codebook is the decoder's: as the pipeline itself does it."""
    own = LDMPipeline(vq(), unet(), DDIMScheduler(clip_sample=False))
    own.save_pretrained(tmp_path)
    pipe = load_pipeline(tmp_path)
    assert in_latents(tmp_path, checked_index(tmp_path))
    assert pipe.denoiser.event == (3, 4, 4)
    assert pipe.denoiser.unit.scale == 1.0
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(pipe.encode(pixels), own.vqvae.eval().encode(2 * pixels - 1).latents * 0.4, atol=1e-6)
    seen = []
    step = own.scheduler.step
    own.scheduler.step = lambda *a, **k: seen.append(step(*a, **k)) or seen[-1]
    own.set_progress_bar_config(disable=True)
    made = own(batch_size=2, num_inference_steps=2, output_type="np").images
    ours = pipe.decode(seen[-1].prev_sample).permute(0, 2, 3, 1).numpy()
    assert abs(ours - made).max() < 1e-5


@pytest.mark.parametrize(
    ("made", "part", "latents", "pixels"),
    [
        (lambda: kl(), "vae", lambda a, p: a.encode(2 * p - 1).latent_dist.mean * 0.3,
         lambda a, z: a.decode(z / 0.3).sample / 2 + 0.5),
        (lambda: kl(shift_factor=0.1), "vae", lambda a, p: (a.encode(2 * p - 1).latent_dist.mean - 0.1) * 0.3,
         lambda a, z: a.decode(z / 0.3 + 0.1).sample / 2 + 0.5),
        (tiny, "vae", lambda a, p: (a.encode(2 * p - 1).latents - 0.2) * 0.7,
         lambda a, z: a.decode(z / 0.7 + 0.2).sample / 2 + 0.5),
        (vq, "vqvae", lambda a, p: a.encode(2 * p - 1).latents * 0.4, lambda a, z: a.decode(z / 0.4).sample / 2 + 0.5),
        (vq, "movq", lambda a, p: a.encode(2 * p - 1).latents,
         lambda a, z: a.decode(z, force_not_quantize=True).sample / 2 + 0.5),
        (lambda: AutoencoderDC(
            latent_channels=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
            encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_block_types="ResBlock",
            decoder_block_types="ResBlock", encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()),
            scaling_factor=0.6,
         ), "vae", lambda a, p: a.encode(2 * p - 1).latent * 0.6, lambda a, z: a.decode(z / 0.6).sample / 2 + 0.5),
        (lambda: diffusers.pipelines.deprecated.wuerstchen.PaellaVQModel(
            embed_dim=8, levels=2, bottleneck_blocks=1, latent_channels=4, num_vq_embeddings=16, scale_factor=0.5
         ), "vqgan", lambda a, p: a.encode(p).latents / 0.5, lambda a, z: a.decode(0.5 * z).sample),
    ],
    ids=["kl", "kl-shifted", "tiny", "vqvae", "movq", "dc", "paella"],
)  # fmt: skip
def test_every_autoencoder_has_its_own_scale(made, part, latents, pixels):
    torch.manual_seed(3)
    a = made().eval()
    encode, decode = coding(a, "cpu", part)
    given = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        wanted = latents(a, given)
        assert torch.allclose(encode(given), wanted, atol=1e-5)
        assert torch.allclose(decode(wanted), pixels(a, wanted).clamp(0, 1), atol=1e-5)


def test_a_tiny_autoencoder_in_a_pipeline(tmp_path):
    dit(tiny()).save_pretrained(tmp_path)
    pipe = load_pipeline(tmp_path)
    assert pipe.encode(torch.rand(1, 3, 8, 8)).shape == (1, 4, 4, 4)


def video() -> AutoencoderKLCogVideoX:
    return AutoencoderKLCogVideoX(
        block_out_channels=(8, 8), down_block_types=("CogVideoXDownBlock3D",) * 2, latent_channels=4,
        layers_per_block=1, norm_num_groups=4, up_block_types=("CogVideoXUpBlock3D",) * 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: DDPMPipeline(unet(4), DDIMScheduler()), "takes latents of 4 channels, and the pipeline has no"),
        (lambda: dit(video()), "its autoencoder has the class AutoencoderKLCogVideoX"),
        (lambda: dit(kl(shift_factor=float("inf"))), "expected finite numbers"),
        (lambda: dit(kl(latents_mean=[0.0] * 4, latents_std=[0.0] * 3)), "its parts do not fit each other"),
        (lambda: LDMPipeline(kl(), unet(channels=2), DDIMScheduler()), "its parts do not fit each other"),
    ],
)
def test_what_cannot_be_encoded_is_refused(tmp_path, made, said):
    made().save_pretrained(tmp_path)
    with pytest.raises(InputError) as error:
        load_pipeline(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
