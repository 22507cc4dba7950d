"""Several questions about the same noisy values, asked of a denoiser together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Denoiser


@runtime_checkable
class AnswersTogether(Protocol):
    """Denoisers for which several questions about the same noisy values cost less than as many calls."""

    def together(self, y: Tensor, sigma: Tensor, questions: Sequence[Mapping[str, Tensor] | None]) -> list[Tensor]:
        """E[V | Y_sigma = y, what is known] for each question."""
        ...


def together(
    denoiser: Denoiser,
    y: Float[Tensor, "batch *event"],
    sigma: Float[Tensor, " batch"],
    questions: Sequence[Mapping[str, Tensor] | None],
) -> list[Float[Tensor, "batch *event"]]:
    r"""The posterior means :math:`E[V \mid Y_\sigma = y, \text{what is known}]` for several things known.

    Args:
        denoiser: any.
        y: noisy values.
        sigma: one noise level per row.
        questions: what is known in each, as a call of the denoiser takes it.

    Returns: of each question what a call would say.

    Cost: a call for each question; of an :class:`AnswersTogether`, what they share is done once.
    """
    if isinstance(denoiser, AnswersTogether):
        return denoiser.together(y, sigma, questions)
    return [denoiser(y, sigma, known) for known in questions]
