"""Several conditions for the same noisy values, answered by a denoiser together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import UNKNOWN, Denoiser
from sigmascope.sample.joint import mixes_conditions
from sigmascope.sample.schemes import Model


@runtime_checkable
class AnswersTogether(Protocol):
    """Denoisers for which several conditions of the same noisy values cost less than as many calls."""

    def together(self, y: Tensor, sigma: Tensor, questions: Sequence[Mapping[str, Tensor] | None]) -> list[Tensor]:
        """E[V | Y_sigma = y, condition] for each condition."""
        ...


def together(
    denoiser: Denoiser,
    y: Float[Tensor, "batch *event"],
    sigma: Float[Tensor, " batch"],
    questions: Sequence[Mapping[str, Tensor] | None],
) -> list[Float[Tensor, "batch *event"]]:
    r"""The posterior means :math:`E[V \mid Y_\sigma = y, \text{condition}]` for several conditions.

    Args:
        denoiser: any.
        y: noisy values.
        sigma: one noise level per row.
        questions: the conditions, each as a call of the denoiser takes it; None: unconditional.

    Returns: for each condition the output of a call.

    Cost: a call for each condition; an :class:`AnswersTogether` does what they share once, and a denoiser that mixes
        conditions is called once, with a row for each condition.
    """
    if isinstance(denoiser, AnswersTogether):
        return denoiser.together(y, sigma, questions)
    if not mixes_conditions(denoiser):
        return [denoiser(y, sigma, known) for known in questions]
    count = len(questions)
    mean: Tensor = denoiser(y.repeat(count, *[1] * (y.ndim - 1)), sigma.repeat(count), _in_one(questions))
    return list(torch.split(mean, len(y)))


def _in_one(questions: Sequence[Mapping[str, Tensor] | None]) -> dict[str, Tensor] | None:
    """The conditions one below the other; what one of them lacks is unknown there."""
    like = {name: x for known in questions for name, x in (known or {}).items()}
    unknown = {n: torch.full_like(x, torch.nan if x.is_floating_point() else UNKNOWN) for n, x in like.items()}
    return {n: torch.cat([(known or {}).get(n, unknown[n]) for known in questions]) for n in like} or None


def answers(
    denoiser: Denoiser, y: Float[Tensor, "batch *event"], sigma: float, questions: Sequence[Mapping[str, Tensor]]
) -> list[Float[Tensor, "batch *event"]]:
    """:func:`together` at one level of all rows, float64 and on the device of the noisy values, as schemes call it."""
    dtype = Model(denoiser).dtype
    level = torch.full((len(y),), sigma, dtype=dtype, device=y.device)
    with torch.no_grad():
        means = together(denoiser, y.to(dtype), level, [known or None for known in questions])
    return [mean.to(y.device, torch.float64) for mean in means]


def home_of(denoiser: Denoiser, default: torch.device | str = "cpu") -> tuple[torch.device, torch.dtype]:
    """Device of a denoiser's parameters or buffers, else the default, and type of its parameters, else float64."""
    first = next(denoiser.parameters(), None)
    held = first if first is not None else next(denoiser.buffers(), None)
    return torch.device(default) if held is None else held.device, torch.float64 if first is None else first.dtype
