"""The options of ``prompts``.  Imports nothing heavy."""

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
    """A prompt of a text-to-image pipeline, and the prompt that it is compared with."""

    model: Annotated[str, arg("MODEL", "(required)")] = ""
    """Folder of a text-to-image pipeline (Stable Diffusion, SDXL, PixArt, Sana, Flux, AuraFlow, Lumina 2) that
    save_pretrained has written, with or without diffusers: before it; hub:OWNER/NAME, a pipeline of the hub; or
    MODULE:FUNCTION, your own function that returns such a pipeline."""
    prompt: Annotated[str, arg("TEXT", "(required)")] = ""
    """The prompt whose images are measured."""
    against: Annotated[str, arg("TEXT", "(default: the empty prompt)")] = ""
    """The prompt to compare with; the study then also measures how well noisy images distinguish the two prompts."""
    images: Annotated[str, arg("FILE", "(default: generated)")] = ""
    """Images of the prompt: an .npz file with 'images', or a folder of pictures, with the size of the model."""
    n: int = 8
    """Number of images of each prompt to generate, or to take from --images."""
    steps: int = 30
    """Steps of the sampler (Heun's method for the probability-flow ODE)."""
    levels: int = 24
    """Number of noise levels over the range of the model's schedule, evenly spaced in ln sigma."""
    noises: int = 4
    """Number of noise paths of each image."""
    size: int = 0
    """Side of the images in pixels; 0: that of the model."""
    seed: int = 0
    """Seed of images and noise; the same seed gives the same numbers."""
    allow_pickle: Flag = False
    """Also read weights from pickles, which can run any code: only if you trust their source."""
    variant: Annotated[str, arg("NAME", "(default: none)")] = ""
    """Variant of the weights to read, e.g. fp16."""
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
        for name, least, largest in _LIMITS:
            if getattr(self, name) < least:
                raise InputError(f"{name} is {shown(getattr(self, name))}: it must be at least {least}")
            within(name, getattr(self, name), least, largest)
        if self.images:
            refuse(self, {"steps": "the sampler that generates images"}, "given --images")
        return self

    def to_toml(self) -> str:
        """The text of a file with the options that decide the numbers."""
        # An empty variant is left out, so that folders of earlier versions stay valid.
        table = {k: v for k, v in asdict(self).items() if k != "device" and (k != "variant" or v)}
        return tomli_w.dumps({"prompts": table})
