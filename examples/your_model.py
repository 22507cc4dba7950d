"""A class-conditional diffusion model of MNIST, in plain PyTorch: a network that predicts the noise of DDPM.

    python examples/your_model.py mnist-10k.npz your_model.safetensors

trains it, in about ten minutes on two cores.
"""

import argparse
import math

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

ALPHAS_BAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


class Block(nn.Module):
    def __init__(self, before, after, width):
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, before), nn.GroupNorm(8, after)])
        self.shift = nn.Linear(width, after)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x, emb):
        h = self.first(F.silu(self.norms[0](x))) + self.shift(emb)[:, :, None, None]
        return self.skip(x) + self.second(F.silu(self.norms[1](h)))


class UNet(nn.Module):
    """The noise in x_t, pixels from -1 to 1, from t = 0 to 999 and a class; class 10 stands for none."""

    def __init__(self, width=128, a=48, b=96):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(11, width)
        self.enter, self.leave = nn.Conv2d(4, a, 3, padding=1), nn.Conv2d(a, 4, 3, padding=1)
        self.down, self.middle = Block(a, a, width), nn.ModuleList([Block(a, b, width), Block(b, b, width)])
        self.up = Block(a + b, a, width)

    def forward(self, x, t, y):
        angles = t[:, None].float() * torch.exp(-math.log(1e4) * torch.arange(32, device=x.device) / 32)
        emb = F.silu(self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.label(y))
        h = skip = self.down(self.enter(F.pixel_unshuffle(x, 2)), emb)
        h = F.avg_pool2d(h, 2)
        for block in self.middle:
            h = block(h, emb)
        h = self.up(torch.cat([skip, F.interpolate(h, scale_factor=2.0)], 1), emb)
        return F.pixel_shuffle(self.leave(h), 2)


def train(images, labels, steps=2600, batch=128, rate=2e-3, seed=0):
    """The averaged network; a tenth of the labels are replaced by class 10."""
    torch.manual_seed(seed)
    net, mean = UNet(), UNet()
    mean.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps)
    for step in range(steps):
        rows, t = torch.randint(len(images), (batch,)), torch.randint(1000, (batch,))
        noise, a = torch.randn(batch, 1, 28, 28), ALPHAS_BAR[t].float()[:, None, None, None]
        label = torch.where(torch.rand(batch) < 0.1, 10, labels[rows])
        loss = F.mse_loss(net(a.sqrt() * images[rows] + (1 - a).sqrt() * noise, t, label), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        for p, q in zip(mean.parameters(), net.parameters(), strict=True):
            p.data.lerp_(q.data, max(1 / (step + 1), 0.005))
    return mean


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="an .npz file with images and digit")
    parser.add_argument("weights", help="file to write")
    args = parser.parse_args()
    arrays = np.load(args.data)
    pixels = torch.from_numpy(arrays["images"]).float().reshape(-1, 1, 28, 28) / 127.5 - 1
    network = train(pixels, torch.from_numpy(arrays["digit"]).long())
    save_file({k: v.half() for k, v in network.state_dict().items()}, args.weights)


if __name__ == "__main__":
    main()
