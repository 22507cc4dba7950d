"""What holds for every filter, whatever its system and its scheme; a filter of one's own is one more case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from filtering.helpers import chain, gen, plane
from sigmascope.filtering import (
    BenesFilter,
    BenesSystem,
    Filter,
    Filtered,
    KalmanBucyFilter,
    KushnerFilter,
    ParticleFilter,
    Path,
    WonhamFilter,
    ZakaiFilter,
    innovation,
    martingale_test,
    normality_test,
    quadratic_variation_test,
    run,
    simulate,
    uniform_times,
    whiteness_test,
)

PATHS, STEPS = 2000, 200
LEAST = 1e-4  # probability of what a right filter shows
WORST = 4.0  # standard errors


@dataclass(frozen=True)
class Case:
    """A filter to be held to the laws.

    Args:
        name: of the case.
        make: the filter, made anew; the same one each time, with the same random numbers where it has any.
        by_chance: whether it draws random numbers, so that a path alone has other ones than in a batch.
    """

    name: str
    make: Callable[[], Filter[Any]]
    by_chance: bool = False


CASES = [
    Case("Wonham", lambda: WonhamFilter(chain())),
    Case("Zakai", lambda: ZakaiFilter(chain())),
    Case("Zakai, Euler", lambda: ZakaiFilter(chain(), scheme="euler")),
    Case("Kushner", lambda: KushnerFilter(chain())),
    Case("Kushner, Euler", lambda: KushnerFilter(chain(), scheme="euler")),
    Case("Kalman-Bucy", lambda: KalmanBucyFilter(plane())),
    Case("Kalman-Bucy, correlated", lambda: KalmanBucyFilter(plane(0.6))),
    Case("Benes", lambda: BenesFilter(BenesSystem(0.8, torch.tensor([1.0, -0.5]), mean=0.3, variance=0.5))),
    Case("particles of a plane", lambda: ParticleFilter(plane(), 150, gen(3)), by_chance=True),
    Case("particles of a chain", lambda: ParticleFilter(chain(), 100, gen(4), finite_states=3), by_chance=True),
]


@lru_cache(maxsize=4)
def _seen(case: Case, paths: int = PATHS, seed: int = 1) -> tuple[Path, Filtered]:
    filter = case.make()
    path = simulate(filter.system, uniform_times(1.0, STEPS), paths, gen(seed))
    return path, run(filter, path)


def _score(x: Tensor) -> float:
    """By how many standard errors the mean of independent numbers is not 0."""
    return float(x.mean() / (x.std() / len(x) ** 0.5).clamp_min(1e-300))


def a_batch_is_its_paths(case: Case) -> None:
    """Many paths at once are as each of them alone."""
    path, found = _seen(case, 5)
    if case.by_chance:
        return
    for i in range(5):
        alone = run(case.make(), replace(path, y=path.y[:, i : i + 1]))
        for whole, one in zip(_parts(found), _parts(alone), strict=True):
            assert torch.allclose(whole[:, i : i + 1], one, atol=1e-10)


def it_does_not_look_ahead(case: Case) -> None:
    """Up to a time nothing depends on what is measured later; after it, something does."""
    path, found = _seen(case, 20)
    half, y = STEPS // 2, path.y.clone()
    y[half + 1 :] += 1.0
    other = run(case.make(), replace(path, y=y))
    for whole, changed in zip(_parts(found), _parts(other), strict=True):
        assert torch.equal(whole[: half + 1], changed[: half + 1])
        assert not torch.allclose(whole[half + 1 :], changed[half + 1 :])


def _parts(found: Filtered) -> tuple[Tensor, Tensor, Tensor]:
    return found.mean, found.drift, found.log_evidence


def its_innovation_is_a_brownian_motion(case: Case) -> None:
    """What the measurements do beyond what it expects is noise alone."""
    path, found = _seen(case)
    w, every = innovation(path, found), torch.arange(0, STEPS + 1, 20)
    thin, times = w[every], path.times[every]
    tests = {
        "martingale": martingale_test(w, path.times, found.drift),
        "variation": quadratic_variation_test(thin, times),
        "white": whiteness_test(thin, times),
        "normal": normality_test(thin, times),
    }
    assert all(t.p_value > LEAST for t in tests.values()), tests


def its_error_is_orthogonal_to_the_measurements(case: Case) -> None:
    """E[(X − E[X | Y]) g(Y)] = 0 for whatever is a function of the measurements: the tower property."""
    path, found = _seen(case)
    state = path.state[-1]
    truth = torch.nn.functional.one_hot(state, found.mean.shape[2]).double() if state.ndim == 1 else state
    error = truth - found.mean[-1]
    moved = (path.y - path.y[0])[..., 0]
    for g in (torch.ones(PATHS, dtype=torch.float64), moved[-1], moved[STEPS // 2], moved[-1] ** 2):
        for k in range(error.shape[1]):
            assert abs(_score(error[:, k] * g)) < WORST


def its_evidence_is_a_likelihood_ratio(case: Case) -> None:
    """Of pure noise, which is the reference, its mean is 1, at each time."""
    filter = case.make()
    times = uniform_times(0.25, STEPS // 4)
    start = simulate(filter.system, times, 1, gen(5)).y[:1]
    steps = torch.randn(STEPS // 4, 4 * PATHS, start.shape[2], generator=gen(6), dtype=torch.float64) / STEPS**0.5
    y = torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)]) + start
    found = run(filter, Path(filter.system, times, y)).log_evidence
    for k in (STEPS // 10, STEPS // 4):
        assert abs(_score((found[k] - found[0]).exp() - 1.0)) < WORST


def its_evidence_is_what_it_expects(case: Case) -> None:
    """Of its own measurements the log evidence grows by half the squared drift that it expects (Girsanov)."""
    path, found = _seen(case)
    square = (found.drift**2).sum(2)
    grown = 0.5 * (0.5 * (square[1:] + square[:-1]) * path.times.diff()[:, None]).sum(0)
    assert abs(_score(found.log_evidence[-1] - found.log_evidence[0] - grown)) < WORST


LAWS = [
    a_batch_is_its_paths,
    it_does_not_look_ahead,
    its_innovation_is_a_brownian_motion,
    its_error_is_orthogonal_to_the_measurements,
    its_evidence_is_a_likelihood_ratio,
    its_evidence_is_what_it_expects,
]
