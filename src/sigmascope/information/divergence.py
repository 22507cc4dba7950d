r"""The divergence between noisy values generated under one condition and those under another, in nats.

.. math:: KL(p_{a,\sigma} \| p_{b,\sigma})
          = \int_{\ln\sigma}^\infty E_a \frac{\|D_a - D_b\|^2}{\sigma'^2}\, d\ln\sigma'
          = \int_{\ln\sigma}^\infty E_a \frac{\|V - D_b\|^2 - \|V - D_a\|^2}{\sigma'^2}\, d\ln\sigma'

by Girsanov's theorem (derived in :mod:`sigmascope.adapters.diffusers.text`).  The second integral holds for each v
alone: it is :math:`E_n \ln p_a(y)/p_b(y)` at :math:`y = v + \sigma n`, and the first is its mean over v given a.  Their
agreement tests the denoisers.

The information about which of the two conditions was used is another quantity: at equal priors
:math:`I = \int E\, q_a q_b \|D_a - D_b\|^2 \sigma^{-2} d\ln\sigma \le \ln 2`, with the posterior q from a filter along
a Markov path that uses the two denoisers alone (:mod:`sigmascope.information.path`).

References: Duncan (1970); Guo, Shamai, Verdú (2005); Kong, Brekelmans & Ver Steeg (2023); Franzese et al. (2025).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, InputError
from sigmascope.information.maps import from_infinity
from sigmascope.information.path import markov_path, path_posterior
from sigmascope.noise import integral_coarse, integral_from_the_top
from sigmascope.streams import Streams

_RICHARDSON = 15.0  # a fourth-order rule on half the levels errs 16 times as much


@dataclass(frozen=True, eq=False)
class Divergence:
    """The divergence of one value of an attribute from another, at some clean values v; nats, float64.

    Args:
        name: of the attribute.
        own: the value that the v were generated with.
        other: the value that it is compared with.
        sigma: decreasing levels, shape (levels,).
        rate: squared difference of the denoisers over sigma², nats per unit of ln sigma, by v and noise.
        score: its integral from the level up to infinity.
        error: the integral of the gap of squared errors.
        log_q: ln q(own | path), for equal priors.
        information_by_scores: the integral of the rate times q_own q_other: the information about which of the two
            values was given, at equal priors.
        maps: ``score`` at the last level by pixel, channels summed, mean over noises, shape (values, *pixels).
        maps_stderr: its standard error over noises.
    """

    name: str
    own: str
    other: str
    sigma: Float[np.ndarray, " levels"]
    rate: Float[np.ndarray, "levels values noises"] = field(repr=False)
    score: Float[np.ndarray, "levels values noises"] = field(repr=False)
    error: Float[np.ndarray, "levels values noises"] = field(repr=False)
    log_q: Float[np.ndarray, "levels values noises"] = field(repr=False)
    information_by_scores: Float[np.ndarray, "levels values noises"] = field(repr=False)
    maps: Float[np.ndarray, "values *pixels"] = field(repr=False)
    maps_stderr: Float[np.ndarray, "values *pixels"] = field(repr=False)

    def curve(self, way: str = "score") -> Curve:
        """The mean over the v of one of the gaps, ``score`` or ``error``, with its standard error."""
        error = (integral_from_the_top(self.sigma) - integral_coarse(self.sigma)) @ self.rate.mean((1, 2))
        return Curve.of_draws(
            self.name, f"{way}_gap", self.sigma, getattr(self, way).mean(2), math.inf, kind="estimate",
            quadrature_error=np.abs(error) / _RICHARDSON,
        )  # fmt: skip

    @property
    def above(self) -> float:
        """The part of the divergence above the first level, by a series in the signal-to-noise ratio."""
        return float(self.score[0].mean())


def divergence(
    denoiser: Denoiser,
    attribute: str,
    own: int,
    other: int,
    v: Float[Tensor, "values *event"],
    sigma: Float[np.ndarray, " levels"],
    *,
    noises: int = 4,
    seed: int = 0,
    stream: Sequence[int] = (0,),
) -> Divergence:
    r"""The divergence of the law given ``own`` from the law given ``other``, at clean values v.

    Each noise is a Markov path over the levels, with the law of sigma n at each.  One pass of the two denoisers along
    it gives both gaps, the posterior and the map.  Above the first level the gaps are continued by the series in
    :math:`\sigma^{-2}` that the first two levels give.

    Args:
        denoiser: conditional on the attribute.
        attribute: its name.
        own, other: indices of the two values.
        v: clean values; ``score`` is a divergence where they are draws given ``own``.
        sigma: decreasing levels, near enough for an integral (steps of ln sigma of 0.3 or less).
        noises: paths of each v.
        seed: of the noise.
        stream: numbers that identify the noise of these v.

    Raises: InputError for an unknown attribute or values, fewer than two levels, values or noises, or v of another
        shape.

    Cost: 2 · levels · values · noises denoisings, and 4 more of each path.
    """
    a = next((x for x in denoiser.attributes if x.name == attribute), None)
    if a is None or not {own, other} <= set(range(len(a.values))) or own == other:
        known = ", ".join(f"{x.name} ({len(x.values)} values)" for x in denoiser.attributes) or "none"
        raise InputError(f"{attribute!r} with values {own} and {other} came: pass two values of {known}")
    if len(sigma) < 2 or len(v) < 2 or noises < 2:
        raise InputError(f"{len(sigma)} levels, {len(v)} values, {noises} noises came: at least 2 of each are needed")
    if tuple(v.shape[1:]) != tuple(denoiser.event):
        raise InputError(f"values have shape {tuple(v.shape[1:])}: expected {tuple(denoiser.event)}")
    paths = range(noises)
    parts = [
        _at_value(
            denoiser, a, (own, other), x, sigma, Streams(seed, [(*stream, i, j) for j in paths], v.shape[1:]), noises
        )
        for i, x in enumerate(v.double())
    ]
    rate, score, error, log_q, information = (np.stack(x, 1) for x in zip(*(p[:5] for p in parts), strict=True))
    maps, stderr = (np.stack(x) for x in zip(*(p[5:] for p in parts), strict=True))
    levels = np.asarray(sigma, dtype=np.float64)
    return Divergence(
        a.name, a.values[own], a.values[other], levels, rate, score, error, log_q, information, maps, stderr
    )  # fmt: skip


def _at_value(
    denoiser: Denoiser, a: Attribute, pick: tuple[int, int], v: Tensor, sigma: np.ndarray, noise: Streams, noises: int
) -> tuple[np.ndarray, ...]:
    """Rate, score, error, log q and information, shape (levels, noises), of one v; its map and the map's error."""
    pair = _Pair(denoiser, a, pick)
    path = markov_path(v.expand(noises, *v.shape), sigma, noise)
    log_q = path_posterior(pair, a.name, path, sigma)[0][:, :, 0].cpu().numpy()
    means = torch.stack(pair.outputs[-len(sigma) :])  # earlier ones were for the start at the first level
    difference = means[:, 0] - means[:, 1]
    scale = torch.from_numpy(sigma**-2).to(difference.device)[:, None]
    square = (difference**2).sum(2) if v.ndim == 3 else difference**2
    rate = (square.flatten(2).sum(2) * scale).cpu().numpy()
    errors = ((difference * (2 * v - means[:, 0] - means[:, 1])).flatten(2).sum(2) * scale).cpu().numpy()
    weights = from_infinity(sigma)
    q = np.exp(log_q)
    last = torch.from_numpy(weights[-1]).to(difference.device)
    where = torch.einsum("l,ln...->n...", last * scale[:, 0], square).cpu().numpy()
    lines = (rate, weights @ rate, weights @ errors, log_q, weights @ (q * (1 - q) * rate))
    return *lines, where.mean(0), where.std(0, ddof=1) / len(where) ** 0.5


class _Pair(Denoiser):
    """A denoiser restricted to two values at equal priors, which evaluates both in one call and keeps the outputs.

    The network is no submodule of it, so that values are float64 whatever the type of the network.
    """

    def __init__(self, denoiser: Denoiser, a: Attribute, pick: tuple[int, int]) -> None:
        super().__init__()
        self._denoiser, self._pick = (denoiser,), pick
        half = torch.full((2,), 0.5, dtype=torch.float64)
        self.event, self.attributes = denoiser.event, (Attribute(a.name, tuple(a.values[k] for k in pick), half),)
        self.outputs: list[Tensor] = []

    def means_by_value(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], attribute: str
    ) -> Float[Tensor, "values batch *event"]:
        """E[V | y, a] of both."""
        label = torch.tensor(self._pick, device=y.device).repeat_interleave(len(y))
        both = self._denoiser[0](torch.cat([y, y]), torch.cat([sigma, sigma]), {attribute: label})
        self.outputs.append(both.double().reshape(2, *y.shape))
        return self.outputs[-1]

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """The denoiser's output, with the index among the two translated."""
        index = {n: torch.tensor(self._pick, device=y.device)[k] for n, k in (known or {}).items()}
        result: Tensor = self._denoiser[0](y, sigma, index or None)
        return result
