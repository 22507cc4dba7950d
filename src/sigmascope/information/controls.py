r"""Curves of a few costly draws made sharper by many cheap ones: control variates.

A classifier of noisy values costs little and sees much of what the exact posterior, or a better bound, sees.  With
:math:`x_i` what it says of draw i, n costly draws and m others of the same law,

.. math:: \hat I = \frac1n \sum_{i \le n} \left(e_i - \beta^\top x_i\right) + \frac1m \sum_{j \le m} \beta^\top x_j,
          \qquad \mathrm{Var} = \frac{\mathrm{Var}(e - \beta^\top x)}{n} + \frac{\mathrm{Var}(\beta^\top x)}{m}

has the mean of e whatever the classifier says: a bad one only helps less.

References: Glasserman (2003), Section 4.1.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Abstraction, Curve, InputError
from sigmascope.information.posterior import entropy_of

_SHARE = 1e-3  # of the prior, so that no draw says more than the others together
_RIDGE = 0.3  # in H(A)^2: where hardly a draw of a half is undecided, its slope says nothing of the other half
_USUAL = {"lower bound": (1.0, 0.0), "exact": (0.0, 1.0), "estimate": (0.0, 1.0)}
"""Coefficients where a half says nothing: of a classifier that is as good as what it is a control of."""


def said(
    abstraction: Abstraction, log_q: Float[Tensor, "*levels draws values"], own: Int64[Tensor, " draws"]
) -> Float[np.ndarray, "2 *levels draws"]:
    r"""What a classifier says of draws, in two numbers, nats.

    .. math:: x = \left(\ln[(1 - \epsilon)\,q(a)/p(a) + \epsilon],\; H(A) - H(q)\right)

    The first follows other log-probabilities of the true label, the second other posteriors' entropies.

    Args:
        abstraction: A, with its prior.
        log_q: ln q(a | y), normalised.
        own: the true labels.
    """
    pick = torch.arange(len(own))
    ratio = log_q[..., pick, own].double().cpu() - abstraction.prior.log()[own]
    score = torch.logaddexp(ratio + math.log1p(-_SHARE), torch.full_like(ratio, math.log(_SHARE)))
    return torch.stack([score, abstraction.entropy - entropy_of(log_q).cpu()]).numpy()


def controlled(
    curve: Curve,
    controls: Float[np.ndarray, "2 levels draws"],
    many: Float[np.ndarray, "2 levels groups"],
) -> Curve:
    r"""The curve of the same mean with the controls' chance taken away; its columns are independent groups of draws.

    Coefficients are those of a ridge regression, at each level, on one half of the groups for the other: fitted on the
    same draws they would bias the estimate.  They are drawn to what they are for a perfect classifier: a lower bound
    follows the log-probability of the true label, a posterior the entropy.

    Args:
        curve: of independent draws, whose number the number of groups divides.
        controls: what is said of its draws, by :func:`said`.
        many: means of the same numbers over other draws of the same law, a group each.

    Returns: the curve with a column for each group; its standard error is that of their mean.

    Raises: InputError for numbers of draws or levels that do not fit.

    Valid when: the draws of ``many`` are others, as many in each group.
    """
    levels, draws = curve.per_draw.shape
    groups = many.shape[2]
    if controls.shape != (2, levels, draws) or many.shape[1] != levels or groups < 4 or draws % groups:
        raise InputError(
            f"a curve of {draws} draws and {levels} levels came with controls of shape {controls.shape} and "
            f"{many.shape}: pass as many levels and draws, and means over groups whose number, 4 or more, divides them"
        )
    x, e = controls.reshape(2, levels, groups, -1), curve.per_draw.reshape(levels, groups, -1)
    half, ridge, usual = np.arange(groups) % 2 == 0, _RIDGE * curve.ceiling**2, np.array(_USUAL[curve.kind])
    columns = np.empty((levels, groups))
    for judged in (half, ~half):
        fit = x[:, :, ~judged].reshape(2, levels, -1), e[:, ~judged].reshape(levels, -1)
        beta = _coefficients(*fit, ridge, usual)
        chance = x[:, :, judged].mean(3) - many[:, :, judged]
        columns[:, judged] = e[:, judged].mean(2) - np.einsum("lc,clg->lg", beta, chance)
    error = columns.std(1, ddof=1) / groups**0.5
    return replace(curve, value=columns.mean(1), stderr=error, per_draw=columns)


def _coefficients(
    x: Float[np.ndarray, "2 levels draws"],
    e: Float[np.ndarray, "levels draws"],
    ridge: float,
    usual: Float[np.ndarray, "2"],
) -> Float[np.ndarray, "levels 2"]:
    """Of a ridge regression at each level; near the usual ones for what hardly varies."""
    x, e = x - x.mean(2, keepdims=True), e - e.mean(1, keepdims=True)
    spread = np.einsum("cld,bld->lcb", x, x) + ridge * np.eye(2)
    both = np.einsum("cld,ld->lc", x, e) + ridge * usual
    return np.linalg.solve(spread, both[..., None])[..., 0]
