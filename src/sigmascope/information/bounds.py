r"""Lower bounds on the information of a population, from classifiers of held-out draws.

.. math:: I(A; Y_\sigma) \ge E\left[\ln q(a \mid y) - \ln p(a)\right]

for any classifier q that was made from other draws (Barber & Agakov 2003).  Adding noise cannot add information, so a
bound at :math:`\sigma' \ge \sigma` is one at :math:`\sigma`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from sigmascope.core import Attribute, Curve

_PRIOR_SHARES = (1e-4, 1e-3, 1e-2, 0.05, 0.2)


def heldout_bound(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    level: Sequence[int],
    probability: Float[np.ndarray, "classifiers draws"],
    own: Int[np.ndarray, " draws"],
) -> Curve:
    r"""The best of many classifiers at each level, chosen on other draws than those that measure it.

    Candidates at a level are all classifiers of that level or of a higher one, each mixed with a share of the prior
    (so that no probability is zero), and the prior itself, whose bound is zero.  Draws are split in two, and each half
    chooses for the other, since the maximum of noisy bounds is biased upward.  As sigma falls, the choice changes only
    for a gain of more than two standard errors.

    Args:
        attribute: A, with the population's prior.
        sigma: decreasing levels.
        level: for each classifier, the index of the noise level at which it reads y.
        probability: q(a | y) at the true label of each draw.
        own: index of the true label of each draw.

    Returns: Curve of kind ``lower bound``; its standard error is that of the mean over draws at the choices made.

    References: Barber & Agakov (2003).
    """
    prior = attribute.prior.numpy()[own]
    gains = np.concatenate([np.log((1 - e) * probability / prior + e) for e in _PRIOR_SHARES])
    levels = np.tile(np.asarray(level), len(_PRIOR_SHARES))
    half = np.arange(len(own)) % 2 == 0
    per_draw = np.zeros((len(sigma), len(own)))
    for judged in (half, ~half):
        chosen = np.zeros(len(own))  # the prior's gain
        for j in range(len(sigma)):
            candidates = gains[levels == j]
            best = candidates[candidates[:, ~judged].mean(1).argmax()] if len(candidates) else chosen
            rise = (best - chosen)[~judged]
            if rise.mean() > 2 * rise.std(ddof=1) / np.sqrt(len(rise)):
                chosen = best
            per_draw[j, judged] = chosen[judged]
    return Curve.of_draws(attribute.name, "heldout", sigma, per_draw, attribute.entropy, kind="lower bound")
