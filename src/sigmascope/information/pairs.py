r"""Interaction information of two attributes and the noisy image: redundancy and synergy.

.. math:: I(A; B; Y_\sigma) = I(A; Y_\sigma) + I(B; Y_\sigma) - I(A, B; Y_\sigma) = I(A; B) - I(A; B \mid Y_\sigma)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sigmascope.core import Curve


@dataclass(frozen=True, eq=False)
class Interaction:
    """Interaction information of two attributes over noise levels, in nats, float64.

    Args:
        first: name of A.
        second: name of B.
        sigma: decreasing levels, shape (levels,).
        value: the estimates, shape (levels,): positive where the two are redundant, negative where synergistic.
        stderr: their standard errors, over draws that the three informations share, shape (levels,).
        ceiling: I(A; B), above which no value lies, and which a clean image that tells both attributes gives.
    """

    first: str
    second: str
    sigma: Float[np.ndarray, " levels"]
    value: Float[np.ndarray, " levels"]
    stderr: Float[np.ndarray, " levels"]
    ceiling: float

    @property
    def largest(self) -> tuple[float, float, float]:
        """The value farthest from 0, its standard error, and its level."""
        j = int(np.abs(self.value).argmax())
        return float(self.value[j]), float(self.stderr[j]), float(self.sigma[j])


def interaction(joint: Curve, first: Curve, second: Curve) -> Interaction:
    r"""What two attributes tell twice (positive), or only together (negative).

    .. math:: I(A; B; Y_\sigma) = I(A; Y_\sigma) + I(B; Y_\sigma) - I(A, B; Y_\sigma)

    Positive, *redundant*: reading one attribute from the noisy image is in part reading the other.  Negative,
    *synergistic*: knowing one helps to read the other, :math:`I(A; Y \mid B) > I(A; Y)`.  By the entropies of the
    posterior, a draw's contribution is :math:`I(A; B) - I(A; B \mid Y = y)`: independent attributes can only be
    synergistic.  It is the difference of two informations, and may pass through 0 with neither being 0.

    Args:
        joint: exact curve of the joint attribute (A, B).
        first: exact curve of A, on the same draws.
        second: curve of B, likewise.

    Returns: an :class:`Interaction`; its standard error is that of the paired contributions.

    Raises: ValueError if the curves are not over the same levels and draws, or are not exact (a difference of bounds is
        no bound).

    References: McGill (1954); Williams & Beer (2010) on why one number cannot tell redundancy and synergy apart where
        both are there.
    """
    if not (joint.same_draws(first) and joint.same_draws(second)):
        raise ValueError("the curves are not over the same levels and draws")
    if any(c.kind != "exact" for c in (joint, first, second)):
        raise ValueError("errors that draws do not show, and bounds, do not subtract: pass curves of kind 'exact'")
    per_draw = first.per_draw + second.per_draw - joint.per_draw
    variance = per_draw.var(1, ddof=1) / per_draw.shape[1]
    ceiling = max(first.ceiling + second.ceiling - joint.ceiling, 0.0)
    return Interaction(first.abstraction, second.abstraction, joint.sigma, per_draw.mean(1), np.sqrt(variance), ceiling)
