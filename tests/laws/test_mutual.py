"""Mutual information of two arrays against closed forms, quadrature and counts; what makes its verdict doubt it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import binom

from sigmascope.errors import InputError
from sigmascope.mutual import mutual_information
from sigmascope.mutual.columns import normal
from sigmascope.mutual.contrastive import contrastive_bound
from sigmascope.mutual.counting import counted
from sigmascope.mutual.folds import Folds, better
from sigmascope.mutual.gaps import one_way
from sigmascope.mutual.judging import doubts_of
from sigmascope.mutual.linear import coordinates
from sigmascope.mutual.results import Way
from sigmascope.mutual.settings import Settings
from sigmascope.mutual.stacks import Stack

NOTHING = np.zeros((2000, 0))


def pair(seed: int, rho: float, samples: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    x, noise = np.random.default_rng(seed).normal(size=(2, samples))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def gaussian(rho: float) -> float:
    return -0.5 * math.log(1 - rho**2)


def test_correlated_pair():
    result = mutual_information(*pair(0, 0.6), steps=60)
    assert abs(result.value - gaussian(0.6)) < 3 * result.stderr
    assert result.stderr == pytest.approx(0.6 / math.sqrt(2000), rel=0.3)  # the influence has standard deviation rho
    assert result.low < gaussian(0.6) < result.high
    assert result.lower_bound < gaussian(0.6) + 3 * result.lower_bound_stderr
    wrong = mutual_information(*pair(0, 0.75), steps=60)
    assert abs(wrong.value - gaussian(0.6)) > 3 * wrong.stderr


def test_three_columns_and_two():
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(3000, 3)), rng.normal(size=(3000, 2))
    weights = np.array([[0.8, 0.0, 0.4], [0.0, -0.7, 0.7]])
    result = mutual_information(x, x @ weights.T + noise, steps=80)
    truth = 0.5 * math.log(np.linalg.det(np.eye(2) + weights @ weights.T))
    assert abs(result.value - truth) < 3 * result.stderr
    assert result.low < truth < result.high


def test_independent_arrays():
    rng = np.random.default_rng(2)
    result = mutual_information(rng.normal(size=(2000, 2)), rng.exponential(size=(2000, 2)), steps=80)
    assert result.low == 0.0
    assert result.value < 3 * result.stderr + 0.002
    assert result.lower_bound < 3 * result.lower_bound_stderr + 1e-9


def test_dependence_that_no_line_sees():
    rng = np.random.default_rng(3)
    x, noise = rng.normal(size=(2, 2000))
    y = x**2 + 0.5 * noise
    ends, grid = np.linspace(-7, 60, 6001), np.linspace(-6, 6, 1201)
    weight = np.exp(-(grid**2) / 2)
    density = (np.exp(-2 * (ends[:, None] - grid**2) ** 2) * weight).sum(1) / weight.sum()
    density /= density.sum()
    entropy = -(density * np.log(density.clip(1e-300) / (ends[1] - ends[0]))).sum()
    truth = entropy - 0.5 * math.log(2 * math.pi * math.e * 0.25)
    result = mutual_information(x, y, steps=250)
    assert result.linear < 0.05 * truth
    assert result.low < truth < result.high
    assert 0.8 * truth < result.value < truth + 3 * result.stderr
    assert mutual_information(x, y, steps=10).value < 0.5 * truth  # networks that have learned little


def test_class_and_number():
    rng = np.random.default_rng(4)
    kind = rng.integers(0, 3, 3000)
    number = 1.5 * (kind == 1) - 1.5 * (kind == 2) + rng.normal(size=3000)
    grid = np.linspace(-9, 9, 4001)
    each = np.exp(-0.5 * (grid - np.array([[0.0], [1.5], [-1.5]])) ** 2) / math.sqrt(2 * math.pi)
    truth = float((each * np.log(each / each.mean(0))).mean(0).sum() * (grid[1] - grid[0]))
    result = mutual_information(kind, number, steps=200)
    assert [w.noised for w in result.ways] == ["y"]
    assert result.low < truth < result.high
    assert abs(result.value - truth) < 3 * result.stderr + 0.03 * truth
    assert result.lower_bound < truth + 3 * result.lower_bound_stderr


def test_given_a_third():
    rng = np.random.default_rng(5)
    z, u, v, w = rng.normal(size=(4, 3000))
    x, y = 2 * z + u, -z + 0.5 * u + 0.5 * v
    result = mutual_information(x, y, np.stack([z, w], 1), steps=60)
    truth = 0.5 * math.log(2.0)
    assert abs(result.value - truth) < 3 * result.stderr
    assert math.isnan(result.lower_bound)
    assert abs(mutual_information(x, y, steps=60).value - truth) > 5 * result.stderr  # without what is given


def test_counts():
    joint = np.array([[0.3, 0.1], [0.05, 0.15], [0.1, 0.3]])
    rng = np.random.default_rng(6)
    cell = rng.choice(6, size=4000, p=joint.reshape(-1))
    truth = float((joint * np.log(joint / joint.sum(1, keepdims=True) / joint.sum(0))).sum())
    result = mutual_information(cell // 2, cell % 2)
    assert result.method == "counts"
    assert result.trusted
    assert abs(result.value - truth) < 3 * result.stderr
    relabelled = mutual_information(np.array([7, -1, 3])[cell // 2], cell % 2)
    assert relabelled.value == pytest.approx(result.value, abs=1e-12)


def test_counts_given_classes():
    rng = np.random.default_rng(7)
    z = rng.integers(0, 2, 4000)
    x = z ^ (rng.random(4000) < 0.1)
    y = z ^ (rng.random(4000) < 0.1)
    assert mutual_information(x, y).value > 0.2
    result = mutual_information(x, y, z)
    assert result.value < 3 * result.stderr + 1e-3


@pytest.mark.parametrize("interval", [1.0, 0.5])
def test_coverage_of_counts(interval):
    joint = np.array([[0.4, 0.1], [0.2, 0.3]])
    truth = float((joint * np.log(joint / joint.sum(1, keepdims=True) / joint.sum(0))).sum())
    rng, inside, runs = np.random.default_rng(8), 0, 400
    for _ in range(runs):
        cell = rng.choice(4, size=500, p=joint.reshape(-1))
        value, stderr, _ = counted(cell // 2, cell % 2, np.zeros(500, dtype=int))
        inside += abs(value - truth) < 1.96 * stderr * interval
    assert (inside >= binom.ppf(0.001, runs, 0.95)) == (interval == 1.0)


@pytest.mark.parametrize("rho", [0.4, 0.9])
def test_coverage(rho, monkeypatch):
    """Of the interval that a user sees; a third of its part that is sampling does not cover."""
    quick = partial(Settings, levels=6, checkpoints=1, width=8, depth=1, candidates=8)
    monkeypatch.setattr("sigmascope.mutual.estimate.Settings", quick)
    runs, inside, narrow = 64, 0, 0
    for seed in range(runs):
        result = mutual_information(*pair(100 + seed, rho, 240), steps=10, seed=seed)
        inside += result.low <= gaussian(rho) <= result.high
        narrow += abs(result.value - gaussian(rho)) < 0.65 * result.stderr
    assert inside >= binom.ppf(0.001, runs, 0.95)
    assert narrow < binom.ppf(0.001, runs, 0.95)


def test_increasing_maps_change_nothing():
    x, y = pair(9, 0.5, 400)
    plain = mutual_information(x, y, steps=20)
    mapped = mutual_information(np.exp(3 * x), np.arctan(y), steps=20)
    assert mapped.value == plain.value
    assert mapped.lower_bound == plain.lower_bound
    assert mutual_information(x**2, y, steps=20).value != plain.value


def test_the_same_seed_gives_the_same_numbers():
    x, y = pair(10, 0.5, 300)
    one, two, other = (mutual_information(x, y, steps=20, seed=s) for s in (3, 3, 4))
    assert one.value == two.value
    assert one.record() | {"seconds": 0} == two.record() | {"seconds": 0}
    assert other.value != one.value


def test_both_ways_agree():
    result = mutual_information(*pair(11, 0.7), steps=60)
    x, y = result.ways
    assert abs(x.mean - y.mean) < 3 * result.stderr
    swapped = mutual_information(*reversed(pair(11, 0.7)), steps=60)
    assert abs(swapped.value - result.value) < 3 * result.stderr


def test_normal_arrays_stay_and_elliptical_ones_become_normal():
    rng = np.random.default_rng(12)
    rows = rng.normal(size=(4000, 3))
    assert np.corrcoef(normal(rows).T, rows.T)[:3, 3:].diagonal().min() > 0.995
    heavy = rows / np.sqrt(rng.chisquare(2, 4000) / 2)[:, None]
    scores = np.concatenate([normal(c[:, None]) for c in heavy.T], 1)  # each column by itself
    left, before = (np.corrcoef((a**2).T)[0, 1] for a in (normal(heavy), scores))
    assert abs(left) < before / 3
    assert before > 10 / math.sqrt(4000)


def test_the_linear_part_of_many_columns_has_no_bias():
    values = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values.append(coordinates(rng.normal(size=(600, 12)), rng.normal(size=(600, 12)), np.zeros((600, 0))))
    mean = np.mean([c.information() for c in values])
    error = np.std([c.information() for c in values]) / math.sqrt(20)
    assert abs(mean) < 4 * error + 0.003
    assert mean + values[0].bias > 20 * error


def test_noise_of_a_network_moves_the_gaps_and_not_their_mean(monkeypatch):
    """The wrecked network: its two gaps err to both sides, and the verdict says so."""
    whole = Stack.forward

    def noisy(self, x):
        out = whole(self, x)
        return out + 0.15 * torch.randn(out.shape, generator=torch.Generator().manual_seed(x.shape[1]))

    x, noise = np.random.default_rng(13).normal(size=(2, 2000))
    y = x**2 + 0.5 * noise
    plain = mutual_information(x, y, steps=120)
    with monkeypatch.context() as wrecked:
        wrecked.setattr(Stack, "forward", noisy)
        result = mutual_information(x, y, steps=120)
    apart = [r.ways[0].score - r.ways[0].mmse for r in (plain, result)]
    assert apart[1] > apart[0] + 0.05
    assert abs(result.ways[0].mean - plain.ways[0].mean) < 0.25 * apart[1]
    assert "squared errors differ" in result.verdict
    assert result.high - result.low > plain.high - plain.low + 0.1


def test_a_network_worse_than_a_line_is_left_out(monkeypatch):
    x, y = pair(13, 0.6)
    monkeypatch.setattr(Stack, "forward", lambda self, rows: 5.0 + rows[..., :1] * self.leave[:, :1])
    monkeypatch.setattr("sigmascope.mutual.estimate.contrastive_bound", lambda *_: (0.0, 0.0))
    result = mutual_information(x, y, steps=10)
    assert result.value == pytest.approx(result.linear, abs=1e-6)


def test_a_bound_on_samples_that_were_trained_on_would_be_above(monkeypatch):
    rng = np.random.default_rng(14)
    x, y = (normal(rng.normal(size=(300, 8))) for _ in range(2))
    settings = Settings(steps=900)
    at, other = coordinates(x, y, np.zeros((300, 0))), coordinates(y, x, np.zeros((300, 0)))
    honest, error = contrastive_bound(at, other.x, settings)
    assert honest < 3 * error + 0.01
    order = torch.arange(300).reshape(3, 100)
    monkeypatch.setattr(Folds, "of", staticmethod(lambda *_: Folds(order, order)))
    leaked, error = contrastive_bound(at, other.x, settings)
    assert leaked > 10 * error


def test_a_choice_does_not_raise_the_mean():
    values = np.random.default_rng(15).normal(size=(50, 4, 400))
    assert abs(better(values, values).mean()) < 4 / 40
    assert values.mean(2).max(0).mean() > 4 / 40  # a choice by the same samples


def test_a_network_that_learned_nothing_leaves_the_linear_part():
    x, y = pair(16, 0.8)
    x, y = normal(x[:, None]), normal(y[:, None])
    one, two = coordinates(x, y, NOTHING), coordinates(y, x, NOTHING)
    way = one_way(one, two.x, NOTHING, Settings(steps=10, rate=0.0), 0)
    assert way.samples.mean((1, 2)) == pytest.approx([one.information()] * 3, abs=1e-9)
    area = -np.trapezoid(way.rate[1], np.log(way.sigma)[::-1])
    assert area == pytest.approx(one.information() + one.bias, rel=0.02)


WAY = {"mean": 0.5, "sigma": np.ones(2), "rate": np.zeros((2, 2))}
QUIET = np.random.default_rng(17).normal(0.5, 0.5, size=(3, 3000))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"ways": (Way("x", 0.6, 0.4, **WAY), Way("y", 0.5, 0.5, **WAY))}, "squared errors differ"),
        ({"ways": (Way("x", 0.5, 0.5, **WAY), Way("y", 0.5, 0.5, **WAY | {"mean": 0.3}))}, "noise on y"),
        ({"ways": (Way("x", 0.5, 0.5, **WAY | {"rate": np.ones((2, 2))}),) * 2}, "nearly functions"),
        ({"samples": QUIET + np.array([[-0.3], [0.0], [0.3]])}, "trainings differ"),
        ({"samples": np.where(np.arange(9000).reshape(3, 3000) == 5, 200.0, QUIET)}, "single sample"),
        ({"bound": (0.7, 0.01)}, "lower bound, 0.70"),
        ({"widths": (20, 20, 0)}, "samples are few"),
    ],
)
def test_doubts(changed, words):
    plain = {"samples": QUIET, "stderr": 0.01, "ways": (Way("x", 0.5, 0.5, **WAY), Way("y", 0.5, 0.5, **WAY))}
    doubts = doubts_of(**plain | {"bound": (0.49, 0.01), "widths": (2, 2, 0)} | changed)
    assert (words in "; ".join(doubts)) if words else not doubts
    assert len(doubts) <= 1


def test_the_array_that_is_closer_to_normal_is_noised():
    """On a curve the plain denoiser is hard to learn, and the value with noise on it is too large."""
    x, y = pair(20, 0.6)
    angle = 1.5 * np.pi * (1 + x.argsort().argsort() / len(x))
    curve = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1)
    result = mutual_information(curve, y, steps=120)
    assert result.value < gaussian(0.6) + 3 * result.stderr
    assert result.value <= max(result.ways[1].mean, result.ways[1].mmse) + 1e-3
    assert result.ways[0].mean > gaussian(0.6) + 0.1


def test_functions_of_each_other_are_doubted():
    x = np.random.default_rng(18).normal(size=600)
    result = mutual_information(x, 2 * x**3, steps=20)
    assert "nearly functions" in result.verdict


NUMBERS = np.random.default_rng(19).normal(size=200)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((NUMBERS[:50], NUMBERS[:50]), "x has 50 samples: expected at least 100"),
        ((NUMBERS, NUMBERS[:150]), "x has 200 samples, y has 150"),
        ((NUMBERS, NUMBERS, NUMBERS[:150]), "given has 150"),
        ((NUMBERS.astype(object), NUMBERS), "x has dtype object: expected numbers"),
        ((NUMBERS, NUMBERS.astype(str)), "expected numbers; write classes as whole numbers"),
        ((NUMBERS, np.where(NUMBERS > 1, np.nan, NUMBERS)), "y has values that are not finite"),
        ((NUMBERS, np.ones(200)), "column 0 of y is constant"),
        ((NUMBERS, np.zeros((200, 0))), r"y has shape \(200, 0\)"),
        ((NUMBERS[:, None] * np.ones(600), NUMBERS), "x has 600 columns"),
        (([[1.0], [2.0, 3.0]], NUMBERS), "x has rows of different lengths"),
    ],
)
def test_arrays_that_cannot_be_used(arrays, words):
    with pytest.raises(InputError, match=words) as error:
        mutual_information(*arrays)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("options", "words"), [({"steps": 3}, "steps is 3"), ({"seed": -1}, "seed is -1")])
def test_options_that_cannot_be_used(options, words):
    with pytest.raises(InputError, match=words):
        mutual_information(NUMBERS, NUMBERS, **options)
