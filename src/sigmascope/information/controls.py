r"""Control variates: curves of a few costly draws get smaller errors through many cheap ones.

A classifier of noisy values costs little, and its posterior varies with the exact one, or with that of a better bound.
With :math:`x_i` its numbers for draw i, n costly draws and m others of the same law,

.. math:: \hat I = \frac1n \sum_{i \le n} \left(e_i - \beta^\top x_i\right) + \frac1m \sum_{j \le m} \beta^\top x_j,
          \qquad \mathrm{Var} = \frac{\mathrm{Var}(e - \beta^\top x)}{n} + \frac{\mathrm{Var}(\beta^\top x)}{m}

has the mean of e whatever the classifier.  A poor classifier helps less, and with few draws may increase the error a
little.

References: Glasserman (2003), Section 4.1.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, InputError
from sigmascope.information.posterior import entropy_of

_SHARE = 1e-3  # of the prior, so that no draw outweighs the others together
_RIDGE = 0.3  # in H(A)^2: where hardly a draw of a half is undecided, its slope does not fit the other half
_USUAL = {"lower bound": (1.0, 0.0), "exact": (0.0, 0.0), "estimate": (0.0, 0.0)}
"""Coefficients where the draws to fit on hardly vary: those of a bound by the classifier itself, or none."""


def classifier_controls(
    attribute: Attribute, log_q: Float[Tensor, "*levels draws values"], own: Int64[Tensor, " draws"]
) -> Float[np.ndarray, "2 *levels draws"]:
    r"""The two control variates of each draw from a classifier, nats.

    .. math:: x = \left(\ln[(1 - \epsilon)\,q(a)/p(a) + \epsilon],\; H(A) - H(q)\right)

    The first varies with other log-probabilities of the true label, the second with other posteriors' entropies.
    ``log_q`` is normalised; a row that holds NaN counts as the prior.
    """
    log_q, prior = log_q.double().cpu(), attribute.prior.log()
    log_q = torch.where(log_q.isnan().any(-1, keepdim=True), prior, log_q)
    ratio = log_q[..., torch.arange(len(own)), own] - prior[own]
    score = torch.logaddexp(ratio + math.log1p(-_SHARE), torch.full_like(ratio, math.log(_SHARE)))
    return torch.stack([score, attribute.entropy - entropy_of(log_q)]).numpy()


def controlled(
    curve: Curve,
    controls: Float[np.ndarray, "2 levels draws"],
    many: Float[np.ndarray, "2 levels groups"],
    fit: tuple[Float[np.ndarray, "levels draws_fit"], Float[np.ndarray, "2 levels draws_fit"]] | None = None,
) -> Curve:
    r"""The curve of the same mean after subtraction of control variates; its columns are independent groups of draws.

    Coefficients are those of a ridge regression at each level, on other draws or on one half of the groups for the
    other, since a fit on the same draws would bias the estimate.  Those of a lower bound shrink to the coefficients of
    the classifier's own bound, others to 0.

    Args:
        curve: of independent draws, whose number the number of groups divides.
        controls: :func:`classifier_controls` of its draws.
        many: means of the controls over other draws of the same law, a group each.
        fit: values of the curve and controls of other draws; None: halves of the groups fit each other.

    Returns: the curve with a column for each group; its standard error is that of their mean.  By chance it may lie
        above H(A).

    Raises: InputError for numbers of draws or levels that do not fit.

    Valid when: the draws of ``many`` are others, as many in each group.  Without ``fit`` the halves depend on each
        other, so that one half must not choose among curves for the other.
    """
    levels, draws = curve.per_draw.shape
    groups = many.shape[2]
    if controls.shape != (2, levels, draws) or many.shape[1] != levels or groups < 4 or draws % groups:
        raise InputError(
            f"a curve of {draws} draws and {levels} levels came with controls of shape {controls.shape} and "
            f"{many.shape}: pass as many levels and draws, and means over groups whose number, 4 or more, divides them"
        )
    x, e = controls.reshape(2, levels, groups, -1), curve.per_draw.reshape(levels, groups, -1)
    ridge, usual = _RIDGE * max(curve.ceiling**2, 1e-9), np.array(_USUAL[curve.kind])
    half, columns = np.arange(groups) % 2 == 0, np.empty((levels, groups))
    for judged in (half, ~half):
        if fit is None:
            from_e, from_x = e[:, ~judged].reshape(levels, -1), x[:, :, ~judged].reshape(2, levels, -1)
        else:
            from_e, from_x = fit
        beta = _coefficients(from_x, from_e, ridge, usual)
        deviation = x[:, :, judged].mean(3) - many[:, :, judged]
        columns[:, judged] = e[:, judged].mean(2) - np.einsum("lc,clg->lg", beta, deviation)
    error = columns.std(1, ddof=1) / groups**0.5
    return replace(curve, value=columns.mean(1), stderr=error, per_draw=columns)


def _coefficients(
    x: Float[np.ndarray, "2 levels draws"],
    e: Float[np.ndarray, "levels draws"],
    ridge: float,
    usual: Float[np.ndarray, "2"],
) -> Float[np.ndarray, "levels 2"]:
    """Coefficients of a ridge regression at each level, close to the usual ones where x hardly varies."""
    x, e = x - x.mean(2, keepdims=True), e - e.mean(1, keepdims=True)
    spread = np.einsum("cld,bld->lcb", x, x) + ridge * np.eye(2)
    both = np.einsum("cld,ld->lc", x, e) + ridge * usual
    return np.linalg.solve(spread, both[..., None])[..., 0]
