r"""Autoencoders of diffusers: from pixels to the values that a network works on, and back.

.. math:: z = (E(p) - b)\, c, \qquad p = G(z / c + b)

================================================= ======================== ==================================
autoencoder                                       E(p)                     c and b
================================================= ======================== ==================================
AutoencoderKL, asymmetric, of consistency         mean of its latent_dist  its scaling and shift factors, or
                                                                           mean and spread of each channel
AutoencoderTiny                                   its latents              its own scaling and shift factors
AutoencoderDC                                     its latent               its scaling factor
VQModel as ``vqvae`` (latent diffusion)           before quantisation;     its scaling factor
                                                  G quantises
VQModel as ``movq`` (Kandinsky)                   before quantisation;     1: its pipelines do not scale
                                                  G does not quantise
PaellaVQModel (Würstchen, Stable Cascade)         before quantisation, of  the inverse of its scale factor
                                                  pixels from 0 to 1
================================================= ======================== ==================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sigmascope.core import InputError

PARTS = ("vae", "vqvae", "movq", "vqgan")
"""What pipelines of diffusers call their autoencoders."""
IMAGES = (
    *("AutoencoderKL", "AsymmetricAutoencoderKL", "ConsistencyDecoderVAE", "AutoencoderTiny", "AutoencoderDC"),
    *("VQModel", "PaellaVQModel"),
)
"""Autoencoders of images that are known here."""

Coder = Callable[[Tensor], Tensor]


def is_autoencoder(part: str, kind: str) -> bool:
    """Whether a part of a pipeline is an autoencoder, by its place or by its class."""
    return part in PARTS or "Autoencoder" in kind or kind.endswith(("VQModel", "VAE"))


def coding(
    autoencoder: Any, device: torch.device | str, part: str = "vae", name: str = "the pipeline"
) -> tuple[Coder | None, Coder | None]:
    """From pixels between 0 and 1 to scaled latents, and back.

    Args:
        autoencoder: of diffusers; None: there is none.
        device: where it goes.
        part: what its pipeline calls it.
        name: of the pipeline, in complaints.

    Returns: both ways, of tensors of shape (rows, channels, height, width); None and None without an autoencoder.

    Raises: InputError for one that is not known, or does not say how its latents are scaled.
    """
    if autoencoder is None:
        return None, None
    kind, config = type(autoencoder).__name__, autoencoder.config
    if kind not in IMAGES:
        raise InputError(f"{name}: its autoencoder ({kind}) is not known here: expected one of {', '.join(IMAGES)}")
    autoencoder.to(device).eval().requires_grad_(False)
    dtype = next(autoencoder.parameters()).dtype
    paella, unquantised = kind == "PaellaVQModel", kind == "VQModel" and part == "movq"
    factor, shift = (1.0, 0.0) if unquantised else _scale(config, paella, f"{name}, its {part}", dtype, device)
    more = {"force_not_quantize": True} if unquantised else {}

    def encode(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            given = pixels.to(device, dtype)
            return (_latents(autoencoder.encode(given if paella else 2 * given - 1), name) - shift) * factor

    def decode(latents: Tensor) -> Tensor:
        with torch.no_grad():
            pixels = autoencoder.decode(latents.to(device, dtype) / factor + shift, **more).sample
            return (pixels if paella else (pixels + 1) / 2).clamp(0, 1)

    return encode, decode


def _scale(
    config: Mapping[str, Any], paella: bool, name: str, dtype: torch.dtype, device: torch.device | str
) -> tuple[Any, Any]:
    """What latents are multiplied by, once the second is taken from them."""
    key = "scale_factor" if paella else "scaling_factor"
    factor, shift = config.get(key), config.get("shift_factor") or 0.0
    good = all(isinstance(x, (int, float)) and math.isfinite(x) for x in (factor, shift))
    if not good or isinstance(factor, bool) or not factor > 0:  # type: ignore[operator]
        raise InputError(f"{name}: {key} is {factor!r} and shift_factor {shift!r}: expected finite numbers, above 0")
    if paella:
        return 1 / float(factor), 0.0  # type: ignore[arg-type]
    mean, spread = config.get("latents_mean"), config.get("latents_std")
    if mean is None or spread is None:
        return float(factor), float(shift)  # type: ignore[arg-type]
    each = (torch.tensor(x, dtype=dtype, device=device).reshape(-1, 1, 1) for x in (spread, mean))
    by_channel, middle = each
    return float(factor) / by_channel, middle  # type: ignore[arg-type]


def _latents(said: Any, name: str) -> Tensor:
    """What an encoder says, whatever it calls it."""
    if hasattr(said, "latent_dist"):
        return said.latent_dist.mean
    found = getattr(said, "latents", None)
    found = getattr(said, "latent", None) if found is None else found
    if found is None:
        raise InputError(f"{name}: its autoencoder gives a {type(said).__name__}: expected latents of images")
    return found
