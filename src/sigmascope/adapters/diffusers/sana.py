"""Sana.

Its pipeline puts an instruction before each prompt, and none before the empty prompt of classifier-free guidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, register
from sigmascope.adapters.diffusers.prompted import (
    Prompted,
    defaults,
    latent_shape,
    masked_text,
    prompt_attribute,
    square,
)


class _Sana(Prompted):
    """A SanaTransformer2DModel without the channels of its variance."""

    mask: Tensor

    def __init__(self, transformer: Any, event: tuple[int, ...], text: Tensor, mask: Tensor) -> None:
        super().__init__(event, text, mask=mask)
        self.transformer = transformer

    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        out: Tensor = self.transformer(
            x,
            encoder_hidden_states=self.text[label],
            encoder_attention_mask=self.mask[label],
            timestep=time * self.transformer.config.timestep_scale,
        ).sample
        return out[:, : x.shape[1]]


def _read(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    transformer, values = pipe.transformer, request.prompts
    c = transformer.config
    event = latent_shape(int(c.in_channels), 1, square(c.sample_size), int(c.patch_size), pipe, request)
    options = defaults(pipe, "clean_caption", "max_sequence_length", "complex_human_instruction")
    text, mask = masked_text(pipe, values, **options)
    return PipelineNetwork(
        _Sana(transformer, event, text.to(transformer.dtype), mask), event, *prompt_attribute(values)
    )


def _tokens(pipe: Any) -> Mapping[str, int]:
    """Tokens of the text encoder; after an instruction, a prompt keeps two fewer besides its special ones."""
    options = defaults(pipe, "max_sequence_length", "complex_human_instruction")
    most, special = options["max_sequence_length"], len(pipe.tokenizer("").input_ids)
    return {"tokenizer": most - 2 + special if options["complex_human_instruction"] else most}


register(
    Kind(
        "Sana", "transformer", _read, ("SanaTransformer2DModel",), ("SanaPipeline",),
        text=("text_encoder", "tokenizer"), tokens=_tokens,
    )
)  # fmt: skip
