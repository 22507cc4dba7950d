"""Every scheduler of the installed diffusers, over its options: levels and units against its own numbers."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import warnings
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from sigmascope.adapters.diffusers.units import Ruler
from sigmascope.core import InputError

STEPS = (1, 4, 7, 20, 50)
FEWER = ((1, 20), (4, 50), (7, 20), (4, 20), (7, 50))
"""For options that go together, by turns."""
STRENGTHS = (0.03, 0.29, 0.5, 0.58, 0.77, 1.0)
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FLOW = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
OPTIONS = [
    SCALED, {"beta_schedule": "squaredcos_cap_v2"}, {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "trailing"}, {"timestep_spacing": "linspace"}, {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}, {"use_lu_lambdas": True}, FLOW,
    {"rescale_betas_zero_snr": True}, {"final_sigmas_type": "sigma_min"}, {"interpolation_type": "log_linear"},
    {"timestep_type": "continuous", "prediction_type": "v_prediction", "sigma_min": 0.002, "sigma_max": 700.0},
    {"skip_prk_steps": True}, {"solver_order": 1}, {"shift": 3.0}, {"shift_terminal": 0.1}, {"invert_sigmas": True},
    {"num_train_timesteps": 500}, {"prediction_type": "v_prediction"}, {"sigma_schedule": "exponential"},
    {"sigma_max": 40.0}, {"snr_shift_scale": 1.0}, {"set_alpha_to_one": False}, {"lambda_min_clipped": -5.1},
]  # fmt: skip
NOT_KNOWN = {"KarrasVeScheduler", "IPNDMScheduler", "SCMScheduler", "BlockRefinementScheduler",
             "EntropyBoundScheduler", "DiscreteDDIMScheduler", "HeliosScheduler", "HeliosDMDScheduler"}  # fmt: skip
"""Neither sigmas nor a table, or none before a stage is chosen: refused in one line."""
MARKED = {"DDPMWuerstchenScheduler", "RePaintScheduler"}
"""Their table is a function; their walk goes up and down: each has a test of its own."""


def configurations():
    """(class, options, scheduler, steps): no option, each alone, and a third of the pairs that go together."""
    for name in sorted(n for n in dir(diffusers) if n.endswith("Scheduler")):
        cls = getattr(diffusers, name)
        if name in NOT_KNOWN | MARKED:
            continue
        takes = inspect.signature(cls.__init__).parameters
        fits = [o for o in OPTIONS if set(o) <= set(takes)]
        pairs = [a | b for a, b in itertools.combinations(fits, 2) if not set(a) & set(b)]
        for k, options in enumerate(itertools.chain([{}], fits, pairs[::3])):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    yield cls, options, cls(**options), STEPS if k <= len(fits) else FEWER[k % len(FEWER)]
            except (TypeError, ValueError, ImportError, NotImplementedError):
                continue


def is_flow(scheduler) -> bool:
    flows = ("FlowMatch", "FlowMap", "LTX", "MiniMax", "Piflow")
    return bool(scheduler.config.get("use_flow_sigmas")) or type(scheduler).__name__.startswith(flows)


def truth(scheduler, steps):
    """Levels and timesteps of the states of so many steps."""
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_sigmas"):
        scheduler.set_sigmas(steps)
    return states(scheduler)


def states(scheduler):
    """Levels and timesteps of the states, off the lists of a scheduler that is set."""
    order = getattr(scheduler, "order", 1)
    times = [float(t) for t in scheduler.timesteps][::order]
    if getattr(scheduler, "sigmas", None) is None:
        kept = [float(scheduler.alphas_cumprod[int(t)]) for t in times]
        return [math.sqrt((1 - a) / a) if a else math.inf for a in kept], times
    levels = [float(s) for s in scheduler.sigmas[: len(scheduler.timesteps)]][::order]
    if is_flow(scheduler):
        shares = [1 - s for s in levels] if scheduler.config.get("invert_sigmas") else levels
        levels = [math.inf if s >= 1 else s / (1 - s) for s in shares]
    return levels, times


def comfy(scheduler, percent):
    """ComfyUI's percent_to_sigma: of a table the logarithm at 1 - p of its last index; of a flow the shift of 1 - p."""
    u = 1 - percent / 100
    c = scheduler.config
    if is_flow(scheduler):
        shift = c["flow_shift"] if c.get("use_flow_sigmas") else getattr(scheduler, "shift", c.get("shift", 1.0))
        share = shift * u / (1 + (shift - 1) * u)
        return share / (1 - share) if share < 1 else math.inf
    continuous = c.get("timestep_type") == "continuous" and c.get("prediction_type") == "v_prediction"
    if not hasattr(scheduler, "alphas_cumprod") or continuous:
        return math.exp(math.log(c["sigma_min"]) + u * math.log(c["sigma_max"] / c["sigma_min"]))
    kept = scheduler.alphas_cumprod.double()
    logs = ((1 - kept) / kept).log() / 2
    at = u * (len(logs) - 1)
    low = min(int(at), len(logs) - 2)
    return float(torch.lerp(logs[low], logs[low + 1], at - low).exp())


def left_of(scheduler, steps, strength):
    """Timesteps of an image-to-image run of Stable Diffusion."""
    return StableDiffusionImg2ImgPipeline.get_timesteps(SimpleNamespace(scheduler=scheduler), steps, strength, "")[0]


def close(a, b):
    return a == b or math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-12)


def wrong(ruler, scheduler, steps):
    """What a ruler says that its scheduler does not."""
    levels, times = truth(scheduler, steps)
    found = []
    if ruler.states != len(times):
        found.append(("states", ruler.states, len(times)))
    for k, (level, time) in enumerate(zip(levels, times, strict=True)):
        x = ruler.of_step(k, steps)
        if not (close(x.sigma, level) and close(x.timestep, time) and x.step == k):
            found.append((k, (x.sigma, level), (x.timestep, time), x.step))
        if k % 5 not in (0, 3) and k < len(times) - 2:
            continue  # the other ways in are tried at some of the states
        if times.count(time) == 1 and not close(ruler.of_timestep(time).sigma, level):
            found.append(("timestep", time, ruler.of_timestep(time).sigma, level))
        if level > 0 and levels.count(level) == 1:
            y = ruler.of_sigma(level)
            if not (y.step == k and close(y.timestep, time) and close(y.step_sigma, level)):
                found.append(("sigma", level, y))
    if not hasattr(scheduler, "order"):
        return found
    for strength in STRENGTHS:
        left = left_of(scheduler, steps, strength)
        entry = len(scheduler.timesteps) - len(left)
        if not len(left):
            with pytest.raises(InputError, match="no step remains"):
                ruler.of_strength(strength)
        elif entry % getattr(scheduler, "order", 1) == 0:
            x = ruler.of_strength(strength)
            k = entry // getattr(scheduler, "order", 1)
            if not (close(x.sigma, levels[k]) and close(x.timestep, times[k])):
                found.append(("strength", strength, x.sigma, levels[k]))
    for percent in (3.0, 50.0, 90.0):
        expected = comfy(scheduler, percent)
        if math.isfinite(expected) and not close(ruler.of_percent(percent).sigma, expected):
            found.append(("percent", percent, ruler.of_percent(percent).sigma, expected))
    return found


@pytest.fixture(scope="module")
def swept():
    """All configurations at all step counts: how many, and what was wrong."""
    count, refused, found = 0, 0, []
    for cls, options, scheduler, numbers in configurations():
        count += 1
        for steps in numbers:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    if any(map(math.isnan, truth(scheduler, steps)[0])):
                        raise ValueError("no number")
            except Exception:  # diffusers cannot be set so either
                refused += 1
                with pytest.raises(InputError):
                    Ruler(scheduler, steps)
                continue
            try:
                off = wrong(Ruler(scheduler, steps), scheduler, steps)
            except InputError as error:
                off = [str(error)]
            if off:
                found.append((cls.__name__, options, steps, off[:2]))
    return count, refused, found


@pytest.mark.filterwarnings("ignore")
def test_every_scheduler_and_option(swept):
    count, refused, found = swept
    assert count >= 600
    assert refused < 0.05 * count
    assert not found, found[:5]


def test_the_sweep_would_see_a_level_off_by_one():
    scheduler = diffusers.HeunDiscreteScheduler(**SCALED)
    ruler = Ruler(scheduler, 20)
    ruler._order = 1  # as of a scheduler whose order is not read
    ruler.levels = np.append(ruler._sigmas, 0.0)
    assert len(wrong(ruler, scheduler, 20)) > 10


@pytest.mark.parametrize("name", sorted(NOT_KNOWN))
def test_schedulers_without_levels_are_refused_in_one_line(name):
    with pytest.raises(InputError) as error:
        Ruler(getattr(diffusers, name)(), 20)
    assert "\n" not in str(error.value)
    assert "scheduler" in str(error.value).lower()


class Stranger:
    """A scheduler that diffusers does not have."""

    def __init__(self, **attributes):
        self.config = attributes.pop("config", {})
        self.__dict__.update(attributes)

    def set_timesteps(self, steps, device=None):
        self.timesteps = torch.linspace(900.0, 100.0, steps)
        if hasattr(self, "sigmas"):
            self.sigmas = torch.cat([torch.logspace(1.0, -1.0, steps), torch.zeros(1)]) * self.sigmas[0] / 10


def test_an_unknown_scheduler_with_levels_or_a_table():
    levels = Ruler(Stranger(sigmas=torch.tensor([10.0, 0.1])), 5)
    assert levels.of_step(2, 5).sigma == pytest.approx(1.0, rel=1e-6)
    assert levels.of_step(2, 5).timestep == 500.0
    flow = Ruler(Stranger(sigmas=torch.tensor([0.5, 0.1])), 5)
    assert flow.of_step(0, 5).sigma == pytest.approx(1.0)
    table = Ruler(Stranger(alphas_cumprod=torch.linspace(0.999, 0.001, 1000)), 5)
    kept = float(torch.linspace(0.999, 0.001, 1000)[500])
    assert table.of_step(2, 5).sigma == pytest.approx(math.sqrt((1 - kept) / kept))
    with pytest.raises(InputError, match="neither sigmas nor alphas_cumprod"):
        Ruler(Stranger(), 5)


def test_stable_cascade_and_repaint():
    """A table that is a function of the time, and a walk that goes up and down."""
    cascade = diffusers.DDPMWuerstchenScheduler()
    ruler = Ruler(cascade, 10)
    cascade.set_timesteps(10)
    assert ruler.states == 10  # its list also holds the time at which it ends
    for k in (1, 5, 9):
        time = cascade.timesteps[k]
        kept = float(cascade._alpha_cumprod(time[None], "cpu"))
        x = ruler.of_step(k, 10)
        assert x.sigma == pytest.approx(math.sqrt((1 - kept) / kept), rel=1e-5)
        assert x.timestep == pytest.approx(float(time))
        assert ruler.of_percent(x.percent).sigma == pytest.approx(x.sigma, rel=1e-5)
    walk = diffusers.RePaintScheduler()
    ruler = Ruler(walk, 20)
    walk.set_timesteps(20)
    assert ruler.states == len(walk.timesteps) > 20
    for k in (0, 30, len(walk.timesteps) - 1):
        kept = float(walk.alphas_cumprod[walk.timesteps[k]])
        assert ruler.of_step(k, 20).sigma == pytest.approx(math.sqrt((1 - kept) / kept), rel=1e-5)


def test_noise_alone_in_every_unit():
    """Zero terminal SNR: the first state has an infinite level, which each unit leads to and none loses."""
    scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    for ruler in (Ruler(scheduler, 10), Ruler(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), 10)):
        first = ruler.of_step(0, 10)
        top = 999.0 if ruler.schedule.name != "flow" else 1000.0
        ways = (ruler.of_sigma(math.inf), ruler.of_timestep(top), ruler.of_strength(1.0), ruler.of_percent(0.0))
        for x in (first, *ways, ruler.of_network_sigma(math.inf)):
            assert math.isinf(x.sigma)
            assert (x.timestep, x.step, x.strength, x.percent) == (top, 0, 1.0, 0.0)
        between = ruler.of_sigma(1e5)
        assert ruler.of_step(1, 10).timestep < between.timestep < top
        assert ruler.of_timestep(between.timestep).sigma == pytest.approx(1e5, rel=1e-4)


def test_steps_of_pndm_are_its_calls():
    """It calls the network once more than it has steps; the states are its calls, and the last is its last timestep."""
    scheduler = diffusers.PNDMScheduler(**SCALED, skip_prk_steps=True, steps_offset=1)
    ruler = Ruler(scheduler, 50)
    scheduler.set_timesteps(50)
    assert ruler.states == len(scheduler.timesteps) == 51
    assert [ruler.of_step(k, 50).timestep for k in range(51)] == [float(t) for t in scheduler.timesteps]
    left = left_of(scheduler, 50, 0.01)
    assert ruler.of_strength(0.01).timestep == float(left[0]) == 1.0


def test_one_step():
    for name in ("EDMEuler", "FlowMatchEulerDiscrete", "HeunDiscrete"):
        ruler = Ruler(getattr(diffusers, f"{name}Scheduler")(), 1)
        x = ruler.of_step(0, 1)
        assert (x.step, x.steps, x.strength) == (0, 1, 1.0)
        assert 0 <= x.percent <= 100


def test_lists_of_ones_own():
    scheduler = diffusers.DDPMScheduler()
    ruler = Ruler(scheduler, timesteps=[900, 400, 30])
    kept = [float(scheduler.alphas_cumprod[t]) for t in (900, 400, 30)]
    assert [ruler.of_step(k, 3).sigma for k in range(3)] == pytest.approx([math.sqrt((1 - a) / a) for a in kept])
    euler = diffusers.EulerDiscreteScheduler()
    ruler = Ruler(euler, sigmas=[10.0, 3.0, 0.5, 0.0])
    euler.set_timesteps(sigmas=[10.0, 3.0, 0.5, 0.0])
    assert [ruler.of_step(k, ruler.steps).sigma for k in range(3)] == pytest.approx([10.0, 3.0, 0.5])
    assert [ruler.of_step(k, ruler.steps).timestep for k in range(3)] == pytest.approx(euler.timesteps[:3].tolist())
    flow = Ruler(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), sigmas=[1.0, 0.5])
    assert flow.of_step(1, 2).sigma == pytest.approx(3.0)  # the scheduler shifts the list, too: .75 of noise
    heun = diffusers.HeunDiscreteScheduler()
    ruler = Ruler(heun, timesteps=[900, 400, 30])
    assert (ruler.states, ruler.of_step(1, 3).timestep) == (3, 400.0)
    for more, said in (
        ({"timesteps": [3, 900]}, "cannot be set to the list that was passed"),
        ({"sigmas": [3.0, 1.0]}, "takes no list of sigmas"),
    ):
        with pytest.raises(InputError, match=said):
            Ruler(diffusers.DDPMScheduler(), **more)


@pytest.mark.filterwarnings("ignore")
def test_lists_of_ones_own_for_every_scheduler_that_takes_them():
    """Every class × options whose set_timesteps takes a list: states as in its own lists."""
    count, found = 0, []
    for cls, options, scheduler, _ in configurations():
        takes = inspect.signature(cls.set_timesteps).parameters
        for name in {"timesteps", "sigmas"} & set(takes):
            top = 1.0 if is_flow(scheduler) and name == "sigmas" else 40.0 if name == "sigmas" else 35.0
            given = [top, 0.7 * top, 0.3 * top] if name == "sigmas" else [int(top), int(top * 0.6), int(top * 0.2)]
            own = copy.deepcopy(scheduler)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    own.set_timesteps(**{name: given})
                    levels, times = states(own)
            except Exception:  # its options leave no room for a list
                with pytest.raises(InputError):
                    Ruler(scheduler, **{name: given})
                continue
            if is_flow(scheduler) and float(own.sigmas.max()) > 1:  # it takes timesteps that are no shares of noise
                continue
            count += 1
            ruler = Ruler(scheduler, **{name: given})
            for k, (level, time) in enumerate(zip(levels, times, strict=True)):
                x = ruler.of_step(k, ruler.steps)
                if not (close(x.sigma, level) and close(x.timestep, time)):
                    found.append((cls.__name__, options, name, k, x.sigma, level))
    assert count > 60
    assert not found, found[:5]
