"""A fast part of the table of coverage, and that it can fail; the fit of what few children cannot show."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sigmascope.core import Curve
from sigmascope.information.entropies import zhang
from sigmascope.information.unseen import unseen

TWO_POINTS = {0.25: 0.11142, 0.5: 0.20135, 1.0: 0.33683, 2.0: 0.50007, 4.0: 0.63272, 9.0: 0.68930}  # nats, by SNR
_FILE = Path(__file__).parents[2] / "benchmarks" / "intervals.py"


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

    def biased(*given):
        return replace(table.by_forks("zhang")(*given), quadrature_error=None)

    rows = table.rows_of(table.problems()[2], "forks", biased, 256, 60)
    onsets = [r for r in rows if r.interval == "onset"]
    assert not onsets[0].fine
    assert not onsets[1].fine
    assert onsets[0].held < 0.2


@pytest.mark.parametrize(("index", "children"), [(0, 2), (1, 8), (2, 16)])
def test_the_fit_takes_the_bias_off(table, index, children):
    """Mean over 20,000 draws, by when a tenth, a half and nine tenths are known: within the gauge and the chance."""
    problem, rng = table.problems()[index], np.random.default_rng(1)
    sigma, truth = table.levels_of(problem)
    at = [int(np.abs(truth / problem.entropy - q).argmin()) for q in (0.1, 0.5, 0.9)]
    p, _ = problem.posteriors(rng, 20_000, sigma[at])
    counts = torch.from_numpy(rng.multinomial(children, np.exp(p)))
    left, gauge = unseen(counts, torch.from_numpy(problem.prior))
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
