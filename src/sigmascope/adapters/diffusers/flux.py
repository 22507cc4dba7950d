"""Flux, whose latents are packed in patches of two by two.

A network that was distilled from guided ones (Flux-dev) takes the guidance scale; it gets 1, no guidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, register
from sigmascope.adapters.diffusers.prompted import Prompted, latent_shape, prompt_attribute, without_dynamic_shift
from sigmascope.adapters.diffusers.schedulers import TRAINED


class _Flux(Prompted):
    """A FluxTransformer2DModel on latents that are not packed."""

    pooled: Tensor
    image_ids: Tensor
    text_ids: Tensor

    def __init__(self, transformer: Any, event: tuple[int, ...], text: Tensor, pooled: Tensor) -> None:
        super().__init__(event, text, pooled)
        self.transformer = transformer
        self.patches = (event[1] // 2, event[2] // 2)
        positions = torch.cartesian_prod(*(torch.arange(n, dtype=text.dtype) for n in self.patches))
        self.register_buffer("image_ids", pad(positions, (1, 0)))
        self.register_buffer("text_ids", torch.zeros(text.shape[1], 3, dtype=text.dtype))

    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        guidance = torch.ones_like(time) if self.transformer.config.guidance_embeds else None
        out: Tensor = self.transformer(
            hidden_states=pixel_unshuffle(x, 2).flatten(2).mT,
            timestep=time / TRAINED,
            guidance=guidance,
            pooled_projections=self.pooled[label],
            encoder_hidden_states=self.text[label],
            txt_ids=self.text_ids,
            img_ids=self.image_ids,
        ).sample
        return pixel_shuffle(out.mT.unflatten(2, self.patches), 2)  # type: ignore[no-untyped-call]


def _flux(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    """Network and shape of the latents of Flux."""
    transformer, values = pipe.transformer, request.prompts
    own = (pipe.default_sample_size, pipe.default_sample_size)
    event = latent_shape(int(transformer.config.in_channels), 4, own, 2, pipe, request)
    with torch.no_grad():
        limit = _tokens(pipe)["tokenizer_2"]
        text, pooled, _ = pipe.encode_prompt(list(values), device=pipe.device, max_sequence_length=limit)
    network = _Flux(transformer, event, text.to(transformer.dtype), pooled.to(transformer.dtype))
    return PipelineNetwork(network, event, *prompt_attribute(values))


def _tokens(pipe: Any) -> Mapping[str, int]:
    """Tokens of the long encoder; networks distilled to a few steps were trained on half as many."""
    return {"tokenizer_2": 512 if pipe.transformer.config.guidance_embeds else 256}


register(
    Kind(
        "Flux", "transformer", _flux, ("FluxTransformer2DModel",), ("FluxPipeline",),
        text=("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"), tokens=_tokens,
        scheduled=lambda pipe, event: without_dynamic_shift(pipe, event[1] * event[2] // 4),
    )
)  # fmt: skip
