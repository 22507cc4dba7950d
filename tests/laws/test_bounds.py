"""Lower bounds for a population: below the truth, near it, never falling, and not flattered by their own choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from problems import two_points
from sigmascope.core import Attribute, InputError
from sigmascope.data import draw_items, from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.heldout import HeldOutPass
from sigmascope.information.bounds import heldout_bound
from sigmascope.noise import sigma_grid

SIGMA = sigma_grid(20.0, 0.02, 16)


def population(seed, items=3000, size=1, spread=1.0):
    """A = ±1, v = A + spread · normal in one coordinate, normal in the others."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, items)
    v = spread * rng.normal(size=(items, size))
    v[:, 0] += 2 * a - 1
    return from_array(v.astype(np.float32), {"a": a})


def bound_of(data, seed=0, draws=400):
    chosen = draw_items(data, draws, seed)
    work = HeldOutPass(FiniteDenoiser(data), chosen, SIGMA)
    while not work.done:
        work.step()
    own = data.labels["a"][chosen.items].numpy()
    return heldout_bound(data.attribute("a"), SIGMA, [j for j, _ in work.kernels], work.own_probability("a"), own), work


def test_below_the_truth_and_near_it():
    """Two Gaussians of spread s: the truth at sigma is that of two points at sqrt(sigma^2 + s^2)."""
    truth = np.array([two_points().information("sign", np.hypot(s, 1.0)) for s in SIGMA])
    values = []
    for seed in range(12):
        curve, _ = bound_of(population(seed), seed)
        assert curve.kind == "lower bound"
        assert np.all(curve.value < truth + 4 * curve.stderr + 1e-3)
        values.append(curve.value)
    mean, error = np.mean(values, 0), np.std(values, 0) / 12**0.5
    assert np.all(mean < truth + 3 * error)
    assert np.all(mean[6:] > 0.85 * truth[6:])


def test_does_not_fall_where_the_raw_bound_does():
    curve, work = bound_of(population(0, items=1500, size=40), draws=300)
    own = [i for i, (j, width) in enumerate(work.kernels) if width == SIGMA[j]]
    raw = np.log(work.own_probability("a")[own] / 0.5 + 1e-300)
    assert raw.mean(1)[-1] < -1.0  # the filter of the empirical law is sure of the wrong item
    best = np.maximum.accumulate(curve.value)
    assert np.all(curve.value >= best - 2 * curve.stderr)
    assert curve.value[-1] > 0.05


def test_choice_is_not_flattered():
    """Labels that say nothing: on other draws the choice gains nothing; on the same draws it would."""
    values, flattered = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        own = rng.integers(0, 2, 200)
        prior = Attribute("a", ("x", "y"), torch.tensor([0.5, 0.5]))
        q = np.clip(0.5 + 0.1 * rng.normal(size=(60, 200)), 0.01, 0.99)
        curve = heldout_bound(prior, SIGMA, [j % 16 for j in range(60)], q, own)
        values.append(curve.value[-1])
        flattered.append(np.log(q / 0.5).mean(1).max())
    assert np.mean(values) < 2 * np.std(values) / 40**0.5 + 1e-4
    assert np.mean(flattered) > 5 * np.std(flattered) / 40**0.5


def test_each_half_is_judged_by_the_choice_of_the_other():
    even = np.arange(200) % 2 == 0
    better_on_even, better_on_odd = np.where(even, 0.9, 0.7), np.where(even, 0.7, 0.9)
    prior = Attribute("a", ("x", "y"), torch.tensor([0.5, 0.5]))
    q = np.stack([better_on_even, better_on_odd])
    curve = heldout_bound(prior, SIGMA, [0, 0], q, np.zeros(200, dtype=int))
    assert curve.value == pytest.approx(np.log(0.7 / 0.5), abs=2e-4)


def test_classifier_is_the_dense_one_without_the_drawn_items(monkeypatch):
    monkeypatch.setattr("sigmascope.exact.finite.heldout.tile_rows", lambda *a: 37)  # several tiles, one of them short
    data = population(3, items=200, size=6)
    draws = draw_items(data, 20, 1)
    _, work = bound_of(data, 1, 20)
    x, y0 = data.source.read(0, 200).double().numpy(), draws.v.double().numpy()
    kept = np.setdiff1d(np.arange(200), draws.items.numpy())
    label = data.labels["a"].numpy()
    found = work.own_probability("a")
    assert np.all(found >= 0)
    for i, (j, width) in enumerate(work.kernels):
        y = y0 + SIGMA[j] * draws.noise.double().numpy()
        logit = -((y[:, None] - x[kept]) ** 2).sum(2) / (2 * width**2)
        p = np.exp(logit - logit.max(1, keepdims=True))
        own = np.array([p[k, label[kept] == label[item]].sum() / p[k].sum() for k, item in enumerate(draws.items)])
        assert np.allclose(found[i], own, atol=3e-3 if width < 0.1 else 1e-4)


def test_widths_are_never_narrower_than_the_noise():
    _, work = bound_of(population(0, items=100), draws=10)
    assert all(width >= SIGMA[j] for j, width in work.kernels)
    assert {j for j, _ in work.kernels} == set(range(16))


def test_a_value_without_items_is_said():
    data = from_array(np.random.default_rng(0).normal(size=(6, 2)), {"a": [0, 0, 0, 0, 0, 1]})
    with pytest.raises(InputError, match="leaves none with a = "):
        HeldOutPass(FiniteDenoiser(data), draw_items(data, 60, 0), SIGMA)


def test_copies_of_held_out_items_are_left_out():
    """Every item twice, labels independent of it: a filter that kept the copies would know half of the answers."""
    rng = np.random.default_rng(0)
    v = np.repeat(rng.normal(size=(400, 3)).astype(np.float32), 2, axis=0)
    data = from_array(v, {"a": np.repeat(rng.integers(0, 2, 400), 2)})
    curve, _ = bound_of(data, draws=150)
    assert curve.value[-1] < 4 * curve.stderr[-1] + 0.02


def test_held_out_draws_are_distinct_and_unweighted():
    data = population(0, items=300)
    items = draw_items(data, 120, 3, distinct=True).items
    assert len(torch.unique(items)) == 120
    assert torch.equal(draw_items(data, 50, 3, distinct=True).items, items[:50])
    with pytest.raises(InputError, match="at most half"):
        draw_items(data, 151, 3, distinct=True)
    weighted = from_array(np.eye(40), {"a": np.arange(40) % 2}, weights=np.arange(1.0, 41.0))
    with pytest.raises(InputError, match="unequal weights"):
        draw_items(weighted, 4, 0, distinct=True)


def test_items_without_weight_do_not_spoil_the_bound():
    base = population(0, items=1200)
    x, a = base.source.read(0, 1200).numpy(), base.labels["a"].numpy()
    weights = (np.arange(1200) >= 1050).astype(float)
    data = from_array(x, {"a": a}, weights=weights)
    curve, work = bound_of(data, draws=60)
    assert np.isfinite(work.own_probability("a")).all()
    assert curve.value[-1] > 0.05
