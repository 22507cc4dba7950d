"""What ``prompts`` was told.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import tomli_w

from sigmascope.errors import InputError
from sigmascope.limits import MOST_LEVELS, MOST_SEED, MOST_STEPS, check_text, refuse, shown, within

_MOST = 4096  # images
_LIMITS = (
    *(("steps", 2, MOST_STEPS), ("levels", 4, MOST_LEVELS), ("noises", 2, 100_000)),
    *(("size", 0, 100_000), ("seed", 0, MOST_SEED)),
)


@dataclass(frozen=True)
class PromptTask:
    """A prompt of a text-to-image pipeline, and what it is compared with.

    Args:
        model: folder of the pipeline, perhaps with ``diffusers:`` before it, or ``hub:owner/name``.
        prompt: whose images are measured.
        against: the prompt that they are compared with; empty: the empty prompt.
        images: an ``.npz`` with ``images``, or a folder of pictures, made with the prompt; empty: they are generated.
        n: images of each prompt: so many are generated, or the first so many are taken.
        steps: of the sampler.
        levels: of noise, over the range of the model's own schedule.
        noises: paths of noise of each image.
        size: side of the images in pixels; 0: the model's own.
        seed: of the images and of the noise.
        allow_pickle: read weights that only come as pickles.
        variant: of the weights, e.g. ``fp16``; empty: the plain ones.
        device: as for a study.
    """

    model: str
    prompt: str
    against: str = ""
    images: str = ""
    n: int = 8
    steps: int = 30
    levels: int = 24
    noises: int = 4
    size: int = 0
    seed: int = 0
    allow_pickle: bool = False
    variant: str = ""
    device: str = "auto"

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
