"""What networks of text-to-image pipelines share: embeddings by row, sizes of images, shifts by size."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from sigmascope.adapters.diffusers.kinds import PipelineRequest
from sigmascope.adapters.diffusers.scheduler_setup import SchedulerSetup
from sigmascope.core import Attribute, InputError

PROMPT = "prompt"
"""Name of the attribute."""
_NUMBERS = 1 << 17  # values of one call of a network, whose activations are some thousand times as many
_STEPS = 50  # on which the shift of a size does not depend


class Prompted(nn.Module, ABC):
    """A network as a :data:`~sigmascope.adapters.foreign.Network`, with embeddings of its prompts, called on few rows.

    Args:
        event: shape of its values.
        text: embeddings of each prompt.
        pooled: embeddings of each prompt without the axis of tokens; None: it takes none.
        mask: which tokens of each prompt count; None: all.
    """

    text: Tensor
    pooled: Tensor | None
    mask: Tensor | None

    def __init__(
        self, event: tuple[int, ...], text: Tensor, pooled: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        self.rows = max(1, _NUMBERS // math.prod(event))
        for name, embedding in (("text", text), ("pooled", pooled), ("mask", mask)):
            self.register_buffer(name, embedding)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        parts = zip(*(torch.split(a, self.rows) for a in (x, time, label)), strict=True)
        return torch.cat([self.some(*part) for part in parts])

    @abstractmethod
    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """The output of the network for some rows."""


def prompt_attribute(prompts: tuple[str, ...]) -> tuple[Attribute, int | None]:
    """The prompts at equal priors, and the index of the empty one."""
    prior = torch.full((len(prompts),), 1 / len(prompts), dtype=torch.float64)
    return Attribute(PROMPT, prompts, prior), prompts.index("") if "" in prompts else None


def latent_shape(
    taken: int, packed: int, own: tuple[int, ...] | None, patch: int, pipe: Any, request: PipelineRequest
) -> tuple[int, ...]:
    """Channels, height and width of the latents of images of the requested size in pixels.

    Args:
        taken: channels that the network takes.
        packed: how many values of a channel of latents make one that the network takes.
        own: height and width of the latents of the pipeline's own images; None: it has no such size.
        patch: side of a patch; the sides of the latents are multiples of it.

    Raises: InputError for a network that takes other channels than the autoencoder gives, or a size that does not fit.
    """
    channels, size = int(pipe.vae.config.latent_channels), request.size
    if taken != packed * channels:
        wanted = f"its latents have {channels}" if packed == 1 else f"expected {packed} x {channels}"
        raise InputError(
            f"{request.name}: its network takes {taken} channels and {wanted}: "
            "it takes more than a prompt; pass a text-to-image pipeline"
        )
    if not size:
        if own is None:
            raise InputError(f"{request.name}: its configuration has no size of images: pass one, e.g. --size 512")
        return (channels, *own)
    side = pipe.vae_scale_factor
    if size < 0 or size % (side * patch):
        raise InputError(f"size is {size}: the side of the images must be a multiple of {side * patch} pixels")
    return (channels, size // side, size // side)


def square(side: Any) -> tuple[int, ...] | None:
    """Height and width by a configuration's ``sample_size``, a number or two; None where there is none."""
    return (side, side) if isinstance(side, int) else None if side is None else tuple(side)


def defaults(pipe: Any, *names: str) -> dict[str, Any]:
    """Defaults of some arguments of a pipeline's call; those that it does not have are left out."""
    parameters = inspect.signature(type(pipe).__call__).parameters
    return {name: parameters[name].default for name in names if name in parameters}


def without_dynamic_shift(pipe: Any, tokens: int) -> Any:
    r"""The scheduler of a flow with its shift for images of so many tokens, :math:`e^\mu`, as the pipeline sets it."""
    scheduler = pipe.scheduler
    mu = SchedulerSetup(type(pipe).__name__, tokens).mu(scheduler, _STEPS)
    if mu is None:
        return scheduler
    c = scheduler.config
    shift = math.exp(mu) if c.get("time_shift_type", "exponential") == "exponential" else mu
    return type(scheduler).from_config(c, use_dynamic_shifting=False, shift=shift)


def masked_text(pipe: Any, values: tuple[str, ...], **options: Any) -> tuple[Tensor, Tensor]:
    """Embeddings of prompts, and which tokens count; of the empty prompt, those of classifier-free guidance."""
    with torch.no_grad():
        text, mask, empty, mask_of_empty = pipe.encode_prompt(list(values), True, device=pipe.device, **options)
    for k, value in enumerate(values):
        if value == "":
            text[k], mask[k] = empty[k], mask_of_empty[k]
    return text, mask
