"""The divergence of noised Gaussians, by both gaps, with its map, and which of the two it was: closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sigmascope.adapters import Foreign
from sigmascope.core import Attribute, InputError, generator
from sigmascope.information.divergence import divergence
from sigmascope.noise import Karras, sigma_grid

PRIOR = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
A = Attribute("what", ("left", "right", "else"), PRIOR)
SIGMA = sigma_grid(20.0, 0.1, 24)


def gaussians(m, c):
    """The exact denoiser of N(m_a, diag c_a) for each value a; channels, rows and columns in an event of three axes."""

    def network(x, time, label):
        s = time.double().reshape(-1, *[1] * (x.ndim - 1))
        return m[label] + c[label] / (c[label] + s**2) * (x.double() - m[label])

    # Foreign hands its network float32: of these few nats that is nothing.
    return Foreign(network, tuple(m.shape[1:]), Karras(), "denoiser", attribute=A)


def made(shape, seed=0, same=False):
    g = generator(seed)
    m, c = 0.4 * torch.randn(3, *shape, generator=g).double(), 0.3 + torch.rand(3, *shape, generator=g).double()
    return m, c[:1].expand_as(c).contiguous() if same else c


def draw(m, c, a, n, seed):
    return m[a] + c[a].sqrt() * torch.randn(n, *m.shape[1:], generator=generator(seed)).double()


def kl(m, c, a, b):
    """KL(N(m_a, c_a + σ²) ‖ N(m_b, c_b + σ²)) by coordinate, shape (levels, *event)."""
    s2 = torch.from_numpy(SIGMA**2).reshape(-1, *[1] * (m.ndim - 1))
    p, q = c[a] + s2, c[b] + s2
    return 0.5 * (p / q - 1 + (m[a] - m[b]) ** 2 / q + (q / p).log())


@pytest.mark.parametrize("pair", [(1, 2), (2, 0)])
def test_both_gaps_are_the_divergence(pair):
    m, c = made((2, 3, 2))
    found = divergence(gaussians(m, c), "what", *pair, draw(m, c, pair[0], 400, 1), SIGMA, noises=2, seed=3)
    assert (found.own, found.other) == tuple(A.values[k] for k in pair)
    wanted = kl(m, c, *pair).flatten(1).sum(1).numpy()
    for way in ("score", "error"):
        curve = found.curve(way)
        assert np.all(np.abs(curve.value - wanted) < 4 * curve.error + 2e-3), way
        assert curve.stderr[-1] < 0.12 * wanted[-1]
    each = found.maps.mean(0)
    error = found.maps.std(0, ddof=1) / 400**0.5
    assert each.shape == (3, 2)  # channels are summed
    assert np.all(np.abs(each - kl(m, c, *pair)[-1].sum(0).numpy()) < 4.5 * error + 2e-3)
    assert np.allclose(found.maps.sum((1, 2)), found.score[-1].mean(1))


def test_the_error_gap_of_each_value_is_its_own_log_ratio():
    """Value by value: E_n ln p_a(v + σn) / p_b(v + σn), whatever v; the score gap is that only in the mean."""
    m, c = made((3,), seed=5)
    v = torch.tensor([[3.0, 0.0, -2.0], [0.0, -1.0, 0.0]]).double()
    found = divergence(gaussians(m, c), "what", 0, 1, v, SIGMA, noises=600, seed=1)
    s2 = torch.from_numpy(SIGMA**2)[:, None, None]

    def log_density(a):  # its mean over the noise
        total = c[a] + s2
        return (-0.5 * (((v - m[a]) ** 2 + s2) / total + total.log())).sum(2).numpy()

    wanted = log_density(0) - log_density(1)
    error = found.error.std(2, ddof=1) / 600**0.5
    assert np.all(np.abs(found.error.mean(2) - wanted) < 4.5 * error + 3e-3)
    assert abs(float(found.score.mean(2)[-1, 0]) - wanted[-1, 0]) > 10 * error[-1, 0]


def test_which_of_the_two_it_was():
    """At equal priors, whatever those of the attribute: I of a sign in Gaussian noise, by posterior and by gap."""
    m = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 9.0]]).double()
    c = torch.full_like(m, 0.16)
    model = gaussians(m, c)
    found = [divergence(model, "what", k, 1 - k, draw(m, c, k, 300, k), SIGMA, noises=2, stream=(k,)) for k in (0, 1)]
    truth = []
    for s in SIGMA:
        variance = (0.16 + s**2) / 3
        x = np.linspace(-1 - 12 * variance**0.5, 1 + 12 * variance**0.5, 100_001)
        p = np.exp(-((x - 1) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        truth.append(math.log(2) - np.trapezoid(p * np.logaddexp(0, -2 * x / variance), x))
    by_posterior = np.concatenate([d.log_q.mean(2) for d in found], 1) + math.log(2)
    by_gap = np.concatenate([d.information_by_scores.mean(2) for d in found], 1)
    for each, off in ((by_posterior, 0.02), (by_gap, 0.03)):
        error = each.std(1, ddof=1) / each.shape[1] ** 0.5
        assert np.all(np.abs(each.mean(1) - truth) < 4 * error + off)
    assert truth[-1] > 0.6  # and no more than ln 2, while the divergence goes on to
    assert found[0].curve().value[-1] == pytest.approx(0.5 * 12 / 0.17, rel=0.02)


def test_a_level_too_low_to_begin_with_is_continued_above():
    """Of equal spreads the series above the first level has the divergence there, as far as its terms reach."""
    m, c = made((4,), same=True)
    found = divergence(gaussians(m, c), "what", 0, 1, draw(m, c, 0, 3, 0), SIGMA[4:], noises=2)
    assert found.above == pytest.approx(float(kl(m, c, 0, 1)[4].sum()), rel=0.02)
    assert found.above > 0.002 * found.curve().value[-1]


def test_noise_is_named_by_seed_and_stream():
    m, c = made((3,))
    v, model = draw(m, c, 0, 4, 0), gaussians(m, c)

    def score(n=4, **options):
        return divergence(model, "what", 0, 1, v[:n], SIGMA[:8], noises=2, **options).score

    assert np.array_equal(score(seed=1), score(seed=1))
    assert np.array_equal(score(n=2, seed=1), score(seed=1)[:, :2])  # a value's noise is its own
    assert not np.allclose(score(seed=1), score(seed=2))
    assert not np.allclose(score(seed=1), score(seed=1, stream=(1,)))


def test_what_cannot_be_asked():
    m, c = made((3,))
    model, v = gaussians(m, c), draw(m, c, 0, 3, 0)
    for bad in (("who", 0, 1), ("what", 0, 3), ("what", 1, 1), ("what", -1, 1)):
        with pytest.raises(InputError, match=r"pass two values of what \(3 values\)"):
            divergence(model, *bad, v, SIGMA)
    for options in ({"noises": 1}, {"sigma": SIGMA[:1]}, {"v": v[:1]}):
        with pytest.raises(InputError, match="at least 2 of each"):
            divergence(model, "what", 0, 1, **({"v": v, "sigma": SIGMA} | options))
    with pytest.raises(InputError, match=r"expected \(3,\)"):
        divergence(model, "what", 0, 1, v[:, :2], SIGMA)
