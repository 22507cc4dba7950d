"""A fast part of the table of coverage, and that it can fail; the fit of what few children cannot show."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sigmascope.information.entropies import zhang
from sigmascope.information.unseen import unseen

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
    two, _, ten, _ = table.problems()
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
