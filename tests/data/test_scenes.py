"""The scenes show what their labels say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigmascope.core import InputError
from sigmascope.data import load


@pytest.fixture(scope="module")
def scenes():
    return load("scenes", size=16)


def index(scale=4, shape=0, orientation=7, floor=0, wall=0, thing=0):
    return ((scale * 4 + shape) * 15 + orientation) * 1000 + floor * 100 + wall * 10 + thing


def test_factors(scenes):
    assert len(scenes) == 480_000
    assert [len(a.values) for a in scenes.attributes] == [10, 10, 10, 8, 4, 15]
    assert scenes.attribute("shape").values == ("cube", "cylinder", "sphere", "capsule")
    codes = torch.stack([scenes.labels[a.name] for a in scenes.attributes], 1)
    assert len(torch.unique(codes, dim=0)) == 480_000  # a complete grid
    i = index(scale=2, shape=3, orientation=11, floor=5, wall=6, thing=7)
    assert codes[i].tolist() == [5, 6, 7, 2, 3, 11]


def test_any_slice_and_any_item_are_the_same_images(scenes):
    block = scenes.source.read(1950, 3107)
    assert block.shape == (1157, 3, 16, 16)
    picks = torch.tensor([3106, 1950, 2000, 2999])
    assert torch.equal(scenes.source.take(picks), block[picks - 1950])
    assert torch.equal(scenes.source.read(2345, 2346)[0], block[2345 - 1950])


def test_pixels_stay_in_range_without_clipping(scenes):
    for start in range(0, 480_000, 37_000):
        x = scenes.source.read(start, start + 500)
        assert float(x.min()) >= 0.0
        assert float(x.max()) <= 1.0


def test_each_factor_changes_its_own_pixels(scenes):
    def image(**factors):
        return scenes.source.take(torch.tensor([index(**factors)]))[0]

    base = image()
    floor, wall, thing = ((image(**{f: 5}) - base).abs().sum(0) > 0.02 for f in ("floor", "wall", "thing"))
    assert floor[-1].all()  # the foreground is floor
    assert not floor[0].any()
    assert wall[2].any()
    assert thing[8, 8]
    assert not (floor & thing & wall).all()
    areas = [((image(scale=s, thing=5) - image(scale=s)).abs().sum(0) > 0.02).sum() for s in (0, 3, 7)]
    assert areas[0] < areas[1] < areas[2]
    shapes = [image(shape=s) for s in range(4)]
    turned = [image(orientation=o) for o in range(15)]
    for group in (shapes, turned):
        for a in range(len(group)):
            for b in range(a):
                assert float((group[a] - group[b]).norm()) > 0.1


def test_sphere_is_round_and_the_light_casts_a_shadow():
    big = load("scenes", size=64)

    def image(**factors):
        return big.source.take(torch.tensor([index(**factors)]))[0].numpy()

    silhouette = np.abs(image(shape=2, thing=5) - image(shape=2)).sum(0) > 0.02
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    assert abs(len(rows) - len(columns)) <= 3
    assert silhouette.sum() == pytest.approx(np.pi / 4 * len(rows) * len(columns), rel=0.06)
    floor_only = np.abs(image(shape=2, floor=5) - image(shape=2)).sum(0)
    lit = floor_only[-2:].mean()
    assert ((floor_only > 0.05) & (floor_only < 0.6 * lit)).sum() > 20


def test_other_sizes_are_refused():
    with pytest.raises(InputError, match="16, 32 or 64"):
        load("scenes", size=48)
