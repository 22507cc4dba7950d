"""Strengths, steps and levels against what diffusers' own pipelines do with them, run with random weights."""

from __future__ import annotations

import json
import math
import pipes
import re
import sys
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch

from sigmascope.adapters.diffusers.scheduler_setup import SchedulerSetup, image_to_image
from sigmascope.adapters.diffusers.units import Ruler, ruler_of
from sigmascope.cli import main
from sigmascope.core import InputError

pytestmark = pytest.mark.filterwarnings("ignore")
SCALED = pipes.SCALED
TRIPLES = {
    "ddim": (diffusers.DDIMScheduler(**SCALED, steps_offset=1), "StableDiffusionPipeline"),
    "pndm": (diffusers.PNDMScheduler(**SCALED, skip_prk_steps=True, steps_offset=1), "StableDiffusionPipeline"),
    "euler": (diffusers.EulerDiscreteScheduler(**SCALED, steps_offset=1), "StableDiffusionXLPipeline"),
    "heun": (diffusers.HeunDiscreteScheduler(**SCALED), "StableDiffusionPipeline"),
    "kdpm2": (diffusers.KDPM2DiscreteScheduler(**SCALED), "StableDiffusionXLPipeline"),
    "karras": (diffusers.DPMSolverMultistepScheduler(**SCALED, use_karras_sigmas=True), "StableDiffusionPipeline"),
    "kandinsky": (diffusers.DDPMScheduler(**SCALED), "KandinskyV22Pipeline"),
    "sd3": (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), "StableDiffusion3Pipeline"),
    "flux": (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), "FluxPipeline"),
}
CLASSES = {
    "StableDiffusionPipeline": diffusers.StableDiffusionImg2ImgPipeline,
    "StableDiffusionXLPipeline": diffusers.StableDiffusionXLImg2ImgPipeline,
    "KandinskyV22Pipeline": diffusers.KandinskyV22Img2ImgPipeline,
    "StableDiffusion3Pipeline": diffusers.StableDiffusion3Img2ImgPipeline,
    "FluxPipeline": diffusers.FluxImg2ImgPipeline,
}
"""The image-to-image class of each kind, by hand."""


def begins(scheduler, kind, steps, strength):
    """The entry at which diffusers' own class begins, and the level and timestep of the scheduler's lists there."""
    cls = CLASSES[kind]
    left, _ = cls.get_timesteps(SimpleNamespace(scheduler=scheduler), steps, strength, "cpu")
    entry = len(scheduler.timesteps) - len(left)
    if not len(left):
        return None
    time = float(left[0])
    if getattr(scheduler, "sigmas", None) is None:
        kept = float(scheduler.alphas_cumprod[int(time)])
        return math.sqrt((1 - kept) / kept), time
    level = float(scheduler.sigmas[entry])
    if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
        level = math.inf if level >= 1 else level / (1 - level)
    return level, time


def set_up(scheduler, kind, steps):
    """As the pipeline sets it, by hand: Flux passes its levels, and the shift of 4096 tokens."""
    if kind == "FluxPipeline":
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=1.15)
    else:
        scheduler.set_timesteps(steps)


def wrong_strengths(scheduler, kind, asked):
    """How many of seven hundred strengths begin elsewhere than the class that is asked says."""
    wrong = 0
    for steps in (1, 4, 10, 20, 28, 30, 50):
        set_up(scheduler, kind, steps)
        ruler = Ruler(scheduler, steps, pipeline=asked)
        for strength in (j / 100 for j in range(1, 101)):
            truth = begins(scheduler, kind, steps, strength)
            found = ruler._start(strength)
            if truth is None or found is None:
                wrong += truth is not found
                continue
            wrong += not (found[0] == pytest.approx(truth[0], rel=1e-6) and found[1] == truth[1])
    return wrong


@pytest.mark.parametrize("name", TRIPLES)
def test_strengths_of_pipelines(name):
    """(scheduler and pipeline class, N, strength): nine by seven by a hundred, none wrong."""
    scheduler, kind = TRIPLES[name]
    assert wrong_strengths(scheduler, kind, kind) == 0


def test_the_rule_of_another_class_would_be_seen():
    scheduler, kind = TRIPLES["sd3"]
    assert wrong_strengths(scheduler, kind, "StableDiffusionPipeline") > 200


@pytest.mark.parametrize("name", TRIPLES)
def test_printed_strengths_begin_where_they_say(name):
    """At a level, at least it, or at most it: as printed, handed to diffusers' own class."""
    scheduler, kind = TRIPLES[name]
    for steps in (4, 28, 50):
        set_up(scheduler, kind, steps)
        ruler = Ruler(scheduler, steps, pipeline=kind)
        reach = [begins(scheduler, kind, steps, j / 200) for j in range(1, 201)]
        levels = np.array([r[0] for r in reach if r is not None])
        for sigma in np.geomspace(max(ruler.lowest, 0.04), min(ruler.highest, 12.0), 9):
            x = ruler.of_sigma(float(sigma))
            printed = [None if s is None else float(f"{s:.6g}") for s in (x.strength, x.strength_at_most)]
            for said, fits in ((printed[0], levels >= sigma), (printed[1], levels <= sigma)):
                if said is None:
                    assert not fits.any()
                    continue
                level, _ = begins(scheduler, kind, steps, said)
                nearest = levels[fits].min() if said == printed[0] and level >= sigma else levels[fits].max()
                assert level == nearest


def test_classes_of_image_to_image():
    for kind, cls in CLASSES.items():
        assert image_to_image(kind) is cls
    assert image_to_image("NoSuchPipeline") is diffusers.StableDiffusionImg2ImgPipeline


def test_habits_of_other_flows():
    """Levels and shifts that the classes compute, by their own functions."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    module = sys.modules[diffusers.Flux2Pipeline.__module__]
    assert SchedulerSetup("Flux2Pipeline", 1024).mu(scheduler, 20) == module.compute_empirical_mu(1024, 20)
    assert SchedulerSetup("FluxPipeline", 256).mu(scheduler, 20) == pytest.approx(0.5)


def shift_of(tokens, low=256, high=4096, least=0.5, most=1.15):
    return least + (tokens - low) * (most - least) / (high - low)


def clock(steps, first=1.0, last=None):
    return np.linspace(first, 1 / steps if last is None else last, steps)


FALLING = {n: np.linspace(1.0, 0.0, n + 1)[:-1] for n in (4, 20)}
PASSED = {
    "FluxPipeline": lambda n: {"sigmas": clock(n), "mu": 1.15},
    "ChromaPipeline": lambda n: {"sigmas": clock(n), "mu": 1.15},
    "QwenImagePipeline": lambda n: {"sigmas": clock(n), "mu": 1.15},
    "BriaPipeline": lambda n: {"sigmas": clock(n), "mu": 1.15},
    "BriaFiboPipeline": lambda n: {"sigmas": clock(n), "mu": 1.15},
    "StableDiffusion3Pipeline": lambda n: {"n": n, "mu": 1.15},
    "HiDreamImagePipeline": lambda n: {"n": n, "mu": 1.15},
    # Its latents are not packed when it counts them: it takes their channels for tokens.
    "Lumina2Pipeline": lambda n: {"sigmas": clock(n), "mu": shift_of(16)},
    # Its frames count, too: 161 of them, of 512 × 704 pixels.
    "LTXPipeline": lambda n: {"sigmas": clock(n), "mu": shift_of(21 * 16 * 22)},
    "LTX2Pipeline": lambda n: {"sigmas": clock(n), "mu": shift_of(16 * 16 * 24, 1024, 4096, 0.95, 2.05)},
    "LTXConditionPipeline": lambda n: {"timesteps": None},
    "CogView4Pipeline": lambda n: {"mu": 3.25, "sigmas": clock(n, 1000, 1).astype(int).astype("f4") / 1000,
                                   "timesteps": clock(n, 1000, 1).astype(int)},
    "GlmImagePipeline": lambda n: {"mu": 3.25, "sigmas": np.linspace(1000, 1, n + 1)[:-1].astype(int) / 1000,
                                   "timesteps": np.linspace(1000, 1, n + 1)[:-1].astype(int)},
    "EasyAnimatePipeline": lambda n: {"n": n, "mu": 1.0},
    "ErnieImagePipeline": lambda n: {"sigmas": FALLING[n]},
    "HunyuanVideoPipeline": lambda n: {"sigmas": FALLING[n]},
    "OmniGenPipeline": lambda n: {"sigmas": FALLING[n]},
    "Cosmos2TextToImagePipeline": lambda n: {"sigmas": np.linspace(0, 1, n)},
    "ZImagePipeline": lambda n: {"sigmas": clock(n), "mu": 1.15},
    "WanPipeline": lambda n: {"n": n},
    "AuraFlowPipeline": lambda n: {"n": n},
    "LuminaPipeline": lambda n: {"n": n},
    "SanaPipeline": lambda n: {"n": n},
    "PixArtSigmaPipeline": lambda n: {"n": n},
}  # fmt: skip
"""What each class passes to its scheduler at its own size, or at 4096 tokens, by hand."""


def passes(kind, steps):
    """A scheduler that is set by hand as the class does, and the one that it is a copy of."""
    given = PASSED[kind](steps)
    if kind == "LTXConditionPipeline":
        from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule

        given = {"timesteps": linear_quadratic_schedule(steps) * 1000}
    shifting = {"use_dynamic_shifting": True} if "mu" in given else {"shift": 3.0}
    linear = {"time_shift_type": "linear", "base_shift": 0.25, "max_shift": 0.75} if kind[:3] in ("Cog", "Glm") else {}
    if kind.startswith("LTX2"):
        linear = {"base_image_seq_len": 1024, "base_shift": 0.95, "max_shift": 2.05}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**shifting, **linear)
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(given.pop("n", None), **given)
    return own, scheduler


@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("kind", PASSED)
def test_what_pipelines_pass_to_their_scheduler(kind, steps):
    own, scheduler = passes(kind, steps)
    ruler = Ruler(scheduler, steps, pipeline=kind)
    with np.errstate(divide="ignore"):
        shares = own.sigmas[:steps].double().numpy()
        levels = shares / (1 - shares)
    assert ruler.levels[:steps] == pytest.approx(levels, rel=1e-5)
    assert [ruler.of_step(k, steps).timestep for k in range(steps)] == pytest.approx(own.timesteps.tolist(), rel=1e-5)


def test_a_shift_that_only_a_run_has_is_refused():
    """A class that gives none, where diffusers' own run would stop, too."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    for kind in ("StableDiffusionPipeline", "SanaPipeline"):
        with pytest.raises(InputError, match="the shift of"):
            Ruler(scheduler, 4, pipeline=kind)
    assert Ruler(scheduler, 4).states == 4


def recorded(pipe, network, **call):
    """Timesteps that a pipeline's network is called with."""
    seen = []

    def look(module, args, kwargs):
        time = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        seen.append(float(torch.as_tensor(time).flatten()[0]))

    hook = network.register_forward_pre_hook(look, with_kwargs=True)
    try:
        pipe.set_progress_bar_config(disable=True)
        pipe(output_type="latent", **call)
    finally:
        hook.remove()
    return seen


def made(kind, folder, scheduler=None):
    """A pipeline of a kind, its image-to-image sibling, its network, and what both are called with."""
    pipe = getattr(pipes, kind)(folder, scheduler)
    cls = CLASSES[type(pipe).__name__]
    if kind in ("sd3", "flux"):
        pipe.vae.register_to_config(shift_factor=0.1)
    components = dict(pipe.components)
    more = {"requires_safety_checker": False} if kind == "stable" else {}
    sibling = cls(**components, **more)
    network = getattr(pipe, "unet", None) or pipe.transformer
    g = torch.Generator().manual_seed(0)
    width = {"stable": 16, "xl": 32, "sd3": 16, "flux": 24}[kind]
    call = {"prompt_embeds": torch.randn(1, 24, width, generator=g), "height": 16, "width": 16}
    call["guidance_scale"] = 0.0 if kind != "flux" else 1.0
    if kind != "stable":
        call["pooled_prompt_embeds"] = torch.randn(1, 16, generator=g)
    image = torch.rand(1, 3, 16, 16, generator=g)
    return pipe, sibling, network, call, image


RUNS = [
    ("stable", diffusers.DDIMScheduler(**SCALED, clip_sample=False, steps_offset=1)),
    ("stable", diffusers.PNDMScheduler(**SCALED, skip_prk_steps=True, steps_offset=1)),
    ("stable", diffusers.HeunDiscreteScheduler(**SCALED)),
    ("stable", diffusers.KDPM2DiscreteScheduler(**SCALED)),
    ("stable", diffusers.DPMSolverMultistepScheduler(**SCALED, use_karras_sigmas=True)),
    ("xl", diffusers.EulerDiscreteScheduler(**SCALED, steps_offset=1)),
    ("sd3", None),
    ("sd3", diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)),
    ("flux", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "scheduler"), RUNS)
def test_runs_of_diffusers_own_pipelines(kind, scheduler, tmp_path, capsys):
    """Every state's timestep, and the one at which a run with a printed strength begins."""
    pipe, sibling, network, call, image = made(kind, tmp_path / "pipe", scheduler)
    scale = 1000.0 if kind == "flux" else 1.0  # its network is given the share of noise
    order = pipe.scheduler.order
    steps = 5
    ruler = ruler_of(tmp_path / "pipe", steps, height=16, width=16)
    seen = recorded(pipe, network, num_inference_steps=steps, **call)
    states = [scale * t for t in seen][::order]
    assert states == pytest.approx([ruler.of_step(k, steps).timestep for k in range(ruler.states)], rel=1e-5)
    for k in (1, steps - 1):
        size = ["--height", "16", "--width", "16", "--json"]
        assert main(["translate", "--model", str(tmp_path / "pipe"), "--step", f"{k}/{steps}", *size]) == 0
        said = json.loads(capsys.readouterr().out)
        more = {n: v for n, v in call.items() if n not in ("height", "width") or kind in ("sd3", "flux")}
        run = {"image": image, "strength": float(f"{said['strength']:.6g}"), "num_inference_steps": steps}
        first = scale * recorded(sibling, network, **run, **more)[0]
        assert first == pytest.approx(states[k], rel=1e-5)
        assert said["timestep"] == pytest.approx(first, rel=1e-5)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study of latents of two kinds, whose half-information level lies among the scheduler's."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    latents = rng.normal(size=(200, 4, 8, 8)) + label[:, None, None, None]
    np.savez(folder / "latents.npz", images=latents.astype("f4"), label=label)
    options = ["--draws", "64", "--levels", "24", "--sigma-max", "60", "--sigma-min", "0.05"]
    assert main(["study", str(folder / "latents.npz"), *options, "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [("stable", diffusers.HeunDiscreteScheduler(**SCALED)), ("xl", None), ("sd3", None), ("flux", None)],
)
def test_advice_does_what_it_says_in_diffusers_own_pipelines(studied, kind, scheduler, tmp_path, capsys):
    """The strength that keeps begins at or below its level; guided steps are those whose level lies in the interval."""
    pipe, sibling, network, call, image = made(kind, tmp_path / "pipe", scheduler)
    size = ["--height", "16", "--width", "16"]
    conditional = ["advise", str(studied), "--model", str(tmp_path / "pipe"), "--steps", "9", *size]
    assert main([*conditional, "--json"]) == 0
    found = {a["kind"]: a for a in json.loads(capsys.readouterr().out)}
    assert main([*conditional, "--words"]) == 0
    words = capsys.readouterr().out.splitlines()
    lines = {k: next(x for x in words if x.strip().startswith(k.replace("_", " "))) for k in found}
    ruler = ruler_of(tmp_path / "pipe", 9, height=16, width=16)
    seen = recorded(pipe, network, num_inference_steps=9, **call)
    scale = 1000.0 if kind == "flux" else 1.0
    levels = [ruler.of_timestep(scale * t).sigma for t in seen[:: pipe.scheduler.order]]
    strength = float(re.search(r"strength ([\d.]+) of 9 steps", lines["sdedit_strength"])[1])
    more = {n: v for n, v in call.items() if n not in ("height", "width") or kind in ("sd3", "flux")}
    first = scale * recorded(sibling, network, image=image, strength=strength, num_inference_steps=9, **more)[0]
    at = found["sdedit_strength"]["high"]["value"]
    begun = ruler.of_timestep(first).sigma
    assert begun <= at * (1 + 1e-6)
    assert all(s <= begun * (1 + 1e-6) or s > at for s in levels)  # and a state above it would be above the level
    high, low = (found["guidance_interval"][end]["value"] for end in ("high", "low"))
    span = re.search(r"steps (\d+) to (\d+) of 9", lines["guidance_interval"])
    inside = [k for k, s in enumerate(levels) if low <= s <= high]
    assert [int(span[1]), int(span[2])] == [inside[0], inside[-1]]
    steps = found["sampling_steps"]["levels"]
    assert len(steps) == 9
    assert steps[0] <= min(max(x for x in levels if math.isfinite(x)), 60.0) * (1 + 1e-6)
    assert all(f"{s:.4g}" in lines["sampling_steps"] for s in steps)
