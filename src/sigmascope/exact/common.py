"""What the exact denoisers share: the types of their arguments, the checks of these, and sums by class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from sigmascope.core import UNKNOWN, Attribute, Denoiser, InputError

Values: TypeAlias = Float[Tensor, "batch *event"]
Levels: TypeAlias = Float[Tensor, " batch"]
Known: TypeAlias = Mapping[str, Tensor] | None
Rows: TypeAlias = Float[Tensor, "batch size"]
Logits: TypeAlias = Float[Tensor, "rows batch"]

LEAST = 1e-100
"""The smallest level: 1/sigma² must be a number with room for products."""


class ExactDenoiser(Denoiser):
    """A denoiser of a law whose posterior is known exactly."""

    def attribute(self, name: str) -> Attribute:
        """The attribute of that name.

        Raises: InputError, naming those that exist.
        """
        for a in self.attributes:
            if a.name == name:
                return a
        raise InputError(f"no attribute is called {name!r}: choose among {', '.join(a.name for a in self.attributes)}")

    @abstractmethod
    def all_log_posteriors(self, y: Values, sigma: Levels) -> dict[str, Float[Tensor, "batch values"]]:
        """ln p(a | Y_sigma = y) of every attribute, float64."""

    def log_posterior(self, y: Values, sigma: Levels, attribute: str) -> Float[Tensor, "batch values"]:
        """ln p(a | Y_sigma = y) of one attribute, as :meth:`all_log_posteriors` computes it."""
        self.attribute(attribute)
        return self.all_log_posteriors(y, sigma)[attribute]


def set_buffers(module: nn.Module, **tensors: Tensor) -> None:
    """Register tensors as buffers that are not saved."""
    for name, tensor in tensors.items():
        module.register_buffer(name, tensor, persistent=False)


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


def grouped_logsumexp(logit: Logits, group: Int64[Tensor, " rows"], groups: int) -> Float[Tensor, "groups batch"]:
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
