"""Every unit into every other, against diffusers' own schedulers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from sigmascope.adapters.diffusers.units import Ruler
from sigmascope.adapters.foreign import Unit
from sigmascope.cli import main
from sigmascope.core import InputError

SCHEDULERS = {
    "ddim": DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1),
    "trailing": DDIMScheduler(timestep_spacing="trailing"),
    "euler": EulerDiscreteScheduler(),
    "dpm": DPMSolverMultistepScheduler(),
    "flow": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "edm": EDMEulerScheduler(),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_step_is_the_level_that_diffusers_puts_there(name):
    scheduler = SCHEDULERS[name]
    ruler = Ruler(scheduler, 20)
    scheduler.set_timesteps(20)
    for k in (1, 7, 19):
        found = ruler.of_step(k, 20)
        if name == "flow":
            share = float(scheduler.sigmas[k])
            expected = share / (1 - share)
        elif name in ("euler", "edm", "dpm"):
            expected = float(scheduler.sigmas[k])
        else:
            alpha = float(scheduler.alphas_cumprod[int(scheduler.timesteps[k])])
            expected = ((1 - alpha) / alpha) ** 0.5
        assert found.sigma == pytest.approx(expected, rel=1e-6)
        assert found.timestep == pytest.approx(float(scheduler.timesteps[k]), rel=1e-6)
        assert found.step == k
        assert found.decibels == pytest.approx(-20 * np.log10(found.sigma))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_there_and_back(name):
    ruler = Ruler(SCHEDULERS[name], 25, Unit(2.0, -1.0))
    for sigma in (0.05, 0.4, 1.7):
        found = ruler.of_sigma(sigma)
        assert found.network_sigma == pytest.approx(2 * sigma)
        assert ruler.of_timestep(found.timestep).sigma == pytest.approx(sigma, rel=1e-6)
        assert ruler.of_percent(found.percent).sigma == pytest.approx(sigma, rel=1e-6)
        assert ruler.of_strength(found.strength).sigma >= sigma * (1 - 1e-9)  # it begins at this noise or above ...
        if found.strength > 1 / 25:  # ... and a step less would not
            assert ruler.of_strength(found.strength - 1 / 25 + 1e-9).sigma < sigma
        if found.strength_at_most is None:  # no state has so little noise
            assert found.step == 25
            continue
        assert ruler.of_strength(found.strength_at_most).sigma <= sigma * (1 + 1e-9)  # at this noise or below ...
        assert ruler.of_strength(found.strength_at_most + 1 / 25 + 1e-9).sigma > sigma  # ... and a step more would not
        assert found.step_sigma <= sigma * (1 + 1e-9)
        assert ruler.of_step(found.step - 1, 25).sigma > sigma


def test_strength_is_that_of_an_image_to_image_pipeline():
    """init_timestep = min(int(N s), N), and it begins at timesteps[N - init_timestep]."""
    scheduler = SCHEDULERS["ddim"]
    scheduler.set_timesteps(50)
    for strength in (0.6, 0.33, 1.0, 0.02):
        begin = scheduler.timesteps[50 - min(int(50 * strength), 50)]
        found = Ruler(scheduler, 50).of_strength(strength)
        assert found.timestep == pytest.approx(float(begin), abs=1e-3)


def test_percent_of_the_training_clock():
    """As ComfyUI: percent p is the timestep (1 - p) 999; of a flow, 1 - p of the clock before its shift."""
    ruler = Ruler(SCHEDULERS["euler"], 10)
    assert ruler.of_percent(34).timestep == pytest.approx(0.66 * 999, abs=1e-6)
    flow = Ruler(SCHEDULERS["flow"], 10)
    assert flow.of_percent(25).sigma == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda r: r.of_sigma(-1), "must be above 0"),
        (lambda r: r.of_sigma(1e6), "leave out what is outside"),
        (lambda r: r.of_step(20, 20), "expected one from 0 to 19"),
        (lambda r: r.of_step(3, 50), "of 20"),
        (lambda r: r.of_strength(1.2), "at most 1"),
        (lambda r: r.of_strength(0.01), "no step remains"),
        (lambda r: r.of_percent(100), "below 100"),
        (lambda r: r.of_timestep(2000), "leave out what is outside"),
    ],
)
def test_what_there_is_not(ask, said):
    with pytest.raises(InputError, match=said):
        ask(Ruler(SCHEDULERS["ddim"], 20))


@pytest.fixture
def pipeline(tmp_path):
    """A folder as save_pretrained leaves it, as far as its units are concerned: no weights are wanted."""
    (tmp_path / "pipe" / "scheduler").mkdir(parents=True)
    index = {"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "x"]}
    (tmp_path / "pipe" / "model_index.json").write_text(json.dumps(index))
    SCHEDULERS["flow"].save_pretrained(tmp_path / "pipe" / "scheduler")
    return tmp_path / "pipe"


def test_translate(pipeline, capsys):
    """At half of the clock before a shift of 3 the share of noise is .75: sigma is 3, in latents."""
    assert main(["translate", "--model", f"diffusers:{pipeline}", "--timestep", "750", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sigma"] == pytest.approx(3.0)
    assert found["network_sigma"] == pytest.approx(3.0)
    assert main(["translate", "--model", str(pipeline), "--sigma", "3", "--steps", "20"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert "σ (latents)" in head
    assert "network's σ (latents)" in head
    assert row.split()[3] == "750"
    assert main(["translate", "--model", str(pipeline)]) == 0
    table = capsys.readouterr().out.splitlines()[2:]
    levels = [float(line.split()[0]) for line in table]
    assert len(levels) > 5
    assert levels == sorted(levels, reverse=True)
    assert main(["translate", "--model", str(pipeline), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["sigma"] for row in listed] == pytest.approx(levels, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sigma", "x"], "expected a number"),
        (["--sigma", "nan"], "sigma is nan: it must be above 0"),
        (["--network-sigma", "-2"], "network-sigma is -2: the network has sigma from 0"),
        (["--step", "17"], "as 17/50"),
        (["--step", "50/50"], "step is 50 of 50: expected one from 0 to 49"),
        (["--step", "1/999999999"], "at most 100000"),
        (["--steps", "0"], "steps is 0: expected"),
        (["--sigma", "1", "--percent", "3"], "--sigma and --percent came: pass one level"),
        (["--network-sigma", "1", "--step", "3/5"], "--network-sigma and --step came"),
        (["--strength", "7"], "at most 1"),
        (["--percent", "100"], "below 100"),
        (["--timestep", "1001"], "timestep is 1001: the scheduler has timestep from 0 to 1000"),
        (["--timesteps", "a,b"], "timesteps is 'a': expected a number"),
        (["--sigmas", ","], "expected numbers, separated by commas"),
        (["--sigmas", "1,inf"], "expected finite numbers"),
        (["--height", "-3"], "height is -3"),
    ],
)
def test_translate_complains_in_one_line(pipeline, options, said, capsys):
    assert main(["translate", "--model", str(pipeline), *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def settings(folder, **changed):
    """Change what the scheduler's file says."""
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "scheduler" / "scheduler_config.json").unlink(), "it has no scheduler"),
        (lambda p: (p / "scheduler" / "scheduler_config.json").write_text("{}"), "describes no scheduler"),
        (lambda p: (p / "model_index.json").unlink(), "it holds no model_index.json"),
        (lambda p: shutil.rmtree(p), "there is no such folder"),
        (lambda p: settings(p, beta_schedule="zz", _class_name="DDIMScheduler"), "zz is not implemented"),
        (lambda p: settings(p, num_train_timesteps=10**12), "num_train_timesteps is 1000000000000: expected"),
        (lambda p: settings(p, num_train_timesteps="many"), "num_train_timesteps is 'many'"),
        (lambda p: settings(p, num_train_timesteps=None), "num_train_timesteps is None"),
        (lambda p: settings(p, shift=0.0), "shift is 0: it must be finite and above 0"),
        (lambda p: settings(p, shift=[1]), "describes no scheduler"),
        (lambda p: settings(p, shift=-3.0), "its shares of noise go from"),
        (lambda p: settings(p, shift_terminal=2.0), "its shares of noise go from"),
        (lambda p: settings(p, trained_betas=[], _class_name="DDIMScheduler"), "its alphas_cumprod is empty"),
        (lambda p: settings(p, _class_name="UNet2DModel"), "describes no scheduler of diffusers ('UNet2DModel')"),
        (lambda p: settings(p, _class_name="os.system"), "describes no scheduler"),
        (lambda p: settings(p, _class_name="DPMSolverSDEScheduler"), "torchsde"),
        (lambda p: settings(p, _class_name="SCMScheduler"), "cannot be set to 50 steps"),
        (lambda p: (p / "scheduler" / "scheduler_config.json").write_text("[" * 100_000), "nested too deeply"),
        (lambda p: (p / "scheduler" / "scheduler_config.json").write_text("[1]"), "it holds a list"),
        (lambda p: (p / "scheduler" / "scheduler_config.json").write_bytes(b"\xff\xfe"), "cannot be read"),
    ],
)
def test_translate_of_a_wrong_folder(pipeline, spoil, said, capsys):
    spoil(pipeline)
    assert main(["translate", "--model", str(pipeline), "--sigma", "1"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_no_steps():
    with pytest.raises(InputError, match="at least 1"):
        Ruler(SCHEDULERS["ddim"], 0)
