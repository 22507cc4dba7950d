"""Draws of an item and of noise, one independent stream each."""

from __future__ import annotations

import torch

from sigmascope.core import Draws, InputError, LabelledData
from sigmascope.core import generator as generator


def draw_items(data: LabelledData, draws: int, seed: int, *, distinct: bool = False) -> Draws:
    """Draw items by weight, with replacement, and standard normal noise.

    Draw i depends on ``seed`` and ``i`` alone: more draws, other levels or another device leave it as it is.

    Args:
        data: where to draw from.
        draws: how many.
        seed: not negative.
        distinct: skip items that were drawn before (a sample of a population holds each of its members once); more
            draws still leave the earlier ones as they are.

    Raises: InputError for fewer than two draws (one has no standard error), a negative seed, or more distinct draws
        than half of the items.
    """
    if draws < 2:
        raise InputError(f"draws is {draws}: at least 2 are needed for a standard error; pass e.g. --draws 256")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must not be negative")
    possible = torch.nonzero(data.weights)[:, 0]
    if distinct and bool((data.weights[possible] != data.weights[possible[0]]).any()):
        raise InputError("the items have unequal weights: the held-out law is a sample without weights; leave them out")
    if distinct and 2 * draws > len(possible):
        raise InputError(
            f"{draws} draws of {len(possible)} items cannot be held out: use at most half of the items, e.g. --draws "
            f"{max(len(possible) // 4, 1)}, or more data"
        )
    cumulative = torch.cumsum(data.weights, 0)
    found: list[int] = []
    seen: set[int] = set()
    noise = []
    stream = 0
    while len(found) < draws:
        g = generator(seed, stream)
        stream += 1
        u = torch.rand((), generator=g, dtype=torch.float64) * cumulative[-1]
        item = min(int(torch.searchsorted(cumulative, u, right=True)), int(possible[-1]))
        if distinct and item in seen:
            continue
        seen.add(item)
        found.append(item)
        noise.append(torch.randn(data.event, generator=g))
    items = torch.tensor(found)
    labels = {name: label[items] for name, label in data.labels.items()}
    return Draws(items, data.source.take(items), torch.stack(noise), labels)
