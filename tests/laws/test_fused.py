"""The compiled inner loop, tiles in threads, draws from outside the data, and sums by class, against float64."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmascope.core import Draws, InputError
from sigmascope.data import draw_items, from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.kernel.level_sums import compiler
from sigmascope.exact.finite.kernel.threads import Turn, in_threads
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.exact.finite.sketch import make_sketch
from sigmascope.noise import sigma_grid

SIGMA = sigma_grid(90.0, 0.02, 25)


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def small_tiles(request, monkeypatch):
    """Tiles of 64 items, on one thread or several."""
    monkeypatch.setattr("sigmascope.exact.finite.posterior._TILE_ROWS", 64)
    monkeypatch.setattr("sigmascope.exact.finite.posterior.MEANS_ROWS", 64)
    monkeypatch.setattr("sigmascope.exact.finite.posterior.workers", lambda device: request.param)


def made(n=500, size=40, weights=None, seed=0):
    """Items in three clusters, some of them equal or nearly so, under three labels in orders of their own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, size)) * np.linspace(2, 0.2, size) + 3.0 * (np.arange(n) % 3)[:, None] / 3
    x[7], x[8] = x[3], x[4] + 1e-4
    labels = {"run": np.arange(n) // 90, "turn": np.arange(n) % 4, "any": rng.integers(0, 7, n)}
    return from_array(x.astype(np.float32), labels, weights=weights)


def finished(data, draws, sigma=SIGMA, **options):
    work = PosteriorPass(FiniteDenoiser(data), draws, sigma, **options)
    while not work.done:
        work.step()
    return work


def dense(data, draws, sigma=SIGMA):
    """ln p(item | y) from true differences, (levels, draws, items)."""
    x = data.source.read(0, len(data)).flatten(1).double()
    v, n = draws.v.flatten(1).double(), draws.noise.flatten(1).double()
    found = []
    for s in sigma:
        logit = torch.stack([-(((a + s * b) - x) ** 2).sum(1) / (2 * s**2) for a, b in zip(v, n, strict=True)])
        found.append((logit + data.weights.log()).log_softmax(1))
    return torch.stack(found)


def by_class(data, log_p, name):
    hot = torch.nn.functional.one_hot(data.labels[name], len(data.attribute(name).values)).double()
    return log_p.exp() @ hot


def outside(data, draws=30, spread=0.3, seed=5):
    g = torch.Generator().manual_seed(seed)
    v = data.source.take(torch.randint(len(data), (draws,), generator=g))
    v = v + spread * torch.randn(v.shape, generator=g)
    return Draws(torch.full((draws,), -1), v, torch.randn(v.shape, generator=g))


def weights_of(kind, n=500):
    rng = np.random.default_rng(3)
    wide = np.exp(rng.uniform(-60, 0, n))
    return {"equal": None, "unequal": rng.uniform(0.2, 1, n) * (np.arange(n) % 5 > 0), "wide": wide}[kind]


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("kind", ["equal", "unequal", "wide"])
def test_posteriors_are_those_of_a_dense_softmax(kind, where, compiled):
    data = made(weights=weights_of(kind))
    draws = draw_items(data, 30, 0) if where == "inside" else outside(data)
    work = finished(data, draws, dtype=torch.float32, compiled=compiled)
    truth = dense(data, draws)
    for name, log_p in work.log_posterior().items():
        assert torch.allclose(log_p[:-1].exp(), by_class(data, truth, name), atol=3e-5), name
    effective = 1.0 / truth.exp().pow(2).sum(2)
    assert torch.allclose(work.effective_items()[:-1], effective, rtol=2e-4)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_limit_from_outside_is_the_nearest_item(dtype):
    data = made()
    draws = outside(data)
    work = finished(data, draws, dtype=dtype)
    x = data.source.read(0, len(data)).double()
    nearest = ((draws.v.double()[:, None] - x) ** 2).sum(2).argmin(1)
    for name, log_p in work.log_posterior().items():
        assert torch.equal(log_p[-1].argmax(1), data.labels[name][nearest])
        assert torch.equal(log_p[-1].exp().amax(1), torch.ones(30, dtype=torch.float64))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
def test_logits_too_large_for_an_exponential(compiled):
    """The nearest item is a bad reference where the noise favours another by thousands of nats."""
    x = np.zeros((6, 2), np.float32)
    x[:, 0] = [10.0, -10.0, 10.5, -10.5, 40.0, -40.0]
    data = from_array(x, {"side": [1, 0, 1, 0, 1, 0]})
    v = torch.tensor([[-0.01, 0.0], [0.01, 0.0], [-0.2, 0.0]])
    noise = torch.tensor([[3.0, 0.1], [-3.0, 0.2], [2.5, 0.0]])
    draws = Draws(torch.full((3,), -1), v, noise)
    sigma = sigma_grid(20.0, 0.01, 30)
    work = finished(data, draws, sigma, dtype=torch.float32, compiled=compiled)
    truth = by_class(data, dense(data, draws, sigma), "side")
    assert torch.allclose(work.log_posterior()["side"][:-1].exp(), truth, atol=1e-4)
    assert truth[20, 0, 1] > 0.99  # though the nearest is on the other side
    assert data.labels["side"][int(((x - v[0].numpy()) ** 2).sum(1).argmin())] == 0


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("part", "held_back", "sparse"), [(64, 8, 0.4), (8, 8, 2.0), (8, 0, 2.0), (8, 1000, 2.0)])
def test_gaps_do_not_depend_on_compiler_threads_or_labels_in_runs(part, held_back, sparse, monkeypatch):
    monkeypatch.setattr("sigmascope.exact.finite.sketch._PART", part)
    monkeypatch.setattr("sigmascope.exact.finite.kernel.with_numba._HELD_BACK", held_back)  # 0: all are, however few
    monkeypatch.setattr(
        "sigmascope.exact.finite.kernel.with_numba._SPARSE_MEANS", sparse
    )  # 2: pair by pair from the second block on
    monkeypatch.setattr("sigmascope.exact.finite.kernel.with_numba._LISTED_MEANS", 1.0)
    data = made()
    draws = draw_items(data, 30, 0)
    sketch = make_sketch(data.source.read(0, 500), 12, 6, torch.Generator().manual_seed(0))
    assert SIGMA[-1] < sketch.coarse_above < SIGMA[0]
    exact = finished(data, draws, sketch=sketch, dtype=torch.float64).gaps()
    if sparse > 1:
        monkeypatch.setattr("sigmascope.exact.finite.kernel.with_torch._SPARSE_MEANS", sparse)
    for compiled in (True, False):
        found = finished(data, draws, sketch=sketch, dtype=torch.float32, compiled=compiled).gaps()
        for name, gap in exact.items():
            size = np.abs(gap.score).mean(1, keepdims=True)
            assert np.abs(found[name].score - gap.score).max() < 1e-3 * size.max()
            assert (np.abs(found[name].score.mean(1) - gap.score.mean(1)) < 3e-4 * size[:, 0] + 1e-9).all()
            assert np.allclose(found[name].spread, gap.spread, rtol=1e-5)
            assert np.allclose(found[name].frobenius, gap.frobenius, rtol=1e-4)


def test_the_same_to_the_last_digit(monkeypatch):
    """Threads that share their sums add to them in the order of the tiles."""
    monkeypatch.setattr("sigmascope.exact.finite.posterior.MEANS_ROWS", 16)
    data = made()
    draws = draw_items(data, 20, 0)
    sketch = make_sketch(data.source.read(0, 500), 6, 9, torch.Generator().manual_seed(0))
    found = []
    for threads in (1, 4, 4):
        monkeypatch.setattr("sigmascope.exact.finite.posterior.workers", lambda device, threads=threads: threads)
        found.append(finished(data, draws, sketch=sketch, dtype=torch.float32).gaps()["any"])
    for other in found[1:]:
        assert np.array_equal(found[0].score, other.score)
        assert np.array_equal(found[0].mmse, other.mmse)


def test_turns_are_taken_in_order():
    written: list[tuple[int, int]] = []
    turns = [Turn()]
    while len(turns) < 6:
        turns.append(Turn(turns[-1]))
    wait = random.Random(0)

    def task(i):
        for stage in range(3):
            time.sleep(0.01 * wait.random())
            with turns[i].stage(stage):
                written.append((stage, i))
        turns[i].leave()

    in_threads([lambda i=i: task(i) for i in range(6)], 3)
    for stage in range(3):
        assert [i for s, i in written if s == stage] == list(range(6))


@given(st.data())
@settings(max_examples=60)
def test_sums_by_class(data):
    rows = data.draw(st.integers(1, 200))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    columns, first = [], 0
    for _ in range(data.draw(st.integers(1, 4))):
        width = data.draw(st.integers(1, 6))
        kind = data.draw(st.sampled_from(["runs", "turns", "random", "again"]))
        made = {
            "runs": np.arange(rows) * width // rows,
            "turns": np.arange(rows) % width,
            "random": rng.integers(0, width, rows),
            "again": np.arange(rows) // 40 % width,
        }[kind]
        columns.append(made + first)
        first += width
    classes = torch.as_tensor(np.stack(columns, 1))
    left, right = (torch.as_tensor(rng.normal(size=(rows, k))) for k in (3, 2))
    out = torch.zeros(first, 3, 2, dtype=torch.float64)
    ClassSums(classes).add(out, left, right)
    truth = torch.zeros_like(out)
    for k in range(rows):
        for c in classes[k]:
            truth[c] += left[k, :, None] * right[k]
    assert torch.allclose(out, truth, atol=1e-10)


def test_sums_of_a_class_that_comes_again_before_another_comes_first():
    classes = torch.tensor([0, 1, 0, 2]).repeat_interleave(40)[:, None]
    left = torch.from_numpy(np.random.default_rng(0).normal(size=(160, 3)))
    out = torch.zeros(3, 3, 1, dtype=torch.float64)
    ClassSums(classes).add(out, left, torch.ones(160, 1, dtype=torch.float64))
    for c in range(3):
        assert torch.allclose(out[c, :, 0], left[classes[:, 0] == c].sum(0))


def test_exponential_of_eight():
    assert compiler() is not None, "numba is among what the package needs"
    from numba import njit

    from sigmascope.exact.finite.kernel import simd as lanes

    @njit
    def exponentials(x, zeros, out):
        for k in range(0, x.shape[0], lanes.WIDTH):
            value = lanes.quadratic(zeros, x, k, np.float32(0.0), np.float32(1.0), np.float32(0.0))
            lanes.store(out, k, lanes.exp(value))

    x = np.linspace(-79.9, 87.9, 80_000, dtype=np.float32)
    out = np.empty_like(x)
    exponentials(x, np.zeros_like(x), out)
    assert np.abs(out / np.exp(x.astype(np.float64)) - 1).max() < 3e-7
    exponentials(np.full(8, -81.0, np.float32), np.zeros(8, np.float32), out)
    assert (out[:8] == 0.0).all()


def test_sketch_sorts_what_is_known_along_its_mixed_directions():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 50)).astype(np.float32))
    sketch = make_sketch(x, 12, 6, torch.Generator().manual_seed(0)).of_draws(50)
    along = x @ sketch.mixed
    own = sketch.columns(50)[:1].expand(200, -1)
    coarse = sketch.coarse
    joined = torch.cat([along[:, :coarse], torch.zeros(200, 1), along[:, coarse:]], 1).take_along_dim(own, 1)
    known = torch.cat([joined[:, :coarse], joined[:, coarse + 1 :]], 1)
    assert torch.allclose(sketch.sorted(known, 0), x @ sketch.directions, atol=1e-5)
    assert torch.allclose(along[:, sketch.exact_columns], x @ sketch.directions[:, :12], atol=1e-5)
    every = sketch.sorted(along)
    assert torch.allclose(every[:, :18], x @ sketch.directions, atol=1e-5)
    assert every.shape == (200, 24)
    few = sketch.mixed[:, : sketch.coarse].double()
    inner = few[:, : sketch.coarse_exact].T @ few[:, sketch.coarse_exact :]
    assert sketch.coarse == sketch.coarse_exact + 6
    assert float(inner.abs().max()) < 1e-6  # the wide random ones are on the complement of the first exact ones


def test_draws_of_two_kinds_are_refused():
    data = made()
    items = torch.tensor([0, -1])
    with pytest.raises(InputError, match="make a pass for each kind"):
        PosteriorPass(FiniteDenoiser(data), Draws(items, data.source.read(0, 2), torch.zeros(2, 40)), SIGMA)
    work = finished(data, outside(data), sketch=make_sketch(data.source.read(0, 500), 6, 9, torch.Generator()))
    with pytest.raises(InputError, match="have no label"):
        work.gaps()


def test_a_step_is_one_tile_on_one_thread(monkeypatch):
    monkeypatch.setattr("sigmascope.exact.finite.posterior._TILE_ROWS", 64)
    monkeypatch.setattr("sigmascope.exact.finite.posterior.workers", lambda device: 1)
    data = made()
    work = PosteriorPass(FiniteDenoiser(data), draw_items(data, 4, 0), SIGMA)
    added = []
    add = work._add
    monkeypatch.setattr(work, "_add", lambda tile, *rest: (added.append(tile), add(tile, *rest))[1])
    work.step()
    assert added == [0]
    assert work.position == 1


def test_results_are_for_a_pass_that_is_done(monkeypatch):
    monkeypatch.setattr("sigmascope.exact.finite.posterior._TILE_ROWS", 64)
    data = made()
    work = PosteriorPass(FiniteDenoiser(data), draw_items(data, 4, 0), SIGMA)
    work.step()
    with pytest.raises(RuntimeError, match="once it is done"):
        work.log_posterior()
    while not work.done:
        work.step()
    work.log_posterior()
    with pytest.raises(RuntimeError, match="begin another one"):
        work.step()
    with pytest.raises(InputError, match="must be positive and decrease"):
        PosteriorPass(FiniteDenoiser(data), draw_items(data, 4, 0), SIGMA[::-1].copy())


@pytest.mark.usefixtures("small_tiles")
def test_a_tile_of_weight_zero_comes_first():
    weights = np.ones(500)
    weights[:200] = 0.0
    data = made(weights=weights)
    draws = outside(data)
    truth = dense(data, draws)
    for compiled in (True, False):
        work = finished(data, draws, dtype=torch.float32, compiled=compiled)
        for name, log_p in work.log_posterior().items():
            assert torch.allclose(log_p[:-1].exp(), by_class(data, truth, name), atol=3e-5)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_means_with_weights_far_apart(where):
    """Shifts and references move: threads take whole turns, and nothing overflows."""
    data = made(weights=weights_of("wide"))
    draws = draw_items(data, 20, 0) if where == "inside" else outside(data)
    sketch = make_sketch(data.source.read(0, 500), 12, 6, torch.Generator().manual_seed(0))
    truth = dense(data, draws)
    for dtype in (torch.float32, torch.float64):
        work = finished(data, draws, dtype=dtype, sketch=sketch)
        for name, log_p in work.log_posterior().items():
            assert torch.allclose(log_p[:-1].exp(), by_class(data, truth, name), atol=3e-5)


@pytest.mark.usefixtures("small_tiles")
def test_tiles_whose_rounding_differs_keep_their_turns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(640, 40)).astype(np.float32)
    x[::128] *= 30.0  # every other tile rounds more
    data = from_array(x, {"a": rng.integers(0, 5, 640), "b": np.arange(640) // 70})
    draws = draw_items(data, 16, 0)
    sketch = make_sketch(data.source.read(0, 640), 6, 9, torch.Generator().manual_seed(0))
    exact = finished(data, draws, sketch=sketch, dtype=torch.float64).gaps()
    for _ in range(3):
        found = finished(data, draws, sketch=sketch, dtype=torch.float32).gaps()
        for name, gap in exact.items():
            assert np.abs(found[name].score - gap.score).max() < 1e-3 * gap.score.mean(1).max()


def test_items_all_alike():
    data = from_array(np.ones((4, 3), np.float32), {"a": [0, 0, 1, 1]})
    draws = draw_items(data, 3, 0)
    sketch = make_sketch(data.source.read(0, 4), 1, 1, torch.Generator().manual_seed(0))
    assert sketch.directions.shape == sketch.mixed.shape
    for compiled in (True, False):
        log_p = finished(data, draws, dtype=torch.float32, compiled=compiled).log_posterior()["a"]
        assert torch.allclose(log_p.exp(), torch.tensor(0.5, dtype=torch.float64))
