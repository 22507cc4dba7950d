"""The steps of the exact filter's inner loop in plain torch: for any device, and where numba cannot be used."""

from __future__ import annotations

import torch
from torch import Tensor

from sigmascope.exact.common import blocks
from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.kernel.sums import DEAD, ROOM, Inputs, LivePairs, Sums, Tile
from sigmascope.exact.finite.kernel.threads import Turn

_SPARSE = 0.04  # share of pairs above the threshold below which these are listed
_SPARSE_MEANS = 0.005  # the same with means, where each pair costs a row
_CHUNK = 1 << 24  # numbers per block of true differences


def add_weighted(weight: Tensor, tile: Tensor, total: Tensor) -> None:
    """Add the product of weights, (rows, batch), most of them 0, with a tile to ``total``, (batch, size)."""
    item, row = torch.nonzero(weight, as_tuple=True)
    total.index_add_(0, row, weight[item, row, None] * tile[item])


def centred(raw: Tensor, centre: Tensor, out: Tensor) -> Tensor:
    """Write items less the centre into ``out``; returns their squared norms."""
    torch.sub(raw.to(out.dtype), centre.to(out.dtype), out=out)
    norm: Tensor = torch.linalg.vector_norm(out, dim=1)
    return norm.square()


def dense(s: Sums, tile: Tile, turn: Turn, start: int = 0) -> tuple[LivePairs, int]:
    """Add a tile from level ``start`` on, while many pairs are above the threshold and rounding is negligible.

    Returns: the pairs that are still above it, and the first level that is left for them.
    """
    inputs, draws, rows = s.inputs, len(tile.v_term), len(tile.square)
    distance2 = torch.add(tile.square + tile.v_term[:, None], tile.product[:draws], alpha=-2.0).clamp_min_(0.0)
    along = tile.product[draws : 2 * draws] - tile.noise_term[:, None]
    weight = (tile.log_weight - s.reference.log_weight[:, None]).to(distance2)
    with_means = s.means.numel() > 0
    by_class = ClassSums(tile.classes) if with_means else None
    sparse = (_SPARSE_MEANS if with_means else _SPARSE) * distance2.numel()
    never = torch.isinf(tile.log_weight) if bool(torch.isinf(tile.log_weight).any()) else None
    one_hot = distance2.new_zeros(rows, s.sums.shape[1]).scatter_(1, tile.classes, 1.0)
    weights = tile.weights.to(distance2)
    typical = float(distance2.mean())
    logit = torch.empty_like(distance2)
    last = tile.exact_from(inputs.half)
    c = inputs.means
    needed = [torch.unique(c.index[:, :k], return_inverse=True) for k in (c.coarse + 1, c.count)]  # by any draw
    for j in range(start, inputs.levels):
        half, inverse = float(inputs.half[j]), float(inputs.inverse[j])
        torch.mul(distance2, half, out=logit).add_(along, alpha=inverse)
        if j >= last or typical * -half > 10.0:
            alive = logit > (s.threshold - tile.slack(half))[:, None]
            if j >= last or int(torch.count_nonzero(alive)) <= sparse:
                draw, row = torch.nonzero(alive, as_tuple=True)
                return LivePairs.from_products(tile, row, draw), j
        logit.add_(weight)
        with turn.stage(j):
            if not inputs.steady:
                _make_room(s, j, logit.max(1).values.double())
            # Denormal numbers slow a product down; e^-80 is below float32's resolution of the sums.
            mass = logit.sub_(s.shift[:, j, None]).clamp_min_(2 * DEAD).exp_()
            if never is not None:
                mass[:, never] = 0.0
            s.squares[:, j] += torch.linalg.vector_norm(mass, dim=1).double() ** 2
            for k, own in enumerate(weights):
                s.weighted[:, k, j] += torch.linalg.vecdot(mass, own)
            if by_class is None:
                s.sums[:, :, j] += mass @ one_hot
            else:
                columns, index = needed[j >= c.coarse_levels]
                for classes, part in by_class.products(mass.T, tile.with_one[:, columns]):
                    s.means[:, classes, j, : index.shape[1]] += part.transpose(0, 1).take_along_dim(index[:, None], 2)
    draw, row = torch.nonzero(distance2 <= tile.slack(-0.5) * 8, as_tuple=True)
    return LivePairs.from_products(tile, row, draw), inputs.levels


def _make_room(s: Sums, j: int, largest: Tensor) -> None:
    """Raise the shift of one level to the largest logits where these would overflow."""
    shift = s.shift.clone()
    shift[:, j] = torch.where(largest - shift[:, j] > ROOM, largest, shift[:, j])
    if not torch.equal(shift, s.shift):
        s.raise_to(shift)


def scatter(s: Sums, tile: Tile, pairs: LivePairs, start: int, stop: int) -> None:
    """Add a list of pairs to the levels from start to stop, each until it falls below the threshold."""
    inputs, own = s.inputs, s.reference.log_weight
    weight = tile.log_weight[pairs.row].double() - own[pairs.draw]
    with_one = tile.with_one.double()
    for j in range(start, stop):
        logit = pairs.logit(float(inputs.half[j]), float(inputs.inverse[j]))
        alive = logit > s.threshold[pairs.draw]
        if not bool(alive.all()):
            pairs, weight, logit = pairs.keep(alive), weight[alive], logit[alive]
        if not len(pairs):
            return
        logit = logit + weight
        if not inputs.steady:
            none = torch.full_like(own, -torch.inf)
            _make_room(s, j, none.scatter_reduce(0, pairs.draw, logit, "amax"))
        mass = (logit - s.shift[pairs.draw, j]).exp()
        if not s.means.numel():
            add_masses(s, tile, pairs, mass, j)
        else:
            s.squares[:, j].index_add_(0, pairs.draw, mass**2)
            rows = mass[:, None] * with_one[pairs.row[:, None], inputs.means.index[pairs.draw]]
            flat = s.means.reshape(-1, *s.means.shape[2:])[:, j]
            for column in tile.classes.T:
                flat.index_add_(0, pairs.draw * s.sums.shape[1] + column[pairs.row], rows)


def add_masses(s: Sums, tile: Tile, pairs: LivePairs, mass: Tensor, j: int) -> None:
    """Add the masses of pairs to the sums of their classes at one level, or in the limit."""
    cell = pairs.draw[:, None] * s.sums.shape[1] + tile.classes[pairs.row]
    flat = s.sums.reshape(-1, s.sums.shape[2])[:, j]
    flat.index_add_(0, cell.reshape(-1), mass[:, None].expand(cell.shape).reshape(-1))
    s.squares[:, j].index_add_(0, pairs.draw, mass**2)
    for k, own in enumerate(tile.weights):
        s.weighted[:, k, j].index_add_(0, pairs.draw, mass * own[pairs.draw, pairs.row])


def rescored(inputs: Inputs, tile: Tile, pairs: LivePairs) -> LivePairs:
    """Squared distances and noise products relative to v itself, from float64 differences."""
    distance2, along = torch.empty_like(pairs.distance2), torch.empty_like(pairs.distance2)
    for part in blocks(len(pairs), tile.raw.shape[1], _CHUNK):
        draw = pairs.draw[part]
        difference = tile.raw[pairs.row[part]].double() - inputs.v[draw].double()
        distance2[part] = (difference * difference).sum(1)
        along[part] = (difference * inputs.noise[draw].double()).sum(1)
    return LivePairs(pairs.row, pairs.draw, distance2, along)
