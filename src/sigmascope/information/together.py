"""Several conditions for the same noisy values, answered by a denoiser together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Denoiser


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

    Cost: a call for each condition; an :class:`AnswersTogether` does what they share once.
    """
    if isinstance(denoiser, AnswersTogether):
        return denoiser.together(y, sigma, questions)
    return [denoiser(y, sigma, known) for known in questions]
