"""Screening of a finite set: the bounds it returns, against sums over all items in extended precision."""

from __future__ import annotations

import re
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from sigmascope.core import InputError, generator
from sigmascope.data import from_array
from sigmascope.exact.finite import screened as screen
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel import pairs
from sigmascope.exact.finite.kernel import projection_bounds as bands
from sigmascope.exact.finite.kernel.projection_bounds import BLOCK, TILE, Bands
from sigmascope.exact.finite.kernel.threads import compiled_module
from sigmascope.exact.finite.screened import ScreenedDenoiser

EVENT, ITEMS, DIRECTIONS = (3, 5, 5), 500, (8, 40)
# Truth is summed with 64 bits of mantissa, 2,048 times finer than what is tested.
pytestmark = pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no extended precision here")


def images(seed=0, low=0.0, high=1.0):
    """Items of decaying spectrum, with exact copies and copies 1e-4 apart, between two pixel values."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(EVENT))
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    v = (rng.normal(size=(ITEMS, size)) / (1 + np.arange(size)) ** 0.7) @ basis.T
    v = (0.5 + 1.2 * v).clip(0, 1)
    v[100:140] = v[:40]
    v[140:200] = v[:60] + 1e-4 * rng.normal(size=(60, size)) / np.sqrt(size)
    return (low + (high - low) * v).astype(np.float32).reshape(ITEMS, *EVENT)


def weights(kind):
    rng = np.random.default_rng(5)
    if kind == "equal":
        return None
    if kind == "zero":
        w = rng.uniform(0.2, 1.0, ITEMS)
        w[rng.uniform(size=ITEMS) < 0.3] = 0.0
        return w / w.sum()
    w = 10.0 ** rng.uniform(-200, 0, ITEMS)
    return w / w.sum()


def finite(kind="equal", low=0.0, high=1.0, items=ITEMS):
    rng = np.random.default_rng(9)
    labels = {"half": rng.integers(0, 2, ITEMS), "rare": (np.arange(ITEMS) % 50 == 7).astype(int)}
    if items < ITEMS:
        labels = {"half": np.arange(items) % 2}
    w = weights(kind)
    return FiniteDenoiser(from_array(images(0, low, high)[:items], labels, weights=w if w is None else w[:items]))


def truth(denoiser, y, sigma, known=None):
    """Posterior means in extended precision, from differences to one item."""
    data = denoiser.data
    x = data.source.read(0, len(data)).flatten(1).numpy().astype(np.longdouble)
    log_weight = np.full(len(data), -np.inf, dtype=np.longdouble)
    positive = data.weights.numpy() > 0
    log_weight[positive] = np.log(data.weights.numpy()[positive].astype(np.longdouble))
    out = []
    for i, row in enumerate(y.flatten(1).numpy().astype(np.longdouble)):
        kept = positive.copy()
        for name, value in (known or {}).items():
            if value[i] >= 0:
                kept &= data.labels[name].numpy() == int(value[i])
        v, step = x[kept], x[kept] - x[kept][0]
        logit = ((2 * row - v - v[0]) * step).sum(1) / (2 * np.longdouble(float(sigma[i])) ** 2) + log_weight[kept]
        p = np.exp(np.maximum(logit - logit.max(), -11_000.0))  # far from what is slow: numbers near the smallest
        out.append((p[:, None] * v).sum(0) / p.sum())
    return np.stack(out)


def errors(found, exact):
    return np.sqrt(((found.mean.flatten(1).numpy() - exact) ** 2).sum(1)).astype(float)


def around(denoiser, sigma, seed=1, count=4):
    """Noised items, copied ones among them, and noised values that are no items; float64."""
    g = generator(seed, 3)
    items = torch.cat([torch.arange(0, 40, 20), torch.randint(200, ITEMS, (count - 2,), generator=g)])
    v = denoiser.data.source.take(items).double()
    outside = 0.5 * (v + v.flip(0)) + 0.05 * v.std() * torch.randn(v.shape, generator=g, dtype=torch.float64)
    clean = torch.cat([v, outside])
    return clean + sigma * torch.randn(clean.shape, generator=g, dtype=torch.float64)


def level(sigma, batch):
    return torch.full((batch,), sigma, dtype=torch.float64)


@pytest.fixture(scope="module")
def screened():
    return ScreenedDenoiser(finite(), DIRECTIONS)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("kind", ["equal", "zero", "wide"])
def test_errors_stay_below_their_bounds(kind, low, high):
    denoiser = finite(kind, low, high)
    scale = high - low
    ours = ScreenedDenoiser(denoiser, DIRECTIONS, tolerance=1e-6 * scale)
    both = set()
    for sigma in np.array([0.005, 0.03, 0.1, 0.3, 5.0]) * scale:
        y = around(denoiser, sigma)
        exact = truth(denoiser, y, level(sigma, len(y)))
        found = ours.certified(y, level(sigma, len(y)))
        assert (errors(found, exact) <= found.bound.numpy()).all()
        assert found.bound.max() <= 1.1e-6 * scale  # a bound that says something
        both |= set(found.dense.tolist())
        assert (found.survivors[~found.dense] <= 32).all()
        if sigma < 0.01 * scale:
            assert not found.dense.any()
            assert found.survivors.max() < 0.05 * ITEMS
        given = {"half": torch.arange(len(y)) % 3 - 1, "rare": torch.arange(len(y)) % 2 - 1}
        exact = truth(denoiser, y, level(sigma, len(y)), given)
        found = ours.certified(y, level(sigma, len(y)), given)
        assert (errors(found, exact) <= found.bound.numpy()).all()
        assert found.bound.max() <= 1.1e-6 * scale
    assert both == {False, True} or kind == "wide"  # where few items have a weight, few matter at any level


@pytest.mark.parametrize("tolerance", [0.3, 3.0])
def test_what_is_left_out_is_felt_and_bounded(tolerance):
    """With a coarse tolerance the weight left out makes up the error, not rounding."""
    denoiser = finite("zero")
    ours = ScreenedDenoiser(denoiser, DIRECTIONS, tolerance=tolerance)
    largest = 0.0
    for sigma in np.geomspace(0.03, 0.4, 8):
        y = around(denoiser, sigma)
        found = ours.certified(y, level(sigma, len(y)))
        error = errors(found, truth(denoiser, y, level(sigma, len(y))))
        assert (error <= found.bound.numpy()).all()
        largest = max(largest, error[~found.dense.numpy()].max(initial=0.0))
        assert (found.bound <= 1.01 * tolerance).all()
    assert largest > 1e-9


@pytest.mark.parametrize("sigma", [0.005, 0.1, 1.0, 30.0])
def test_values_far_away(sigma):
    denoiser = finite()
    ours = ScreenedDenoiser(denoiser, DIRECTIONS)
    one = torch.ones(1, *EVENT, dtype=torch.float64)
    y = torch.cat([one * 1e4, -1e4 * one, one * 0.5, 1e4 * torch.sign(around(denoiser, 1.0)[:3]), one * 1e7])
    found = ours.certified(y, level(sigma, len(y)))
    assert (errors(found, truth(denoiser, y, level(sigma, len(y)))) <= found.bound.numpy()).all()
    assert found.bound[2] <= 5.1e-7
    assert sigma < 1.0 or found.bound[:6].max() < 0.01  # else float64 cannot know, and the bound says so
    beyond = ours.certified(1e39 * one, level(sigma, 1))
    assert beyond.dense.all()
    assert torch.isfinite(beyond.mean).all()
    assert beyond.bound < 100.0


@pytest.mark.parametrize("far", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_rounding_alone_is_bounded(far, sigma):
    """Far from the data in a direction that tells no two items apart, next to nothing left out: logits hardly differ,
    and are as wrong as they can be."""
    denoiser = finite(items=20)
    ours = ScreenedDenoiser(denoiser, DIRECTIONS, tolerance=1e-60)
    v = denoiser.data.source.read(0, 20).double().flatten(1)
    across = torch.linalg.qr((v - v[0]).T, mode="complete").Q[:, 20:].T.unflatten(1, EVENT)
    y = v.unflatten(1, EVENT) + far * across[:20]
    found = ours.certified(y, level(sigma, 20))
    error = errors(found, truth(denoiser, y, level(sigma, 20)))
    assert not found.dense.any()
    assert (error <= found.bound.numpy()).all()
    assert (found.left_out < 1e-60).all()
    assert error.max() > 1e-17 + 1e-18 * far
    assert found.bound.max() < 1e-12 * (1.0 + far) * (1.0 + sigma**-2)


def all_scores(ours, y, sigma):
    """Upper bounds of the scores of all items, of both stages, and the scores in extended precision."""
    b = ours._bounds
    flat, variance = y.flatten(1) - b.centre, level(sigma, len(y)) ** 2
    p = b.bands.project(flat)
    first = torch.cat([b.left(p, variance) @ tile for tile in b.tiles], 1)[:, : len(b.items)].double()
    least = b.least(p, variance)[:, None]
    row, item = torch.meshgrid(torch.arange(len(y)), torch.arange(len(b.items)), indexing="ij")
    query = torch.nn.functional.pad(p.along.float(), (0, -p.along.shape[1] % bands.RUN)).unflatten(1, (-1, bands.RUN))
    product = pairs.products(b.wide, item.flatten(), query, row.flatten(), None)
    _, second = b.wide_scores(product, p, variance, row.flatten(), item.flatten())
    z = y.flatten(1).numpy().astype(np.longdouble) - b.centre.numpy()
    v = ours.denoiser.data.source.take(b.items).flatten(1).numpy().astype(np.longdouble) - b.centre.numpy()
    exact = z @ v.T - (v**2).sum(1) / 2 + np.longdouble(sigma) ** 2 * b.log_weight.numpy()
    return (first + least).numpy(), (second.reshape(first.shape) + least).numpy(), exact


def along_bands(ours):
    """Rows that have in one band, or along all directions, the direction of an item, near and far."""
    b = ours._bounds
    rows = [torch.zeros(len(b.centre), dtype=torch.float64)]
    edges = [0, *b.bands.edges]
    for k in (0, 300):
        v = ours.denoiser.data.source.take(torch.tensor([k])).double().flatten() - b.centre
        inside = [b.bands.basis[:, s:e] for s, e in pairwise(edges)]
        parts = [q @ (q.T @ v) for q in inside]
        parts += [v - b.bands.basis @ (b.bands.basis.T @ v), v, -v]
        rows += [length * x for x in parts for length in (1.0, 50.0)]
    return (b.centre + torch.stack(rows)).unflatten(1, EVENT)


@pytest.mark.parametrize("kind", ["equal", "wide"])
@pytest.mark.parametrize("sigma", [0.005, 0.2, 5.0])
def test_no_score_lies_above_its_bound(kind, sigma):
    ours = ScreenedDenoiser(finite(kind, 0.0, 255.0), DIRECTIONS)
    y = torch.cat([along_bands(ours), around(ours.denoiser, 255 * sigma)])
    first, second, exact = all_scores(ours, y, 255 * sigma)
    assert (first >= exact).all()
    assert (second >= exact).all()
    # Along one band nothing is lost to Cauchy and Schwarz: only what rounding may amount to is.
    tight = ((first - exact) / (1.0 + np.abs(exact))).min(1)
    assert np.sort(tight)[len(tight) // 4] < 1e-4


def test_without_the_slack_scores_lie_above_their_bounds(screened, monkeypatch):
    y = along_bands(screened)
    assert (all_scores(screened, y, 0.01)[0] >= all_scores(screened, y, 0.01)[2]).all()
    monkeypatch.setattr(screened._bounds.bands, "slack", 0.0)
    monkeypatch.setattr(screened._bounds.bands, "wide_slack", 0.0)
    first, second, exact = all_scores(screened, y, 0.01)
    assert (first < exact).any()
    assert (second < exact).any()


def near_copies():
    """Some items 1e-2 from one another, 1e3 from the centre: differences below the rounding of float32 products."""
    rng = np.random.default_rng(2)
    v = np.concatenate([rng.normal(size=(600, 48)), 150.0 + 1e-3 * rng.normal(size=(24, 48))])
    return FiniteDenoiser(from_array(v.astype(np.float32), {"half": np.arange(624) % 2}))


def test_without_the_slack_the_bound_is_exceeded(monkeypatch):
    denoiser = near_copies()
    ours = ScreenedDenoiser(denoiser, DIRECTIONS)
    y, sigma = denoiser.data.source.read(600, 624).double(), level(1e-4, 24)
    exact = truth(denoiser, y, sigma)
    found = ours.certified(y, sigma)
    assert (errors(found, exact) <= found.bound.numpy()).all()
    assert found.bound.max() < 1e-6
    for name in ("slack", "wide_slack"):
        monkeypatch.setattr(ours._bounds.bands, name, 0.0)
    wrong = ours.certified(y, sigma)
    assert (errors(wrong, exact) > wrong.bound.numpy()).any()


def test_without_the_bands_the_bound_is_exceeded(monkeypatch):
    """An item that is like the row where items hardly vary is lost."""
    denoiser = finite()
    y, sigma = denoiser.data.source.read(200, 240).double(), level(0.03, 40)
    exact = truth(denoiser, y, sigma)
    found = ScreenedDenoiser(denoiser, DIRECTIONS).certified(y, sigma)
    assert (errors(found, exact) <= found.bound.numpy()).all()
    norms = Bands.norms
    monkeypatch.setattr(Bands, "norms", lambda self, p: 0.0 * norms(self, p))
    wrong = ScreenedDenoiser(denoiser, DIRECTIONS).certified(y, sigma)
    assert (errors(wrong, exact) > wrong.bound.numpy()).any()


def test_crowded_rows_are_those_of_the_dense_pass(screened):
    sigma = torch.tensor([0.01, 3.0, 0.02, 8.0], dtype=torch.float64)
    y = around(screened.denoiser, 1.0)[:4] * 0.0 + screened.denoiser.data.source.read(300, 304).double()
    y += sigma[:, None, None, None] * torch.randn(y.shape, generator=generator(4, 0), dtype=torch.float64)
    given = {"half": torch.tensor([0, 1, -1, -1])}
    found = screened.certified(y, sigma, given)
    assert found.dense.tolist() == [False, True, False, True]
    rows = torch.tensor([1, 3])
    dense = screened.denoiser(y[rows], sigma[rows], {"half": given["half"][rows]})
    assert torch.equal(found.mean[rows], dense)
    assert found.survivors[rows].tolist() == [ITEMS, ITEMS]
    assert (errors(found, truth(screened.denoiser, y, sigma, given)) <= found.bound.numpy()).all()
    assert found.bound[rows].max() < 1e-10


def test_rows_that_are_crowded_after_the_second_stage(screened, monkeypatch):
    monkeypatch.setattr(screen, "_FEW", 1)
    monkeypatch.setattr(screen, "_CROWDED", 0.0)
    y = around(screened.denoiser, 0.03)
    found = screened.certified(y, level(0.03, len(y)))
    assert set(found.dense.tolist()) == {False, True}
    assert (found.survivors[~found.dense] <= 1).all()
    assert (errors(found, truth(screened.denoiser, y, level(0.03, len(y)))) <= found.bound.numpy()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_is_the_mean_and_rows_are_independent(screened, dtype):
    y = around(screened.denoiser, 0.05).to(dtype)
    sigma = torch.linspace(0.01, 0.3, len(y), dtype=dtype)
    given = {"rare": torch.arange(len(y)) % 3 - 1}
    given["rare"][given["rare"] == 1] = 0
    found = screened.certified(y, sigma, given)
    mean = screened(y, sigma, given)
    assert mean.dtype == dtype
    assert torch.equal(mean, found.mean.to(dtype))
    for i in range(len(y)):
        one = screened.certified(y[i : i + 1], sigma[i : i + 1], {"rare": given["rare"][i : i + 1]})
        apart = (one.mean[0] - found.mean[i]).norm()
        assert apart <= 1e-3 * (one.bound[0] + found.bound[i])


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.1])
def test_compiled_and_plain_are_one(screened, sigma):
    plain = ScreenedDenoiser(screened.denoiser, DIRECTIONS, compiled=False)
    y = around(screened.denoiser, sigma, count=20)
    assert screened._compiled is not None
    a, b = (d.certified(y, level(sigma, len(y))) for d in (screened, plain))
    assert torch.equal(a.survivors, b.survivors)
    assert torch.equal(a.dense, b.dense)
    assert a.survivors[~a.dense].max() > 1
    assert torch.allclose(a.mean, b.mean, rtol=0, atol=1e-15 / sigma**2)  # sums in another order, in logits
    assert torch.allclose(a.bound, b.bound, rtol=1e-6)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = screened.certified(y, level(sigma, len(y)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(two.survivors, a.survivors)
    assert torch.allclose(two.mean, a.mean, rtol=0, atol=1e-15 / sigma**2)


def test_it_works_where_numba_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("pair_loops", "with_numba", "simd"):  # all that import it
        monkeypatch.delitem(sys.modules, f"sigmascope.exact.finite.kernel.{name}", raising=False)
        monkeypatch.delattr(f"sigmascope.exact.finite.kernel.{name}", raising=False)
    assert compiled_module.__wrapped__("pair_loops") is None
    monkeypatch.setattr(pairs, "compiled_module", compiled_module.__wrapped__)
    denoiser = finite()
    y = around(denoiser, 0.05)
    found = ScreenedDenoiser(denoiser, DIRECTIONS).certified(y, level(0.05, len(y)))
    assert (errors(found, truth(denoiser, y, level(0.05, len(y)))) <= found.bound.numpy()).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_pairs_against_loops(compiled):
    """What lives, products and differences, each against numpy; ties with the threshold do not live."""
    loops = pairs.compiler() if compiled else None
    g = generator(8, 1)
    scores = torch.randint(0, 50, (3, 5, TILE // BLOCK, BLOCK), generator=g).float()
    scores[1, 2] = -torch.inf
    least = torch.tensor([48.0, 49.0, 47.5, -1.0, 48.5])
    row, item, count = pairs.scores_above(scores, scores.amax(3), least, 3 * TILE - 1, loops)
    flat = scores.transpose(0, 1).flatten(1).numpy()
    wanted = flat > least.numpy()[:, None]
    assert count.tolist() == wanted.sum(1).tolist()
    wanted[3] = False  # more than the limit
    assert sorted(zip(row.tolist(), item.tolist(), strict=True)) == list(zip(*np.nonzero(wanted), strict=True))
    assert (row.diff() >= 0).all()
    stored, query = torch.randn(30, 2, bands.RUN, generator=g), torch.randn(4, 2, bands.RUN, generator=g)
    i, r = torch.randint(0, 30, (57,), generator=g), torch.randint(0, 4, (57,), generator=g)
    exact = (stored[i].double() * query[r].double()).sum((1, 2))
    assert (pairs.products(stored, i, query, r, loops) - exact).abs().max() < 1e-4
    values, anchors = stored.flatten(1)[i], torch.randn(4, 256, generator=g, dtype=torch.float64)
    along, square = pairs.differences(values, anchors, anchors.flip(0).contiguous(), r, loops)
    step = values.double() - anchors[r]
    assert torch.allclose(along, (step * anchors.flip(0)[r]).sum(1), rtol=0, atol=1e-11)
    assert torch.allclose(square, (step**2).sum(1), rtol=1e-13)


@pytest.mark.parametrize(
    ("items", "directions"),
    [(2, (128, 1024)), (20, (128, 1024)), (ITEMS, (128, 1024)), (ITEMS, (1, 1)), (ITEMS, (5, 5)), (ITEMS, (3, 200))],
)
def test_any_number_of_items_and_directions(items, directions):
    denoiser = finite(items=items)
    ours = ScreenedDenoiser(denoiser, directions)
    for sigma in (0.01, 0.1, 1.0):
        y = denoiser.data.source.read(0, 2).double() + sigma * torch.randn(
            (2, *EVENT), generator=generator(6, 0), dtype=torch.float64
        )
        found = ours.certified(y, level(sigma, 2))
        assert (errors(found, truth(denoiser, y, level(sigma, 2))) <= found.bound.numpy()).all()
        assert found.bound.max() < 1e-6


@pytest.mark.parametrize(("name", "value"), [("_WIDE_BYTES", 0), ("_LARGEST_MATRIX", 64), ("_SAMPLE", 50)])
def test_smaller_room_makes_no_other_means(name, value, monkeypatch):
    """No second stage; directions from the products of the sample; fewer items in the sample than coordinates."""
    monkeypatch.setattr(bands, name, value)
    denoiser = finite()
    ours = ScreenedDenoiser(denoiser, DIRECTIONS)
    assert (ours._bounds.wide is None) == (name == "_WIDE_BYTES")
    basis = ours._bounds.bands.basis
    assert (basis.T @ basis - torch.eye(basis.shape[1])).abs().max() < 1e-12
    for sigma in (0.01, 0.06):
        y = around(denoiser, sigma)
        found = ours.certified(y, level(sigma, len(y)))
        assert not found.dense.all()
        assert (errors(found, truth(denoiser, y, level(sigma, len(y)))) <= found.bound.numpy()).all()


def test_items_that_are_all_equal():
    denoiser = FiniteDenoiser(from_array(np.full((40, 6), 0.3, np.float32), {"half": np.arange(40) % 2}))
    found = ScreenedDenoiser(denoiser).certified(torch.zeros(1, 6), torch.ones(1))
    assert torch.equal(found.mean, torch.full((1, 6), 0.3).double())
    assert float(found.bound) < 1e-15


def test_precision_set_by_the_caller_is_not_used(screened, monkeypatch):
    """Few processors have a reduced one, so what is asked of them is looked at."""
    seen = []
    left = screened._bounds.left

    def look(self, *args):
        seen.append(torch.get_float32_matmul_precision())
        return left(*args)

    monkeypatch.setattr(type(screened._bounds), "left", look)
    torch.set_float32_matmul_precision("medium")
    try:
        screened(around(screened.denoiser, 0.05), level(0.05, 8))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["highest"]


def refused(message):
    return pytest.raises(InputError, match=f"^{re.escape(message)}$")


def test_messages(screened):
    y, sigma = torch.zeros(2, *EVENT), torch.ones(2)
    with refused("sigma has shape (3,), y has batch 2: pass one level per row"):
        screened.certified(y, torch.ones(3))
    with refused("row 1 of y or sigma holds a number that is not finite (NaN or infinite): expected finite numbers"):
        screened.certified(torch.stack([y[0], y[0] + torch.nan]), sigma)
    with refused("row 0: |y - v|² / sigma² overflows: pass a larger sigma or smaller values"):
        screened.certified(y.double() + 1e100, torch.tensor([1e-60, 1.0], dtype=torch.float64))
    with refused("known['half'] must lie between -1 (unknown) and 1"):
        screened.certified(y, sigma, {"half": torch.tensor([0, 2])})
    with refused("directions are (8, 4): expected two numbers from 1 up, the second not the smaller"):
        ScreenedDenoiser(screened.denoiser, (8, 4))
    with refused("tolerance is 0.0: expected a finite distance greater than 0, such as 1e-6"):
        ScreenedDenoiser(screened.denoiser, DIRECTIONS, 0.0)


def test_no_item_is_as_said():
    """Weights of zero are no items either; the row is named also where its level would send it to the dense pass."""
    w = np.where(np.arange(ITEMS) % 50 == 7, 0.0, 1.0)
    rng = np.random.default_rng(9)
    labels = {"half": rng.integers(0, 2, ITEMS), "rare": (np.arange(ITEMS) % 50 == 7).astype(int)}
    ours = ScreenedDenoiser(FiniteDenoiser(from_array(images(), labels, weights=w / w.sum())), DIRECTIONS)
    y, given = torch.zeros(3, *EVENT), {"rare": torch.tensor([0, -1, 1])}
    for sigma in (0.01, 9.0):
        with refused("row 2: no item has the attributes of known: pass -1 (unknown) for one of them"):
            ours(y, torch.full((3,), sigma), given)
    with refused("the directions are orthonormal to 1: expected 1e-8, pass an orthonormal basis"):
        Bands(torch.eye(4, dtype=torch.float64)[:, :1] * 2**0.5, 1)
