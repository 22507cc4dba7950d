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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import sigmascope.adapters.diffusers.aura_flow as aura_flow
import sigmascope.adapters.diffusers.flux as flux
import sigmascope.adapters.diffusers.lumina as lumina
import sigmascope.adapters.diffusers.pixart as pixart
import sigmascope.adapters.diffusers.sana as sana
import sigmascope.adapters.diffusers.stable_diffusion as stable_diffusion
import sigmascope.adapters.diffusers.stable_diffusion_3 as stable_diffusion_3
from sigmascope.adapters.diffusers.coding import coding
from sigmascope.adapters.diffusers.folders import checked_index, folder_of, hub_id, in_one_line, part_of, quiet
from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, kind_of_prompts, kinds
from sigmascope.adapters.diffusers.opening import Pipeline, denoiser_of, opened
from sigmascope.adapters.diffusers.prompted import PROMPT as PROMPT
from sigmascope.adapters.foreign import require_finite_output
from sigmascope.core import InputError

FAMILIES = (aura_flow, flux, lumina, pixart, sana, stable_diffusion, stable_diffusion_3)
"""Modules that register the kinds of pipelines that take prompts."""
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
_SHOWN = 40  # characters of a prompt in a note


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
        kind, _ = _checked(index, name)
        left_out = [p for p in _UNUSED if p in index] + [p for p in kind.perhaps if part_of(index, p) is None]
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
        notes = tuple(dict.fromkeys(_cut_notes(pipe, kind, values)))
    with in_one_line(name, "its scheduler cannot be read"):
        scheduler = kind.scheduled(pipe, read.event)
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
            f"{name}: {cls} takes no prompts here: pass one of {known}, or wrap its network in adapters.Foreign"
        )
    for part in (*kind.text, "vae", kind.part, "scheduler"):
        if part_of(index, part) is None:
            raise InputError(f"{name}: it has no {part}: pass the folder of a whole {cls}")
    return kind, kind.read


def _cut_notes(pipe: Any, kind: Kind, values: Sequence[str]) -> Iterator[str]:
    """A note for each prompt whose end a tokenizer cuts off."""
    limits = kind.tokens(pipe)
    tokenizers = [p for p in (*kind.text, *kind.perhaps) if p.startswith("tokenizer") and getattr(pipe, p) is not None]
    for part in tokenizers:
        tokenizer, encoder = getattr(pipe, part), getattr(pipe, part.replace("tokenizer", "text_encoder"))
        limit = limits.get(part, int(tokenizer.model_max_length))
        long = "the long text encoder" if len(tokenizers) > 1 else "the text encoder"
        reader = "a CLIP text encoder" if type(encoder).__name__.startswith("CLIP") else long
        for value in values:
            tokens = tokenizer(value).input_ids
            if len(tokens) > limit:
                ends = tokens[-1] in tokenizer.all_special_ids  # with a token of its own, which is kept
                lost = tokenizer.decode(tokens[limit - 1 : -1] if ends else tokens[limit:]).strip()
                shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
                yield f"the prompt {shown!r} has {len(tokens)} tokens, {reader} reads {limit}: {lost!r} is cut off"
