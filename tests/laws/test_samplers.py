"""Samplers on laws that are known: order of convergence without any chance, the exact bridge, streams of noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.interpolate import CubicSpline

from problems import clones, four_points, mixture, points
from sigmascope.core import Denoiser, InputError, generator
from sigmascope.exact.gaussian import GaussianDenoiser
from sigmascope.sample import (
    Ancestral,
    Bridge,
    Churn,
    Euler,
    EulerMaruyama,
    Guided,
    Heun,
    StochasticHeun,
    Streams,
    final,
    fork,
    levels_below,
    rows,
    sample,
    start,
)
from sigmascope.sample.schemes import Model

STOCHASTIC = [EulerMaruyama(), Ancestral(), StochasticHeun(), Churn()]


def name(scheme):
    return type(scheme).__name__


def normal(s=1.0):
    one = torch.ones(1, 1, dtype=torch.float64)
    return GaussianDenoiser(torch.zeros(1), s**2 * one, one, one)


def final_variance(scheme, denoiser, s, sigmas):
    """Variance at the last level, exactly: a linear sampler is a sum of responses to each of its noises."""
    steps = len(sigmas) - 1
    y = torch.zeros(steps + 1, 1, dtype=torch.float64)
    y[0] = (s**2 + sigmas[0] ** 2) ** 0.5
    count = iter(range(1, steps + 1))

    def impulse():
        white = torch.zeros(steps + 1, 1, dtype=torch.float64)
        white[next(count)] = 1.0
        return white

    return float((final(sample(denoiser, y, sigmas, scheme, noise=impulse)).y ** 2).sum())


@pytest.mark.parametrize("scheme", STOCHASTIC, ids=name)
def test_weak_order_on_a_normal_law(scheme):
    s, last = 0.7, 0.5  # lower down, the first order of Euler–Maruyama cancels on a normal law
    errors = [
        abs(final_variance(scheme, normal(s), s, np.geomspace(20.0, last, n + 1)) / (s**2 + last**2) - 1.0)
        for n in (32, 64, 128, 256)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(orders[-1] - scheme.order) < 0.15, orders
    assert errors[-1] < (0.05 if scheme.order == 1 else 2e-3)


def expectation(scheme, problem, sigmas, at_end):
    """u(y) = E[f(Y_last) | Y_first = y] under the scheme, on a grid: quadrature over each noise, no simulation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)
    weights = weights / weights.sum()
    reach = (
        [problem.means.min() - 8 * np.hypot(0.7, s) for s in sigmas],
        [problem.means.max() + 8 * np.hypot(0.7, s) for s in sigmas],
    )
    model = Model(problem.denoiser())
    grids = [np.linspace(a, b, 1500) for a, b in zip(*reach, strict=True)]
    u = at_end(grids[-1])
    for k in range(len(sigmas) - 2, -1, -1):
        y = torch.from_numpy(np.repeat(grids[k], len(nodes)))[:, None]
        white = torch.from_numpy(np.tile(nodes, len(grids[k])))[:, None]
        moved = scheme.step(model, y, float(sigmas[k]), float(sigmas[k + 1]), lambda white=white: white)
        inside = np.clip(moved[:, 0].numpy(), grids[k + 1][0], grids[k + 1][-1])
        u = CubicSpline(grids[k + 1], u)(inside).reshape(-1, len(nodes)) @ weights
    return grids[0], u


@pytest.mark.parametrize("scheme", STOCHASTIC, ids=name)
def test_weak_order_on_a_mixture(scheme):
    """E[V-dependent functions] of a law that is far from normal, by quadrature instead of simulation."""
    problem, first, last = mixture(), 8.0, 0.3
    y, mass = problem.grid(last)
    f = lambda x: np.sin(1.3 * x) + 0.1 * x**2  # noqa: E731
    truth = float((mass * f(y)).sum())
    errors = []
    for n in (16, 32, 64):
        grid, u = expectation(scheme, problem, np.geomspace(first, last, n + 1), f)
        density = problem.density(grid, first).sum(1)
        errors.append(abs(float(np.trapezoid(u * density, grid)) - truth))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(orders[-1] - scheme.order) < 0.35, (orders, errors)


@pytest.mark.parametrize("scheme", [EulerMaruyama(), Ancestral(), StochasticHeun()], ids=name)
def test_strong_order(scheme):
    """On one Brownian path, in the scheme's own clock, against the scheme at a far finer grid."""
    problem, steps, count = mixture(), 4096, 400
    fine = np.geomspace(8.0, 0.3, steps + 1)
    clock = -np.log(fine) if name(scheme) == "EulerMaruyama" else fine**-2.0
    g = generator(0)
    white = (
        torch.randn(steps, count, 1, generator=g, dtype=torch.float64)
        * torch.tensor(np.diff(clock)).sqrt()[:, None, None]
    )
    y = 8.0 * torch.randn(count, 1, generator=g, dtype=torch.float64)

    def end(n):
        together = white.reshape(n, steps // n, count, 1).sum(1)
        scale = torch.tensor(np.diff(clock[:: steps // n])).sqrt()[:, None, None]
        noises = iter(together / scale)
        return final(sample(problem.denoiser(), y, fine[:: steps // n], scheme, noise=lambda: next(noises))).y

    reference = end(steps)
    errors = [float(((end(n) - reference) ** 2).mean().sqrt()) for n in (64, 128, 256)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 1.0) < 0.25), orders


@pytest.mark.parametrize("scheme", [Euler(), Heun()], ids=name)
def test_ode_carries_the_distribution_function(scheme):
    """In one dimension the flow keeps quantiles: F_last(y') = F_first(y)."""
    problem, first, last = mixture(), 8.0, 0.1
    y = torch.linspace(-20, 20, 41, dtype=torch.float64)[:, None]
    wanted = problem.distribution(y[:, 0].numpy(), first)
    errors = []
    for n in (32, 64, 128):
        end = final(sample(problem.denoiser(), y, np.geomspace(first, last, n + 1), scheme)).y[:, 0].numpy()
        errors.append(np.abs(problem.distribution(end, last) - wanted).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(orders[-1] - scheme.order) < 0.4, orders


def test_bridge_is_exact_in_three_steps():
    problem = mixture()
    draws = problem.denoiser().draw(6000, 3)
    y = draws.v + 5.0 * draws.noise
    sigmas = [5.0, 1.5, 0.4, 0.0]
    noise = Streams(1, rows(6000), (1,))
    states = list(sample(problem.denoiser(), y, sigmas, Bridge(), noise=noise, generator=generator(2)))
    assert [s.sigma for s in states] == sigmas
    for s in states[1:]:
        test = stats.kstest(s.y[:, 0].numpy(), lambda x, s=s: problem.distribution(x, s.sigma))
        assert test.pvalue > 1e-3, s.sigma
    coarse = final(sample(problem.denoiser(), y, sigmas[:-1], Ancestral(), noise=Streams(1, rows(6000), (1,)))).y
    assert stats.kstest(coarse[:, 0].numpy(), lambda x: problem.distribution(x, 0.4)).pvalue < 1e-6  # the test can fail


def test_bridge_keeps_the_joint_law():
    """The label of the end given y is a draw of p(a | y): calibration of the posterior at the first level."""
    problem = mixture()
    denoiser = problem.denoiser()
    y = torch.full((8000, 1), 0.2, dtype=torch.float64)
    end = final(
        sample(denoiser, y, [0.9, 0.3, 0.0], Bridge(), noise=Streams(1, rows(8000), (1,)), generator=generator(5))
    )
    given = denoiser.log_posterior(y[:1], torch.tensor([0.9]), "side").exp()[0]
    # The label of a clean value is not a function of it here; its posterior's mean is the probability all the same.
    found = denoiser.log_posterior(end.y, torch.full((8000,), 1e-6), "side").exp()
    error = found.std(0) / 8000**0.5
    assert bool(((found.mean(0) - given).abs() < 4 * error).all())
    assert float(given.min()) > 0.1


def test_a_row_has_its_own_stream():
    one = Streams(7, rows(5), (3,))
    two = Streams(7, rows(2), (3,))
    alone = Streams(7, [(0, 1)], (3,))
    for _ in range(600):  # past the blocks that are drawn ahead
        a, b, c = one(), two(), alone()
        assert torch.equal(a[:2], b)
        assert torch.equal(a[1:2], c)
    white = torch.stack([Streams(0, rows(200), (4,))() for _ in range(1)] + [Streams(1, rows(200), (4,))()])
    assert not torch.equal(white[0], white[1])
    many = Streams(0, rows(400), (50,))()
    assert abs(float(many.mean())) < 4 / 20_000**0.5
    correlation = torch.corrcoef(many)
    assert float((correlation - torch.eye(400)).abs().max()) < 6 / 50**0.5


def test_blocks_drawn_ahead_do_not_matter(monkeypatch):
    ahead = Streams(7, rows(3), (2,))
    wanted = [ahead() for _ in range(20)]
    monkeypatch.setattr("sigmascope.streams._BLOCK_BYTES", 8 * 3 * 2 * 7)
    blocks = Streams(7, rows(3), (2,))
    assert all(torch.equal(blocks(), w) for w in wanted)
    assert len({float(w[0, 0]) for w in wanted}) == 20


def test_children_do_not_depend_on_their_number():
    problem = mixture()
    y = torch.tensor([[0.3], [1.0]], dtype=torch.float64)
    levels = levels_below(1.0, 0.1, 8)
    many = final(fork(problem.denoiser(), y, levels, 6, seed=4)).y.reshape(2, 6)
    few = final(fork(problem.denoiser(), y, levels, 2, seed=4)).y.reshape(2, 2)
    second = final(fork(problem.denoiser(), y[1:], levels, 6, seed=4, first_parent=1)).y.reshape(1, 6)
    assert torch.equal(many[:, :2], few)
    assert torch.equal(many[1:], second)
    assert len(set(many.flatten().tolist())) == 12


def test_float32_model_keeps_a_float64_state():
    class Single(Denoiser):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.event, self.attributes = (1,), ()

        def forward(self, y, sigma, known=None):
            assert y.dtype == sigma.dtype == torch.float32
            return y / (1 + sigma[:, None] ** 2) * self.weight

    y = torch.ones(3, 1, dtype=torch.float64)
    state = final(sample(Single(), y, [2.0, 1.0, 0.1], Heun()))
    assert state.y.dtype == torch.float64
    assert not state.y.requires_grad


@pytest.mark.parametrize(("w", "truth"), [(0.0, 0.3466), (1.0, 0.9179), (2.0, 1.4166)])
def test_guidance_inflates_information(w, truth):
    """TRUTHS: X ~ N(0, 1), A = X + N(0, 1), probability-flow ODE: Var(x | A) = 2^-(1+w), and the information."""
    denoiser, top = Guided(normal(), w), 200.0
    sigmas = np.concatenate([np.geomspace(top, 1e-3, 400), [0.0]])
    y = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    given = {"a": torch.tensor([[0.0], [1.0]], dtype=torch.float64)}
    of_y, of_a = final(sample(denoiser, y, sigmas, Heun(), known=given)).y[:, 0].tolist()
    variance = of_y**2 * (0.5 + top**2)  # from p(y | A): mean A/2, variance 1/2 + sigma^2
    slope = 0.5 * of_y + of_a
    assert variance == pytest.approx(2.0 ** -(1 + w), rel=0.01)
    assert 0.5 * np.log1p(2.0 * slope**2 / variance) == pytest.approx(truth, rel=0.01)


def test_guidance_acts_within_its_interval():
    given = {"a": torch.tensor([[2.0]] * 3)}
    y, sigma = torch.tensor([[0.3]] * 3), torch.tensor([0.5, 1.0, 4.0])
    plain, free = normal()(y, sigma, given), normal()(y, sigma)
    guided = Guided(normal(), 2.0, 0.8, 2.0)(y, sigma, given)
    assert torch.allclose(guided[[0, 2]], plain[[0, 2]])
    assert torch.allclose(guided[1], plain[1] + 2.0 * (plain[1] - free[1]))
    with pytest.raises(InputError, match="known attributes to guide to"):
        Guided(normal(), 1.0)(y, sigma)
    with pytest.raises(InputError, match="expected a finite weight"):
        Guided(normal(), 1.0, 3.0, 2.0)


def agreement_of_clones(scheme, steps, t):
    """φ under the scheme, exactly: E[u² + (1-u)²] with u the probability that a clone ends in the first class."""
    problem, first, last = clones(), float(np.sqrt(np.expm1(2 * t))), 0.5
    at_end = lambda y: 1.0 / (1.0 + np.exp(np.clip(-2 * 16 * y / (1 + last**2), -500, 500)))  # noqa: E731
    grid, u = expectation(scheme, problem, np.geomspace(first, last, steps + 1), at_end)
    u = np.clip(u, 0.0, 1.0)
    return float(np.trapezoid((u**2 + (1 - u) ** 2) * problem.density(grid, first).sum(1), grid))


PHI = {1.5: 0.9997, 2.0: 0.9770, 2.5: 0.8621, 3.0: 0.7069, 3.5: 0.5964}


@pytest.mark.parametrize("t", [2.0, 2.5, 3.0])
def test_clones_part_as_they_should(t):
    """TRUTHS: φ(t), met by simulation within three standard errors and the scheme's error, which halves."""
    problem, scheme, steps, pairs = clones(), Ancestral(), 40, 20_000
    own = [agreement_of_clones(scheme, n, t) - PHI[t] for n in (steps, 2 * steps)]
    assert abs(own[0]) < 0.03
    if abs(own[0]) > 1e-3:
        assert own[0] / own[1] == pytest.approx(2.0, rel=0.2)
    first = float(np.sqrt(np.expm1(2 * t)))
    draws = problem.denoiser().draw(pairs, 11)
    y = draws.v + first * draws.noise
    ends = final(fork(problem.denoiser(), y, levels_below(first, 0.5, steps, zero=False), 2, seed=1, scheme=scheme)).y
    same = (ends.reshape(pairs, 2) > 0).double().sum(1) != 1
    found, error = float(same.double().mean()), float(same.double().std()) / pairs**0.5
    assert abs(found - PHI[t]) < 3 * error + abs(own[0])
    assert error < 0.004


def test_phi_at_half_the_logarithm():
    """TRUTHS: φ(½ ln |m|²) = .7752; at second order a few steps are enough."""
    assert agreement_of_clones(StochasticHeun(), 60, np.log(16.0)) == pytest.approx(0.7752, abs=2e-3)
    assert agreement_of_clones(StochasticHeun(), 60, 1.5) == pytest.approx(PHI[1.5], abs=2e-4)
    assert agreement_of_clones(StochasticHeun(), 60, 3.5) == pytest.approx(PHI[3.5], abs=2e-3)


def test_what_cannot_be_sampled_is_said():
    denoiser = points(four_points()).denoiser()
    y = torch.zeros(2, 1)
    with pytest.raises(InputError, match="strictly decreasing"):
        sample(denoiser, y, [1.0, 1.0])
    with pytest.raises(InputError, match="draws noise"):
        sample(denoiser, y, [1.0, 0.5])
    with pytest.raises(InputError, match="deterministic"):
        fork(denoiser, y, [1.0, 0.5], 3, 0, Heun())
    with pytest.raises(InputError, match="higher level"):
        fork(denoiser, y, [1.0, 0.5], 3, 0, Heun(), renoise=1.0)
    with pytest.raises(InputError, match=r"p\(v \| y\)"):
        final(sample(normal(), y, [1.0, 0.5], Bridge(), noise=Streams(0, rows(2), (1,)), generator=generator(0)))
    with pytest.raises(InputError, match="the last must be lower"):
        levels_below(0.1, 0.2, 4)


def test_start_has_the_mean_of_the_data():
    problem = mixture()
    y = start(problem.denoiser(), 50.0, torch.zeros(1, 1))
    assert float(y) == pytest.approx(float(problem.weights @ problem.means), abs=0.01)


def test_churn_without_noise_is_refused():
    for amount in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="without noise, use Heun"):
            Churn(amount)
    with pytest.raises(InputError, match="0 <= lowest < highest"):
        Churn(1.0, 3.0, 2.0)


def test_churn_continues_at_first_order():
    """Its law is of order 2, but E[V | start] under it is not: what forks see."""
    s, first, last = 1.0, 2.0, 0.01
    exact = (s**2 + last**2) / (s**2 + first**2)
    errors = []
    for n in (40, 80, 160):
        y = torch.ones(1, 1, dtype=torch.float64)
        sigmas = np.geomspace(first, last, n + 1)
        end = final(sample(normal(s), y, sigmas, Churn(), noise=lambda: torch.zeros(1, 1, dtype=torch.float64))).y
        errors.append(abs(float(end) - exact))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 1.0) < 0.2), errors


def test_uses_of_a_seed_do_not_share_noise():
    problem = mixture()
    y = torch.zeros(1, 1, dtype=torch.float64)
    child = list(fork(problem.denoiser(), y, [1.0, 0.5], 1, seed=0, scheme=Ancestral()))[1].y
    image = list(sample(problem.denoiser(), y, [1.0, 0.5], Ancestral(), noise=Streams(0, rows(1), (1,))))[1].y
    assert not torch.equal(child, image)
    with pytest.raises(InputError, match="cannot be resumed"):
        fork(problem.denoiser(), y, [1.0, 0.5], 2, seed=0, scheme=Bridge(), resume=(1, y))
