r"""Text-to-image pipelines of diffusers as denoisers of VAE latents that are conditional on prompts.

.. math:: D_k(y, \sigma) = E[V \mid Y_\sigma = y, \text{prompt } k]

No guidance is applied: the network is called once for each row, with the embedding of that row's prompt.

The score gap between two prompts is a divergence.  In the time of the filter, :math:`\lambda = \sigma^{-2}`, noisy
latents of prompt A are a measurement :math:`dZ = D_A\, d\lambda + dB`, :math:`Z = \lambda Y`, and those of prompt B the
same with :math:`D_B`.  By Girsanov's theorem the laws of their paths up to :math:`\lambda` satisfy

.. math:: \ln\frac{dP_A}{dP_B} = \int (D_A - D_B)\cdot dZ - \tfrac12\int (\|D_A\|^2 - \|D_B\|^2)\, d\lambda', \qquad
          E_A\left[\ln\frac{dP_A}{dP_B}\right] = \tfrac12 \int_0^\lambda E_A\|D_A - D_B\|^2\, d\lambda' .

Given its end, a path is the same Brownian bridge under both laws, so that the ratio is that of the densities of the
end:

.. math:: \tfrac12 \int_0^\lambda E_A\|D_A - D_B\|^2\, d\lambda' = KL(p_{A,\sigma} \,\|\, p_{B,\sigma})

in nats.  If the *empty* prompt stands for the mixture of all prompts, as in classifier-free guidance, the divergence
from it is the prompt's term of :math:`I(\text{prompt}; Y_\sigma) = \sum_k p(k)\, KL(p_{k,\sigma} \| p_\sigma)`.  It has
no upper bound.  The information about which of two prompts is given, at equal priors, is another number, :math:`I \le
\ln 2`, whose unconditional denoiser is the mixture :math:`\sum_k q(k \mid y) D_k`
(:class:`~sigmascope.information.mixture.Mixture`).

These statements hold for exact denoisers; a learned network biases each number in either direction.

References: Duncan (1970); Guo, Shamai, Verdú (2005); Ho & Salimans (2022); Kong et al. (2024); Podell et al. (2024).
"""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from sigmascope.adapters.diffusers.coding import coding
from sigmascope.adapters.diffusers.folders import checked_index, folder_of, hub_id, in_one_line, part_of, quiet
from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, kind_of_prompts, kinds, register
from sigmascope.adapters.diffusers.opening import Pipeline, denoiser_of, opened
from sigmascope.adapters.diffusers.schedulers import TRAINED
from sigmascope.adapters.foreign import require_finite_output
from sigmascope.core import Attribute, InputError

PROMPT = "prompt"
"""Name of the attribute."""
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
_SHOWN = 40  # characters of a prompt in a note
_NUMBERS = 1 << 17  # values of one call of a network, whose activations are some thousand times as many


def load_prompted(
    path: str | Path,
    prompts: Sequence[str],
    *,
    size: int = 0,
    allow_pickle: bool = False,
    variant: str = "",
    device: torch.device | str = "cpu",
) -> Pipeline:
    """Open a text-to-image pipeline that ``save_pretrained`` has written, with some prompts.

    Its denoiser works on scaled latents of its autoencoder, shape (channels, height, width), and has the attribute
    ``prompt`` with the prompts as values, at equal priors.  The empty prompt is put before a single one.  The
    unconditional denoiser is that of the empty prompt, where it is among the prompts; where it is not, a prompt is
    needed (a :class:`~sigmascope.information.mixture.Mixture` needs none).

    Embeddings are computed once, by the pipeline's own text encoders, which are then released.  That of the empty
    prompt is the one of classifier-free guidance: zeros in an SDXL with ``force_zeros_for_empty_prompt``.  A network
    that was distilled from guided ones gets the guidance scale 1, no guidance.

    Args:
        path: its folder, perhaps with ``diffusers:`` before it; or ``hub:owner/name``, which diffusers then fetches.
        prompts: one or more, all different.
        size: side of its images in pixels; 0: its own.
        allow_pickle: read weights of a folder that only come as pickles, which can run any code.
        variant: of the weights, e.g. ``fp16``; empty: the default ones.
        device: of the network.

    Returns: the pipeline, with notes about words of a prompt that were cut off.  A scheduler that shifts its levels
        with the size of the image is set to this size.

    Raises: InputError, in one line, for no prompt or one that comes twice, a folder without a pipeline, a pipeline of
        another kind, missing parts, weights that are not safetensors, or a size that does not fit.
    """
    _values(prompts)
    model, left_out = str(path), list(_UNUSED)
    name = model if hub_id(model) else str(folder_of(model))
    if not hub_id(model):
        index = checked_index(Path(name))
        _checked(index, name)
        left_out = [part for part in _UNUSED if part in index]
    if importlib.util.find_spec("transformers") is None:
        raise InputError("prompts need diffusers and transformers: pip install 'sigmascope[models]'")
    with quiet():
        pipe = opened(model, allow_pickle, variant, **dict.fromkeys(left_out))
    return read_prompted(pipe, name, prompts, size=size, device=device)


def read_prompted(
    pipe: Any, name: str, prompts: Sequence[str], *, size: int = 0, device: torch.device | str = "cpu"
) -> Pipeline:
    """Read a text-to-image pipeline of diffusers that is loaded, with some prompts.

    Args:
        pipe: an object of diffusers.
        name: in messages.
        prompts: as of :func:`load_prompted`.
        size: likewise.
        device: of the network.

    Raises: InputError, in one line, as :func:`load_prompted`.
    """
    values, cls = _values(prompts), type(pipe).__name__
    with quiet():
        kind, reading = _checked({**pipe.config, "_class_name": cls}, name)
        with in_one_line(name, f"its parts do not fit each other, pass a whole {cls}"):
            read = reading(pipe, PipelineRequest(name, prompts=values, size=size))
        tokenizers = [part for part in kind.text if part.startswith("tokenizer")]
        notes = tuple(dict.fromkeys(n for part in tokenizers for n in _cut_notes(pipe, part, kind, values)))
    scheduler = kind.scheduled(pipe.scheduler, read.event)
    with in_one_line(name, "its scheduler cannot be read"):
        denoiser = denoiser_of(read, scheduler, name, device)
    encode, decode = coding(pipe.vae, device, "vae", name)
    with in_one_line(name, f"its network cannot be called, pass a whole {cls}"):
        require_finite_output(denoiser, name)
    return Pipeline(name, cls, denoiser, scheduler, encode, decode, notes)


def _values(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts, with the empty one before a single one."""
    if isinstance(prompts, str) or not all(isinstance(p, str) for p in prompts):
        raise InputError("prompts must be a sequence of texts: pass e.g. prompts=('a red cube', 'a blue cube')")
    values = ("", *prompts) if len(prompts) == 1 else tuple(prompts)
    if not values:
        raise InputError("no prompt was given: pass e.g. prompts=('a red cube', 'a blue cube')")
    twice = next((p for i, p in enumerate(values) if p in values[:i]), None)
    if twice is not None:
        raise InputError(f"the prompt {twice!r} is there twice (a single one comes after the empty one): leave it out")
    return values


def _checked(index: Mapping[str, Any], name: str) -> tuple[Kind, Callable[[Any, PipelineRequest], PipelineNetwork]]:
    """The kind of a pipeline and the function that reads it; InputError where it is unknown or incomplete."""
    cls = index.get("_class_name")
    kind = kind_of_prompts(cls)
    if kind is None or kind.read is None:
        known = ", ".join(p for k in reversed(kinds()) if k.text for p in k.pipelines)
        raise InputError(
            f"{name}: {cls} takes no prompts here: pass a {known}, or wrap its network in adapters.Foreign"
        )
    for part in (*kind.text, "vae", kind.part, "scheduler"):
        if part_of(index, part) is None:
            raise InputError(f"{name}: it has no {part}: pass the folder of a whole {cls}")
    return kind, kind.read


def _flux_tokens(pipe: Any) -> int:
    """Tokens of the long encoder of Flux; networks distilled to a few steps were trained on half as many."""
    return 512 if pipe.transformer.config.guidance_embeds else 256


def _cut_notes(pipe: Any, part: str, kind: Kind, values: Sequence[str]) -> Iterator[str]:
    """A note for each prompt whose end a tokenizer cuts off."""
    tokenizer, long = getattr(pipe, part), kind.tokens if part == "tokenizer_2" else None
    limit = long(pipe) if long else int(tokenizer.model_max_length)
    for value in values:
        tokens = tokenizer(value).input_ids
        if len(tokens) > limit:
            lost = tokenizer.decode(tokens[limit - 1 : -1]).strip()
            shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
            encoder = "the long text encoder" if long else "a CLIP text encoder"
            yield f"the prompt {shown!r} has {len(tokens)} tokens, {encoder} reads {limit}: {lost!r} is cut off"


class _Rowwise(nn.Module, ABC):
    """A network as a :data:`~sigmascope.adapters.foreign.Network` that is called on a few rows at a time."""

    def __init__(self, event: tuple[int, ...]) -> None:
        super().__init__()
        self.rows = max(1, _NUMBERS // math.prod(event))

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        parts = zip(*(torch.split(a, self.rows) for a in (x, time, label)), strict=True)
        return torch.cat([self.some(*part) for part in parts])

    @abstractmethod
    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """The output of the network for some rows."""


class _UNet(_Rowwise):
    """A UNet2DConditionModel with the embeddings of its prompts, and for some networks sizes and the guidance scale."""

    text: Tensor
    pooled: Tensor | None
    sizes: Tensor | None
    scale: Tensor | None

    def __init__(self, unet: Any, event: tuple[int, ...], text: Tensor) -> None:
        super().__init__(event)
        self.unet = unet
        for name, embedding in (("text", text), ("pooled", None), ("sizes", None), ("scale", None)):
            self.register_buffer(name, embedding)

    def some(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        options: dict[str, Any] = {}
        if self.pooled is not None and self.sizes is not None:
            sizes = self.sizes.expand(len(x), -1)
            options["added_cond_kwargs"] = {"text_embeds": self.pooled[label], "time_ids": sizes}
        if self.scale is not None:
            options["timestep_cond"] = self.scale.expand(len(x), -1)
        out: Tensor = self.unet(x, time, encoder_hidden_states=self.text[label], **options).sample
        return out


class _Flux(_Rowwise):
    """A FluxTransformer2DModel, whose latents are packed in patches of two by two."""

    text: Tensor
    pooled: Tensor
    image_ids: Tensor
    text_ids: Tensor

    def __init__(self, transformer: Any, event: tuple[int, ...], text: Tensor, pooled: Tensor) -> None:
        super().__init__(event)
        self.transformer = transformer
        self.patches = (event[1] // 2, event[2] // 2)
        positions = torch.cartesian_prod(*(torch.arange(n, dtype=text.dtype) for n in self.patches))
        self.register_buffer("text", text)
        self.register_buffer("pooled", pooled)
        self.register_buffer("image_ids", torch.nn.functional.pad(positions, (1, 0)))
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


def _attribute(prompts: tuple[str, ...]) -> tuple[Attribute, int | None]:
    """The prompts at equal priors, and the index of the empty one."""
    prior = torch.full((len(prompts),), 1 / len(prompts), dtype=torch.float64)
    return Attribute(PROMPT, prompts, prior), prompts.index("") if "" in prompts else None


def _stable(pipe: Any, request: PipelineRequest, xl: bool) -> PipelineNetwork:
    """Network and shape of the latents of Stable Diffusion, XL or not."""
    unet, channels, values = pipe.unet, int(pipe.vae.config.latent_channels), request.prompts
    if int(unet.config.in_channels) != channels:
        raise InputError(
            f"{request.name}: its network takes {unet.config.in_channels} channels and its latents have {channels}: "
            "it takes more than a prompt; pass a text-to-image pipeline"
        )
    side = unet.config.sample_size
    own = (side, side) if isinstance(side, int) else None if side is None else tuple(side)
    event = (channels, *_sides(own, pipe.vae_scale_factor, 1, request))
    with torch.no_grad():
        text, pooled = (
            _xl_text(pipe, values) if xl else (pipe.encode_prompt(list(values), pipe.device, 1, False)[0], None)
        )
        network = _UNet(unet, event, text.to(unet.dtype))
        if pooled is not None:
            pixels = [pipe.vae_scale_factor * n for n in event[1:]]
            network.pooled = pooled.to(unet.dtype)
            network.sizes = torch.tensor([[*pixels, 0, 0, *pixels]], dtype=unet.dtype)  # original, crop, target
        if unet.config.time_cond_proj_dim is not None:
            none = pipe.get_guidance_scale_embedding(torch.zeros(1), embedding_dim=unet.config.time_cond_proj_dim)
            network.scale = none.to(unet.dtype)
    return PipelineNetwork(network, event, *_attribute(values))


def _xl_text(pipe: Any, values: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Embeddings of prompts, and pooled ones, of SDXL."""
    text, empty, pooled, pooled_empty = pipe.encode_prompt(
        list(values), device=pipe.device, do_classifier_free_guidance=True
    )
    for k, value in enumerate(values):
        if value == "":
            text[k], pooled[k] = empty[k], pooled_empty[k]
    return text, pooled


def _flux(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    """Network and shape of the latents of Flux."""
    transformer, channels, values = pipe.transformer, int(pipe.vae.config.latent_channels), request.prompts
    if int(transformer.config.in_channels) != 4 * channels:
        raise InputError(
            f"{request.name}: its network takes {transformer.config.in_channels} channels, expected 4 x {channels}: "
            "it takes more than a prompt; pass a text-to-image pipeline"
        )
    own = (pipe.default_sample_size, pipe.default_sample_size)
    event = (channels, *_sides(own, pipe.vae_scale_factor, 2, request))
    with torch.no_grad():
        text, pooled, _ = pipe.encode_prompt(list(values), device=pipe.device, max_sequence_length=_flux_tokens(pipe))
    network = _Flux(transformer, event, text.to(transformer.dtype), pooled.to(transformer.dtype))
    return PipelineNetwork(network, event, *_attribute(values))


def _sides(own: tuple[int, ...] | None, scale: int, patch: int, request: PipelineRequest) -> tuple[int, ...]:
    """Height and width of the latents of images of the requested size in pixels."""
    size = request.size
    if not size:
        if own is None:
            raise InputError(f"{request.name}: its configuration has no size of images: pass one, e.g. --size 512")
        return own
    if size < 0 or size % (scale * patch):
        raise InputError(f"size is {size}: the side of the images must be a multiple of {scale * patch} pixels")
    return (size // scale, size // scale)


def _static(scheduler: Any, event: tuple[int, ...]) -> Any:
    r"""The scheduler of a flow with its shift for images of this size, :math:`e^\mu`.

    .. math:: \mu = \mu_0 + (\mu_1 - \mu_0) \frac{n - n_0}{n_1 - n_0}

    with n the number of patches, and the other numbers from the scheduler's configuration.
    """
    c = scheduler.config
    if not c.get("use_dynamic_shifting", False):
        return scheduler
    first, last = c.get("base_image_seq_len", 256), c.get("max_image_seq_len", 4096)
    low, high = c.get("base_shift", 0.5), c.get("max_shift", 1.15)
    mu = low + (high - low) * (event[1] * event[2] / 4 - first) / (last - first)
    shift = math.exp(mu) if c.get("time_shift_type", "exponential") == "exponential" else mu
    return type(scheduler).from_config(c, use_dynamic_shifting=False, shift=shift)


_TEXT = ("text_encoder", "tokenizer")
_BOTH = (*_TEXT, "text_encoder_2", "tokenizer_2")
_UNETS, _FLUX = ("UNet2DConditionModel",), ("FluxTransformer2DModel",)
_SD, _SDXL = partial(_stable, xl=False), partial(_stable, xl=True)
register(Kind("Stable Diffusion", "unet", _SD, _UNETS, ("StableDiffusionPipeline",), text=_TEXT))
register(Kind("Stable Diffusion XL", "unet", _SDXL, _UNETS, ("StableDiffusionXLPipeline",), text=_BOTH))
register(
    Kind("Flux", "transformer", _flux, _FLUX, ("FluxPipeline",), text=_BOTH, tokens=_flux_tokens, scheduled=_static)
)
