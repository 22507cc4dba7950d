"""Innovation, information and joint dynamics: closed forms, honest errors, and tests that can fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from filtering.helpers import chain, column, gen, plane
from sigmascope.filtering import (
    FiniteSystem,
    KalmanBucyFilter,
    LinearSystem,
    NoInformation,
    ParticleFilter,
    WonhamFilter,
    gaussian_information,
    gaussian_state_information,
    information_by_gap,
    information_by_ratio,
    innovation,
    known_path,
    martingale_test,
    normality_test,
    prior_given,
    quadratic_variation_test,
    run,
    simulate,
    simulate_joint,
    uniform_times,
    whiteness_test,
)

# Two points at ±1: I at signal-to-noise ratio t, computed by quadrature independently of the package.
TWO_POINTS = {0.25: 0.11142, 0.5: 0.20135, 1.0: 0.33683, 2.0: 0.50007, 4.0: 0.63272, 9.0: 0.68930}


def signs() -> FiniteSystem:
    return FiniteSystem(torch.tensor([0.5, 0.5]), column(-1.0, 1.0))


def informed(system, path):
    return run(WonhamFilter(system, prior_given(system, torch.arange(system.states), path.state[0])), path)


def test_two_points_against_quadrature():
    times = torch.cat([torch.linspace(0.0, 1.0, 65), torch.linspace(1.0, 9.0, 129)[1:]]).double()
    system = signs()
    path = simulate(system, times, 12_000, gen(1))
    plain, knows = run(WonhamFilter(system), path), informed(system, path)
    for measure in (information_by_gap, information_by_ratio):
        found = measure(path, plain, knows)
        for t, expected in TWO_POINTS.items():
            k = int((times - t).abs().argmin())
            assert abs(float(found.value[k]) - expected) < 4 * float(found.stderr[k]) + 1e-4
    gap, ratio = information_by_gap(path, plain, knows), information_by_ratio(path, plain, knows)
    assert (gap.stderr[8:60] < ratio.stderr[8:60]).all()


def test_standard_errors_cover():
    """200 seeds of 100 paths: the interval of 1.96 standard errors holds the truth about 95 times in 100."""
    system, hits, narrow = signs(), 0, 0
    for seed in range(200):
        path = simulate(system, uniform_times(1.0, 40), 100, gen(seed))
        found = information_by_gap(path, run(WonhamFilter(system), path), informed(system, path))
        off = abs(float(found.value[-1]) - TWO_POINTS[1.0])
        hits += off < 1.96 * float(found.stderr[-1])
        narrow += off < 0.75 * 1.96 * float(found.stderr[-1])
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 200, 0.95)
    assert low <= hits <= high
    assert narrow < low  # errors a quarter too small would be seen


def test_gaussian_against_riccati_with_start_and_feedback():
    system, times = plane(), uniform_times(1.5, 300)
    path = simulate(system, times, 4000, gen(2))
    plain, knows = run(KalmanBucyFilter(system), path), known_path(path)
    expected = gaussian_information(system, times)
    gap, ratio = information_by_gap(path, plain, knows), information_by_ratio(path, plain, knows)
    for k in (0, 100, 300):
        for found in (gap, ratio):
            assert abs(float(found.value[k] - expected[k])) < 4 * float(found.stderr[k]) + 2e-3
    paired = ratio.per_path[-1] - gap.per_path[-1]
    assert abs(paired.mean()) < 4 * paired.std() / 4000**0.5 + 2e-3


def test_gaussian_static_closed_form():
    """A static X of N(0, 4): ½ ln(1 + 4t), of the path and of the present state alike."""
    one = torch.ones(1, 1, dtype=torch.float64)
    system = LinearSystem(0 * one, 0 * one, one, torch.zeros(1), 4 * one)
    times = uniform_times(2.0, 200)
    expected = 0.5 * torch.log1p(4 * times)
    assert (gaussian_information(system, times) - expected).abs().max() < 1e-6
    assert (gaussian_state_information(system, times) - expected).abs().max() < 1e-10


def test_initial_state_of_a_moving_linear_state():
    """φ = X_0: by the gap with a filter that is given φ, against the entropy of X_0 given the measurements."""
    system = LinearSystem(
        torch.tensor([[-1.0]]), torch.ones(1, 1), torch.tensor([[2.0]]), torch.zeros(1), torch.ones(1, 1)
    )
    twice = LinearSystem(  # (X_t, X_0)
        torch.tensor([[-1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[1.0], [0.0]]),
        torch.tensor([[2.0, 0.0]]),
        torch.zeros(2),
        torch.ones(2, 2),
    )
    path = simulate(system, uniform_times(1.0, 200), 6000, gen(3))
    knows = run(KalmanBucyFilter(system, path.state[0], torch.zeros(1, 1)), path)
    found = information_by_gap(path, run(KalmanBucyFilter(system), path), knows)
    left = run(KalmanBucyFilter(twice), path).final.covariance[1, 1]
    assert abs(float(found.value[-1]) + 0.5 * float(left.log())) < 4 * float(found.stderr[-1]) + 1e-3


def test_present_state_may_be_forgotten():
    system = LinearSystem(
        torch.tensor([[-1.5]]), torch.ones(1, 1), torch.tensor([[1.5]]), torch.zeros(1), 16 * torch.ones(1, 1)
    )
    times = uniform_times(2.0, 400)
    present = gaussian_state_information(system, times)
    whole = gaussian_information(system, times)
    assert float(present.max() - present[-1]) > 0.8
    assert (whole.diff() > 0).all()
    assert float(whole[-1] - present[-1]) > 1.0


def test_a_particle_filter_overestimates():
    """Its own variance adds to the gap: above the truth, less so with more particles."""
    system = chain()
    path = simulate(system, uniform_times(1.0, 100), 400, gen(4))
    truth = information_by_gap(path, run(WonhamFilter(system), path), known_path(path)).per_path[-1]
    excess = []
    for count in (20, 200):
        cloud = run(ParticleFilter(system, count, gen(5), finite_states=3), path)
        over = information_by_gap(path, cloud, known_path(path)).per_path[-1] - truth
        excess.append(float(over.mean()))
        assert excess[-1] > -3 * float(over.std()) / 20
    assert excess[0] > 5 * abs(excess[1])


def test_correlated_noises_are_refused():
    system = plane(0.6)
    path = simulate(system, uniform_times(1.0, 20), 10, gen(6))
    found = run(KalmanBucyFilter(system), path)
    for call in (
        lambda: information_by_gap(path, found, known_path(path)),
        lambda: information_by_ratio(path, found, known_path(path)),
        lambda: gaussian_information(system, path.times),
    ):
        with pytest.raises(NoInformation, match="correlated"):
            call()


def test_accounts_of_other_paths_are_refused():
    system = chain()
    path = simulate(system, uniform_times(1.0, 20), 10, gen(7))
    other = run(WonhamFilter(system), path.at(torch.arange(0, 21, 2)))
    with pytest.raises(ValueError, match="run both on this path"):
        information_by_gap(path, other, known_path(path))


def four_tests(w, path, predictor):
    every = torch.arange(0, len(path.times), 20)
    slow, times = w[every], path.times[every]
    return (
        martingale_test(w, path.times, predictor),
        quadratic_variation_test(slow, times),
        whiteness_test(slow, times),
        normality_test(slow, times),
    )


def test_innovation_tests_have_their_level_and_their_power():
    """P-values are uniform for the right filter, and each test sees what it is made for."""
    system, levels = chain(), []
    for seed in range(60):
        path = simulate(system, uniform_times(1.0, 200), 100, gen(100 + seed))
        found = run(WonhamFilter(system), path)
        levels.append([t.p_value for t in four_tests(innovation(path, found), path, found.drift)])
    for column_of in np.array(levels).T:
        assert stats.kstest(column_of, "uniform").pvalue > 1e-3
    path = simulate(system, uniform_times(2.0, 400), 3000, gen(9))
    found = run(WonhamFilter(system), path)
    blind = innovation(path, type(found)(found.times, found.mean, 0 * found.drift, found.log_evidence))
    martingale, variation, white, _ = four_tests(blind, path, found.drift)
    assert max(martingale.p_value, variation.p_value, white.p_value) < 1e-6
    jumps = innovation(path, found)
    jumps = (jumps.diff(dim=0).abs() * 2**0.5 * torch.sign(torch.randn(jumps[1:].shape, generator=gen(3)))).cumsum(0)
    assert normality_test(torch.cat([0 * jumps[:1], jumps]), path.times).p_value < 1e-6


def test_bad_arguments_of_tests():
    path = simulate(chain(), uniform_times(1.0, 20), 10, gen(7))
    with pytest.raises(ValueError, match="lags is 20 for 20 steps"):
        whiteness_test(path.y, path.times, lags=20)
    with pytest.raises(ValueError, match="they must agree"):
        martingale_test(path.y, path.times, path.y[:-1])
    with pytest.raises(ValueError, match="must agree"):
        normality_test(path.y[1:], path.times)


@pytest.mark.parametrize("kind", ["chain", "linear"])
def test_joint_dynamics_has_the_law_of_the_measurements(kind):
    system = chain() if kind == "chain" else plane(feedback=True)
    times, n = uniform_times(1.0, 200), 16_000
    hidden = simulate(system, times, n, gen(10))
    filter = WonhamFilter(system) if kind == "chain" else KalmanBucyFilter(system)
    alone, account = simulate_joint(filter, times, hidden.y[0].roll(1, 0), gen(11))
    for feature in (lambda y: y[-1, :, 0], lambda y: y[-1, :, -1] ** 2, lambda y: y[100, :, 0] * y[-1, :, 0]):
        a, b = feature(hidden.y), feature(alone.y)
        assert abs(a.mean() - b.mean()) < 4 * ((a.var() + b.var()) / n) ** 0.5
    assert stats.ks_2samp(hidden.y[-1, :, 0].numpy(), alone.y[-1, :, 0].numpy()).pvalue > 1e-4
    # What the joint simulation carries along is the filter of what it has made.
    again = run(filter, alone)
    assert torch.allclose(again.mean, account.mean, atol=1e-10)
    assert torch.allclose(again.log_evidence, account.log_evidence, atol=1e-9)
    with pytest.raises(ValueError, match="expected \\(paths"):
        simulate_joint(filter, times, torch.zeros(5, 7, dtype=torch.float64), gen(1))
