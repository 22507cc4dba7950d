r"""Which draws and levels to measure gaps at: an allocation of network calls, made from a pilot.

.. math:: I(A; Y_\sigma) = \int_{\ln\sigma}^\infty \frac{E\|D_A - D\|^2}{\sigma'^2}\, d\ln\sigma'

is a mean over levels, values and noises, and which of them to measure is free (:mod:`sigmascope.information.choice`).
Over levels the choice follows the pilot's standard deviations (Neyman); at a level it follows a
:class:`~sigmascope.information.importance.Surrogate`, as far as the pilot bears it out.  Each attribute has as many
draws as it needs, where it needs them.

Above the last cell of levels the rest of the integral is a cell as well.  In the signal-to-noise ratio the integrand is
almost a straight line there, so it is that of the middle, :math:`\sigma_{top} = \sqrt2\,\sigma_{tail}`:

.. math:: \tfrac12 \int_0^{\lambda_{tail}} E\|D_A - D\|^2\, d\lambda \approx
          \tfrac12 \lambda_{tail}\, E\|D_A - D\|^2(\sigma_{top}) = E\|D_A - D\|^2 / \sigma_{top}^2,

with an error of third order in :math:`\lambda_{tail}`: a cell of width 1 in :math:`\ln\sigma`.

References: Neyman (1934); Franzese et al. (2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sigmascope.core import InputError, generator
from sigmascope.information import roulette
from sigmascope.information.choice import SURVEY, USE, Allocation, Chosen, candidates, likelihood, widths
from sigmascope.information.importance import ITEMS, Draw, Surrogate

REPLICATES = 32
CANDIDATES = 16  # for one that is measured
_HELD = 1 << 25  # numbers of the candidates of a replicate, at most
_CELL = 0.2  # width in ln sigma at most
_SURVEYED, _MOST_SURVEYED = 256, 2048  # draws in a cell, without calls; more of a small set
# Shares of the chance of a draw that do not follow what is expected of it, the power of that with which the rest does,
# and how much better than with the lower power it has to be.
_WAYS = ((1.0, 1.0, 1.0), (0.3, 1.0, 1.0), (0.1, 1.0, 1.0), (0.3, 2.0, 1.2), (0.1, 2.0, 1.2), (0.05, 2.0, 1.2))
_PILOT_TRUST = 0.3
_PILOT_EVEN = 0.5  # share of the pilot that is even over levels; the rest goes where gaps are expected
_SMOOTH, _FAR = 0.3, 1.0  # in ln sigma, of moments and of how far a guess is trusted
_FALL = 2.0  # of a standard deviation below a level, at most, as a power of sigma
_FLOOR = 0.05  # of the mean standard deviation over levels
_OFFERED = 0.15  # of the variance that is left to the candidates
_LEAST = 0.1  # of a second moment that spread within cells is, at least
FEWEST = 8  # of an attribute in a replicate


@dataclass(frozen=True, eq=False)
class Survey:
    """What is expected, before any call.

    Args:
        pilot: the allocation of the pilot.
        size: what is expected of an even sample of each cell, over its scale, shape (attributes, cells, draws).
        most: candidates that can be held at a time.
    """

    pilot: Allocation
    size: Float[np.ndarray, "attributes cells draws"]
    most: int

    def mean(self, k: int, power: Float[np.ndarray, " cells"] | float) -> Float[np.ndarray, " cells"]:
        """Of a power of the k-th attribute's size, in each cell."""
        return (self.size[k] ** np.reshape(power, (-1, 1))).mean(1)


def survey(
    surrogate: Surrogate, draw: Draw, seed: int, sigma: Float[np.ndarray, " levels"], top: float | None, pilot: int
) -> Survey:
    """The allocation of the pilot; no calls.

    Args:
        pilot: draws of each attribute in it.

    Raises: InputError for a top that is below the first level.
    """
    least = np.sqrt(2.0) * sigma[0]
    if top is None:  # there the second term of the series in 1/sigma² is at most 0.0006 nats, the third far less
        top = max(least, np.sqrt(40.0 * surrogate.frobenius))
    if not np.isfinite(top) or top < least * (1 - 1e-9):
        raise InputError(f"top is {top:g}: expected at least 1.4142 times the first level, {least:g}; or leave it out")
    high, low = np.log(top) - 0.5 * np.log(2.0), np.log(sigma[-1])
    edges = np.linspace(high, low, int(np.ceil((high - low) / _CELL)) + 1)
    wide, cells, count = widths(edges), len(edges), len(surrogate.names)
    each = int(np.clip(_SURVEYED * ITEMS // surrogate.items, _SURVEYED, _MOST_SURVEYED))
    streams = [generator(seed, USE, SURVEY, i) for i in range(3)]
    v, labels, noise, level, _ = candidates(draw, streams, edges, np.full(cells, 1.0 / cells), each * cells)
    size = np.stack([surrogate.expected(v, labels, noise, level, k) for k in range(count)])
    size = np.sqrt(size).reshape(count, cells, each)
    middle = _middle(edges)
    scale = np.stack([_guarded(np.sqrt((x**2).mean(1)), middle) for x in size])
    size = size / scale[..., None]
    even, expected = wide / wide.sum(), scale**2 * wide
    mass = _PILOT_EVEN * even + (1.0 - _PILOT_EVEN) * expected / expected.sum(1, keepdims=True)
    replicates = max(1, pilot // 128)
    first = Allocation(
        seed,
        sigma,
        edges,
        mass,
        mass,
        np.full((count, cells), _PILOT_TRUST),
        scale,
        np.ones((count, cells)),
        size.mean(2),
        np.full(count, pilot // replicates),
        np.full(count, CANDIDATES * (pilot // replicates)),
        np.ones((count, cells)),
        np.full(count, np.inf),
        np.full(count, 2.0),
        replicates,
        np.zeros((0, count), dtype=int),
        np.zeros((count, len(sigma))),
    )
    return Survey(first, size, max(_HELD // v[0].numel(), CANDIDATES * FEWEST))


def fair(moment: Float[np.ndarray, "curves cells"], floor: float = 0.0) -> Float[np.ndarray, " curves"]:
    r"""Weights of the curves for which the largest variance :math:`\sum_j m_{kj}/q_j` is least.

    With :math:`q_j \propto \sqrt{\sum_k w_k m_{kj}}`, a curve of more variance than others gains weight until none can.

    Args:
        moment: second moments times squared widths.
        floor: least share of the mean chance that any cell has.
    """
    weights = np.full(len(moment), 1.0 / len(moment))
    for _ in range(60 if len(moment) > 1 else 0):
        share = np.sqrt(weights @ moment) + 1e-300
        share = np.maximum(share, floor * share.mean())
        variance = (moment / (share / share.sum())).sum(1)
        weights = weights * (variance / max(variance.max(), 1e-300)) ** 0.5
        weights /= weights.sum()
    return weights


def allocate(
    found: Survey,
    chosen: Sequence[Chosen],
    gaps: Sequence[Float[np.ndarray, "goals draws"]],
    doubts: Sequence[Float[np.ndarray, " draws"]],
    *,
    share: float = 0.0,
    target_stderr: float | None = None,
    budget: int | None = None,
) -> Allocation:
    """The allocation that the pilot advises.

    Args:
        found: with the pilot's own.
        chosen: draws of the pilot's replicates.
        gaps: over sigma squared, of the draws of each attribute, each (goals, draws).
        doubts: of the model's own guess in the true value, at the same draws
            (:func:`~sigmascope.information.roulette.doubted`).
        share: of such a guess in the cost of a call; 0 where it makes none.
        target_stderr: largest standard error of any curve of ``gaps`` at any level, nats.
        budget: network calls, the pilot's among them.

    Raises: InputError unless exactly one of the two is given, and positive, or for a budget that is too small.
    """
    check_aim(target_stderr, budget)
    pilot, count = found.pilot, len(found.pilot.draws)
    advice = [_advice(found, k, chosen, gaps[k], doubts[k]) for k in range(count)]
    mass, trust, power = (np.stack([getattr(a, x) for a in advice]) for x in ("mass", "trust", "power"))
    offered = np.stack([0.5 * (a.plain + a.mass) for a in advice])
    above = np.append(pilot.edges[:-1], np.inf) > np.log(pilot.sigma)[:, None] + 1e-9
    wide = widths(pilot.edges)
    # Variances of one measured draw, of one about what its size says, of one candidate; (attributes, goals, levels).
    within, rest, among = (
        np.stack([(x / share * wide**2) @ above.T for x, share in zip(parts, shares, strict=True)])
        for parts, shares in (
            ([a.within for a in advice], mass),
            ([a.rest for a in advice], mass),
            ([a.among for a in advice], offered),
        )
    )
    rates = []
    for k, a in enumerate(advice):
        ratio = a.ratio * (a.mass / pilot.mass[k])[a.cell]
        alone = a.of / ratio * (wide / pilot.mass[k])[a.cell]
        expected = roulette.expected(doubts[k], a.doubt[a.cell], alone, (a.mass / wide)[a.cell])
        level = a.mean[a.cell] * (wide / a.mass)[a.cell]
        rates.append(roulette.best_rate(gaps[k] * alone, expected, level, ratio, float(rest[k].max()), share))
    rate, more, cost = np.array(rates).T
    rest = rest + more[:, None, None]

    def variance(draws: np.ndarray) -> np.ndarray:
        """Of one draw; the more there are in a cell, the less of what their sizes say is left to chance."""
        cells = 1.0 / np.maximum(1.0, draws * (mass**2).sum(1)) ** 2
        return rest + np.maximum(within - rest, 0.0) * cells[:, None, None]

    def needed(times: float, parts: int = 1) -> np.ndarray:
        """Draws for which measured draws leave no more than their share of the variance 1/times."""
        low, high = np.zeros(count), np.log(np.maximum(within, rest).max((1, 2)) * times / (1.0 - _OFFERED) + 1.0)
        for _ in range(60):
            middle = 0.5 * (low + high)
            enough = variance(np.exp(middle) / parts).max((1, 2)) * times <= (1.0 - _OFFERED) * np.exp(middle)
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.exp(high)

    def offered_to(draws: np.ndarray) -> np.ndarray:
        return np.maximum(np.ceil(among.max((1, 2)) * times / _OFFERED).astype(int), CANDIDATES * draws)

    # What cannot be held at a time is measured in parts.
    spent, parts = pilot.calls, 1
    if target_stderr is not None:
        times = 1.0 / (target_stderr**2 * REPLICATES)
        for _ in range(8):
            draws = np.maximum(FEWEST, np.ceil(needed(times, parts))).astype(int)
            parts = max(parts, int(np.ceil(offered_to(draws).max() / found.most)))
    else:
        # What a replicate may cost; where roulette is played its calls are known in the mean alone.
        left = (float(budget or 0) - spent) / REPLICATES * (0.95 if np.isfinite(rate).any() else 1.0)
        low, high = 0.0, max(left, 1.0) / (rest.max((1, 2)).min() + 1e-300)
        for _ in range(100):
            times = 0.5 * (low + high)
            low, high = (times, high) if needed(times) @ cost <= left else (low, times)
        times = low
        draws = np.maximum(FEWEST, np.floor(needed(times))).astype(int)
        if draws @ cost > left:  # too few for shares: the same of each
            draws = np.full(count, int(left // cost.sum()))
        if draws.min() < FEWEST:
            least = spent + np.ceil(REPLICATES * FEWEST * 2 * count / 0.95)
            raise InputError(f"budget is {budget} network calls, {spent:g} for the pilot: pass at least {least:g}")
        parts = max(1, min(int(np.ceil(offered_to(draws).max() / found.most)), int(draws.min())))
    offers = offered_to(draws)
    each = variance(draws / parts) / draws[:, None, None] + among / offers[:, None, None]
    draws, offers = np.maximum(draws // parts, 1), np.maximum(offers // parts, CANDIDATES)
    return replace(
        pilot,
        offered=offered,
        mass=mass,
        trust=trust,
        power=power,
        mean=np.stack([found.mean(k, x) for k, x in enumerate(power)]),
        draws=draws,
        candidates=offers,
        doubt=np.stack([a.doubt for a in advice]),
        rate=rate,
        cost=cost,
        replicates=REPLICATES * parts,
        parts=parts,
        predicted=np.sqrt(each / REPLICATES).reshape(-1, len(pilot.sigma)),
        pilot_calls=spent,
    )


@dataclass(frozen=True)
class _Advice:
    """Of one attribute: shares of cells, trust and power there, and second moments in the cells, (goals, cells).

    Of the pilot's draws: their cells, of how many each was chosen, and how much likelier trust makes it within a cell.
    """

    mass: np.ndarray
    plain: np.ndarray
    trust: np.ndarray
    power: np.ndarray
    doubt: np.ndarray
    mean: np.ndarray
    within: np.ndarray
    rest: np.ndarray
    among: np.ndarray
    cell: np.ndarray
    of: np.ndarray
    ratio: np.ndarray


def _advice(
    found: Survey,
    k: int,
    chosen: Sequence[Chosen],
    gaps: Float[np.ndarray, "goals draws"],
    doubt: Float[np.ndarray, " draws"],
) -> _Advice:
    pilot = found.pilot
    cell, size, weight = (
        np.concatenate([getattr(c, x)[c.attribute == k] for c in chosen]) for x in ("cell", "size", "weight")
    )
    middle, wide, scale = _middle(pilot.edges), widths(pilot.edges), pilot.scale[k] ** 2
    near = np.exp(-0.5 * ((middle[:, None] - middle[cell]) / _SMOOTH) ** 2) + 1e-12
    near /= near.sum(1, keepdims=True)
    # Of how many draws, in the mean over its cell, a draw of the pilot was chosen.
    of = weight * pilot.draws[k] * pilot.mass[k, cell] / wide[cell]
    # In parts of what is expected: what changes from level to level is not taken for spread.
    gaps = gaps / scale[cell]
    mean, second = near @ (gaps * of).T, near @ (gaps**2 * of).T
    # How much a guess helped is known as far as several draws bear it out; for the rest it is taken to be idle.
    each = near[:, None] * (gaps**2 * of)
    unsure = 1.0 / (1.0 + each.sum(2) ** 2 / np.maximum((each**2).sum(2), 1e-300))
    moments, seen = [], []
    for trust, power, _ in _WAYS:
        share = of / likelihood(size, trust, power, found.mean(k, power)[cell])
        # Cauchy–Schwarz, of a small sample
        seen.append(np.maximum(near @ (gaps**2 * share).T, mean**2))
        moments.append(np.maximum((1 - unsure) * seen[-1] + unsure * (near @ share)[:, None] * second, mean**2))
    # Levels are in order, of candidates and of those chosen; what is left is the spread within cells, of both.
    spread = [np.maximum(x - mean**2, _LEAST * x) for x in moments]
    first = fair(spread[0].T * (scale * wide) ** 2, _FLOOR)
    # Cells count by their share of the standard deviation; a guess is as good a little above and below.
    idle = spread[0] @ first
    far = np.exp(-0.5 * ((middle[:, None] - middle) / _FAR) ** 2) * np.sqrt(idle) * scale * wide
    best = (
        far @ np.stack([margin * (x @ first) / idle for x, (*_, margin) in zip(spread, _WAYS, strict=True)], 1)
    ).argmin(1)
    trusts, powers, _ = np.array(_WAYS)[best].T
    moment, seen_moment = (
        np.take_along_axis(np.stack(x), best[None, :, None], 0)[0].T * scale**2 for x in (moments, seen)
    )
    weights = fair(moment * wide**2, _FLOOR)
    share = _guarded(np.sqrt(weights @ moment), middle) * wide
    plain = _guarded(np.sqrt(weights @ second.T) * scale, middle) * wide
    within = np.maximum(seen_moment - mean.T**2 * scale**2, _LEAST * seen_moment)
    lik = likelihood(size, trusts[cell], powers[cell], found.mean(k, powers)[cell])
    about = ((near * (of / lik))[:, None] * _rest(size**2, gaps, near * of) ** 2).sum(2).T * scale**2
    rest = np.minimum(np.maximum(about, _LEAST * seen_moment), within)
    among = np.maximum(second - mean**2, 0.0).T * scale**2
    mean_doubt = near @ (doubt * of) / (near @ of)
    level = (near @ (np.abs(gaps).mean(0) * of)) * scale
    ratio = lik / likelihood(size, pilot.trust[k, cell], pilot.power[k, cell], pilot.mean[k, cell])
    return _Advice(
        share / share.sum(),
        plain / plain.sum(),
        trusts,
        powers,
        mean_doubt,
        level,
        within,
        rest,
        among,
        cell,
        of,
        ratio,
    )


def _rest(
    size: Float[np.ndarray, " draws"], gaps: Float[np.ndarray, "goals draws"], weight: Float[np.ndarray, "cells draws"]
) -> Float[np.ndarray, "cells goals draws"]:
    """Gaps less their regression on the size in each cell."""
    weight = weight / weight.sum(1, keepdims=True)
    across, off = size - (weight @ size)[:, None], gaps - (weight @ gaps.T)[..., None]
    slope = np.einsum("cd,cd,cgd->cg", weight, across, off) / np.maximum((weight * across**2).sum(1), 1e-300)[:, None]
    return off - slope[..., None] * across[:, None]


def check_aim(target_stderr: float | None, budget: int | None) -> None:
    """Exactly one aim, and positive.

    Raises: InputError.
    """
    aims = [x for x in (target_stderr, budget) if x is not None]
    if len(aims) != 1 or not aims[0] > 0:
        raise InputError(f"target_stderr is {target_stderr} and budget {budget}: pass one of them, greater than 0")


def _middle(edges: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    """The level, as ln sigma, that stands for each cell."""
    return np.append((edges[:-1] + edges[1:]) / 2, edges[0] + 0.5 * np.log(2.0))


def _guarded(deviation: Float[np.ndarray, " cells"], middle: Float[np.ndarray, " cells"]) -> np.ndarray:
    """Standard deviations that a pilot too small to see rare draws does not starve.

    As noise falls, gaps become rarer and larger: the deviation outlives the mean, and falls no faster than some power.
    """
    above = np.maximum(middle[None] - middle[:, None], 0.0)
    kept = np.where(middle[None] >= middle[:, None], deviation[None] * np.exp(-_FALL * above), 0.0).max(1)
    return np.maximum(kept, max(_FLOOR * float(kept.mean()), 1e-300))
