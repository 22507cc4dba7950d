r"""The network of sdaloglu/diffusion_with_entropy (6d0b2c7, MIT): an unconditional DDPM of handwritten digits.

Only its state dict is available, so the network was reconstructed from it and checked.  With h_0 = x and t from 0 to 1,

    e = MLP([sin(t f), cos(t f) - 1]),   h_k = GELU(LayerNorm(conv7x7(h_{k-1}))) (+ e once, after the first),
    epsilon = conv3x3(h_4),   x = sqrt(a_t) (v - 1/2) + sqrt(1 - a_t) n,   v from 0 to 1,

its mean squared error of n on real digits is .063 at timestep 50, .012 at 400, .0005 at 950.  Each other variant in
:data:`VARIANTS` is worse by more than a factor of two at some of six timesteps (``results.json`` has the numbers).  The
samples are a second check: the share of clear digits is the one that its authors report.  Variants that these checks
cannot separate make no difference: GELU or its tanh approximation, t from 0 or from 1.
"""

from __future__ import annotations

import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sigmascope.adapters import Unit
from sigmascope.core import InputError, generator
from sigmascope.noise import Discrete

TIMES = (50, 200, 400, 600, 800, 950)  # timesteps at which variants are compared
_LOSS = 73  # use of the seed


class Network(nn.Module):
    """The epsilon of the docstring above; its modules are named as the state dict names its tensors."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (1, 16, 32, 32, 16)
        blocks = [self._block(a, b) for a, b in pairwise(sizes)]
        self.blocks = nn.ModuleList([*blocks, nn.Conv2d(16, 1, 3, padding=1)])
        of_time = [nn.Linear(a, b) for a, b in ((32, 128), (128, 128), (128, 128), (128, 16))]
        self.time_embed = nn.ModuleDict({str(2 * k): layer for k, layer in enumerate(of_time)})
        self.register_buffer("frequencies", torch.zeros(16))
        # Not part of a state dict: VARIANTS tries others.
        self.activation, self.of_time = functional.gelu, functional.gelu
        self.less, self.sine_first, self.normed_first, self.time_first = 1.0, True, True, False

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.ModuleDict:
        net = nn.ModuleList([nn.Conv2d(inputs, outputs, 7, padding=3), nn.LayerNorm((outputs, 28, 28))])
        return Block({"net": net})

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Shape (batch, 1, 28, 28); t from 0 to 1."""
        angle = t[:, None] * self.frequencies
        waves = [angle.sin(), angle.cos() - self.less]
        e = torch.cat(waves if self.sine_first else waves[::-1], 1)
        for k, layer in self.time_embed.items():
            e = layer(e if k == "0" else self.of_time(e))
        for k in range(4):
            time = e[:, :, None, None] if k == 0 else 0.0
            x = self.blocks[k](x, self.activation, self.normed_first, time if self.time_first else 0.0)
            x = x if self.time_first else x + time
        return self.blocks[4](x)


class Block(nn.ModuleDict):
    """A convolution, a LayerNorm over the whole image, and the activation."""

    def forward(self, x: Tensor, activation: Any, normed_first: bool, added: Tensor | float) -> Tensor:
        convolution, norm = self["net"]
        return activation(norm(convolution(x)) + added) if normed_first else norm(activation(convolution(x)))


VARIANTS: dict[str, dict[str, Any]] = {
    "as in the docstring": {},
    "ReLU": {"activation": functional.relu},
    "SiLU": {"activation": functional.silu},
    "ReLU for the time": {"of_time": functional.relu},
    "SiLU for the time": {"of_time": functional.silu},
    "activation before the norm": {"normed_first": False},
    "time before the activation": {"time_first": True},
    "cosine without - 1": {"less": 0.0},
    "cosine before sine": {"sine_first": False},
    "time from 0 to 1000": {"time_unit": 1.0},
    "data from 0 to 1": {"unit": Unit(1.0, 0.0)},
    "data from -1 to 1": {"unit": Unit(2.0, -1.0)},
}


def read_model(path: Path) -> tuple[Network, Discrete]:
    """The network and its schedule, from the state dict alone: no code of the file is run."""
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        table = state.pop("alpha_t").double().numpy()
        state.pop("beta_t")
        network = Network()
        network.load_state_dict({k.removeprefix("gt."): v for k, v in state.items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, pickle.PickleError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: no state dict of this model ({message}): pass mnist-ddpm.pth") from error
    return network.eval().requires_grad_(False), Discrete(table, "mnist-ddpm")


def losses(path: Path, v: Tensor, seed: int) -> dict[str, list[float]]:
    """For each variant the mean squared error of epsilon on real digits at :data:`TIMES`."""
    table = {}
    for name, variant in VARIANTS.items():
        network, schedule = read_model(path)
        unit, time_unit = variant.get("unit", Unit(1.0, -0.5)), variant.get("time_unit", 1000.0)
        for key in variant.keys() - {"unit", "time_unit"}:
            setattr(network, key, variant[key])
        each = []
        for t in TIMES:
            n = torch.randn(v.shape, generator=generator(seed, _LOSS, t))
            a = schedule.alphas_cumprod[t]
            x = math.sqrt(a) * (unit.scale * v + unit.offset) + math.sqrt(1 - a) * n
            each.append(float(((network(x, torch.full((len(v),), t / time_unit)) - n) ** 2).mean()))
        table[name] = each
    return table
