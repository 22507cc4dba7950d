"""What ``prompts`` was told.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import tomli_w

from sigmascope.arguments import Device, Flag, arg
from sigmascope.errors import InputError
from sigmascope.limits import MOST_LEVELS, MOST_SEED, MOST_STEPS, check_text, refuse, shown, within

_MOST = 4096  # images
_LIMITS = (
    *(("steps", 2, MOST_STEPS), ("levels", 4, MOST_LEVELS), ("noises", 2, 100_000)),
    *(("size", 0, 100_000), ("seed", 0, MOST_SEED)),
)


@dataclass(frozen=True)
class PromptTask:
    """A prompt of a text-to-image pipeline, and what it is compared with."""

    model: Annotated[str, arg("FOLDER", "(required)")] = ""
    """Folder of a Stable Diffusion, SDXL or Flux pipeline that save_pretrained has written, perhaps with diffusers:
    before it; or hub:OWNER/NAME, which is fetched from the hub."""
    prompt: Annotated[str, arg("TEXT", "(required)")] = ""
    """The prompt whose images are measured."""
    against: Annotated[str, arg("TEXT", "(default: the empty prompt)")] = ""
    """The prompt that they are compared with; then also how well the noisy image tells which of the two it is."""
    images: Annotated[str, arg("FILE", "(default: generated)")] = ""
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
    allow_pickle: Flag = False
    """Read weights that only come as pickles, which can run any code."""
    variant: Annotated[str, arg("NAME", "(default: the plain ones)")] = ""
    """Which of its weights to read, e.g. fp16."""
    device: Device = "auto"

    def check(self) -> PromptTask:
        """Itself.

        Raises: InputError for a value that cannot be used.
        """
        if not self.model:
            raise InputError("no pipeline is named: pass --model diffusers:FOLDER")
        if not self.prompt:
            raise InputError("no prompt is given: pass e.g. --prompt 'a red cube'")
        check_text(self)
        if self.prompt == self.against:
            raise InputError(f"both prompts are {self.prompt!r}: pass another to --against, or none")
        if not 2 <= self.n <= _MOST:
            raise InputError(f"n is {shown(self.n)}: from 2 (for an error) to {_MOST} images; pass e.g. --n 8")
        for name, least, most in _LIMITS:
            if getattr(self, name) < least:
                raise InputError(f"{name} is {shown(getattr(self, name))}: it must be at least {least}")
            within(name, getattr(self, name), least, most)
        if self.images:
            refuse(self, {"steps": "the sampler that generates images"}, "given --images")
        return self

    def to_toml(self) -> str:
        """The text of a file that holds what decides the numbers."""
        # A variant that is not asked for is left out: folders that were written before there were any stay the same.
        held = {k: v for k, v in asdict(self).items() if k != "device" and (k != "variant" or v)}
        return tomli_w.dumps({"prompts": held})
