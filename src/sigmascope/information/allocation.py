r"""Which draws to measure score gaps at: importance sampling of many candidates, as a pilot advises.

**What is estimated.**  With f = gap/σ² of a draw of value, label, noise and level x = ln σ,

.. math:: I(A; Y_\sigma) = \int_{\ln\sigma}^\infty E f(x)\, dx .

Levels are cut into cells j of width :math:`w_j` in ln σ.  Above the highest the integrand is almost a straight line in
:math:`\lambda = \sigma^{-2}`, and the rest of the integral is its value in the middle, :math:`\tfrac12\int_0^{\lambda}
E\|D_A - D\|^2 d\lambda' \approx \tfrac12\lambda\, E\|D_A - D\|^2(\lambda/2) = E f(\sqrt2\,\sigma)`: one more cell, of
width 1 and of one level.

**A column** is one unbiased estimate of the whole curve, with candidates and a random start of its own.  Of M
candidates, a share :math:`o_j` of them in cell j, n are measured, c with an inclusion probability :math:`\pi_c` (more
than 1: so often in the mean).  The Horvitz–Thompson estimate

.. math:: \hat I(\sigma) = \sum_{c\ \mathrm{measured},\ \sigma_c \ge \sigma} \frac{w_{j(c)}}{o_{j(c)} M \pi_c}\, f_c

has the right mean whatever the probabilities.  Columns are independent and alike, so their spread gives the standard
error of their mean, and Student's t its interval, however draws within a column depend on each other.  They do: the
choice is systematic in the order of cell, then of the gap e that a :class:`Surrogate` expects (Madow 1949).  A column
has its share of every cell and of every size, and what differs between cells adds no variance.

**The probabilities** are :math:`\pi_c = n\,m_j h_c / (o_j M)`: a share :math:`m_j` of the draws is in cell j, and
within it a candidate is :math:`h_c` times likelier than the mean one.  The variance of n draws is then at most about

.. math:: \frac1n \sum_j \frac{w_j^2 s_j^2}{m_j}, \qquad s_j^2 = E_j[f^2/h] - E_j[f]^2,

least for :math:`m_j \propto w_j s_j` (Neyman 1934).  Over h it is least for :math:`h \propto \sqrt{E[f^2 \mid e]}`,
which is e where the surrogate is right.  Where it is wrong a defence δ keeps weights below 1/δ (Hesterberg 1995):

.. math:: h = \delta_j + (1 - \delta_j)\, e / E_j e .

**The pilot**, on draws of its own that no curve uses, tells :math:`E_j f` and :math:`E_j[f^2/h]` for each δ.

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

SURVEY, PILOT, MAIN = range(1, 4)
REPLICATES = 32  # columns: Student's t of 31 is within 4 % of the normal law's, and skewness can be seen
FEWEST = 8  # draws of an attribute in a column: of fewer, most columns may be without a large gap
_CELL = 0.2  # width in ln σ at most: what goes with σ² changes by half within a cell
_SURVEYED = 512  # draws in a cell that tell E e there, without network calls
_DEFENCES = (1.0, 0.3, 0.1, 0.05)  # of which the pilot chooses
_PILOT_DEFENCE = 0.3  # nothing has borne the surrogate out yet
_PILOT_EVEN = 0.5  # share of the pilot that is even in ln σ, lest gaps be where none are expected
_SMOOTH, _FAR = 0.3, 1.0  # ln σ over which the pilot's moments are smoothed, and the choice of δ
_FALL, _FLOOR = 2.0, 0.05  # see _guarded
_LEAST = 0.1  # of a second moment that is taken for variance at least
_FIRST = 0.5  # of the draws that the variance above asks for: a choice in order of e leaves less, and more may follow
_OFFERED = 0.15  # of the variance, what the choice of candidates may take
_RATIO = 16  # candidates of a draw at least: a gain of importance sampling has as much room
_HELD = 1 << 25  # numbers of a column's candidates at most: a quarter of a gigabyte; more are measured in rounds
_ROUNDS = 64  # at most: errors that do not fall are those of a law without variance


@dataclass(frozen=True, eq=False)
class Allocation:
    """Where network calls go; two models measured with one allocation are measured on the same draws.

    Args:
        seed: of all streams.
        sigma: decreasing levels of the curves, shape (levels,).
        edges: of the cells, ln σ, decreasing, shape (cells,); the last of the cells is the one above ``edges[0]``.
        offered: share of each attribute's candidates in each cell, sums to one, shape (attributes, cells).
        share: share of each attribute's draws in each cell, sums to one, shape (attributes, cells).
        defence, expected: δ and E e in each cell, shape (attributes, cells).
        ratio: candidates for each draw, shape (attributes,).
        rounds: draws of each attribute in each column, a round a row, shape (rounds, attributes).
        columns: of the curves, independent and alike; more of them leave the earlier ones as they are.
        pilot_calls: network calls of the pilot.
    """

    seed: int
    sigma: Float[np.ndarray, " levels"]
    edges: Float[np.ndarray, " cells"]
    offered: Float[np.ndarray, "attributes cells"]
    share: Float[np.ndarray, "attributes cells"]
    defence: Float[np.ndarray, "attributes cells"]
    expected: Float[np.ndarray, "attributes cells"]
    ratio: Float[np.ndarray, " attributes"]
    rounds: Int[np.ndarray, "rounds attributes"]
    columns: int
    pilot_calls: int = 0

    @property
    def calls(self) -> int:
        """Network calls of all rounds, the pilot's not counted: two a draw."""
        return 2 * self.columns * int(self.rounds.sum())

    @property
    def measurements(self) -> int:
        """One for each column of each round."""
        return self.columns * len(self.rounds)

    def joined(
        self, measured: Float[np.ndarray, "measurements ways attributes levels"]
    ) -> Float[np.ndarray, "columns ways attributes levels"]:
        """The columns: means over rounds, weighted by draws."""
        by_round = measured.reshape(len(self.rounds), self.columns, *measured.shape[1:])
        joined: np.ndarray = np.einsum("ra,rcwal->cwal", self.rounds / self.rounds.sum(0), by_round)
        return joined

    def state(self) -> dict[str, np.ndarray]:
        """Arrays to store."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Allocation:
        """The allocation that was stored.

        Raises: InputError if an array is missing.
        """
        missing = [f.name for f in fields(cls) if f.name not in state]
        if missing:
            raise InputError(f"an allocation came without {', '.join(missing)}: pass what state() gave")
        whole = {n: int(state[n]) for n in ("seed", "columns", "pilot_calls")}
        return cls(**{f.name: np.asarray(state[f.name]) for f in fields(cls)} | whole)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Draws to be measured, shape (draws, ...): whose each is, the weight of its f in the estimate, its cell and e."""

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
    parts, asked = [], a.rounds[max(use - MAIN, 0)]
    for column, k in product(columns, np.flatnonzero(asked).tolist()):
        *streams, last = (generator(a.seed, Use.GAPS, use, column, k, i) for i in range(4))
        draws, offered, count = int(asked[k]), a.offered[k], int(np.ceil(asked[k] * a.ratio[k]))
        v, labels, noise, sigma, cell = _candidates(draw, streams, a.edges, offered, count)
        expected = surrogate.expected(v, labels, noise, sigma, k)
        chance = a.share[k, cell] / offered[cell] * _likelihood(a.defence[k, cell], expected / a.expected[k, cell])
        chance *= draws / chance.sum()
        order = np.lexsort((expected, cell))
        at = np.arange(draws) + float(torch.rand(1, generator=last, dtype=torch.float64))
        picked = order[np.searchsorted(np.cumsum(chance[order]), at, side="right").clip(max=count - 1)]
        weight = (widths(a.edges) / offered)[cell[picked]] / (count * chance[picked])
        mine, of = {n: x[picked] for n, x in labels.items()}, (np.full(draws, column), np.full(draws, k))
        parts.append((v[picked], noise[picked], sigma[picked], mine, *of, weight, cell[picked], expected[picked]))
    values, noises, levels, known, *rest = zip(*parts, strict=True)
    told = {n: torch.cat([of[n] for of in known]) for n in known[0]}
    return Chosen(torch.cat(values), torch.cat(noises), torch.cat(levels), told, *map(np.concatenate, rest))


def _candidates(
    draw: Draw, streams: Sequence[torch.Generator], edges: np.ndarray, offered: np.ndarray, count: int
) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor, np.ndarray]:
    """Values, labels, noises, levels, stratified over parts of equal share, and their cells."""
    v, labels = draw(count, streams[0])
    noise = torch.randn(v.shape, generator=streams[1], dtype=v.dtype)
    place = (np.arange(count) + torch.rand(count, generator=streams[2], dtype=torch.float64).numpy()) / count
    ends = np.cumsum(offered)
    cell = np.minimum(np.searchsorted(ends, place, side="right"), len(ends) - 1)
    inside = np.clip((ends[cell] - place) / offered[cell], 0.0, 1.0)
    lower = np.append(edges[1:], edges[0] + 0.5 * np.log(2.0))  # the cell above has one level
    log_sigma = lower[cell] + inside * np.append(widths(edges)[:-1], 0.0)[cell]
    return v, labels, noise, torch.from_numpy(np.exp(log_sigma)), cell


def _likelihood(defence: np.ndarray | float, ratio: np.ndarray) -> np.ndarray:
    """h of draws, from what is expected of them over what is expected in their cells."""
    return defence + (1.0 - defence) * ratio


def plan(
    surrogate: Surrogate, draw: Draw, seed: int, sigma: Float[np.ndarray, " levels"], top: float | None, draws: int
) -> Allocation:
    """The allocation of a pilot of so many draws of each attribute, from what is expected; no network calls.

    Raises: InputError for a top that is below the first level.
    """
    least = np.sqrt(2.0) * sigma[0]
    if top is None:  # there the second term of the series in 1/σ² is at most 0.0006 nats, the third far less
        top = max(least, np.sqrt(40.0 * surrogate.frobenius))
    if not np.isfinite(top) or top < least * (1 - 1e-9):
        raise InputError(f"top is {top:g}: expected at least 1.4142 times the first level, {least:g}; or leave it out")
    high, low = np.log(top) - 0.5 * np.log(2.0), np.log(sigma[-1])
    edges = np.linspace(high, low, int(np.ceil((high - low) / _CELL)) + 1)
    wide, cells, names = widths(edges), len(edges), range(len(surrogate.names))
    streams = [generator(seed, Use.GAPS, SURVEY, i) for i in range(3)]
    v, labels, noise, level, _ = _candidates(draw, streams, edges, np.full(cells, 1.0 / cells), _SURVEYED * cells)
    mean = [surrogate.expected(v, labels, noise, level, k).reshape(cells, _SURVEYED).mean(1) for k in names]
    expected = np.stack([_guarded(np.sqrt(e), edges) ** 2 for e in mean])
    share = _PILOT_EVEN * wide / wide.sum() + (1.0 - _PILOT_EVEN) * expected * wide / (expected @ wide)[:, None]
    columns, defence = max(1, draws // 128), np.full(expected.shape, _PILOT_DEFENCE)
    rounds = np.full((1, len(names)), draws // columns)
    return Allocation(
        seed, sigma, edges, share, share, defence, expected, np.full(len(names), float(_RATIO)), rounds, columns
    )


def allocate(
    pilot: Allocation,
    chosen: Chosen,
    gaps: Float[np.ndarray, " draws"],
    target_stderr: float | None,
    budget: int | None,
) -> Allocation:
    """The allocation that a pilot advises.

    Args:
        pilot: its own.
        chosen: its draws.
        gaps: f of each.
        target_stderr: largest standard error of a curve at any level, nats.
        budget: network calls, the pilot's among them.

    Raises: InputError for a budget that is too small.
    """
    advice = [_advice(pilot, k, chosen, gaps) for k in range(len(pilot.share))]
    offered, share, defence = (np.stack([a[i] for a in advice]) for i in range(3))
    variance, among = np.array([a[3:] for a in advice]).T
    if target_stderr is not None:
        needed = _FIRST * variance / ((1.0 - _OFFERED) * REPLICATES * target_stderr**2)
        draws = np.maximum(np.ceil(needed), FEWEST).astype(int)
    else:  # errors of the attributes are alike where draws go with variances
        left = ((budget or 0) - pilot.calls) // (2 * REPLICATES) - FEWEST * len(share)
        if left < 0:
            least = pilot.calls + 2 * REPLICATES * FEWEST * len(share)
            raise InputError(f"budget is {budget} network calls, {pilot.calls} for the pilot: pass at least {least}")
        draws = FEWEST + np.floor(left * variance / variance.sum()).astype(int)
    ratio = np.maximum(among / variance * (1.0 - _OFFERED) / _OFFERED, _RATIO)
    most = max(_HELD // chosen.v[0].numel(), _RATIO * FEWEST)
    rounds = int(np.ceil((draws * ratio).max() / most))
    ends = np.arange(rounds + 1)[:, None] * draws // rounds
    new = {"offered": offered, "share": share, "defence": defence, "ratio": ratio, "rounds": np.diff(ends, axis=0)}
    return replace(pilot, **new, columns=REPLICATES, pilot_calls=pilot.calls)


def _advice(
    pilot: Allocation, k: int, chosen: Chosen, gaps: Float[np.ndarray, " draws"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Of one attribute: offered, share, defence; the variance of one draw, and that of one candidate."""
    mine, edges = chosen.attribute == k, pilot.edges
    cell, middle, wide, scale = chosen.cell[mine], _middle(edges), widths(edges), pilot.expected[k]
    near = np.exp(-0.5 * ((middle[:, None] - middle[cell]) / _SMOOTH) ** 2) + 1e-12
    near /= near.sum(1, keepdims=True)
    # In parts of what is expected, so that what changes from level to level is not taken for spread; each draw counts
    # by the inverse of how much likelier it was, so that sums are means over cells.
    ratio, f = chosen.expected[mine] / scale[cell], gaps[mine] / scale[cell]
    of = 1.0 / _likelihood(pilot.defence[k, cell], ratio)
    mean, plain = near @ (f * of), near @ (f**2 * of)
    # E[f²/h] of a small sample is no less than E[f]² (Cauchy–Schwarz).
    second = np.stack([np.maximum(near @ (f**2 * of / _likelihood(d, ratio)), mean**2) for d in _DEFENCES])
    spread = np.maximum(second - mean**2, _LEAST * second)
    far = np.exp(-0.5 * ((middle[:, None] - middle) / _FAR) ** 2) * wide * scale
    best = (np.sqrt(spread) @ far.T).argmin(0)  # the standard error is in proportion to the sum of w s
    least = np.sqrt(np.take_along_axis(spread, best[None], 0)[0])
    share, loose = (_guarded(x * scale, edges) * wide for x in (least, np.sqrt(plain)))
    share, offered = share / share.sum(), 0.5 * (share / share.sum() + loose / loose.sum())
    variance = float(((wide * scale * least) ** 2 / share).sum())
    among = float(((wide * scale) ** 2 * np.maximum(plain - mean**2, 0.0) / offered).sum())
    return offered, share, np.array(_DEFENCES)[best], max(variance, 1e-300), among


def further(a: Allocation, columns: Float[np.ndarray, "columns attributes levels"], target: float) -> Allocation | None:
    """The allocation with one round more, or None where the target is met.

    A pilot seldom meets the rarest of the large gaps, and then predicts too small an error.  With the standard error s
    that the measurement found and the target t, each column gets n (s²/t² − 1) draws more, n being those that it has.
    To look at s is to stop a little more often where rare gaps were missed; that moves the mean by a small part of t.

    Args:
        a: all of it was measured.
        columns: of the curves that the target is for.
        target: largest standard error, nats.
    """
    stderr = np.sqrt(columns.var(0, ddof=1).max(1) / len(columns))
    if stderr.max() <= target or len(a.rounds) >= _ROUNDS:
        return None
    wanted = np.ceil(a.rounds.sum(0) * ((stderr / target) ** 2 - 1.0))
    more = np.where(stderr > target, np.clip(wanted, FEWEST, np.maximum(a.rounds[0], FEWEST)), 0).astype(int)
    return replace(a, rounds=np.concatenate([a.rounds, more[None]]))


def widths(edges: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    """Widths of the cells in ln σ; the one above is worth 1."""
    return np.append(edges[:-1] - edges[1:], 1.0)


def _middle(edges: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    """The level, as ln σ, that stands for each cell."""
    return np.append((edges[:-1] + edges[1:]) / 2, edges[0] + 0.5 * np.log(2.0))


def _guarded(deviation: Float[np.ndarray, " cells"], edges: Float[np.ndarray, " cells"]) -> np.ndarray:
    """Standard deviations that a sample too small to see rare draws does not starve.

    As noise falls gaps become rarer and larger: the deviation outlives the mean, and falls no faster than the square of
    σ.  A twentieth of the mean deviation is the least, for gaps that were not met at all.
    """
    middle = _middle(edges)
    above = middle[None] - middle[:, None]
    kept = np.where(above >= 0, deviation[None] * np.exp(-_FALL * np.maximum(above, 0.0)), 0.0).max(1)
    return np.maximum(kept, max(_FLOOR * float(kept.mean()), 1e-300))
