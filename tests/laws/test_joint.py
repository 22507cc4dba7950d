"""Generation from the filter alone: the law of Y, π against the exact posterior, and what the final value carries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from problems import Mixture, four_points, mixture, points, random_set
from sigmascope.core import InputError
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.items import ItemBelief
from sigmascope.sample import Ancestral, Streams, ValueBelief, final, joint, rows, sample, start
from sigmascope.sample.joint import from_prior, mean_of_each_value


def run(belief, problem, first, last, steps, count, seed=0):
    noise = Streams(seed, rows(count), (1,))
    draws = problem.denoiser().draw(count, seed + 100)
    y = draws.v + first * draws.noise
    return list(joint(belief, y, np.geomspace(first, last, steps + 1), noise))


@pytest.mark.parametrize("name", ["side", "width"])
def test_law_of_y_is_that_of_the_generative_sde(name):
    problem, first, last = mixture(), 30.0, 0.05
    end = run(ValueBelief(problem.denoiser(), name), problem, first, last, 400, 8000)[-1].y[:, 0].numpy()
    assert stats.kstest(end, lambda x: problem.distribution(x, last)).pvalue > 1e-3
    draws = problem.denoiser().draw(8000, 5)
    usual = (
        final(
            sample(
                problem.denoiser(),
                draws.v + first * draws.noise,
                np.geomspace(first, last, 401),
                Ancestral(),
                noise=Streams(9, rows(8000), (1,)),
            )
        )
        .y[:, 0]
        .numpy()
    )
    assert stats.ks_2samp(end, usual).pvalue > 1e-3
    # A filter that starts from the prior although Y_0 tells something, and one of other weights, do not pass.
    wrong = mixture()
    wrong = type(wrong)(wrong.means, wrong.spread, np.array([0.3, 0.1, 0.2, 0.4]), wrong.labels)
    other = run(ValueBelief(wrong.denoiser(), name), problem, first, last, 400, 8000)[-1].y[:, 0].numpy()
    assert stats.kstest(other, lambda x: problem.distribution(x, last)).pvalue < 1e-6


def test_pi_is_the_exact_posterior_at_order_one_half():
    """Root mean square of π − p(a | Y_σ) over the path, in steps four times as short each."""
    problem = points(four_points())
    denoiser = problem.denoiser()
    errors = []
    for steps in (64, 256, 1024):
        states = run(ValueBelief(denoiser, "alternate"), problem, 40.0, 0.5, steps, 1500)
        apart = []
        for s in states[:: steps // 16]:
            exact = denoiser.log_posterior(s.y, torch.full((1500,), s.sigma, dtype=torch.float64), "alternate").exp()
            apart.append(((s.log_pi.exp() - exact) ** 2).sum(1).mean())
        errors.append(float(torch.stack(apart).mean().sqrt()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:]) / 2
    assert np.all(np.abs(orders - 0.5) < 0.15), errors
    assert errors[-1] < 0.05


def test_belief_on_items_is_exact_at_any_step():
    data = random_set(3, items=60, event=(1, 2, 3))
    denoiser = FiniteDenoiser(data)
    belief = ItemBelief(denoiser)
    y = start(denoiser, 20.0, Streams(0, rows(12), (1, 2, 3))())
    for steps in (4, 30):
        noise = Streams(1, rows(12), (1, 2, 3))
        for s in joint(belief, y, np.geomspace(20.0, 0.05, steps + 1), noise):
            exact = belief.first(s.y, s.sigma)
            assert torch.allclose(s.log_pi.exp(), exact.exp(), atol=1e-8)
            for name, pi in belief.marginals(s.log_pi).items():
                level = torch.full((12,), s.sigma, dtype=torch.float64)
                assert torch.allclose(pi, denoiser.log_posterior(s.y, level, name).exp(), atol=1e-8)
            assert torch.allclose(belief.denoised(s.log_pi, s.y, s.sigma), denoiser(s.y, level), atol=1e-6)


@pytest.mark.parametrize("name", ["point", "coarse", "alternate"])
def test_the_end_carries_what_pi_settled_on(name):
    problem = points(four_points())
    states = run(ValueBelief(problem.denoiser(), name), problem, 90.0, 0.02, 300, 2000)
    settled = states[-1].log_pi.argmax(1).numpy()
    assert float(states[-1].log_pi.max(1).values.exp().min()) > 0.99
    nearest = np.abs(states[-1].y.numpy() - problem.means).argmin(1)
    assert np.array_equal(problem.labels[name][nearest], settled)
    share = np.bincount(nearest, minlength=4) / 2000
    assert np.all(np.abs(share - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5)


def test_usual_path_and_joint_path_are_the_same_process():
    """With the same noise, D from π and D itself make nearly the same path; nearer for shorter steps."""
    problem = mixture()
    apart = []
    for steps in (100, 400, 1600):
        states = run(ValueBelief(problem.denoiser(), "side"), problem, 20.0, 0.3, steps, 500)
        noise = Streams(0, rows(500), (1,))
        usual = final(
            sample(problem.denoiser(), states[0].y, np.geomspace(20.0, 0.3, steps + 1), Ancestral(), noise=noise)
        )
        apart.append(float(((usual.y - states[-1].y) ** 2).mean().sqrt()))
    assert apart[0] / apart[1] > 1.5
    assert apart[1] / apart[2] > 1.5


@pytest.mark.parametrize("name", ["side", "width"])
def test_first_belief_from_denoisers_alone(name):
    """One step from the prior: near the exact posterior at a high level, and nearer the higher."""
    problem = mixture()
    denoiser = problem.denoiser()
    errors = []
    for sigma in (20.0, 40.0, 80.0):
        draws = denoiser.draw(4000, 1)
        y = draws.v + sigma * draws.noise
        exact = denoiser.log_posterior(y, torch.full((4000,), sigma, dtype=torch.float64), name).exp()
        found = from_prior(denoiser, name, y, sigma).exp()
        errors.append(float(((found - exact) ** 2).mean().sqrt()))
        prior = float(((denoiser.attribute(name).prior - exact) ** 2).mean().sqrt())
        assert errors[-1] < 0.3 * prior
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_first_belief_favours_no_spread():
    """Two classes of one mean and unequal spread: at a high level nothing is known, in the mean over y."""
    law = Mixture(np.zeros(2), np.array([0.0, 3.0]), np.array([0.5, 0.5]), {"wide": np.array([0, 1])})
    denoiser = law.denoiser()
    draws = denoiser.draw(4000, 1)
    y = draws.v + 15.0 * draws.noise
    found = from_prior(denoiser, "wide", y, 15.0).exp()[:, 1]
    assert abs(float(found.mean()) - 0.5) < 1e-3


def test_conditional_means_do_not_depend_on_the_tiles(monkeypatch):
    data = random_set(5, items=400, event=(1, 2, 3))
    denoiser = FiniteDenoiser(data)
    y = torch.randn(7, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = mean_of_each_value(denoiser, y, 0.4, "many")
    monkeypatch.setattr("sigmascope.exact.finite.filter._CACHED_ROWS", 13)
    assert torch.allclose(mean_of_each_value(denoiser, y, 0.4, "many"), whole, atol=1e-10)


def test_conditional_means_in_one_pass_are_those_found_one_by_one():
    data = random_set(5, items=92, event=(1, 2, 3))
    denoiser = FiniteDenoiser(data)
    y = torch.randn(7, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sigma in (0.02, 0.4, 5.0):
        each = mean_of_each_value(denoiser, y, sigma, "many")
        level = torch.full((7,), sigma, dtype=torch.float64)
        for a in range(each.shape[0]):
            assert torch.allclose(each[a], denoiser(y, level, {"many": torch.full((7,), a)}), atol=1e-9)
    with pytest.raises(InputError, match="choose among even, many, word"):
        ValueBelief(denoiser, "colour")
