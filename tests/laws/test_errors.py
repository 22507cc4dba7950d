"""Standard errors and bootstrap intervals cover at their nominal rate; onsets are those of the closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from problems import four_points, two_points
from sigmascope.analysis.onset import onsets
from sigmascope.core import Attribute, Curve
from sigmascope.data import draw_items
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.information.posterior import posterior
from sigmascope.noise import sigma_grid

SEEDS, DRAWS = 400, 100


def certain(name: str, sigma: np.ndarray, value: np.ndarray, ceiling: float) -> Curve:
    """A curve without noise."""
    return Curve(name, "posterior", sigma, value, np.zeros_like(value), ceiling, np.stack([value, value], 1))


@pytest.fixture(scope="module")
def studies():
    """Curves of four points over many seeds, and the true curves."""
    line = four_points()
    data = line.data()
    denoiser = FiniteDenoiser(data)
    sigma = sigma_grid(60.0, 0.2, 30)
    found = []
    for seed in range(SEEDS):
        work = PosteriorPass(denoiser, draw_items(data, DRAWS, seed), sigma)
        while not work.done:
            work.step()
        log_posterior = work.log_posterior()
        found.append([posterior(a, sigma, log_posterior[a.name][:-1]) for a in data.attributes])
    truth = {n: np.array([line.information(n, s) for s in sigma]) for n in line.labels}
    return sigma, found, truth


def binomial_band(p: float, n: int) -> tuple[float, float]:
    """Four standard deviations, and one point for what large-sample intervals lose at 100 draws."""
    s = 4 * np.sqrt(p * (1 - p) / n)
    return p - s - 0.01, p + s


def coverage(found, truth, inflate=1.0):
    hits, cases = 0, 0
    for curves in found:
        for c in curves:
            inside = (truth[c.attribute] > 0.05 * c.ceiling) & (truth[c.attribute] < 0.95 * c.ceiling)
            hits += int((np.abs(c.value - truth[c.attribute]) < 1.96 * inflate * c.stderr)[inside].sum())
            cases += int(inside.sum())
    return hits / cases


def test_standard_errors_cover(studies):
    _, found, truth = studies
    low, high = binomial_band(0.95, SEEDS)
    assert low < coverage(found, truth) < high
    assert coverage(found, truth, inflate=0.75) < low  # the test sees errors a quarter too small
    assert coverage(found, truth, inflate=2.0) > high


def test_bootstrap_intervals_cover(studies):
    sigma, found, truth = studies
    ceilings = {c.attribute: c.ceiling for c in found[0]}
    known = [certain(n, sigma, v, ceilings[n]) for n, v in truth.items()]
    exact = {o.attribute: o for o in onsets(known, resamples=4)}
    low, high = binomial_band(0.95, SEEDS)
    hits = {(n, k): 0 for n in truth for k in range(3)}
    narrow = dict(hits)
    for seed, curves in enumerate(found):
        for row in onsets(curves, resamples=400, seed=seed):
            for k, q in enumerate(row.at):
                t = exact[row.attribute].at[k].value
                hits[row.attribute, k] += q.low <= t <= q.high
                centre, half = (q.low + q.high) / 2, 0.7 * (q.high - q.low) / 2
                narrow[row.attribute, k] += abs(t - centre) <= half
    for key, count in hits.items():
        assert low < count / SEEDS < min(high, 0.995), (key, count / SEEDS)
        assert narrow[key] / SEEDS < low, (key, narrow[key] / SEEDS)


def test_probability_of_order_is_calibrated():
    """Where the truth is a tie, the probability is uniform."""
    rng = np.random.default_rng(0)
    sigma = sigma_grid(10, 0.1, 12)
    rise = np.linspace(0, 1, 12)[:, None]
    found = []
    for seed in range(300):
        pair = []
        for name in ("a", "b"):
            per_draw = np.clip(rise + 0.15 * rng.normal(size=60), 0, 1)
            pair.append(Curve(name, "posterior", sigma, per_draw.mean(1), per_draw.std(1) / 60**0.5, 1.0, per_draw))
        table = onsets(pair, resamples=300, seed=seed)
        p = table[0].before_next
        found.append(p if table[0].attribute == "a" else 1 - p)
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / 300))
    assert np.var(found) == pytest.approx(1 / 12, rel=0.3)


def test_onsets_of_two_points():
    """TRUTHS: sigma/m at 90/50/10 % of ln 2 is .516/.979/2.593; the rate peaks at .4795, at .814."""
    line = two_points()
    sigma = sigma_grid(90, 0.01, 40)
    curve = certain("sign", sigma, np.array([line.information("sign", s) for s in sigma]), np.log(2))
    (row,) = onsets([curve], resamples=4)
    assert [q.value for q in row.at] == pytest.approx([2.593, 0.979, 0.516], rel=4e-3)
    assert row.peak.value == pytest.approx(0.814, rel=1e-2)
    assert row.peak_rate == pytest.approx(0.4795, rel=3e-3)
    fine = sigma_grid(8, 0.2, 160)
    curve = certain("sign", fine, np.array([line.information("sign", s) for s in fine]), np.log(2))
    (row,) = onsets([curve], resamples=4)
    assert [q.value for q in row.at] == pytest.approx([2.593, 0.979, 0.516], abs=6e-4)
    assert row.peak.value == pytest.approx(0.814, abs=1e-3)


def test_half_information_of_four_points():
    """TRUTHS: the coarse split of four points is half known at sigma 6.163."""
    line = four_points()
    sigma = sigma_grid(60, 0.2, 60)
    curve = certain("coarse", sigma, np.array([line.information("coarse", s) for s in sigma]), np.log(2))
    (row,) = onsets([curve], resamples=4)
    assert row.at[1].value == pytest.approx(6.163, abs=2e-3)


def test_levels_not_reached_are_distinguished():
    sigma = sigma_grid(10, 1, 10)
    low = certain("low", sigma, np.linspace(0.0, 0.3, 10), 1.0)
    high = certain("high", sigma, np.linspace(0.6, 1.0, 10), 1.0)
    table = onsets([low, high], resamples=4)
    assert [(o.attribute, o.state) for o in table] == [("high", "beyond"), ("low", "not reached")]
    assert [q.value for q in table[1].at[1:]] == [0.0, 0.0]
    assert table[1].at[0].reached
    assert [q.value for q in table[0].at[:2]] == [np.inf, np.inf]
    assert table[0].at[2].reached
    (flat,) = onsets([certain("flat", sigma, np.full(10, 0.3), 1.0)], resamples=4)
    assert [q.value for q in flat.at] == [np.inf, 0.0, 0.0]
    assert np.isnan(flat.peak.value)  # nothing rises: there is no peak
    assert np.isnan(table[0].before_next)


def test_order_that_is_sure_has_probability_one():
    rng = np.random.default_rng(0)
    sigma = sigma_grid(10, 0.1, 12)
    pair = []
    for name, shift in (("late", 0.0), ("early", 0.25)):
        per_draw = np.clip(np.linspace(0, 1, 12)[:, None] + shift + 0.1 * rng.normal(size=60), 0, 1)
        pair.append(Curve(name, "posterior", sigma, per_draw.mean(1), per_draw.std(1) / 60**0.5, 1.0, per_draw))
    early, late = onsets(pair, resamples=300)
    assert (early.attribute, late.attribute) == ("early", "late")
    assert early.before_next > 0.999


def test_a_dip_is_levelled_before_the_crossing_is_read():
    """The projection of .2, .7, .5 on rising curves is .2, .6, .6: half is crossed once, below the first level."""
    sigma = np.array([8.0, 4.0, 2.0, 1.0])
    (row,) = onsets([certain("a", sigma, np.array([0.2, 0.7, 0.5, 1.0]), 1.0)], resamples=4)
    (levelled,) = onsets([certain("a", sigma, np.array([0.2, 0.6, 0.6, 1.0]), 1.0)], resamples=4)
    assert row.at[1].value == pytest.approx(levelled.at[1].value, rel=1e-12)
    (spiked,) = onsets([certain("a", sigma, np.array([0.0, 0.6, 0.2, 1.0]), 1.0)], resamples=4)
    assert spiked.at[1].value < 2.0  # the level 4 alone does not count as crossed


def test_entropy_is_the_ceiling():
    prior = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    assert Attribute("a", ("x", "y", "z"), prior).entropy == pytest.approx(1.5 * np.log(2))
