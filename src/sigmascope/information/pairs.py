r"""Information about two attributes: redundancy and synergy, and information about one when the other is known.

.. math:: I(A; B; Y_\sigma) = I(A; Y_\sigma) + I(B; Y_\sigma) - I(A, B; Y_\sigma) = I(A; B) - I(A; B \mid Y_\sigma), \\
          I(B; Y_\sigma \mid A) = I(A, B; Y_\sigma) - I(A; Y_\sigma)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sigmascope.core import Curve
from sigmascope.rare import skew_allowance

_ROUNDING = 1e-4  # nats: with smaller losses the number of draws that carry them is not known


@dataclass(frozen=True, eq=False)
class Interaction:
    """Interaction information of two attributes over noise levels, in nats, float64."""

    first: str  # name of A
    second: str  # name of B
    sigma: Float[np.ndarray, " levels"]  # decreasing
    value: Float[np.ndarray, " levels"]  # positive where the two are redundant, negative where synergistic
    stderr: Float[np.ndarray, " levels"]  # over draws that the three informations share
    error: Float[np.ndarray, " levels"]  # half of the 95 % interval, over 1.96: wider for few and skewed draws
    ceiling: float  # I(A; B), which no value exceeds; the value for a clean image that determines both

    @property
    def largest(self) -> tuple[float, float, float]:
        """The value farthest from 0, its error, and its level."""
        j = int(np.abs(self.value).argmax())
        return float(self.value[j]), float(self.error[j]), float(self.sigma[j])


def interaction(joint: Curve, first: Curve, second: Curve) -> Interaction:
    r"""The information that two attributes share in the noisy image (positive), or have only together (negative).

    .. math:: I(A; B; Y_\sigma) = I(A; Y_\sigma) + I(B; Y_\sigma) - I(A, B; Y_\sigma)

    Positive, *redundant*: the image's information about one attribute is in part information about the other.
    Negative, *synergistic*: :math:`I(A; Y \mid B) > I(A; Y)`, so that B helps to determine A.  By the entropies of the
    posterior, a draw's contribution is :math:`I(A; B) - I(A; B \mid Y = y)`: independent attributes can only be
    synergistic.  It is the difference of two informations, and can be 0 with neither being 0.

    Args:
        joint, first, second: exact curves of (A, B), A and B on the same draws.

    Returns: an :class:`Interaction`; its errors are those of the paired contributions, none of which is above I(A; B).

    Raises: ValueError if the curves are not over the same levels and draws, or are not exact (a difference of bounds is
        no bound).

    References: McGill (1954); Williams & Beer (2010): one number cannot separate redundancy and synergy where both
        exist.
    """
    if not (joint.same_draws(first) and joint.same_draws(second)):
        raise ValueError("the curves are not over the same levels and draws")
    if any(c.kind != "exact" for c in (joint, first, second)):
        raise ValueError("errors that draws do not show, and bounds, do not subtract: pass curves of kind 'exact'")
    per_draw = first.per_draw + second.per_draw - joint.per_draw
    value, ceiling = per_draw.mean(1), max(first.ceiling + second.ceiling - joint.ceiling, 0.0)
    stderr = np.sqrt(per_draw.var(1, ddof=1) / per_draw.shape[1])
    error = np.hypot(stderr, np.maximum(skew_allowance(per_draw, even=True), _unmet_allowance(per_draw)))
    return Interaction(first.attribute, second.attribute, joint.sigma, value, stderr, error, ceiling)


def _unmet_allowance(per_draw: Float[np.ndarray, "levels draws"]) -> Float[np.ndarray, " levels"]:
    r"""An allowance in the error for draws that carry much of the interaction and of which too few occurred.

    One more draw is assumed, as low as the lowest :math:`x_{min}` of this level and all noisier ones, where few draws
    carry the losses,

    .. math:: \frac{\bar x - x_{min}}{n + 1}\, e^{-m/10}, \qquad m = \frac{(\sum l)^2}{\sum l^2},

    with l the distance of each draw from the highest.  In simulations of synergy and redundancy with 64 and 256 draws
    the intervals then cover 95 % down to a twentieth of the largest interaction.

    Valid when: levels are within a factor of 1.4 of each other; farther ones do not show how low draws can be.
    """
    lost = per_draw.max(1, keepdims=True) - per_draw
    carriers = lost.sum(1) ** 2 / ((lost**2).sum(1) + _ROUNDING**2)
    lowest = np.minimum.accumulate(per_draw.min(1))
    return np.asarray((per_draw.mean(1) - lowest) / (per_draw.shape[1] + 1) * np.exp(-carriers / 10.0))


def conditional(joint: Curve, given: Curve, name: str) -> Curve:
    r"""Chain rule on shared draws.

    Args:
        joint: curve of the joint attribute (A, B).
        given: curve of A, by the same estimator on the same draws.
        name: of the result, e.g. ``"scale | shape"``.

    Returns: Curve of I(B; Y | A), with ceiling H(B | A).

    Raises: ValueError if the curves are not over the same levels and draws, or are bounds (the difference of two
        bounds is no bound).
    """
    if not joint.same_draws(given):
        raise ValueError("the curves are not over the same levels and draws")
    if "lower bound" in (joint.kind, given.kind):
        raise ValueError("the difference of two lower bounds is no bound: pass curves of the exact law")
    errors = [c.quadrature_error for c in (joint, given) if c.quadrature_error is not None]
    return Curve.of_draws(
        name, joint.estimator, joint.sigma, joint.per_draw - given.per_draw, joint.ceiling - given.ceiling,
        kind=joint.kind, common_variance=joint.common_variance + given.common_variance,
        quadrature_error=np.sum(errors, axis=0) if errors else None,
    )  # fmt: skip
