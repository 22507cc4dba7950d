"""Learned models as files: weights as safetensors, and in the header, as JSON, all else that makes the model again."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sigmascope.core import Attribute, InputError

_HEADER = "sigmascope"
M = TypeVar("M", bound=nn.Module)


def write_model(
    model: nn.Module,
    path: Path,
    description: Mapping[str, Any],
    *,
    half: bool,
    exact: Collection[str],
    apart: str | None = None,
) -> None:
    """Write a model.

    Args:
        model: its weights are written.
        path: a .safetensors file.
        description: all but the weights, as JSON can hold it.
        half: round weights to float16.
        exact: names of tensors that are not rounded.
        apart: how the names of tensors begin that are kept elsewhere.
    """
    mine = {k: x for k, x in model.state_dict().items() if apart is None or not k.startswith(apart)}
    weights = {k: x.detach().cpu().contiguous() for k, x in mine.items()}
    if half:
        weights = {k: x if k in exact else x.half() for k, x in weights.items()}
    path.write_bytes(save(weights, {_HEADER: json.dumps(description)}))


def read_model(
    path: Path,
    what: str,
    make: Callable[[Mapping[str, Any]], M],
    device: torch.device | str,
    apart: str | None = None,
) -> M:
    """Read a model that :func:`write_model` has written, in evaluation mode.

    Args:
        path: the file.
        what: how to call such a model.
        make: makes it of its description, with any weights, and with those that are kept elsewhere.
        device: where it goes.
        apart: how the names of these begin.

    Raises: InputError for a file that is none.
    """
    try:
        with safe_open(path, "pt") as file:
            model = make(json.loads((file.metadata() or {})[_HEADER]))
            weights: dict[str, Tensor] = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
        if apart is not None:
            weights |= {k: x for k, x in model.state_dict().items() if k.startswith(apart)}
        model.load_state_dict(weights)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file: pass a folder that sigmascope train has made") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: no {what} of sigmascope ({said}): pass a folder that train has made") from error
    return model.to(device).eval()


def check_format(found: object, expected: int) -> None:
    """Refuse the description of another version.

    Raises: ValueError.
    """
    if found != expected:
        raise ValueError(f"format {found}, expected {expected}")


def attributes_to_json(attributes: Sequence[Attribute]) -> list[dict[str, Any]]:
    """Attributes as JSON can hold them."""
    return [
        {"name": a.name, "values": list(a.values), "prior": a.prior.tolist(), "parts": list(a.parts)}
        for a in attributes
    ]


def attributes_of_json(held: Sequence[Mapping[str, Any]]) -> tuple[Attribute, ...]:
    """Attributes that :func:`attributes_to_json` has described."""
    return tuple(
        Attribute(a["name"], tuple(a["values"]), torch.tensor(a["prior"], dtype=torch.float64), tuple(a["parts"]))
        for a in held
    )
