"""The best linear denoiser, and what denoising losses say of a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sigmascope.analysis.trust import judge
from sigmascope.core import Curve, InputError
from sigmascope.information.linear import LinearDenoiser
from sigmascope.information.wrapping import RANDOM, UNCONDITIONAL, Losses

SIGMA = np.array([10.0, 1.0, 0.3, 0.1])


def gaussian(n, scales, seed):
    g = torch.Generator().manual_seed(seed)
    return 1.0 + torch.randn(n, len(scales), generator=g, dtype=torch.float64) * scales


def noise(v, seed):
    return torch.randn(v.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_many_items_it_is_the_conditional_mean_of_a_gaussian():
    scales = torch.logspace(0.5, -1.5, 12, dtype=torch.float64)
    linear = LinearDenoiser.fit(gaussian(6000, scales, 0).float())
    v = gaussian(4000, scales, 1)
    errors = linear.parts(v, noise(v, 2))
    for sigma in SIGMA:
        found = errors.linear(float(sigma))
        least = float((scales**2 * sigma**2 / (scales**2 + sigma**2)).sum())
        assert least - 4 * found.std() / 4000**0.5 < found.mean() < 1.02 * least + 4 * found.std() / 4000**0.5
    assert abs(errors.mean().mean() / float((scales**2).sum()) - 1) < 0.1


def test_errors_are_those_of_the_denoiser_itself():
    """Against the matrix of the denoiser, where directions are fewer than coordinates."""
    v = gaussian(5, torch.ones(30, dtype=torch.float64), 1)
    linear = LinearDenoiser.fit(gaussian(12, torch.ones(30, dtype=torch.float64), 0))
    u, n = linear.directions, noise(v, 2)
    assert u.shape == (30, 8)
    across = torch.eye(30, dtype=torch.float64) - u @ u.T
    gain = u @ torch.diag(linear.variance / (linear.variance + 0.49)) @ u.T
    gain = gain + linear.across / (linear.across + 0.49) * across
    by_hand = ((v - linear.mean - (v + 0.7 * n - linear.mean) @ gain) ** 2).sum(1)
    assert np.allclose(linear.parts(v, n).linear(0.7), by_hand.numpy())


def test_of_fewer_items_than_coordinates_it_is_not_deceived():
    """Isotropic, 40 items of 200 coordinates: near the best; variances of the same items as the directions are not."""
    scales = torch.ones(200, dtype=torch.float64)
    items = gaussian(40, scales, 0)
    linear = LinearDenoiser.fit(items)
    v = gaussian(200, scales, 1)
    n = noise(v, 2)
    least = 200 * 0.25 / 1.25
    assert linear.parts(v, n).linear(0.5).mean() < 1.05 * least * (1 + 1 / 40)
    x = items - items.mean(0)
    _, singular, right = torch.linalg.svd(x, full_matrices=False)
    naive = LinearDenoiser(items.mean(0), right[:39].T, singular[:39] ** 2 / 40, 0.0)
    assert naive.parts(v, n).linear(0.5).mean() > 2 * least
    with pytest.raises(InputError, match="3 items came: pass 4 or more"):
        LinearDenoiser.fit(items[:3])


def losses(network, conditions=(UNCONDITIONAL, "a"), linear=(1.0, 0.5, 0.09, 0.01), classes=True) -> Losses:
    """Losses of 64 draws that share nine tenths of their chance; each row of ``network`` is a factor of the linear."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(1, 4, 64)), rng.normal(size=(len(conditions), 4, 64))
    base = np.asarray(linear)[None, :, None]
    of_linear = (base * (1 + 0.1 * shared))[0]
    of_network = np.asarray(network)[:, :, None] * base * (1 + 0.1 * shared + 0.01 * own)
    return Losses(SIGMA, conditions, of_network, of_linear, 1.0 + 0.1 * rng.normal(size=64), classes)


GOOD = [1.0, 0.9, 0.7, 0.5]


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ([GOOD, [0.9, 0.7, 0.6, 0.4]], ""),
        ([[1.0, 1.1, 0.9, 0.9], GOOD], ""),  # a tenth worse: a weak network
        ([[1.6, 0.9, 0.7, 0.5], [1.6, 0.9, 0.7, 0.5]], ""),  # at much noise, by less than the noise
        ([[60.0, 0.9, 0.7, 0.5], [60.0, 0.9, 0.7, 0.5]], "σ 10: squared error 60"),
        ([[1.0, 0.9, 2.0, 0.5], [1.0, 0.9, 2.0, 0.5]], "σ 0.3: squared error 0.179, against 0.089"),
        ([[1.0, 0.9, np.nan, 0.5], [1.0, 0.9, np.nan, 0.5]], "squared error nan"),
        ([[1.0, 0.9, 2.0, 0.5], GOOD], "check which class is the empty one"),
        ([GOOD, [1.0, 0.9, 0.7, 0.9]], "given the right a denoises worse than the unconditional one"),
        ([GOOD, [1.0, 0.9, 2.0, 0.5]], "check the order of its classes"),
    ],
)
def test_each_fault_has_its_line(network, said):
    found = losses(network).warning()
    assert bool(found) == bool(said)
    assert said in found
    assert "\n" not in found
    assert "check the order" not in losses(network, classes=False).warning()


@pytest.mark.parametrize(
    ("network", "lowest", "weak"),
    [
        ([0.9, 0.7, 0.6, 1.5], 0.006, True),  # worse than linear at the last level, better than no denoising
        ([0.9, 0.7, 0.6, 1.1], 0.006, False),  # a tenth worse counts nowhere
        ([0.9, 0.7, 0.6, 2.0], 0.006, False),  # worse than no denoising
        ([0.9, 0.7, 0.6, np.nan], 0.006, False),
        ([0.9, 2.0, 0.6, 1.5], 0.006, False),  # worse at another level, too
        ([1.0, 0.95, 0.95, 1.5], 0.006, False),  # nowhere clearly better
    ],
)
def test_a_weak_end_is_no_fault_of_the_wrapping(network, lowest, weak):
    """Only what lies below it is biased."""
    made = losses([network, network], linear=(1.0, 0.5, 0.06, lowest))
    limit, words = made.weak_end()
    assert (limit, bool(words)) == ((SIGMA[2], True) if weak else (0.0, False))
    assert bool(made.warning()) == (not weak and network[3] != 1.1)
    curve = Curve.of_draws("a", "forks", SIGMA, np.full((4, 8), 0.5) + np.linspace(0, 0.01, 8), 1.0, kind="estimate")
    trust = judge(curve, weak_end=(limit, words), wrapping=made.warning())
    assert trust.trusted.tolist() == ([True] * 3 + [False] if weak else [not made.warning()] * 4)
    assert not weak or "at the lowest levels the network denoises worse" in trust.reasons[-1]


def test_conditional_a_little_worse_where_nothing_is_left_to_know_is_no_fault():
    assert losses([GOOD, [0.8, 0.6, 0.69, 0.52]], linear=(1.0, 0.5, 0.01, 1e-4)).warning() == ""


def test_unconditional_must_beat_classes_drawn_at_random():
    three = (UNCONDITIONAL, "a", RANDOM)
    said = losses([[1.0, 1.1, 0.9, 0.9], GOOD, [1.0, 0.6, 2.0, 3.0]], three).warning()
    assert "worse than the mean of its outputs for classes drawn at random (σ 1" in said
    assert losses([GOOD, [0.9, 0.7, 0.6, 0.4], [1.0, 0.95, 2.0, 3.0]], three).warning() == ""


def test_what_chance_explains_is_no_fault():
    rng = np.random.default_rng(1)
    wide = Losses(
        SIGMA,
        (UNCONDITIONAL,),
        0.3 + rng.normal(size=(1, 4, 16)),
        0.1 + rng.normal(size=(4, 16)),
        rng.normal(size=16) + 1,
    )
    assert wide.warning() == ""
