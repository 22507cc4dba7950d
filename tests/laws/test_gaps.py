"""Score gap and MMSE gap against quadrature, the full space, and the posterior's measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from asked import study
from problems import four_points, random_set
from sigmascope.analysis.onset import onsets
from sigmascope.core import Agreement, Draws
from sigmascope.data import draw_items, from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.exact.finite.sketch import Sketch, make_sketch, pooled
from sigmascope.information.gaps import agreement, mmse_gap, score_gap
from sigmascope.information.jobs.passes import Collected
from sigmascope.information.pairs import conditional
from sigmascope.information.posterior import posterior
from sigmascope.noise import integral_coarse, integral_from_the_top, integration_grid, sigma_grid
from sigmascope.studies.results import agreements_of


@pytest.fixture
def parts_of_eight(monkeypatch):
    """Eight draws share random directions."""
    monkeypatch.setattr("sigmascope.exact.finite.sketch._PART", 8)


def whole_space(size: int) -> Sketch:
    return Sketch(torch.eye(size), size)


def finished(data, draws, sigma, sketch, dtype=None):
    work = PosteriorPass(FiniteDenoiser(data), draws, sigma, dtype, sketch)
    while not work.done:
        work.step()
    return work


def exact_rate(line, name, sigma):
    """E|D_A - D|^2 / sigma^2 by quadrature over y, independent of the package."""
    y, _ = line.grid(sigma)
    joint, step = line.kernel(y, sigma), y[1] - y[0]
    overall = (joint * line.points).sum(1) / np.maximum(joint.sum(1), 1e-300)
    total = 0.0
    for a in np.unique(line.labels[name]):
        part = joint[:, line.labels[name] == a]
        conditional = (part * line.points[line.labels[name] == a]).sum(1) / np.maximum(part.sum(1), 1e-300)
        total += float((part.sum(1) * (conditional - overall) ** 2).sum() * step)
    return total / sigma**2


@pytest.fixture(scope="module")
def four():
    line = four_points()
    data = line.data()
    sigma = sigma_grid()
    draws = draw_items(data, 6000, 1)
    work = finished(data, draws, sigma, whole_space(1))
    truth = {n: np.array([line.information(n, s) for s in sigma]) for n in line.labels}
    return line, data, sigma, work, truth


@pytest.mark.parametrize("name", ["point", "coarse", "alternate"])
@pytest.mark.parametrize("way", [score_gap, mmse_gap])
def test_gaps_find_the_information_of_four_points(four, name, way):
    _, data, sigma, work, truth = four
    curve = way(data.attribute(name), sigma, work.gaps()[name])
    error = np.sqrt(curve.stderr**2 + curve.quadrature_error**2)
    assert np.all(np.abs(curve.value - truth[name]) < 4 * error + 2e-7)
    assert error.max() < (0.012 if way is score_gap else 0.05) * curve.ceiling


def test_score_gap_has_the_smaller_error(four):
    _, data, sigma, work, _ = four
    gap = work.gaps()["point"]
    a = data.attribute("point")
    assert score_gap(a, sigma, gap).stderr[-1] < 0.6 * mmse_gap(a, sigma, gap).stderr[-1]


def test_pairs_agree_and_the_verdict_can_fail(four):
    _, data, sigma, work, _ = four
    a = data.attribute("point")
    base = posterior(a, sigma, work.log_posterior()["point"][:-1])
    score = score_gap(a, sigma, work.gaps()["point"])
    found = agreement(base, score)
    assert found.errors_apart < 4
    assert abs(found.largest[0]) < 0.02
    wrong = score_gap(a, sigma, work.gaps()["coarse"])
    assert agreement(base, wrong).errors_apart > 20


def test_a_bound_may_lie_below_but_not_above():
    sigma = np.array([2.0, 1.0, 0.5])
    below = Agreement("a", "filter", sigma, np.array([0.0, -0.5, -0.1]), np.full(3, 0.05), 1.0)
    above = Agreement("a", "filter", sigma, np.array([0.0, 0.5, -0.1]), np.full(3, 0.05), 1.0)
    assert below.errors_apart == above.errors_apart == pytest.approx(10.0)
    assert below.errors_above == 0.0
    assert above.errors_above == pytest.approx(10.0)


@pytest.mark.parametrize("name", ["point", "coarse", "alternate"])
def test_quadrature_error_is_an_honest_one(four, name):
    line, _, _, _, truth = four
    for levels in (20, 40, 80):
        sigma = sigma_grid(90, 0.05, levels)
        rate = np.array([exact_rate(line, name, s) for s in sigma])
        information = np.array([line.information(name, s) for s in sigma])
        found = information[0] + integral_from_the_top(sigma) @ rate
        coarse = information[0] + integral_coarse(sigma) @ rate
        claimed = np.abs(found - coarse) / 15
        assert np.abs(found - information).max() < 3 * claimed.max() + 1e-7
        if levels == 40:
            assert np.abs(found - information).max() < 1e-3 * truth[name][-1]
        assert claimed.max() < 60 * np.abs(found - information).max() + 1e-7  # nor is it a blanket


def test_quadrature_weights_integrate_cubics_exactly():
    sigma = np.array([9.0, 5.0, 2.0, 1.5, 0.7, 0.3])
    x = np.log(sigma)
    f = 1 + 2 * x - 0.5 * x**2 + 0.3 * x**3
    primitive = x + x**2 - x**3 / 6 + 0.075 * x**4
    assert np.allclose(integral_from_the_top(sigma) @ f, primitive[0] - primitive)
    few = np.array([3.0, 2.0, 1.0])
    line = np.log(few)
    assert np.allclose(integral_from_the_top(few) @ line, (line[0] ** 2 - line**2) / 2)


def test_tail_above_the_first_level(four):
    """The two terms of the series come nearer to the truth than the first alone."""
    line, data, _, _, _ = four
    for top in (40.0, 90.0):
        sigma = sigma_grid(top, 1.0, 8)
        work = finished(data, draw_items(data, 8, 0), sigma, whole_space(1))
        for name in ("point", "coarse"):
            gap, truth, snr = work.gaps()[name], line.information(name, top), 1 / top**2
            one = 0.5 * snr * gap.spread
            two = one - 0.25 * snr**2 * gap.frobenius
            curve = score_gap(data.attribute(name), sigma, gap)
            assert curve.value[0] == pytest.approx(two, rel=1e-9)
            assert abs(two - truth) < 0.2 * abs(one - truth)
            assert abs(two - truth) < curve.quadrature_error[0]


def test_projected_gaps_are_those_of_the_denoisers():
    """Along all directions the gaps equal those of the denoiser conditional each value."""
    data = random_set(4, items=120, event=(1, 3, 4))
    denoiser = FiniteDenoiser(data)
    draws = draw_items(data, 10, 2)
    sigma = sigma_grid(3.0, 0.05, 5)
    for dtype in (torch.float64, torch.float32):
        gaps = finished(data, draws, sigma, whole_space(12), dtype).gaps()
        for j, s in enumerate(sigma):
            v = draws.v.double()
            y, level = v + s * draws.noise.double(), torch.full((10,), s, dtype=torch.float64)
            free = denoiser(y, level)
            pi = denoiser.log_posterior(y, level, "many").exp()
            own = data.labels["many"][draws.items]
            score, conditional = 0, denoiser(y, level, {"many": own})
            for a in range(pi.shape[1]):
                gap = denoiser(y, level, {"many": torch.full((10,), a)}) - free
                score = score + pi[:, a] * (gap**2).flatten(1).sum(1)
            mmse = ((v - free) ** 2 - (v - conditional) ** 2).flatten(1).sum(1)
            assert np.allclose(gaps["many"].score[j], score.numpy(), atol=2e-5)
            assert np.allclose(gaps["many"].mmse[j], mmse.numpy(), atol=2e-5)
    # by law of total covariance, on the labels' own moments
    x, w = data.source.read(0, len(data)).double().flatten(1), data.weights
    mean = (w[:, None] * x).sum(0)
    spread = 0.0
    for a in range(len(data.attribute("many").values)):
        mine = data.labels["many"] == a
        p = w[mine].sum()
        spread += float(p * (((w[mine, None] * x[mine]).sum(0) / p - mean) ** 2).sum())
    assert gaps["many"].spread == pytest.approx(spread, rel=1e-4)


def test_gaps_of_near_duplicates_at_small_sigma():
    """Where only near-duplicates are left, the listed pairs of float32 give the gaps of float64's full sums."""
    data = random_set(4, items=240, event=(1, 3, 4))
    draws, sigma = draw_items(data, 40, 2), sigma_grid(0.03, 0.001, 6)
    fine, coarse = (finished(data, draws, sigma, whole_space(12), t).gaps() for t in (torch.float64, torch.float32))
    for name in ("many", "even"):
        assert fine[name].score.max() > 1e-5
        assert np.allclose(coarse[name].score, fine[name].score, rtol=2e-2, atol=1e-8)
        assert np.allclose(coarse[name].mmse, fine[name].mmse, rtol=2e-2, atol=1e-7)


@pytest.mark.parametrize("each", [24, 6], ids=["of all draws", "of three draws each"])
def test_error_of_the_random_directions_covers(each, monkeypatch):
    """Over many choices of directions the estimate scatters about that of the whole space as its error says."""
    monkeypatch.setattr("sigmascope.exact.finite.sketch._PART", each // 2)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 80)).astype(np.float32) * np.linspace(2, 0.5, 80, dtype=np.float32)
    data = from_array(x, {"a": np.arange(60) % 3})
    draws, sigma = draw_items(data, 12, 0), sigma_grid(40.0, 0.5, 10)
    a = data.attribute("a")
    truth = score_gap(a, sigma, finished(data, draws, sigma, whole_space(80)).gaps()["a"])
    inside = narrow = 0
    seeds = 150
    for seed in range(seeds):
        sketch = make_sketch(torch.from_numpy(x), 6, 24, torch.Generator().manual_seed(seed), each)
        curve = score_gap(a, sigma, finished(data, draws, sigma, sketch).gaps()["a"])
        common = np.sqrt(curve.stderr**2 - curve.per_draw.var(1, ddof=1) / 12)[6]
        assert np.all(agreement(curve, curve).stderr >= np.sqrt(curve.common_variance) - 1e-12)
        inside += abs(curve.value[6] - truth.value[6]) < 1.96 * common
        narrow += abs(curve.value[6] - truth.value[6]) < 1.3 * common
        assert common < 0.2 * truth.value[6]
    s = 4 * np.sqrt(0.95 * 0.05 / seeds)
    assert 0.95 - s - 0.01 < inside / seeds
    assert narrow / seeds < 0.95 - 0.02


def test_pooled_directions_have_the_error_of_their_mean():
    """Sets of other sizes, weights and means: what the draws differ by from set to set is no error of directions."""
    rng = np.random.default_rng(0)
    sizes, weights, means = (5, 3, 8), (0.5, 0.2, 0.3), (0.0, 40.0, -7.0)
    found = []
    for _ in range(4000):
        said = [torch.from_numpy(m + rng.normal(size=n)) for n, m in zip(sizes, means, strict=True)]
        whole = pooled(said, weights)
        assert len(whole) == 16
        found.append((float(whole.mean()), float(whole.var(correction=1)) / 16))
    mean, claimed = np.array(found).T
    expected = sum(w**2 / n for w, n in zip(weights, sizes, strict=True))
    assert mean.mean() == pytest.approx(5.9, abs=4 * (expected / 4000) ** 0.5)
    assert mean.var() == pytest.approx(expected, rel=0.1)
    assert claimed.mean() == pytest.approx(expected, rel=0.05)


@pytest.mark.usefixtures("parts_of_eight")
def test_each_part_of_the_draws_is_measured_along_its_own_directions():
    data = random_set(4, items=200, event=(3, 4, 5))
    draws, sigma = draw_items(data, 30, 2), sigma_grid(20.0, 0.05, 12)
    items = data.source.read(0, 200).flatten(1)
    sketch = make_sketch(items, 20, 8, torch.Generator().manual_seed(0), 4).of_draws(30)
    assert sketch.parts == 4
    assert sigma[-1] < sketch.coarse_above < sigma[0]
    joined = finished(data, draws, sigma, sketch).gaps()["many"]
    assert joined.score_directions.shape == (12, 16)
    said = np.zeros((2, 12))
    spread = 0.0
    for k, start in enumerate(range(0, 30, 8)):
        part = slice(start, start + 8)
        wide = sketch.wide[:, 4 * k : 4 * k + 4]
        basis = sketch.directions[:, :20]
        own = replace(sketch, directions=torch.cat([basis, wide - basis @ (basis.T @ wide)], 1), wide=wide, parts=1)
        some = Draws(draws.items[part], draws.v[part], draws.noise[part])
        alone = finished(data, some, sigma, own).gaps()["many"]
        assert np.allclose(joined.score[:, part], alone.score, rtol=1e-5, atol=1e-9)
        assert np.allclose(joined.mmse[:, part], alone.mmse, rtol=1e-5, atol=1e-6)
        share = len(some) / 30
        said += share * np.stack([alone.score_directions.mean(1), alone.mmse_directions.mean(1)])
        spread += share * alone.spread
    assert np.allclose(joined.score_directions.mean(1), said[0], rtol=1e-5, atol=1e-9)
    assert np.allclose(joined.mmse_directions.mean(1), said[1], rtol=1e-5, atol=1e-6)
    assert joined.spread == pytest.approx(spread)


def test_blocks_of_draws_have_directions_of_their_own(monkeypatch):
    """What they say is joined as it is over the parts of a block, and the mean of the gaps is the mean over draws."""
    monkeypatch.setattr("sigmascope.information.jobs.passes.block_draws", lambda *a: 30)
    data = random_set(4, items=200, event=(3, 8, 8))
    draws, sigma = draw_items(data, 100, 2), sigma_grid(20.0, 0.05, 12)
    sketch = make_sketch(data.source.read(0, 200).flatten(1), 20, 8, torch.Generator().manual_seed(0), 4)
    work = Collected(FiniteDenoiser(data), draws, sigma, sketch)
    while not work.done:
        work.step()
    gap = work.gap("many")
    assert gap.score_directions.shape == (12, 16)
    shares = 0.3, 0.3, 0.3, 0.1
    blocks = [b["score_directions.many"] for b in work._finished]
    mean = sum(w * b.mean(1) for w, b in zip(shares, blocks, strict=True))
    variance = sum(w**2 * b.var(1, ddof=1) / 4 for w, b in zip(shares, blocks, strict=True))
    assert np.allclose(gap.score_directions.mean(1), mean)
    assert np.allclose(gap.score_directions.var(1, ddof=1) / 16, variance)
    spreads = [float(b["spread.many"]) for b in work._finished]
    assert len(set(spreads)) == 4
    assert gap.spread == pytest.approx(np.dot(shares, spreads))


def test_random_directions_of_parts_and_blocks_are_independent():
    items = torch.randn(50, 400, generator=torch.Generator().manual_seed(0))
    sketch = make_sketch(items, 8, 32, torch.Generator().manual_seed(0), 16)
    assert sketch.of_draws(32).parts == 1
    assert sketch.of_draws(33).parts == 2
    one, again, other = sketch.of_draws(64), sketch.of_draws(64), sketch.of_draws(64, 1)
    assert torch.equal(one.wide, again.wide)
    assert torch.equal(one.directions[:, :8], other.directions[:, :8])
    lead = one.directions[:, : one.coarse_exact]
    every = torch.cat([one.wide, other.wide], 1)
    assert float((lead.T @ every).abs().max()) < 1e-5
    normed = every / every.norm(dim=0)
    assert float((normed.T @ normed - torch.eye(64)).abs().max()) < 5 / 400**0.5


def test_sketch_splits_a_norm_without_bias():
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(50, 200, generator=generator)
    sketch = make_sketch(items, 8, 16, generator)
    assert sketch.directions.shape == (200, 24)
    lead, rest = sketch.directions[:, :8].double(), sketch.directions[:, 8:].double()
    assert torch.allclose(lead.T @ lead, torch.eye(8).double(), atol=1e-5)
    assert float((lead.T @ rest).abs().max()) < 1e-5
    x = torch.randn(200, generator=generator).double()
    found = [
        float(((x @ make_sketch(items, 8, 16, torch.Generator().manual_seed(s)).directions.double()) ** 2).sum())
        for s in range(200)
    ]
    assert np.mean(found) == pytest.approx(float((x**2).sum()), abs=4 * np.std(found) / 200**0.5)


def test_sums_by_class_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(30, n, generator=generator, dtype=torch.float64) for n in (4, 5))
    for kinds in (
        [0] * 30,
        [k % 3 for k in range(30)],
        [min(k, 2) for k in range(30)],
        sorted([k % 3 for k in range(30)]),
    ):
        second = torch.arange(30) % 5
        classes = torch.stack([torch.tensor(kinds), 3 + second, torch.full((30,), 9)], 1)
        out = torch.zeros(10, 4, 5, dtype=torch.float64)
        ClassSums(classes).add(out, left, right)
        for c in range(10):
            expected = sum(
                (torch.outer(left[k], right[k]) for k in range(30) if c in classes[k].tolist()), torch.zeros(4, 5)
            )
            assert torch.allclose(out[c], expected.double(), atol=1e-12)


def test_chain_rule_and_conditional_information(four):
    """I(B; Y | A) of four points is the mean of two problems of two points, of half-width 2 and 1."""
    line, data, sigma, work, truth = four
    joint = from_array(line.points[:, None], line.labels, attributes=["coarse", "coarse+alternate"])
    assert joint.attribute("coarse+alternate").values == ("0 + 0", "0 + 1", "1 + 0", "1 + 1")
    found = finished(joint, draw_items(joint, 6000, 1), sigma, None).log_posterior()
    both = posterior(joint.attribute("coarse+alternate"), sigma, found["coarse+alternate"][:-1])
    coarse = posterior(joint.attribute("coarse"), sigma, found["coarse"][:-1])
    point = posterior(data.attribute("point"), sigma, work.log_posterior()["point"][:-1])
    assert np.allclose(both.value, point.value, atol=1e-12)
    given = conditional(both, coarse, "alternate | coarse")
    from problems import two_points

    expected = np.array([np.mean([two_points(m).information("sign", s) for m in (1.0, 2.0)]) for s in sigma])
    assert np.allclose(expected, truth["point"] - truth["coarse"], atol=1e-7)
    common = expected < 0.99 * np.log(2)
    assert np.all(np.abs(given.value - expected)[common] < 4 * given.stderr[common] + 1e-9)
    assert given.ceiling == pytest.approx(np.log(2))
    # TRUTHS: the finer splits, once the coarse one is known, are half decided at 1.957 and .979
    for m, half in ((2.0, 1.957), (1.0, 0.979)):
        value = np.array([two_points(m).information("sign", s) for s in sigma])
        curve = type(given)("x", "posterior", sigma, value, 0 * value, np.log(2), np.stack([value, value], 1))
        assert onsets([curve], resamples=4)[0].at[1].value == pytest.approx(half, rel=3e-3)


@pytest.mark.parametrize(("levels", "sigma_max"), [(2, 90.0), (3, 90.0), (5, 90.0), (30, 1.0), (30, 0.3)])
def test_gaps_do_not_depend_on_the_levels_asked_for(levels, sigma_max):
    """Few levels, or a first one where much is known already: the integral takes the levels that it needs."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 400)
    x = (10 * rng.random((400, 12)) + 2.0 * a[:, None]).astype(np.float32)
    options = {"draws": 200, "levels": levels, "sigma_max": sigma_max, "sigma_min": 0.05}
    results = study(x, labels={"a": a}, **options)
    assert results.sizes["sigma"] == levels
    (found,) = agreements_of(results)
    assert found.errors_apart < 4
    assert np.all(found.stderr < 0.1 * found.ceiling)


def test_integration_grid_holds_the_levels():
    sigma = np.array([9.0, 2.0, 1.9, 0.1])
    nodes, where = integration_grid(sigma, 50.0)
    assert np.array_equal(nodes[where], sigma)
    assert np.all(np.diff(nodes) < 0)
    assert np.abs(np.diff(np.log(nodes))).max() <= 0.3 + 1e-9
    assert nodes[0] == pytest.approx(50.0)
    same, index = integration_grid(sigma_grid(), 40.0)
    assert np.array_equal(same, sigma_grid())
    assert np.array_equal(index, np.arange(40))
