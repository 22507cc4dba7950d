"""What the command about text-to-image pipelines takes, and what its help says.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import tyro


def _text(metavar: str, hint: str) -> Any:
    """An argument whose empty default stands for what the hint says."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


@dataclass(frozen=True)
class PromptsCommand:
    """At which noise level does a prompt decide what a text-to-image pipeline makes, and where in the image?

    Measures, in nats, how far noisy images of a prompt are from those of the empty prompt, or of another one, down to
    each noise level: where guidance has something to act on. Nothing is guided. The folder named by --out receives
    prompts.png, prompts.svg, prompts.json and results.nc.

    Try it: sigmascope prompts --model diffusers:my-stable-diffusion --prompt "a red cube" --out prompts/red
    """

    model: Annotated[str, _text("FOLDER", "(required)")] = ""
    """Folder of a Stable Diffusion, SDXL or Flux pipeline that save_pretrained has written, perhaps with diffusers:
    before it; or hub:OWNER/NAME, which is fetched from the hub."""
    prompt: Annotated[str, _text("TEXT", "(required)")] = ""
    """The prompt whose images are measured."""
    against: Annotated[str, _text("TEXT", "(default: the empty prompt)")] = ""
    """The prompt that they are compared with; then also how well the noisy image tells which of the two it is."""
    out: Annotated[str, _text("FOLDER", "(required)")] = ""
    """Folder for the results: new, empty, or that of the same command."""
    images: Annotated[str, _text("FILE", "(default: generated)")] = ""
    """Images of the prompt: an .npz file with 'images', or a folder of pictures, of the model's size."""
    n: int = 8
    """Images of each prompt: so many are generated, or the first so many are taken."""
    steps: int = 30
    """Steps of the sampler, Heun's for the probability-flow ODE."""
    levels: int = 24
    """Noise levels over the range of the model's schedule, evenly spaced in ln sigma."""
    noises: int = 4
    """Paths of noise of each image."""
    size: int = 0
    """Side of the images in pixels; 0: the model's own."""
    seed: int = 0
    """Seed of images and noise: the same seed gives the same numbers."""
    allow_pickle: tyro.conf.FlagCreatePairsOff[bool] = False
    """Read weights that only come as pickles, which can run any code."""
    variant: Annotated[str, _text("NAME", "(default: the plain ones)")] = ""
    """Which of its weights to read, e.g. fp16."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """Where to compute: auto (a CUDA GPU where there is one), cpu, cuda."""
