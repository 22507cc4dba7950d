"""A fast part of the table of coverage, and that it can fail; the fit of what few children cannot show."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from sigmascope import rare
from sigmascope.core import Curve
from sigmascope.information import adaptive, allocation
from sigmascope.information.entropies import omitted_tail, zhang
from sigmascope.rare import skew_allowance, unmet_allowance
from sigmascope.studies.extras.exact import with_tree

TWO_POINTS = {0.25: 0.11142, 0.5: 0.20135, 1.0: 0.33683, 2.0: 0.50007, 4.0: 0.63272, 9.0: 0.68930}  # nats, by SNR
_FILE = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("coverage_table", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["coverage_table"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["coverage_table"]


def test_the_truths_of_the_table(table):
    two, _, ten, *_ = table.problems()
    for snr, known in TWO_POINTS.items():
        assert two.information(snr**-0.5) == pytest.approx(known, abs=2e-5)
    for share, sigma in zip((0.1, 0.5, 0.9), (4.133, 1.672, 0.953), strict=True):
        assert ten.information(sigma) == pytest.approx(share * ten.entropy, abs=2e-3)


@pytest.mark.parametrize("draws", [32, 256])
def test_onsets_by_sixteen_children_of_ten_values_cover(table, draws):
    rows = table.rows_of(table.problems()[2], "forks", table.by_forks(), draws, 60)
    assert all(r.fine for r in rows), [r for r in rows if not r.fine]
    assert {r.interval for r in rows} == {"curve", "onset"}


def test_intervals_that_leave_the_bias_out_are_seen(table):
    """The counter-test: Zhang's entropies as they are, and their standard error alone."""

    def biased(problem, sigma, log_posterior, _, g):
        counts = torch.from_numpy(g.multinomial(table.CHILDREN, np.exp(log_posterior)))
        a = problem.attribute()
        return Curve.of_draws(a.name, "forks", sigma, a.entropy - zhang(counts).numpy(), a.entropy, kind="estimate")

    rows = table.rows_of(table.problems()[2], "forks", biased, 256, 60)
    onsets = [r for r in rows if r.interval == "onset"]
    assert not onsets[0].fine
    assert not onsets[1].fine
    assert onsets[0].held < 0.2


def test_forks_near_their_ceiling_do_not_hold_too_often(table):
    """Two points, .92 H(A), 64 draws; the counter-test: as far to both sides as the tail's alone must reach."""
    problem = table.problems()[0]
    sigma, truth = table.levels_of(problem)
    k = table.between(problem, truth)[-1]
    held, as_far = [], []
    for seed in range(400):
        rng = np.random.default_rng([seed, 64])
        curve = table.by_forks()(problem, sigma[k : k + 1], *problem.posteriors(rng, 64, sigma[k : k + 1]), rng)
        off = abs(curve.value[0] - truth[k])
        shared, tail = curve.beyond_draws
        held.append(off <= 1.96 * curve.error[0])
        as_far.append(off <= 1.96 * np.sqrt(curve.stderr[0] ** 2 + shared[0] ** 2 + tail[0] ** 2))
    assert table.judged(float(np.mean(held)), 0.0, 400, False), np.mean(held)
    assert not table.judged(float(np.mean(as_far)), 0.0, 400, False), np.mean(as_far)


@pytest.mark.parametrize(("index", "children"), [(0, 2), (1, 8), (2, 16)])
def test_the_fit_takes_the_bias_off(table, index, children):
    """Mean over 20,000 draws, by when a tenth, a half and nine tenths are known: within the gauge and the chance."""
    problem, rng = table.problems()[index], np.random.default_rng(1)
    sigma, truth = table.levels_of(problem)
    at = [int(np.abs(truth / problem.entropy - q).argmin()) for q in (0.1, 0.5, 0.9)]
    p, _ = problem.posteriors(rng, 20_000, sigma[at])
    counts = torch.from_numpy(rng.multinomial(children, np.exp(p)))
    left, gauge = omitted_tail(counts, torch.from_numpy(problem.prior))
    known = problem.entropy - (zhang(counts).numpy() + left)
    error = np.abs(known.mean(1) - truth[at])
    assert np.all(error < 4 * known.std(1) / 20_000**0.5 + 2 * gauge)
    plain = np.abs((problem.entropy - zhang(counts).numpy()).mean(1) - truth[at])
    assert plain.max() > 3 * error.max()


@pytest.mark.parametrize("draws", [16, 64, 256])
def test_lower_ends_of_bounds_lie_below_the_truth(table, draws):
    """Near the ceiling too, where few draws carry what is missing; standard errors alone fail there."""
    for problem in (table.problems()[0], table.problems()[2]):
        sigma, truth = table.levels_of(problem)
        keep = (truth > 0.8 * problem.entropy) & (truth < 0.99 * problem.entropy)
        above, plain = [], []
        for seed in range(300):
            rng = np.random.default_rng([seed, draws])
            curve = table.by_bound(problem, sigma[keep], *problem.posteriors(rng, draws, sigma[keep]), rng)
            above.append(curve.value - 1.96 * curve.error > truth[keep])
            plain.append(curve.value - 1.96 * curve.stderr > truth[keep])
        assert all(table.judged(1.0, share, 300, True) for share in np.mean(above, 0))
        assert not all(table.judged(1.0, share, 300, True) for share in np.mean(plain, 0))


def test_a_bound_that_claims_nothing_has_no_error():
    zero = Curve.of_draws("a", "x", np.array([2.0, 1.0]), np.zeros((2, 32)), 0.7, kind="lower bound")
    assert np.array_equal(zero.error, np.zeros(2))
    sure = Curve.of_draws("a", "x", np.array([2.0, 1.0]), np.full((2, 100), 0.7), 0.7, kind="lower bound")
    assert np.allclose(1.96 * sure.error, 3.0 / 101 * (1 + 1.984), rtol=0.01)  # about the rule of three


@pytest.mark.parametrize(("index", "draws"), [(0, 64), (4, 64), (4, 256)])
def test_curves_of_few_skewed_draws_cover(table, index, draws):
    """Two equal points and a rare class, up to .97 H(A); the counter-test: of the latter standard errors alone fail."""
    problem = table.problems()[index]
    sigma, truth = table.levels_of(problem)
    keep = np.flatnonzero((truth > 0.05 * problem.entropy) & (truth < 0.97 * problem.entropy))
    held, plain = [], []
    for seed in range(200):
        rng = np.random.default_rng([seed, draws])
        curve = table.by_posterior(problem, sigma, *problem.posteriors(rng, draws, sigma), rng)
        off = np.abs(curve.value - truth)[keep]
        held.append(off <= 1.96 * curve.error[keep])
        plain.append(off <= 1.96 * curve.stderr[keep])
    assert min(np.mean(held, 0)) > 0.92 - 3.1 * (0.92 * 0.08 / 200) ** 0.5
    assert np.mean(held) < 0.985  # not by being wide everywhere
    if index == 4 and draws == 64:
        assert min(np.mean(plain, 0)) < 0.92 - 3.1 * (0.92 * 0.08 / 200) ** 0.5


def test_the_whole_of_a_level_of_a_tree_covers(table):
    """A rare root, of 64 draws; the counter-test: standard errors alone fail."""
    problem, seeds = table.problems()[4], 200
    sigma, truth = table.levels_of(problem)
    some = table.between(problem, truth)
    held, plain = [], []
    for seed in range(seeds):
        log_p, _ = problem.posteriors(np.random.default_rng([seed, 64]), 64, sigma)
        entropy = -(np.exp(log_p) * log_p).sum(2)
        empty = xr.Dataset(coords={"sigma": sigma})
        found = with_tree(empty, entropy[None], np.array([problem.entropy]))
        off = np.abs(found.whole_information.values[0] - truth)[some]
        held.append(off <= 1.96 * found.whole_stderr.values[0, some])
        plain.append(off <= 1.96 * entropy.std(1, ddof=1)[some] / 8)
    assert all(table.judged(float(share), 0.0, seeds, False) for share in np.mean(held, 0))
    assert np.mean(held) < 0.98
    assert not all(table.judged(float(share), 0.0, seeds, False) for share in np.mean(plain, 0))


def test_gaps_cover_and_meet_their_target(table):
    """Of a rare class, with calls where they count."""
    rows = table.gap_rows(table.problems()[4], "score_gap", 0.02, 60)
    assert all(r.fine for r in rows), [r for r in rows if not r.fine]
    assert {r.interval for r in rows} == {"curve", "onset", "stderr", "deviation"}


def test_gaps_that_stop_after_their_first_round_miss_their_target(table, monkeypatch):
    """The counter-test: of a first round that is too small the error is too large, and is said to be."""
    monkeypatch.setattr(allocation, "_FIRST", 0.05)
    monkeypatch.setattr(adaptive, "further", lambda *_: None)
    rows = table.gap_rows(table.problems()[0], "score_gap", 0.005, 25)
    (error,) = (r for r in rows if r.interval == "stderr")
    assert not error.fine
    assert error.held > 1.2


def test_gaps_near_the_ceiling_do_not_cover_too_often(table, monkeypatch):
    """Of ten points; the counter-test: a column that is taken for one draw is allowed a loss too large by far."""
    problem = table.problems()[2]
    curves, of_curves = [], table.of_curves
    monkeypatch.setattr(table, "of_curves", lambda *given: curves.extend(given[3]) or of_curves(*given))
    table.gap_rows(problem, "score_gap", 0.02, 60)
    _, truth = table.levels_of(problem)
    at = [k for k in table.between(problem, truth) if truth[k] > 0.3 * problem.entropy]
    alone = [replace(c, draws_per_column=1) for c in curves]
    held, blanket = (np.mean([(np.abs(c.value - truth) <= 1.96 * c.error)[at] for c in of]) for of in (curves, alone))
    assert 0.9 < held < 0.985
    assert blanket > 0.995
    deviation = np.std([c.value for c in curves], 0, ddof=1)[at]
    found = np.sqrt(np.mean([c.stderr**2 for c in curves], 0))[at]
    assert np.all(np.abs(found / deviation - 1) < 4 / 120**0.5)


def test_advised_levels_cover(table):
    rows = table.advised_rows(table.problems()[0], "posterior", 64, 20)
    assert {r.interval for r in rows} == {"guidance begins", "guidance ends", "edit", "early exit"}
    assert all(r.fine for r in rows), [r for r in rows if not r.fine]


def test_chances_to_keep_by_quadrature_and_by_draws(table):
    """The two ways agree on a mixture; ten points have no other than draws."""
    problem = table.problems()[3]
    p = np.exp(problem.posteriors(np.random.default_rng(0), 40_000, np.array([0.8]))[0][0])
    for known, each in zip(problem.keeping(0.8), ((p**2).sum(1), p.max(1)), strict=True):
        assert abs(each.mean() - known) < 4 * each.std() / 200


def test_the_allowance_for_skewed_draws():
    rng = np.random.default_rng(0)
    normal, skewed = rng.normal(size=(2000, 64)), rng.exponential(size=(2000, 64)) ** 2
    plain = skewed.std(1, ddof=1) / 8
    off = np.abs(skewed.mean(1) - 2.0)
    assert (off < 1.96 * plain).mean() < 0.9  # standard errors alone
    one_sided, even = (np.hypot(plain, skew_allowance(skewed, even=even)) for even in (False, True))
    assert 0.93 < (off < 1.96 * one_sided).mean() < 0.98
    assert np.all(even < one_sided)
    for of_both in (False, True):
        assert np.median(skew_allowance(normal, even=of_both)) < 0.3 * np.median(normal.std(1)) / 8
        assert np.array_equal(skew_allowance(np.full((2, 8), 0.3), even=of_both), np.zeros(2))
        assert np.allclose(skew_allowance(-skewed, even=of_both), skew_allowance(skewed, even=of_both))


def test_even_intervals_leave_out_as_much_as_they_say():
    """Of Hall's law itself: its quantiles on both sides, from those of Student's t by the inverse transform."""
    e, degrees = np.array([1e-6, 0.05, 0.2, 0.5]), 63
    reach = rare._even_reach(e, degrees)
    assert reach[0] == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-5)
    t = stats.t.ppf((np.arange(200_000) + 0.5) / 200_000, degrees)
    for x, size in zip(reach, e, strict=True):
        ratio = 3.0 / size * (1.0 - np.cbrt(1.0 - size * (t + size / 6.0)))
        assert (np.abs(ratio) > x).mean() == pytest.approx(0.05, abs=2e-5)


def test_the_allowance_for_losses_that_no_draw_met():
    per_draw = np.full((2, 49), 0.7)
    per_draw[0, :5] = -0.3
    assert np.allclose(unmet_allowance(per_draw)[1], 0.5 * 1.0 / 50)
    assert Curve.of_draws("a", "x", np.array([2.0, 1.0]), per_draw, 0.7).error[1] == pytest.approx(0.01)
    assert unmet_allowance(per_draw[::-1])[0] < 1e-12  # what is lost at a less noisy level tells nothing of it
