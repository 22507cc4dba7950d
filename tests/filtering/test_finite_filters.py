"""Filters of a finite state against Bayes' rule and an independent forward algorithm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from filtering.helpers import chain, column, forward_algorithm, gen
from sigmascope.filtering import (
    CoarseStepWarning,
    FiniteSystem,
    KushnerFilter,
    Path,
    WonhamFilter,
    ZakaiFilter,
    grid_system,
    known_path,
    prior_given,
    run,
    simulate,
    uniform_times,
)

IRREGULAR = torch.cat(
    [torch.zeros(1, dtype=torch.float64), torch.rand(60, generator=gen(5), dtype=torch.float64) * 0.05]
).cumsum(0)


@pytest.mark.parametrize("kind", [WonhamFilter, ZakaiFilter, KushnerFilter])
def test_forward_algorithm(kind):
    system = chain()
    path = simulate(system, IRREGULAR, 7, gen(1))
    found = run(kind(system), path)
    for i in range(7):
        p, log_z = forward_algorithm(
            system.prior.numpy(), system.h.numpy(), system.rates.numpy(), IRREGULAR.numpy(), path.y[:, i].numpy()
        )
        assert np.abs(found.mean[-1, i].numpy() - p).max() < 1e-12
        assert abs(float(found.log_evidence[-1, i]) - log_z) < 1e-10


@pytest.mark.parametrize("kind", [WonhamFilter, ZakaiFilter, KushnerFilter])
@pytest.mark.parametrize("rates", [None, torch.zeros(3, 3)])
def test_static_is_bayes(kind, rates):
    """A zero generator reduces exactly to Bayes' rule, whatever the steps."""
    c = chain()
    system = FiniteSystem(c.prior, c.h, rates)
    path = simulate(system, IRREGULAR, 20, gen(2))
    found, t = run(kind(system), path), float(IRREGULAR[-1])
    like = path.y[-1] @ c.h.T - 0.5 * t * (c.h**2).sum(1)
    joint = c.prior.log() + like
    assert torch.allclose(found.mean[-1], torch.softmax(joint, 1), atol=1e-12)
    assert torch.allclose(found.log_evidence[-1], torch.logsumexp(joint, 1), atol=1e-10)


def test_informative_start_and_feedback():
    """Feedback that the filter knows can be undone: the same posterior as of Y + ∫2Y ds without it."""
    h, start = column(-1.0, 0.5, 2.0), column(0.0, 1.0, -1.0)
    common = {"dim": 1, "start_mean": start, "start_covariance": torch.tensor([[0.5]])}
    prior = torch.tensor([0.2, 0.5, 0.3])
    system = FiniteSystem(prior, lambda y, t: h - 2.0 * y[..., None, :], **common)
    path = simulate(system, uniform_times(1.0, 300), 9, gen(3))
    found = run(WonhamFilter(system), path)
    undone = path.y[-1] - path.y[0] + (2.0 * path.y[:-1] * path.times.diff()[:, None, None]).sum(0)
    like = undone @ h.T - 0.5 * (h**2).sum(1) - (path.y[0] - start.T) ** 2
    assert torch.allclose(found.mean[-1], torch.softmax(prior.double().log() + like, 1), atol=1e-7)


def test_chain_converges_to_the_filter_of_a_fine_grid_without_bias():
    system = chain()
    fine = simulate(system, uniform_times(1.0, 2048), 3000, gen(4))
    exact = run(WonhamFilter(system), fine).mean[-1]
    errors = []
    for count in (32, 128):
        rough = run(WonhamFilter(system), fine.at(torch.arange(0, 2049, 2048 // count))).mean[-1] - exact
        errors.append(float((rough**2).sum(1).mean().sqrt()))
        assert (rough.mean(0).abs() < 4.5 * rough.std(0) / 3000**0.5 + 1e-3 / count).all()
    assert 3.2 < errors[0] / errors[1] < 4.8  # first order


def test_kushner_and_euler_zakai_are_of_order_one_half():
    system = chain()
    fine = simulate(system, uniform_times(1.0, 4096), 800, gen(6))
    exact = run(WonhamFilter(system), fine)
    for filter in (KushnerFilter(system, scheme="euler"), ZakaiFilter(system, scheme="euler")):
        errors, evidence = [], []
        for count in (256, 4096):
            rough = run(filter, fine.at(torch.arange(0, 4097, 4096 // count)))
            errors.append(float((rough.mean[-1] - exact.mean[-1]).pow(2).sum(1).mean().sqrt()))
            evidence.append(float((rough.log_evidence[-1] - exact.log_evidence[-1]).pow(2).mean().sqrt()))
        assert 3.0 < errors[0] / errors[1] < 5.6, errors  # 16^½ = 4
        assert 3.0 < evidence[0] / evidence[1] < 5.6, evidence


@pytest.mark.filterwarnings("ignore::sigmascope.filtering.CoarseStepWarning")
@pytest.mark.parametrize("dt", [0.01, 0.1])
def test_the_true_state_is_never_lost(dt):
    """10,000 paths of a static state: its probability is positive at every time, by every scheme."""
    prior, h = torch.tensor([0.1, 0.4, 0.2, 0.3]), column(-2.0, -0.5, 1.0, 2.0)
    still = torch.zeros(4, 4)
    for rates in (None, still):
        system = FiniteSystem(prior, h, rates)
        path = simulate(system, uniform_times(1.0, round(1 / dt)), 10_000, gen(11))
        exact = run(WonhamFilter(system), path)
        for kind in (KushnerFilter, ZakaiFilter):
            for scheme in ("log", "euler"):
                found = run(kind(system, scheme=scheme), path).mean
                assert (found[:, torch.arange(10_000), path.state[0]] > 0).all()
                if scheme == "log":
                    assert torch.allclose(found, exact.mean, atol=1e-12)


@pytest.mark.parametrize("kind", [KushnerFilter, ZakaiFilter])
def test_a_stiff_measurement_is_named(kind):
    """A static state has no rates: what makes Euler's step coarse is how far the measurements tell states apart."""
    system = FiniteSystem(torch.tensor([0.5, 0.5]), column(-4.0, 4.0))
    path = simulate(system, uniform_times(1.0, 100), 5, gen(12))
    with pytest.warns(CoarseStepWarning, match="use steps of 0.0002 or less"):
        run(kind(system, scheme="euler"), path)
    run(kind(system), path)  # exact at any step; warnings are errors here
    mild = FiniteSystem(torch.tensor([0.5, 0.5]), column(-1.0, 1.0))
    run(kind(mild, scheme="euler"), simulate(mild, uniform_times(1.0, 100), 5, gen(12)))


def _order(system: FiniteSystem, make, steps: int = 1024) -> tuple[float, float]:
    """Slopes of the errors of π and of the evidence against the same filter on a grid that is far finer."""
    fine = simulate(system, uniform_times(1.0, steps), 300, gen(13))
    exact, counts, errors = run(make(system), fine), (8, 32, 128), []
    for count in counts:
        rough = run(make(system), fine.at(torch.arange(0, steps + 1, steps // count)))
        of_mean = (rough.mean[-1] - exact.mean[-1]).pow(2).sum(1).mean().sqrt()
        of_evidence = (rough.log_evidence[-1] - exact.log_evidence[-1]).pow(2).mean().sqrt()
        errors.append((float(of_mean), float(of_evidence)))
    slopes = [-np.polyfit(np.log(counts), np.log([e[i] for e in errors]), 1)[0] for i in (0, 1)]
    return slopes[0], slopes[1]


@pytest.mark.filterwarnings("ignore::sigmascope.filtering.CoarseStepWarning")
def test_feedback_is_of_order_one_where_increments_allow_it():
    """A curved feedback in one coordinate, and a gradient in two: order one; turning feedback keeps order one half."""
    prior, h, two = torch.tensor([0.2, 0.5, 0.3]), column(-1.0, 0.5, 2.0), chain().h
    line = FiniteSystem(prior, lambda y, t: h + torch.sin(2.0 * h * y[..., None, :]), dim=1)
    moving = FiniteSystem(prior, line.h, chain().rates, dim=1)
    gradient = FiniteSystem(prior, lambda y, t: two * torch.cos((y[..., None, :] * two).sum(-1, keepdim=True)), dim=2)
    turning = FiniteSystem(prior, lambda y, t: two * torch.cos(y.flip(-1)[..., None, :]), dim=2)
    for system in (line, moving, gradient):
        for kind in (WonhamFilter, ZakaiFilter) if system is line else (WonhamFilter,):
            assert min(_order(system, kind)) > 0.85
    assert max(_order(turning, WonhamFilter)) < 0.75


@pytest.mark.filterwarnings("ignore::sigmascope.filtering.CoarseStepWarning")
def test_a_given_path_with_feedback_is_of_order_one():
    system = FiniteSystem(torch.tensor([1.0]), lambda y, t: torch.sin(3.0 * y[..., None, :]), dim=1)
    fine = simulate(system, uniform_times(1.0, 2048), 500, gen(14))
    exact, errors = known_path(fine).log_evidence[-1], []
    for count in (16, 64, 256):
        part = known_path(fine.at(torch.arange(0, 2049, 2048 // count))).log_evidence[-1]
        errors.append(float((part - exact).pow(2).mean().sqrt()))
    assert -np.polyfit(np.log([16, 64, 256]), np.log(errors), 1)[0] > 0.85


def test_given_is_the_conditional_prior():
    system, labels = chain(), torch.tensor([1, 0, 1])
    path = simulate(system, uniform_times(0.5, 10), 30, gen(7))
    value = labels[path.state[0]]
    prior = prior_given(system, labels, value)
    assert torch.allclose(prior[value == 1][0], torch.tensor([0.4, 0.0, 0.6], dtype=torch.float64))
    found = run(WonhamFilter(system, prior), path)
    one = int((value == 0).nonzero()[0])
    alone = run(WonhamFilter(replace(system, prior=torch.tensor([0.0, 1.0, 0.0]))), path)
    assert torch.allclose(found.mean[:, one], alone.mean[:, one], atol=1e-12)
    assert torch.isfinite(found.mean).all()
    with pytest.raises(ValueError, match="no probability"):
        prior_given(replace(system, prior=torch.tensor([0.0, 1.0, 0.0])), labels, value)


@pytest.mark.filterwarnings("ignore::sigmascope.filtering.CoarseStepWarning")
def test_strong_measurements_leave_the_numbers_in_peace():
    """Log weights differ by tens of thousands: no NaN, no overflow, and a lost state can come back."""
    rates = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    for r in (None, rates):
        system = FiniteSystem(torch.tensor([0.5, 0.5]), column(-300.0, 300.0), r)
        path = simulate(system, uniform_times(1.0, 40), 20, gen(8))
        for kind in (WonhamFilter, ZakaiFilter, KushnerFilter):
            found = run(kind(system), path)
            assert torch.isfinite(found.mean).all()
            assert torch.isfinite(found.log_evidence).all()
        if r is None:
            right = run(WonhamFilter(system), path).mean[-1].argmax(1)
            assert torch.equal(right, path.state[-1])


def test_grid_of_an_ornstein_uhlenbeck_process():
    """The chain on the grid has the mean, variance and stationary law of the diffusion."""
    x = torch.linspace(-5.0, 5.0, 201, dtype=torch.float64)
    start = torch.exp(-0.5 * (x - 1.0) ** 2 / 0.04)
    system = grid_system(x, lambda v: -1.3 * v, 0.8, x[:, None], start)
    p = system.prior @ system.transition(0.7)
    mean, decay = float(p @ x), np.exp(-1.3 * 0.7)
    variance = float(p @ x**2) - mean**2
    assert abs(mean - decay) < 1e-3
    assert abs(variance - (0.04 * decay**2 + 0.64 / 2.6 * (1 - decay**2))) < 1e-3
    stationary = torch.exp(-1.3 * x**2 / 0.64)
    assert (stationary @ system.rates).abs().max() < 1e-3 * float(system.rates.abs().max())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prior": torch.tensor([0.5, 0.6])}, "sum one"),
        ({"prior": torch.tensor([1.5, -0.5])}, "not negative"),
        ({"h": torch.zeros(3, 1)}, r"\(3, 1\) for 2 states"),
        ({"h": column(0.0, float("nan"))}, "finite"),
        ({"h": lambda y, t: y}, "pass dim"),
        ({"rates": torch.tensor([[-1.0, 1.0], [1.0, -0.5]])}, "row 1 of the rates sums to 0.5"),
        ({"rates": torch.tensor([[1.0, -1.0], [1.0, -1.0]])}, "not negative off the diagonal"),
        ({"rates": torch.zeros(3, 3)}, r"expected \(2, 2\)"),
        ({"start_mean": column(0.0, 1.0)}, "belong together"),
        ({"start_mean": column(0.0, 1.0), "start_covariance": torch.zeros(1, 1)}, "positive definite"),
    ],
)
def test_bad_systems(change, said):
    good = {"prior": torch.tensor([0.5, 0.5]), "h": column(-1.0, 1.0)}
    with pytest.raises(ValueError, match=said):
        FiniteSystem(**{**good, **change})


def test_bad_runs():
    system = chain()
    path = simulate(system, uniform_times(1.0, 20), 5, gen())
    with pytest.raises(ValueError, match="dim 1"):
        run(WonhamFilter(FiniteSystem(torch.tensor([0.5, 0.5]), column(-1.0, 1.0))), path)
    broken = path.at(torch.arange(21))
    broken.y[3, 1, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        run(WonhamFilter(system), broken)
    with pytest.raises(ValueError, match="one row per path"):
        run(WonhamFilter(system, torch.ones(3, 3) / 3), path)
    with pytest.raises(ValueError, match="expected 'log' or 'euler'"):
        ZakaiFilter(system, scheme="heun")
    wrong = FiniteSystem(torch.tensor([0.5, 0.5]), lambda y, t: y, dim=2)
    with pytest.raises(ValueError, match=r"h\(y, t\) has shape"):
        run(WonhamFilter(wrong), path)


def test_a_coarse_step_is_named():
    with pytest.warns(CoarseStepWarning, match=r"use steps of 0\.0\d+ or less"):
        simulate(chain(), uniform_times(10.0, 10), 2, gen())


def test_a_grid_is_not_taken_for_coarse():
    x = torch.linspace(-5.0, 5.0, 401, dtype=torch.float64)
    system = grid_system(x, lambda v: -v, 1.0, x[:, None], torch.exp(-(x**2)))
    simulate(system, uniform_times(0.1, 10), 2, gen())  # warnings are errors here


def test_measurements_of_ones_own():
    """Float32 measurements without a state are filtered; what needs the state, or the noise, says so."""
    system = chain()
    path = simulate(system, uniform_times(1.0, 50), 4, gen(9))
    mine = Path(system, path.times.float(), path.y.float())
    assert torch.allclose(run(WonhamFilter(system), mine).mean, run(WonhamFilter(system), path).mean, atol=1e-5)
    with pytest.raises(ValueError, match="not known"):
        known_path(mine)
    with pytest.raises(ValueError, match="cannot be refined"):
        mine.refined(uniform_times(1.0, 100), gen())
    with pytest.raises(ValueError, match="cannot be refined"):
        path.at(torch.arange(0, 51, 10)).refined(uniform_times(1.0, 100), gen())


def test_edges():
    system = chain()
    blind = FiniteSystem(system.prior, torch.full((3, 1), 0.7), system.rates)  # H tells nothing
    path = simulate(blind, uniform_times(1.0, 20), 3, gen(1))
    assert torch.allclose(run(WonhamFilter(blind), path).mean[-1], system.prior @ system.transition(1.0), atol=1e-12)
    with pytest.raises(ValueError, match="rows of probabilities"):
        WonhamFilter(system, torch.tensor([[1.5, -0.5, 0.0]]))
    wild = FiniteSystem(system.prior, lambda y, t: -1e9 * y[..., None, :].expand(*y.shape[:-1], 3, 1), dim=1)
    with pytest.warns(CoarseStepWarning), pytest.raises(ValueError, match="overflowed"):
        simulate(wild, uniform_times(1.0, 50), 2, gen(2))
    absorbing = FiniteSystem(
        system.prior, system.h, torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    )
    late = simulate(absorbing, uniform_times(3.0, 60), 4000, gen(3))
    share = (late.state[-1][:, None] == torch.arange(3)).double().mean(0)
    expected = absorbing.prior @ absorbing.transition(3.0)
    assert (share - expected).abs().max() < 4 * 0.5 / 4000**0.5
    assert torch.isfinite(run(WonhamFilter(absorbing), late).mean).all()
