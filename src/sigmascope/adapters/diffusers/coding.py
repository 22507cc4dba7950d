r"""Autoencoders of diffusers: from pixels to the latents that a network works on, and back.

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
"""Names of autoencoders in pipelines of diffusers."""
IMAGES = (
    *("AutoencoderKL", "AsymmetricAutoencoderKL", "ConsistencyDecoderVAE", "AutoencoderTiny", "AutoencoderDC"),
    *("VQModel", "PaellaVQModel"),
)
"""Autoencoders of images that can be read."""

Coder = Callable[[Tensor], Tensor]


def is_autoencoder(part: str, kind: str) -> bool:
    """Whether a part of a pipeline is an autoencoder, by its name or by its class."""
    return part in PARTS or "Autoencoder" in kind or kind.endswith(("VQModel", "VAE"))


def coding(
    autoencoder: Any, device: torch.device | str, part: str = "vae", name: str = "the pipeline"
) -> tuple[Coder | None, Coder | None]:
    """From pixels between 0 and 1, shape (rows, channels, height, width), to scaled latents, and back.

    Both are None without an autoencoder.  One of an unknown class or without a scale of latents raises InputError.
    """
    if autoencoder is None:
        return None, None
    kind, config = type(autoencoder).__name__, autoencoder.config
    if kind not in IMAGES:
        raise InputError(f"{name}: its autoencoder has the class {kind}: expected one of {', '.join(IMAGES)}")
    autoencoder.to(device).eval().requires_grad_(False)
    dtype = next(autoencoder.parameters()).dtype
    paella, unquantised = kind == "PaellaVQModel", kind == "VQModel" and part == "movq"
    factor, shift = (1.0, 0.0) if unquantised else _scale(config, paella, f"{name}, its {part}", dtype, device)
    options = {"force_not_quantize": True} if unquantised else {}

    def encode(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            pixels = pixels.to(device, dtype)
            latents = _latents(autoencoder.encode(pixels if paella else 2 * pixels - 1), name)
            scaled: Tensor = (latents - shift) * factor
            return scaled

    def decode(latents: Tensor) -> Tensor:
        with torch.no_grad():
            pixels: Tensor = autoencoder.decode(latents.to(device, dtype) / factor + shift, **options).sample
            return (pixels if paella else (pixels + 1) / 2).clamp(0, 1)

    return encode, decode


def _scale(
    config: Mapping[str, Any], paella: bool, name: str, dtype: torch.dtype, device: torch.device | str
) -> tuple[Any, Any]:
    """The factor and the shift of latents."""
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
    spread, mean = (torch.tensor(x, dtype=dtype, device=device).reshape(-1, 1, 1) for x in (spread, mean))
    return float(factor) / spread, mean  # type: ignore[arg-type]


def _latents(output: Any, name: str) -> Any:
    """The latents in the output of an encoder, under one of the names that autoencoders use."""
    if hasattr(output, "latent_dist"):
        return output.latent_dist.mean
    for field in ("latents", "latent"):
        if getattr(output, field, None) is not None:
            return getattr(output, field)
    raise InputError(f"{name}: its autoencoder gives a {type(output).__name__}: expected latents of images")
