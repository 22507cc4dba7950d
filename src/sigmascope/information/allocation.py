r"""Which draws a score gap is measured at: importance sampling among many candidates, as a pilot advises.

**The integral.**  With f = gap/σ² of a draw of value, label, noise and level x = ln σ,

.. math:: I(A; Y_\sigma) = \int_{\ln\sigma}^\infty E f(x)\, dx .

Levels are cut into cells j of width :math:`w_j` in ln σ.  Above the highest cell the gap is almost a straight line in
:math:`\lambda = \sigma^{-2}`, so its integral is its value in the middle, :math:`\tfrac12\int_0^{\lambda}
E\|D_A - D\|^2 d\lambda' \approx \tfrac12\lambda\, E\|D_A - D\|^2(\lambda/2) = E f(\sqrt2\,\sigma)`: one more cell, of
width 1 and of one level.

**A column** is one unbiased estimate of the whole curve.  M candidates are drawn, a share :math:`o_j` of them in cell
j, and n are measured, candidate c with the inclusion probability :math:`\pi_c` (above 1: so many times on average).
The Horvitz–Thompson estimate

.. math:: \hat I(\sigma) = \sum_{c\ \mathrm{measured},\ \sigma_c \ge \sigma} \frac{w_{j(c)}}{o_{j(c)} M \pi_c}\, f_c

has the right mean whatever the probabilities.  Columns are independent and have one law, so their spread gives the
standard error of their mean, however draws within a column depend on each other.  They do: the choice is systematic,
from one random start, in the order of cell and then of the gap e that a :class:`Surrogate` expects (Madow 1949).  A
column so has its share of every cell and of every size of gap, and differences between cells add no variance.

**The probabilities** are :math:`\pi_c = n\,m_j h_c / (o_j M)` with :math:`E_j h = 1`: a share :math:`m_j` of the draws
is in cell j, and within it a candidate is :math:`h_c` times likelier than the mean one.  A measured draw of cell j then
counts :math:`w_j f / (n m_j h)`.  Its square, times the :math:`n m_j` draws of the cell, less the squared mean that a
systematic choice does not vary, gives a variance of at most about

.. math:: \frac1n \sum_j \frac{w_j^2 s_j^2}{m_j}, \qquad s_j^2 = E_j[f^2/h] - E_j[f]^2 .

It is least for :math:`m_j \propto w_j s_j`, and is then :math:`(\sum_j w_j s_j)^2/n` (Neyman 1934).  Over h,
:math:`E_j[f^2/h]` is least for :math:`h \propto \sqrt{E[f^2 \mid e]}` (Cauchy–Schwarz), which is e where the surrogate
is right.  Where it is wrong a defence δ keeps the weights 1/h below 1/δ (Hesterberg 1995):

.. math:: h = \delta_j + (1 - \delta_j)\, e / E_j e .

**The pilot**, on draws of its own that no curve uses, estimates :math:`E_j f` and :math:`E_j[f^2/h]` for each δ.

References: Horvitz & Thompson (1952); Stein (1945) on samples in two stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigmascope.core import InputError, generator
from sigmascope.information.importance import Draw, Surrogate
from sigmascope.streams import Use

SURVEY, PILOT, MAIN = range(1, 4)  # what a stream of random numbers is for; MAIN + k: round k
REPLICATES = 32  # columns: Student's t of 31 is within 4 % of the normal law's, and skewness can be seen
FEWEST = 8  # draws of an attribute in a column: of fewer, most columns may be without a large gap
_CELL = 0.2  # largest width in ln σ: within it a gap that goes as σ² changes by half
_SURVEYED = 512  # draws in a cell that estimate E e there, without network calls
_DEFENCES = (1.0, 0.3, 0.1, 0.05)  # the pilot chooses among them
_PILOT_DEFENCE = 0.3  # nothing has confirmed the surrogate yet
_PILOT_EVEN = 0.5  # share of the pilot that is even in ln σ, in case there are gaps where none are expected
_SMOOTH, _FAR = 0.3, 1.0  # widths in ln σ of the kernels that smooth the pilot's moments, and the choice of δ
_FALL, _FLOOR = 2.0, 0.05  # see _guarded
_LEAST = 0.1  # share of a second moment that counts as variance at least: a pilot's own may be too small by chance
_FIRST = 0.5  # first round, as a share of what the bound on the variance asks for: the choice in order of e does better
_OFFERED = 0.15  # share of the variance that the choice of candidates may add
_RATIO = 16  # least number of candidates for each draw: importance sampling can then gain as much
_HELD = 1 << 25  # most numbers of a column's candidates, 256 MB; larger measurements take several rounds
_ROUNDS = 64  # most rounds: errors that still do not fall are those of a law without a variance


@dataclass(frozen=True, eq=False)
class Allocation:
    """Where network calls go; two models measured with one allocation are measured on the same draws."""

    seed: int  # of all streams
    sigma: Float[np.ndarray, " levels"]  # of the curves, decreasing
    edges: Float[np.ndarray, " cells"]  # ln σ, decreasing; the last of the cells is the one above edges[0]
    offered: Float[np.ndarray, "attributes cells"]  # o: shares of the candidates, sum to one
    share: Float[np.ndarray, "attributes cells"]  # m: shares of the draws, sum to one
    defence: Float[np.ndarray, "attributes cells"]  # δ
    expected: Float[np.ndarray, "attributes cells"]  # E e
    ratio: Float[np.ndarray, " attributes"]  # candidates for each draw, M/n
    rounds: Int[np.ndarray, "rounds attributes"]  # draws n in each column
    columns: int  # more of them leave the earlier ones as they are
    pilot_calls: int = 0

    @property
    def calls(self) -> int:
        """Network calls of all rounds, without the pilot's: two a draw."""
        return 2 * self.columns * int(self.rounds.sum())

    @property
    def measurements(self) -> int:
        """Columns of all rounds."""
        return self.columns * len(self.rounds)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays to store."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Allocation:
        """The stored allocation; an InputError if an array is missing."""
        if missing := [f.name for f in fields(cls) if f.name not in state]:
            raise InputError(f"an allocation came without {', '.join(missing)}: pass what state() gave")
        whole = {n: int(state[n]) for n in ("seed", "columns", "pilot_calls")}
        return cls(**{f.name: np.asarray(state[f.name]) for f in fields(cls)} | whole)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Draws to be measured, shape (draws, ...): column, attribute, weight of f in the estimate, cell and e of each."""

    v: Tensor
    noise: Tensor
    sigma: Float[Tensor, " draws"]
    labels: Mapping[str, Tensor]
    column: Int[np.ndarray, " draws"]
    attribute: Int[np.ndarray, " draws"]
    weight: Float[np.ndarray, " draws"]
    cell: Int[np.ndarray, " draws"]
    expected: Float[np.ndarray, " draws"]


def choose(surrogate: Surrogate, draw: Draw, a: Allocation, use: int, columns: range) -> Chosen:
    """Draws of columns in the round ``use - MAIN``, or in the pilot; streams depend on seed, use and column alone."""
    parts, draws_of = [], a.rounds[max(use - MAIN, 0)]
    for column, k in product(columns, np.flatnonzero(draws_of).tolist()):
        *streams, last = (generator(a.seed, Use.GAPS, use, column, k, i) for i in range(4))
        draws, offered, count = int(draws_of[k]), a.offered[k], int(np.ceil(draws_of[k] * a.ratio[k]))
        v, labels, noise, sigma, cell = _candidates(draw, streams, a.edges, offered, count)
        expected = surrogate.expected(v, labels, noise, sigma, k)
        chance = a.share[k, cell] / offered[cell] * _likelihood(a.defence[k, cell], expected / a.expected[k, cell])
        chance *= draws / chance.sum()
        order = np.lexsort((expected, cell))
        at = np.arange(draws) + float(torch.rand(1, generator=last, dtype=torch.float64))
        picked = order[np.searchsorted(np.cumsum(chance[order]), at, side="right").clip(max=count - 1)]
        weight = (_cells(a.edges)[1] / offered)[cell[picked]] / (count * chance[picked])
        tensors = [x[picked] for x in (v, noise, sigma, *(labels[n] for n in surrogate.names))]
        parts.append((tensors, np.full(draws, column), np.full(draws, k), weight, cell[picked], expected[picked]))
    drawn, *arrays = zip(*parts, strict=True)
    v, noise, sigma, *known = (torch.cat(x) for x in zip(*drawn, strict=True))
    return Chosen(v, noise, sigma, dict(zip(surrogate.names, known, strict=True)), *map(np.concatenate, arrays))


def _candidates(
    draw: Draw, streams: Sequence[torch.Generator], edges: np.ndarray, offered: np.ndarray, count: int
) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor, np.ndarray]:
    """Values, labels, noises, levels stratified over the cells by their shares, and cells."""
    v, labels = draw(count, streams[0])
    noise = torch.randn(v.shape, generator=streams[1], dtype=v.dtype)
    place = (np.arange(count) + torch.rand(count, generator=streams[2], dtype=torch.float64).numpy()) / count
    ends = np.cumsum(offered)
    cell = np.minimum(np.searchsorted(ends, place, side="right"), len(ends) - 1)
    inside = np.clip((ends[cell] - place) / offered[cell], 0.0, 1.0)
    middle, wide = _cells(edges)
    lower, wide[-1] = np.append(edges[1:], middle[-1]), 0.0
    log_sigma = lower[cell] + inside * wide[cell]
    return v, labels, noise, torch.from_numpy(np.exp(log_sigma)), cell


def _likelihood(defence: np.ndarray | float, ratio: np.ndarray) -> np.ndarray:
    """h, from e over its mean in the cell."""
    return defence + (1.0 - defence) * ratio


def plan(
    surrogate: Surrogate, draw: Draw, seed: int, sigma: Float[np.ndarray, " levels"], top: float | None, draws: int
) -> Allocation:
    """The allocation of a pilot of so many draws of each attribute, from e alone, without network calls.

    Raises: InputError for a top that is too low.
    """
    least = np.sqrt(2.0) * sigma[0]
    if top is None:  # there the second term of the series in 1/σ² is at most 0.0006 nats, the third far less
        top = max(least, np.sqrt(40.0 * surrogate.frobenius))
    if not np.isfinite(top) or top < least * (1 - 1e-9):
        raise InputError(f"top is {top:g}: expected at least 1.4142 times the first level, {least:g}; or leave it out")
    high, low = np.log(top) - 0.5 * np.log(2.0), np.log(sigma[-1])
    edges = np.linspace(high, low, int(np.ceil((high - low) / _CELL)) + 1)
    (_, wide), cells, names = _cells(edges), len(edges), range(len(surrogate.names))
    streams = [generator(seed, Use.GAPS, SURVEY, i) for i in range(3)]
    v, labels, noise, level, _ = _candidates(draw, streams, edges, np.full(cells, 1.0 / cells), _SURVEYED * cells)
    mean = [surrogate.expected(v, labels, noise, level, k).reshape(cells, _SURVEYED).mean(1) for k in names]
    expected = np.stack([_guarded(np.sqrt(e), edges) ** 2 for e in mean])
    share = _PILOT_EVEN * wide / wide.sum() + (1.0 - _PILOT_EVEN) * expected * wide / (expected @ wide)[:, None]
    columns, defence = max(1, draws // 128), np.full(expected.shape, _PILOT_DEFENCE)
    ratio, rounds = np.full(len(names), float(_RATIO)), np.full((1, len(names)), draws // columns)
    return Allocation(seed, sigma, edges, share, share, defence, expected, ratio, rounds, columns)


def allocate(
    pilot: Allocation, chosen: Chosen, gaps: Float[np.ndarray, " draws"], target: float | None, budget: int | None
) -> Allocation:
    r"""The allocation that a pilot advises.

    With V the variance of one draw and :math:`V_c` that of one candidate, R columns of n draws and rn candidates have
    the standard error :math:`t^2 = (V/n + V_c/rn)/R`.  The candidates add the share ε of it for
    :math:`r = (1 - \epsilon) V_c / (\epsilon V)`, and then :math:`n = V / ((1 - \epsilon) R t^2)`.

    ``gaps`` are f of the pilot's draws, ``target`` is t in nats, and a budget of network calls includes the pilot's.

    Raises: InputError for a budget that is too small.
    """
    advice = [_advice(pilot, k, chosen, gaps) for k in range(len(pilot.share))]
    offered, share, defence = (np.stack([a[i] for a in advice]) for i in range(3))
    variance, of_candidates = np.array([a[3:] for a in advice]).T
    if target is not None:
        needed = _FIRST * variance / ((1.0 - _OFFERED) * REPLICATES * target**2)
        draws = np.maximum(np.ceil(needed), FEWEST).astype(int)
    else:  # draws in proportion to variances give all attributes the same error
        left = ((budget or 0) - pilot.calls) // (2 * REPLICATES) - FEWEST * len(share)
        if left < 0:
            least = least_calls(pilot)
            raise InputError(f"budget is {budget} network calls, {pilot.calls} for the pilot: pass at least {least}")
        draws = FEWEST + np.floor(left * variance / variance.sum()).astype(int)
    ratio = np.maximum(of_candidates / variance * (1.0 - _OFFERED) / _OFFERED, _RATIO)
    rounds = int(np.ceil((draws * ratio).max() / max(_HELD // chosen.v[0].numel(), _RATIO * FEWEST)))
    ends = np.arange(rounds + 1)[:, None] * draws // rounds
    return replace(
        pilot, offered=offered, share=share, defence=defence, ratio=ratio, rounds=np.diff(ends, axis=0),
        columns=REPLICATES, pilot_calls=pilot.calls,
    )  # fmt: skip


def least_calls(pilot: Allocation) -> int:
    """The fewest network calls of a measurement with this pilot, which are among them."""
    return pilot.calls + 2 * REPLICATES * FEWEST * len(pilot.share)


def _advice(
    pilot: Allocation, k: int, chosen: Chosen, gaps: Float[np.ndarray, " draws"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """For one attribute: offered, share, defence; the variance of one draw, and that of one candidate."""
    rows, edges = chosen.attribute == k, pilot.edges
    (middle, wide), cell, scale = _cells(edges), chosen.cell[rows], pilot.expected[k]
    near = np.exp(-0.5 * ((middle[:, None] - middle[cell]) / _SMOOTH) ** 2) + 1e-12
    near /= near.sum(1, keepdims=True)
    # f over E e: a trend in σ within the kernel is then not taken for variance.  The pilot chose with its own h, so
    # each of its draws counts 1/h, and weighted sums are means over cells.
    ratio, f = chosen.expected[rows] / scale[cell], gaps[rows] / scale[cell]
    weight = 1.0 / _likelihood(pilot.defence[k, cell], ratio)
    mean, square = near @ (f * weight), near @ (f**2 * weight)
    # E[f²/h] of a small sample is no less than E[f]² (Cauchy–Schwarz).
    second = np.stack([np.maximum(near @ (f**2 * weight / _likelihood(d, ratio)), mean**2) for d in _DEFENCES])
    spread = np.maximum(second - mean**2, _LEAST * second)
    # δ is the one of least Σ w s over the wider kernel, to which the standard error is proportional.
    far = np.exp(-0.5 * ((middle[:, None] - middle) / _FAR) ** 2) * wide * scale
    best = (np.sqrt(spread) @ far.T).argmin(0)
    least = np.sqrt(np.take_along_axis(spread, best[None], 0)[0])
    # Candidates are half where draws are, and half where their own variance asks for them.
    share, loose = (_guarded(x * scale, edges) * wide for x in (least, np.sqrt(square)))
    share, offered = share / share.sum(), 0.5 * (share / share.sum() + loose / loose.sum())
    variance = float(((wide * scale * least) ** 2 / share).sum())
    of_candidates = float(((wide * scale) ** 2 * np.maximum(square - mean**2, 0.0) / offered).sum())
    return offered, share, np.array(_DEFENCES)[best], max(variance, 1e-300), of_candidates


def further(a: Allocation, columns: Float[np.ndarray, "columns attributes levels"], target: float) -> Allocation | None:
    """The allocation with one more round, or None where the target is met.

    A pilot seldom meets the rarest of the large gaps, and then predicts too small an error.  Variances fall as 1/n, so
    with the standard error s that the n draws of a column gave and the target t, n (s²/t² − 1) more are needed.  That s
    decides when to stop makes it likelier to stop where rare gaps were missed; this moves the mean by a small part of
    t.
    """
    stderr = np.sqrt(columns.var(0, ddof=1).max(1) / len(columns))
    if stderr.max() <= target or len(a.rounds) >= _ROUNDS:
        return None
    wanted = np.ceil(a.rounds.sum(0) * ((stderr / target) ** 2 - 1.0))
    added = np.where(stderr > target, np.clip(wanted, FEWEST, np.maximum(a.rounds[0], FEWEST)), 0).astype(int)
    return replace(a, rounds=np.concatenate([a.rounds, added[None]]))


def _cells(edges: Float[np.ndarray, " cells"]) -> tuple[np.ndarray, np.ndarray]:
    """Middle and width of each cell in ln σ; the one above has a single level, and the width 1."""
    middle = np.append((edges[:-1] + edges[1:]) / 2, edges[0] + 0.5 * np.log(2.0))
    return middle, np.append(edges[:-1] - edges[1:], 1.0)


def _guarded(deviation: Float[np.ndarray, " cells"], edges: Float[np.ndarray, " cells"]) -> np.ndarray:
    """Standard deviations that leave draws where a small sample met no large gap.

    As noise falls gaps become rarer and larger, so the deviation falls later than the mean: it is taken to fall no
    faster than σ².  A twentieth of the mean deviation is the least, for gaps that were not met at all.
    """
    middle, _ = _cells(edges)
    above = middle[None] - middle[:, None]
    kept = np.where(above >= 0, deviation[None] * np.exp(-_FALL * np.maximum(above, 0.0)), 0.0).max(1)
    return np.asarray(np.maximum(kept, max(_FLOOR * float(kept.mean()), 1e-300)))
