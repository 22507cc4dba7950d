"""The integral above a denoiser's highest level: what one level of it leaves out is put in, gauged and said."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from problems import four_points, points, two_points
from sigmascope.information.above import CoarseTopWarning, above, spread
from sigmascope.information.adaptive import GapJob


def drawing(denoiser):
    def draw(n, g):
        k = torch.multinomial(denoiser.log_weight.exp(), n, replacement=True, generator=g)
        return denoiser.means[k], {name: label[k] for name, label in denoiser.labels.items()}

    return draw


def level_of(problem, name, share):
    sigma = np.geomspace(60.0, 0.1, 150)
    known = np.array([problem.information(name, s) for s in sigma]) / problem.entropy(name)
    return float(sigma[np.flatnonzero(known > share)[0]])


def measured(problem, name, first, top):
    denoiser = points(problem).denoiser()
    grid = np.geomspace(first, first / 10, 6)
    work = GapJob(denoiser, drawing(denoiser), {name: problem.entropy(name)}, grid, budget=40_000, top=top)
    while not work.done:
        work.step()
    return work.curves()[name].score_gap, np.array([problem.information(name, s) for s in grid])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_low_top_is_put_right_and_said(share):
    problem, name = two_points(), "sign"
    first = level_of(problem, name, share)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        curve, truth = measured(problem, name, first, 2**0.5 * first)
    assert np.all(np.abs(curve.value - truth) < 3.5 * curve.error)
    assert abs(curve.value[0] - truth[0]) < 0.012 * curve.ceiling + 3.5 * curve.stderr[0]
    assert bool(said) == (share > 0.4)
    assert all(w.category is CoarseTopWarning and "begin at a higher level" in str(w.message) for w in said)
    if said:  # the counter-test: without what was put in the curve would be off by many standard errors
        more, _ = above(float(curve.value[0]) - 0.02 * curve.ceiling, 0.5 / first**2, curve.ceiling)
        assert more > 3 * curve.stderr[0]


def test_a_high_top_is_left_alone():
    problem, name = four_points(), "coarse"
    curve, truth = measured(problem, name, 40.0, 90.0)
    assert curve.quadrature_error is None
    assert np.all(np.abs(curve.value - truth) < 4 * curve.stderr + 1e-4)


def test_the_correction_in_closed_form():
    """g = 1/(1 + λ) from 0 to 2: the middle says 1/2, the integral is ½ ln 3, the first term 1."""
    more, gauge = above(0.5, 1.0, 2.0)
    assert 0.5 + more == pytest.approx(0.5 * np.log(3.0), rel=1e-12)
    assert gauge > 0.5 * more
    assert above(1.0, 1.0, 2.0) == (0.0, 0.0)
    assert above(1.5, 1.0, 2.0)[0] == 0.0
    assert above(1.5, 1.0, 2.0)[1] > 0.0
    assert above(0.0, 1.0, 2.0) == (0.0, 0.0)
    assert above(0.1, 1.0, 2.0)[1] == pytest.approx(0.9)
    assert above(1e-5, 1e-4, 2.0)[1] < 1e-4  # an attribute that nothing tells of


def test_the_first_term_of_the_series_from_draws():
    g, off = torch.Generator().manual_seed(0), []
    for _ in range(12):
        label = torch.randint(4, (4000,), generator=g)
        noise = torch.randn(4000, 200, generator=g, dtype=torch.float64)
        mean = torch.randn(4, 200, generator=g, dtype=torch.float64) * 0.1
        share = torch.bincount(label)[:, None] / 4000.0
        truth = float((share * mean**2).sum() - ((share * mean).sum(0) ** 2).sum())
        v = mean[label] + noise
        off.append(spread(v - v.mean(0), label) / truth - 1.0)
    assert abs(np.mean(off)) < 4 * np.std(off) / 12**0.5 + 0.003
    assert np.std(off) < 0.06
    assert spread(noise - noise.mean(0), label) < 0.02  # of 200 in all: chance is taken off
    a = torch.randn(4000, 2, generator=g, dtype=torch.float64)
    v = a @ mean[:2] + noise
    assert spread(v - v.mean(0), a) == pytest.approx(float((mean[:2] ** 2).sum()), rel=0.15)
    assert spread(noise[:3], torch.arange(3)) == 0.0
