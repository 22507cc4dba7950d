"""Networks that are told a class or nothing: how they are called, the shape of their values, their classes."""

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
    """A UNet2DModel, called as :data:`~sigmascope.adapters.foreign.Network`.

    One that says its variance, too, says it after what is read here.

    Args:
        unet: the network.
        always: the class that it is always told; None: that of each row.
    """

    def __init__(self, unet: Any, always: int | None = None) -> None:
        super().__init__()
        self.unet, self.always = unet, always

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        told = label if self.always is None else torch.full((len(x),), self.always, device=x.device)
        return self.unet(x, time, class_labels=told).sample[:, : x.shape[1]]


class _DiT(nn.Module):
    """A DiT, which says its variance beside its noise; the variance is left out."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        return self.transformer(x, timestep=time, class_labels=label).sample[:, : x.shape[1]]


def _dit(pipe: Any, asked: PipelineRequest) -> PipelineNetwork:
    """A DiT, which has one class more, for none."""
    c = pipe.transformer.config
    classes = int(c.num_embeds_ada_norm)
    told = _classes(_named(classes, pipe, c, asked.index))
    return PipelineNetwork(_DiT(pipe.transformer), _event(c, asked.name), told, classes)


def _unet(pipe: Any, asked: PipelineRequest) -> PipelineNetwork:
    """A UNet2DModel, of whose classes the last may stand for none, where the user says so."""
    unet, name, null = pipe.unet, asked.name, asked.null
    c, event, count = unet.config, _event(unet.config, name), _class_count(unet, name)
    if null is not None and not 0 <= null < count:
        raise InputError(f"{name}: the empty class is {null}, the network has {count}: pass an index below that")
    if count and null is not None and null != count - 1:
        raise InputError(f"{name}: the empty class is {null}: only the last, {count - 1}, can be one")
    known = count - (null is not None)
    if count and known < 2:  # there is nothing to tell apart
        return PipelineNetwork(_UNet(unet, 0 if null is None else null), event)
    return PipelineNetwork(_UNet(unet), event, _classes(_named(known, pipe, c, asked.index)) if count else None, null)


def _class_count(unet: Any, name: str) -> int:
    """How many classes a UNet2DModel can be told."""
    embedding, kind = getattr(unet, "class_embedding", None), unet.config.get("class_embed_type")
    if embedding is None:
        return 0
    if not isinstance(embedding, nn.Embedding):
        raise InputError(
            f"{name}: its network is told numbers of its own in place of a class (class_embed_type is {kind!r}): wrap "
            "it in adapters.Foreign, with a function that gives these numbers for each class"
        )
    if embedding.num_embeddings < 1:
        raise InputError(f"{name}: its network has no class (num_class_embeds is 0): expected at least 1, or null")
    return int(embedding.num_embeddings)


def _event(config: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """Shape of a network's values."""
    given: Any = config.get("in_channels")
    said, side = config.get("out_channels"), config.get("sample_size")
    if side is None:
        raise InputError(f"{name}: the network does not say the size of its images (sample_size)")
    sides = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
    good = len(sides) == 2 and all(type(x) is int and x > 0 for x in (given, *sides))
    if not good or math.prod((given, *sides)) > MOST_VALUES:
        raise InputError(f"{name}: its network has {given} channels and sample_size {side}: no images are of that size")
    said = given if said is None else said
    if said not in (given, 2 * given):
        raise InputError(
            f"{name}: its network takes {given} channels and gives {said}: expected {given}, or twice as many where it "
            "says its variance, too"
        )
    return (given, *sides)


def _named(count: int, pipe: Any, config: Mapping[str, Any], index: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of classes in their order: those of the pipeline's own table, or numbers."""
    tables = (getattr(pipe.config, "id2label", None), index.get("id2label"), config.get("id2label"))
    table = next((t for t in tables if isinstance(t, Mapping) and t), {})
    named = {int(k): " ".join(str(v).split()) for k, v in table.items()}
    return _distinct(tuple(named.get(i) or str(i) for i in range(count)))


def _classes(values: tuple[str, ...]) -> Attribute:
    return Attribute(CLASS, values, torch.full((len(values),), 1.0 / len(values), dtype=torch.float64))


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes, told apart by their index where two are the same."""
    return values if len(set(values)) == len(values) else tuple(f"{v} ({i})" for i, v in enumerate(values))


register(Kind("UNet2DModel", "unet", _unet, networks=("UNet2DModel",)))
register(Kind("DiT", "transformer", _dit, networks=("DiTTransformer2DModel", "Transformer2DModel")))
