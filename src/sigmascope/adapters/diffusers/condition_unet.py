"""UNet2DConditionModels of pipelines without prompts, and UNets that are given an image, which are not read.

A class reaches such a network in one of two ways: as an embedding of its own (``num_class_embeds``), or as what it
attends to, made by another part of the pipeline that holds one table of embeddings.  A network that does neither is
unconditional.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from sigmascope.adapters.diffusers.class_networks import class_count, event_of, known_classes
from sigmascope.adapters.diffusers.kinds import Kind, PipelineNetwork, PipelineRequest, register
from sigmascope.core import InputError


class _ConditionUNet(nn.Module):
    """A UNet2DConditionModel, without the channels of its variance; a fixed class replaces that of each row.

    Args:
        unet: the network.
        table: from classes to what it attends to; None: it attends to nothing, and takes classes itself, if any.
        fixed: the class of all rows; None: that of each row.
    """

    def __init__(self, unet: Any, table: nn.Module | None, fixed: int | None) -> None:
        super().__init__()
        self.unet, self.table, self.fixed = unet, table, fixed

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        label = label if self.fixed is None else torch.full((len(x),), self.fixed, device=x.device)
        states = None if self.table is None else _states(self.table, label).to(x.dtype)
        labels = label if self.table is None else None
        out: Tensor = self.unet(x, time, encoder_hidden_states=states, class_labels=labels).sample
        return out[:, : x.shape[1]]


def _states(table: nn.Module, label: Any) -> Tensor:
    """What a network attends to, shape (rows, tokens, width)."""
    states: Tensor = table(label)
    return states[:, None] if states.ndim == 2 else states


def _read(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    """A UNet2DConditionModel that takes nothing or a class besides; InputError for one that takes more."""
    unet, name = pipe.unet, request.name
    c, event, count = unet.config, event_of(unet.config, name), class_count(unet, name)
    more = {n: c.get(n) for n in ("addition_embed_type", "time_cond_proj_dim") if c.get(n) is not None}
    if more:
        raise _more(
            name, f"its network takes more than a class ({', '.join(f'{n} is {v!r}' for n, v in more.items())})"
        )
    table = None
    if any(getattr(m, "has_cross_attention", False) for m in unet.modules()):
        if count:
            raise _more(name, "its network takes a class, and attends to states (encoder_hidden_states) besides")
        table, count = _table(pipe, request)
    attribute, null, fixed = known_classes(count, pipe, c, request)
    return PipelineNetwork(_ConditionUNet(unet, table, fixed), event, attribute, null)


def _table(pipe: Any, request: PipelineRequest) -> tuple[nn.Module, int]:
    """The part of a pipeline that makes of a class what its network attends to, and the number of classes."""
    c = pipe.unet.config
    width, cls = c.get("encoder_hid_dim") or c.get("cross_attention_dim"), type(pipe).__name__
    parts = {n: p for n, p in pipe.components.items() if isinstance(p, nn.Module) and p is not pipe.unet}
    for part in parts.values():
        tables = [m for m in part.modules() if isinstance(m, nn.Embedding)]
        if len(tables) == 1 and tables[0].embedding_dim == width:
            with torch.no_grad():
                states = _states(part, torch.zeros(2, dtype=torch.int64, device=tables[0].weight.device))
            if states.ndim == 3 and (len(states), states.shape[2]) == (2, width):
                return part.eval().requires_grad_(False), tables[0].num_embeddings
    raise _more(
        request.name,
        f"its network attends to states of {width} numbers (encoder_hidden_states), and no part of {cls} makes these "
        "of a class",
    )


def _more(name: str, problem: str) -> InputError:
    return InputError(
        f"{name}: {problem}: wrap it in adapters.Foreign, with a function that passes to the network what it takes"
    )


def _given_an_image(pipe: Any, request: PipelineRequest) -> NoReturn:
    raise _more(request.name, f"the network of {type(pipe).__name__} takes the latents of an image besides the noise")


_TEXT = ("tokenizer", "text_encoder", "image_encoder")
register(Kind("UNet2DConditionModel", "unet", _read, ("UNet2DConditionModel",), without=_TEXT))
register(Kind("Stable Video Diffusion", "unet", _given_an_image, ("UNetSpatioTemporalConditionModel",)))
register(Kind("IF", pipelines=("IF*",), latent=False))  # some of its networks also take a small picture
