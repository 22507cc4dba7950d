"""The particle filter against exact ones, within its own error."""

from __future__ import annotations

import math

import pytest
import torch

from filtering.helpers import chain, column, gen, plane
from sigmascope.filtering import (
    BenesFilter,
    BenesSystem,
    DiffusionSystem,
    FiniteSystem,
    KalmanBucyFilter,
    ParticleFilter,
    WeightsVanished,
    WonhamFilter,
    run,
    simulate,
    uniform_times,
)

CLOUDS = 12


def score(exact, clouds):
    """Mean squared difference of the clouds' mean from the exact filter, over its variance: F(1, CLOUDS − 1)."""
    ratio = (clouds.mean(0) - exact) ** 2 / (clouds.var(0) / CLOUDS)
    return float(ratio.mean()), (CLOUDS - 1) / (CLOUDS - 3), float(ratio.std()) / len(ratio) ** 0.5


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_against_kalman_bucy(threshold):
    system = plane()
    path = simulate(system, uniform_times(0.5, 100), 150, gen(1))
    exact = run(KalmanBucyFilter(system), path)
    runs = [run(ParticleFilter(system, 300, gen(10 + r), threshold), path) for r in range(CLOUDS)]
    for i in (0, 1):
        found, expected, error = score(exact.mean[-1, :, i], torch.stack([r.mean[-1, :, i] for r in runs]))
        assert abs(found - expected) < 4 * error + 0.1
    # The evidence itself, not its logarithm, is unbiased.
    ratio = torch.stack([r.log_evidence[-1] - exact.log_evidence[-1] for r in runs]).exp().mean(0)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 150**0.5 + 5e-3


def test_against_wonham_and_benes():
    wonham, benes = chain(), BenesSystem(1.5, torch.ones(1), shift=0.2)
    for system, filter in ((wonham, WonhamFilter(wonham)), (benes, BenesFilter(benes))):
        path = simulate(system, uniform_times(0.5, 50), 150, gen(2))
        states = 3 if system is wonham else 0
        clouds = [
            run(ParticleFilter(system, 300, gen(30 + r), finite_states=states), path).mean[-1, :, -1]
            for r in range(CLOUDS)
        ]
        found, expected, error = score(run(filter, path).mean[-1, :, -1], torch.stack(clouds))
        assert abs(found - expected) < 4 * error + 0.15


def test_errors_fall_with_the_root_of_the_particles():
    system = plane()
    path = simulate(system, uniform_times(0.5, 100), 300, gen(3))
    exact = run(KalmanBucyFilter(system), path).mean[-1]
    errors = [
        float((run(ParticleFilter(system, n, gen(4)), path).mean[-1] - exact).pow(2).mean().sqrt()) for n in (50, 800)
    ]
    assert 3.2 < errors[0] / errors[1] < 4.8  # 16^½


def test_effective_sample_size_is_reported_and_resampled():
    system = plane()
    path = simulate(system, uniform_times(2.0, 200), 20, gen(5))
    found = run(ParticleFilter(system, 200, gen(6)), path).diagnostics["effective_sample_size"]
    assert found.shape == (201, 20)
    assert found.min() >= 1.0
    assert found.max() <= 200 + 1e-9
    assert found.min() > 40  # half is where it resamples; one step does not cost more than half of that
    never = run(ParticleFilter(system, 200, gen(6), threshold=0.0), path).diagnostics["effective_sample_size"]
    assert never[-1].mean() < 100  # it only falls


def test_systematic_resampling_keeps_the_law():
    """Each particle is copied floor or ceil of its share of times."""
    system = FiniteSystem(torch.full((4,), 0.25), column(0.0, 1.0, 2.0, 3.0))
    filter = ParticleFilter(system, 1000, gen(7), threshold=1.0, finite_states=4)
    state = filter.init(torch.zeros(1, 1, dtype=torch.float64))
    weight = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)[state.particles]
    weight = weight / weight.sum()
    counts = torch.bincount(filter._resampled(state._replace(log_weight=weight.log())).particles[0], minlength=4)
    shares = torch.zeros(4, dtype=torch.float64).index_add_(0, state.particles[0], weight[0])
    # Particles lie in random order, so that each of the 1000 errs by less than one, and a state by chance alone.
    assert (counts - 1000 * shares).abs().max() < 4 * 1000**0.5 * 0.5
    single = torch.full((1, 1000), 0.5 / 999, dtype=torch.float64)
    single[0, 17] = 0.5
    marked = torch.arange(1000)[None]
    copies = filter._resampled(state._replace(particles=marked, log_weight=single.log())).particles[0]
    assert int((copies == 17).sum()) in (500, 501)


def test_vanished_weights_are_loud():
    system = DiffusionSystem(
        lambda x, t: torch.zeros_like(x),
        torch.ones(1, 1),
        lambda y, x, t: torch.full_like(x, math.inf),
        lambda n, g: torch.zeros(n, 1, dtype=torch.float64),
        dim=1,
    )
    quiet = simulate(BenesSystem(1.0, torch.ones(1)), uniform_times(1.0, 10), 3, gen(8))
    with pytest.raises(WeightsVanished, match=r"all weights of path 0 vanished at t = 0\.1"):
        run(ParticleFilter(system, 10, gen(9)), quiet)


@pytest.mark.parametrize(("count", "threshold", "said"), [(1, 0.5, "at least 2"), (10, 1.5, "between 0 and 1")])
def test_bad_arguments(count, threshold, said):
    with pytest.raises(ValueError, match=said):
        ParticleFilter(plane(), count, gen(), threshold)


def test_correlated_noises_are_refused():
    with pytest.raises(ValueError, match="use KalmanBucyFilter"):
        ParticleFilter(plane(0.6), 10, gen())
