"""Kinds of pipelines: of each one record, which says what it is made of and how its network is read.

A kind is made known by :func:`register`, in Python.  A folder makes none known: it names classes, and those that are
loaded are of diffusers or transformers, or of a kind that was registered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from sigmascope.core import Attribute

NETWORKS = ("unet", "transformer", "decoder", "prior")
"""What pipelines of diffusers call the parts that denoise."""


@dataclass(frozen=True)
class PipelineRequest:
    """What was asked of a pipeline when it was opened.

    Args:
        name: how to call the pipeline in complaints.
        null: index of the class that stands for none, where the user names one.
        prompts: what it is to be told.
        size: side of its images in pixels; 0: its own.
        index: what its ``model_index.json`` says; empty where it was fetched from a hub.
    """

    name: str
    null: int | None = None
    prompts: tuple[str, ...] = ()
    size: int = 0
    index: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PipelineNetwork:
    """The network of a pipeline, read.

    Args:
        network: called as :data:`~sigmascope.adapters.foreign.Network`.
        event: shape of its values.
        attribute: what it can be told; None: nothing.
        null: index of nothing told; None: there is none.
    """

    network: nn.Module
    event: tuple[int, ...]
    attribute: Attribute | None = None
    null: int | None = None


def _as_it_comes(scheduler: Any, event: tuple[int, ...]) -> Any:
    return scheduler


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of pipelines.

    Args:
        name: of the kind, one of its own.
        part: the part of the pipeline that denoises; empty: any.
        read: from the pipeline and what was asked of it to its network; InputError where the network is not of this
            kind.  None: the kind is not opened here, only its noise levels are translated.
        networks: names of the classes of that part; empty: any.
        pipelines: patterns of names of classes of pipelines, ``*`` for any characters.
        text: parts that read its prompts; empty: it is told none.
        tokens: how many tokens ``tokenizer_2`` hands on; None: as many as it says itself.
        scheduled: from the pipeline's scheduler and the shape of its values to the scheduler as it is set for these.
        latent: whether its network works on latents; None: by what the network takes.
        own: classes of pipelines and of their parts that are neither diffusers' nor transformers'.
    """

    name: str
    part: str = ""
    read: Callable[[Any, PipelineRequest], PipelineNetwork] | None = None
    networks: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ("*",)
    text: tuple[str, ...] = ()
    tokens: Callable[[Any], int] | None = None
    scheduled: Callable[[Any, tuple[int, ...]], Any] = _as_it_comes
    latent: bool | None = None
    own: tuple[type, ...] = ()


_KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Make a kind known; a pipeline of several kinds counts as the last of them.

    Returns: the kind.

    Raises: ValueError for a name that another kind has already.
    """
    if kind.name in _KINDS:
        raise ValueError(f"{kind.name!r} is a kind already: choose another name")
    _KINDS[kind.name] = kind
    return kind


def unregister(kind: Kind) -> None:
    """Forget a kind."""
    _KINDS.pop(kind.name, None)


def kinds() -> tuple[Kind, ...]:
    """All kinds, the last registered first."""
    return tuple(reversed(_KINDS.values()))


def kind_of(pipeline: object, parts: Mapping[str, str]) -> Kind | None:
    """The kind of a pipeline; None where it is of none.

    Args:
        pipeline: name of its class; what is no name is of no class.
        parts: names of the classes of its parts.
    """
    for kind in kinds():
        named = any(fnmatchcase(pipeline if isinstance(pipeline, str) else "", p) for p in kind.pipelines)
        made = not kind.networks or parts.get(kind.part) in kind.networks
        if named and made and (not kind.part or kind.part in parts):
            return kind
    return None


def kind_of_prompts(pipeline: object) -> Kind | None:
    """The kind of a class of pipelines that is told prompts; None where there is none."""
    return next((k for k in kinds() if k.text and pipeline in k.pipelines), None)


def own_class(name: object, library: str | None = None) -> type | None:
    """A class that a registered kind brings along; None where there is none.

    Args:
        name: of the class.
        library: the module that defines it; None: any.
    """
    found = (c for kind in kinds() for c in kind.own)
    return next((c for c in found if c.__name__ == name and library in (None, c.__module__)), None)


register(Kind("IF", pipelines=("IF*",), latent=False))  # its networks are also given a small picture to enlarge
