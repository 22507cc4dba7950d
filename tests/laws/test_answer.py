"""One pass that answers everything, against exact arithmetic, quadrature and the laws of a posterior."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from problems import Line, four_points, random_set, two_points
from sigmascope.core import InputError, generator
from sigmascope.data import from_array
from sigmascope.exact.finite.evidence import answer
from sigmascope.exact.finite.filter import FiniteDenoiser

EPS = 2.0**-52


def levels(sigma, batch):
    return torch.full((batch,), sigma, dtype=torch.float64)


def noisy(data, items, sigma, seed=0):
    """Some items with noise, float64."""
    v = data.source.take(torch.tensor(items)).double()
    return v + sigma * torch.randn(v.shape, generator=generator(seed, 7), dtype=torch.float64)


def exact_logits(data, y, sigma):
    """ln w_k - |y - v_k|²/2σ² less the largest, shape (batch, items), and the largest; exact but for one rounding."""
    x = data.source.read(0, len(data)).double().flatten(1).tolist()
    log_weight = data.weights.log().numpy()
    rows, tops = [], []
    for row in y.double().flatten(1).tolist():
        z = [Fraction(c) for c in row]
        half = Fraction(sigma) ** 2 * 2
        e = [-sum((a - Fraction(b)) ** 2 for a, b in zip(z, v, strict=True)) / half for v in x]
        best = max(np.flatnonzero(np.isfinite(log_weight)), key=lambda k: e[k] + Fraction(log_weight[k]))
        rows.append(np.array([float(value - e[best]) for value in e]) + log_weight - log_weight[best])
        tops.append(float(e[best]) + log_weight[best])
    return np.stack(rows), np.array(tops)


def softmax(logits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def trace(p, x):
    """Trace of the covariance, as the half of the mean squared distance of two independent items."""
    apart = ((x[:, None] - x) ** 2).sum(2)
    return 0.5 * np.einsum("bi,bj,ij->b", p, p, apart)


@pytest.mark.parametrize("sigma", [0.005, 0.05, 0.5, 3.0, 200.0])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_same_as_exact_arithmetic(sigma, scale):
    raw = random_set(1, items=60, event=(2, 3, 3))
    x = raw.source.read(0, 60).double().flatten(1).numpy()
    names = {a.name: raw.labels[a.name] for a in raw.attributes}
    data = from_array((scale * x).astype(np.float32), names, weights=raw.weights.numpy())
    x = data.source.read(0, 60).double().flatten(1).numpy()
    # Beside noise, the middle of two items and a place far off, where many logits are close or all are large.
    middle = torch.from_numpy(0.5 * (x[3] + x[7]))[None]
    y = torch.cat([noisy(data, [0, 20, 40], sigma), middle, middle + 40.0 * scale])
    logits, top = exact_logits(data, y, sigma)
    p = softmax(logits)
    even, many = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([-1, 3, 2, -1, 0])
    known = [{"even": even}, {"many": many, "even": torch.ones(5).long()}]
    found = answer(FiniteDenoiser(data), y, levels(sigma, 5), known=known, top=7)

    assert np.abs(found.mean.numpy() - p @ x).max() < 1e-10 * scale
    assert np.allclose(found.effective_items.numpy(), 1.0 / (p**2).sum(1), rtol=1e-9)
    assert np.allclose(found.variance.numpy(), trace(p, x), rtol=1e-8, atol=0.0)
    mass = np.log(np.exp(logits).sum(1))
    evidence = top + mass - 9 * np.log(2 * np.pi * sigma**2)
    assert np.allclose(found.log_evidence.numpy(), evidence, rtol=4 * EPS, atol=1e-9)
    for a in data.attributes:
        label = data.labels[a.name].numpy()
        for value in range(len(a.values)):
            mine = logits[:, label == value]
            truth = np.log(np.exp(mine - mine.max(1, keepdims=True)).sum(1)) + mine.max(1) - mass
            assert np.allclose(found.log_posterior[a.name][:, value].numpy(), truth, rtol=1e-9, atol=1e-9)
    for subset, mean in zip(known, found.means, strict=True):
        possible = np.ones_like(logits, dtype=bool)
        for name, value in subset.items():
            possible &= (value[:, None] == -1).numpy() | (data.labels[name].numpy() == value.numpy()[:, None])
        given = softmax(np.where(possible, logits, -np.inf))
        assert np.abs(mean.numpy() - given @ x).max() < 1e-10 * scale
    order = np.argsort(-logits, axis=1, kind="stable")[:, :7]
    listed = np.take_along_axis(logits, order, 1)
    reported = np.take_along_axis(logits, found.items.numpy(), 1)
    assert np.allclose(reported, listed, rtol=2.0**-29, atol=2.0**-29)  # the same, but for ties in nine digits
    assert np.allclose(found.log_items.numpy(), reported - mass[:, None], rtol=1e-9, atol=1e-9)
    # Without near-duplicates under this noise the test would prove little.
    assert sigma != 0.05 or (found.variance.numpy()[:3] < 1e-2 * trace(np.full((1, 60), 1 / 60), x)).any()


def between(far, shift, labels=("a",)):
    """512 items of whole numbers, pairs about their exact mean, and y from which two of them are nearly as far.

    The two differ from y in all of 16 coordinates, by 100 or so; y is ``far`` off in a direction across, and
    ``shift`` towards the one.
    """
    rng = np.random.default_rng(8)
    u = np.array([1.0, -1.0] * 8) * rng.integers(60, 120, 8).repeat(2)
    x = rng.integers(-127, 128, (256, 16)).astype(np.float64)
    x[:, 3] += np.where(np.arange(256) % 2, 3000.0, -3000.0)
    x[:, 15] -= x.sum(1)  # none lies in the direction of y
    x[250], x[251] = u, -u
    x = np.concatenate([x, -x])
    weights = rng.integers(1, 5, 512).astype(np.float64)
    data = from_array((x + 128.0).astype(np.float32), {n: np.arange(512) % 2 for n in labels}, weights=weights)
    y = np.full(16, 128.0) + far
    y[0] += shift
    return data, torch.from_numpy(y)[None]


@pytest.mark.parametrize("shift", [0.0, 2.0**-25, 2.0**-20, 2.0**-18, 2.0**-15])
def test_two_items_as_far_from_y(shift):
    """Logits of 1e9 that differ by 0 to 250: products in float64 are 1e-6 off."""
    (data, y), sigma = between(0.0, shift), 0.005
    logits, _ = exact_logits(data, y, sigma)
    mass = np.log(np.exp(logits).sum(1))
    label = data.labels["a"].numpy()
    value = torch.tensor([1])
    found = answer(FiniteDenoiser(data), y, levels(sigma, 1), known=[{"a": 1 - value}, {"a": value}], top=2)
    p, x = softmax(logits), data.source.read(0, 512).double().numpy()
    assert np.abs(found.mean.numpy() - p @ x).max() < 1e-8
    assert np.allclose(found.variance.numpy(), trace(p, x), rtol=1e-9, atol=0.0)
    for a in range(2):
        mine = np.where(label == a, logits, -np.inf)
        truth = np.log(np.exp(mine - mine.max()).sum()) + mine.max() - mass
        assert np.allclose(found.log_posterior["a"][:, a].numpy(), truth, rtol=1e-9, atol=1e-9)
        assert np.abs(found.means[a].numpy() - softmax(mine) @ x).max() < 1e-8
    assert np.allclose(found.log_items.numpy(), np.sort(logits - mass)[:, :-3:-1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("far", [2.0**20, 2.0**30, 2.0**40, 2.0**50])
@pytest.mark.parametrize("sigma", [0.005, 0.05])
def test_far_beyond_double_precision(far, sigma):
    """Where a rounding of y alone moves logits by up to 1e8, the item that leads by more wins, and all is finite."""
    unit = 2.0**-52 * far
    for steps in (-4096, -1, 0, 1, 4096):
        data, y = between(far, steps * unit)
        found = answer(FiniteDenoiser(data), y, levels(sigma, 1), known=[{"a": torch.tensor([0])}], top=4)
        assert sorted(found.items[0].tolist()) == [250, 251, 506, 507]
        x = data.source.read(0, 512).double()[found.items[0]]
        for mean in (found.mean, found.means[0]):
            assert bool(((mean >= x.min(0).values) & (mean <= x.max(0).values)).all())
        assert 0.0 <= float(found.variance) <= float(((x[0] - x) ** 2).sum(1).max())
        assert 1.0 <= float(found.effective_items) <= 4.0
        assert torch.isfinite(found.log_items).all()
        assert torch.isfinite(found.log_evidence).all()
        assert torch.allclose(found.log_posterior["a"].exp().sum(1), torch.ones(1, dtype=torch.float64))
        if abs(steps) > 1 and steps * unit * 100 / sigma**2 > 50:
            logits, _ = exact_logits(data, y, sigma)
            assert torch.allclose(found.mean, torch.from_numpy(softmax(logits)) @ data.source.read(0, 512).double())


@pytest.mark.parametrize("best_last", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_anchors_that_products_choose_wrong(seed, best_last):
    """Logits spread over 1e3, of which products are off by more: what products take for a rise may be a fall."""
    rng = np.random.default_rng(seed)
    signs = np.repeat([1.0, -1.0], 4)
    u = np.concatenate([rng.permuted(np.tile(signs, (2048, 1)), axis=1) for _ in range(2)], 1)
    x = np.concatenate([u, -u]) + 4096.0 * np.repeat([1.0, -1.0], 8)
    x[1::2] -= 2 * 4096.0 * np.repeat([1.0, -1.0], 8)  # two clouds, so that their mean is far from both
    data = from_array(x.astype(np.float32), {"a": np.arange(4096) % 2})
    y = torch.from_numpy(2.0**37 + 2.0**-15 * rng.integers(-100, 101, 16))[None]
    logits = exact_logits(data, y, 0.005)[0][0]
    if best_last:
        rising = np.argsort(logits)
        data, logits = from_array(x[rising].astype(np.float32), {"a": np.arange(4096) % 2}), logits[rising]
    found = answer(FiniteDenoiser(data), y, levels(0.005, 1), known=[{"a": torch.tensor([1])}], top=4)
    assert torch.isfinite(found.variance).all()
    assert torch.isfinite(found.log_items).all()
    assert bool((found.mean.abs() <= 4097.0).all() & (found.means[0].abs() <= 4097.0).all())
    assert logits[found.items[0, 0]] > -40.0  # of thousands; sums of products with true differences are some 10 off
    assert logits.min() < -2000.0


def test_evidence_is_a_density():
    line = Line(np.array([-2.0, 0.5, 0.5, 4.0]), {"side": np.array([0, 0, 1, 1])}, np.array([0.1, 0.25, 0.15, 0.5]))
    denoiser = FiniteDenoiser(line.data())
    for sigma in (0.1, 1.0, 5.0):
        y, mass = line.grid(sigma)
        found = answer(denoiser, torch.from_numpy(y)[:, None], levels(sigma, len(y)))
        density = found.log_evidence.exp().numpy()
        assert density.sum() * (y[1] - y[0]) == pytest.approx(1.0, abs=1e-12)
        assert np.allclose(density * (y[1] - y[0]), mass, atol=1e-15, rtol=1e-11)


def test_gradient_of_the_evidence_is_the_score():
    data = random_set(4, items=60, event=(1, 2, 3))
    denoiser = FiniteDenoiser(data)
    for sigma in (0.1, 1.0, 10.0):
        y = noisy(data, [5], sigma)
        score = ((answer(denoiser, y, levels(sigma, 1)).mean - y) / sigma**2).flatten()
        h = 1e-3 * sigma
        steps = h * torch.eye(6, dtype=torch.float64).reshape(6, 1, 2, 3)
        around = [y + c * steps for c in (-2, -1, 1, 2)]
        far, near, after, beyond = (answer(denoiser, z, levels(sigma, 6)).log_evidence for z in around)
        following = y.clone().requires_grad_()
        assert not answer(denoiser, following, levels(sigma, 1)).log_evidence.requires_grad
        slope = (8 * (after - near) - (beyond - far)) / (12 * h)  # errs by h^4, and by rounding over h
        assert torch.allclose(slope, score, atol=1e-9 / sigma, rtol=1e-9)


@pytest.mark.parametrize("line", [two_points(1.5), four_points()], ids=["two", "four"])
def test_mean_variance_is_the_mmse(line):
    """E of the variance = E|V - D|², with V and Y drawn together: by quadrature over y for each v."""
    denoiser = FiniteDenoiser(line.data())
    for sigma in (0.5, 2.0, 6.0):
        y, mass = line.grid(sigma)
        found = answer(denoiser, torch.from_numpy(y)[:, None], levels(sigma, len(y)))
        joint = line.kernel(y, sigma) * (y[1] - y[0])
        error = (joint * (found.mean.numpy() - line.points) ** 2).sum()
        assert float((mass * found.variance.numpy()).sum()) == pytest.approx(error, rel=1e-10)
        if len(line.points) == 2:  # 1 - tanh², in the unit of the distance
            truth = (mass * line.points[1] ** 2 / np.cosh(line.points[1] * y / sigma**2) ** 2).sum()
            assert error == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 4.0])
def test_total_expectation_over_what_is_known(sigma):
    data = random_set(6, items=80, event=(2, 2, 2))
    denoiser, y = FiniteDenoiser(data), noisy(data, [1, 21, 41, 61], sigma)
    pairs = [{"many": torch.full((4,), a), "word": torch.full((4,), w)} for a in range(7) for w in range(3)]
    pairs = [
        p for p in pairs
        if bool(((data.labels["many"] == p["many"][0]) & (data.labels["word"] == p["word"][0])).any())
    ]  # fmt: skip
    many = [{"many": torch.full((4,), a)} for a in range(7)]
    found = answer(denoiser, y, levels(sigma, 4), known=[{}, {"even": torch.full((4,), -1)}, *many, *pairs])
    assert torch.equal(found.means[0], found.means[1])
    assert torch.allclose(found.means[0], found.mean, atol=1e-13)
    pi = found.log_posterior["many"].exp()
    assert torch.allclose(pi.sum(1), torch.ones(4, dtype=torch.float64), atol=1e-12)
    tower = sum(pi[:, a].reshape(4, 1, 1, 1) * found.means[2 + a] for a in range(7))
    assert torch.allclose(tower, found.mean, atol=1e-10)
    # The same a second time: p(w | y, many = 2) is the posterior of the data with the other items left out.
    kept = (data.labels["many"] == 2).numpy()
    x = data.source.read(0, len(data)).numpy()
    part = from_array(x[kept], {"word": data.labels["word"][kept]}, weights=data.weights.numpy()[kept])
    inner = answer(FiniteDenoiser(part), y, levels(sigma, 4)).log_posterior["word"].exp()
    mine = [m for p, m in zip(pairs, found.means[9:], strict=True) if int(p["many"][0]) == 2]
    assert len(mine) == inner.shape[1] > 1
    tower = sum(inner[:, i].reshape(4, 1, 1, 1) * m for i, m in enumerate(mine))
    assert torch.allclose(tower, found.means[4], atol=1e-10)


def test_order_of_items_does_not_matter():
    """Streaming, with anchors that move late: nothing depends on where in the data the leading items are."""
    data = random_set(2, items=1100, event=(5,))
    x, w = data.source.read(0, 1100).numpy(), data.weights.numpy()
    y = noisy(data, [3, 400, 1050], 0.05)
    order = np.random.default_rng(0).permutation(1100)
    label = data.labels["even"].numpy()
    first = answer(FiniteDenoiser(data), y, levels(0.05, 3), known=[{"even": torch.zeros(3).long()}], top=5)
    mixed = FiniteDenoiser(from_array(x[order], {"even": label[order]}, weights=w[order]))
    second = answer(mixed, y, levels(0.05, 3), known=[{"even": torch.zeros(3).long()}], top=5)
    assert len(list(mixed.tiles(3))) > 2
    for name in ("mean", "variance", "log_evidence", "effective_items", "log_items"):
        assert torch.allclose(getattr(first, name), getattr(second, name), rtol=1e-9, atol=1e-11)
    assert torch.allclose(first.means[0], second.means[0], atol=1e-11)
    assert torch.allclose(first.log_posterior["even"], second.log_posterior["even"], rtol=1e-9, atol=1e-10)
    # In steps towards y, last the nearest: the anchor moves in every tile.
    away = ((torch.from_numpy(x).double() - y[1]) ** 2).sum(1).numpy()
    order = np.argsort(-away)
    third = answer(
        FiniteDenoiser(from_array(x[order], {"even": label[order]}, weights=w[order])), y[1:2], levels(0.05, 1)
    )
    assert torch.allclose(third.variance, first.variance[1:2], rtol=1e-9)
    assert torch.allclose(third.log_evidence, first.log_evidence[1:2], atol=1e-10)


def test_variance_of_near_duplicates_keeps_its_digits():
    """Two items 1e-4 apart, and others at distance 300: the variance is p(1-p)·1e-8, in closed form."""
    x = np.zeros((6, 40), dtype=np.float32)
    x[:3] = 100.0
    x[3:] = np.linspace(-80, 60, 120).reshape(3, 40)
    x[1, 0] = np.nextafter(np.float32(100.0), np.float32(200.0))
    step = float(x[1, 0]) - 100.0
    assert step < 1e-5
    data = from_array(x, {"a": [0, 1, 0, 1, 0, 1]}, weights=np.array([0.2, 0.3, 0.0, 0.1, 0.2, 0.2]))
    for sigma, offset in ((1e-6, 0.0), (1e-5, 0.7), (1e-3, 0.2), (0.1, 0.0), (1.0, 0.0)):
        y = torch.full((1, 40), 100.0, dtype=torch.float64)
        y[0, 0] += offset * step
        logit = (offset * step * step - 0.5 * step**2) / sigma**2 + np.log(0.3 / 0.2)
        p = 1.0 / (1.0 + np.exp(-logit))
        found = answer(FiniteDenoiser(data), y, levels(sigma, 1))
        assert float(found.variance) == pytest.approx(p * (1.0 / (1.0 + np.exp(logit))) * step**2, rel=1e-9)
        assert float(found.mean[0, 0]) - 100.0 == pytest.approx(p * step, abs=2e-14)


def test_tiny_probabilities_leave_a_variance():
    """p = e^-200: nothing of it is lost beside the item that has all the rest."""
    x = np.array([[0.1, 0.7, 0.3, 0.9], [0.8, 0.2, 0.6, 0.3], [0.1, 0.7, 0.3, 0.9]], dtype=np.float32)
    distance2 = ((x[0].astype(np.float64) - x[1].astype(np.float64)) ** 2).sum()
    data = from_array(x, {"a": [0, 1, 0]}, weights=np.array([0.2, 0.5, 0.3]))
    y = torch.from_numpy(x[:2]).double()
    found = answer(FiniteDenoiser(data), y, levels(np.sqrt(distance2 / 400.0), 2), top=3)
    assert np.allclose(found.variance.log().numpy(), -200.0 + np.log(distance2), atol=1e-10)
    assert found.items.tolist() == [[2, 0, 1], [1, 2, 0]]
    assert np.allclose(found.log_items[:, 2].numpy(), [-200.0, -200.0 + np.log(0.4)], atol=1e-10)


def test_duplicates_share_and_ties_go_by_index():
    x = np.array([[0.0, 0.0], [5.0, 1.0], [0.3, 0.7], [5.0, 1.0], [5.0, 1.0], [0.3, 0.7]], dtype=np.float32)
    data = from_array(x, {"a": [0, 0, 1, 1, 0, 1]}, weights=np.array([1.0, 1, 1, 2, 1, 1]))
    y = torch.tensor([[5.01, 1.02], [0.31, 0.68]], dtype=torch.float64)
    found = answer(FiniteDenoiser(data), y, levels(0.1, 2), top=6)
    assert found.items[0].tolist()[:3] == [3, 1, 4]
    assert found.items[1].tolist()[:2] == [2, 5]
    assert np.allclose(found.log_items[0, :3].exp().numpy(), [0.5, 0.25, 0.25], rtol=0.0, atol=1e-12)
    assert float(found.effective_items[0]) == pytest.approx(1.0 / (0.25 + 2 * 0.0625), rel=1e-12)
    assert float(found.log_posterior["a"][0, 0].exp()) == pytest.approx(0.5, abs=1e-12)
    assert float(found.effective_items[1]) == pytest.approx(2.0, rel=1e-9)


def test_ties_across_tiles_go_by_index():
    """Each of 300 images five times, over several tiles and at levels with and without true differences."""
    x = np.random.default_rng(3).uniform(size=(300, 4, 4)).astype(np.float32)
    data = from_array(np.concatenate([x] * 5), {"a": np.arange(1500) % 2})
    denoiser = FiniteDenoiser(data)
    for sigma in (1e-5, 0.1, 2.0):
        y = noisy(data, [7, 123, 299], sigma)
        found = answer(denoiser, y, levels(sigma, 3), top=10)
        logits = torch.from_numpy(exact_logits(from_array(x, {"a": np.arange(300) % 2}), y, sigma)[0])
        two = logits.sort(descending=True, stable=True).indices[:, :2]
        wanted = torch.cat([two[:, :1] + 300 * torch.arange(5), two[:, 1:] + 300 * torch.arange(5)], 1)
        assert torch.equal(found.items, wanted)
        assert torch.allclose(found.log_items[:, 1:5], found.log_items[:, :1].expand(3, 4), atol=1e-12)


def test_items_without_weight_never_appear():
    rng = np.random.default_rng(5)
    weights = np.where(np.arange(20) % 5 == 0, rng.uniform(1, 2, 20), 0.0)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    data = from_array(x, {"a": np.arange(20) % 4, "b": np.arange(20) % 5}, weights=weights)
    for sigma in (0.005, 1.0, 100.0):
        y = torch.from_numpy(x[:4]).double() + 0.01
        found = answer(FiniteDenoiser(data), y, levels(sigma, 4), top=6)
        assert sorted(found.items[0, :4].tolist()) == [0, 5, 10, 15]
        assert torch.equal(found.items[:, 4:], torch.full((4, 2), -1))
        assert torch.equal(found.log_items[:, 4:], torch.full((4, 2), -torch.inf, dtype=torch.float64))
        assert torch.isfinite(found.log_items[:, :4]).all()
        assert torch.isinf(found.log_posterior["b"][:, 1:]).all()
        alone = from_array(x[::5], {"a": [0, 1, 2, 3]}, weights=weights[::5])
        assert torch.allclose(found.mean, answer(FiniteDenoiser(alone), y, levels(sigma, 4)).mean, atol=1e-12)
        known = [{"a": torch.ones(4).long()}, {"b": torch.tensor([0, -1, 3, 0])}]
        with pytest.raises(InputError, match="row 2: no item has the attributes of known\\[1\\]"):
            answer(FiniteDenoiser(data), y, levels(sigma, 4), known=known)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": torch.zeros(3, 2)}, "y has shape"),
        ({"sigma": torch.ones(4)}, "sigma has shape \\(4,\\), y has batch 3"),
        ({"sigma": torch.tensor([1.0, 0.0, 1.0])}, "sigma must be greater than 0"),
        ({"sigma": torch.tensor([1.0, 1e-200, 1.0], dtype=torch.float64)}, "row 1: sigma is 1e-200, too small"),
        ({"y": torch.tensor([[0.0], [1.0], [torch.nan]])}, "row 2 of y or sigma holds a number that is not finite"),
        ({"y": torch.tensor([[torch.inf], [1.0], [0.0]])}, "row 0 of y or sigma holds a number that is not finite"),
        ({"top": -1}, "top is -1"),
        ({"known": [{"colour": torch.zeros(3).long()}]}, "no attribute is called 'colour'"),
        ({"known": [{}, {"coarse": torch.full((3,), 2)}]}, "must lie between -1"),
        ({"known": [{"coarse": torch.zeros(3).long(), "point": torch.full((3,), 3)}]}, "row 0: no item has"),
    ],
)
def test_what_cannot_be_asked(change, words):
    arguments = {"y": torch.zeros(3, 1), "sigma": torch.ones(3)} | change
    with pytest.raises(InputError, match=words) as error:
        answer(FiniteDenoiser(four_points().data()), **arguments)
    assert "\n" not in str(error.value)
