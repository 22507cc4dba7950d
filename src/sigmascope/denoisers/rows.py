"""What every exact denoiser demands of its arguments."""

from __future__ import annotations

from torch import Tensor

from sigmascope.core import InputError


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
