"""Several perceptrons of one shape, trained at the same time, each on its own rows."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Stack"]


class Stack(nn.Module):
    """Perceptrons with gated layers, h ↦ h + (U h) · silu(V h); the last layer starts at zero.

    The gate multiplies functions of the input, which rotations and changes of scale need.

    Args:
        members: how many.
        inputs: width of the input.
        outputs: width of the output.
        width: of the hidden layers.
        depth: number of hidden layers.
        generator: of the first weights.
    """

    def __init__(
        self, members: int, inputs: int, outputs: int, width: int, depth: int, generator: torch.Generator
    ) -> None:
        super().__init__()

        def weight(fan_in: int, fan_out: int, gain: float = 1.0) -> nn.Parameter:
            normal = torch.randn(members, fan_in, fan_out, generator=generator)
            return nn.Parameter(normal * gain / math.sqrt(max(fan_in, 1)))

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(members, *shape))

        self.enter, self.enter_bias = weight(inputs, width), zeros(1, width)
        self.up = nn.ParameterList([weight(width, 2 * width) for _ in range(depth)])
        self.up_bias = nn.ParameterList([zeros(1, 2 * width) for _ in range(depth)])
        self.down = nn.ParameterList([weight(width, width, 0.5) for _ in range(depth)])
        self.leave, self.leave_bias = zeros(width, outputs), zeros(1, outputs)

    def forward(self, x: Float[Tensor, "members rows inputs"]) -> Float[Tensor, "members rows outputs"]:
        h = torch.baddbmm(self.enter_bias, x, self.enter)
        for up, bias, down in zip(self.up, self.up_bias, self.down, strict=True):
            a, b = torch.baddbmm(bias, nn.functional.rms_norm(h, h.shape[-1:]), up).chunk(2, -1)
            h = h + torch.bmm(a * nn.functional.silu(b), down)
        return torch.baddbmm(self.leave_bias, nn.functional.rms_norm(h, h.shape[-1:]), self.leave)
