r"""Which draws to measure gaps at, of many candidates: chances in proportion to what is expected of them.

.. math:: \frac1M \sum_{c \le M} \frac{f_c}{q(\ln\sigma_c)} = \frac1M \sum_{c\ \mathrm{chosen}}
          \frac{f_c}{q(\ln\sigma_c)\,\pi_c}

in expectation, with M candidates and the chance :math:`\pi_c` of each.  Attributes are decided at different levels and
by different draws, so each has candidates, chances and draws of its own.  The choice is systematic: with
candidates in order of level and of what is expected of them, it takes its share of every part of that order.

References: Hansen & Hurwitz (1943); Horvitz & Thompson (1952); Madow (1949) for systematic choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigmascope.core import InputError, generator
from sigmascope.information.importance import Draw, Surrogate
from sigmascope.streams import Use

USE, DICE = Use.GAPS, 4  # of a seed; of the games of chance of a replicate, beside its four streams
SAMPLE, SURVEY, PILOT, MAIN = range(4)


@dataclass(frozen=True, eq=False)
class Allocation:
    """Where calls go; two models measured with one allocation are measured on the same draws.

    Args:
        seed: of all streams.
        sigma: decreasing levels of the curves, shape (levels,).
        edges: of the cells, ln sigma, decreasing, shape (cells,); the last of the cells is the tail above ``edges[0]``.
        offered: share of each attribute's candidates in each cell, sums to one, shape (attributes, cells).
        mass: share of each attribute's draws in each cell, sums to one, shape (attributes, cells).
        trust: in each cell, the share of a draw's chance that does not follow what is expected of it, shape
            (attributes, cells).
        scale: root mean square in each cell of what is expected, |D_A - D|/sigma, shape (attributes, cells).
        power: with which power of it the rest does, 1 or 2, shape (attributes, cells).
        mean: mean in each cell of that power of what is expected over the scale, shape (attributes, cells).
        draws: of each attribute in a replicate, shape (attributes,).
        candidates: from which these are chosen, shape (attributes,).
        doubt: mean over each cell of the doubt of the model's own guess, shape (attributes, cells).
        rate: by which that of a draw makes its chance to be measured (:mod:`sigmascope.information.roulette`), infinite
            where all are, shape (attributes,).
        cost: calls that a draw of each attribute takes in the mean, shape (attributes,).
        replicates: independent ones; more of them leave the earlier ones as they are.
        parts: so many replicates make one column of the curves.
        added: draws of each attribute that each column has in addition, a round a row, shape (rounds, attributes).
        predicted: standard errors that the pilot predicts of the goals' curves, nats, shape (curves, levels).
        pilot_calls: network calls of the pilot.
    """

    seed: int
    sigma: Float[np.ndarray, " levels"]
    edges: Float[np.ndarray, " cells"]
    offered: Float[np.ndarray, "attributes cells"]
    mass: Float[np.ndarray, "attributes cells"]
    trust: Float[np.ndarray, "attributes cells"]
    scale: Float[np.ndarray, "attributes cells"]
    power: Float[np.ndarray, "attributes cells"]
    mean: Float[np.ndarray, "attributes cells"]
    draws: Int[np.ndarray, " attributes"]
    candidates: Int[np.ndarray, " attributes"]
    doubt: Float[np.ndarray, "attributes cells"]
    rate: Float[np.ndarray, " attributes"]
    cost: Float[np.ndarray, " attributes"]
    replicates: int
    added: Int[np.ndarray, "rounds attributes"]
    predicted: Float[np.ndarray, "curves levels"]
    pilot_calls: float = 0.0
    parts: int = 1

    @property
    def calls(self) -> float:
        """Network calls of the measurement, the pilot's not counted: two a draw, or what is expected of them."""
        return self.replicates * float(self.draws @ self.cost) + self.columns * float((self.added @ self.cost).sum())

    @property
    def tail(self) -> int:
        """The cell above all levels."""
        return len(self.edges) - 1

    @property
    def columns(self) -> int:
        """Of the curves."""
        return self.replicates // self.parts

    @property
    def measurements(self) -> int:
        """Replicates, and then one for each column of each round that was added."""
        return self.replicates + len(self.added) * self.columns

    def alike(self, k: int) -> int:
        """Up to which measurement all have as many draws as the k-th."""
        rounds = -(-(k + 1 - self.replicates) // self.columns)
        return self.replicates + max(rounds, 0) * self.columns

    def at(self, k: int) -> tuple[Allocation, int, int]:
        """That of the k-th measurement, with its use of the seed and its number there."""
        if k < self.replicates:
            return self, MAIN, k
        rounds, column = divmod(k - self.replicates, self.columns)
        draws = self.added[rounds]
        offered = np.ceil(draws * (self.candidates / self.draws)).astype(int)
        return replace(self, draws=draws, candidates=offered), MAIN + 1 + rounds, column

    def joined(
        self, measured: Float[np.ndarray, "measurements ways attributes *levels"]
    ) -> Float[np.ndarray, "columns ways attributes *levels"]:
        """The columns: means over what was measured for each, weighted by numbers of draws."""
        shape = measured.shape[1:]
        weight = (1, 1, -1) + (1,) * (len(shape) - 2)
        first = measured[: self.replicates].reshape(self.columns, self.parts, *shape).mean(1)
        total, draws = first * (self.parts * self.draws).reshape(weight), self.parts * self.draws
        for more, each in zip(measured[self.replicates :].reshape(-1, self.columns, *shape), self.added, strict=True):
            total, draws = total + more * each.reshape(weight), draws + each
        joined: np.ndarray = total / draws.reshape(weight)
        return joined

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
        whole: dict[str, float] = {n: int(state[n]) for n in ("seed", "replicates", "parts")}
        whole |= {"pilot_calls": float(state["pilot_calls"])}
        return cls(**{f.name: np.asarray(state[f.name]) for f in fields(cls)} | whole)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Draws to be measured: their values, levels, weights of the gap over sigma squared, and more about each.

    Args:
        attribute: whose draw each is, in order.
        weight: 1/(M q pi), so that the sum over an attribute of weight times gap/sigma² is its integral.
        cell: of each.
        size: what is expected of each over the scale of its cell.
    """

    v: Tensor
    labels: Mapping[str, Tensor]
    noise: Tensor
    sigma: Float[Tensor, " draws"]
    attribute: Int[np.ndarray, " draws"]
    weight: Float[np.ndarray, " draws"]
    cell: Int[np.ndarray, " draws"]
    size: Float[np.ndarray, " draws"]

    @classmethod
    def together(cls, parts: Sequence[Chosen]) -> Chosen:
        """The draws of all parts."""
        v, noise, sigma = (torch.cat([getattr(c, x) for c in parts]) for x in ("v", "noise", "sigma"))
        labels = {n: torch.cat([c.labels[n] for c in parts]) for n in parts[0].labels}
        rest = (np.concatenate([getattr(c, x) for c in parts]) for x in ("attribute", "weight", "cell", "size"))
        return cls(v, labels, noise, sigma, *rest)


def widths(edges: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    """Widths of the cells in ln sigma; the tail is worth 1."""
    return np.append(edges[:-1] - edges[1:], 1.0)


def choose(surrogate: Surrogate, draw: Draw, allocation: Allocation, use: int, replicate: int) -> Chosen:
    """The draws of a replicate, from streams that depend on the seed, the use and the replicate alone."""
    a, found = allocation, []
    for k, draws in enumerate(a.draws):
        if draws == 0:
            continue
        streams = [generator(a.seed, USE, use, replicate, k, i) for i in range(4)]
        v, labels, noise, sigma, cell = candidates(draw, streams[:3], a.edges, a.offered[k], int(a.candidates[k]))
        size = np.sqrt(surrogate.expected(v, labels, noise, sigma, k)) / a.scale[k, cell]
        more = likelihood(size, a.trust[k, cell], a.power[k, cell], a.mean[k, cell])
        chance = _capped(more * a.mass[k, cell] / a.offered[k, cell], int(draws))
        # In order of what is expected, within a cell, an even choice takes its share of every size.
        order = np.lexsort((size, cell))
        start = float(torch.rand(1, generator=streams[3], dtype=torch.float64))
        place = np.searchsorted(np.cumsum(chance[order]), np.arange(draws) + start, side="right")
        picked = np.sort(order[place.clip(max=len(order) - 1)])
        weight = (widths(a.edges)[cell] / (a.offered[k, cell] * len(v) * chance))[picked]
        rows = torch.from_numpy(picked)
        mine = {n: x[rows] for n, x in labels.items()}
        attribute = np.full(len(rows), k)
        found.append(Chosen(v[rows], mine, noise[rows], sigma[rows], attribute, weight, cell[picked], size[picked]))
    return Chosen.together(found)


def candidates(
    draw: Draw, streams: Sequence[torch.Generator], edges: np.ndarray, offered: np.ndarray, count: int
) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor, np.ndarray]:
    """Values, labels, noises, levels and their cells; levels in order, one in each of as many parts of equal mass."""
    v, labels = draw(count, streams[0])
    noise = torch.randn(v.shape, generator=streams[1], dtype=v.dtype)
    place = (np.arange(count) + torch.rand(count, generator=streams[2], dtype=torch.float64).numpy()) / count
    ends, wide = np.cumsum(offered), widths(edges)
    cell = np.minimum(np.searchsorted(ends, place, side="right"), len(ends) - 1)
    inside = np.clip((ends[cell] - place) / offered[cell], 0.0, 1.0)
    tail, lower = cell == len(ends) - 1, np.append(edges[1:], edges[0])
    log_sigma = np.where(tail, edges[0] + 0.5 * np.log(2.0), lower[cell] + inside * np.where(tail, 0.0, wide[cell]))
    return v, labels, noise, torch.from_numpy(np.exp(log_sigma)), cell


def likelihood(size: np.ndarray, trust: np.ndarray | float, power: np.ndarray | float, mean: np.ndarray) -> np.ndarray:
    """How much likelier than others of its cell a draw of this size is chosen: 1 in the mean over the cell.

    With the square of the size, the gap's own, a true guess leaves no variance; with the size a false one leaves less.
    """
    return (trust + (1.0 - trust) * size**power) / (trust + (1.0 - trust) * mean)


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
