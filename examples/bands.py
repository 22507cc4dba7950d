"""At which noise level is each frequency band of a digit resolved: by memory, by a network, by a Gaussian model?

    python examples/bands.py mnist-10k.npz mnist-ddpm.pth bands.png

The resolved share of a band is 1 - E|B - D_B(Y)|^2 / E|B - E[B]|^2, the share of its power that a denoiser knows from
the noisy digit.  Left: a Gaussian model of the digits.  Middle: a public DDPM (mnist_network.py).  Right: the exact
filter of the 10,000 digits, which holds every one of them.  The program prints the level of half for each band.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from mnist_network import read_model

import sigmascope
from sigmascope.adapters import Foreign, Unit
from sigmascope.data import draw_items
from sigmascope.exact import FiniteDenoiser, fit_field, parse_features
from sigmascope.information import resolved_shares
from sigmascope.noise import sigma_grid


def half(sigma: np.ndarray, share: np.ndarray) -> float:
    """Where a share first passes one half as noise falls; NaN where it does not."""
    k = int(np.argmax(share >= 0.5))
    if share[k] < 0.5 or k == 0:
        return float("nan")
    return float(np.exp(np.interp(0.5, share[k - 1 : k + 1], np.log(sigma[k - 1 : k + 1]))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("digits", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--draws", type=int, default=128)
    parser.add_argument("--levels", type=int, default=28)
    args = parser.parse_args()

    data = sigmascope.load(args.digits, ["digit"])
    bands, draws = parse_features(["bands:8"]), draw_items(data, args.draws, seed=0)
    sigma = sigma_grid(20.0, 0.02, args.levels)
    network, schedule = read_model(args.model)
    ddpm = Foreign(network, (1, 28, 28), schedule, "epsilon", clock=lambda t: t / 1000, unit=Unit(1.0, -0.5))
    field = fit_field(data)
    gaussian = np.array([[field.feature(b).at(float(s)).share for s in sigma] for b in bands])
    torch.set_grad_enabled(False)
    panels = {
        "Gaussian model": (sigma, gaussian, 0 * gaussian),
        "public DDPM": (sigma, *shares(resolved_shares(ddpm, draws, bands, sigma))),
        "exact filter of 10,000 digits": (sigma, *shares(resolved_shares(FiniteDenoiser(data), draws, bands, sigma))),
    }
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
    for ax, (name, (levels, share, stderr)) in zip(axes, panels.items(), strict=True):
        for k, band in enumerate(bands):
            colour = matplotlib.colormaps["viridis"](0.92 * k / (len(bands) - 1))
            ax.fill_between(levels, share[k] - 1.96 * stderr[k], share[k] + 1.96 * stderr[k], color=colour, alpha=0.2)
            ax.plot(levels, share[k], color=colour, label=band.name)
        ax.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
        ax.set_xscale("log")
        ax.set_xlim(sigma[0], sigma[-1])
        ax.set_xticks([10, 3, 1, 0.3, 0.1, 0.03], ["10", "3", "1", "0.3", "0.1", "0.03"])
        ax.minorticks_off()
        ax.set_ylim(-0.35, 1.04)
        ax.set_xlabel("noise level σ (generation →)")
        ax.set_title(name, fontsize=10, loc="left")
        print(name, " ".join(f"{b.name} {half(levels, s):.2f}" for b, s in zip(bands, share, strict=True)), sep=": ")
    axes[0].set_ylabel("resolved share of the power")
    axes[2].legend(loc="lower right", fontsize=8, frameon=False)
    figure.savefig(args.figure, dpi=110)


def shares(result: object) -> tuple[np.ndarray, np.ndarray]:
    """Shares and standard errors."""
    return result.share, result.stderr


if __name__ == "__main__":
    main()
