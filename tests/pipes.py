"""Tiny text-to-image pipelines with random weights, made on the spot and saved: Stable Diffusion, SDXL, SD3, Flux."""

from __future__ import annotations

import string

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LETTERS = string.ascii_lowercase
WORDS = 24  # tokens that the tiny CLIP reads
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def clip_tokenizer() -> CLIPTokenizer:
    """A token for each letter, one more where it ends a word."""
    tokens = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{c}</w>" for c in LETTERS)]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], model_max_length=WORDS)


def clip_config(width: int = 16) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=2 + 2 * len(LETTERS), hidden_size=width, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=WORDS, projection_dim=width, bos_token_id=0, eos_token_id=1,
        pad_token_id=1,
    )  # fmt: skip


def vae(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=channels,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, sample_size=16, scaling_factor=0.3,
    )  # fmt: skip


def unet(width: int, xl: bool, distilled: bool = False) -> UNet2DConditionModel:
    more = {"time_cond_proj_dim": 8} if distilled else {}
    if xl:
        more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 6 * 8 + 16}  # fmt: skip
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=4,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=width, **more,
    )  # fmt: skip


def stable(folder, scheduler=None, **parts):
    """A Stable Diffusion of 16 × 16 pixels and 4 × 8 × 8 latents."""
    torch.manual_seed(0)
    made = {
        "vae": vae(), "text_encoder": CLIPTextModel(clip_config()), "tokenizer": clip_tokenizer(),
        "unet": unet(16, False), "scheduler": scheduler or DDIMScheduler(**SCALED, clip_sample=False),
        "safety_checker": None, "feature_extractor": None,
    }  # fmt: skip
    pipe = StableDiffusionPipeline(**(made | parts), requires_safety_checker=False)
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe


def xl(folder, scheduler=None, **options):
    """An SDXL of the same size, with two text encoders."""
    torch.manual_seed(0)
    pipe = StableDiffusionXLPipeline(
        vae=vae(), text_encoder=CLIPTextModel(clip_config()), text_encoder_2=CLIPTextModelWithProjection(clip_config()),
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(), unet=unet(32, True),
        scheduler=scheduler or DDIMScheduler(**SCALED, clip_sample=False), **options,
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe


def flux(folder, scheduler=None, guidance=True):
    """A Flux; latents of 4 channels, packed to 16."""
    torch.manual_seed(0)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in LETTERS)]
    t5 = T5Config(vocab_size=len(pieces), d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    pipe = FluxPipeline(
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(), text_encoder=CLIPTextModel(clip_config()), tokenizer=clip_tokenizer(),
        text_encoder_2=T5EncoderModel(t5).eval(), tokenizer_2=T5Tokenizer(vocab=pieces, extra_ids=0),
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=24, pooled_projection_dim=16, guidance_embeds=guidance,
            axes_dims_rope=(4, 4, 8),
        ),
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe


def sd3(folder, scheduler=None):
    """A Stable Diffusion 3 without its text encoders, whose embeddings are passed to it."""
    torch.manual_seed(0)
    pipe = StableDiffusion3Pipeline(
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae(),
        transformer=SD3Transformer2DModel(
            sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
            caption_projection_dim=16, joint_attention_dim=16, pooled_projection_dim=16, out_channels=4,
            pos_embed_max_size=8,
        ),
        text_encoder=None, text_encoder_2=None, text_encoder_3=None, tokenizer=None, tokenizer_2=None, tokenizer_3=None,
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe
