"""Probes: bounds below the truth, near it where a linear rule is the truth, chosen without the draws that judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sigmascope.information.probes as module
from problems import four_points, mixture, points, two_points
from sigmascope.core import Attribute, Draws, InputError, generator
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.probes import HasFeatures, classifier_bound, probe, probes

SIGMA = np.array([8.0, 4.0, 2.0, 1.0, 0.5])
UNIFORM = Attribute("null", ("0", "1", "2"), torch.full((3,), 1 / 3, dtype=torch.float64))


def draws_of(m, n, seed):
    """Draws of a mixture, with labels; and random ones."""
    g = generator(seed)
    k = torch.multinomial(torch.from_numpy(m.weights), n, True, generator=g)
    v = torch.from_numpy(m.means)[k] + torch.from_numpy(m.spread)[k] * torch.randn(n, generator=g, dtype=torch.float64)
    labels = {name: torch.from_numpy(a)[k] for name, a in m.labels.items()}
    labels["null"] = torch.randint(3, (n,), generator=g)
    return Draws(torch.arange(n), v[:, None].float(), torch.randn(n, 1, generator=g), labels)


def attribute(m, name):
    prior = np.bincount(m.labels[name], weights=m.weights)
    return Attribute(name, tuple(map(str, range(len(prior)))), torch.from_numpy(prior))


def truth_of(m, name, sigma=SIGMA):
    return np.array([m.information(name, s) for s in sigma])


class Exact:
    """The exact posteriors of a mixture, as a classifier."""

    def __init__(self, m):
        self.exact, self.names = m.denoiser(), list(m.labels)

    def all_log_posteriors(self, y, sigma):
        return {a: self.exact.log_posterior(y.double(), sigma.double(), a) for a in self.names}


class Seeing:
    """A denoiser one of whose blocks holds what a line of y does not, and the other nothing."""

    def features(self, y, sigma):
        p = FiniteDenoiser(four_points().data()).log_posterior(y, sigma, "alternate")
        return {"knows": p.clamp_min(-50.0), "blind": torch.ones(len(y), 5)}


@pytest.mark.parametrize(("problem", "name"), [(two_points, "sign"), (four_points, "point"), (four_points, "coarse")])
def test_a_linear_rule_that_is_the_truth_is_found(problem, name):
    """The posterior of the points themselves is a linear rule; of the coarse split, to 1 % of H(A)."""
    m = points(problem())
    a, test = attribute(m, name), draws_of(m, 4000, 2)
    curve = probes([a], draws_of(m, 3000, 1), test, SIGMA, "noisy", shares=(1.0,))[name].curve
    assert curve.kind == "lower bound"
    assert curve.estimator == "probes:noisy"
    assert curve.per_draw.shape == (5, 4000)
    assert np.all(curve.value <= truth_of(m, name) + 4 * curve.stderr)
    lost = classifier_bound(Exact(m), [a], test, SIGMA)[name].per_draw - curve.per_draw
    error = lost.std(1, ddof=1) / 4000**0.5
    assert np.all(lost.mean(1) >= -4 * error)
    assert np.all(lost.mean(1) <= 0.01 * a.entropy + 4 * error)


@pytest.mark.parametrize("name", ["side", "width"])
def test_below_the_truth_of_a_mixture(name):
    m = mixture()
    curve = probes([attribute(m, name)], draws_of(m, 800, 3), draws_of(m, 4000, 4), SIGMA, "noisy", shares=(1.0,))
    curve = curve[name].curve
    assert np.all(curve.value <= truth_of(m, name) + 4 * curve.stderr)
    assert np.all(curve.value >= -4 * curve.stderr)


def test_what_a_line_cannot_say_the_features_can():
    m = points(four_points())
    a, train, test = attribute(m, "alternate"), draws_of(m, 2000, 5), draws_of(m, 3000, 6)
    truth = truth_of(m, "alternate")
    assert isinstance(Seeing(), HasFeatures)

    def bound(where, block=None):
        found = probes([a], train, test, SIGMA, where, denoiser=Seeing(), block=block, shares=(1.0,))
        return found["alternate"].curve

    noisy, all_blocks, knows = bound("noisy"), bound("features"), bound("features", "knows")
    assert all_blocks.estimator == "probes:features"
    assert noisy.value[-1] < 0.3 * truth[-1]
    for curve in (all_blocks, knows):
        assert np.all(np.abs(curve.value - truth) <= 0.02 * a.entropy + 4 * curve.stderr)
        assert np.all(curve.value <= truth + 4 * curve.stderr)
    blind = bound("features", "blind")  # no more than the frequencies of 2,000 draws
    assert np.all(np.abs(blind.value) < 0.005)


def test_the_prior_knows_nothing():
    m = mixture()
    a, test = attribute(m, "side"), draws_of(m, 500, 8)
    found = probes([a], draws_of(m, 100, 7), test, SIGMA, "prior")["side"]
    assert np.all(found.curve.value == 0)
    assert np.all(found.learning == 0)
    often = float(a.prior.argmax())
    assert np.allclose(found.accuracy, float((test.labels["side"] == often).double().mean()))
    assert np.allclose(found.log_score, float(a.prior.log()[test.labels["side"]].mean()))


def test_random_labels_have_no_information():
    m = mixture()
    found = probes([UNIFORM], draws_of(m, 300, 9), draws_of(m, 3000, 10), SIGMA, "noisy")["null"]
    assert np.all(found.curve.value <= 4 * found.curve.stderr)
    assert np.all(found.curve.value > -0.02)


def wide(n, seed, inputs=60):
    """Two classes apart by one in one of many directions of unit spread: at sigma it is hypot(1, sigma)."""
    g = generator(seed)
    a = torch.randint(2, (n,), generator=g)
    v = torch.randn(n, inputs, generator=g)
    v[:, 0] += a - 0.5
    return Draws(torch.arange(n), v, torch.randn(n, inputs, generator=g), {"a": a})


HALVES = Attribute("a", ("0", "1"), torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_more_draws_raise_the_bound():
    """A linear rule is the truth, but 60 directions hide it: the bound rises with the draws and stays below."""
    sigma = np.array([1.0, 0.3])
    truth = np.array([two_points(0.5).information("sign", np.hypot(1.0, s)) for s in sigma])
    train, test = wide(1200, 11), wide(4000, 12)
    found = probes([HALVES], train, test, sigma, "noisy", shares=(0.1, 0.5, 1.0))["a"]
    error = found.curve.stderr
    assert found.trained_on.tolist() == [120, 600, 1200]
    assert np.array_equal(found.learning[:, -1], found.curve.value)
    assert np.all(found.curve.value <= truth + 4 * error)
    assert found.learning[-1, -1] > found.learning[-1, 0] + 4 * error[-1]
    assert "from 600 to 1,200 draws the bound rises by at most" in found.note


def test_seen_draws_would_flatter_and_cross_validation_keeps_from_harm(monkeypatch):
    """160 draws in 60 directions can be separated whatever their labels: on them a free regression claims more than
    there is, and on others it does worse than the prior; what cross-validation chooses does not."""
    sigma = np.array([0.3])
    truth = two_points(0.5).information("sign", np.hypot(1.0, 0.3))
    few, test = wide(160, 13), wide(4000, 12)

    def bound(judged):
        return probes([HALVES], few, judged, sigma, "noisy", shares=(1.0,))["a"].curve

    careful = bound(test)
    assert -4 * careful.stderr[0] <= careful.value[0] <= truth + 4 * careful.stderr[0]
    monkeypatch.setattr(module, "_DIRECTIONS", (60,))
    monkeypatch.setattr(module, "_STRENGTHS", (100.0,))
    monkeypatch.setattr(module, "_PRIOR_SHARES", (1e-4,))
    seen, free = bound(few), bound(test)
    assert seen.value[0] > truth + 4 * seen.stderr[0]
    assert free.value[0] < -4 * free.stderr[0]


def test_scale_and_place_of_what_is_read_do_not_matter():
    m = mixture()
    a, train, test = attribute(m, "side"), draws_of(m, 300, 14), draws_of(m, 300, 15)

    def bound(scale, by):
        moved = [Draws(d.items, scale * d.v.double() + by, scale * d.noise.double(), d.labels) for d in (train, test)]
        return probes([a], *moved, SIGMA, "noisy", shares=(1.0,))["side"].curve.value

    assert np.allclose(bound(1e4, 1e6), bound(1.0, 0.0), atol=1e-6)


def test_values_that_training_lacks_have_a_probability():
    g = np.random.default_rng(0)
    x, prior = g.normal(size=(60, 3)), np.array([0.5, 0.3, 0.2])
    own = (x[:, 0] > 0).astype(np.int64)
    q = probe(x, own, x, prior)
    assert np.all(q > 0)
    assert np.allclose(q.sum(1), 1)
    assert np.mean(q.argmax(1) == own) > 0.8
    alone = probe(x, np.zeros(60, dtype=np.int64), x, prior)
    assert np.all(alone > 0)
    assert np.all(alone[:, 0] > 0.9)


def test_same_seed_same_bound_and_warnings_stay_inside(recwarn, monkeypatch):
    """A regression that is stopped before its end is a probe like any other."""
    monkeypatch.setattr(module, "_STEPS", 3)
    m = points(two_points())
    a, train, test = attribute(m, "sign"), draws_of(m, 60, 16), draws_of(m, 60, 17)
    first, again = (probes([a], train, test, np.array([0.01]), "noisy")["sign"].curve.value for _ in range(2))
    assert np.array_equal(first, again)
    assert first[0] > 0.98 * np.log(2)
    assert not recwarn.list


def test_what_cannot_be_used():
    m = mixture()
    a, train, test = attribute(m, "side"), draws_of(m, 60, 18), draws_of(m, 60, 19)
    for message, arguments in {
        "expected one of noisy, features, prior": {"where": "pixels"},
        "has no features": {"where": "features"},
        "choose among knows, blind": {"where": "features", "denoiser": Seeing(), "block": "down0"},
        "the last of them 1": {"where": "noisy", "shares": (0.5,)},
        "at least 60 and 2 are needed": {"where": "noisy", "shares": (0.1, 1.0), "train": draws_of(m, 40, 1)},
    }.items():
        given = {"train": train, "where": "noisy"} | arguments
        with pytest.raises(InputError, match=message) as found:
            probes([a], given.pop("train"), test, SIGMA, given.pop("where"), **given)
        assert "\n" not in str(found.value)
    with pytest.raises(InputError, match="no labels of 'a'"):
        probes([HALVES], train, test, SIGMA, "noisy")
    assert np.all(probes([a], train, test, SIGMA, "prior")["side"].curve.value == 0)


def test_bound_of_an_exact_classifier_is_the_truth():
    m = mixture()
    curves = classifier_bound(Exact(m), [attribute(m, "side"), attribute(m, "width")], draws_of(m, 5000, 20), SIGMA)
    for name, curve in curves.items():
        assert np.all(np.abs(curve.value - truth_of(m, name)) <= 4 * curve.stderr)
        assert curve.estimator == "classifier"
        assert curve.kind == "lower bound"
