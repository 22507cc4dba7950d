"""Stable Diffusion 3 and 3.5, with or without their third text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, register
from sigmascope.adapters.diffusers.prompted import (
    Prompted,
    defaults,
    latent_shape,
    prompt_attribute,
    square,
    without_dynamic_shift,
)


class _SD3(Prompted):
    """An SD3Transformer2DModel with the embeddings of its prompts."""

    pooled: Tensor

    def __init__(self, transformer: Any, event: tuple[int, ...], text: Tensor, pooled: Tensor) -> None:
        super().__init__(event, text, pooled)
        self.transformer = transformer

    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        out: Tensor = self.transformer(
            hidden_states=x,
            timestep=time,
            encoder_hidden_states=self.text[label],
            pooled_projections=self.pooled[label],
        ).sample
        return out


def _read(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    transformer, values = pipe.transformer, request.prompts
    c = transformer.config
    event = latent_shape(int(c.in_channels), 1, square(c.sample_size), int(c.patch_size), pipe, request)
    with torch.no_grad():
        text, _, pooled, _ = pipe.encode_prompt(
            list(values), None, None, device=pipe.device, do_classifier_free_guidance=False,
            **defaults(pipe, "max_sequence_length"),
        )  # fmt: skip
    network = _SD3(transformer, event, text.to(transformer.dtype), pooled.to(transformer.dtype))
    return PipelineNetwork(network, event, *prompt_attribute(values))


def _tokens(pipe: Any) -> Mapping[str, int]:
    """Tokens of each encoder; both of CLIP read as many as the first."""
    short, long = int(pipe.tokenizer_max_length), defaults(pipe, "max_sequence_length")["max_sequence_length"]
    return {"tokenizer": short, "tokenizer_2": short, "tokenizer_3": long}


def _scheduled(pipe: Any, event: tuple[int, ...]) -> Any:
    patch = int(pipe.transformer.config.patch_size)
    return without_dynamic_shift(pipe, (event[1] // patch) * (event[2] // patch))


register(
    Kind(
        "Stable Diffusion 3", "transformer", _read, ("SD3Transformer2DModel",), ("StableDiffusion3Pipeline",),
        text=("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"), perhaps=("text_encoder_3", "tokenizer_3"),
        tokens=_tokens, scheduled=_scheduled,
    )
)  # fmt: skip
