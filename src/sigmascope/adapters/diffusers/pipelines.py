"""Pipelines of diffusers, from a folder: network, schedule and parametrisation as one denoiser."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigmascope.adapters.diffusers.coding import PARTS, coding, is_autoencoder
from sigmascope.adapters.diffusers.folders import (
    MOST_VALUES,
    checked_index,
    class_of,
    folder_of,
    home_of,
    hub_id,
    in_one_line,
    part_of,
    quiet,
    read_config,
)
from sigmascope.adapters.diffusers.opening import NETWORKS, Pipeline, opened, parametrised
from sigmascope.adapters.diffusers.text import load_prompted
from sigmascope.adapters.foreign import Foreign, Unit, try_out
from sigmascope.core import Abstraction, InputError

CLASS = "class"
"""Name of the abstraction of a class-conditional pipeline."""
_OF_PICTURES = (1, 3)  # channels


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


def load_pipeline(
    path: str | Path,
    *,
    allow_pickle: bool = False,
    null: int | None = None,
    prompts: Sequence[str] | None = None,
    size: int = 0,
    variant: str = "",
    device: torch.device | str = "cpu",
) -> Pipeline:
    """Open a pipeline that ``save_pretrained`` has written.

    Args:
        path: its folder, perhaps with ``diffusers:`` before it; or ``hub:owner/name``, which diffusers then fetches.
        allow_pickle: read weights of a folder that only come as pickles, which can run any code.
        null: index of the empty class, if there is one; a DiT's is known.
        prompts: of a text-to-image pipeline, what its abstraction ``prompt`` can be; see
            :func:`~sigmascope.adapters.diffusers.text.load_prompted`.
        size: of a text-to-image pipeline, side of its images in pixels; 0: its own.
        variant: of the weights, e.g. ``fp16``; empty: the plain ones.
        device: where the network goes.

    Raises: InputError, in one line, for a folder that is none or holds code of its own, weights that are not
        safetensors, a network, an autoencoder or a scheduler that is not known, or whatever diffusers raises.
    """
    if prompts is not None or size:
        return load_prompted(path, prompts or (), size=size, allow_pickle=allow_pickle, variant=variant, device=device)
    model, index = str(path), dict[str, Any]()
    name = model if hub_id(model) else str(folder_of(model))
    if not hub_id(model):
        index = checked_index(Path(name))
        if part_of(index, "tokenizer") is not None:
            raise InputError(_told_prompts(name, str(index.get("_class_name"))))
    pipe = opened(model, allow_pickle, variant)
    with quiet(), in_one_line(name, "its parts do not fit each other"):
        kind, scheduler = type(pipe).__name__, getattr(pipe, "scheduler", None)
        if scheduler is None:
            raise InputError(f"{name}: the pipeline ({kind}) has no scheduler: its noise levels are not known")
        latent = _takes_latents(
            {**pipe.config, "_class_name": kind}, lambda part: getattr(getattr(pipe, part, None), "config", None)
        )
        coder = next((part for part in PARTS if getattr(pipe, part, None) is not None), None) if latent else None
        network, event, abstraction, empty = _network(pipe, name, null, index)
        if latent and coder is None:
            raise InputError(
                f"{name}: its network takes latents of {event[0]} channels, and the pipeline has no autoencoder that "
                "makes them of images: pass the folder of the whole pipeline"
            )
        network.to(device).eval().requires_grad_(False)
        schedule, prediction, clock, network = parametrised(scheduler, network, name)
        denoiser = Foreign(
            network, event, schedule, prediction, clock=clock, abstraction=abstraction, null=empty,
            unit=Unit() if latent else Unit(2.0, -1.0),
        )  # fmt: skip
        encode, decode = coding(getattr(pipe, coder), device, coder, name) if coder else (None, None)
        try_out(denoiser, name)
        if encode is not None and decode is not None:
            made = tuple(encode(decode(torch.zeros(1, *event, device=device))).shape[1:])
            if made != event:
                raise InputError(
                    f"{name}: its network takes latents of shape {event}, its autoencoder makes {made} of such images: "
                    "pass a pipeline whose parts belong to each other"
                )
    return Pipeline(name, kind, denoiser, scheduler, encode, decode)


def in_latents(folder: Path, index: Mapping[str, Any]) -> bool:
    """Whether the network of a pipeline's folder works on latents, and not on pixels; no weights are read.

    It is read off what the network takes.  A folder that holds no more than the index and the scheduler is judged by
    the parts that the index names, and by those that its class of pipelines has.

    Args:
        folder: of the pipeline.
        index: what its ``model_index.json`` says.

    Raises: InputError for a configuration of its network that cannot be read.
    """

    def config(part: str) -> Mapping[str, Any] | None:
        path = home_of(folder, part) / "config.json"
        return read_config(path) if path.is_file() else None

    return _takes_latents(index, config)


def _takes_latents(index: Mapping[str, Any], config_of: Callable[[str], Mapping[str, Any] | None]) -> bool:
    """The same, with a way to the configuration of each part."""
    found = {part: home[1] for part in index if not part.startswith("_") and (home := part_of(index, part))}
    coder = next((part for part, kind in found.items() if is_autoencoder(part, kind)), None)
    of = next((part for part in NETWORKS if part in found), None)
    given = config_of(of) if of else None
    channels = None if given is None else _channels(given)
    if coder is not None:
        # An autoencoder beside a network of pictures: its latents have channels that the network does not take.
        own = config_of(coder) or {}
        return not (
            channels in _OF_PICTURES and own.get("in_channels") == channels and own.get("latent_channels") != channels
        )
    kind = index.get("_class_name")
    if of == "prior":
        return True
    if isinstance(kind, str) and kind.startswith("IF"):  # its networks are also given a small picture to enlarge
        return False
    if channels is not None:
        return channels not in _OF_PICTURES
    made = class_of(kind) if isinstance(kind, str) else None
    return made is not None and bool(set(PARTS) & set(inspect.signature(made).parameters))


def _channels(config: Mapping[str, Any]) -> int | None:
    """How many channels the values of a network have; None where it does not say.

    It may be given more (a mask, another picture), and say twice as many (its variance).
    """
    given, said = config.get("in_channels"), config.get("out_channels")
    if not isinstance(given, int):
        return None
    return min(given, said) if isinstance(said, int) else given


def _told_prompts(name: str, kind: str) -> str:
    return f"{name}: {kind} is told prompts: pass prompts=('a red cube', 'a blue cube'), or use sigmascope prompts"


def _network(
    pipe: Any, name: str, null: int | None, index: Mapping[str, Any]
) -> tuple[nn.Module, tuple[int, ...], Abstraction | None, int | None]:
    """The network, the shape of its values, what it can be told, and the index of nothing told."""
    transformer: Any = getattr(pipe, "transformer", None)
    unet: Any = getattr(pipe, "unet", None)
    if type(transformer).__name__ in ("DiTTransformer2DModel", "Transformer2DModel"):
        c = transformer.config
        classes = int(c.num_embeds_ada_norm)
        return _DiT(transformer), _event(c, name), _classes(_named(classes, pipe, c, index)), classes
    if type(unet).__name__ == "UNet2DModel":
        c, event = unet.config, _event(unet.config, name)
        count = _class_count(unet, name)
        if null is not None and not 0 <= null < count:
            raise InputError(f"{name}: the empty class is {null}, the network has {count}: pass an index below that")
        if count and null is not None and null != count - 1:
            raise InputError(f"{name}: the empty class is {null}: only the last, {count - 1}, can be one")
        known = count - (null is not None)
        if count and known < 2:  # there is nothing to tell apart
            return _UNet(unet, 0 if null is None else null), event, None, None
        a = _classes(_named(known, pipe, c, index)) if count else None
        return _UNet(unet), event, a, null
    of = next((type(x).__name__ for x in (transformer, unet) if x is not None), "no network")
    if getattr(pipe, "tokenizer", None) is not None:
        raise InputError(_told_prompts(name, type(pipe).__name__))
    raise InputError(f"{name}: {type(pipe).__name__} with {of} is not known here: wrap its network in adapters.Foreign")


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


def _classes(values: tuple[str, ...]) -> Abstraction:
    return Abstraction(CLASS, values, torch.full((len(values),), 1.0 / len(values), dtype=torch.float64))


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes, told apart by their index where two are the same."""
    return values if len(set(values)) == len(values) else tuple(f"{v} ({i})" for i, v in enumerate(values))
