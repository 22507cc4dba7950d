"""The exact filter against closed forms, quadrature and a dense float64 softmax."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import dense_posterior_entropy, four_points, random_set, two_points
from sigmascope.core import InputError
from sigmascope.data import draw_items
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.information.posterior import entropy_of, posterior
from sigmascope.noise import sigma_grid

# TRUTHS: I at (m/sigma)^2, and of four points at sigma, by independent quadrature.
TWO = {0.25: 0.11142, 0.5: 0.20135, 1.0: 0.33683, 2.0: 0.50007, 4.0: 0.63272, 9.0: 0.68930}
FOUR = {0.5: 1.3560, 1.0: 1.1779, 2.0: 0.9085, 4.0: 0.6018, 8.0: 0.2622, 16.0: 0.0805}


def quadrature(line, name, sigma):
    """I(A; Y_sigma) of the package's posterior, integrated over y."""
    denoiser = FiniteDenoiser(line.data())
    y, mass = line.grid(sigma)
    level = torch.full((len(y),), sigma, dtype=torch.float64)
    h = entropy_of(denoiser.log_posterior(torch.from_numpy(y)[:, None], level, name)).numpy()
    return denoiser.data.attribute(name).entropy - float((mass * h).sum())


def full_pass(data, draws, sigma, dtype=None):
    work = PosteriorPass(FiniteDenoiser(data), draws, sigma, dtype)
    while not work.done:
        work.step()
    return work.log_posterior()


@pytest.mark.parametrize(("snr", "truth"), TWO.items())
def test_two_points_by_quadrature(snr, truth):
    assert quadrature(two_points(2.5), "sign", 2.5 / np.sqrt(snr)) == pytest.approx(truth, abs=1e-5)


@pytest.mark.parametrize(("sigma", "truth"), FOUR.items())
def test_four_points_by_quadrature(sigma, truth):
    assert quadrature(four_points(), "point", sigma) == pytest.approx(truth, abs=6e-5)


@pytest.mark.parametrize("name", ["point", "coarse", "alternate"])
def test_draws_agree_with_quadrature(name):
    line = four_points()
    sigma = np.array([16.0, 8.0, 4.0, 2.0, 1.0, 0.5])
    data = line.data()
    draws = draw_items(data, 4000, 3)
    curve = posterior(data.attribute(name), sigma, full_pass(data, draws, sigma)[name][:-1])
    truth = np.array([line.information(name, s) for s in sigma])
    # Nearer to the ceiling a few draws in ten thousand carry what is missing, and no standard error sees them.
    common = truth < 0.99 * curve.ceiling
    assert common.sum() >= 4
    assert np.all(np.abs(curve.value - truth)[common] < 4 * curve.stderr[common])
    assert curve.stderr[2] < 0.02  # the tolerance above is a tight one


def test_rate_is_the_score_gap():
    """-dI/d ln sigma = E|D_A - D|^2 / sigma^2, with the conditional denoisers of the package."""
    line = four_points()
    denoiser = FiniteDenoiser(line.data())
    for sigma in (1.0, 3.0, 6.0):
        y, _ = line.grid(sigma)
        step = y[1] - y[0]
        column = torch.from_numpy(y)[:, None]
        level = torch.full((len(y),), sigma, dtype=torch.float64)
        d = denoiser(column, level)[:, 0].numpy()
        gap = 0.0
        for a in (0, 1):
            conditional = denoiser(column, level, {"coarse": torch.full((len(y),), a)})[:, 0].numpy()
            joint = line.kernel(y, sigma)[:, line.labels["coarse"] == a].sum(1)
            gap += float((joint * (conditional - d) ** 2).sum() * step)
        h = 1e-3
        rise = line.information("coarse", sigma * np.exp(-h)) - line.information("coarse", sigma * np.exp(h))
        assert gap / sigma**2 == pytest.approx(rise / (2 * h), rel=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-6), (torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("event", [(3, 4, 4), (3, 32, 32)])
def test_same_curve_as_dense_softmax(dtype, tolerance, event):
    data = random_set(1, event=event)
    draws, sigma = draw_items(data, 48, 5), sigma_grid(90, 0.01, 40)
    truth = dense_posterior_entropy(data, draws.v.numpy(), draws.noise.numpy(), sigma)
    ours = full_pass(data, draws, sigma, dtype)
    for name, h in truth.items():
        mine = entropy_of(ours[name][:-1]).numpy()
        assert np.abs(mine.mean(1) - h.mean(1)).max() < tolerance
        assert np.abs(mine - h).max() < 30 * tolerance
    # Near-duplicates are what the last levels tell apart: without them the test would prove little.
    assert truth["many"][-1].max() > 0.1
    assert np.abs(truth["many"][-1] - truth["many"][-8]).max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_levels_far_below_the_rounding_of_products(dtype):
    """At sigma 1e-4 float32 distances are noise; the item itself and its duplicates must survive it."""
    data = random_set(1, event=(3, 32, 32))
    draws, sigma = draw_items(data, 32, 5), sigma_grid(1e-3, 1e-5, 8)
    truth = dense_posterior_entropy(data, draws.v.numpy(), draws.noise.numpy(), sigma)
    ours = full_pass(data, draws, sigma, dtype)
    for name, h in truth.items():
        assert np.abs(entropy_of(ours[name][:-1]).numpy() - h).max() < 1e-6
    assert truth["many"].max() > 0.1


def test_reduced_precision_set_by_the_caller_is_not_used():
    data = random_set(1, event=(3, 32, 32))
    draws, sigma = draw_items(data, 16, 5), sigma_grid(90, 0.01, 40)
    wanted = full_pass(data, draws, sigma, torch.float32)
    torch.set_float32_matmul_precision("medium")
    try:
        found = full_pass(data, draws, sigma, torch.float32)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_other_points_than_items_agree_with_dense_softmax():
    data = random_set(2)
    generator = torch.Generator().manual_seed(0)
    v = torch.rand(12, *data.event, generator=generator)
    noise = torch.randn(12, *data.event, generator=generator)
    sigma = sigma_grid(30, 0.02, 12)
    truth = dense_posterior_entropy(data, v.numpy(), noise.numpy(), sigma)
    levels = FiniteDenoiser(data).posterior_levels(v, noise, torch.from_numpy(sigma))
    for name, h in truth.items():
        assert np.abs(entropy_of(levels[name]).numpy() - h).max() < 1e-9
        assert torch.isfinite(levels[name]).all()  # no class is lost to underflow


def test_limit_counts_equal_images():
    """At sigma -> 0 the posterior is that of the items equal to the one drawn, by weight."""
    data = random_set(3)
    draws = draw_items(data, 40, 0)
    ours = full_pass(data, draws, sigma_grid(90, 0.01, 6), torch.float32)
    x = data.source.read(0, len(data)).flatten(1)
    for i, item in enumerate(draws.items):
        same = (x == x[item]).all(1)
        for a in data.attributes:
            p = torch.bincount(data.labels[a.name][same], data.weights[same], minlength=len(a.values))
            assert torch.allclose(ours[a.name][-1, i].exp(), p / p.sum(), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), sigma=st.floats(0.02, 30.0))
def test_laws_of_a_posterior_mean(seed, sigma):
    data = random_set(seed, items=60, event=(1, 3, 3))
    denoiser = FiniteDenoiser(data)
    generator = torch.Generator().manual_seed(seed)
    y = data.source.take(torch.tensor([0, 20, 40])).double()
    y = y + sigma * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    level = torch.full((3,), sigma, dtype=torch.float64)
    d = denoiser(y, level)
    # batch = singletons
    alone = torch.cat([denoiser(y[i : i + 1], level[:1]) for i in range(3)])
    assert torch.allclose(d, alone, atol=1e-11)
    # tower property: D = sum_a pi(a) D_a, and pi is a distribution
    pi = denoiser.log_posterior(y, level, "many").exp()
    assert torch.allclose(pi.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-12)
    values = range(pi.shape[1])
    conditional = [denoiser(y, level, {"many": torch.full((3,), a)}) for a in values]
    mixture = sum(pi[:, a].reshape(3, 1, 1, 1) * conditional[a] for a in values)
    assert torch.allclose(d, mixture, atol=1e-9)
    # a row with no condition is the unconditional one
    mixed = denoiser(y, level, {n: torch.tensor([-1, int(data.labels[n][20]), -1]) for n in ("many", "even")})
    assert torch.allclose(mixed[0], d[0], atol=1e-11)
    # Tweedie: D = y + sigma^2 grad ln p(y)
    x = data.source.read(0, len(data)).double()
    z = y.clone().requires_grad_()
    logits = data.weights.log() - ((z[:, None] - x) ** 2).flatten(2).sum(2) / (2 * sigma**2)
    (score,) = torch.autograd.grad(logits.logsumexp(1).sum(), z)
    assert torch.allclose(d, y + sigma**2 * score, atol=1e-9 * max(1.0, sigma**2))


def test_information_is_bounded_and_obeys_data_processing():
    line = four_points()
    data = line.data()
    sigma = sigma_grid(60, 0.1, 25)
    ours = full_pass(data, draw_items(data, 2000, 0), sigma)
    point = posterior(data.attribute("point"), sigma, ours["point"][:-1])
    coarse = posterior(data.attribute("coarse"), sigma, ours["coarse"][:-1])
    assert np.all(point.value <= point.ceiling + 1e-12)
    assert np.all(point.per_draw - coarse.per_draw >= coarse.per_draw.min() - point.ceiling)
    difference = point.per_draw - coarse.per_draw
    assert np.all(difference.mean(1) > -4 * difference.std(1) / np.sqrt(2000))
    assert np.all(np.diff(point.value) > -4 * point.stderr[1:])
    assert point.value[-1] == pytest.approx(np.log(4), abs=1e-6)


@pytest.mark.parametrize(
    ("y", "sigma", "known", "words"),
    [
        ((3, 2), 3, {}, "y has shape"),
        ((3, 1), 4, {}, "sigma has shape \\(4,\\), y has batch 3: pass one level per row"),
        ((3, 1), 3, {"colour": torch.zeros(3, dtype=torch.int64)}, "no attribute is called 'colour'"),
        ((3, 1), 3, {"coarse": torch.full((3,), 5)}, "must lie between -1"),
        ((3, 1), 3, {"coarse": torch.full((3,), 0), "point": torch.full((3,), 3)}, "no item has the attributes"),
    ],
)
def test_what_cannot_be_asked(y, sigma, known, words):
    denoiser = FiniteDenoiser(four_points().data())
    forward = inspect.unwrap(FiniteDenoiser.forward)  # without the checks of shapes that only the tests install
    with pytest.raises(InputError, match=words):
        forward(denoiser, torch.zeros(y), torch.ones(sigma), known)
