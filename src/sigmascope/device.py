"""The torch device that a user names."""

from __future__ import annotations

import os

import torch

import sigmascope.distributed as distributed
from sigmascope.errors import InputError


def resolve_device(device: str) -> torch.device:
    """The torch device that ``device`` names; ``auto`` takes a CUDA GPU where there is one (raises InputError)."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and distributed.world() > 1 and torch.cuda.is_available():  # one GPU for each rank of a machine
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', distributed.rank())) % torch.cuda.device_count()}"
    try:
        named = torch.device(device)
        torch.zeros(1, device=named).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used here: pass auto, cpu or a device of torch") from error
    return named
