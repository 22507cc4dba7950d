"""Features by hooks: numbers that are known, blocks of diffusers, and probes that reach the true information."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import nn

from sigmascope.adapters import Featured, Foreign, Unit
from sigmascope.adapters.diffusers.class_networks import _DiT, _UNet
from sigmascope.core import Attribute, Draws, InputError, generator
from sigmascope.information.probes import HasFeatures, probes
from sigmascope.noise import Discrete, Karras

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SPREAD = 0.4
SIDE = Attribute("side", ("left", "right"), torch.tensor([0.5, 0.5], dtype=torch.float64))


class Doubling(nn.Module):
    """Its block doubles the image it is given; a second one is called twice, and a third puts out two parts."""

    class Pair(nn.Module):
        def forward(self, x):
            return (3 * x, (x, x))

    def __init__(self):
        super().__init__()
        self.times2 = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.times2.weight, 2.0)
        self.twice, self.pair, self.broken = nn.Identity(), self.Pair(), False

    def forward(self, x, time, label):
        if self.broken:
            raise RuntimeError("out of order")
        self.twice(x), self.twice(x), self.pair(x)
        return self.times2(x)


def doubled(blocks=("times2",), cells=1, network=None):
    model = Foreign(network or Doubling(), (1, 4, 4), Discrete.linear(), "epsilon", unit=Unit(2.0, -1.0))
    return Featured(model, blocks, cells=cells), model


@torch.no_grad()
def test_numbers_of_a_block():
    """The block sees α(2y − 1), and doubles it; 600 rows come in several calls of the network."""
    y = torch.rand(600, 1, 4, 4, generator=generator(1), dtype=torch.float64)
    sigma = torch.linspace(0.1, 5.0, 600, dtype=torch.float64)
    featured, model = doubled(("times2", "pair"))
    alpha = torch.from_numpy(model.schedule.alpha(model.schedule.time(2 * sigma.numpy())))[:, None]
    seen = alpha[:, :, None, None] * (2 * y - 1)
    found = featured.features(y, sigma)
    assert isinstance(featured, HasFeatures)
    assert list(found) == ["times2", "pair"]
    assert torch.allclose(found["times2"].double(), 2 * seen.mean((2, 3)), atol=1e-6)
    assert torch.allclose(found["pair"].double(), 3 * seen.mean((2, 3)), atol=1e-6)  # the first of its parts
    quarters = doubled(cells=2)[0].features(y, sigma)["times2"].double()
    wanted = 2 * seen.reshape(600, 2, 2, 2, 2).mean((2, 4)).flatten(1)
    assert torch.allclose(quarters, wanted, atol=1e-6)
    assert torch.equal(featured(y, sigma), model(y, sigma))


def test_no_hook_stays():
    featured, model = doubled()
    y, sigma = torch.zeros(2, 1, 4, 4), torch.ones(2)
    featured.features(y, sigma)
    model.network.broken = True
    with pytest.raises(RuntimeError, match="out of order"):
        featured.features(y, sigma)
    assert not model.network.times2._forward_hooks


@torch.no_grad()
def test_blocks_of_diffusers():
    """Down, middle and up blocks of a UNet, and tokens of a transformer: as diffusers' own parts put them out."""
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    ).eval()  # fmt: skip
    model = Foreign(_UNet(net), (1, 8, 8), Discrete.linear(), "epsilon")
    names = ("down_blocks.0", "mid_block", "up_blocks.1")
    y, sigma = torch.randn(3, 1, 8, 8, generator=generator(2)), torch.full((3,), 0.7)
    found = Featured(model, names, module=net).features(y, sigma)
    assert [tuple(x.shape) for x in found.values()] == [(3, 8), (3, 16), (3, 8)]
    inner = Featured(model, [f"unet.{n}" for n in names]).features(y, sigma)
    assert all(torch.equal(a, b) for a, b in zip(found.values(), inner.values(), strict=True))
    # From what the first block puts out, the network's own parts give what the others say.
    time = torch.full((3,), float(model.schedule.time(0.7)))
    x = y * float(model.schedule.alpha(float(time[0])))
    e = net.time_embedding(net.time_proj(time))
    h = net.conv_in(x)
    skips = [h]
    for block in net.down_blocks:
        h, more = block(hidden_states=h, temb=e)
        skips += more
        if block is net.down_blocks[0]:
            assert torch.allclose(found["down_blocks.0"], h.mean((2, 3)), atol=1e-5)
    assert torch.allclose(found["mid_block"], net.mid_block(h, e).mean((2, 3)), atol=1e-5)

    dit = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=2, sample_size=4,
        patch_size=2, num_embeds_ada_norm=3, norm_num_groups=2,
    ).eval()  # fmt: skip
    classes = Attribute("class", ("0", "1", "2"), torch.full((3,), 1 / 3, dtype=torch.float64))
    given = Foreign(_DiT(dit), (4, 4, 4), Discrete.linear(), "epsilon", attribute=classes, null=3)
    tokens = Featured(given, ["transformer.transformer_blocks.1"])
    x = torch.randn(5, 4, 4, 4, generator=generator(3))
    assert tokens.features(x, torch.ones(5))["transformer.transformer_blocks.1"].shape == (5, 8)


class Sum(nn.Module):
    """The exact denoiser of N(±1, SPREAD²) in three coordinates, by blocks: their sum, and one that sees nothing."""

    def __init__(self):
        super().__init__()
        self.sum, self.nothing = nn.Linear(3, 1, bias=False), nn.Linear(3, 1)
        nn.init.ones_(self.sum.weight)
        nn.init.zeros_(self.nothing.weight)

    def forward(self, y, sigma, label):
        s = sigma[:, None]
        self.nothing(y)
        gain = SPREAD**2 / (SPREAD**2 + s**2)
        m = torch.tanh(self.sum(y) / (SPREAD**2 + s**2))
        return m + gain * (y - m)


def information(sigma: float) -> float:
    """I(side; Y) by quadrature: the mean of the coordinates is sufficient, N(±1, (SPREAD² + σ²)/3)."""
    variance = (SPREAD**2 + sigma**2) / 3
    x = np.linspace(1 - 12 * variance**0.5, 1 + 12 * variance**0.5, 100_001)
    p = np.exp(-((x - 1) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return float(np.log(2) - np.trapezoid(p * np.logaddexp(0, -2 * x / variance), x))


def law(n: int, seed: int) -> Draws:
    g = generator(seed)
    side = torch.randint(2, (n,), generator=g)
    v = 2.0 * side[:, None] - 1 + SPREAD * torch.randn(n, 3, generator=g)
    return Draws(torch.arange(n), v.float(), torch.randn(n, 3, generator=g), {"side": side})


def test_a_probe_of_a_sufficient_block_finds_all_the_information():
    model = Foreign(Sum(), (3,), Karras(), "denoiser")
    sigma = np.array([4.0, 1.5, 0.7])
    featured = Featured(model, ["sum", "nothing"])
    train, test = law(2000, 1), law(4000, 2)
    found = {
        b: probes([SIDE], train, test, sigma, "features", denoiser=featured, block=b, shares=(1.0,))["side"].curve
        for b in ("sum", "nothing")
    }
    truth = np.array([information(s) for s in sigma])
    # A regression of 2 numbers on 2,000 draws costs some 1/2,000 nat.
    assert np.all(np.abs(found["sum"].value - truth) < 4 * found["sum"].stderr + 2e-3)
    assert np.all(truth > 10 * found["sum"].stderr)
    assert np.all(np.abs(found["nothing"].value) < 2e-3)


def test_bad_blocks_are_refused():
    _, model = doubled()
    with pytest.raises(InputError, match="no block is called 'time2': there are, among others, times2"):
        Featured(model, ["time2"])
    with pytest.raises(InputError, match="pass a list of names"):
        Featured(model, "times2")
    with pytest.raises(InputError, match="at least 1 part"):
        Featured(model, ["times2"], cells=0)
    plain = Foreign(lambda x, time, label: x, (1, 4, 4), Discrete.linear(), "epsilon")
    with pytest.raises(InputError, match="only a module has blocks"):
        Featured(plain, ["times2"])
    y, sigma = torch.zeros(2, 1, 4, 4), torch.ones(2)
    with pytest.raises(InputError, match="was given 4 rows for 2 values"):
        doubled(["twice"])[0].features(y, sigma)
