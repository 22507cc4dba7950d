"""Every exact method of a finite set against exact arithmetic, on sets and values that are hard on rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch

from sigmascope.core import Draws, LabelledData, generator
from sigmascope.data import from_array
from sigmascope.exact.finite.evidence import answer
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.exact.finite.sketch import Sketch

EPS = 2.0**-52
SIGMAS = (0.005, 0.05, 1.0, 20.0, 200.0)
BITS = 320  # of a binary fraction that holds every float here exactly


def near(rng):
    """Six images, each with one 1e-3 and one 1e-5 away, of another label."""
    x = rng.uniform(size=(6, 24))
    x = np.concatenate([x, x + 1e-3 * rng.normal(size=x.shape), x + 1e-5 * rng.normal(size=x.shape)])
    return x, rng.uniform(0.5, 1.0, 18)


def equal(rng):
    """Each image three times, under different labels."""
    return np.tile(rng.uniform(size=(6, 24)), (3, 1)), rng.uniform(0.5, 1.0, 18)


def weightless(rng):
    """Half of the items, and with them one value of an attribute, have no weight; some are copies of others."""
    x = rng.uniform(size=(18, 24))
    x[9:] = x[:9]
    return x, np.where(np.arange(18) % 3 == 1, 0.0, np.where(np.arange(18) % 2, rng.uniform(0.5, 1.0, 18), 0.0))


def unequal(rng):
    """Weights over twenty powers of ten, also of near-duplicates."""
    x, _ = near(rng)
    return x, 10.0 ** rng.uniform(-20, 0, 18)


def pixels(rng):
    """Whole numbers from 0 to 255, some images a single step in one pixel apart."""
    x = rng.integers(0, 256, (18, 24)).astype(float)
    x[6:12], x[12:] = x[:6], x[:6]
    x[6:12, 0] += np.where(x[6:12, 0] < 255, 1, -1)
    x[12:] += 1e-3 * rng.normal(size=(6, 24))
    return x, rng.uniform(0.5, 1.0, 18)


def constant(rng):
    """Images of one grey each, two of every shade."""
    return np.ones((18, 24)) * np.repeat(rng.uniform(size=9), 2)[:, None], np.ones(18)


def line(rng):
    """One dimension."""
    x = rng.normal(size=(18, 1)) * 3
    x[9:] = x[:9] + 1e-4
    return x, rng.uniform(0.5, 1.0, 18)


def wide(rng):
    """Five thousand dimensions."""
    x, w = rng.uniform(size=(18, 5000)), rng.uniform(0.5, 1.0, 18)
    x[9:] = x[:9] + 1e-5 * rng.normal(size=(9, 5000))
    return x, w


SETS = {f.__name__: f for f in (near, equal, weightless, unequal, pixels, constant, line, wide)}


@cache
def made(name):
    x, weights = SETS[name](np.random.default_rng(7))
    order = np.random.default_rng(1).permutation(len(x))
    labels = {"three": (np.arange(18) % 3)[order], "half": (np.arange(18) // 9)[order]}
    return from_array(x[order].astype(np.float32), labels, weights=weights[order])


@cache
def asked(name, sigma, dtype):
    """Items with noise, the middle of two, and values far from all items, in one dtype."""
    data = made(name)
    x = data.source.read(0, len(data)).double()
    noise = torch.randn(4, data.size, generator=generator(3), dtype=torch.float64)
    heavy = torch.argsort(data.weights, descending=True)[:3]
    axis = torch.zeros(data.size, dtype=torch.float64)
    axis[-1] = 1e6
    zeros, middle = torch.zeros_like(axis), 0.5 * (x[heavy[0]] + x[heavy[1]])
    far = torch.stack([zeros, middle, x[0] + 1e3, x[2] + 1e3 * noise[3], x[1] - 1e6, axis])
    y = torch.cat([x[heavy] + sigma * noise[:3], far])
    return y.to(dtype)


@dataclass(frozen=True)
class Truth:
    """What exact arithmetic says of each row: logits less the largest, and what rounding may do.

    Args:
        products: by how much a product in float64 may put a logit off.
        differences: the same of true differences.
    """

    x: np.ndarray
    logits: np.ndarray
    products: np.ndarray
    differences: np.ndarray

    def weights(self, kept):
        """Posterior of the items that are kept, an array of one truth value for each."""
        logits = np.where(kept, self.logits, -np.inf)
        p = np.exp(logits - logits.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)

    def mean(self, kept):
        return self.weights(kept) @ self.x

    def allowed(self, kept, error):
        """What a mean may be off, in norm: the error of a logit times the spread of the posterior."""
        p = self.weights(kept)
        apart = ((self.x[:, None] - self.x) ** 2).sum(2)
        spread = np.sqrt(0.5 * np.einsum("bi,bj,ij->b", p, p, apart))
        rounding = 16 * EPS * np.linalg.norm(self.x, axis=1).max()
        return np.where(error < 0.1, 2 * error * spread, np.sqrt(apart.max())) + rounding

    def log_sum(self, kept):
        logits = np.where(kept, self.logits, -np.inf)
        top = logits.max(1, keepdims=True)
        safe = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore"):
            return np.log(np.exp(logits - safe).sum(1)) + safe[:, 0]

    def log_p(self, kept):
        return self.log_sum(kept) - self.log_sum(np.ones(len(self.x), dtype=bool))


def whole(a):
    return np.frompyfunc(lambda v: int(math.ldexp(v, BITS)), 1, 1)(a.astype(np.float64)).astype(object)


def truth(data, y, sigma):
    x = data.source.read(0, len(data)).double().flatten(1).numpy()
    y = y.double().flatten(1).numpy()
    with np.errstate(divide="ignore"):
        log_weight = np.log(data.weights.numpy())
    distances = ((whole(y)[:, None] - whole(x)) ** 2).sum(2)
    unit = Fraction(1, 2 ** (2 * BITS + 1)) / Fraction(sigma) ** 2
    possible = np.flatnonzero(np.isfinite(log_weight))
    rows = []
    for row in distances:
        first = max(possible, key=lambda k: Fraction(log_weight[k]) - int(row[k]) * unit)
        rows.append([float((int(row[first]) - int(d)) * unit) for d in row] + log_weight - log_weight[first])
    centre = x.mean(0)
    v = np.linalg.norm(x - centre, axis=1).max()
    far = np.linalg.norm(y - centre, axis=1)
    # A sum of d products errs by about √d roundings of the largest; the square of y is common to all logits.
    logit = EPS * v * (far + v) / sigma**2
    return Truth(x, np.array(rows), math.sqrt(x.shape[1]) * logit, logit)


@cache
def known_truth(name, sigma, dtype):
    return truth(made(name), asked(name, sigma, dtype), sigma)


def labelled(data, attribute, value):
    return data.labels[attribute].numpy() == value


EVERYTHING = pytest.mark.parametrize(
    ("name", "sigma", "dtype"), [(n, s, t) for n in SETS for s in SIGMAS for t in (torch.float64, torch.float32)]
)


def close(found, mean, allowed):
    found = found.double().flatten(1).numpy()
    assert np.isfinite(found).all()
    off = np.linalg.norm(found - mean, axis=1)
    assert (off <= allowed).all(), f"rows {np.flatnonzero(off > allowed)}: {off} of {allowed}"


def close_logs(found, log_p, error):
    """Finite where a value has an item with weight; -inf where not."""
    found = found.numpy()
    assert not np.isnan(found).any()
    assert (np.isinf(found) == np.isinf(log_p)).all()
    off = np.abs(np.where(np.isinf(log_p), 0.0, found) - np.where(np.isinf(log_p), 0.0, log_p))
    allowed = 2 * error + 1e-9 * np.maximum(1.0, -np.where(np.isinf(log_p), 0.0, log_p))
    assert (off <= allowed).all(), f"rows {np.flatnonzero(off > allowed)}: {off} of {allowed}"


@EVERYTHING
def test_forward(name, sigma, dtype):
    data, y, t = made(name), asked(name, sigma, dtype), known_truth(name, sigma, dtype)
    single = 1e-5 * np.ptp(t.x) * math.sqrt(data.size) if dtype == torch.float32 else 0.0
    level = torch.full((len(y),), sigma, dtype=torch.float64)
    denoiser = FiniteDenoiser(data)
    everything = np.ones(18, dtype=bool)
    found = denoiser(y, level)
    assert found.dtype == dtype
    close(found, t.mean(everything), t.allowed(everything, t.products) + single)
    for a in range(3):
        kept = labelled(data, "three", a) & (data.weights > 0).numpy()
        if kept.any():
            given = denoiser(y, level, {"three": torch.full((len(y),), a)})
            close(given, t.mean(kept), t.allowed(kept, t.products) + single)


@EVERYTHING
def test_means_by_value(name, sigma, dtype):
    data, y, t = made(name), asked(name, sigma, dtype), known_truth(name, sigma, dtype)
    found = FiniteDenoiser(data).means_by_value(y, torch.full((len(y),), sigma, dtype=torch.float64), "three")
    for a in range(3):
        kept = labelled(data, "three", a) & (data.weights > 0).numpy()
        if kept.any():
            close(found[a], t.mean(kept), t.allowed(kept, t.products))


@EVERYTHING
def test_log_posterior(name, sigma, dtype):
    data, y, t = made(name), asked(name, sigma, dtype), known_truth(name, sigma, dtype)
    level = torch.full((len(y),), sigma, dtype=torch.float64)
    denoiser = FiniteDenoiser(data)
    found = denoiser.all_log_posteriors(y, level)
    for a in data.attributes:
        assert torch.equal(found[a.name], denoiser.log_posterior(y, level, a.name))
        for i in range(len(a.values)):
            close_logs(found[a.name][:, i], t.log_p(labelled(data, a.name, i)), t.products)


@EVERYTHING
def test_answer(name, sigma, dtype):
    data, y, t = made(name), asked(name, sigma, dtype), known_truth(name, sigma, dtype)
    level = torch.full((len(y),), sigma, dtype=torch.float64)
    weighty = (data.weights > 0).numpy()
    kept = [labelled(data, "three", a) & weighty for a in range(3)]
    known = [{"three": torch.full((len(y),), a)} for a in range(3) if kept[a].any()]
    found = answer(FiniteDenoiser(data), y, level, known=known, top=2)
    everything = np.ones(18, dtype=bool)
    # Rows of usual size are right to 1e-9 at every sigma.
    far = np.linalg.norm(y.double().numpy() - t.x.mean(0), axis=1)
    error = np.where(far < 900.0 * math.sqrt(data.size), 1e-9, t.differences)
    close(found.mean, t.mean(everything), t.allowed(everything, error))
    for mean, mine in zip(found.means, [k for k in kept if k.any()], strict=True):
        close(mean, t.mean(mine), t.allowed(mine, error))
    for a in data.attributes:
        for i in range(len(a.values)):
            close_logs(found.log_posterior[a.name][:, i], t.log_p(labelled(data, a.name, i)), error)
    p = t.weights(everything)
    variance = 0.5 * np.einsum("bi,bj,ij->b", p, p, ((t.x[:, None] - t.x) ** 2).sum(2))
    sure = error < 1e-3
    relative = (1e-8 + 8 * error)[sure]
    assert (np.abs(found.variance.numpy() - variance)[sure] <= relative * variance[sure]).all()
    assert (np.abs(found.effective_items.numpy() * (p**2).sum(1) - 1.0)[sure] <= relative).all()
    assert torch.isfinite(found.log_evidence).all()
    listed = np.take_along_axis(t.logits, found.items.numpy(), 1)
    assert (np.sort(t.logits, 1)[:, :-3:-1] - listed <= 2.0**-29 + 2 * error[:, None] + 1e-9 * np.abs(listed)).all()


@EVERYTHING
def test_posterior_levels(name, sigma, dtype):
    """y = v + σ n, for v that are items, middles of items and far from all."""
    data, y = made(name), asked(name, sigma, dtype)
    noise = torch.randn(y.shape, generator=generator(5), dtype=torch.float64).to(dtype)
    found = FiniteDenoiser(data).posterior_levels(y, noise, torch.tensor([200.0, sigma], dtype=torch.float64))
    t = truth(data, y.double() + sigma * noise.double(), sigma)
    for a in data.attributes:
        for i in range(len(a.values)):
            close_logs(found[a.name][1, :, i], t.log_p(labelled(data, a.name, i)), t.products)


@cache
def passed(name, dtype, compiled):
    """A pass over the data for four draws and all levels, with the whole space for gaps."""
    data = made(name)
    heavy = torch.argsort(data.weights, descending=True)[:4]
    noise = torch.randn(4, *data.event, generator=generator(11))
    labels = {k: v[heavy] for k, v in data.labels.items()}
    draws = Draws(heavy, data.source.take(heavy), noise, labels)
    sketch = Sketch(torch.eye(data.size), data.size)
    work = PosteriorPass(FiniteDenoiser(data), draws, np.array(SIGMAS[::-1]), dtype, sketch, compiled)
    while not work.done:
        work.step()
    return draws, work.log_posterior(), work.gaps()


# Until a logit could be 1e-4 off, products are taken as they are.
PASSES = [(torch.float64, False), (torch.float32, False), (torch.float32, True)]


@pytest.mark.parametrize(("dtype", "compiled"), PASSES, ids=["double", "single", "compiled"])
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("name", SETS)
def test_pass(name, sigma, dtype, compiled):
    """Posteriors, and gaps of posterior means, of draws from the data; pairs below e^-40 are left out."""
    data = made(name)
    draws, log_p, gaps = passed(name, dtype, compiled)
    j = SIGMAS[::-1].index(sigma)
    v, eps = draws.v.double().flatten(1).numpy(), float(torch.finfo(dtype).eps)
    t = truth(data, draws.v.double().flatten(1) + sigma * draws.noise.double().flatten(1), sigma)
    everything, weighty = np.ones(18, dtype=bool), (data.weights > 0).numpy()
    log_weight = data.weights[data.weights > 0].log()
    error = 1e-9 + np.minimum(t.products * eps / EPS, 1e-4) + eps * (2.0 + float(log_weight.max() - log_weight.min()))
    d, first = t.mean(everything), np.linalg.norm(v - t.mean(everything), axis=1)
    # Projections of the items are as exact as the products are.
    rounding = 4 * eps * np.linalg.norm(t.x - t.x.mean(0), axis=1).max()
    for a in data.attributes:
        kept = [labelled(data, a.name, i) for i in range(len(a.values))]
        exact = np.stack([t.log_p(k) for k in kept], 1)
        mine = log_p[a.name][j].numpy()
        assert not np.isnan(mine).any()
        assert (np.abs(np.exp(mine) - np.exp(exact)) <= 2 * error[:, None]).all()
        row, value = np.nonzero(exact > -20.0)  # e^-40 beside e^-20 is 1e-9 of it
        assert (np.abs(mine[row, value] - exact[row, value]) <= 2 * error[row] + 18e-9).all()
        given = [t.mean(k & weighty) if (k & weighty).any() else d for k in kept]
        own = np.stack(given)[draws.labels[a.name].numpy(), np.arange(4)]
        second = np.linalg.norm(v - own, axis=1)
        score = sum(np.exp(exact[:, i]) * ((m - d) ** 2).sum(1) for i, m in enumerate(given))
        off = t.allowed(everything, error) + rounding
        assert (np.abs(gaps[a.name].mmse[j] - (first**2 - second**2)) <= 4 * off * (first + second + off)).all()
        assert (np.abs(gaps[a.name].score[j] - score) <= 4 * off * (np.sqrt(score) + off) + 2 * error * score).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_item(dtype):
    """The law of one item: D = v everywhere, without error."""
    data = made("near")
    v = data.source.read(3, 4)
    source = type(data.source)(v.numpy())
    labels = {k: torch.ones(1, dtype=torch.int64) for k in data.labels}
    one = LabelledData("one", source, data.attributes, labels, torch.ones(1, dtype=torch.float64), "one")
    denoiser = FiniteDenoiser(one)
    for sigma in SIGMAS:
        y = asked("near", sigma, dtype)
        level = torch.full((len(y),), sigma, dtype=torch.float64)
        everywhere = v.to(dtype).expand(len(y), -1)
        given = {"three": torch.ones(len(y), dtype=torch.int64)}
        assert torch.equal(denoiser(y, level), everywhere)
        assert torch.equal(denoiser(y, level, given), everywhere)
        assert torch.equal(denoiser.means_by_value(y, level, "three")[1], everywhere.double())
        assert torch.equal(denoiser.log_posterior(y, level, "three")[:, 1], torch.zeros(len(y), dtype=torch.float64))
        assert torch.equal(denoiser.sample_items(y, level, 2, generator(0)), torch.zeros(2, len(y), dtype=torch.int64))
        found = answer(denoiser, y, level, known=[given], top=2)
        assert torch.equal(found.mean, everywhere.double())
        assert torch.equal(found.means[0], everywhere.double())
        assert torch.equal(found.variance, torch.zeros(len(y), dtype=torch.float64))
        assert torch.equal(found.effective_items, torch.ones(len(y), dtype=torch.float64))
        assert torch.equal(found.items, torch.tensor([[0, -1]]).expand(len(y), 2))
        distance2 = ((y.double() - v.double()) ** 2).sum(1)
        exact = -0.5 * distance2 / sigma**2 - 12 * math.log(2 * math.pi * sigma**2)
        assert torch.allclose(found.log_evidence, exact, rtol=1e-13, atol=1e-12)
