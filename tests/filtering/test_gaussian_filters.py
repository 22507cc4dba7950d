"""Kalman–Bucy and Beneš against closed forms, brute-force conditioning, scipy and filterpy."""

from __future__ import annotations

import time

import mpmath
import numpy as np
import pytest
import torch
from filterpy.common import van_loan_discretization
from filterpy.kalman import KalmanFilter
from scipy.integrate import solve_ivp
from scipy.linalg import solve_continuous_are

from filtering.helpers import gen, plane
from sigmascope.filtering import (
    BenesFilter,
    BenesSystem,
    CoarseStepWarning,
    KalmanBucyFilter,
    LinearSystem,
    Path,
    WonhamFilter,
    gaussian_information,
    grid_system,
    riccati,
    run,
    simulate,
    uniform_times,
)


def joint_law(system, times):
    """Mean and covariance of (X, Y) at all times, from the transitions of Euler's scheme on a very fine grid."""
    n, dim = len(system.mean), system.dim
    a, b, c = (m.numpy() for m in system.coefficients(0.0))
    f = np.zeros((dim, dim)) if system.feedback is None else system.feedback.numpy()
    s = np.zeros((b.shape[1], dim)) if system.correlation is None else system.correlation.numpy()
    g, r = system.start_gain.numpy(), system.start_covariance.numpy()
    p0 = system.covariance.double().numpy()
    mean = np.concatenate([system.mean.numpy(), g @ system.mean.numpy()])
    cov = np.block([[p0, p0 @ g.T], [g @ p0, g @ p0 @ g.T + r]])
    push = np.concatenate([system.offset.numpy(), system.measured_offset.numpy()])
    drift = np.block([[a, np.zeros((n, dim))], [c, f]])
    noise = np.block([[b @ b.T, b @ s], [s.T @ b.T, np.eye(dim)]])
    means, blocks, moves = [mean], [cov], []
    for dt in np.diff(times):
        steps = 4000
        # Second order: the drift's exponential to second order, the noise by the trapezoidal rule.
        small = dt / steps
        step = np.eye(n + dim) + drift * small + drift @ drift * small**2 / 2
        whole = np.eye(n + dim)
        for _ in range(steps):
            mean = step @ mean + (np.eye(n + dim) + drift * small / 2) @ push * small
            cov = step @ (cov + noise * small / 2) @ step.T + noise * small / 2
            whole = step @ whole
        means.append(mean)
        blocks.append(cov)
        moves.append(whole)
    size = n + dim
    full = np.zeros((len(times) * size,) * 2)
    for i in range(len(times)):
        block = blocks[i]
        for j in range(i, len(times)):
            full[j * size : (j + 1) * size, i * size : (i + 1) * size] = block
            full[i * size : (i + 1) * size, j * size : (j + 1) * size] = block.T
            if j + 1 < len(times):
                block = moves[j] @ block
    return np.concatenate(means), full


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_exact_given_the_samples_whatever_the_step(correlation):
    """Against conditioning the joint Gaussian of all samples, with feedback, offsets and an informative Y_0."""
    system, times = plane(correlation), torch.tensor([0.0, 0.7, 1.0, 2.2], dtype=torch.float64)
    path = simulate(system, times, 3, gen(1))
    found = run(KalmanBucyFilter(system), path)
    mean, cov = joint_law(system, times.numpy())
    ys, xs = np.array([2, 5, 8, 11]), np.array([9, 10])
    gain = cov[np.ix_(xs, ys)] @ np.linalg.inv(cov[np.ix_(ys, ys)])
    p = cov[np.ix_(xs, xs)] - gain @ cov[np.ix_(ys, xs)]
    assert np.abs(found.final.covariance.numpy() - p).max() < 1e-6
    for i in range(3):
        y = path.y[:, i, 0].numpy()
        assert np.abs(found.mean[-1, i].numpy() - (mean[xs] + gain @ (y - mean[ys]))).max() < 1e-6
        residual = y - mean[ys]
        log_density = -0.5 * residual @ np.linalg.solve(cov[np.ix_(ys, ys)], residual)
        log_density -= 0.5 * np.linalg.slogdet(2 * np.pi * cov[np.ix_(ys, ys)])[1]
        steps = np.diff(times.numpy())
        reference = -0.5 * (np.diff(y) ** 2 / steps).sum() - 0.5 * np.log(2 * np.pi * steps).sum()
        assert abs(float(found.log_evidence[-1, i]) - (log_density - reference)) < 1e-6


def test_simulation_has_the_closed_law():
    system, times = plane(0.6), np.array([0.0, 0.5, 1.5])
    n = 60_000
    path = simulate(system, torch.tensor(times), n, gen(2))
    z = torch.cat([path.state, path.y], 2).permute(0, 2, 1).reshape(-1, n)
    mean, cov = joint_law(system, times)
    scale = np.sqrt(np.diag(cov))
    assert (np.abs(z.mean(1).numpy() - mean) / scale).max() < 4.5 / n**0.5
    assert (np.abs(np.cov(z.numpy()) - cov) / np.outer(scale, scale)).max() < 4.5 * 2**0.5 / n**0.5


def test_static_scalar_closed_form():
    """X of N(0, 4), dY = X dt + dW: P = 4/(1 + 4t), m = P y, evidence ½ P y² − ½ ln(1 + 4t)."""
    one = torch.ones(1, 1, dtype=torch.float64)
    system = LinearSystem(0 * one, 0 * one, one, torch.zeros(1), 4 * one)
    path = simulate(system, torch.tensor([0.0, 0.3, 0.31, 2.0]), 6, gen(3))
    found, y = run(KalmanBucyFilter(system), path), path.y[-1, :, 0]
    p = 4.0 / 9.0
    assert torch.allclose(found.mean[-1, :, 0], p * y, atol=1e-12)
    assert torch.allclose(found.log_evidence[-1], 0.5 * p * y**2 - 0.5 * np.log(9.0), atol=1e-11)


def test_filterpy_converges_to_it_at_first_order():
    """A discrete filter that takes dY/dt for a measurement with covariance I/dt, by another library."""
    base = plane(feedback=False)
    system = LinearSystem(base.a_matrix, base.b_matrix, base.c_matrix, base.mean, base.covariance)
    a, b, c = (m.numpy() for m in system.coefficients(0.0))
    fine = simulate(system, uniform_times(1.0, 1024), 4, gen(4))
    errors = []
    for count in (32, 64, 128, 256):
        path = fine.at(torch.arange(0, 1025, 1024 // count))
        ours = run(KalmanBucyFilter(system), path)
        dt = 1.0 / count
        phi, q = van_loan_discretization(a, b, dt)
        worst = 0.0
        for i in range(4):
            kf = KalmanFilter(dim_x=2, dim_z=1)
            kf.x, kf.P = system.mean.numpy()[:, None].copy(), system.covariance.numpy().copy()
            kf.F, kf.Q, kf.H, kf.R = phi, q, c, np.eye(1) / dt
            for dy in path.increments[:, i].numpy():
                kf.update(dy[:, None] / dt)
                kf.predict()
            worst = max(worst, np.abs(kf.x[:, 0] - ours.mean[-1, i].numpy()).max())
            worst = max(worst, np.abs(kf.P - ours.final.covariance.numpy()).max())
        errors.append(worst)
    slope = np.polyfit(np.log([32, 64, 128, 256]), np.log(errors), 1)[0]
    assert -1.15 < slope < -0.85, (slope, errors)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_riccati(correlation):
    """Matrix fraction against scipy's integrator; the filter's covariance; the steady state against scipy's CARE."""
    system = plane(correlation)
    a, b, c = (m.numpy() for m in system.coefficients(0.0))
    s = np.zeros((2, 1)) if system.correlation is None else system.correlation.numpy()
    times = uniform_times(1.0, 400)
    ours = riccati(system, times)

    def rate(_, p):
        p = p.reshape(2, 2)
        k = p @ c.T + b @ s
        return (a @ p + p @ a.T + b @ b.T - k @ k.T).ravel()

    solved = solve_ivp(rate, (0, 1), ours[0].numpy().ravel(), rtol=1e-11, atol=1e-12).y[:, -1].reshape(2, 2)
    assert np.abs(ours[-1].numpy() - solved).max() < 1e-8
    path = simulate(system, times, 1, gen(5))
    assert np.abs(run(KalmanBucyFilter(system), path).final.covariance.numpy() - solved).max() < 1e-5
    late = riccati(system, torch.linspace(0.0, 40.0, 81, dtype=torch.float64))[-1].numpy()
    care = solve_continuous_are(a.T, c.T, b @ b.T, np.eye(1), s=b @ s)
    assert np.abs(late - care).max() < 1e-9


def test_covariance_stays_one():
    """Ten thousand steps of a nearly noiseless state: symmetric, and no negative eigenvalue."""
    system = LinearSystem(
        torch.tensor([[0.0, 1.0], [0.0, 0.0]]),
        torch.tensor([[0.0], [1e-6]]),
        torch.tensor([[30.0, 0.0]]),
        torch.zeros(2),
        1e4 * torch.eye(2),
    )
    path = simulate(system, uniform_times(100.0, 10_000), 1, gen(6))
    p = run(KalmanBucyFilter(system), path).final.covariance
    assert torch.equal(p, p.T)
    assert torch.linalg.eigvalsh(p)[0] > 0


def test_time_varying_is_second_order():
    """C(t) = 2t on a static state: P = 1 / (1 + 4/3 t³)."""
    one = torch.ones(1, 1, dtype=torch.float64)
    system = LinearSystem(0 * one, 0 * one, lambda t: 2.0 * t * one, torch.zeros(1), one)
    errors = []
    for steps in (10, 20):
        path = simulate(system, uniform_times(1.0, steps), 1, gen(7))
        errors.append(abs(float(run(KalmanBucyFilter(system), path).final.covariance) - 3.0 / 7.0))
        assert abs(float(riccati(system, path.times)[-1]) - 3.0 / 7.0) == pytest.approx(errors[-1], rel=1e-6)
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_given_part_of_the_state():
    """Knowing X_0 is a filter with that mean and no covariance."""
    system = plane()
    path = simulate(system, uniform_times(1.0, 50), 2000, gen(8))
    knows = KalmanBucyFilter(system, path.state[0], torch.zeros(2, 2))
    found = run(knows, path)
    error = path.state[-1] - found.mean[-1]
    p = knows.covariance(found.final)
    assert ((error.T @ error / 2000 - p).abs() < 4.5 * 2**0.5 * p.diagonal().max() / 2000**0.5).all()


def test_benes_against_a_grid_and_particles_of_its_law():
    system = BenesSystem(
        1.5, torch.tensor([1.0, -0.5]), shift=0.2, offset=torch.tensor([0.3, 0.0]), mean=0.1, variance=0.3
    )
    fine = simulate(system, uniform_times(1.0, 1000), 12, gen(9))
    x = torch.linspace(-8.0, 8.0, 401, dtype=torch.float64)
    h = x[:, None] * system.gain + system.offset
    grid = grid_system(
        x,
        lambda v: 1.5 * torch.tanh(1.5 * v + 0.2),
        1.0,
        h,
        torch.cosh(1.5 * x + 0.2) * torch.exp(-0.5 * (x - 0.1) ** 2 / 0.3),
    )
    filter = BenesFilter(system)
    closed, chained = run(filter, fine), run(WonhamFilter(grid), fine)
    assert (closed.mean[..., 0] - chained.mean @ x).abs().max() < 3e-3
    assert (closed.log_evidence - chained.log_evidence).abs().max() < 5e-3
    moment = chained.mean[-1] @ x**2 - (chained.mean[-1] @ x) ** 2
    assert (filter.variance(closed.final) - moment).abs().max() < 3e-3
    density = filter.log_density(closed.final, x).exp() * (x[1] - x[0])
    assert (density - chained.mean[-1]).abs().max() < 2e-4
    # The closed form is exact at any step; its law given four samples is that given by a mixture of two linear systems.
    rough = fine.at(torch.tensor([0, 130, 700, 1000]))
    up = 1.0 / (1.0 + np.exp(-2.0 * (1.5 * 0.1 + 0.2)))
    both = [run(KalmanBucyFilter(system.with_drift(m)), rough) for m in (1.5, -1.5)]
    weight = torch.stack([np.log(up) + both[0].log_evidence[-1], np.log(1 - up) + both[1].log_evidence[-1]])
    share = torch.softmax(weight, 0)
    found = run(filter, rough)
    mixed = share[0] * both[0].mean[-1, :, 0] + share[1] * both[1].mean[-1, :, 0]
    assert torch.allclose(found.mean[-1, :, 0], mixed, atol=1e-10)
    assert torch.allclose(found.log_evidence[-1], torch.logsumexp(weight, 0), atol=1e-10)


def test_benes_is_the_tanh_diffusion():
    """Its exact draws against Euler's scheme of dX = μ tanh(μX + c) dt + dV."""
    system, n = BenesSystem(1.2, torch.ones(1), shift=0.3, mean=-0.2), 40_000
    exact = simulate(system, torch.tensor([0.0, 1.0]), n, gen(10)).state[-1, :, 0]
    x, g = torch.full((n, 1), -0.2, dtype=torch.float64), gen(11)
    for _ in range(400):
        x = x + 1.2 * torch.tanh(1.2 * x + 0.3) / 400 + torch.randn(n, 1, generator=g, dtype=torch.float64) / 20
    stepped = torch.full((n, 1), -0.2, dtype=torch.float64)
    for _ in range(3):
        stepped = system.propagate(stepped, 0.0, 1.0 / 3.0, g)
    for other in (x[:, 0], stepped[:, 0]):
        for power in (1, 2, 3):
            a, b = exact**power, other**power
            assert abs(a.mean() - b.mean()) < 4 * ((a.var() + b.var()) / n) ** 0.5 + 2e-3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"covariance": torch.tensor([[1.0, 2.0], [2.0, 1.0]])}, "eigenvalue -1"),
        ({"covariance": torch.tensor([[1.0, 0.5], [0.0, 1.0]])}, "symmetric"),
        ({"covariance": torch.eye(3)}, r"expected \(2, 2\)"),
        ({"c_matrix": torch.ones(1, 3)}, r"c_matrix has shape \(1, 3\): expected \(1, 2\)"),
        ({"a_matrix": torch.full((2, 2), float("inf"))}, "a_matrix must be finite"),
        ({"correlation": torch.tensor([[1.0], [1.0]])}, "above 1"),
        ({"start_covariance": torch.eye(1)}, "belong together"),
    ],
)
def test_bad_linear_systems(change, said):
    good = {"a_matrix": -torch.eye(2), "b_matrix": torch.eye(2), "c_matrix": torch.ones(1, 2), "mean": torch.zeros(2)}
    with pytest.raises(ValueError, match=said):
        LinearSystem(**{**good, "covariance": torch.eye(2), **change})


def test_other_bad_input():
    with pytest.raises(ValueError, match="must not be negative"):
        BenesSystem(1.0, torch.ones(1), variance=-1.0)
    with pytest.raises(ValueError, match=r"expected \(dim,\)"):
        BenesSystem(1.0, torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"expected \(paths, 2\)"):
        KalmanBucyFilter(plane(), torch.zeros(5, 3))
    x = torch.linspace(-1.0, 1.0, 5)
    with pytest.raises(ValueError, match="uniform"):
        grid_system(x**3, lambda v: -v, 1.0, x[:, None], x * 0 + 1)
    one = torch.ones(1, 1)
    varying = LinearSystem(lambda t: -20.0 * one, one, one, torch.zeros(1), one)
    with pytest.warns(CoarseStepWarning, match=r"use steps of 0\.005 or less"):
        simulate(varying, uniform_times(1.0, 10), 2, gen())


def test_long_steps_keep_their_digits():
    """exp(-G dt) of Van Loan's block would drown the covariance: after a long step the law is the stationary one."""
    one = torch.ones(1, 1, dtype=torch.float64)
    for rate, dt in ((1.0, 18.0), (1.0, 100.0), (50.0, 1.0)):
        system = LinearSystem(-rate * one, one, one, torch.zeros(1), one)
        move = system.transition(0.0, dt)
        assert float(move.covariance[0, 0]) == pytest.approx((1 - np.exp(-2 * rate * dt)) / (2 * rate), rel=1e-10)
        # Y after a long step: the integral of an Ornstein-Uhlenbeck process from 0, and its own noise.
        swing = (dt - 2 * (1 - np.exp(-rate * dt)) / rate + (1 - np.exp(-2 * rate * dt)) / (2 * rate)) / rate**2
        assert float(move.covariance[1, 1]) == pytest.approx(dt + swing, rel=1e-10)


def test_stiff_riccati_and_its_information():
    system = LinearSystem(
        torch.tensor([[-1.0, 1.0], [-0.3, -0.5]]),
        torch.eye(2),
        40.0 * torch.tensor([[1.0, 0.5], [0.2, 1.0]]),
        torch.zeros(2),
        torch.eye(2),
    )
    fine, long = uniform_times(2.0, 400), torch.tensor([0.0, 2.0])
    assert torch.allclose(riccati(system, long)[-1], riccati(system, fine)[-1], rtol=1e-9)
    assert torch.allclose(gaussian_information(system, long)[-1], gaussian_information(system, fine)[-1], rtol=1e-9)
    times = uniform_times(2.0, 20_000)
    c = system.coefficients(0.0)[2]
    rate = torch.einsum("ij,tjk,ik->t", c, riccati(system, times), c)
    assert float(gaussian_information(system, long)[-1]) == pytest.approx(
        0.5 * float(torch.trapezoid(rate, times)), rel=1e-3
    )
    assert torch.isfinite(riccati(system, torch.tensor([0.0, 400.0]))).all()


def _scalar(a: float, b: float, c: float, p0: float) -> LinearSystem:
    one = torch.ones(1, 1, dtype=torch.float64)
    return LinearSystem(a * one, b * one, c * one, torch.zeros(1), p0 * one)


def _closed(a: float, b: float, c: float, p0: float, t: float) -> tuple[float, float]:
    """P = U/V of the scalar equation and the information ½ (ln V + a t), in 60 digits."""
    with mpmath.workdps(60):
        a, b, c, p0, t = map(mpmath.mpf, (a, b, c, p0, t))
        g = mpmath.sqrt(a**2 + (b * c) ** 2)
        grown, turned = (mpmath.mpf(1), t) if g == 0 else (mpmath.cosh(g * t), mpmath.sinh(g * t) / g)
        v = grown + (c**2 * p0 - a) * turned
        return float((p0 * grown + (a * p0 + b**2) * turned) / v), float((mpmath.log(v) + a * t) / 2)


@pytest.mark.parametrize(
    ("a", "b", "c", "p0", "end"),
    [
        (0.0, 1.0, 1e4, 1.0, 1000.0),  # a Brownian motion: tanh
        (-1.0, 1.0, 1e4, 1.0, 1000.0),
        (2.0, 1.0, 1e4, 1.0, 1000.0),
        (0.0, 0.0, 1e4, 1.0, 1000.0),  # static: P = 1/(1 + c² t)
        (1.0, 0.0, 1.0, 1.0, 1000.0),  # unstable and without noise: E grows as exp(t)
        (1.0, 1e-10, 1.0, 1e-20, 1000.0),
        (-3.0, 0.0, 2.0, 1.0, 10.0),  # P falls to 1e-27
        (-1.0, 1e-5, 1e-6, 0.0, 5.0),  # hardly measured: information of 1e-22
        (0.0, 1.0, 1.0, 0.0, 1e6),
    ],
)
def test_riccati_of_a_scalar_in_closed_form(a, b, c, p0, end):
    system, grid = _scalar(a, b, c, p0), torch.tensor([0.0, 1e-9, 0.013, 0.4, 1.0], dtype=torch.float64) * end
    start = time.perf_counter()
    found, given = riccati(system, grid)[:, 0, 0], gaussian_information(system, grid)
    assert time.perf_counter() - start < 1.0
    for k in range(1, len(grid)):
        p, information = _closed(a, b, c, p0, float(grid[k]))
        assert float(found[k]) == pytest.approx(p, rel=1e-10)
        assert float(given[k]) == pytest.approx(information, rel=1e-10)


@pytest.mark.parametrize(
    ("n", "seen", "size", "driven"), [(2, 1, 1.0, 2), (4, 2, 1e4, 4), (8, 3, 1e4, 1), (5, 5, 1e3, 2)]
)
def test_riccati_of_many_states_settles_where_scipy_says(n, seen, size, driven):
    """Random A, most of them unstable; noise on all of the states or on a few of them."""
    g = np.random.default_rng(n)
    a, b, c = g.normal(size=(n, n)), g.normal(size=(n, driven)), size * g.normal(size=(seen, n))
    system = LinearSystem(*map(torch.from_numpy, (a, b, c)), torch.zeros(n), torch.eye(n, dtype=torch.float64))
    start = time.perf_counter()
    found = riccati(system, torch.tensor([0.0, 300.0, 1000.0], dtype=torch.float64))
    assert time.perf_counter() - start < 1.0
    care = solve_continuous_are(a.T, c.T, b @ b.T, np.eye(seen))
    for late in found[1:].numpy():
        assert np.abs(late - care).max() < 1e-8 * np.abs(care).max()


def test_riccati_of_many_states_on_its_way():
    """A stiff system before it settles, against scipy's integrator; one step or two hundred give the same."""
    g = np.random.default_rng(7)
    a, b, c = g.normal(size=(3, 3)), g.normal(size=(3, 2)), 30.0 * g.normal(size=(1, 3))
    system = LinearSystem(*map(torch.from_numpy, (a, b, c)), torch.zeros(3), torch.eye(3, dtype=torch.float64))

    def rate(_, p):
        p = p.reshape(3, 3)
        return (a @ p + p @ a.T + b @ b.T - p @ c.T @ c @ p).ravel()

    solved = solve_ivp(rate, (0, 0.3), np.eye(3).ravel(), method="Radau", rtol=1e-10, atol=1e-13).y[:, -1].reshape(3, 3)
    one = riccati(system, torch.tensor([0.0, 0.3], dtype=torch.float64))[-1].numpy()
    many = riccati(system, uniform_times(0.3, 200))[-1].numpy()
    assert np.abs(one - solved).max() < 1e-7 * np.abs(solved).max()
    assert np.abs(one - many).max() < 1e-11 * np.abs(many).max()


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_an_unstable_mode_that_is_not_measured_overflows(noise):
    system = LinearSystem(
        torch.diag(torch.tensor([1.0, -1.0])),
        noise * torch.eye(2),
        torch.tensor([[0.0, 1.0]]),
        torch.zeros(2),
        torch.eye(2),
    )
    early = riccati(system, torch.tensor([0.0, 50.0]))[-1]
    assert float(early[0, 0]) == pytest.approx(np.exp(100.0) * (1.0 + 0.5 * noise) - 0.5 * noise, rel=1e-10)
    assert float(early[1, 1]) == pytest.approx(_closed(-1.0, noise, 1.0, 1.0, 50.0)[0], rel=1e-8)
    for times in (torch.tensor([0.0, 1000.0]), uniform_times(1000.0, 50)):
        with pytest.raises(ArithmeticError, match=r"overflowed before t = \d+"):
            riccati(system, times)
        with pytest.raises(ArithmeticError, match="overflowed"):
            gaussian_information(system, times)
    with pytest.raises(ArithmeticError, match="overflowed"):
        run(KalmanBucyFilter(system), Path(system, uniform_times(1000.0, 500), torch.zeros(501, 1, 1)))
    with pytest.raises(ArithmeticError, match="the state overflow"):
        simulate(system, uniform_times(1000.0, 100), 2, gen(3))
