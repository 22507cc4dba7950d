"""PixArt-alpha and PixArt-sigma, whose network takes the tokens of one text encoder and a mask of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, register
from sigmascope.adapters.diffusers.prompted import Prompted, defaults, latent_shape, prompt_attribute, square

_ALPHA = "PixArtAlphaPipeline"
_GIVEN_SIZES = 128  # side of the latents of networks of PixArt-alpha that take the resolution and the aspect ratio


class _PixArt(Prompted):
    """A PixArtTransformer2DModel without the channels of its variance."""

    mask: Tensor
    sizes: Tensor | None

    def __init__(self, transformer: Any, event: tuple[int, ...], text: Tensor, mask: Tensor) -> None:
        super().__init__(event, text, mask=mask)
        self.transformer = transformer
        self.register_buffer("sizes", None)

    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        given: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.sizes is not None:
            sizes = self.sizes.expand(len(x), -1)
            given = {"resolution": sizes[:, :2], "aspect_ratio": sizes[:, 2:]}
        out: Tensor = self.transformer(
            x,
            encoder_hidden_states=self.text[label],
            encoder_attention_mask=self.mask[label],
            timestep=time,
            added_cond_kwargs=given,
        ).sample
        return out[:, : x.shape[1]]


def _read(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    transformer, values = pipe.transformer, request.prompts
    c = transformer.config
    event = latent_shape(int(c.in_channels), 1, square(c.sample_size), int(c.patch_size), pipe, request)
    with torch.no_grad():
        options = defaults(pipe, "clean_caption", "max_sequence_length")
        text, mask, *_ = pipe.encode_prompt(list(values), False, device=pipe.device, **options)
    network = _PixArt(transformer, event, text.to(transformer.dtype), mask)
    if type(pipe).__name__ == _ALPHA and c.sample_size == _GIVEN_SIZES:
        height, width = (pipe.vae_scale_factor * n for n in event[1:])
        network.sizes = torch.tensor([[height, width, height / width]], dtype=transformer.dtype)
    return PipelineNetwork(network, event, *prompt_attribute(values))


def _tokens(pipe: Any) -> Mapping[str, int]:
    return {"tokenizer": defaults(pipe, "max_sequence_length")["max_sequence_length"]}


for _name, _pipeline in (("PixArt-alpha", _ALPHA), ("PixArt-sigma", "PixArtSigmaPipeline")):
    register(
        Kind(
            _name, "transformer", _read, ("PixArtTransformer2DModel", "Transformer2DModel"), (_pipeline,),
            text=("text_encoder", "tokenizer"), tokens=_tokens,
        )
    )  # fmt: skip
