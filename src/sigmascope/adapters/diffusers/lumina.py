"""Lumina-Image 2.0, whose network counts the share of the data and gives the direction from the noise to the data.

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
    without_dynamic_shift,
)
from sigmascope.adapters.diffusers.schedulers import TRAINED, settings_of


class _Lumina(Prompted):
    """A Lumina2Transformer2DModel as a network of the flow from the data to the noise."""

    mask: Tensor

    def __init__(self, transformer: Any, event: tuple[int, ...], text: Tensor, mask: Tensor, trained: float) -> None:
        super().__init__(event, text, mask=mask)
        self.transformer, self.trained = transformer, trained

    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        out: Tensor = self.transformer(
            hidden_states=x,
            timestep=1 - time / self.trained,
            encoder_hidden_states=self.text[label],
            encoder_attention_mask=self.mask[label],
        ).sample
        return -out


def _read(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    transformer, values = pipe.transformer, request.prompts
    c = transformer.config
    event = latent_shape(int(c.in_channels), 1, square(c.sample_size), int(c.patch_size), pipe, request)
    text, mask = masked_text(pipe, values, **defaults(pipe, "max_sequence_length", "system_prompt"))
    trained = float(settings_of(pipe.scheduler).get("num_train_timesteps", TRAINED))
    network = _Lumina(transformer, event, text.to(transformer.dtype), mask, trained)
    return PipelineNetwork(network, event, *prompt_attribute(values))


def _tokens(pipe: Any) -> Mapping[str, int]:
    """Tokens of the text encoder that the instruction leaves to a prompt."""
    instruction = defaults(pipe, "system_prompt").get("system_prompt") or pipe.system_prompt
    taken = len(pipe.tokenizer(f"{instruction} <Prompt Start> ").input_ids) - len(pipe.tokenizer("").input_ids)
    return {"tokenizer": defaults(pipe, "max_sequence_length")["max_sequence_length"] - taken}


register(
    Kind(
        "Lumina 2", "transformer", _read, ("Lumina2Transformer2DModel",), ("Lumina2Pipeline",),
        text=("text_encoder", "tokenizer"), tokens=_tokens,
        scheduled=lambda pipe, event: without_dynamic_shift(pipe, event[1] * event[2] // 4),
    )
)  # fmt: skip
