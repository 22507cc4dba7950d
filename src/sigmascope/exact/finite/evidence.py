r"""Evidence, posteriors, means and variance of a batch of noisy values under a finite data set, in one pass.

.. math:: p_\sigma(y) = \sum_k w_k\, N(y; v_k, \sigma^2 I), \qquad
          p(k \mid y) = \frac{w_k\, N(y; v_k, \sigma^2 I)}{p_\sigma(y)}.

The logit of an item is relative to an *anchor*, the most probable item so far, whose distance to y cancels:

.. math:: \ell_k - \ell_r = \frac1{\sigma^2}\left\langle y - \frac{v_k + v_r}2, v_k - v_r\right\rangle
                            + \ln\frac{w_k}{w_r}.

Matrix products give this for all items at once, with an error of about :math:`\epsilon\,|v|\,(|y| + |v|)/\sigma^2` in
double precision.  Where that error could matter, the pairs concerned are computed again from the true difference
:math:`v_k - v_r`; they are few, since such noise is small beside the distances between items.  Moments are sums of the
same differences, so that a small variance is not a difference of large squares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sigmascope.core import InputError
from sigmascope.exact.common import Levels, Logits, Rows, blocks, check_possible
from sigmascope.exact.finite.filter import FiniteDenoiser

_EPS = float(np.finfo(np.float64).eps)
_ERROR = 1e-10  # an error of a logit that is accepted
_DEAD = 50.0  # e^-50 does not change 1 in float64
_NEAR = 1e-5  # squared distances below this share of the squared norms lose digits when computed from products
_CHUNK = 1 << 22  # numbers per block of true differences
_MOVES = 4  # changes of the anchor within a tile; more than one only where rounding chose a wrong one


@dataclass(frozen=True, eq=False)
class Answer:
    r"""The result of :func:`answer`, float64, one entry per row of y.

    Args:
        log_evidence: :math:`\ln p_\sigma(y)` of the noised law, with its normalisation
            :math:`-\tfrac d2 \ln 2\pi\sigma^2`, nats, shape (batch,).
        log_posterior: by attribute, :math:`\ln p(a \mid y)`, shape (batch, values); -inf for a value that no item of
            positive weight has.
        mean: :math:`D = E[V \mid y]`, shape (batch, *event).
        means: for each entry of ``known``, :math:`E[V \mid y, \text{known}]`, shape (batch, *event).
        variance: :math:`E[\|V - D\|^2 \mid y]`, the trace of the posterior covariance, shape (batch,); its mean over y
            is the least mean squared error of any denoiser.
        effective_items: :math:`1 / \sum_k p(k \mid y)^2`, shape (batch,).
        items: indices of the most probable items, in decreasing order, shape (batch, top); -1 where fewer items have
            positive weight.
        log_items: their :math:`\ln p(k \mid y)`, shape (batch, top); -inf for those missing.
    """

    log_evidence: Levels
    log_posterior: Mapping[str, Float[Tensor, "batch values"]]
    mean: Float[Tensor, "batch *event"]
    means: tuple[Float[Tensor, "batch *event"], ...]
    variance: Levels
    effective_items: Levels
    items: Int64[Tensor, "batch top"]
    log_items: Float[Tensor, "batch top"]


def answer(
    denoiser: FiniteDenoiser, y: Tensor, sigma: Tensor, *, known: Sequence[Mapping[str, Tensor]] = (), top: int = 0
) -> Answer:
    r"""Evidence, posteriors, means, variance and most probable items of a batch of noisy values, in one pass.

    .. math:: D = \sum_k p(k \mid y)\, v_k, \qquad \mathrm{tr\,Cov}[V \mid y] = \sum_k p(k \mid y)\, \|v_k - D\|^2

    Args:
        denoiser: the exact filter of the set.
        y: noisy values, shape (batch, *event).
        sigma: one noise level per row, in the unit of the data, shape (batch,).
        known: the conditions of conditional means, each as in :meth:`FiniteDenoiser.forward`: by attribute, the index
            of the value of each row, int64, shape (batch,), -1 where unknown.
        top: how many of the most probable items to name: those that a sampler is about to copy.  Items whose log-odds
            to the most probable one agree in nine digits count as equally probable, and are ordered by index.

    Returns: an :class:`Answer`, on the device of the denoiser.  No gradient flows through it; the gradient of the
        log-evidence is :math:`(D - y) / \sigma^2`.

    Raises: InputError for shapes that do not fit, values that are not finite, levels too small for the logits to be
        numbers, an unknown attribute or value, or attributes that no item of positive weight has.

    Cost: 2 · (3 + len(known)) · items · size · batch operations in float64, and one reading of the data.

    References: Robbins (1956); Miyasawa (1961).
    """
    if top < 0:
        raise InputError(f"top is {top}: pass how many of the most probable items to name, 0 for none")
    flat, level = denoiser.rows(y.detach(), sigma.detach())
    conditions = [(denoiser.columns_known(c, len(y)), _Sums(flat, level)) for c in known]
    whole = _Unconditional(denoiser, flat, level, top)
    for rows, items in denoiser.tiles(len(y)):
        tile = _tile(denoiser, rows, items, flat, level)
        whole.add_tile(tile)
        for columns, sums in conditions:
            sums.add(tile, denoiser.restricted(rows, tile.logit, columns))
    for i, (_, sums) in enumerate(conditions):
        check_possible(sums.mass > 0, known=f"known[{i}]")
    return whole.answer(tuple((sums.mean() + denoiser.centre).reshape(y.shape) for _, sums in conditions))


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some items less the centre, their logits up to a common number, and roughly a bound on the error of a logit."""

    rows: slice
    items: Float[Tensor, "rows size"]
    squares: Float[Tensor, " rows"]
    log_weight: Float[Tensor, " rows"]
    logit: Logits
    error: Levels


def _tile(denoiser: FiniteDenoiser, rows: slice, items: Tensor, y: Tensor, sigma: Tensor) -> _Tile:
    squares, log_weight = (items**2).sum(1), denoiser.log_weight[rows]
    largest = squares.max().sqrt()
    reach = torch.linalg.vector_norm(y, dim=1) + largest
    error = _EPS * items.shape[1] ** 0.5 * largest * reach / sigma**2
    bad = ~torch.isfinite((4.0 * reach / sigma) ** 2)
    if bool(bad.any()):
        raise InputError(
            f"row {int(torch.nonzero(bad)[0])}: sigma is {float(sigma[bad][0]):g}, too small beside the values for "
            "double precision: pass a larger one"
        )
    # The square of y is the same for all items and would only add its rounding.
    logit = torch.addmm(squares[:, None], items, y.T, beta=-0.5).div_(sigma**2).add_(log_weight[:, None])
    return _Tile(rows, items, squares, log_weight, logit, error)


class _Sums:
    r"""Sums over the items, each with weight :math:`e^{\ell_k - \ell_r}`, for every row.

    Attributes:
        anchor: the item r, less the centre.
        mass: sum of the weights.
        first: sum of weight times difference to the anchor.
        spread: sum of weight times squared distance to the anchor, where requested.
        squares: sum of squared weights, where the spread is requested.
        shift: how far the last :meth:`add` raised the anchor's logit.
    """

    def __init__(self, y: Rows, sigma: Levels) -> None:
        self.y, self.precision = y, sigma**-2.0
        self.anchor, self.first = torch.zeros_like(y), torch.zeros_like(y)
        self.mass, self.shift = torch.zeros_like(sigma), torch.zeros_like(sigma)
        self.spread, self.squares = torch.zeros_like(sigma), torch.zeros_like(sigma)
        self.log_weight = torch.zeros_like(sigma)
        self.logit = torch.full_like(sigma, -torch.inf)

    def mean(self) -> Rows:
        """The mean less the centre."""
        return self.anchor + self.first / self.mass[:, None]

    def add(self, tile: _Tile, logit: Logits, with_spread: bool = False) -> Logits:
        """Add the items of a tile whose logit is not -inf.

        Returns: logits relative to the anchor's.
        """
        self.shift = torch.zeros_like(self.mass)
        best, leader = logit.max(0)
        self._move(tile, logit, leader, best > self.logit)
        for _ in range(_MOVES):
            score, distance2, row, draw = self._scores(tile, logit, with_spread)
            best, leader = score.max(0)
            if not bool((best > 1.0).any()):
                break
            self._move(tile, logit, leader, best > 1.0)  # rounding of the products had chosen another
        score.clamp_max_(1.0)  # only rounding leaves any above
        weight = score.exp()
        self.mass += weight.sum(0)
        if distance2 is not None:
            self.squares += (weight**2).sum(0)
            self.spread += (weight * distance2).sum(0)
        exact = weight[row, draw]
        weight[row, draw] = 0.0
        self.first += weight.T @ tile.items - weight.sum(0)[:, None] * self.anchor
        for part, difference in self._differences(tile, row, draw):
            self.first.index_add_(0, draw[part], difference.mul_(exact[part, None]))
        return score

    def _move(self, tile: _Tile, logit: Logits, leader: Int64[Tensor, " batch"], moves: Bool[Tensor, " batch"]) -> None:
        """Make an item of the tile the anchor of some rows, where it is more probable than the present one."""
        rows, rise = self._rises(tile, leader, torch.nonzero(moves)[:, 0])
        item = leader[rows]
        new, log_weight = tile.items[item], tile.log_weight[item]
        step = new - self.anchor[rows]
        mass, first, shrink = self.mass[rows], self.first[rows], (-rise).exp()
        self.spread[rows] += mass * (step**2).sum(1) - 2.0 * (first * step).sum(1)
        self.spread[rows] *= shrink
        self.first[rows] = (first - mass[:, None] * step) * shrink[:, None]
        self.mass[rows] = mass * shrink
        self.squares[rows] *= shrink**2
        self.shift[rows] += rise
        self.anchor[rows], self.log_weight[rows], self.logit[rows] = new, log_weight, logit[item, rows]

    def _rises(
        self, tile: _Tile, leader: Int64[Tensor, " batch"], rows: Int64[Tensor, " moving"]
    ) -> tuple[Int64[Tensor, " moved"], Float[Tensor, " moved"]]:
        """The rows whose anchor has a smaller logit than the leader, and by how much; 0 for a first anchor."""
        step = tile.items[leader[rows]] - self.anchor[rows]
        rise = self.precision[rows] * ((self.y[rows] - self.anchor[rows] - 0.5 * step) * step).sum(1)
        rise += tile.log_weight[leader[rows]] - self.log_weight[rows]
        first = self.mass[rows] == 0
        better = first | (rise > 0)
        return rows[better], torch.where(first, 0.0, rise)[better]

    def _scores(self, tile: _Tile, logit: Logits, with_spread: bool) -> tuple[Logits, Logits | None, Tensor, Tensor]:
        """Logits relative to the anchor's, squared distances to it, and the pairs computed from true differences."""
        # A pair further below the anchor has an error of 1e-10 of its logit, or no weight.
        reach = torch.where(tile.error > _ERROR, _DEAD + tile.error / _ERROR, -torch.inf)
        exact = logit > self.logit - reach
        distance2 = None
        if with_spread:
            norms = tile.squares[:, None] + (self.anchor**2).sum(1)
            distance2 = torch.addmm(norms, tile.items, self.anchor.T, alpha=-2.0)
            exact |= distance2 <= _NEAR * norms
        score = torch.where(logit > -torch.inf, logit - self.logit, -torch.inf)
        row, draw = torch.nonzero(exact, as_tuple=True)
        from_anchor = self.y - self.anchor
        for part, difference in self._differences(tile, row, draw):
            k, b = row[part], draw[part]
            # Relative to the middle of the two items no digit is lost where neither is much more probable.
            along = ((from_anchor[b] - 0.5 * difference) * difference).sum(1)
            score[k, b] = self.precision[b] * along + tile.log_weight[k] - self.log_weight[b]
            if distance2 is not None:
                distance2[k, b] = (difference**2).sum(1)
        return score, distance2, row, draw

    def _differences(
        self, tile: _Tile, row: Tensor, draw: Tensor
    ) -> Iterator[tuple[slice, Float[Tensor, "pairs size"]]]:
        """Items less anchors of listed pairs, block by block."""
        for part in blocks(len(row), tile.items.shape[1], _CHUNK):
            yield part, tile.items[row[part]] - self.anchor[draw[part]]


class _Unconditional:
    """The unconditional sums: moments, sums by class and the most probable items."""

    def __init__(self, denoiser: FiniteDenoiser, y: Tensor, sigma: Tensor, top: int) -> None:
        self._denoiser, self._sigma = denoiser, sigma
        self._sums = _Sums(y, sigma)
        self._by_class = sigma.new_full((denoiser.width, len(y)), -torch.inf)
        self._scores = sigma.new_full((top, len(y)), -torch.inf)
        self._items = torch.full_like(self._scores, -1, dtype=torch.int64)

    def add_tile(self, tile: _Tile) -> None:
        score = self._sums.add(tile, tile.logit, with_spread=True)
        log_sums = self._denoiser.log_sums(tile.rows, score)
        self._by_class = torch.logaddexp(self._by_class - self._sums.shift, log_sums)
        if len(self._scores):
            items = torch.arange(tile.rows.start, tile.rows.stop, device=score.device)
            scores = torch.cat([self._scores - self._sums.shift, score])
            indices = torch.cat([self._items, items[:, None].expand_as(score)])
            # Earlier items come first, so a stable sort breaks ties by index; -1 stays where no item has weight.
            order = _without_rounding(scores).sort(stable=True, dim=0, descending=True).indices[: len(self._scores)]
            self._scores, self._items = scores.gather(0, order), indices.gather(0, order)

    def answer(self, means: tuple[Tensor, ...]) -> Answer:
        s, d = self._sums, self._denoiser
        distance2 = ((s.y - s.anchor) ** 2).sum(1)
        log_mass = s.mass.log()
        normalisation = 0.5 * d.data.size * (2.0 * torch.pi * self._sigma**2).log()
        offset = s.first / s.mass[:, None]
        variance = (s.spread / s.mass - (offset**2).sum(1)).clamp_min(0.0)
        return Answer(
            log_evidence=s.log_weight - 0.5 * s.precision * distance2 + log_mass - normalisation,
            log_posterior={name: p[0] for name, p in d.normalised(self._by_class[None]).items()},
            mean=(s.mean() + d.centre).reshape(len(offset), *d.event),
            means=means,
            variance=variance,
            effective_items=s.mass**2 / s.squares,
            items=self._items.T.contiguous(),
            log_items=(self._scores - log_mass).T.contiguous(),
        )


def _without_rounding(score: Logits) -> Logits:
    """Scores rounded to nine digits, so that equal scores stay equal whatever shifts they went through."""
    exponent = torch.frexp(score.abs().clamp_max(1e300)).exponent.clamp_min(0).double()
    grid = torch.exp2(exponent - 30.0)
    return torch.where(torch.isfinite(score), (score / grid).round() * grid, score)
