"""A loaded model as the model of a study, with or without classes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import torch

from sigmascope.adapters.diffusers.folders import in_one_line
from sigmascope.adapters.hooks import Featured, blocks_of
from sigmascope.adapters.models import LoadedModel, load_model
from sigmascope.core import Denoiser, InputError, LabelledData
from sigmascope.data import from_array
from sigmascope.data.arrays import ArraySource
from sigmascope.data.sigma_units import HALF, LATENTS, range_of, unit_of
from sigmascope.information.mixture import Mixture
from sigmascope.information.probes import HasFeatures
from sigmascope.studies.options import Sampling
from sigmascope.studies.spec import ForeignSpec
from sigmascope.studies.subjects.model import check_same_model

_ENCODED = 64  # pictures that are encoded at once
_ROOT2 = 2**0.5
_NODES, _PAIRS = 6, 2  # of a mixture's likelihood
_BELOW = 4.0  # clean values are read below the last level of a study, by this factor
_OF_PIXELS = 0.25  # standard deviation of pixels between 0 and 1, about
_BLOCK = re.compile(r"(^|\.)((down|up)_blocks\.\d+|mid_block|transformer_blocks\.\d+)$")


@dataclass(frozen=True, eq=False)
class Opened:
    """A loaded model, with what a study asks of it.

    Args:
        model: the model.
    """

    model: LoadedModel

    @property
    def denoiser(self) -> Denoiser:
        """Its network."""
        return self.model.denoiser

    @property
    def highest_output(self) -> float | None:
        """The largest level of its unconditional denoiser; a mixture evaluates its network above that level."""
        highest = self.model.highest
        return highest / _ROOT2 if highest is not None and self.model.needs_class else highest

    def mixed(self, conditional: Denoiser, span: float, seed: int) -> Mixture:
        """A network without an empty class, with the mixture over its classes as its unconditional output.

        Args:
            conditional: the network, conditioned on one attribute.
            span: square root of the trace of the covariance of the data.
            seed: of the noise of the likelihood.
        """
        top = float("inf") if self.model.highest is None else self.model.highest
        name = conditional.attributes[0].name
        return Mixture(conditional, name, span=span, nodes=_NODES, pairs=_PAIRS, highest=top, seed=seed).eval()

    @property
    def unconditional_calls(self) -> int:
        """Network calls of an unconditional output."""
        return len(self.denoiser.attributes[0].values) * (1 + 2 * _NODES * _PAIRS) if self.model.needs_class else 1

    def unconditional(self, seed: int) -> Denoiser:
        """The unconditional denoiser: the network, or the mixture over its classes at equal shares."""
        if not self.model.needs_class:
            return self.denoiser
        spread = _OF_PIXELS if self.model.encode is None else 1.0
        return self.mixed(self.denoiser, spread * math.prod(self.denoiser.event) ** 0.5, seed)

    def levels(self, spec: ForeignSpec) -> ForeignSpec:
        """The specification within the pipeline's levels.

        Raises: InputError where no level of the study is in their range.
        """
        highest = self.highest_output
        s = spec.sampling
        top = s.sigma_max if highest is None else min(s.sigma_max, highest / _ROOT2)
        low = max(s.sigma_min, self.model.lowest)
        if low >= top:
            raise InputError(
                f"{spec.model}: its noise levels, in the unit of the data, go from {self.model.lowest:.3g} to "
                f"{self.model.highest or float('inf'):.3g}: no level of the study is in this range"
            )
        return replace(spec, sampling=replace(s, sigma_min=low, sigma_max=top))

    def reads_at(self, sampling: Sampling) -> float:
        """The level at which clean values are read: below the last level of the study, where the pipeline goes lower.

        Attributes that are open at the last level are decided below it, so continuations must not end there.  A
        quarter of the level leaves a sixteenth of the variance of the noise.
        """
        return max(self.model.lowest, min(sampling.sigma_min / _BELOW, Sampling.sigma_min))

    def values(self, data: LabelledData) -> LabelledData:
        """The data as values of the network: pixels, or latents.

        Raises: InputError where their shape is not that of the network.
        """
        event, encode = self.denoiser.event, self.model.encode
        data = data if self.model.pipe is None else as_pixels(data)
        if encode is None:
            if data.event != event:
                raise InputError(
                    f"{data.name}: items have shape {data.event}, the model's {event}: resize or crop them first"
                )
            return data
        parts = []
        with in_one_line(data.name, f"items of shape {data.event} cannot be encoded"):
            for i in range(0, len(data), _ENCODED):
                parts.append(encode(data.source.read(i, min(i + _ENCODED, len(data)))).float().cpu())
        latents = torch.cat(parts)
        if latents.shape[1:] != event:
            raise InputError(
                f"{data.name}: its latents have shape {tuple(latents.shape[1:])}, the model's {event}: resize or "
                "crop the images first"
            )
        named = {a.name: [a.values[i] for i in data.labels[a.name].tolist()] for a in data.attributes}
        encoded = from_array(latents.numpy(), named, weights=data.weights, name=data.name)
        return replace(encoded, unit=f"{LATENTS} of {self.model.name}", notes=data.notes)


def as_pixels(data: LabelledData) -> LabelledData:
    """Pictures with pixels from 0 to 1, as a pipeline takes them; those from -1 to 1 are converted, with a note.

    Raises: InputError for values beyond 0 and 1 that are no such pictures.
    """
    if range_of(data.unit) == 1.0 or data.span is None or (data.span[0] >= 0 and data.span[1] <= 1):
        return data
    if not data.unit.startswith(HALF):
        low, high = data.span
        raise InputError(
            f"{data.name}: values go from {low:g} to {high:g}: a pipeline takes pixels from 0 to 1, or from -1 to 1; "
            "rescale them"
        )
    pixels = torch.cat([data.source.read(i, min(i + _ENCODED, len(data))) for i in range(0, len(data), _ENCODED)])
    note = "pixels from -1 to 1 were converted to pixels from 0 to 1, which is also the unit of the noise levels"
    unit = unit_of((len(data), *data.event), False, (0.0, 1.0))
    source = ArraySource(((pixels + 1) / 2).numpy())
    return replace(data, source=source, unit=unit, notes=(*data.notes, note), span=(0.0, 1.0))


def with_features(denoiser: Denoiser, spec: ForeignSpec) -> Denoiser:
    """The denoiser with the features of its blocks, where it has blocks and the study has probes."""
    if "probes" not in spec.estimators or isinstance(denoiser, HasFeatures):
        return denoiser
    blocks = [name for name, _ in denoiser.named_modules() if _BLOCK.search(name)] or blocks_of(denoiser)
    return Featured(denoiser, blocks, module=denoiser) if blocks else denoiser


def open_loaded(spec: ForeignSpec, device: torch.device | None, model: Any = None) -> Opened:
    """Load the model of a specification.

    Args:
        spec: the study.
        device: of the model; None: an object stays where it is.
        model: the object that a specification from Python stands for; None: the specification names the model.

    Raises: InputError, also where its weights are not those of the specification.
    """
    loaded = load_model(spec.model if model is None else model, device=device, **spec.pipeline.as_passed())
    check_same_model(spec, loaded.digest)
    return Opened(loaded)
