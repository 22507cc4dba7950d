"""The steps of the exact filter's inner loop in plain torch: for any device, and where there is no compiler."""

from __future__ import annotations

import torch
from torch import Tensor

from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.kernel.sums import DEAD, ROOM, Given, Pairs, Sums, Tile
from sigmascope.exact.finite.kernel.threads import Turn

_SPARSE = 0.04  # share of living pairs below which a tile is handled as a list
_SPARSE_MEANS = 0.005  # the same where means are wanted too: each pair then costs a row
_CHUNK = 1 << 24  # numbers per block of true differences


def add_weighted(weight: Tensor, tile: Tensor, total: Tensor) -> None:
    """Add the product of few weights, (rows, batch), with a tile to ``total``, (batch, size)."""
    item, row = torch.nonzero(weight, as_tuple=True)
    total.index_add_(0, row, weight[item, row, None] * tile[item])


def centred(raw: Tensor, centre: Tensor, out: Tensor) -> Tensor:
    """Items less the centre, into ``out``; returns their squared norms."""
    torch.sub(raw.to(out.dtype), centre.to(out.dtype), out=out)
    return torch.linalg.vector_norm(out, dim=1) ** 2


def dense(s: Sums, tile: Tile, turn: Turn, start: int = 0) -> tuple[Pairs, int]:
    """Add a tile to all levels at which many pairs live and rounding stays out of the logits.

    Args:
        turn: of this tile.
        start: the first level.

    Returns: the pairs that live on, and the first level that is left for them.
    """
    given, own, draws, rows = s.given, s.reference.own, len(tile.vv), len(tile.norm)
    distance2 = torch.add(tile.norm + tile.vv[:, None], tile.product[:draws], alpha=-2.0).clamp_min_(0.0)
    along = tile.product[draws : 2 * draws] - tile.nv[:, None]
    weight = (tile.weight - own[:, None]).to(distance2)
    with_means = s.means.numel() > 0
    by_class = ClassSums(tile.classes) if with_means else None
    sparse = (_SPARSE_MEANS if with_means else _SPARSE) * distance2.numel()
    columns = s.sums.shape[1]
    never = torch.isinf(tile.weight) if bool(torch.isinf(tile.weight).any()) else None
    one_hot = distance2.new_zeros(rows, columns).scatter_(1, tile.classes, 1.0)
    typical = float(distance2.mean())
    logit = torch.empty_like(distance2)
    last = tile.exact_from(given.half)
    c = given.columns
    needed = [torch.unique(c.which[:, :k], return_inverse=True) for k in (c.few + 1, c.count)]
    for j in range(start, given.levels):
        half, inverse = float(given.half[j]), float(given.inverse[j])
        torch.mul(distance2, half, out=logit).add_(along, alpha=inverse)
        if j >= last or typical * -half > 10.0:
            alive = logit > (s.dead - tile.slack(half))[:, None]
            if j >= last or int(torch.count_nonzero(alive)) <= sparse:
                draw, row = torch.nonzero(alive, as_tuple=True)
                return Pairs.of(tile, row, draw), j
        logit.add_(weight)
        with turn.stage(j):
            if not given.steady:
                _make_room(s, j, logit.max(1).values.double())
            # Denormal numbers slow a product down; e^-80 is below float32's resolution of the sums.
            mass = logit.sub_(s.shift[:, j, None]).clamp_min_(2 * DEAD).exp_()
            if never is not None:
                mass[:, never] = 0.0
            s.squares[:, j] += torch.linalg.vector_norm(mass, dim=1).double() ** 2
            if by_class is None:
                s.sums[:, :, j] += mass @ one_hot
            else:
                columns, which = needed[j >= c.few_levels]  # those of all draws: one product serves them
                for where, part in by_class.products(mass.T, tile.joined[:, columns]):
                    mine = part.transpose(0, 1).take_along_dim(which[:, None], 2)
                    s.means[:, where, j, : which.shape[1]] += mine
    draw, row = torch.nonzero(distance2 <= tile.slack(-0.5) * 8, as_tuple=True)
    return Pairs.of(tile, row, draw), given.levels


def _make_room(s: Sums, j: int, largest: Tensor) -> None:
    """Raise the shift of one level to the largest logits, where they would overflow."""
    shift = s.shift.clone()
    shift[:, j] = torch.where(largest - shift[:, j] > ROOM, largest, shift[:, j])
    if not torch.equal(shift, s.shift):
        s.raise_to(shift)


def scatter(s: Sums, tile: Tile, pairs: Pairs, start: int, stop: int) -> None:
    """Add a list of pairs to the levels from start to stop, each until it is dead."""
    given, own = s.given, s.reference.own
    weight = tile.weight[pairs.row].double() - own[pairs.draw]
    joined = tile.joined.double()
    for j in range(start, stop):
        logit = pairs.logit(float(given.half[j]), float(given.inverse[j]))
        alive = logit > s.dead[pairs.draw]
        if not bool(alive.all()):
            pairs, weight, logit = pairs.keep(alive), weight[alive], logit[alive]
        if not len(pairs):
            return
        logit = logit + weight
        if not given.steady:
            none = torch.full_like(own, -torch.inf)
            _make_room(s, j, none.scatter_reduce(0, pairs.draw, logit, "amax"))
        mass = (logit - s.shift[pairs.draw, j]).exp()
        if not s.means.numel():
            add_masses(s, tile, pairs, mass, j)
        else:
            s.squares[:, j].index_add_(0, pairs.draw, mass**2)
            rows = mass[:, None] * joined[pairs.row[:, None], given.columns.which[pairs.draw]]
            flat = s.means.reshape(-1, *s.means.shape[2:])[:, j]
            for column in tile.classes.T:
                flat.index_add_(0, pairs.draw * s.sums.shape[1] + column[pairs.row], rows)


def add_masses(s: Sums, tile: Tile, pairs: Pairs, mass: Tensor, j: int) -> None:
    """Add the masses of pairs to the sums of their classes at one level, or in the limit."""
    where = pairs.draw[:, None] * s.sums.shape[1] + tile.classes[pairs.row]
    flat = s.sums.reshape(-1, s.sums.shape[2])[:, j]
    flat.index_add_(0, where.reshape(-1), mass[:, None].expand(where.shape).reshape(-1))
    s.squares[:, j].index_add_(0, pairs.draw, mass**2)


def rescored(given: Given, tile: Tile, pairs: Pairs) -> Pairs:
    """Squared distances and noise products relative to v itself, from differences taken in float64."""
    distance2, along = torch.empty_like(pairs.distance2), torch.empty_like(pairs.distance2)
    step = max(1, _CHUNK // tile.raw.shape[1])
    for start in range(0, len(pairs), step):
        part = slice(start, start + step)
        draw = pairs.draw[part]
        difference = tile.raw[pairs.row[part]].double() - given.v[draw].double()
        distance2[part] = (difference * difference).sum(1)
        along[part] = (difference * given.noise[draw].double()).sum(1)
    return Pairs(pairs.row, pairs.draw, distance2, along)
