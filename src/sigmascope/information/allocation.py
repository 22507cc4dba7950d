r"""Which draws and levels to measure a gap at: an allocation of network calls, made from a pilot.

.. math:: I(A; Y_\sigma) = \int_{\ln\sigma}^\infty \frac{E\|D_A - D\|^2}{\sigma'^2}\, d\ln\sigma'
          = \frac1M \sum_{c \le M} \frac{f_c}{q(\ln\sigma_c)} = \frac1M \sum_{c\ \mathrm{chosen}}
            \frac{f_c}{q(\ln\sigma_c)\,\pi_c}

in expectation: of M candidates (a level, a value, its noise), m are chosen with likelihoods :math:`\pi_c` in proportion
to what is expected of them, and only these cost calls.  Over levels the choice follows the pilot's standard deviations
(Neyman); at a level it follows a :class:`~sigmascope.information.importance.Surrogate`, as far as the pilot bears it
out.

Above the last cell of levels the rest of the integral is a cell as well.  In the signal-to-noise ratio the integrand is
almost a straight line there, so it is that of the middle, :math:`\sigma_{top} = \sqrt2\,\sigma_{tail}`:

.. math:: \tfrac12 \int_0^{\lambda_{tail}} E\|D_A - D\|^2\, d\lambda \approx
          \tfrac12 \lambda_{tail}\, E\|D_A - D\|^2(\sigma_{top}) = E\|D_A - D\|^2 / \sigma_{top}^2,

with an error of third order in :math:`\lambda_{tail}`: a cell of width 1 in :math:`\ln\sigma`.

References: Neyman (1934); Hansen & Hurwitz (1943); Horvitz & Thompson (1952); Franzese et al. (2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import InputError, generator
from sigmascope.information.importance import ITEMS, Draw, Surrogate

USE = 7  # of a seed, apart from other uses
SAMPLE, SURVEY, PILOT, MAIN = range(4)
REPLICATES = 32
CANDIDATES = 16  # for one that is measured
_CELL = 0.2  # width in ln sigma at most
_SURVEYED, _MOST_SURVEYED = 256, 2048  # draws in a cell, without calls; more of a small set
_TRUSTS = (0.1, 0.3, 0.6, 1.0)  # shares of the chance of a draw that do not follow what is expected of it
_PILOT_TRUST = 0.3
_SMOOTH = 0.3  # in ln sigma
_FALL = 2.0  # of a standard deviation below a level, at most, as a power of sigma
_FLOOR = 0.05  # of the mean standard deviation over levels
_FEWEST = 8  # in a replicate


@dataclass(frozen=True, eq=False)
class Allocation:
    """Where calls go; two models measured with one allocation are measured on the same draws.

    Args:
        seed: of all streams.
        sigma: decreasing levels of the curves, shape (levels,).
        edges: of the cells, ln sigma, decreasing, shape (cells,); the last of the cells is the tail above ``edges[0]``.
        mass: share of the measured draws in each cell, sums to one, shape (cells,).
        offered: the same of the candidates.
        trust: in each cell, the share of a draw's chance that does not follow what is expected of it, shape (cells,).
        scale: root mean square in each cell of what is expected, shape (cells,).
        mean: mean in each cell of what is expected, over the scale, shape (cells,).
        weights: of the abstractions in what is expected, shape (abstractions,).
        size: draws measured in a replicate.
        replicates: independent ones; more of them leave the earlier ones as they are.
        predicted: standard errors that the pilot predicts of the goals' curves, nats, shape (curves, levels).
        pilot_calls: network calls of the pilot.
    """

    seed: int
    sigma: Float[np.ndarray, " levels"]
    edges: Float[np.ndarray, " cells"]
    mass: Float[np.ndarray, " cells"]
    offered: Float[np.ndarray, " cells"]
    trust: Float[np.ndarray, " cells"]
    scale: Float[np.ndarray, " cells"]
    mean: Float[np.ndarray, " cells"]
    weights: Float[np.ndarray, " abstractions"]
    size: int
    replicates: int
    predicted: Float[np.ndarray, "curves levels"]
    pilot_calls: int = 0

    @property
    def calls(self) -> int:
        """Network calls of the measurement, the pilot's not counted."""
        return self.size * self.replicates * (1 + len(self.weights))

    def likelihood(self, cell: np.ndarray, size: np.ndarray, trust: float | None = None) -> np.ndarray:
        """How much likelier than others of its cell a draw of this size is chosen: 1 in the mean over the cell."""
        even = self.trust[cell] if trust is None else np.full(len(cell), trust)
        return (even + (1.0 - even) * size) / (even + (1.0 - even) * self.mean[cell])

    def state(self) -> dict[str, np.ndarray]:
        """Arrays to store."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> Allocation:
        """The allocation that was stored.

        Raises: InputError if an array is missing.
        """
        missing = [f.name for f in fields(cls) if f.name not in state]
        if missing:
            raise InputError(f"an allocation came without {', '.join(missing)}: pass what state() gave")
        whole = {n: int(state[n]) for n in ("seed", "size", "replicates", "pilot_calls")}
        return cls(**{f.name: np.asarray(state[f.name]) for f in fields(cls)} | whole)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Draws to be measured: their values, levels, weights of the gap over sigma squared, and more about each.

    Args:
        weight: 1/(M q pi), so that the sum of weight times gap/sigma² is the integral, shape (draws,).
        cell: of each.
        size: what is expected of each over the scale of its cell, shape (draws,).
    """

    v: Tensor
    labels: Mapping[str, Tensor]
    noise: Tensor
    sigma: Float[Tensor, " draws"]
    weight: Float[np.ndarray, " draws"]
    cell: np.ndarray
    size: Float[np.ndarray, " draws"]


def widths(edges: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    """Widths of the cells in ln sigma; the tail is worth 1."""
    return np.append(edges[:-1] - edges[1:], 1.0)


def choose(
    surrogate: Surrogate, draw: Draw, allocation: Allocation, use: int, replicate: int, candidates: int = CANDIDATES
) -> Chosen:
    """The draws of a replicate, from streams that depend on the seed, the use and the replicate alone."""
    a, size = allocation, allocation.size
    count = size * candidates
    streams = [generator(a.seed, USE, use, replicate, k) for k in range(3)]
    v, labels = draw(count, streams[0])
    noise = torch.randn(v.shape, generator=streams[1], dtype=torch.float64)
    uniform = torch.rand(2, count, generator=streams[2], dtype=torch.float64).numpy()
    # Levels in order, one in each of as many parts of equal mass.
    place, ends = (np.arange(count) + uniform[0]) / count, np.cumsum(a.offered)
    cell = np.minimum(np.searchsorted(ends, place, side="right"), len(ends) - 1)
    inside = np.clip((ends[cell] - place) / a.offered[cell], 0.0, 1.0)
    tail, lower = cell == len(ends) - 1, np.append(a.edges[1:], a.edges[0])
    wide = widths(a.edges)
    log_sigma = np.where(tail, a.edges[0] + 0.5 * np.log(2.0), lower[cell] + inside * np.where(tail, 0.0, wide[cell]))
    sigma = torch.from_numpy(np.exp(log_sigma))
    expected = np.sqrt(a.weights @ surrogate.expected(v, labels, noise, sigma) ** 2) / a.scale[cell]
    likelihood = a.likelihood(cell, expected) * a.mass[cell] / a.offered[cell]
    chance = _capped(likelihood, size)
    picked = np.searchsorted(np.cumsum(chance), np.arange(size) + uniform[1, 0], side="right").clip(max=count - 1)
    weight = wide[cell] / (a.offered[cell] * count * chance)
    where = torch.from_numpy(picked)
    return Chosen(
        v[where],
        {n: x[where] for n, x in labels.items()},
        noise[where],
        sigma[where],
        weight[picked],
        cell[picked],
        expected[picked],
    )


def _capped(chance: Float[np.ndarray, " candidates"], size: int) -> np.ndarray:
    """Chances in proportion, at most 1 each, that sum to a size."""
    sure = np.zeros(len(chance), dtype=bool)
    while True:
        left = size - sure.sum()
        scaled = np.where(sure, 1.0, chance * left / max(chance[~sure].sum(), 1e-300))
        more = scaled > 1.0
        if not more.any() or left <= 0:
            return np.minimum(scaled, 1.0)
        sure |= more


def survey(
    surrogate: Surrogate, draw: Draw, seed: int, sigma: Float[np.ndarray, " levels"], top: float | None, pilot: int
) -> Allocation:
    """The allocation of the pilot, even over levels; no calls.

    Raises: InputError for a top that is below the first level.
    """
    least = np.sqrt(2.0) * sigma[0]
    if top is None:  # there the second term of the series in 1/sigma² is at most 0.0006 nats, the third far less
        top = max(least, np.sqrt(40.0 * surrogate.frobenius))
    if not np.isfinite(top) or top < least * (1 - 1e-9):
        raise InputError(f"top is {top:g}: expected at least 1.4142 times the first level, {least:g}; or leave it out")
    high, low = np.log(top) - 0.5 * np.log(2.0), np.log(sigma[-1])
    edges = np.linspace(high, low, int(np.ceil((high - low) / _CELL)) + 1)
    wide = widths(edges)
    each = int(np.clip(_SURVEYED * ITEMS // surrogate.items, _SURVEYED, _MOST_SURVEYED))
    flat, count = np.ones(len(edges)), len(surrogate.names)
    none = Allocation(
        seed,
        sigma,
        edges,
        flat / len(edges),
        flat / len(edges),
        flat,
        flat,
        flat,
        np.ones(count),
        each * len(edges),
        1,
        np.zeros((count, len(sigma))),
    )
    # As many candidates as are chosen, with nothing expected: a plain even sample of each cell.
    seen = choose(surrogate, draw, none, SURVEY, 0, 1)
    size = surrogate.expected(seen.v, seen.labels, seen.noise, seen.sigma)
    by_cell = size.reshape(count, len(edges), each)
    middle = _middle(edges)
    rms = np.stack([_guarded(np.sqrt((x**2).mean(1)), middle) for x in by_cell])
    weights = fair(rms**2 * wide**2, floor=_FLOOR)
    together = np.sqrt(np.einsum("k,kcd->cd", weights, by_cell**2))
    scale = _guarded(np.sqrt((together**2).mean(1)), middle)
    replicates = max(1, pilot // 128)
    return Allocation(
        seed,
        sigma,
        edges,
        wide / wide.sum(),
        wide / wide.sum(),
        np.full(len(edges), _PILOT_TRUST),
        scale,
        (together / scale[:, None]).mean(1),
        weights,
        pilot // replicates,
        replicates,
        np.zeros((count, len(sigma))),
    )


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
    pilot: Allocation,
    chosen: Sequence[Chosen],
    gaps: Float[np.ndarray, "curves draws"],
    *,
    target_stderr: float | None = None,
    budget: int | None = None,
) -> Allocation:
    """The allocation that the pilot advises.

    Args:
        pilot: its own.
        chosen: draws of the pilot's replicates.
        gaps: over sigma squared, of those draws.
        target_stderr: largest standard error of any curve of ``gaps`` at any level, nats.
        budget: network calls, the pilot's among them.

    Raises: InputError unless exactly one of the two is given, and positive, or for a budget that is too small.
    """
    check_aim(target_stderr, budget)
    cell, size = np.concatenate([c.cell for c in chosen]), np.concatenate([c.size for c in chosen])
    middle, wide = _middle(pilot.edges), widths(pilot.edges)
    near = np.exp(-0.5 * ((middle[:, None] - middle[cell]) / _SMOOTH) ** 2) + 1e-12
    near /= near.sum(1, keepdims=True)
    # Of how many draws, in the mean over its cell, a draw of the pilot was chosen.
    of = np.concatenate([c.weight for c in chosen]) * pilot.size * pilot.mass[cell] / wide[cell]
    mean, second = near @ (gaps * of).T, near @ (gaps**2 * of).T
    # How much a guess helped is known as far as several draws bear it out; for the rest it is taken to be idle.
    each = near[:, None] * (gaps**2 * of)
    doubt = 1.0 / (1.0 + each.sum(2) ** 2 / np.maximum((each**2).sum(2), 1e-300))
    moments, seen = [], []
    for t in _TRUSTS:
        share = of / pilot.likelihood(cell, size, t)
        seen.append(near @ (gaps**2 * share).T)
        moments.append((1 - doubt) * seen[-1] + doubt * (near @ share)[:, None] * second)
    by_trust = np.maximum(np.stack(moments), (mean**2)[None])  # Cauchy–Schwarz, of a small sample
    first = fair((by_trust[-1].T) * wide**2, _FLOOR)
    best = (by_trust @ first).argmin(0)
    moment = np.take_along_axis(by_trust, best[None, :, None], 0)[0].T
    weights = fair(moment * wide**2, _FLOOR)
    deviation = _guarded(np.sqrt(weights @ moment), middle)
    mass = deviation * wide / (deviation * wide).sum()
    plain = _guarded(np.sqrt(weights @ second.T), middle) * wide
    offered = 0.5 * (plain / plain.sum() + mass)
    seen_moment = np.take_along_axis(np.maximum(np.stack(seen), mean**2), best[None, :, None], 0)[0].T
    # Levels are in order, of candidates and of those chosen; what is left is the spread within cells, of both.
    within = np.maximum(seen_moment - mean.T**2, 0.1 * seen_moment) / mass
    within += np.maximum(second.T - mean.T**2, 0.0) / (CANDIDATES * offered)
    above = np.append(pilot.edges[:-1], np.inf) > np.log(pilot.sigma)[:, None] + 1e-9
    variance = (within * wide**2) @ above.T
    spent = pilot.calls
    if target_stderr is not None:
        count = int(np.ceil(variance.max() / target_stderr**2))
    else:
        each = 1 + len(pilot.weights)
        count = (int(budget or 0) - spent) // each
        if count < REPLICATES * _FEWEST:
            least = spent + REPLICATES * _FEWEST * each
            raise InputError(f"budget is {budget} network calls, {spent} for the pilot: pass at least {least}")
    per = max(_FEWEST, -(-count // REPLICATES) if target_stderr is not None else count // REPLICATES)
    return Allocation(
        pilot.seed,
        pilot.sigma,
        pilot.edges,
        mass,
        offered,
        np.asarray(_TRUSTS)[best],
        pilot.scale,
        pilot.mean,
        pilot.weights,
        per,
        REPLICATES,
        np.sqrt(variance / (per * REPLICATES)),
        spent,
    )


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
