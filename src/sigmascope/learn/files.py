"""Learned models as files: weights as safetensors, and a description of the model as JSON in the header."""

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
from sigmascope.data.files import error_words

_HEADER = "sigmascope"
M = TypeVar("M", bound=nn.Module)


def write_model(
    model: nn.Module,
    path: Path,
    description: Mapping[str, Any],
    *,
    half: bool,
    exact: Collection[str],
    excluded: str | None = None,
) -> None:
    """Write the weights of a model, and its description in the header of a .safetensors file.

    ``half`` rounds weights to float16, except ``exact`` ones.  Tensors with the prefix ``excluded`` have a file of
    their own.
    """
    weights = {k: x for k, x in model.state_dict().items() if excluded is None or not k.startswith(excluded)}
    weights = {k: x.detach().cpu().contiguous() for k, x in weights.items()}
    if half:
        weights = {k: x if k in exact else x.half() for k, x in weights.items()}
    path.write_bytes(save(weights, {_HEADER: json.dumps(description)}))


def read_model(
    path: Path,
    kind: str,
    make: Callable[[Mapping[str, Any]], M],
    device: torch.device | str,
    excluded: str | None = None,
) -> M:
    """Read a model that :func:`write_model` has written, in evaluation mode; InputError for another file.

    ``make`` makes the model from its description, with any weights but those that are excluded.
    """
    try:
        with safe_open(path, "pt") as file:
            model = make(json.loads((file.metadata() or {})[_HEADER]))
            weights: dict[str, Tensor] = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
        if excluded is not None:
            weights |= {k: x for k, x in model.state_dict().items() if k.startswith(excluded)}
        model.load_state_dict(weights)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file: pass a folder that sigmascope train has made") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        message = f"{path}: no {kind} of sigmascope ({error_words(error)}): pass a folder that train has made"
        raise InputError(message) from error
    return model.to(device).eval()


def check_format(version: object, expected: int) -> None:
    """Refuse a description of another version, by ValueError."""
    if version != expected:
        raise ValueError(f"format {version}, expected {expected}")


def attributes_to_json(attributes: Sequence[Attribute]) -> list[dict[str, Any]]:
    """Attributes as JSON can hold them."""
    return [
        {"name": a.name, "values": list(a.values), "prior": a.prior.tolist(), "parts": list(a.parts)}
        for a in attributes
    ]


def attributes_of_json(described: Sequence[Mapping[str, Any]]) -> tuple[Attribute, ...]:
    """Attributes from their description by :func:`attributes_to_json`."""
    return tuple(
        Attribute(a["name"], tuple(a["values"]), torch.tensor(a["prior"], dtype=torch.float64), tuple(a["parts"]))
        for a in described
    )
