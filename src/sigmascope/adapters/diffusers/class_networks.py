"""Class-conditional and unconditional networks of diffusers: their calls, the shape of their values, their classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sigmascope.adapters.diffusers.folders import MOST_VALUES
from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, register
from sigmascope.core import Attribute, InputError

CLASS = "class"
"""Name of the attribute of a class-conditional pipeline."""


class _UNet(nn.Module):
    """A UNet2DModel, without the channels of its variance; a fixed class replaces that of each row."""

    def __init__(self, unet: Any, fixed: int | None = None) -> None:
        super().__init__()
        self.unet, self.fixed = unet, fixed

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        label = label if self.fixed is None else torch.full((len(x),), self.fixed, device=x.device)
        out: Tensor = self.unet(x, time, class_labels=label).sample
        return out[:, : x.shape[1]]


class _DiT(nn.Module):
    """A DiT, without the channels of its variance."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        out: Tensor = self.transformer(x, timestep=time, class_labels=label).sample
        return out[:, : x.shape[1]]


def _dit(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    """The network of a DiT, which has one more class, for an unknown one."""
    c = pipe.transformer.config
    count = int(c.num_embeds_ada_norm)
    attribute = _attribute(count, pipe, c, request.index)
    return PipelineNetwork(_DiT(pipe.transformer), event_of(c, request.name), attribute, count)


def _unet(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    """The network of a UNet2DModel, whose last class stands for an unknown one if the user says so."""
    unet, name = pipe.unet, request.name
    event, count = event_of(unet.config, name), class_count(unet, name)
    attribute, null, fixed = known_classes(count, pipe, unet.config, request)
    return PipelineNetwork(_UNet(unet, fixed), event, attribute, null)


def known_classes(
    count: int, pipe: Any, config: Mapping[str, Any], request: PipelineRequest
) -> tuple[Attribute | None, int | None, int | None]:
    """The classes of a network without the empty one, the index of that, and the class that replaces all others.

    Args:
        count: of the classes that the network takes; 0: none.
        pipe: the pipeline.
        config: of its network.
        request: with the empty class that the user names.

    Raises: InputError for an empty class other than the last.
    """
    null, name = request.null, request.name
    if null is not None and not 0 <= null < count:
        raise InputError(f"{name}: the empty class is {null}, the network has {count}: pass an index below that")
    if count and null is not None and null != count - 1:
        raise InputError(f"{name}: the empty class is {null}: only the last, {count - 1}, can be one")
    known = count - (null is not None)
    if count and known < 2:  # one class is no attribute
        return None, None, 0 if null is None else null
    return _attribute(known, pipe, config, request.index) if count else None, null, None


def class_count(unet: Any, name: str) -> int:
    """Number of classes of a UNet; 0 where it takes none."""
    embedding, kind = getattr(unet, "class_embedding", None), unet.config.get("class_embed_type")
    if embedding is None:
        return 0
    if not isinstance(embedding, nn.Embedding):
        raise InputError(
            f"{name}: its network takes an embedding in place of a class (class_embed_type is {kind!r}): wrap it in "
            "adapters.Foreign, with a function that gives the embedding of each class"
        )
    if embedding.num_embeddings < 1:
        raise InputError(f"{name}: its network has no class (num_class_embeds is 0): expected at least 1, or null")
    return int(embedding.num_embeddings)


def event_of(config: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """Shape of a network's values."""
    channels: Any = config.get("in_channels")
    side, out = config.get("sample_size"), config.get("out_channels")
    if side is None:
        raise InputError(f"{name}: the configuration of its network has no sample_size, the size of its images: add it")
    sides = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
    good = len(sides) == 2 and all(type(x) is int and x > 0 for x in (channels, *sides))
    if not good or math.prod((channels, *sides)) > MOST_VALUES:
        raise InputError(f"{name}: its network has {channels} channels, sample_size {side}: no images are of that size")
    if out not in (None, channels, 2 * channels):
        raise InputError(
            f"{name}: its network takes {channels} channels and gives {out}: expected {channels}, or twice as many "
            "for a network with a variance"
        )
    return (channels, *sides)


def _attribute(count: int, pipe: Any, config: Mapping[str, Any], index: Mapping[str, Any]) -> Attribute:
    """The classes at equal priors, with the names in the pipeline's own table, or their numbers."""
    tables = (getattr(pipe.config, "id2label", None), index.get("id2label"), config.get("id2label"))
    table = next((t for t in tables if isinstance(t, Mapping) and t), {})
    names = {int(k): " ".join(str(v).split()) for k, v in table.items()}
    values = tuple(names.get(i) or str(i) for i in range(count))
    if len(set(values)) < count:
        values = tuple(f"{v} ({i})" for i, v in enumerate(values))
    return Attribute(CLASS, values, torch.full((count,), 1.0 / count, dtype=torch.float64))


register(Kind("UNet2DModel", "unet", _unet, networks=("UNet2DModel",)))
register(Kind("DiT", "transformer", _dit, networks=("DiTTransformer2DModel", "Transformer2DModel")))
