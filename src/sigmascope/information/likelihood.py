r"""Lower bounds from a denoiser conditional on an attribute, whatever its error.

Add noise to y, :math:`y' = y + s\varepsilon`, :math:`\sigma'^2 = \sigma^2 + s^2`.  The denoiser conditional on a
predicts y back by :math:`m_a = y' + \tfrac{s^2}{\sigma'^2}(D_a(y', \sigma') - y')`, and the errors of the predictions
at all s give its likelihood of y (pointwise I-MMSE),

.. math:: \ln q(a \mid y) = \ln p(a) - \tfrac12 \int_0^\infty E_\varepsilon\|y - m_a\|^2\, d(s^{-2}) + c(y), \qquad
          I(A; Y_\sigma) \ge H(A) + E \ln q(A \mid Y_\sigma)

for any network, any quadrature and any number of noises, since q is a function of y and of noise that is independent of
A.  It is tight for exact denoisers.  A temperature, fitted on other draws, reduces the loss through a network's error.

The bound along one Markov path (:mod:`sigmascope.information.path`) has the same likelihood from a single noise.
Averaging over noises can only raise it, by Jensen's inequality for the logarithm of a sum of exponentials.

References: Barber & Agakov (2003); Guo, Shamai, Verdú (2005); Kong, Brekelmans & Ver Steeg (2023).
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, InputError
from sigmascope.information.parts import Arrays, Parts, whole
from sigmascope.sample.joint import mean_of_each_value
from sigmascope.sample.schemes import Noise

_HOTTEST, _FINE = 16.0, 8  # the largest temperature; candidates per factor of 2, at the end
_HUGE = 1e300  # nats: differences of gains stay finite
_NEGLIGIBLE = 0.01  # nats: a temperature by which the largest gain is no more than this is as good as 0


def attribute_of(denoiser: Denoiser, name: str) -> Attribute:
    """The attribute of this name.

    Raises: InputError if the denoiser has none.
    """
    by_name = {a.name: a for a in denoiser.attributes}
    if name not in by_name:
        raise InputError(f"no attribute is called {name!r}: choose among {', '.join(by_name) or 'none'}")
    return by_name[name]


def likelihood_nodes(
    sigma: float, span: float, nodes: int, highest: float = math.inf
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    r"""Further noise s, and weights w: :math:`\sum_k w_k f(s_k) \approx \int_0^\infty f(s)\, d(s^{-2})`.

    The integrand in ln s grows as :math:`s^2` from the bottom, is spread over the scales between sigma and the span of
    the data, and falls as :math:`s^{-2}` above.  As a function of

    .. math:: x = 1 - \ln\frac{s^2 + c^2}{s^2 + \sigma^2} \Big/ \ln\frac{c^2}{\sigma^2}, \qquad c = \max(span, 2\sigma)

    in (0, 1) it is smooth and finite, so the Gauss-Legendre nodes in x include both tails.

    Args:
        sigma: the level of y.
        span: scale of the data, :math:`\sqrt{\mathrm{tr}\,\mathrm{Cov}(V)}`; ten times more or less changes little.
        nodes: their number.
        highest: level above which the denoiser is not called; the tail above takes the value of the last node.

    Raises: InputError for levels that are not positive, no node, or a level with none above.
    """
    if not (sigma > 0 and span > 0 and nodes >= 1):
        raise InputError(f"sigma {sigma:g}, span {span:g}, {nodes} nodes came: all must be positive")
    if not highest > sigma:
        raise InputError(f"the denoiser is called up to level {highest:g} only: pass a level below it, not {sigma:g}")
    low, high = sigma**2, max(span, 2 * sigma) ** 2
    whole = math.log(high / low)
    end = 1 - math.log1p((high - low) / highest**2) / whole
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = end * (x + 1) / 2, end * w / 2
    w[-1] += 1 - end
    ratio = np.expm1(whole * (1 - x))  # (c^2 - sigma^2) / (s^2 + sigma^2)
    s2 = (high - low) / ratio - low
    # d(s^-2) = 2 s^-2 d ln s, and d ln s / dx = (s^2 + c^2)(s^2 + sigma^2) ln(c^2 / sigma^2) / (2 s^2 (c^2 - sigma^2)).
    return np.sqrt(s2), w * whole * (s2 + high) * (s2 + low) / (s2**2 * (high - low))


def likelihood_posterior(
    denoiser: Denoiser,
    attribute: str,
    y: Float[Tensor, "batch *event"],
    sigma: float,
    noise: Noise,
    *,
    span: float,
    nodes: int = 6,
    pairs: int = 1,
    highest: float = math.inf,
    batch: int | None = None,
) -> Float[Tensor, "batch values"]:
    r"""Gains :math:`g_a` of the denoiser's own posterior, :math:`q(a \mid y) \propto p(a)\, e^{g_a(y)}`.

    .. math:: g_a = \int \left[\langle y - m, \delta_a\rangle - \tfrac12\|\delta_a\|^2\right] d(s^{-2}), \qquad
              \delta_a = m_a - m, \quad m = \sum_a p(a)\, m_a

    The noise is shared over a, so that what is common to all values cancels.  The middle m cancels too, whatever it is,
    so no unconditional denoiser is needed.  Each noise comes with its opposite, which cancels odd terms.

    Args:
        denoiser: conditional on the attribute.
        attribute: its name.
        y: noisy values at sigma.
        sigma: their level.
        noise: for all rows, called ``nodes * pairs`` times; independent of y and of the labels.
        span: scale of the data, as for :func:`likelihood_nodes`.
        nodes: levels of added noise.
        pairs: pairs of opposite noises at each.
        highest: level above which the denoiser is not called.
        batch: rows of a call of the denoiser; all of them where None.

    Returns: float64, centred; 0 for values that never occur, and for all values of a row where one is not finite.

    Raises: InputError for an unknown attribute, or levels as for :func:`likelihood_nodes`.

    Cost: values · nodes · 2 · pairs · batch denoisings.  The loss through noise falls as 1 / (nodes · pairs): 6 nodes
        of one pair lose .001 to .04 nats for mixtures with two values, .05 to .2 for seven well separated ones.
    """
    parts = likelihood_in_parts(denoiser, attribute, y, sigma, noise, {}, span, nodes, pairs, highest, batch)
    return whole(parts)


def likelihood_in_parts(
    denoiser: Denoiser,
    attribute: str,
    y: Float[Tensor, "batch *event"],
    sigma: float,
    noise: Noise,
    held: Arrays,
    span: float,
    nodes: int = 6,
    pairs: int = 1,
    highest: float = math.inf,
    batch: int | None = None,
) -> Parts[Tensor]:
    """:func:`likelihood_posterior`, a batch of rows at one noise at a time, from the arrays of an earlier run if any.

    The noise is that of the first call: what was drawn before is drawn again.
    """
    a = attribute_of(denoiser, attribute)
    if pairs < 1 or (batch is not None and batch < 1):
        raise InputError(f"{pairs} pairs of noises, rows by {batch} came: both must be positive")
    y = y.double()
    prior = a.prior.to(y.device)
    gains = torch.zeros(len(y), len(prior), dtype=torch.float64, device=y.device)
    begun, done = 0, int(held.get("done", 0))
    if held:
        gains.copy_(torch.from_numpy(held["gains"]))
    levels = zip(*likelihood_nodes(sigma, span, nodes, highest), strict=True)
    for (s, weight), _ in itertools.product(((float(s), float(w)) for s, w in levels), range(pairs)):
        further = s * noise().to(y.device)
        batches = torch.split(torch.arange(len(y), device=y.device), batch or max(len(y), 1))
        for sign, rows in itertools.product((1, -1), batches):
            begun += 1
            if begun <= done:
                continue
            after, level = y[rows] + sign * further[rows], math.hypot(sigma, s)
            means = mean_of_each_value(denoiser, after, level, a.name)
            gains[rows] += weight / (2 * pairs) * gain_of(means, prior, y[rows], after, (s / level) ** 2)
            yield partial(dict, gains=gains.cpu().numpy(), done=np.array(begun))
    gains[:, prior == 0] = 0.0
    return finite_gains(gains)


def gain_of(
    means: Float[Tensor, "values batch *event"],
    prior: Float[Tensor, " values"],
    y: Float[Tensor, "batch *event"],
    after_y: Float[Tensor, "batch *event"],
    share: float | Float[Tensor, "batch 1"],
) -> Float[Tensor, "batch values"]:
    """The integrand of the gains at one noise, from the posterior means at ``after_y`` conditional on each value.

    ``share`` is s² / σ'², of all rows or of each.
    """
    means = means.flatten(2)
    middle = torch.tensordot(prior, means, 1)
    delta = share * (means - middle)
    error = y.flatten(1) - after_y.flatten(1) - share * (middle - after_y.flatten(1))
    result: Tensor = ((delta * error).sum(2) - 0.5 * (delta**2).sum(2)).T
    return result


def log_ratio(
    attribute: Attribute,
    gains: Float[Tensor, "draws values"],
    own: Int64[Tensor, " draws"],
    temperature: float = 1.0,
    share: float = 0.0,
) -> Float[Tensor, " draws"]:
    r""":math:`\ln q(a)/p(a)` at the true label, for :math:`q \propto p\,e^{\beta g}` mixed with a share of the prior.

    The share limits what one draw can cost to its logarithm.  Gains of values that never occur must be finite.
    """
    return _log_ratios(attribute, gains, own, torch.tensor([temperature], dtype=torch.float64), share)[0]


def _log_ratios(
    attribute: Attribute, gains: Tensor, own: Tensor, temperatures: Tensor, share: float
) -> Float[Tensor, "temperatures draws"]:
    """:func:`log_ratio` at several temperatures."""
    g = temperatures.to(gains.device)[:, None, None] * (gains - gains.max(1, keepdim=True).values)
    ratio = g[:, torch.arange(len(own)), own] - (attribute.prior.log().to(g.device) + g).logsumexp(2)
    return torch.logaddexp(ratio + math.log1p(-share), torch.full_like(ratio, math.log(share))) if share > 0 else ratio


def fitted_temperature(
    attribute: Attribute, gains: Float[Tensor, "draws values"], own: Int64[Tensor, " draws"]
) -> float:
    r"""The temperature nearest to 1 among those within one standard error of the likeliest; between 0 and 16.

    One standard error is half a unit of log-likelihood over all draws.  Where the gains classify every label correctly
    the likelihood grows without end, and 1 is kept.
    """
    spread = float((gains.max(1).values - gains.min(1).values).max())
    lowest = min(_NEGLIGIBLE / spread, 1.0) if spread > 0 else 1.0

    def score(candidates: np.ndarray) -> np.ndarray:
        parts = torch.split(torch.from_numpy(candidates), 64)
        scores = [_log_ratios(attribute, gains, own, t, prior_share(len(own))).mean(1) for t in parts]
        return torch.cat(scores).cpu().numpy()

    steps = math.ceil(math.log2(1 / lowest))
    tried = np.concatenate([[0.0], 2.0 ** np.arange(-steps, math.log2(_HOTTEST) + 1)])
    scores = score(tried)
    best = tried[scores.argmax()]
    if best > 0:
        near = best * 2.0 ** (np.arange(-_FINE, _FINE + 1) / _FINE)
        near = near[near <= _HOTTEST]
        tried, scores = np.concatenate([tried, near]), np.concatenate([scores, score(near)])
    good = tried[scores >= scores.max() - 0.5 / len(own)]
    return float(good[np.abs(np.log(np.maximum(good, 1e-300))).argmin()])


def prior_share(draws: int) -> float:
    """Share of the prior in a bound that is fitted on so many draws: half a draw."""
    return 0.5 / draws


def tempered(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    log_q_fit: Float[Tensor, "levels draws_fit values"],
    own_fit: Int64[Tensor, " draws_fit"],
    log_q: Float[Tensor, "levels draws values"],
    own: Int64[Tensor, " draws"],
) -> Curve:
    r"""The bound :math:`E[\ln q(A) - \ln p(A)]`, with a temperature for every level that is fitted on other draws.

    .. math:: q(a) = (1 - \epsilon)\, \frac{p(a)\, e^{\beta g_a}}{\sum_b p(b)\, e^{\beta g_b}} + \epsilon\, p(a),
              \qquad g_a = \ln q_0(a) - \ln p(a)

    The prior's share is half a draw of the fit; it limits the loss of one draw, so that the spread over draws shows the
    error of their mean.  A power of :math:`q_0` is a function of the same noisy values, so the bound holds for it too.

    Args:
        log_q_fit, own_fit: :math:`\ln q_0`, e.g. of :func:`~sigmascope.information.path.path_posterior`, and true
            labels of draws to fit on.
        log_q, own: of the draws of the bound.

    Returns: Curve of kind ``lower bound``, named ``filter``; its standard error is given the temperatures.

    Raises: InputError for shapes that do not fit, or no draws.

    Valid when: the draws to fit on are others; a fit to the same few draws is biased upward.
    """
    for q, label in ((log_q_fit, own_fit), (log_q, own)):
        expected = (len(sigma), len(label), len(attribute.values))
        if tuple(q.shape) != expected or len(label) < 2:
            raise InputError(f"log_q has shape {tuple(q.shape)}, expected {expected}, with at least 2 draws")
    never = attribute.prior == 0

    def gains(q: Tensor) -> Tensor:
        return finite_gains((q - attribute.prior.log().to(q.device)).masked_fill(never.to(q.device), 0.0))

    share = prior_share(len(own_fit))
    per_draw = [
        log_ratio(attribute, g, own, fitted_temperature(attribute, g_fit, own_fit), share)
        for g_fit, g in zip(map(gains, log_q_fit), map(gains, log_q), strict=True)
    ]
    ratios = torch.stack(per_draw).cpu().numpy()
    return Curve.of_draws(attribute.name, "filter", sigma, ratios, attribute.entropy, kind="lower bound")


def finite_gains(gains: Tensor) -> Float[Tensor, "draws values"]:
    """Gains with 0 for rows that have one which is not finite."""
    return gains.double().masked_fill(~torch.isfinite(gains).all(1, keepdim=True), 0.0).clamp(-_HUGE, _HUGE)
