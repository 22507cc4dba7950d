r"""Lower bounds from a denoiser told the values of an attribute, whatever its error.

Noise y further, :math:`y' = y + s\varepsilon`, :math:`\sigma'^2 = \sigma^2 + s^2`.  A denoiser told a predicts y back
by :math:`m_a = y' + \tfrac{s^2}{\sigma'^2}(D_a(y', \sigma') - y')`, and the errors of the predictions at all s are its
likelihood of y (pointwise I-MMSE),

.. math:: \ln q(a \mid y) = \ln p(a) - \tfrac12 \int_0^\infty E_\varepsilon\|y - m_a\|^2\, d(s^{-2}) + c(y), \qquad
          I(A; Y_\sigma) \ge H(A) + E \ln q(A \mid Y_\sigma)

for any network, any quadrature and any number of noises, since q is a function of y and of noise that knows nothing of
A.  It is tight for exact denoisers.  What a wrong network costs is reduced by one temperature, fitted on other draws.

The bound along one Markov path (:mod:`sigmascope.information.path`) gathers the same likelihood from a single noise:
averaging over noises can only raise it, by Jensen's inequality of the logarithm of a sum of exponentials.

References: Barber & Agakov (2003); Guo, Shamai, Verdú (2005); Kong, Brekelmans & Ver Steeg (2023).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, InputError
from sigmascope.sample.joint import mean_of_each_value
from sigmascope.sample.schemes import Noise

_HOTTEST, _FINE = 16.0, 8  # the largest temperature; candidates per factor of 2, at the end
_HUGE = 1e300  # nats: differences of gains stay finite
_NOTHING = 0.01  # nats: a temperature that leaves no more than this of the largest gain is as good as 0


def likelihood_nodes(
    sigma: float, span: float, nodes: int, highest: float = math.inf
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    r"""Further noise s, and weights w: :math:`\sum_k w_k f(s_k) \approx \int_0^\infty f(s)\, d(s^{-2})`.

    The integrand in ln s grows as :math:`s^2` from the bottom, is spread over the scales between sigma and the span of
    the data, and falls as :math:`s^{-2}` above.  Gauss and Legendre's nodes in

    .. math:: x = 1 - \ln\frac{s^2 + c^2}{s^2 + \sigma^2} \Big/ \ln\frac{c^2}{\sigma^2}, \qquad c = \max(span, 2\sigma)

    have both tails in closed form: as a function of x in (0, 1) the integrand is smooth and finite, so nothing is cut.

    Args:
        sigma: the level of y.
        span: scale of the data, :math:`\sqrt{\mathrm{tr}\,\mathrm{Cov}(V)}`; ten times more or less changes little.
        nodes: how many.
        highest: level above which the denoiser is not asked; the tail above takes the value of the last node.

    Raises: InputError for levels that are not positive, no node, or a level with none above.
    """
    if not (sigma > 0 and span > 0 and nodes >= 1):
        raise InputError(f"sigma {sigma:g}, span {span:g}, {nodes} nodes came: all must be positive")
    if not highest > sigma:
        raise InputError(
            f"the denoiser is asked up to level {highest:g} only: the bound is for levels below, not {sigma:g}"
        )
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

    The noise is shared over a, so that what is common to all values falls out; so does the middle m, whatever it is,
    and no unconditional denoiser is asked.  Each noise comes with its opposite, which takes away what is odd in it.

    Args:
        denoiser: told the attribute.
        attribute: its name.
        y: noisy values at sigma.
        sigma: their level.
        noise: of all rows, called ``nodes * pairs`` times; independent of y and of the labels.
        span: scale of the data, as for :func:`likelihood_nodes`.
        nodes: levels of further noise.
        pairs: opposite noises at each.
        highest: level above which the denoiser is not asked.
        batch: rows of a call of the denoiser; all of them where None.

    Returns: float64, about 0; 0 for values that never occur, and for all values of a row where one is not finite.

    Raises: InputError for an unknown attribute, or levels as for :func:`likelihood_nodes`.

    Cost: values · nodes · 2 · pairs · batch denoisings.  What the noise loses falls as 1 / (nodes · pairs): 6 nodes
        of one pair lose .001 to .04 nats of mixtures with two values, .05 to .2 of seven well separated ones.
    """
    a = next((x for x in denoiser.attributes if x.name == attribute), None)
    if a is None:
        known = ", ".join(x.name for x in denoiser.attributes) or "none"
        raise InputError(f"no attribute is called {attribute!r}: choose among {known}")
    if pairs < 1 or (batch is not None and batch < 1):
        raise InputError(f"{pairs} pairs of noises, rows by {batch} came: both must be positive")
    y = y.double()
    prior = a.prior.to(y.device)
    gains = torch.zeros(len(y), len(prior), dtype=torch.float64, device=y.device)
    levels = zip(*likelihood_nodes(sigma, span, nodes, highest), strict=True)
    for s, weight in ((float(s), float(w)) for s, w in levels):
        for _ in range(pairs):
            further = s * noise().to(y.device)
            for sign in (1, -1):
                for rows in torch.arange(len(y), device=y.device).split(batch or max(len(y), 1)):
                    gain = _gain(denoiser, a.name, prior, y[rows], y[rows] + sign * further[rows], sigma, s)
                    gains[rows] += weight / (2 * pairs) * gain
    gains[:, prior == 0] = 0.0
    return finite_gains(gains)


def _gain(
    denoiser: Denoiser, name: str, prior: Tensor, y: Tensor, after_y: Tensor, sigma: float, s: float
) -> Float[Tensor, "batch values"]:
    """The integrand at one further noise."""
    level = math.hypot(sigma, s)
    return gain_of(mean_of_each_value(denoiser, after_y, level, name), prior, y, after_y, (s / level) ** 2)


def gain_of(
    told: Float[Tensor, "values batch *event"],
    prior: Float[Tensor, " values"],
    y: Float[Tensor, "batch *event"],
    after_y: Float[Tensor, "batch *event"],
    share: float | Float[Tensor, "batch 1"],
) -> Float[Tensor, "batch values"]:
    """The integrand of the gains, at one further noise.

    Args:
        told: denoisers of the noisier values, told each value of the attribute.
        prior: of these values.
        y: noisy values.
        after_y: the same, noisier.
        share: :math:`s^2 / \\sigma'^2`, of all rows or of each.
    """
    told = told.flatten(2)
    middle = torch.tensordot(prior, told, 1)
    apart = share * (told - middle)
    error = y.flatten(1) - after_y.flatten(1) - share * (middle - after_y.flatten(1))
    return ((apart * error).sum(2) - 0.5 * (apart**2).sum(2)).T


def log_ratio(
    attribute: Attribute,
    gains: Float[Tensor, "draws values"],
    own: Int64[Tensor, " draws"],
    temperature: float = 1.0,
    share: float = 0.0,
) -> Float[Tensor, " draws"]:
    r""":math:`\ln q(a)/p(a)` at the true label, of :math:`q \propto p\,e^{\beta g}` mixed with a share of the prior.

    Args:
        attribute: A.
        gains: g, with values that never occur at anything finite.
        own: the true labels.
        temperature: :math:`\beta`; 0 is the prior.
        share: of the prior, so that no draw costs more than its logarithm.
    """
    return _log_ratios(attribute, gains, own, torch.tensor([temperature], dtype=torch.float64), share)[0]


def _log_ratios(
    attribute: Attribute, gains: Tensor, own: Tensor, temperatures: Tensor, share: float
) -> Float[Tensor, "temperatures draws"]:
    """The same at several temperatures."""
    g = temperatures.to(gains.device)[:, None, None] * (gains - gains.max(1, keepdim=True).values)
    ratio = g[:, torch.arange(len(own)), own] - (attribute.prior.log().to(g.device) + g).logsumexp(2)
    return torch.logaddexp(ratio + math.log1p(-share), torch.full_like(ratio, math.log(share))) if share > 0 else ratio


def fitted_temperature(
    attribute: Attribute, gains: Float[Tensor, "draws values"], own: Int64[Tensor, " draws"]
) -> float:
    r"""The temperature of greatest likelihood; of those that the draws cannot tell from it, the one nearest to 1.

    "Cannot tell" is half a unit of log-likelihood over all draws: a standard error of the temperature.  Where the
    labels are never mistaken the likelihood grows without end, and 1 is kept.

    Args:
        attribute: A.
        gains: shape (draws, values).
        own: the true labels.

    Returns: between 0 (the gains say nothing) and 16.
    """
    spread = float((gains.max(1).values - gains.min(1).values).max())
    lowest = min(_NOTHING / spread, 1.0) if spread > 0 else 1.0

    def score(candidates: np.ndarray) -> np.ndarray:
        many = torch.from_numpy(candidates).split(64)
        found = [_log_ratios(attribute, gains, own, t, prior_share(len(own))).mean(1) for t in many]
        return torch.cat(found).cpu().numpy()

    steps = math.ceil(math.log2(1 / lowest))
    tried = np.concatenate([[0.0], 2.0 ** np.arange(-steps, math.log2(_HOTTEST) + 1)])
    found = score(tried)
    best = tried[found.argmax()]
    if best > 0:
        near = best * 2.0 ** (np.arange(-_FINE, _FINE + 1) / _FINE)
        near = near[near <= _HOTTEST]
        tried, found = np.concatenate([tried, near]), np.concatenate([found, score(near)])
    good = tried[found >= found.max() - 0.5 / len(own)]
    return float(good[np.abs(np.log(np.maximum(good, 1e-300))).argmin()])


def prior_share(draws: int) -> float:
    """Share of the prior in a bound fitted on so many draws: half a draw."""
    return 0.5 / draws


def tempered(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    log_q_fit: Float[Tensor, "levels draws_fit values"],
    own_fit: Int64[Tensor, " draws_fit"],
    log_q: Float[Tensor, "levels draws values"],
    own: Int64[Tensor, " draws"],
) -> Curve:
    r"""The bound :math:`E[\ln q(A) - \ln p(A)]` along Markov paths, its temperature at every level fitted on others.

    .. math:: q(a) = (1 - \epsilon)\, \frac{p(a)\, e^{\beta g_a}}{\sum_b p(b)\, e^{\beta g_b}} + \epsilon\, p(a),
              \qquad g_a = \ln q_0(a) - \ln p(a)

    with the temperature of the level, and the prior's share of half a draw of the fit, so that the error of a mean
    over draws is known by their spread.  A power of :math:`q_0` is a function of the path above the level as it
    itself, so the bound holds as before.

    Args:
        attribute: A.
        sigma: decreasing levels.
        log_q_fit: of :func:`~sigmascope.information.path.path_posterior`, of draws to fit on.
        own_fit: their true labels.
        log_q: of the draws that the bound is read from.
        own: their true labels.

    Returns: Curve of kind ``lower bound``, named ``filter``; the standard error is that of the draws, given the
        temperatures.

    Raises: InputError for shapes that do not fit, or no draws.

    Valid when: the draws to fit on are others.  On the same ones a fit to few is biased upward.
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
    """Gains without rows that hold what is not finite: these say nothing."""
    return gains.double().masked_fill(~torch.isfinite(gains).all(1, keepdim=True), 0.0).clamp(-_HUGE, _HUGE)
