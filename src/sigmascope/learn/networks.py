r"""Networks F(x, c) of a denoiser: a residual perceptron for vectors and a U-Net for images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.core import InputError

_FREQUENCIES = 8
WAVES = 2 * _FREQUENCIES + 1
_EMBEDDING = 96  # width of the embedding that modulates a perceptron
_LOWEST, _HIGHEST = math.log(0.002), math.log(200.0)  # range of ln(sigma / scale of the data) in the embedding

Values = Float[Tensor, "batch *event"]
"""Values, one per row."""
LevelPerRow = Float[Tensor, " batch"]
"""Noise levels, one per row."""


@dataclass(frozen=True)
class Architecture:
    """Kind and size of a network.

    Args:
        kind: ``unet``, a convolutional network for images, or ``mlp``, a residual perceptron for vectors.
        width: channels at the full resolution of a ``unet``, or units of each layer of an ``mlp``.
        depth: resolutions of a ``unet``, at most, or residual blocks of an ``mlp``.
    """

    kind: str
    width: int
    depth: int


def is_image(event: tuple[int, ...]) -> bool:
    """Whether values are images of 4 × 4 pixels or more, for which ``auto`` chooses a convolutional network."""
    return len(event) == 3 and min(event[1:]) >= 4


def check_batch(y: Tensor, sigma: Tensor, event: tuple[int, ...]) -> None:
    """Refuse noisy values of another shape than ``event``, or noise levels that are not one per row."""
    if y.shape[1:] != event:
        raise InputError(f"y has rows of shape {tuple(y.shape[1:])}: expected {event}")
    if sigma.shape != (len(y),):
        raise InputError(f"sigma has shape {tuple(sigma.shape)}, y has batch {len(y)}: pass one level per row")


def small_weights(layers: Iterable[nn.Module]) -> None:
    """Give linear layers small weights and no bias, so that a residual network starts close to one layer."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
            nn.init.normal_(layer.weight, std=0.02)


def modulated(layer: nn.Module, h: Float[Tensor, "batch width"], e: Tensor) -> Float[Tensor, "batch width"]:
    """Normalised h with a scale and a shift that a layer computes from an embedding e."""
    scale, shift = torch.chunk(layer(e), 2, 1)
    return nn.functional.layer_norm(h, h.shape[1:]) * (1 + scale) + shift


class VectorNet(nn.Module):
    r"""A residual perceptron with a linear path, with gains, from its first to its last layer.

    .. math:: h_0 = W x + U c, \quad h_{i+1} = h_i + B_i\,\mathrm{silu}(C_i\,m_i(h_i)), \quad
              F = O\,(m(h_n) + g(e) \odot h_0)

    m normalises and modulates by e, an embedding of the noise level and the condition.  With enough units the linear
    path holds the denoiser of a Gaussian exactly: the gains are Wiener's.
    """

    def __init__(self, event: tuple[int, ...], condition: int, width: int, depth: int) -> None:
        super().__init__()
        size = math.prod(event)
        self.enter = nn.Linear(size, width)
        self.condition = nn.Linear(condition, width, bias=False)
        self.noise = nn.Sequential(nn.Linear(WAVES, condition), nn.SiLU())
        self.mix = nn.Linear(2 * condition, _EMBEDDING)
        self.modulate = nn.ModuleList(nn.Linear(_EMBEDDING, 2 * width) for _ in range(depth + 1))
        self.gain = nn.Linear(_EMBEDDING, width)
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.leave = nn.Linear(width, size)
        small_weights([*self.modulate, *self.down])
        self.features: dict[str, Tensor] | None = None

    def forward(self, x: Values, log_sigma: LevelPerRow, condition: Tensor) -> Values:
        """F, of the shape of x."""
        e = nn.functional.silu(self.mix(torch.cat([self.noise(waves(log_sigma)), condition], 1)))
        first = h = self.enter(x.flatten(1)) + self.condition(condition)
        for k, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            h = h + down(nn.functional.silu(up(modulated(self.modulate[k], h, e))))
            if self.features is not None:
                self.features[f"block{k}"] = h
        out: Tensor = self.leave(modulated(self.modulate[-1], h, e) + self.gain(e) * first)
        return out.reshape(x.shape)


def waves(log_sigma: LevelPerRow) -> Float[Tensor, "batch waves"]:
    """The noise level as a number and as sines and cosines of it, the slowest of which does half a turn."""
    at = (log_sigma - _LOWEST) / (_HIGHEST - _LOWEST)
    turns = math.pi * at[:, None] * torch.arange(1, _FREQUENCIES + 1, device=at.device)
    return torch.cat([2 * at[:, None] - 1, turns.sin(), turns.cos()], 1)


class ImageNet(nn.Module):
    """The U-Net of diffusers, with the noise level as its time and the embedding of the condition as its class.

    Each of ``depth`` levels has twice the channels and half the size, as long as the size can be halved.
    """

    def __init__(self, event: tuple[int, ...], width: int, depth: int) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError as error:
            raise InputError("a U-Net needs diffusers: pip install 'sigmascope[models]', or --network mlp") from error
        if len(event) != 3:
            raise InputError(
                f"values of shape {event} are no images: a U-Net needs (channels, height, width); --network mlp"
            )
        channels, *sides = event
        levels = min(depth, 1 + min((s & -s).bit_length() - 1 for s in sides))
        widths = tuple(width * 2**k for k in range(levels))
        self.condition = 4 * width
        net: Any = UNet2DModel(  # type: ignore[no-untyped-call]
            sample_size=tuple(sides),
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            layers_per_block=1,
            norm_num_groups=math.gcd(width, 8),
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            class_embed_type="identity",
            attention_head_dim=width,
        )
        self.features: dict[str, Tensor] | None = None
        self.net = net
        blocks = [*net.down_blocks, net.mid_block, *net.up_blocks]
        names = [f"down{k}" for k in range(levels)] + ["middle"] + [f"up{k}" for k in range(levels)]
        for name, block in zip(names, blocks, strict=True):
            block.register_forward_hook(lambda _, __, out, name=name: self._record(name, out))

    def _record(self, name: str, out: Any) -> None:
        if self.features is not None:
            self.features[name] = out[0] if isinstance(out, tuple) else out

    def forward(self, x: Values, log_sigma: LevelPerRow, condition: Tensor) -> Values:
        """F, of the shape of x."""
        time = 1000.0 * (log_sigma - _LOWEST) / (_HIGHEST - _LOWEST)
        x = x.contiguous(memory_format=torch.channels_last)
        out: Tensor = self.net(x, time, class_labels=condition).sample
        return out
