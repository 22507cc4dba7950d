"""Tiny text-to-image pipelines with random weights, made on the spot and saved: one of each family."""

from __future__ import annotations

import string

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
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
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
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


def t5_tokenizer() -> T5Tokenizer:
    """A token for each letter, and the end."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def t5(width: int = 24) -> T5EncoderModel:
    config = T5Config(vocab_size=4 + len(LETTERS), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval()


def gemma_tokenizer() -> GemmaTokenizer:
    """A token for each letter after one for the beginning; none for the end."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS]
    vocabulary = {t: i for i, t in enumerate(tokens)}
    return GemmaTokenizer(vocab=vocabulary, merges=[], add_bos_token=True, padding_side="right")


def gemma(width: int = 24) -> Gemma2Model:
    config = Gemma2Config(
        vocab_size=6 + len(LETTERS), hidden_size=width, intermediate_size=16, num_hidden_layers=2, head_dim=8,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048, sliding_window=2048,
    )  # fmt: skip
    return Gemma2Model(config).eval()


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
    pipe = FluxPipeline(
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(), text_encoder=CLIPTextModel(clip_config()), tokenizer=clip_tokenizer(),
        text_encoder_2=t5(), tokenizer_2=t5_tokenizer(),
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


def sd3_whole(folder, scheduler=None, long=True):
    """A Stable Diffusion 3 with its text encoders, perhaps without the third."""
    torch.manual_seed(0)
    pipe = StableDiffusion3Pipeline(
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae(),
        transformer=SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
            caption_projection_dim=16, joint_attention_dim=32, pooled_projection_dim=32, out_channels=4,
            pos_embed_max_size=8,
        ),
        text_encoder=CLIPTextModelWithProjection(clip_config()), tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config()), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(32) if long else None, tokenizer_3=t5_tokenizer() if long else None,
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe


def pixart(folder, scheduler=None, alpha=True, side=8):
    """A PixArt-alpha or -sigma; with latents of 128 x 128 as its own size, PixArt-alpha is given sizes."""
    torch.manual_seed(0)
    pipe = (PixArtAlphaPipeline if alpha else PixArtSigmaPipeline)(
        scheduler=scheduler or DDIMScheduler(**SCALED, clip_sample=False), vae=vae(),
        tokenizer=t5_tokenizer(), text_encoder=t5(),
        transformer=PixArtTransformer2DModel(
            sample_size=side, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3, in_channels=4,
            out_channels=8, cross_attention_dim=24, caption_channels=24,
            use_additional_conditions=alpha and side == 128,
        ),
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe


def sana(folder, scheduler=None, scale=1.0):
    """A Sana of 64 x 64 pixels and 4 x 2 x 2 latents."""
    torch.manual_seed(0)
    pipe = SanaPipeline(
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderDC(
            latent_channels=4, attention_head_dim=2, encoder_block_out_channels=(8,) * 6, scaling_factor=0.4,
            decoder_block_out_channels=(8,) * 6, encoder_layers_per_block=(1,) * 6, decoder_layers_per_block=(1,) * 6,
        ),
        tokenizer=gemma_tokenizer(), text_encoder=gemma(),
        transformer=SanaTransformer2DModel(
            sample_size=2, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
            num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=24,
            timestep_scale=scale,
        ),
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe


def aura_flow(folder, scheduler=None):
    """An AuraFlow."""
    torch.manual_seed(0)
    umt5 = UMT5Config(vocab_size=4 + len(LETTERS), d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    pipe = AuraFlowPipeline(
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=1.73), vae=vae(),
        tokenizer=t5_tokenizer(), text_encoder=UMT5EncoderModel(umt5).eval(),
        transformer=AuraFlowTransformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
            attention_head_dim=8, num_attention_heads=2, joint_attention_dim=24, caption_projection_dim=16,
            out_channels=4, pos_embed_max_size=64,
        ),
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe


def lumina(folder, scheduler=None):
    """A Lumina 2, whose pipeline takes the scale 8 of its autoencoder for granted."""
    torch.manual_seed(0)
    pipe = Lumina2Pipeline(
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=6.0), vae=vae(),
        tokenizer=gemma_tokenizer(), text_encoder=gemma(),
        transformer=Lumina2Transformer2DModel(
            sample_size=4, patch_size=2, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1,
            num_attention_heads=3, num_kv_heads=1, multiple_of=16, cap_feat_dim=24, axes_dim_rope=(4, 2, 2),
            axes_lens=(300, 16, 16),
        ),
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)
    return pipe
