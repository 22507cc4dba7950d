"""Families of text-to-image pipelines: our denoiser beside each step of diffusers' own pipelines, guidance off."""

from __future__ import annotations

import ast
import pipes
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from sigmascope.adapters.diffusers.pipelines import load_pipeline
from sigmascope.adapters.diffusers.units import ruler_of
from steps import Step, steps_of

pytestmark = pytest.mark.filterwarnings("ignore")
A, B = "a red cube", "a blue ball"
FLOW = {"use_flow_sigmas": True, "flow_shift": 1.0, "prediction_type": "flow_prediction"}
UNBINNED = {"use_resolution_binning": False}
CASES = {
    "sd3": (pipes.sd3_whole, {}, 16, {}),
    "sd3 without t5": (pipes.sd3_whole, {"long": False}, 16, {}),
    "sd3 that shifts": (
        pipes.sd3_whole, {"scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)}, 16, {},
    ),
    "pixart alpha": (pipes.pixart, {}, 16, UNBINNED),
    "pixart alpha of 1024": (pipes.pixart, {"side": 128}, 16, UNBINNED),
    "pixart sigma": (
        pipes.pixart, {"alpha": False, "scheduler": EulerDiscreteScheduler(**pipes.SCALED)}, 16, UNBINNED,
    ),
    "pixart sigma, dpm": (
        pipes.pixart, {"alpha": False, "scheduler": DPMSolverMultistepScheduler(**pipes.SCALED)}, 16, UNBINNED,
    ),
    "sana": (pipes.sana, {}, 64, UNBINNED),
    "sana, scaled time": (pipes.sana, {"scale": 0.001}, 64, UNBINNED),
    "sana, dpm": (pipes.sana, {"scheduler": DPMSolverMultistepScheduler(**FLOW)}, 64, UNBINNED),
    "flux dev": (pipes.flux, {}, 16, {}),
    "flux schnell": (pipes.flux, {"guidance": False}, 16, {"max_sequence_length": 256}),
    "aura flow": (pipes.aura_flow, {}, 16, {}),
    "lumina": (pipes.lumina, {}, 32, {}),
}  # fmt: skip
"""How each is made, the side of its images, and options of its call."""
COUNT = 9  # steps; the flow of DPM-Solver then has timesteps that are nearly whole numbers


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Of each case, our pipeline, diffusers' own, the folder, and the steps of a run; made when they are wanted."""
    root, kept = tmp_path_factory.mktemp("families"), dict[str, Any]()

    def of(name: str) -> Any:
        if name not in kept:
            make, options, size, call = CASES[name]
            folder = root / name.replace(" ", "-").replace(",", "")
            own = make(folder, **options)
            own.set_progress_bar_config(disable=True)
            call = {"guidance_scale": 1.0, "output_type": "latent", "height": size, "width": size} | call
            steps = steps_of(own, A, num_inference_steps=COUNT, **call)
            kept[name] = (load_pipeline(folder, prompts=("", A, B), size=size), own, folder, steps)
        return kept[name]

    return of


def apart(denoiser: Any, step: Step, label: int = 1, sigma: float = 0.0) -> float:
    """The largest difference of our estimate from the scheduler's, relative to the largest value."""
    clean = unpacked(step.clean, denoiser.event)
    y = unpacked(step.y, denoiser.event)
    level = torch.tensor([sigma or step.sigma], dtype=torch.float64)
    with torch.no_grad():
        found = denoiser(y, level, {"prompt": torch.tensor([label])})
    return float((found - clean).abs().max() / clean.abs().max())


def unpacked(x: torch.Tensor, event: tuple[int, ...]) -> torch.Tensor:
    """Latents as images: those of Flux are rows of patches."""
    sides = (event[1] // 2, event[2] // 2)
    return torch.nn.functional.pixel_shuffle(x.mT.unflatten(2, sides), 2) if x.ndim == 3 else x


def some(name: str, steps: list[Step]) -> Iterator[Step]:
    """The first, the last, and others; DPM-Solver cuts the timesteps of a flow to whole numbers, which others are."""
    for k in (0, 1, 2, 4, len(steps) - 2, len(steps) - 1):
        if name != "sana, dpm" or abs(steps[k].time - 1000 * steps[k].sigma / (1 + steps[k].sigma)) < 1e-2:
            yield steps[k]


@pytest.mark.parametrize("name", CASES)
def test_our_estimate_is_that_of_each_step(made, name):
    pipe, _, _, steps = made(name)
    assert len(steps) == COUNT
    compared = list(some(name, steps))
    assert len(compared) >= 3
    for step in compared:
        assert apart(pipe.denoiser, step) < 1e-4, step.time


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_seen(made, name):
    """Another prompt, another level for the same state, and another prediction are each far from the pipeline."""
    pipe, _, _, steps = made(name)
    step, denoiser = steps[4], pipe.denoiser
    right = apart(denoiser, step)
    assert apart(denoiser, step, label=2) > 10 * right
    assert apart(denoiser, step, sigma=1.05 * step.sigma) > max(1e-3, 10 * right)
    own = denoiser.prediction
    for other in {"epsilon", "v_prediction", "flow_prediction", "sample"} - {own}:
        denoiser.prediction = other
        try:
            assert apart(denoiser, step) > 1e-2, other
        finally:
            denoiser.prediction = own


def encoded(own: Any, prompt: str, **options: Any) -> list[torch.Tensor]:
    """All embeddings that a guided run of a pipeline gives to its network."""
    seen = list[torch.Tensor]()

    def keep(module: Any, args: Any, given: dict[str, Any]) -> None:
        seen.extend(given["encoder_hidden_states"])

    handle = own.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    own(prompt, guidance_scale=2.0, output_type="latent", num_inference_steps=2, **options)
    handle.remove()
    return seen


@pytest.mark.parametrize("name", ["sd3", "pixart alpha", "sana", "aura flow", "lumina"])
def test_the_empty_prompt_is_that_of_guidance(made, name):
    """Both halves of a guided call are among our embeddings."""
    pipe, own, _, _ = made(name)
    _, _, size, call = CASES[name]
    seen = encoded(own, A, height=size, width=size, **call)
    for k in (0, 1):
        ours = pipe.denoiser.network.text[k]
        assert min(float((ours - x).abs().max()) for x in seen) < 1e-5
        assert min(float((pipe.denoiser.network.text[2] - x).abs().max()) for x in seen) > 1e-3


@pytest.mark.parametrize("name", ["sd3", "sd3 that shifts", "pixart sigma", "sana", "sana, dpm", "aura flow", "lumina"])
def test_units_are_those_of_a_run(made, name):
    """What translate prints of each step is what the pipeline's own scheduler held and what its network was given."""
    _, _, folder, steps = made(name)
    size = CASES[name][2]
    ruler = ruler_of(folder, COUNT, height=size, width=size)
    for k, step in enumerate(steps):
        found = ruler.of_step(k, COUNT)
        assert found.timestep == pytest.approx(step.time, rel=1e-5)
        assert found.sigma > 1e7 if step.sigma > 1e7 else found.sigma == pytest.approx(step.sigma, rel=1e-5)


LONG = {"sd3": ("abc " * 12, "a CLIP text encoder reads 24"), "aura flow": ("ab " * 130, "the text encoder reads 256"),
        "pixart alpha": ("ab " * 60, "the text encoder reads 120"), "sana": ("ab " * 150, "the text encoder reads 299"),
        "lumina": ("ab " * 150, "the text encoder reads")}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_what_is_cut_off_is_what_the_network_does_not_see(made, name):
    """A note is given for a prompt whose end changes nothing, and none for the longest that is read whole."""
    _, own, folder, _ = made(name)
    long, said = LONG[name]
    (note, *_) = load_pipeline(folder, prompts=(long,), size=CASES[name][2]).notes
    assert said in note
    limit, lost = int(note.split(" reads ")[1].split(":")[0]), note.split(": ")[1].removesuffix(" is cut off")
    short = long.strip()
    part = "tokenizer"
    while len(getattr(own, part)(short).input_ids) > limit:
        short = short[:-1].strip()
    assert long.replace(" ", "").endswith(ast.literal_eval(lost).replace(" ", ""))
    prompts = (short, f"{short} a", f"{short} b", short[:-1].strip())
    fits = load_pipeline(folder, prompts=prompts, size=CASES[name][2])
    text, mask = fits.denoiser.network.text, fits.denoiser.network.mask
    text = text if mask is None else text * mask[..., None]
    if name == "sd3":  # of CLIP, whose tokens come first
        text = text[:, : pipes.WORDS, :32]
    assert torch.equal(text[1], text[2])  # what is one token longer is not read
    assert float((text[0] - text[3]).abs().max()) > 1e-3  # the last one that is read
    assert not any(repr(short) in n for n in fits.notes)
    assert all(any(repr(f"{short} {c}")[:30] in n for n in fits.notes) for c in "ab")
