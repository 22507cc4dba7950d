"""Random items of a data set with noise, each from a random stream of its own."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Draws, InputError, LabelledData
from sigmascope.core import generator as generator
from sigmascope.streams import Use


def check_draws(draws: int, seed: int) -> None:
    """Refuse fewer than two draws, which have no standard error, and a negative seed."""
    if draws < 2:
        raise InputError(f"draws is {draws}: at least 2 are needed for a standard error; pass e.g. --draws 256")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must not be negative")


def draw_items(data: LabelledData, draws: int, seed: int, *, distinct: bool = False) -> Draws:
    """Draw items by weight, with replacement, and standard normal noise.

    Draw i depends on ``seed`` and ``i`` alone: it is the same for more draws, other levels or another device.

    Args:
        data: the items.
        draws: number of draws.
        seed: not negative.
        distinct: skip items that were drawn before, as in a sample of a population; more draws do not change the
            earlier ones.

    Returns: the items with noise and labels.

    Raises: InputError for fewer than two draws (one has no standard error), a negative seed, or more distinct draws
        than half of the items.
    """
    check_draws(draws, seed)
    possible = torch.nonzero(data.weights)[:, 0]
    if distinct and bool((data.weights[possible] != data.weights[possible[0]]).any()):
        raise InputError("the items have unequal weights: the held-out law is a sample without weights; leave them out")
    if distinct and 2 * draws > len(possible):
        raise InputError(
            f"{draws} draws of {len(possible)} items cannot be held out: use at most half of the items, e.g. --draws "
            f"{max(len(possible) // 4, 1)}, or more data"
        )
    cumulative = torch.cumsum(data.weights, 0)
    drawn: list[int] = []
    before: set[int] = set()
    noise = []
    for stream in itertools.count():
        if len(drawn) == draws:
            break
        g = generator(seed, stream)
        u = torch.rand((), generator=g, dtype=torch.float64) * cumulative[-1]
        item = min(int(torch.searchsorted(cumulative, u, right=True)), int(possible[-1]))
        if not (distinct and item in before):
            before.add(item)
            drawn.append(item)
            noise.append(torch.randn(data.event, generator=g))
    items = torch.tensor(drawn)
    labels = {name: label[items] for name, label in data.labels.items()}
    return Draws(items, data.source.take(items), torch.stack(noise), labels)


def noisy_numbers(
    data: LabelledData, items: Int64[Tensor, " draws"], seed: int
) -> dict[str, Float[Tensor, "draws columns"]]:
    r"""The noisy value :math:`a_r = a + r N` of every real-valued attribute, for the items of draws.

    The noise of draw i depends on ``seed`` and ``i`` alone, and is the same for all attributes, up to their resolution.

    Args:
        data: with the real-valued attributes.
        items: the item of each draw.
        seed: not negative.

    Returns: by name, float64, in the unit of the attribute; on a circle, not wrapped.
    """
    most = max((len(a.columns) for a in data.reals), default=0)
    if not most:
        return {}
    streams = [generator(seed, Use.RESOLUTION, i) for i in range(len(items))]
    noise = torch.stack([torch.randn(most, generator=g, dtype=torch.float64) for g in streams])
    return {a.name: data.numbers[a.name][items] + a.resolution * noise[:, : len(a.columns)] for a in data.reals}
