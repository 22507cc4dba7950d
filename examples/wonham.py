"""A Wonham filter follows a hidden chain: the path, the filter, and the information that the path carries, as a figure.

    python examples/wonham.py wonham.png

A hidden switch jumps between three positions.  Only a path Y is observed.  Its slope is that of the position, under a
Brownian motion.  Upper panel: the path.  Middle: the hidden position, and the probabilities that the filter gives.
Lower: the information, in nats, that the measurements carry about where the switch began and about its whole path: two
estimates of each, which must agree.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt

from sigmascope import filtering


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", type=Path)
    parser.add_argument("--paths", type=int, default=4000)
    args = parser.parse_args()

    rates = torch.tensor([[-0.4, 0.3, 0.1], [0.25, -0.5, 0.25], [0.1, 0.3, -0.4]])
    slopes = torch.tensor([[-3.0], [0.0], [4.0]])
    switch = filtering.FiniteSystem(torch.full((3,), 1 / 3), slopes, rates)
    times = filtering.uniform_times(8.0, 1600)
    path = filtering.simulate(switch, times, args.paths, torch.Generator().manual_seed(4))
    account = filtering.run(filtering.WonhamFilter(switch), path)

    began = filtering.prior_given(switch, torch.arange(3), path.state[0])
    knowing = {
        "where it began": filtering.run(filtering.WonhamFilter(switch, began), path),
        "its whole path": filtering.known_path(path),
    }
    shown = int(((path.state.diff(dim=0) != 0).sum(0) >= 5).nonzero()[0])  # the first path with five jumps
    fig, axes = plt.subplots(3, 1, figsize=(8, 7.5), sharex=True, layout="constrained")
    axes[0].plot(times, path.y[:, shown, 0], color="0.25", lw=0.8)
    axes[0].set_ylabel("measurement $Y_t$")
    shades = axes[1].imshow(
        account.mean[:, shown].T,
        aspect="auto",
        origin="lower",
        extent=(0, 8, -0.5, 2.5),
        cmap="Blues",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axes[1].step(times, path.state[:, shown], where="post", color="C3", lw=1.5, label="hidden position")
    axes[1].set_yticks([0, 1, 2], ["−3", "0", "4"])
    axes[1].set_ylabel("position (slope of $Y$)")
    axes[1].legend(loc="upper right", fontsize="small")
    fig.colorbar(shades, ax=axes[1], label="probability given $Y$")
    for row, (name, conditional) in enumerate(knowing.items()):
        gap = filtering.information_by_gap(path, account, conditional)
        ratio = filtering.information_by_ratio(path, account, conditional)
        axes[2].plot(times, gap.value, color=f"C{row}", label=f"{name}: ½∫E‖E[H|φ,Y] − E[H|Y]‖² ds")
        low, high = ratio.value - 1.96 * ratio.stderr, ratio.value + 1.96 * ratio.stderr
        axes[2].fill_between(
            times, low, high, color=f"C{row}", alpha=0.25, lw=0, label="  the same by E ln dP(Y|φ)/dP(Y), 95 %"
        )
        by_gap, by_ratio = (f"{i.value[-1]:.3f} ± {i.stderr[-1]:.3f}" for i in (gap, ratio))
        print(f"{name}: {by_gap} nats, by ratio {by_ratio}")
    axes[2].axhline(float(torch.log(torch.tensor(3.0))), color="0.5", ls=":", lw=1)
    axes[2].annotate("ln 3", (8, 1.0986), ha="right", va="bottom", fontsize="small", color="0.4")
    axes[2].set_ylabel("information, nats")
    axes[2].set_xlabel("time")
    axes[2].legend(fontsize="small", loc="upper left")
    right = (account.mean.argmax(2) == path.state).double().mean()
    print(f"the likeliest position is the true one {100 * right:.1f} % of the time")
    fig.savefig(args.figure, dpi=120)


if __name__ == "__main__":
    main()
