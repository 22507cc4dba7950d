"""Bounds from a denoiser's own likelihood: tight where it is exact, below the truth whatever it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from problems import direct_gap, mixture, random_set
from sigmascope.core import Attribute, Denoiser, InputError, generator
from sigmascope.data import draw_items
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.gaussian import MixtureDenoiser
from sigmascope.information.gaps import score_gap
from sigmascope.information.likelihood import (
    fitted_temperature,
    likelihood_nodes,
    likelihood_posterior,
    log_ratio,
    prior_share,
    tempered,
)
from sigmascope.information.path import markov_path, path_bound, path_posterior
from sigmascope.streams import Streams, rows

COIN = Attribute("a", ("x", "y"), torch.tensor([0.5, 0.5]))


class Wrong(Denoiser):
    """A denoiser's means, changed: ``change(free, given, y, sigma, label)``; label is None where unconditional."""

    def __init__(self, true, change):
        super().__init__()
        self.true, self.change, self.event, self.attributes = true, change, true.event, true.attributes

    def forward(self, y, sigma, known=None):
        label = next(iter(known.values())) if known else None
        given = self.true(y, sigma, known)
        return self.change(self.true(y, sigma), given, y, sigma[:, None].to(y.dtype), label).to(y.dtype)


def eight():
    """Four normal components in 8 dimensions, of unequal and correlated spreads."""
    g = generator(5)
    means = 2 * torch.randn(4, 8, generator=g, dtype=torch.float64)
    roots = torch.randn(4, 8, 8, generator=g, dtype=torch.float64)
    covariances = 0.09 * (torch.eye(8) + roots @ roots.mT / 16)
    return MixtureDenoiser(
        torch.tensor([0.4, 0.2, 0.3, 0.1]), means, covariances, {"a": [0, 1, 0, 1], "b": [0, 1, 2, 2]}
    )


def lost(denoiser, draws, sigma, name, *, exact=None, seed=3, **how):
    """Mean divergence of the bound's posterior from the exact one: what the bound loses, with its standard error."""
    y = draws.v.double() + sigma * draws.noise.double()
    noise = Streams(seed, rows(len(y)), tuple(y.shape[1:]))
    prior = next(a for a in denoiser.attributes if a.name == name).prior
    gains = likelihood_posterior(denoiser, name, y, sigma, noise, **how)
    log_q = (prior.log() + gains).log_softmax(1)
    log_p = (exact or denoiser).log_posterior(y, torch.full((len(y),), sigma, dtype=torch.float64), name)
    each = torch.nan_to_num(log_p.exp() * (log_p - log_q)).sum(1)
    return float(each.mean()), float(each.std() / len(y) ** 0.5)


@pytest.mark.parametrize("scale", [0.12, 0.5, 2.0, 6.0])
def test_nodes_integrate_what_lives_on_any_scale(scale):
    """The integral of (s^2/(s^2 + b^2))^2 over d(s^-2) is 1/b^2."""
    for nodes, tolerance in ((6, 0.04), (24, 1e-6)):
        s, w = likelihood_nodes(0.1, 4.0, nodes)
        assert (w * (s**2 / (s**2 + scale**2)) ** 2).sum() * scale**2 == pytest.approx(1, abs=tolerance)
    highest = max(6.0, 3.5 * scale)
    s, w = likelihood_nodes(0.1, 4.0, 24, highest)
    assert np.hypot(s, 0.1).max() < highest
    assert (w * (s**2 / (s**2 + scale**2)) ** 2).sum() * scale**2 == pytest.approx(1, abs=0.012)


def test_nodes_need_room():
    for bad in ((0.0, 1.0, 3), (1.0, 0.0, 3), (1.0, 1.0, 0)):
        with pytest.raises(InputError, match="must be positive"):
            likelihood_nodes(*bad)
    with pytest.raises(InputError, match="called up to level 2 only"):
        likelihood_nodes(2.0, 1.0, 3, highest=2.0)


@pytest.mark.parametrize(
    ("make", "name", "span", "sigma", "loss"),
    [(mixture, "side", 2.0, s, 0.004) for s in (0.2, 1.0, 3.0)]
    + [(mixture, "width", 2.0, 0.4, 0.05)]  # components by turns, each with its own noise: what noise can do at worst
    + [(eight, "a", 6.0, s, 0.02) for s in (1.0, 2.0, 5.0)]
    + [(eight, "b", 6.0, 2.0, 0.02)],
)
def test_tight_for_mixtures(make, name, span, sigma, loss):
    """With 6 nodes, one pair of noises at each, within a loss; with more it goes."""
    denoiser = make() if make is eight else make().denoiser()
    draws = denoiser.draw(250, 1)
    few, few_error = lost(denoiser, draws, sigma, name, span=span, nodes=6)
    many, many_error = lost(denoiser, draws, sigma, name, span=span, nodes=12, pairs=16)
    # The loss is the noise's: as the noises grow 32-fold it falls in proportion, so nothing else is left.
    assert -1e-12 < many < few / 32 + 3 * (many_error + few_error / 32) + 1e-5
    assert few < loss
    shrunk = Wrong(denoiser, lambda free, given, *_: free + 0.4 * (given - free))
    wrong, wrong_error = lost(shrunk, draws, sigma, name, exact=denoiser, span=span, nodes=12, pairs=4)
    assert wrong > few / 32 + 3 * (wrong_error + few_error / 32) + 1e-5  # what the tolerance would catch


def test_tight_for_a_finite_set():
    data = random_set(0, items=120)
    denoiser, draws = FiniteDenoiser(data), draw_items(data, 60, 1)
    for sigma, name in ((0.3, "many"), (0.6, "many"), (0.3, "word")):
        few, _ = lost(denoiser, draws, sigma, name, span=2.0, nodes=6)
        many, error = lost(denoiser, draws, sigma, name, span=2.0, nodes=12, pairs=8)
        assert many < 0.01 + 3 * error
        assert many < few


def test_more_noises_can_only_raise_the_bound():
    """Gains of 4 noises against those of each one: the average is the better posterior, on average over y."""
    denoiser = eight()
    draws = denoiser.draw(300, 2)
    one = np.mean([lost(denoiser, draws, 2.0, "b", seed=s, span=6.0, nodes=4)[0] for s in range(4)])
    four, _ = lost(denoiser, draws, 2.0, "b", span=6.0, nodes=4, pairs=4)
    assert four < 0.5 * one


def test_asks_no_unconditional_and_nothing_above():
    true, levels = mixture().denoiser(), []

    class Conditional(Denoiser):
        event, attributes = true.event, true.attributes

        def forward(self, y, sigma, known=None):
            assert known
            levels.append(float(sigma.max()))
            return true(y, sigma, known)

    y = torch.zeros(5, 1, dtype=torch.float64)
    likelihood_posterior(
        Conditional(), "side", y, 1.0, Streams(0, rows(5), (1,)), span=2.0, nodes=3, pairs=2, highest=4.0
    )
    assert len(levels) == 2 * 3 * 2 * 2  # values, nodes, pairs, signs
    assert min(levels) > 1.0
    assert max(levels) < 4.0


def test_a_row_is_the_same_whatever_is_beside_it():
    denoiser = eight()
    draws = denoiser.draw(20, 0)
    y = draws.v + draws.noise

    def gains(count, batch=None):
        noise = Streams(4, rows(count), (8,))
        return likelihood_posterior(denoiser, "b", y[:count], 1.0, noise, span=6.0, nodes=3, batch=batch)

    whole = gains(20)
    assert torch.allclose(gains(20, 7), whole, rtol=1e-9, atol=1e-12)
    assert torch.allclose(gains(6), whole[:6], rtol=1e-9, atol=1e-12)
    assert float(whole.std()) > 0.5


def test_values_that_never_occur():
    plain = mixture().denoiser()
    gap = MixtureDenoiser(
        plain.log_weight.exp(), plain.means, plain.variances[:, 0], {"side": [0, 0, 2, 2]}, {"side": ("l", "none", "r")}
    )
    draws = gap.draw(300, 1)
    found, error = lost(gap, draws, 1.0, "side", span=2.0, nodes=12, pairs=4)
    assert found < 6e-4 + 3 * error
    gains = likelihood_posterior(gap, "side", draws.v, 1.0, Streams(0, rows(300), (1,)), span=2.0, nodes=2)
    assert gains[:, 1].tolist() == [0.0] * 300
    sigma = np.array([2.0, 1.0])
    path = markov_path(draws.v, sigma, Streams(0, rows(300), (1,)))
    log_q, _ = path_posterior(gap, "side", path, sigma)
    curve = tempered(gap.attribute("side"), sigma, log_q, draws.labels["side"], log_q, draws.labels["side"])
    assert np.isfinite(curve.per_draw).all()
    assert curve.value[1] > 0.1


def test_what_is_not_finite_says_nothing():
    true = mixture().denoiser()
    broken = Wrong(true, lambda free, given, y, *_: torch.where(y > 0, torch.inf, given))
    y = torch.tensor([[30.0], [-30.0]], dtype=torch.float64)
    gains = likelihood_posterior(broken, "side", y, 0.5, Streams(0, rows(2), (1,)), span=0.5, nodes=2, highest=2.0)
    assert gains[0].tolist() == [0.0, 0.0]
    assert float(gains[1].abs().min()) > 0
    bad = torch.tensor([[[0.0, torch.nan], [1.0, 0.0], [2.0, 0.0]]])
    curve = likelihood_bound(COIN, np.array([1.0]), bad, torch.zeros(3).long(), bad, torch.zeros(3).long())
    assert np.isfinite(curve.value).all()
    assert curve.per_draw[0, 0] == 0


class Net(Denoiser):
    """A random network, given the label by an embedding; float32, no preconditioning."""

    def __init__(self, true, seed, size):
        super().__init__()
        self.event, self.attributes = true.event, true.attributes
        g = generator(seed, 11)
        shapes = ((32, 1), (32, 1), (32, 2), (32, 32), (1, 32))
        self.w = nn.ParameterList([nn.Parameter(torch.randn(a, b, generator=g) / b**0.5) for a, b in shapes])
        self.size = size

    def forward(self, y, sigma, known=None):
        label = next(iter(known.values())) if known else torch.full((len(y),), -1)
        code = nn.functional.one_hot(label + 1, 3)[:, 1:].float()
        h = y.float() @ self.w[0].T + sigma[:, None].float().log() @ self.w[1].T + code @ self.w[2].T
        return (self.size * torch.tanh(torch.tanh(h) @ self.w[3].T) @ self.w[4].T).to(y.dtype)


def wrecks():
    """Denoisers that are wrong in every way that came to mind, of an attribute with two values."""
    true = mixture().denoiser()
    changes = {
        f"apart by {k:g}": lambda free, given, *_, k=k: free + k * (given - free) for k in (0, 0.3, 2, 5, 30, -1)
    }
    changes |= {f"all times {k:g}": lambda free, given, *_, k=k: k * given for k in (0, 0.5, 3, -2, 1e3)}
    changes |= {f"pushed by {k:g}": lambda free, given, *_, k=k: given + k for k in (0.5, 20.0)}
    changes |= {
        "swapped": lambda free, given, *_: 2 * free - given,
        "huge": lambda free, given, y, *_: 1e12 * torch.sin(1e3 * y) * given,
        "noise": lambda free, given, y, *_: given + torch.sin(7e4 * y),
        "bent": lambda free, given, y, s, label: given + (0 if label is None else torch.sin(3 * y + label[:, None])),
        "level": lambda free, given, y, s, label: given * (1 + torch.sin(9 * s.log())),
        "knows": lambda free, given, y, s, label: given if label is None else 10.0 * label[:, None] + 0 * y,
        "y": lambda free, given, y, *_: y + 0.1 * given,
    }
    found = {name: Wrong(true, change) for name, change in changes.items()}
    found |= {f"network {size:g} of {seed}": Net(true, seed, size) for seed in (0, 1, 2) for size in (3.0, 1e8)}
    return true, found


SIGMA = np.geomspace(20.0, 0.15, 13)
KEPT = np.array([4, 6, 8, 10, 12])


def plain_noise(count, seed):
    """Noise of rows of one number, from one stream."""
    g = generator(seed, 3)
    return lambda: torch.randn(count, 1, generator=g, dtype=torch.float64)


def likelihood_bound(a, sigma, gains_fit, own_fit, gains, own):
    """The bound of gains g = ln q - ln p, whose temperature is fitted on others."""
    return tempered(a, sigma, gains_fit + a.prior.log(), own_fit, gains + a.prior.log(), own)


def judged(denoiser, draws, name, fit, rest, own):
    """Both bounds of one denoiser at the levels kept, fitted on some draws and judged on the others by ``own``."""
    a, label = denoiser.attributes[0], draws.labels[name]
    assert a.name == name
    gains = []
    for j in KEPT.tolist():
        y, s = draws.v + SIGMA[j] * draws.noise, float(SIGMA[j])
        gains.append(likelihood_posterior(denoiser, name, y, s, plain_noise(len(y), j), span=2.0, nodes=3))
    gains = torch.stack(gains)
    path = markov_path(draws.v, SIGMA, plain_noise(len(draws), 99))
    log_q, _ = path_posterior(denoiser, name, path, SIGMA)
    log_q = log_q[KEPT]
    yield likelihood_bound(a, SIGMA[KEPT], gains[:, fit], label[fit], gains[:, rest], own)
    yield tempered(a, SIGMA[KEPT], log_q[:, fit], label[fit], log_q[:, rest], own)


def test_no_wreck_passes_the_truth_and_score_gaps_do():
    true, broken = wrecks()
    assert len(broken) >= 20
    draws = true.draw(1200, 4)
    fit, rest = slice(0, 400), slice(400, 1200)
    own = draws.labels["side"][rest]
    permuted = own[torch.randperm(800, generator=generator(1))]
    truth = np.array([mixture().information("side", s) for s in SIGMA])
    above, useful = 0, 0
    for name, denoiser in broken.items():
        for curve in judged(denoiser, draws, "side", fit, rest, own):
            assert curve.kind == "lower bound"
            assert np.all(curve.value < truth[KEPT] + 3.5 * curve.stderr + 1e-9), name
            useful += bool(curve.value.max() > 0.25)
        for curve in judged(denoiser, draws, "side", fit, rest, permuted):
            assert np.all(curve.value < 3.5 * curve.stderr + 1e-9), name
        gap = score_gap(true.attribute("side"), SIGMA, direct_gap(denoiser, draws, SIGMA, "side"))
        above += bool((gap.value > truth + 3.5 * gap.stderr + 1e-9).any())
    assert above >= 12  # estimates that are no bounds
    assert useful >= 16  # and these are not bounds by being nothing


def biased(same, seeds=400, draws=4, truth=0.0):
    """Mean over seeds of the bound less the information of a weak signal, given three times too loud; its error."""
    found = []
    for seed in range(seeds):
        g = generator(seed, 5)
        own = torch.randint(2, (2 * draws,), generator=g)
        y = 2.0 * own - 1 + 6.0 * torch.randn(2 * draws, generator=g, dtype=torch.float64)
        gains = 3 * torch.stack([-y, y], 1)[None] / 36
        fit = slice(draws, 2 * draws) if same else slice(0, draws)
        f, o = gains[:, fit], own[fit]
        curve = likelihood_bound(COIN, np.array([6.0]), f, o, gains[:, draws:], own[draws:])
        found.append(curve.value[0])
    return np.mean(found) - truth, np.std(found) / seeds**0.5


def test_a_fit_on_the_same_few_draws_is_flattered_and_on_others_it_is_not():
    truth = 0.0137  # of two points at sigma = 6
    same, same_error = biased(True, truth=truth)
    other, other_error = biased(False, truth=truth)
    assert same > 3 * same_error
    assert other < 3 * other_error


def test_temperature_is_found():
    true = mixture().denoiser()
    draws = true.draw(4000, 2)
    a, own = true.attribute("side"), draws.labels["side"]
    exact = true.log_posterior(draws.v + draws.noise, torch.ones(4000, dtype=torch.float64), "side") - a.prior.log()
    for loud in (0.2, 3.0, 1e5, 1e30):
        assert fitted_temperature(a, exact * loud, own) == pytest.approx(1 / loud, rel=0.1)
    assert fitted_temperature(a, -exact, own) < 0.05
    assert fitted_temperature(a, 1e-6 * exact, own) == 1.0  # too quiet for any temperature to matter
    certain = 50 * torch.nn.functional.one_hot(own, 2).double()
    assert fitted_temperature(a, certain, own) == 1.0
    assert fitted_temperature(a, torch.zeros(4000, 2, dtype=torch.float64), own) == 1.0
    loud = log_ratio(a, 3 * exact, own)
    curve = likelihood_bound(a, np.ones(1), 3 * exact[None, :2000], own[:2000], 3 * exact[None, 2000:], own[2000:])
    assert curve.value[0] > float(loud[2000:].mean()) + 5 * curve.stderr[0]
    assert curve.value[0] == pytest.approx(float(log_ratio(a, exact, own)[2000:].mean()), abs=2e-3)


def test_each_level_has_its_own_temperature():
    true = mixture().denoiser()
    a, draws = true.attribute("side"), true.draw(600, 3)
    own, fit, rest = draws.labels["side"], slice(0, 300), slice(300, 600)
    exact = true.log_posterior(draws.v + draws.noise, torch.ones(600, dtype=torch.float64), "side") - a.prior.log()
    gains = torch.stack([exact, 50 * exact])
    both = likelihood_bound(a, np.array([2.0, 1.0]), gains[:, fit], own[fit], gains[:, rest], own[rest])
    for j in (0, 1):
        one = likelihood_bound(a, np.ones(1), gains[j : j + 1, fit], own[fit], gains[j : j + 1, rest], own[rest])
        assert np.allclose(both.per_draw[j], one.per_draw[0], rtol=1e-12)
    assert np.allclose(both.value, both.value[0], atol=0.01)


def test_no_draw_costs_more_than_the_share_of_the_prior():
    gains = torch.tensor([[1e9, 0.0]])
    own = torch.tensor([1])
    assert float(log_ratio(COIN, gains, own, 1.0, prior_share(50))) == pytest.approx(math.log(0.01))
    assert float(log_ratio(COIN, gains, own, 0.0)) == 0.0
    fit, label = torch.tensor([[[99.0, 0.0]] * 5]).double(), torch.zeros(5).long()
    curve = likelihood_bound(COIN, np.ones(1), fit, label, fit, torch.tensor([0, 0, 0, 0, 1]))
    assert curve.per_draw[0, 4] == pytest.approx(math.log(0.1))


def test_the_standard_error_covers():
    """Overconfident gains: over seeds the bound lies within two standard errors of its own mean in 95 %."""
    true = mixture().denoiser()
    a = true.attribute("side")

    def gains(count, seed):
        draws = true.draw(count, seed)
        level = torch.full((count,), 0.7, dtype=torch.float64)
        return 4 * (true.log_posterior(draws.v + 0.7 * draws.noise, level, "side") - a.prior.log()), draws.labels[
            "side"
        ]

    fit, own_fit = gains(300, 10_000)
    big, own_big = gains(100_000, 10_001)
    mean = float(log_ratio(a, big, own_big, fitted_temperature(a, fit, own_fit), prior_share(300)).mean())
    apart = []
    for seed in range(300):
        g, own = gains(200, seed)
        curve = likelihood_bound(a, np.array([0.7]), fit[None], own_fit, g[None], own)
        apart.append((curve.value[0] - mean) / curve.stderr[0])
    within = np.mean(np.abs(apart) < 1.96)
    allowed = 3 * math.sqrt(0.05 * 0.95 / 300)
    assert abs(within - 0.95) < allowed
    assert np.mean(np.abs(apart) < 1.96 / 1.5) < 0.95 - allowed  # errors too small by a third would show


def test_tempered_is_the_path_bound_at_one_and_mends_a_loud_network():
    true = mixture().denoiser()
    a, draws = true.attribute("side"), true.draw(1600, 6)
    own, fit, rest = draws.labels["side"], slice(0, 800), slice(800, 1600)
    path = markov_path(draws.v, SIGMA, Streams(7, rows(1600), (1,)))
    for k in (1.0, 4.0):
        denoiser = Wrong(true, lambda free, given, *_, k=k: free + k * (given - free))
        log_q, rough = path_posterior(denoiser, "side", path, SIGMA)
        plain = path_bound(a, SIGMA, log_q[:, rest], rough[:, rest], own[rest])
        found = tempered(a, SIGMA, log_q[:, fit], own[fit], log_q[:, rest], own[rest])
        assert found.estimator == "filter"
        assert found.same_draws(plain)
        apart = found.per_draw - plain.per_draw
        error = apart.std(1) / 800**0.5
        if k == 1.0:
            assert np.all(np.abs(apart.mean(1)) < 0.02)
        else:
            assert np.all(apart.mean(1)[6:] > 0.1 + 3 * error[6:])


def test_tempered_gains_nothing_where_the_path_says_nothing():
    skew = Attribute("a", ("x", "y"), torch.tensor([0.9, 0.1], dtype=torch.float64))
    log_q, own = skew.prior.log().expand(1, 50, 2), torch.arange(50) % 2
    assert tempered(skew, np.ones(1), log_q, own, log_q, own).value[0] == pytest.approx(0.0, abs=1e-12)


def test_input_that_does_not_fit():
    y, noise = torch.zeros(3, 1, dtype=torch.float64), Streams(0, rows(3), (1,))
    true = mixture().denoiser()
    with pytest.raises(InputError, match="choose among side, width"):
        likelihood_posterior(true, "hue", y, 1.0, noise, span=1.0)
    for how in ({"pairs": 0}, {"batch": 0}):
        with pytest.raises(InputError, match="both must be positive"):
            likelihood_posterior(true, "side", y, 1.0, noise, span=1.0, **how)
    g, own = torch.zeros(1, 3, 2, dtype=torch.float64), torch.zeros(3).long()
    three = Attribute("a", ("x", "y", "z"), torch.full((3,), 1 / 3, dtype=torch.float64))
    with pytest.raises(InputError, match="expected \\(1, 3, 3\\)"):
        tempered(three, np.array([1.0]), g, own, g, own)
    with pytest.raises(InputError, match="at least 2 draws"):
        tempered(COIN, np.array([1.0]), g[:, :1], own[:1], g, own)
