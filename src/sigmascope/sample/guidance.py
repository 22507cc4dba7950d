r"""Classifier-free guidance: a denoiser made from a denoiser.

.. math:: D_w(y, \sigma) = D_a + w\,(D_a - D), \qquad \text{score } (1 + w)\, s_a - w\, s

Guidance inflates information: the law that it samples is not the conditional law.  Measure the unguided model.

References: Ho & Salimans (2022); Kynkäänniemi et al. (2024) for the interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sigmascope.core import Denoiser, InputError


class Guided(Denoiser):
    r"""Classifier-free guidance: a denoiser that amplifies the difference between conditional and unconditional.

    .. math:: D_w(y, \sigma) = D_a + w\,(D_a - D)

    at the levels of an interval, and :math:`D_a` outside.  Each call guides to its ``known`` attributes.  It is for
    generation, never for a measurement of information: the law that a guided model generates is not the conditional
    law.

    Args:
        denoiser: a conditional denoiser, which may be called without a condition.
        weight: w, which is the ``guidance_scale`` of diffusers less 1; 0 leaves the conditional denoiser.
        lowest: the smallest level at which guidance acts.
        highest: the largest level at which guidance acts.

    Cost: two calls of the denoiser where guidance acts, one elsewhere.

    References: Ho & Salimans (2022); Kynkäänniemi et al. (2024) for the interval.

    Raises: InputError for a weight that is not finite, an empty interval, or a call without known attributes.
    """

    def __init__(self, denoiser: Denoiser, weight: float, lowest: float = 0.0, highest: float = math.inf) -> None:
        super().__init__()
        if not math.isfinite(weight) or not 0.0 <= lowest < highest:
            raise InputError(
                f"weight is {weight:g} between levels {lowest:g} and {highest:g}: expected a finite weight and "
                "0 <= lowest < highest"
            )
        self.denoiser, self.weight, self.lowest, self.highest = denoiser, weight, lowest, highest
        self.event, self.attributes = denoiser.event, denoiser.attributes

    def forward(self, y: Tensor, sigma: Tensor, known: Mapping[str, Tensor] | None = None) -> Tensor:
        """D_a + w (D_a − D) where guidance acts, D_a elsewhere.

        Args:
            y: noisy values, shape (batch, *event).
            sigma: one noise level per row, shape (batch,).
            known: by name, for one attribute at least, the value of each row, as the denoiser takes them.

        Returns: the guided estimates, shape (batch, *event).

        Raises: InputError for a call without known attributes.
        """
        if not known:
            raise InputError("guidance needs known attributes to guide to: pass known={name: value of each row}")
        conditional: Tensor = self.denoiser(y, sigma, known)
        acts = (sigma >= self.lowest) & (sigma <= self.highest)
        if self.weight == 0.0 or not bool(acts.any()):
            return conditional
        share = torch.where(acts, self.weight, 0.0).to(y).view(-1, *[1] * (y.ndim - 1))
        unconditional: Tensor = self.denoiser(y, sigma)
        return conditional + share * (conditional - unconditional)
