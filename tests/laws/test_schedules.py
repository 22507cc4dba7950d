"""Schedules against their identities, their stochastic differential equations, and the schedulers of diffusers."""

from __future__ import annotations

import importlib
import inspect
import types
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sigmascope.core import InputError
from sigmascope.noise import (
    SCHEDULES,
    Cosine,
    Discrete,
    FlowMatching,
    Karras,
    Schedule,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    karras_grid,
)

EVERY = {name: make() for name, make in SCHEDULES.items()}
EVERY |= {
    "ve of scores": VarianceExploding(0.01, 1348.0),
    "vp of equal betas": VariancePreserving(5.0, 5.0),
    "vp, strong": VariancePreserving(0.01, 60.0),
    "cosine at 0": Cosine(0.0),
    "flow shifted": FlowMatching(3.0),
    "flow shifted back": FlowMatching(0.2),
    "short table": Discrete(np.array([0.9, 0.5, 0.2, 1e-4])),
}
INFINITE = ("cosine", "cosine at 0", "flow", "flow shifted", "flow shifted back")
PRESERVING = [n for n, s in EVERY.items() if isinstance(s, VariancePreserving | Cosine | Discrete)]
FROM_DATA = [n for n, s in EVERY.items() if not isinstance(s, VarianceExploding | Discrete)]


@pytest.fixture(params=EVERY)
def schedule(request) -> Schedule:
    return EVERY[request.param]


@pytest.fixture(scope="module")
def diffusers() -> types.SimpleNamespace:
    """Its schedulers; only their import may warn."""
    names = ("DDPM", "DDIM", "EulerDiscrete", "EDMEuler", "FlowMatchEulerDiscrete", "ScoreSdeVe")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module("diffusers")
        found = {f"{name}Scheduler": getattr(package, f"{name}Scheduler") for name in names}
        deprecated = importlib.import_module("diffusers.schedulers.deprecated.scheduling_sde_vp")
    return types.SimpleNamespace(**found, ScoreSdeVpScheduler=deprecated.ScoreSdeVpScheduler)


def times_of(schedule: Schedule, count: int = 101) -> np.ndarray:
    most = schedule.noise_time if np.isfinite(schedule.noise_time) else 200.0
    return np.linspace(schedule.data_time, most, count)


def levels_of(schedule: Schedule) -> np.ndarray:
    """Levels over as many decades as it has, from 1e-12 to 1e12."""
    low = max(float(schedule.sigma(schedule.data_time)), 1e-12)
    high = min(float(schedule.sigma(schedule.noise_time)), 1e12)
    return np.geomspace(low, high, 200)


def resolution(schedule: Schedule, sigma: np.ndarray) -> np.ndarray:
    """The share of sigma that a float64 of time can tell: d ln sigma / dt times the rounding of t.

    Where sigma ~ c/(1 - t), with c at least .2 here, it is 1e-16 sigma / c; everywhere else some 1e-13.
    """
    return 1e-12 + (5 * 2.3e-16 * sigma if schedule.name in ("cosine", "flow") else 0.0)


def test_sigma_to_time_and_back(schedule):
    sigma = levels_of(schedule)
    back = schedule.sigma(schedule.time(sigma))
    assert np.all(np.abs(back / sigma - 1) < resolution(schedule, sigma))


def test_time_to_sigma_and_back(schedule):
    time = times_of(schedule)
    assert np.allclose(schedule.time(schedule.sigma(time)), time, rtol=1e-11, atol=1e-13 * max(1, abs(time[-1])))


@pytest.mark.parametrize("name", FROM_DATA)
def test_small_times_keep_their_digits(name):
    """Near the data all digits of t count: there t is small, and so is sigma."""
    time = np.geomspace(1e-14, 1e-2, 60)
    back = EVERY[name].time(EVERY[name].sigma(time))
    assert np.abs(back / time - 1).max() < 1e-13


@given(st.sampled_from(sorted(EVERY)), st.floats(0, 1), st.floats(0, 1))
def test_round_trips_and_order_anywhere(name, one, other):
    schedule = EVERY[name]
    low, high = np.log(levels_of(schedule)[[0, -1]])
    sigma = np.exp(low + (high - low) * np.array([min(one, other), max(one, other)]))
    time = schedule.time(sigma)
    assert np.all(np.abs(schedule.sigma(time) / sigma - 1) < resolution(schedule, sigma) + 1e-13)
    assert time[0] <= time[1]


def test_monotone(schedule):
    time = times_of(schedule, 1001)
    assert np.all(np.diff(schedule.sigma(time)) > 0)
    assert np.all(np.diff(schedule.snr(time)) < 0)
    assert np.all(np.diff(schedule.alpha(time)) <= 0)
    assert np.all(np.diff(schedule.noise_scale(time)) >= 0)


def test_scales_belong_together(schedule):
    time = times_of(schedule)[1:-1]
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    assert np.allclose(schedule.noise_scale(time), alpha * sigma, rtol=1e-15)
    assert np.allclose(schedule.snr(time) * sigma**2, 1, rtol=1e-14)
    assert np.all((alpha > 0) & (alpha <= 1))


def test_identities_of_each_kind():
    for name, schedule in EVERY.items():
        time = times_of(schedule)
        alpha, noise = schedule.alpha(time), schedule.noise_scale(time)
        if name in PRESERVING:
            assert np.allclose(alpha**2 + noise**2, 1, rtol=1e-14)
        elif isinstance(schedule, FlowMatching):
            assert np.allclose(alpha + noise, 1, rtol=1e-14)
        elif isinstance(schedule, SubVariancePreserving):
            assert np.allclose(noise, 1 - alpha**2, rtol=1e-12)
        else:
            assert np.array_equal(alpha, np.ones_like(time))


def test_known_values():
    """By hand: B(1) = 10.05 of the usual betas; half way of the geometric, the flow and the shifted flow."""
    assert VariancePreserving().sigma(1.0) == pytest.approx(np.sqrt(np.exp(10.05) - 1), rel=1e-14)
    assert SubVariancePreserving().noise_scale(1.0) == pytest.approx(1 - np.exp(-10.05), rel=1e-14)
    assert VarianceExploding().sigma(0.5) == pytest.approx(np.sqrt(0.9), rel=1e-14)
    assert float(FlowMatching().sigma(0.5)) == 1.0
    assert float(FlowMatching(3.0).sigma(0.5)) == 3.0
    assert FlowMatching(3.0).noise_scale(0.5) == pytest.approx(0.75, rel=1e-15)
    assert Cosine(0.0).sigma(0.5) == pytest.approx(1.0, rel=1e-15)
    assert Cosine().alpha(0.5) ** 2 == pytest.approx(
        (np.cos(0.508 / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2, rel=1e-14
    )


def test_ends():
    """At the data sigma is 0; at noise alone it is infinite, and the scales are those of the limit."""
    for name in FROM_DATA:
        schedule = EVERY[name]
        assert float(schedule.sigma(schedule.data_time)) == 0
        assert float(schedule.time(0.0)) == schedule.data_time
        assert float(schedule.alpha(schedule.data_time)) == 1
        assert float(schedule.noise_scale(schedule.data_time)) == 0
        assert float(schedule.snr(schedule.data_time)) == np.inf
    for name in INFINITE:
        schedule = EVERY[name]
        assert float(schedule.sigma(1.0)) == np.inf
        assert schedule.time(np.inf) == pytest.approx(1.0, rel=1e-15)
        assert float(schedule.alpha(1.0)) == 0
        assert float(schedule.noise_scale(1.0)) == 1
        assert float(schedule.snr(1.0)) == 0
    for schedule in (*EVERY.values(), *(Cosine(k / 1000) for k in range(20))):  # some would overshoot by a rounding
        back = schedule.time(schedule.sigma(np.array([schedule.data_time, schedule.noise_time])))
        assert np.all((back >= schedule.data_time) & (back <= schedule.noise_time))
    edm = Karras()
    assert [float(f(np.inf)) for f in (edm.sigma, edm.time, edm.alpha, edm.noise_scale)] == [np.inf, np.inf, 1, np.inf]


def test_rounding_of_float32_at_an_end_is_at_the_end():
    schedule = VarianceExploding()
    assert float(np.float32(0.01)) < 0.01
    assert float(schedule.time(np.array([0.01], np.float32))[0]) == 0.0
    assert float(schedule.time(90.0 * (1 + 1e-7))) == 1.0
    assert float(FlowMatching().sigma(1 + 1e-7)) == np.inf
    with pytest.raises(InputError):
        schedule.time(90.0 * (1 + 1e-5))


def test_shapes(schedule):
    for shape in ((), (3,), (2, 1, 2)):
        time = np.full(shape, times_of(schedule)[40])
        for method in ("sigma", "alpha", "snr", "noise_scale"):
            found = getattr(schedule, method)(time)
            assert (type(found), found.dtype, found.shape) == (np.ndarray, np.float64, shape)
        found = schedule.time(schedule.sigma(time))
        assert (type(found), found.dtype, found.shape) == (np.ndarray, np.float64, shape)
    assert schedule.sigma(times_of(schedule)[40].item()).shape == ()
    assert schedule.sigma(np.array([1])).dtype == np.float64


@pytest.mark.parametrize("bad", [-0.1, np.nan, 1e9, -np.inf])
def test_times_outside_are_refused(schedule, bad):
    if isinstance(schedule, Karras) and bad == 1e9:
        bad = -1e9  # every level is a time of it
    for method in ("sigma", "alpha", "snr", "noise_scale"):
        with pytest.raises(InputError, match=rf"time is .*: the schedule '{schedule.name}' has time from"):
            getattr(schedule, method)(np.array([0.5, bad]))


@pytest.mark.parametrize("bad", [-0.1, np.nan, -np.inf])
def test_levels_outside_are_refused(schedule, bad):
    with pytest.raises(InputError, match=r"sigma is .* has sigma from"):
        schedule.time(bad)


def test_messages_are_one_line_that_names_what_came():
    with pytest.raises(InputError) as caught:
        VariancePreserving().time(np.array([1.0, 500.0]))
    assert str(caught.value) == (
        "sigma is 500: the schedule 'vp' has sigma from 0 to 152.16697; leave out what is outside, or take another"
    )
    for make, words in [
        (lambda: VarianceExploding(1.0, 0.5), "sigma_min must be the smaller"),
        (lambda: VariancePreserving(2.0, 1.0), "beta_min is 2 and beta_max 1"),
        (lambda: SubVariancePreserving(0.0, 1.0), "0 < beta_min"),
        (lambda: VariancePreserving(1.0, np.nan), "beta_max nan"),
        (lambda: VariancePreserving(1.0, 701.0), "beta_max < 700"),
        (lambda: Cosine(-0.1), "s is -0.1"),
        (lambda: FlowMatching(0.0), "shift is 0"),
        (lambda: FlowMatching(np.inf), "shift is inf"),
        (lambda: Discrete(np.array([0.9])), "2 or more"),
        (lambda: Discrete(np.ones((2, 2)) / 2), r"shape (2, 2)"),
        (lambda: Discrete(np.array([0.9, 0.95])), "must fall strictly"),
        (lambda: Discrete(np.array([1.0, 0.5])), "must fall strictly"),
        (lambda: Discrete(np.array([0.9, np.nan])), "must fall strictly"),
        (lambda: Discrete(np.array([0.9, -0.5])), "must fall strictly"),
        (lambda: karras_grid(steps=1), "steps is 1"),
        (lambda: karras_grid(rho=0.0), "rho is 0"),
        (lambda: karras_grid(1.0, 2.0), "sigma_min must be the smaller"),
        (lambda: karras_grid(1.0 + 1e-15, 1.0, 32), "coincide"),
    ]:
        with pytest.raises(InputError) as caught:
            make()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_betas_at_the_edge_still_give_numbers():
    assert np.isfinite(VariancePreserving(699.0, 699.9).sigma(1.0))
    assert np.isfinite(SubVariancePreserving(699.0, 699.9).sigma(1.0))


def test_names_and_finality():
    assert all(make().name == name for name, make in SCHEDULES.items())
    for schedule in EVERY.values():
        assert getattr(type(schedule), "__final__", False)
    public = [n for n, f in inspect.getmembers(Schedule, inspect.isfunction) if not n.startswith("_")]
    assert public == ["alpha", "noise_scale", "sigma", "snr", "time"]
    assert all(getattr(Schedule, n).__final__ for n in public)
    for schedule in EVERY.values():
        assert not set(public) & set(vars(type(schedule)))
    assert (Karras(), Cosine(), VariancePreserving()) == (Karras(), Cosine(0.008), VariancePreserving(0.1, 20.0))
    assert repr(SubVariancePreserving()) == "SubVariancePreserving(beta_min=0.1, beta_max=20.0)"


def test_a_clock_may_run_the_other_way():
    """Flow matching is also written with the data at t = 1."""

    class Reversed(Schedule):
        name, data_time, noise_time = "reversed flow", 1.0, 0.0
        _alpha = staticmethod(lambda sigma: 1 / (1 + sigma))

        def _sigma(self, time):
            return (1 - time) / time

        def _time(self, sigma):
            return 1 / (1 + sigma)

    time, usual = np.linspace(0, 1, 11), FlowMatching()
    for method in ("sigma", "alpha", "noise_scale"):
        assert np.allclose(getattr(Reversed(), method)(time[::-1]), getattr(usual, method)(time), rtol=1e-14)
    assert np.allclose(Reversed().time(usual.sigma(time)), time[::-1], atol=1e-15)
    with pytest.raises(InputError, match="has time from 0 to 1"):
        Reversed().sigma(1.5)


# The law of x given v, from the stochastic differential equation alone


def moments(drift, diffusion, variance, times, start=0.0):
    """Mean of x from v = 1, and its variance, of dx = -drift x dt + sqrt(diffusion) dW."""

    def slope(t, state):
        mean, var = state
        return [-drift(t) * mean, -2 * drift(t) * var + diffusion(t)]

    found = solve_ivp(slope, (start, times[-1]), [1.0, variance], "DOP853", times, rtol=1e-12, atol=1e-14)
    assert found.success
    return found.y


TIMES = np.linspace(0.02, 0.98, 25)


def cosine_beta(t):
    return np.pi / 1.008 * np.tan((t + 0.008) / 1.008 * np.pi / 2)


@pytest.mark.parametrize(
    ("schedule", "drift", "diffusion", "variance"),
    [
        (VariancePreserving(), lambda t: (0.1 + 19.9 * t) / 2, lambda t: 0.1 + 19.9 * t, 0.0),
        (
            SubVariancePreserving(),
            lambda t: (0.1 + 19.9 * t) / 2,
            lambda t: (0.1 + 19.9 * t) * (1 - np.exp(-2 * (0.1 * t + 19.9 * t**2 / 2))),
            0.0,
        ),
        (
            VarianceExploding(),
            lambda t: 0.0,
            lambda t: 2 * np.log(9000) * (0.01 * 9000**t) ** 2,
            1e-4,
        ),
        (Cosine(), lambda t: cosine_beta(t) / 2, cosine_beta, 0.0),
        (FlowMatching(), lambda t: 1 / (1 - t), lambda t: 2 * t / (1 - t), 0.0),
    ],
    ids=lambda p: p.name if isinstance(p, Schedule) else "",
)
def test_law_of_the_forward_equation(schedule, drift, diffusion, variance):
    mean, var = moments(drift, diffusion, variance, TIMES)
    assert np.allclose(schedule.alpha(TIMES), mean, rtol=1e-9)
    assert np.allclose(schedule.noise_scale(TIMES), np.sqrt(var), rtol=1e-9)
    assert np.allclose(schedule.sigma(TIMES), np.sqrt(var) / mean, rtol=1e-9)


def test_table_is_the_chain_that_it_discretises():
    """x_k = sqrt(1 - beta) x_{k-1} + sqrt(beta) n, step by step; 1000 of them are near the SDE of 1000 betas."""
    table, betas = Discrete.linear(), np.linspace(1e-4, 0.02, 1000)
    mean, var, law = 1.0, 0.0, []
    for beta in betas:
        mean, var = np.sqrt(1 - beta) * mean, (1 - beta) * var + beta
        law.append((mean, var))
    mean, var = np.array(law).T
    assert np.allclose(table.alpha(np.arange(1000)), mean, rtol=1e-11)
    assert np.allclose(table.sigma(np.arange(1000)), np.sqrt(var) / mean, rtol=1e-11)
    continuous = VariancePreserving(0.1, 20.0).sigma(np.arange(100, 1001, 100) / 1000)
    assert np.allclose(table.sigma(np.arange(99, 1000, 100)), continuous, rtol=0.06)
    assert table.time(continuous[4]) == pytest.approx(499, abs=2)


def test_between_timesteps_the_logarithm_is_linear():
    table = Discrete(np.array([0.9, 0.5, 0.1]))
    levels = np.sqrt(1 / np.array([0.9, 0.5, 0.1]) - 1)
    assert table.sigma(0.5) == pytest.approx(np.sqrt(levels[0] * levels[1]), rel=1e-14)
    assert table.sigma(1.25) == pytest.approx(levels[1] ** 0.75 * levels[2] ** 0.25, rel=1e-14)
    assert table.time(np.sqrt(levels[1] * levels[2])) == pytest.approx(1.5, rel=1e-14)
    assert (table.data_time, table.noise_time) == (0.0, 2.0)


def test_table_is_kept_as_it_was():
    given_table = np.array([0.9, 0.5, 0.1])
    table = Discrete(given_table)
    given_table[:] = 0.3
    assert np.array_equal(table.alphas_cumprod, [0.9, 0.5, 0.1])


# Schedulers of diffusers, whose numbers are float32

TABLES = [
    (Discrete.linear(), {"beta_schedule": "linear"}),
    (
        Discrete.scaled_linear(),
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
    (Discrete.cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
    (Discrete.linear(250, 2e-4, 0.05), {"beta_schedule": "linear", "beta_start": 2e-4, "beta_end": 0.05}),
]


@pytest.mark.parametrize("scheduler", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize(("table", "config"), TABLES, ids=lambda p: getattr(p, "name", ""))
def test_tables_of_ddpm(diffusers, scheduler, table, config):
    steps = len(table.alphas_cumprod)
    theirs = getattr(diffusers, scheduler)(num_train_timesteps=steps, **config)
    kept = theirs.alphas_cumprod.double().numpy()
    assert np.allclose(table.alphas_cumprod, kept, rtol=1e-3, atol=1e-9)  # float32 near beta = .999
    assert np.allclose(table.alphas_cumprod[:-50], kept[:-50], rtol=3e-5)
    # noise to data as the scheduler itself adds it
    time = torch.arange(steps)
    one, none = torch.ones(steps, 1), torch.zeros(steps, 1)
    assert np.allclose(theirs.add_noise(one, none, time)[:, 0], table.alpha(time.numpy()), rtol=1e-3, atol=1e-6)
    assert np.allclose(theirs.add_noise(none, one, time)[:, 0], table.noise_scale(time.numpy()), rtol=1e-3, atol=1e-6)


def test_float32_tables_have_three_digits_at_the_least_levels(diffusers):
    for table, config in TABLES[:3]:
        theirs = Discrete(diffusers.DDPMScheduler(**config).alphas_cumprod.numpy())
        ratio = theirs.sigma(np.arange(1000)) / table.sigma(np.arange(1000))
        assert 1e-6 < np.abs(ratio - 1).max() < 2e-3


@pytest.mark.parametrize(("table", "config"), TABLES[:3], ids=lambda p: getattr(p, "name", ""))
def test_levels_of_the_euler_scheduler(diffusers, table, config):
    theirs = diffusers.EulerDiscreteScheduler(**config)
    levels = theirs.sigmas.double().numpy()
    assert levels[-1] == 0  # theirs appends it
    assert np.allclose(table.sigma(theirs.timesteps.numpy()), levels[:-1], rtol=1e-3)
    theirs.set_timesteps(12)
    assert np.allclose(table.sigma(theirs.timesteps.numpy())[1:-1], theirs.sigmas[1:-2], rtol=2e-3)
    same = Discrete(theirs.alphas_cumprod.numpy())
    some = np.geomspace(float(same.sigma(0.3)), float(same.sigma(998.6)), 200)
    logs = np.log(((1 - theirs.alphas_cumprod.double()) / theirs.alphas_cumprod.double()).sqrt().numpy())
    assert np.allclose(same.time(some), theirs._sigma_to_t(some, logs), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("table", "config"), TABLES[:2], ids=lambda p: getattr(p, "name", ""))
def test_karras_steps_of_the_euler_scheduler(diffusers, table, config):
    theirs = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, **config)
    theirs.set_timesteps(30)
    grid = karras_grid(float(table.sigma(table.noise_time)), float(table.sigma(table.data_time)), 30)
    assert np.allclose(grid, theirs.sigmas[:-1], rtol=1e-3)
    assert np.allclose(table.time(grid), theirs.timesteps, rtol=1e-5, atol=5e-3)


@pytest.mark.parametrize(("steps", "rho"), [(32, 7.0), (18, 7.0), (40, 3.0)])
def test_steps_of_the_edm_scheduler(diffusers, steps, rho):
    theirs = diffusers.EDMEulerScheduler(rho=rho)
    theirs.set_timesteps(steps)
    assert np.allclose(karras_grid(steps=steps, rho=rho), theirs.sigmas[:-1], rtol=1e-6)
    schedule = Karras()
    assert np.allclose(np.log(schedule.sigma(karras_grid(steps=steps, rho=rho))) / 4, theirs.timesteps, rtol=1e-5)


def test_steps_17_to_22_of_edm():
    """TRUTHS: on the EDM grid of 32 steps, 17 to 22 are 1.609 to .283; they are counted from 0."""
    grid = karras_grid()
    assert np.allclose(grid[17:23], [1.609, 1.174, 0.845, 0.598, 0.415, 0.283], atol=5e-4)
    assert (grid[0], grid[-1], len(grid)) == (80.0, 0.002, 32)
    assert np.all(np.diff(grid) < 0)
    assert np.allclose(karras_grid(5.0, 1.0, 5, rho=1.0), [5, 4, 3, 2, 1])
    assert np.allclose(np.diff(np.log(karras_grid(5.0, 1.0, 5, rho=1e6))), -np.log(5) / 4, rtol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_scheduler(diffusers, shift):
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    schedule, clock = FlowMatching(shift), np.arange(1000, 0, -1) / 1000
    conditional = theirs.timesteps.double().numpy()
    assert np.allclose(1000 * schedule.noise_scale(clock), conditional, rtol=1e-6)
    assert np.allclose(FlowMatching().sigma(conditional[1:] / 1000), schedule.sigma(clock[1:]), rtol=3e-4)
    t = theirs.sigmas.double().numpy()[1:]  # the share of noise
    assert np.allclose(schedule.time(t / (1 - t)), clock[1:], atol=1e-5)
    one, none = torch.ones(1000, 1), torch.zeros(1000, 1)
    assert np.allclose(theirs.scale_noise(one, theirs.timesteps, none)[:, 0], schedule.alpha(clock), atol=1e-6)
    assert np.allclose(theirs.scale_noise(none, theirs.timesteps, one)[:, 0], schedule.noise_scale(clock), atol=1e-6)
    # a sampler's steps are even in the clock of shift 1 and shifted then: theirs starts from the shifted least level
    theirs.set_timesteps(7)
    even = np.linspace(1, float(schedule.noise_scale(0.001)), 7)
    assert np.allclose(schedule.noise_scale(even), theirs.sigmas[:-1], rtol=1e-5)


def test_variance_exploding_scheduler(diffusers):
    theirs = diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=1348.0)
    theirs.set_timesteps(50)
    theirs.set_sigmas(50)
    schedule = VarianceExploding(0.01, 1348.0)
    assert np.allclose(schedule.sigma(theirs.timesteps.double().numpy()), theirs.sigmas, rtol=1e-5)
    assert np.allclose(schedule.sigma(np.linspace(0, 1, 50)), theirs.discrete_sigmas, rtol=1e-5)


def test_variance_preserving_scheduler(diffusers):
    """One step of theirs from x = 0 with score 1 has mean -dt beta / std, which tells its std."""
    theirs = diffusers.ScoreSdeVpScheduler()
    theirs.set_timesteps(20)
    schedule = VariancePreserving()
    for t in theirs.timesteps:
        _, mean = theirs.step_pred(torch.ones(1, 1), torch.zeros(1, 1), t, torch.Generator().manual_seed(0))
        std = (0.1 + 19.9 * float(t)) / 20 / abs(float(mean))
        assert schedule.noise_scale(float(t)) == pytest.approx(std, rel=1e-3)


@pytest.mark.parametrize("config", [{}, {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}])
def test_tables_with_zero_terminal_snr(diffusers, config):
    theirs = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, **config).alphas_cumprod.numpy()
    assert theirs[-1] == 0
    with pytest.raises(InputError, match=r"zero terminal SNR.*pass alphas_cumprod\[:-1\]"):
        Discrete(theirs)
    schedule = Discrete(theirs[:-1])
    assert schedule.noise_time == 998
    assert np.allclose(schedule.alpha(np.arange(999)) ** 2, theirs[:-1], rtol=1e-6)
