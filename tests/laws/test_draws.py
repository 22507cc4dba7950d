"""A draw is the same whatever is drawn beside it; draws follow the weights."""

from __future__ import annotations

import numpy as np
import torch

from problems import four_points, random_set
from sigmascope.data import draw_items, from_array


def test_a_draw_depends_on_seed_and_index_alone():
    data = random_set(0)
    few, many = draw_items(data, 5, 11), draw_items(data, 60, 11)
    assert torch.equal(few.items, many.items[:5])
    assert torch.equal(few.noise, many.noise[:5])
    assert torch.equal(few.v, data.source.take(few.items))
    other = draw_items(data, 5, 12)
    assert not torch.equal(few.noise, other.noise)
    assert len({float(n.flatten()[0]) for n in many.noise}) == 60


def test_items_are_drawn_by_weight():
    weights = np.array([0.1, 0.0, 0.6, 0.3])
    data = from_array(four_points().points[:, None], {"point": np.arange(4)}, weights=weights)
    counts = np.bincount(draw_items(data, 6000, 0).items.numpy(), minlength=4) / 6000
    assert counts[1] == 0
    assert np.all(np.abs(counts - weights) <= 4 * np.sqrt(weights * (1 - weights) / 6000))


def test_noise_is_standard_normal():
    noise = draw_items(random_set(0), 400, 0).noise.double()
    n = noise.numel()
    assert abs(float(noise.mean())) < 4 / n**0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / n) ** 0.5
    flat = noise.flatten(1)
    lag = float((flat[1:] * flat[:-1]).mean())  # neighbouring streams are not correlated
    assert abs(lag) < 4 / n**0.5
