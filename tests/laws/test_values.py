"""Information about single values, and of single images, against quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from problems import Line, mixture, random_set
from sigmascope.core import Attribute, Denoiser, InputError, generator
from sigmascope.data import draw_items
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.pointwise import pointwise
from sigmascope.information.posterior import by_value, posterior

LEVELS = np.array([20.0, 8.0, 4.0, 2.0, 1.0, 0.4])


def two() -> Line:
    return Line(np.array([-1.0, 1.0]), {"of": np.array([0, 1])}, np.array([0.25, 0.75]))


def four() -> Line:
    """The four points of the truths, with unequal weights."""
    return Line(np.array([-8.0, -4.0, 6.0, 8.0]), {"of": np.arange(4)}, np.array([0.1, 0.2, 0.3, 0.4]))


def odds(line: Line, y: np.ndarray, sigma: float) -> np.ndarray:
    """p(a | y) / p(a), shape (y, values)."""
    z = (y[:, None] - line.points) / sigma
    logit = np.log(line.weights) - 0.5 * z**2
    p = np.exp(logit - logit.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True) / line.weights


def divergence(line: Line, a: int, sigma: float) -> float:
    """KL(p(y | a) || p(y)) by quadrature against the density of Y conditional a: not the way the package takes."""
    y, step = np.linspace(line.points[a] - 12 * sigma, line.points[a] + 12 * sigma, 20_001, retstep=True)
    density = stats.norm.pdf(y, line.points[a], sigma)
    return float((density * np.log(np.maximum(odds(line, y, sigma)[:, a], 1e-300))).sum() * step)


def drawn(line: Line, draws: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """ln p(a | y) of draws at all levels, and the drawn values."""
    rng = np.random.default_rng(seed)
    k = rng.choice(len(line.points), draws, p=line.weights)
    y = line.points[k] + LEVELS[:, None] * rng.normal(size=draws)
    p = np.stack([odds(line, row, s) * line.weights for row, s in zip(y, LEVELS, strict=True)])
    return torch.from_numpy(p).log(), k


def attribute(line: Line) -> Attribute:
    values = tuple("abcd"[: len(line.points)])
    return Attribute("of", values, torch.from_numpy(line.weights))


@pytest.mark.parametrize("line", [two(), four()], ids=["two", "four"])
def test_values_are_found_and_their_intervals_hold(line):
    draws, repeats = 256, 400
    truth = np.array([[divergence(line, a, s) for s in LEVELS] for a in range(len(line.points))])
    found = [by_value(attribute(line), LEVELS, drawn(line, draws, seed)[0]) for seed in range(repeats)]
    value = np.array([[c.value for c in f.values()] for f in found])
    stderr = np.array([[c.stderr for c in f.values()] for f in found])
    # Nearly decided, hardly a draw in all the repeats says otherwise; that end has a test of its own.
    open_ = (truth > 0.02 * -np.log(line.weights)[:, None]) & (truth < 0.9 * -np.log(line.weights)[:, None])
    assert open_.sum() >= 6
    bias = (value.mean(0) - truth)[open_]
    assert np.all(np.abs(bias) < 4.5 * value.std(0, ddof=1)[open_] / math.sqrt(repeats))
    coverage = (np.abs(value - truth) < 1.96 * stderr).mean(0)[open_]
    assert np.all(coverage > 0.95 - 0.02 - 4 * math.sqrt(0.05 * 0.95 / repeats))
    assert abs(coverage.mean() - 0.95) < 0.03
    assert np.all((np.abs(value - truth) < 0.98 * stderr).mean(0)[open_] < 0.80)  # half the interval holds 67 %


def test_values_add_up_to_the_attribute_draw_by_draw():
    line = four()
    a, log_p = attribute(line), drawn(line, 64, 0)[0]
    whole, parts = posterior(a, LEVELS, log_p), by_value(a, LEVELS, log_p)
    together = sum(w * parts[v].per_draw for w, v in zip(line.weights, a.values, strict=True))
    assert np.allclose(together, whole.per_draw, atol=1e-12, rtol=0)
    assert [c.ceiling for c in parts.values()] == pytest.approx(-np.log(line.weights))


def test_every_draw_says_more_than_those_of_one_value():
    """The docstring's comparison, around half information."""
    line = four()
    log_p, k = drawn(line, 20_000, 1)
    for a, curve in enumerate(by_value(attribute(line), LEVELS, log_p).values()):
        truth = np.array([divergence(line, a, s) for s in LEVELS])
        j = int(np.abs(truth + 0.5 * np.log(line.weights[a])).argmin())
        own = (log_p[j, k == a, a] - math.log(line.weights[a])).numpy()
        assert abs(own.mean() - truth[j]) < 4 * own.std() / math.sqrt(len(own))
        assert 1.4 < own.std() / math.sqrt(len(own)) / curve.stderr[j] < 3.0


def test_bias_of_the_ratio_that_is_not_used():
    """To first order it is -E[(r - 1) r (ln r - i)] / draws; the one in use has none."""
    line, draws, repeats, j = four(), 100, 8_000, 2
    log_p, _ = drawn(line, draws * repeats, 2)
    r = (log_p[j, :, 0].exp() / line.weights[0]).numpy()
    truth = divergence(line, 0, LEVELS[j])
    spent = np.where(r > 0, r * np.log(np.maximum(r, 1e-300)), 0.0)
    ratio = spent.reshape(repeats, draws).sum(1) / r.reshape(repeats, draws).sum(1)
    expected = -float(((r - 1.0) * (spent - truth * r)).mean()) / draws
    bias, error = ratio.mean() - truth, ratio.std() / math.sqrt(repeats)
    assert bias < -10 * error
    assert 0.5 < bias / expected < 1.5
    plain = (spent + (r - 1.0) * math.log(line.weights[0])).mean()
    assert abs(plain - truth) < 4 * (spent + (r - 1.0) * math.log(line.weights[0])).std() / math.sqrt(len(r))


def test_a_value_that_nothing_has_is_left_out():
    a = Attribute("of", ("a", "never", "b"), torch.tensor([0.5, 0.0, 0.5]))
    log_p = torch.tensor([[[0.3, 0.0, 0.7], [0.9, 0.0, 0.1]]]).double().log()
    found = by_value(a, np.array([1.0]), log_p)
    assert list(found) == ["a", "b"]
    assert all(np.isfinite(c.per_draw).all() for c in found.values())


def test_decided_values_have_no_error():
    a = Attribute("of", ("a", "b"), torch.tensor([0.1, 0.9], dtype=torch.float64))
    log_p = torch.tensor([[[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 20]).double().log()
    for value, curve in by_value(a, np.array([1.0]), log_p).items():
        assert curve.value[0] == pytest.approx(curve.ceiling)
        assert curve.stderr[0] < 1e-12, value


def test_one_image_by_quadrature():
    """Mean and spread over noises of ln p(a | y) / p(a), for an image between two points that is none of them."""
    line, v = two(), 0.3
    found = pointwise(FiniteDenoiser(line.data()), torch.tensor([v]), LEVELS, noises=4000)["of"]
    for j, s in enumerate(LEVELS):
        n, step = np.linspace(-10, 10, 20_001, retstep=True)
        mass = stats.norm.pdf(n) * step
        x = (odds(line, v + s * n, s)[:, 0] * 1.0).clip(1e-300)
        mean = float((mass * np.log(x)).sum())
        spread = math.sqrt(float((mass * (np.log(x) - mean) ** 2).sum()))
        assert abs(found.mean[j, 0] - mean) < 4 * spread / math.sqrt(4000) + 1e-9
        assert found.spread[j, 0] == pytest.approx(spread, rel=0.1)
        assert found.stderr[j, 0] == pytest.approx(found.spread[j, 0] / math.sqrt(4000))


def test_over_images_it_is_the_information():
    line = two()
    denoiser, total = FiniteDenoiser(line.data()), np.zeros(len(LEVELS))
    error2 = np.zeros(len(LEVELS))
    for k, weight in enumerate(line.weights):
        one = pointwise(denoiser, torch.tensor(line.points[k : k + 1]).float(), LEVELS, ["of"], noises=6000, seed=k)
        total += weight * one["of"].mean[:, k]
        error2 += (weight * one["of"].stderr[:, k]) ** 2
    truth = np.array([line.information("of", s) for s in LEVELS])
    assert np.all(np.abs(total - truth) < 4 * np.sqrt(error2) + 1e-9)


def test_one_image_of_a_continuous_law_and_of_many_shapes():
    """A mixture has no levels at once, a finite set has: both are what all_log_posteriors says."""
    data = random_set(3)
    cases = [(mixture().denoiser(), torch.tensor([0.4])), (FiniteDenoiser(data), draw_items(data, 2, 0).v[0])]
    for denoiser, v in cases:
        found = pointwise(denoiser, v, LEVELS, noises=5, seed=3)
        assert list(found) == [a.name for a in denoiser.attributes]
        for a in denoiser.attributes:
            # The first noises are those of a longer run.
            longer = pointwise(denoiser, v, LEVELS, [a.name], noises=9, seed=3)[a.name]
            assert np.allclose(found[a.name].per_noise, longer.per_noise[:, :5], atol=1e-9)
            p = np.exp(longer.per_noise) * a.prior.numpy()
            assert np.allclose(p.sum(2), 1.0)
        some = pointwise(denoiser, v, LEVELS[2:3], noises=2, seed=3)
        noise = torch.stack([torch.randn(*v.shape, generator=generator(3, j)) for j in range(2)]).double()
        y = v.double() + LEVELS[2] * noise
        direct = denoiser.all_log_posteriors(y, torch.full((2,), LEVELS[2]).double())
        for a in denoiser.attributes:
            expected = (direct[a.name] - a.prior.log()).numpy()
            assert np.allclose(some[a.name].per_noise[0], expected, atol=1e-9)


class Blind(Denoiser):
    """It knows no posterior."""

    event, attributes = (1,), ()

    def forward(self, y, sigma, known=None):
        return y


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"v": torch.zeros(2)}, "shape"),
        ({"v": torch.tensor([torch.nan])}, "finite"),
        ({"sigma": np.array([1.0, 2.0])}, "decrease"),
        ({"sigma": np.array([1.0, 0.0])}, "greater than 0"),
        ({"noises": 1}, "at least 2"),
        ({"attributes": ["colour"]}, "choose among of"),
        ({"denoiser": Blind()}, "no posterior"),
    ],
)
def test_what_cannot_be_one_image_is_refused(change, said):
    given = {"denoiser": FiniteDenoiser(two().data()), "v": torch.zeros(1), "sigma": LEVELS} | change
    with pytest.raises(InputError, match=said) as caught:
        pointwise(**given)
    assert "\n" not in str(caught.value)
