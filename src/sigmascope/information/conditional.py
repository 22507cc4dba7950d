r"""Information about one attribute when another is known.

.. math:: I(B; Y_\sigma \mid A) = I(A, B; Y_\sigma) - I(A; Y_\sigma)
"""

from __future__ import annotations

import numpy as np

from sigmascope.core import Curve


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
