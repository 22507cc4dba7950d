"""The torch device that a user names."""

from __future__ import annotations

import os

import torch

import sigmascope.distributed as distributed
from sigmascope.errors import InputError


def resolve_device(device: str) -> torch.device:
    """The torch device that ``device`` names; ``auto`` takes a CUDA GPU where there is one.

    Raises: InputError.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and distributed.world() > 1 and torch.cuda.is_available():  # each rank of a machine has its own
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', distributed.rank())) % torch.cuda.device_count()}"
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used here: pass auto, cpu or one that torch sees") from error
    return found
