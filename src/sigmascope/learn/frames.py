r"""Coordinates of the input of a network, and the estimate from its output.

.. math:: D = m + w \circ (y - m) + c_{out} \circ F(c_{in} \circ (y - m)), \quad w = \frac{s^2}{s^2 + \sigma^2},\;
          c_{out} = \frac{s\sigma}{\sqrt{s^2 + \sigma^2}}

with m the mean of the data.  For a convolution s is one number, the scale of the data, and :math:`c_{in} = (s^2 +
\sigma^2)^{-1/2}`.  For a perceptron the coordinates are the principal directions of the data, each with its own s, and
:math:`c_{in} = s / (s^2 + \sigma^2)`: its input is the best linear estimate, whitened, where directions that are all
noise are zero.  F = 0 is then the best linear denoiser: a network needs no units to remove noise where the data do not
vary.

References: Karras, Aittala, Aila, Laine (2022) for one s.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sigmascope.core import generator
from sigmascope.learn.networks import LevelPerRow, Values
from sigmascope.learn.sources import Source, mean_and_scale
from sigmascope.streams import Use

_SAMPLED, _SAMPLED_NUMBERS = 8192, 1 << 25  # values in the sample, and coordinates in all of them, at most
_EXACTLY = 1024  # coordinates of a value up to which the whole covariance is decomposed


def directions(source: Source, seed: int, limit: int) -> tuple[Tensor, Tensor]:
    """At most ``limit`` principal directions of a sample of the values, and the standard deviations along them."""
    size = math.prod(source.event)
    rows = max(min(_SAMPLED, _SAMPLED_NUMBERS // size), 2)
    v, _ = source.draw(rows, generator(seed, Use.DIRECTIONS))
    x = v.flatten(1)
    x = x - x.mean(0)
    if size <= _EXACTLY:
        values, vectors = torch.linalg.eigh(x.T.double() @ x.double() / rows)
        values, vectors = values.flip(0), vectors.flip(1)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, singular, vectors = torch.svd_lowrank(x, min(limit, rows), niter=4)
        values = singular.double() ** 2 / rows
    kept = min(limit, len(values))
    basis = vectors.T[:kept].float().reshape(kept, *source.event).contiguous()
    return basis, values[:kept].clamp_min(0).sqrt().float()


class Frame(nn.Module, ABC):
    r"""The coordinates in which a network takes y, and the denoiser that is made of its output F.

    .. math:: D = m + w \circ (y - m) + c_{out} \circ F(c_{in} \circ (y - m)), \qquad w = \frac{s^2}{s^2 + \sigma^2},
              \quad c_{out} = \frac{s\sigma}{\sqrt{s^2 + \sigma^2}}

    so that the target of F has unit scale at every level; F = 0 gives the best linear denoiser in these coordinates.
    :class:`NeuralDenoiser` takes a frame; a training makes it from its data, with one scale s for a convolution, and
    with the principal directions of the data, each with its own s, for a perceptron.

    Args:
        mean: m, the mean of the data, shape (*event).
        scale: s, the root of the mean squared distance from the mean, per coordinate.
    """

    mean: Tensor

    def __init__(self, mean: Tensor, scale: float) -> None:
        super().__init__()
        self.scale = float(scale)
        self.register_buffer("mean", mean.float())

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the input of the network, and of its output."""

    @abstractmethod
    def forward(self, y: Values, level: LevelPerRow, network: Callable[[Tensor], Tensor]) -> Values:
        """D from F, the network, in the dtype of y."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """The description that :func:`empty_frame` takes."""


class RoundFrame(Frame):
    """One scale for all coordinates."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mean.shape)

    def forward(self, y: Values, level: LevelPerRow, network: Callable[[Tensor], Tensor]) -> Values:
        level = level.reshape(-1, *[1] * self.mean.ndim).to(self.mean)
        total = (self.scale**2 + level**2).sqrt()
        f = network((y.to(self.mean) - self.mean) / total).float()
        # In the dtype of y: at small sigma the noise is a small part of y, and float32 would round it.
        centre, share = self.mean.to(y), ((self.scale / total) ** 2).to(y)
        return centre + share * (y - centre) + (self.scale * level / total * f).to(y)

    def description(self) -> dict[str, Any]:
        return {"scale": self.scale}


class PrincipalFrame(Frame):
    """The principal directions of the data, each with its own scale; all other directions share one scale.

    ``basis`` holds orthonormal directions, shape (directions, *event), and ``spread`` the standard deviations along
    them.
    """

    basis: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, scale: float, basis: Tensor, spread: Tensor) -> None:
        super().__init__(mean, scale)
        self.register_buffer("basis", basis.float().flatten(1).contiguous())
        self.register_buffer("spread", spread.float())

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.spread),)

    def forward(self, y: Values, level: LevelPerRow, network: Callable[[Tensor], Tensor]) -> Values:
        level = level.to(self.mean)[:, None]
        with torch.autocast(y.device.type, enabled=False):
            along = (y.to(self.mean) - self.mean).flatten(1) @ self.basis.T
        total = (self.spread**2 + level**2).sqrt()
        f = network(along * self.spread / total**2).float()
        lost, beyond = (level / total) ** 2, self._lost_beyond(level)
        with torch.autocast(y.device.type, enabled=False):
            change = ((beyond - lost) * along + self.spread * level / total * f) @ self.basis
        # In the dtype of y: at small sigma the noise is a small part of y, and float32 would round it.
        share = beyond.reshape(-1, *[1] * self.mean.ndim).to(y)
        return y - share * (y - self.mean.to(y)) + change.reshape(y.shape).to(y)

    def _lost_beyond(self, level: Tensor) -> Tensor:
        """One minus Wiener's gain in the other directions."""
        others = self.mean.numel() - len(self.spread)
        remaining = self.mean.numel() * self.scale**2 - (self.spread.double() ** 2).sum()
        variance = (remaining.clamp_min(0.0) / max(others, 1)).to(level) * (others > 0)
        return level**2 / (variance + level**2)

    def description(self) -> dict[str, Any]:
        return {"scale": self.scale, "directions": len(self.spread)}


def empty_frame(event: tuple[int, ...], description: Mapping[str, Any]) -> Frame:
    """A frame from its description, with tensors of zeros that weights are loaded into."""
    mean, scale = torch.zeros(event), description["scale"]
    if "directions" not in description:
        return RoundFrame(mean, scale)
    kept = int(description["directions"])
    return PrincipalFrame(mean, scale, torch.zeros(kept, *event), torch.zeros(kept))


def frame_of(source: Source, seed: int, limit: int) -> Frame:
    """The frame for a source, with at most ``limit`` principal directions, or with one scale where that is 0."""
    mean, scale = mean_and_scale(source, seed)
    return PrincipalFrame(mean, scale, *directions(source, seed, limit)) if limit else RoundFrame(mean, scale)
