"""Networks that are conditional on real-valued attributes: what they are trained on, and studies of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sigmascope import from_array
from sigmascope.core import InputError, RealAttribute, generator
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.learn.reals import condition_of, continuous_of, noisy_of
from sigmascope.learn.settings import NULL, NULL_NUMBER, Settings
from sigmascope.learn.sources import Items
from sigmascope.learn.training import Trainer

RNG = np.random.default_rng(5)
N = 3000
V = RNG.normal(size=(N, 2)).astype(np.float32) * [1.0, 0.5] + [0.2, -0.3]
ANGLE = np.degrees(np.arctan2(V[:, 1], V[:, 0])) % 360
COLUMNS = {"x": V[:, 0].astype(float), "y": V[:, 1].astype(float), "angle": ANGLE, "sign": (V[:, 0] > 0).astype(int)}
TURN = "angle:resolution=20:period=360"
ENTRIES = ("sign", "x:resolution=0.3", TURN, "both=x+y:resolution=0.5")


@pytest.fixture(scope="module")
def data():
    return from_array(V.astype(np.float32), COLUMNS, attributes=ENTRIES)


def test_conditions_are_the_noisy_values_and_points_of_a_circle():
    line, circle = RealAttribute("a", 0.1, ("a", "b")), RealAttribute("t", 5.0, ("t",), 360.0)
    x = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
    assert torch.equal(condition_of(line, x), x)
    assert torch.equal(noisy_of(line, x), x)
    t = torch.tensor([[0.0], [90.0], [-30.0], [730.0]], dtype=torch.float64)
    assert torch.allclose(condition_of(circle, t)[:2], torch.eye(2, dtype=torch.float64), atol=1e-15)
    back = noisy_of(circle, condition_of(circle, t))
    assert torch.allclose((back - t + 180) % 360, torch.tensor(180.0, dtype=torch.float64))


def test_mean_and_scale_of_conditions(data):
    """Against a large sample of the labels themselves; without the noise of the resolution they are others."""
    source = Items(data, holdout=0.0, null=0)
    _, labels = source.draw(200_000, generator(1))
    for c in source.continuous:
        x = labels[c.name].double()
        assert np.allclose(c.mean, x.mean(0), atol=5 * float(x.std()) / len(x) ** 0.5)
        assert np.allclose(c.scale, x.std(0), rtol=0.01)
    turn = source.reals[1]
    clean = continuous_of(RealAttribute("angle", 1e-9, ("angle",), 360.0), data.numbers["angle"], data.weights)
    assert turn.period == 360
    assert not np.allclose(clean.scale, source.continuous[1].scale, rtol=0.01)


def test_labels_have_fresh_noise_of_the_resolution(data):
    source = Items(data, holdout=0.2, null=4, seed=3)
    v, labels = source.draw(40_000, generator(7))
    residual = labels["x"][:, 0] - v[:, 0].double()
    assert float(residual.std()) == pytest.approx(0.3, rel=0.02)
    assert abs(float(residual.mean())) < 5 * 0.3 / len(v) ** 0.5
    assert labels["both"].shape == (40_000, 2)
    assert labels["angle"].shape == (40_000, 2)
    assert len(torch.unique(labels["x"])) == len(v)
    # The control has the same law, and nothing to do with the item.
    null = labels[NULL_NUMBER][:, 0]
    assert float(null.std()) == pytest.approx(float(labels["x"].std()), rel=0.03)
    together = torch.corrcoef(torch.stack([null, v[:, 0].double()]))[0, 1]
    assert abs(float(together)) < 5 / N**0.5
    assert float(torch.corrcoef(torch.stack([labels["x"][:, 0], v[:, 0].double()]))[0, 1]) > 0.9
    again = source.draw(40_000, generator(7))[1]
    assert all(torch.equal(labels[k], again[k]) for k in labels)


def test_the_split_and_the_discrete_labels_are_those_of_data_without_real_attributes(data):
    alone = Items(from_array(V.astype(np.float32), {"sign": COLUMNS["sign"]}), seed=2)
    both = Items(data, seed=2)
    assert np.array_equal(alone.kept_out, both.kept_out)
    first, second = (s.draw(500, generator(9)) for s in (alone, both))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][k], second[1][k]) for k in ("sign", NULL))
    assert alone.reals == ()
    only = Items(from_array(V.astype(np.float32), COLUMNS, attributes=("x:resolution=0.3",)), seed=2)
    assert only.attributes == ()
    assert [a.name for a in only.reals] == ["x", NULL_NUMBER]
    with pytest.raises(InputError, match="'null number'"):
        Items(from_array(V.astype(np.float32), {"null number": COLUMNS["x"]}, attributes=("null number:resolution=1",)))


def test_a_network_keeps_its_continuous_conditions(data, tmp_path):
    settings = Settings(network="mlp", width=16, depth=1, steps=4, batch=32, warmup=1, sigma_max=20.0)
    trainer = Trainer(Items(data, seed=1), settings)
    while trainer.done < settings.steps:
        trainer.step()
    model = trainer.averaged
    assert [c.name for c in model.continuous] == ["x", "angle", "both", NULL_NUMBER]
    assert [c.dim for c in model.continuous] == [1, 2, 2, 1]
    model.save(tmp_path / "model.safetensors")
    loaded = NeuralDenoiser.load(tmp_path)
    assert loaded.continuous == model.continuous
    v, labels = Items(data, seed=1).draw(8, generator(0))
    known = {n: labels[n] for n in ("x", "angle", "sign")}
    sigma = torch.full((8,), 0.7)
    with torch.no_grad():
        assert torch.equal(loaded(v, sigma, known), model(v, sigma, known))
        assert not torch.allclose(loaded(v, sigma, known), model(v, sigma))
        unknown = {"x": torch.full((8, 1), math.nan)}
        assert torch.equal(loaded(v, sigma, unknown), model(v, sigma))
