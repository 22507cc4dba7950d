"""Kinds of pipelines.  Each is one record, with its parts and the function that reads its network.

A kind is added by :func:`register`, in Python, and never by a folder.  A folder names classes; only classes of
diffusers, of transformers and of registered kinds are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from sigmascope.core import Attribute

NETWORKS = ("unet", "transformer", "decoder", "prior")
"""Names of the parts that denoise, in pipelines of diffusers."""


@dataclass(frozen=True)
class PipelineRequest:
    """The options with which a pipeline is opened.

    Args:
        name: of the pipeline in messages.
        null: index of the class that stands for none, where the user names one.
        prompts: values of the attribute ``prompt``.
        size: side of its images in pixels; 0: the pipeline's own.
        index: contents of its ``model_index.json``; empty for a pipeline from a hub.
    """

    name: str
    null: int | None = None
    prompts: tuple[str, ...] = ()
    size: int = 0
    index: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PipelineNetwork:
    """The network of a pipeline.

    Args:
        network: called like a :data:`~sigmascope.adapters.foreign.Network`.
        event: shape of its values.
        attribute: class or prompt; None: the network is unconditional.
        null: index that stands for an unknown value; None: there is none.
    """

    network: nn.Module
    event: tuple[int, ...]
    attribute: Attribute | None = None
    null: int | None = None


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of pipelines.

    Args:
        name: of the kind, unique.
        part: the part of the pipeline that denoises; empty: any.
        read: from the pipeline and the request to its network; raises InputError where the network is not of this kind.
            None: the kind is not opened, only its noise levels are translated.
        networks: names of the classes of that part; empty: any.
        pipelines: patterns of names of classes of pipelines, ``*`` for any characters.
        without: parts that such a pipeline does not have.
        text: parts that encode its prompts; empty: it takes none.
        perhaps: more such parts, which a pipeline may lack.
        tokens: from the pipeline to the number of tokens that its tokenizers keep, by their parts; those that it does
            not name keep their own.
        scheduled: from the pipeline and the shape of its values to its scheduler as it is set for these.
        latent: whether its network works on latents; None: by the channels of the network.
        own: classes of pipelines and of their parts that are neither of diffusers nor of transformers.
    """

    name: str
    part: str = ""
    read: Callable[[Any, PipelineRequest], PipelineNetwork] | None = None
    networks: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ("*",)
    without: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    tokens: Callable[[Any], Mapping[str, int]] = lambda pipe: {}
    scheduled: Callable[[Any, tuple[int, ...]], Any] = lambda pipe, event: pipe.scheduler
    latent: bool | None = None
    own: tuple[type, ...] = ()


_KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Add a kind; a pipeline that fits several kinds is of the last one added.

    Returns: the kind.

    Raises: ValueError for a name that another kind has.
    """
    if kind.name in _KINDS:
        raise ValueError(f"{kind.name!r} is a kind already: choose another name")
    _KINDS[kind.name] = kind
    return kind


def unregister(kind: Kind) -> None:
    """Remove a kind."""
    _KINDS.pop(kind.name, None)


def kinds() -> tuple[Kind, ...]:
    """All kinds, the last registered first."""
    return tuple(reversed(_KINDS.values()))


def kind_of(pipeline: object, parts: Mapping[str, str]) -> Kind | None:
    """The kind of a pipeline by the names of its class and of the classes of its parts; None where it fits none."""
    name = pipeline if isinstance(pipeline, str) else ""
    for kind in kinds():
        fits = not kind.networks or parts.get(kind.part) in kind.networks
        fits = fits and not any(part in parts for part in kind.without)
        if fits and (not kind.part or kind.part in parts) and any(fnmatchcase(name, p) for p in kind.pipelines):
            return kind
    return None


def kind_of_prompts(pipeline: object) -> Kind | None:
    """The kind of a class of pipelines that takes prompts; None where there is none."""
    return next((k for k in kinds() if k.text and pipeline in k.pipelines), None)


def own_class(name: object, library: str | None = None) -> type | None:
    """A class that a registered kind adds, by its name and perhaps its module; None where there is none."""
    classes = (c for kind in kinds() for c in kind.own)
    return next((c for c in classes if c.__name__ == name and library in (None, c.__module__)), None)
