"""Several conditions for the same noisy values, answered by a denoiser together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import UNKNOWN, Denoiser
from sigmascope.sample.joint import mixes_conditions
from sigmascope.sample.schemes import home_of


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
    there, dtype = home_of(denoiser, y.device)
    level = torch.full((len(y),), sigma, dtype=dtype, device=there)
    asked = [{name: value.to(there) for name, value in known.items()} or None for known in questions]
    with torch.no_grad():
        means = together(denoiser, y.to(there, dtype), level, asked)
    return [mean.to(y.device, torch.float64) for mean in means]
