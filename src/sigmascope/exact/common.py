"""What the exact denoisers share: the types of their arguments, the checks of these, and sums by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sigmascope.core import UNKNOWN, InputError

Values: TypeAlias = Float[Tensor, "batch *event"]
Levels: TypeAlias = Float[Tensor, " batch"]
Known: TypeAlias = Mapping[str, Tensor] | None

LEAST = 1e-100
"""The smallest level: 1/sigma² must be a number with room for products."""


def check_rows(y: Tensor, sigma: Tensor, event: tuple[int, ...]) -> None:
    """Refuse values that are not a batch of events, and levels that are not one positive number for each row.

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
        raise InputError(
            f"row {int(torch.nonzero(strange)[0])} of y or sigma holds a number that is not finite (NaN or infinite): "
            "expected finite numbers"
        )


def check_known(name: str, value: Tensor, batch: int, values: int) -> None:
    """Refuse a known attribute unless it gives each row the index of one of its values, or -1.

    Raises: InputError.
    """
    if value.shape != (batch,):
        raise InputError(f"known[{name!r}] has shape {tuple(value.shape)}: expected one per row, ({batch},)")
    if bool(((value < UNKNOWN) | (value >= values)).any()):
        raise InputError(f"known[{name!r}] must lie between -1 (unknown) and {values - 1}")


def check_possible(possible: Bool[Tensor, " batch"], holder: str = "item", known: str = "known") -> None:
    """Refuse rows with attributes that no item has together.

    Raises: InputError.
    """
    if not bool(possible.all()):
        row = int(torch.nonzero(~possible)[0])
        raise InputError(f"row {row}: no {holder} has the attributes of {known}: pass -1 (unknown) for one of them")


def grouped_logsumexp(
    logit: Float[Tensor, "rows batch"], group: Int64[Tensor, " rows"], groups: int
) -> Float[Tensor, "groups batch"]:
    """Log-sum-exp of the rows of each group, less a maximum of its own, so that no group underflows."""
    empty = logit.new_full((groups, logit.shape[1]), -torch.inf)
    top = empty.scatter_reduce(0, group[:, None].expand_as(logit), logit, "amax")
    safe = torch.where(torch.isfinite(top), top, 0.0)
    return safe + torch.zeros_like(safe).index_add_(0, group, (logit - safe[group]).exp()).log()


def blocks(count: int, size: int, numbers: int) -> Iterator[slice]:
    """Consecutive parts of so many things of a size, each of at most so many numbers (but one thing at least)."""
    step = max(1, numbers // size)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
