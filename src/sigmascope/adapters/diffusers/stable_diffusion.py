"""Stable Diffusion, 1 and 2, and Stable Diffusion XL."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, register
from sigmascope.adapters.diffusers.prompted import Prompted, latent_shape, prompt_attribute, square


class _UNet(Prompted):
    """A UNet2DConditionModel with the embeddings of its prompts, and for some networks sizes and the guidance scale."""

    sizes: Tensor | None
    scale: Tensor | None

    def __init__(self, unet: Any, event: tuple[int, ...], text: Tensor, pooled: Tensor | None) -> None:
        super().__init__(event, text, pooled)
        self.unet = unet
        for name in ("sizes", "scale"):
            self.register_buffer(name, None)

    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        options: dict[str, Any] = {}
        if self.pooled is not None and self.sizes is not None:
            sizes = self.sizes.expand(len(x), -1)
            options["added_cond_kwargs"] = {"text_embeds": self.pooled[label], "time_ids": sizes}
        if self.scale is not None:
            options["timestep_cond"] = self.scale.expand(len(x), -1)
        out: Tensor = self.unet(x, time, encoder_hidden_states=self.text[label], **options).sample
        return out


def _stable(pipe: Any, request: PipelineRequest, xl: bool) -> PipelineNetwork:
    """Network and shape of the latents of Stable Diffusion, XL or not."""
    unet, values = pipe.unet, request.prompts
    c = unet.config
    event = latent_shape(int(c.in_channels), 1, square(c.sample_size), 1, pipe, request)
    with torch.no_grad():
        text, pooled = (
            _xl_text(pipe, values) if xl else (pipe.encode_prompt(list(values), pipe.device, 1, False)[0], None)
        )
        network = _UNet(unet, event, text.to(unet.dtype), None if pooled is None else pooled.to(unet.dtype))
        if pooled is not None:
            pixels = [pipe.vae_scale_factor * n for n in event[1:]]
            network.sizes = torch.tensor([[*pixels, 0, 0, *pixels]], dtype=unet.dtype)  # original, crop, target
        if c.time_cond_proj_dim is not None:
            none = pipe.get_guidance_scale_embedding(torch.zeros(1), embedding_dim=c.time_cond_proj_dim)
            network.scale = none.to(unet.dtype)
    return PipelineNetwork(network, event, *prompt_attribute(values))


def _xl_text(pipe: Any, values: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Embeddings of prompts, and pooled ones, of SDXL."""
    text, empty, pooled, pooled_empty = pipe.encode_prompt(
        list(values), device=pipe.device, do_classifier_free_guidance=True
    )
    for k, value in enumerate(values):
        if value == "":
            text[k], pooled[k] = empty[k], pooled_empty[k]
    return text, pooled


_TEXT, _UNETS = ("text_encoder", "tokenizer"), ("UNet2DConditionModel",)
_BOTH = (*_TEXT, "text_encoder_2", "tokenizer_2")
_SD, _SDXL = partial(_stable, xl=False), partial(_stable, xl=True)
register(Kind("Stable Diffusion", "unet", _SD, _UNETS, ("StableDiffusionPipeline",), text=_TEXT))
register(Kind("Stable Diffusion XL", "unet", _SDXL, _UNETS, ("StableDiffusionXLPipeline",), text=_BOTH))
