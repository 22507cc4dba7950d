"""What every exact denoiser demands of its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from sigmascope.core import InputError

LEAST = 1e-100
"""The smallest level: 1/sigma² must be a number with room for products."""


def check_rows(y: Tensor, sigma: Tensor, event: tuple[int, ...]) -> None:
    """Refuse values that are no batch of events, or not one positive level for each row.

    Raises: InputError.
    """
    if tuple(y.shape[1:]) != event:
        raise InputError(f"y has shape {tuple(y.shape)}: expected (batch, {', '.join(map(str, event))})")
    if sigma.shape != (len(y),):
        raise InputError(f"sigma has shape {tuple(sigma.shape)}, y has batch {len(y)}: pass one level per row")
    if not bool((sigma > 0).all()):
        raise InputError("sigma must be greater than 0 in every row")
    small = sigma < LEAST
    if bool(small.any()):
        row = int(torch.nonzero(small)[0])
        raise InputError(f"row {row}: sigma is {float(sigma[row]):g}, too small: pass at least {LEAST:g}")
    strange = ~(torch.isfinite(y).flatten(1).all(1) & torch.isfinite(sigma).to(y.device))
    if bool(strange.any()):
        row = int(torch.nonzero(strange)[0])
        raise InputError(
            f"row {row} of y or sigma holds a number that is not finite (NaN or infinite): expected finite numbers"
        )
