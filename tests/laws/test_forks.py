"""Forks: entropies of few draws, information from labels of children, and what a deterministic sampler cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from problems import four_points, mixture, points, random_set
from sigmascope.core import Attribute, InputError, generator
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.entropies import zhang
from sigmascope.information.forks import (
    count_labels,
    draw_labels,
    enough,
    forks,
    forks_by_sampling,
)
from sigmascope.information.posterior import entropy_of
from sigmascope.sample import Bridge, Churn, Heun, StochasticHeun, Streams, final, fork, levels_below, rows, sample


def mean_entropy(correction, p, k, repeats=40_000):
    labels = torch.multinomial(p, repeats * k, replacement=True, generator=generator(0)).reshape(k, repeats)
    return float(correction(count_labels(labels, len(p))).mean())


def by_frequencies(counts):
    n = counts.double()
    return torch.special.entr(n / n.sum(-1, keepdim=True)).sum(-1)


@pytest.mark.parametrize("p", [[0.5, 0.5], [0.1] * 10, [0.7, 0.1, 0.1, 0.05, 0.05]], ids=["two", "ten", "uneven"])
def test_zhang_mends_most_of_the_bias(p):
    p = torch.tensor(p, dtype=torch.float64)
    truth = float(torch.special.entr(p).sum())
    k = 4 * len(p)
    plug_in, mended = (abs(mean_entropy(c, p, k) - truth) for c in (by_frequencies, zhang))
    assert plug_in > 0.03
    assert mended < (0.35 if len(set(p.tolist())) > 1 else 0.15) * plug_in


def test_zhang_is_unbiased_for_its_part_of_the_series():
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    k, v = 12, torch.arange(1, 200, dtype=torch.float64)
    series = ((p[:, None] * (1 - p[:, None]) ** v).sum(0) / v).cumsum(0)
    assert float(series[-1]) == pytest.approx(float(torch.special.entr(p).sum()), abs=1e-9)
    assert mean_entropy(zhang, p, k, 400_000) == pytest.approx(float(series[k - 2]), abs=2e-3)


def test_four_forks_cannot_show_ten_values():
    p = torch.full((10,), 0.1, dtype=torch.float64)
    assert np.log(10) - mean_entropy(zhang, p, 4) > 0.5
    ten = Attribute("hue", tuple("0123456789"), p)
    assert not enough(ten, 4)
    with pytest.raises(InputError, match="4 forks cannot show the entropy of 'hue', which has 10 values"):
        forks(ten, np.array([1.0]), torch.tensor([[[4, 0, 0, 0, 0, 0, 0, 0, 0, 0]]]))


def children_of(problem, y, sigma, count, scheme, steps=60, seed=3):
    ends = final(fork(problem.denoiser(), y, levels_below(sigma, 0.02, steps), count, seed, scheme)).y
    return ends.reshape(len(y), count).T


@pytest.mark.parametrize("name", ["coarse", "alternate"])
@pytest.mark.parametrize("way", ["posterior", "nearest", "at once"])
def test_information_of_four_points(name, way):
    problem = points(four_points())
    denoiser, sigmas = problem.denoiser(), np.array([8.0, 4.0, 2.0, 1.0])
    draws = denoiser.draw(400, 2)

    def nearest(v):
        return torch.from_numpy(problem.labels[name])[(v - torch.from_numpy(problem.means)).abs().argmin(1)]

    def likeliest(v):
        return denoiser.log_posterior(v, torch.full((len(v),), 0.02, dtype=torch.float64), name).argmax(1)

    labeller = likeliest if way == "posterior" else nearest
    scheme = Bridge() if way == "at once" else None
    a = denoiser.attribute(name)
    curve = forks_by_sampling(denoiser, a, draws, sigmas, 24, labeller, seed=3, scheme=scheme, lowest=0.02, steps=60)
    truth = np.array([problem.information(name, s) for s in sigmas])
    assert np.all(np.abs(curve.value - truth) < 4 * curve.stderr + curve.quadrature_error + 1e-5)
    assert curve.stderr.max() < 0.03
    # The U-turn's children vary more than p(a | y): less is shared.
    u_turn = forks_by_sampling(
        denoiser, a, draws, sigmas[1:2], 24, nearest, scheme=Heun(), renoise=10.0, lowest=0.02, steps=60
    )
    assert u_turn.value[0] < 0.04
    assert truth[1] > (0.04 if name == "alternate" else 0.5)


def test_the_gauge_covers_the_bias():
    """Two equal values that nothing is known of: the information is 0, and the gauge covers what is found."""
    labels = torch.randint(2, (16, 1, 4000), generator=generator(0))
    a = Attribute("side", ("0", "1"), torch.full((2,), 0.5, dtype=torch.float64))
    curve = forks(a, np.array([1.0]), count_labels(labels, 2))
    assert abs(curve.value[0]) < 4 * curve.stderr[0] + curve.quadrature_error[0]
    assert curve.quadrature_error[0] < 0.01


def test_what_cannot_be_forked_is_said():
    denoiser = points(four_points()).denoiser()
    a, draws, sigma = denoiser.attribute("coarse"), denoiser.draw(5, 0), np.array([2.0])
    with pytest.raises(InputError, match="deterministic"):
        forks_by_sampling(denoiser, a, draws, sigma, 8, lambda v: v[:, 0].long(), scheme=Heun())
    with pytest.raises(InputError, match="expected one index of the 2 values for each of 40 rows"):
        forks_by_sampling(denoiser, a, draws, sigma, 8, lambda v: v.long()[:, 0], steps=5)


def test_labels_at_once_are_those_of_continuations():
    """Both routes have the same frequencies, state by state."""
    problem = mixture()
    denoiser = problem.denoiser()
    y = torch.tensor([[-1.5], [0.0], [1.2]], dtype=torch.float64)
    level = torch.full((3,), 1.0, dtype=torch.float64)
    ends = children_of(problem, y, 1.0, 6000, StochasticHeun(), steps=40)
    pi = denoiser.log_posterior(y, level, "side").exp()
    of_end = [denoiser.log_posterior(e[:, None], torch.full((6000,), 1e-6), "side").exp() for e in ends.T]
    found = torch.stack([p.mean(0) for p in of_end])
    error = torch.stack([p.std(0) for p in of_end]) / 6000**0.5
    assert bool(((found - pi).abs() < 4 * error + 2e-3).all())
    at_once = (
        count_labels(draw_labels(pi.log(), torch.rand(3, 6000, generator=generator(1), dtype=torch.float64)), 2) / 6000
    )
    assert bool(((at_once - pi).abs() < 4 * (pi * (1 - pi) / 6000).sqrt()).all())
    drawn = denoiser.sample_posterior(y, level, 6000, generator(2))[:, :, 0]
    mean = denoiser(y, level)[:, 0]
    assert bool(((drawn.mean(0) - mean).abs() < 4 * drawn.std(0) / 6000**0.5).all())
    assert bool((drawn.std(0) > 0.2).all())


def test_items_are_drawn_as_the_posterior_says():
    data = random_set(2, items=80, event=(1, 2, 3))
    denoiser = FiniteDenoiser(data)
    y = torch.randn(5, 1, 2, 3, generator=generator(0), dtype=torch.float64)
    level = torch.tensor([0.05, 0.3, 0.8, 2.0, 20.0], dtype=torch.float64)
    items = denoiser.sample_items(y, level, 20_000, generator(1))
    for name in ("even", "many"):
        pi = denoiser.log_posterior(y, level, name).exp()
        found = count_labels(data.labels[name][items], pi.shape[1]) / 20_000
        assert bool(((found - pi).abs() <= 4 * (pi * (1 - pi) / 20_000).sqrt() + 1e-9).all())
    v = denoiser.sample_posterior(y, level, 20_000, generator(1)).double()
    assert torch.equal(v[:100].float(), data.source.take(items[:100].flatten()).reshape(100, 5, 1, 2, 3))
    apart = (v.mean(0) - denoiser(y, level)).abs()
    assert bool((apart <= 4 * v.std(0) / 20_000**0.5 + 1e-6).all())


def test_items_do_not_depend_on_the_tiles(monkeypatch):
    data = random_set(2, items=400, event=(1, 2, 3))
    denoiser = FiniteDenoiser(data)
    y = torch.randn(4, 1, 2, 3, generator=generator(0), dtype=torch.float64)
    level = torch.tensor([0.1, 0.5, 1.0, 5.0], dtype=torch.float64)
    whole = denoiser.sample_items(y, level, 50, generator(1))
    monkeypatch.setattr("sigmascope.exact.finite.filter.tile_rows", lambda size, draws: 17)
    assert torch.equal(denoiser.sample_items(y, level, 50, generator(1)), whole)


def test_the_ode_ends_where_its_state_says():
    """Forked entropy needs noise: the end of the flow is a function of Y, whose information is all of H(A)."""
    problem = points(four_points())
    draws = problem.denoiser().draw(300, 0)
    for sigma in (2.0, 8.0):
        y = draws.v + sigma * draws.noise
        end = final(sample(problem.denoiser(), y, levels_below(sigma, 0.02, 60), Heun())).y
        again = final(sample(problem.denoiser(), y + 1e-9, levels_below(sigma, 0.02, 60), Heun())).y
        assert float((end - again).abs().median()) < 1e-6
        nearest = (end - torch.from_numpy(problem.means)).abs().argmin(1)
        share = torch.bincount(nearest, minlength=4) / 300
        entropy = float(torch.special.entr(share).sum())
        assert entropy > 0.9 * np.log(4)  # the label of the end is as open as A itself, and known given y


@pytest.mark.parametrize("way", ["ode", "sde"])
def test_conditional_pathways_carry_the_same_information(way):
    """I(A; Y_σ) is a function of p_σ(y | a): the conditional flow, and the conditional SDE, keep it."""
    problem, name = mixture(), "side"
    denoiser = problem.denoiser()
    draws = denoiser.draw(4000, 6)
    own = draws.labels[name]

    y = draws.v + 12.0 * draws.noise
    how = Heun() if way == "ode" else StochasticHeun()
    for state in sample(
        denoiser, y, np.geomspace(12.0, 0.4, 61), how, noise=Streams(0, rows(4000), (1,)), known={name: own}
    ):
        if state.step % 20:
            continue
        level = torch.full((4000,), state.sigma, dtype=torch.float64)
        log_pi = denoiser.log_posterior(state.y, level, name)
        known = denoiser.attribute(name).entropy - entropy_of(log_pi)
        truth = problem.information(name, state.sigma)
        assert abs(float(known.mean()) - truth) < 4 * float(known.std()) / 4000**0.5
        given = float(torch.gather(log_pi, 1, own[:, None]).mean()) + denoiser.attribute(name).entropy
        assert given == pytest.approx(truth, abs=0.05)


def test_only_the_full_noise_forks_as_the_posterior():
    """Churn of amount 1 is the generative SDE; with less noise children are too alike."""
    problem = points(four_points())
    y = torch.full((1, 1), 6.0, dtype=torch.float64)
    pi = problem.denoiser().log_posterior(y, torch.full((1,), 2.0, dtype=torch.float64), "point").exp()[0]
    sizes = {}
    for amount in (0.2, 1.0):
        ends = children_of(problem, y, 2.0, 3000, Churn(amount), steps=120)[:, 0]
        nearest = (ends[:, None] - torch.from_numpy(problem.means)).abs().argmin(1)
        sizes[amount] = torch.bincount(nearest, minlength=4) / 3000
    assert float((sizes[1.0] - pi).abs().max()) < 0.04
    assert float((sizes[0.2] - pi).abs().max()) > 0.04


def test_u_turn_forks_a_deterministic_sampler():
    problem = points(four_points())
    y = torch.full((1, 1), 7.2, dtype=torch.float64)
    levels = levels_below(0.7, 0.02, 40)
    near = final(fork(problem.denoiser(), y, levels, 2000, 1, Heun(), renoise=2.0)).y
    far = final(fork(problem.denoiser(), y, levels, 2000, 1, Heun(), renoise=40.0)).y
    share = [
        torch.bincount((e - torch.from_numpy(problem.means)).abs().argmin(1), minlength=4) / 2000 for e in (near, far)
    ]
    assert float(share[0][2:].sum()) > 0.99  # the coarse group is kept
    assert float(share[0][2:].min()) > 0.1  # and what is within it drawn anew
    assert float(share[1].min()) > 0.1  # far enough, everything is
