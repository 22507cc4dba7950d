"""AuraFlow, whose text encoder's padding is set to zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, register
from sigmascope.adapters.diffusers.prompted import Prompted, defaults, latent_shape, prompt_attribute, square
from sigmascope.adapters.diffusers.schedulers import TRAINED


class _AuraFlow(Prompted):
    """An AuraFlowTransformer2DModel, which takes the share of noise as its time."""

    def __init__(self, transformer: Any, event: tuple[int, ...], text: Tensor) -> None:
        super().__init__(event, text)
        self.transformer = transformer

    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        out: Tensor = self.transformer(x, encoder_hidden_states=self.text[label], timestep=time / TRAINED).sample
        return out


def _read(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    transformer, values = pipe.transformer, request.prompts
    c = transformer.config
    event = latent_shape(int(c.in_channels), 1, square(c.sample_size), int(c.patch_size), pipe, request)
    with torch.no_grad():
        options = defaults(pipe, "max_sequence_length")
        text = pipe.encode_prompt(list(values), None, False, device=pipe.device, **options)[0]
    return PipelineNetwork(_AuraFlow(transformer, event, text.to(transformer.dtype)), event, *prompt_attribute(values))


def _tokens(pipe: Any) -> Mapping[str, int]:
    return {"tokenizer": defaults(pipe, "max_sequence_length")["max_sequence_length"]}


register(
    Kind(
        "AuraFlow", "transformer", _read, ("AuraFlowTransformer2DModel",), ("AuraFlowPipeline",),
        text=("text_encoder", "tokenizer"), tokens=_tokens,
    )
)  # fmt: skip
