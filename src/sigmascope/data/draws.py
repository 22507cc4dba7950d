"""Draws of an item and of noise, one independent stream each."""

from __future__ import annotations

import numpy as np
import torch

from sigmascope.core import Draws, InputError, LabelledData


def generator(seed: int, *stream: int) -> torch.Generator:
    """The generator of one stream of a seed; streams are independent (numpy's SeedSequence spreads the words)."""
    state = np.random.SeedSequence(seed, spawn_key=stream).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def draw_items(data: LabelledData, draws: int, seed: int) -> Draws:
    """Draw items by weight, with replacement, and standard normal noise.

    Draw i depends on ``seed`` and ``i`` alone: more draws, other levels or another device leave it as it is.

    Args:
        data: where to draw from.
        draws: how many.
        seed: not negative.

    Raises: InputError for fewer than two draws (one has no standard error) or a negative seed.
    """
    if draws < 2:
        raise InputError(f"draws is {draws}: at least 2 are needed for a standard error; pass e.g. --draws 256")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must not be negative")
    cumulative = torch.cumsum(data.weights, 0)
    last = int(torch.nonzero(data.weights)[-1])
    uniform, noise = [], []
    for i in range(draws):
        g = generator(seed, i)
        uniform.append(torch.rand((), generator=g, dtype=torch.float64))
        noise.append(torch.randn(data.event, generator=g))
    u = torch.stack(uniform) * cumulative[-1]
    items = torch.searchsorted(cumulative, u, right=True).clamp_max(last)
    return Draws(items, data.source.take(items), torch.stack(noise))
