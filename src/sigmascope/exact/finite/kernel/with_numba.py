"""The steps of the exact filter's inner loop, compiled: for each pair, levels are walked until it is dead.

Importing this module imports numba.  What each function does is said in
:mod:`sigmascope.exact.finite.kernel.with_torch`.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.kernel.simd import WIDTH, add_to, exp, lane, largest_into, minus, quadratic, square, store
from sigmascope.exact.finite.kernel.sums import ROOM, Given, Pairs, Sums, Tile, TooMany
from sigmascope.exact.finite.kernel.threads import Turn, room

_LISTED = 0.02  # room for living pairs, as a share of all: where more live, the caller has a better way
_LISTED_MEANS, _SPARSE_MEANS = 0.5, 0.4  # the same, and the share below which means are added pair by pair
_FAST = {"contract", "nsz", "nnan"}  # nothing here is NaN; sums keep their order
_SUMS = {"contract", "reassoc"}  # sums in vectors
_HELD_BACK = 8  # pairs in a row of one class, on average, from which it is added once for them
_DRAWS, _ROWS = 16, 64  # of a block that stays in the first cache
_CHUNK = 64  # draws whose masses stay in the last one


def compiled(**options):
    """numba's compiler, with its results kept on disk where that can be written."""

    def decorate(function):
        try:
            return njit(nogil=True, error_model="numpy", cache=True, **options)(function)
        except RuntimeError:  # no place for the cache
            return njit(nogil=True, error_model="numpy", **options)(function)

    return decorate


@no_type_check
@compiled()
def _raise(shift, sums, squares, d, j, by):
    """Raise the shift of a draw and level."""
    scale = np.exp(-np.float64(by))
    shift[d, j] += by
    squares[d, j] *= scale * scale
    for c in range(sums.shape[1]):
        sums[d, c, j] *= scale


@no_type_check
@compiled(fastmath=_FAST)
# long: one loop over pairs, whose sums stay in registers and in the first cache; parted, it would be compiled apart
def _class_sums(
    product, norm, vv, nv, weight, own, classes, half, inverse, blocks, levels, last, dead, most, steady, work, shift,
    sums, squares, rows, draws, values,
):  # fmt: skip
    """Add e^(l - shift) to the sums at the leading levels, in blocks of eight; list the pairs that live beyond them."""
    count, total, attributes = vv.shape[0], norm.shape[0], classes.shape[1]
    columns, width = work.shape[0] - 3, work.shape[1]  # and rows for squares, shifts, largest logits
    own_shift, peak = (columns + 1) * width, (columns + 2) * width
    found = 0
    for d in range(count):
        before = found
        again = True
        while again:
            again = False
            found = before
            work[:] = np.float32(0.0)
            for j in range(levels):
                work[columns + 1, j] = shift[d, j]
            for r in range(total):
                d2 = max(norm[r] + vv[d] - np.float32(2.0) * product[d, r], np.float32(0.0))
                s = product[count + d, r] - nv[d]
                w = weight[r] - own[d]
                if w < np.float32(-1e30):  # of weight 0
                    continue
                alive = True
                for b in range(blocks):
                    logit = quadratic(half, inverse, b * WIDTH, d2, s, w)
                    if lane(logit, 0) - w < dead[d]:  # without weights, it stays so
                        alive = False
                        break
                    if not steady:
                        logit = minus(logit, work, own_shift + b * WIDTH)
                        largest_into(work, peak + b * WIDTH, logit)
                    mass = exp(logit)
                    add_to(work, columns * width + b * WIDTH, square(mass))
                    for a in range(attributes):
                        add_to(work, classes[r, a] * width + b * WIDTH, mass)
                if alive and d2 * last[0] + s * last[1] > last[2] + last[3] * dead[d]:
                    if found < rows.shape[0]:
                        rows[found], draws[found], values[0, found], values[1, found] = r, d, d2, s
                    found += 1
            for j in range(levels):
                if work[columns + 2, j] > most:  # too large for float32: raise the shift, and once more
                    _raise(shift, sums, squares, d, j, work[columns + 2, j])
                    again = True
        for c in range(columns):
            for j in range(levels):
                sums[d, c, j] += work[c, j]
        for j in range(levels):
            squares[d, j] += work[columns, j]
    return found


@no_type_check
@compiled(fastmath=_FAST)
def _masses(product, norm, vv, nv, weight, own, half, inverse, start, first, out, squares):
    """e^l at eight levels from start on, as (rows, draws, 8), of draws from one on; adds squares."""
    count, chunk, total = vv.shape[0], out.shape[1], norm.shape[0]
    for d0 in range(0, chunk, _DRAWS):
        for i0 in range(0, total, _ROWS):
            for r in range(i0, min(i0 + _ROWS, total)):
                for d in range(d0, min(d0 + _DRAWS, chunk)):
                    draw = first + d
                    d2 = max(norm[r] + vv[draw] - np.float32(2.0) * product[draw, r], np.float32(0.0))
                    s = product[count + draw, r] - nv[draw]
                    mass = exp(quadratic(half, inverse, start, d2, s, weight[r] - own[draw]))
                    store(out, (r * chunk + d) * WIDTH, mass)
                    add_to(squares, d * WIDTH, square(mass))


@no_type_check
@compiled(fastmath=_FAST)
def _count(product, norm, vv, nv, half, inverse, dead):
    """How many pairs live at one level."""
    count = vv.shape[0]
    found = 0
    for d in range(count):
        for r in range(norm.shape[0]):
            d2 = norm[r] + vv[d] - np.float32(2.0) * product[d, r]
            found += d2 * half + (product[count + d, r] - nv[d]) * inverse > dead[d]
    return found


@no_type_check
@compiled()
def _add_part(part, columns, first, start, stop, means):
    """Add products with eight levels of masses to the means of draws."""
    directions = part.shape[3]
    for i in range(columns.shape[0]):
        for d in range(part.shape[1]):
            for j in range(stop - start):
                for k in range(directions):
                    means[first + d, columns[i], start + j, k] += part[i, d, j, k]


@no_type_check
@compiled(fastmath=_FAST)
def _living(product, norm, vv, nv, last, dead, rows, draws, values):
    """List the pairs whose logit at one level is above a threshold."""
    count = vv.shape[0]
    found = 0
    for d in range(count):
        for r in range(norm.shape[0]):
            d2 = max(norm[r] + vv[d] - np.float32(2.0) * product[d, r], np.float32(0.0))
            s = product[count + d, r] - nv[d]
            if d2 * last[0] + s * last[1] > last[2] + last[3] * dead[d]:
                if found < rows.shape[0]:
                    rows[found], draws[found], values[0, found], values[1, found] = r, d, d2, s
                found += 1
    return found


@no_type_check
@compiled()
def _scatter(
    row, draw, distance2, along, weight, own, classes, half, inverse, start, stop, dead, most, shift, sums, squares,
):  # fmt: skip
    """Add e^l of listed pairs to the levels from start to stop, each until it is dead."""
    for i in range(row.shape[0]):
        r, d = row[i], draw[i]
        w = np.float64(weight[r]) - own[d]
        for j in range(start, stop):
            logit = half[j] * distance2[i] + inverse[j] * along[i]
            if logit < dead[d]:
                break
            logit += w - shift[d, j]
            if logit > most:
                _raise(shift, sums, squares, d, j, logit)
                logit = 0.0
            mass = np.exp(logit)
            squares[d, j] += mass * mass
            for a in range(classes.shape[1]):
                sums[d, classes[r, a], j] += mass


@no_type_check
@compiled()
def _flush(held, classes, r, d, slow, start, reach, means):
    """Add what is held to the means of the slow classes of a row, and hold nothing."""
    for j in range(reach):
        for a in slow:
            for k in range(held.shape[1]):
                means[d, classes[r, a], start + j, k] += held[j, k]
        held[j] = 0.0


@no_type_check
@compiled()
def _scatter_means(
    row, draw, distance2, along, weight, own, classes, half, inverse, start, stop, dead, squares, means, part, joined,
    held, slow, fast,
):  # fmt: skip
    """Add e^l of listed pairs and items to the means at the levels from start to stop, each until it is dead.

    Where the classes of the slow attributes stay the same from pair to pair, what they are given is held back.
    """
    directions, count, reach = means.shape[3], row.shape[0], 0
    for i in range(count):
        r, d = row[i], draw[i]
        p, w = part[d], np.float64(weight[r]) - own[d]
        for j in range(start, stop):
            logit = half[j] * distance2[i] + inverse[j] * along[i]
            if logit < dead[d]:
                break
            mass = np.exp(logit + w)
            squares[d, j] += mass * mass
            for a in fast:
                c = classes[r, a]
                for k in range(directions):
                    means[d, c, j, k] += mass * joined[p, r, k]
            if slow.shape[0]:
                for k in range(directions):
                    held[j - start, k] += mass * joined[p, r, k]
                reach = max(reach, j - start + 1)
        after = i + 1
        other = after == count or draw[after] != d
        if not other:
            for a in slow:
                other = other or classes[row[after], a] != classes[r, a]
        if other:
            _flush(held, classes, r, d, slow, start, reach, means)
            reach = 0


@no_type_check
@compiled(fastmath=_SUMS)
def _differences(row, draw, raw, v, noise, distance2, along):
    """Squared distances and noise products from differences in float64."""
    for i in range(row.shape[0]):
        r, d = row[i], draw[i]
        total, product = 0.0, 0.0
        for k in range(raw.shape[1]):
            difference = np.float64(raw[r, k]) - np.float64(v[d, k])
            total += difference * difference
            product += difference * np.float64(noise[d, k])
        distance2[i] = total
        along[i] = product


@no_type_check
@compiled(fastmath=_SUMS)
def _centred(raw, centre, out, norm):
    """Items less the centre, and their squared norms."""
    for r in range(raw.shape[0]):
        total = np.float32(0.0)
        for k in range(raw.shape[1]):
            x = raw[r, k] - centre[k]
            out[r, k] = x
            total += x * x
        norm[r] = total


@no_type_check
@compiled(fastmath=_FAST)
def _weighted(weight, tile, total):
    """Add weight[k, row] tile[k] to total[row], where weights are not 0."""
    for row in range(weight.shape[1]):
        for k in range(weight.shape[0]):
            w = weight[k, row]
            if w > 0.0:
                for i in range(tile.shape[1]):
                    total[row, i] += w * tile[k, i]


def add_weighted(weight: Tensor, tile: Tensor, total: Tensor) -> None:
    """As :func:`sigmascope.exact.finite.kernel.with_torch.add_weighted`."""
    _weighted(weight.numpy(), tile.contiguous().numpy(), total.numpy())


def centred(raw: Tensor, centre: Tensor, out: Tensor) -> Tensor:
    """As :func:`sigmascope.exact.finite.kernel.with_torch.centred`."""
    norm = torch.empty(len(raw))
    _centred(*(x.numpy() for x in (raw.contiguous(), centre, out, norm)))
    return norm


def dense(s: Sums, tile: Tile, turn: Turn) -> tuple[Pairs, int]:
    """As :func:`sigmascope.exact.finite.kernel.with_torch.dense`, from the first level on.

    Raises: TooMany.
    """
    given = s.given
    levels = tile.exact_from(given.half)
    with_means = s.means.numel() > 0
    if with_means and levels < given.levels:
        levels -= levels % WIDTH  # stages are whole blocks, so that tiles with other rounding keep their turns
    common = tuple(x.numpy() for x in (tile.product, tile.norm, tile.vv, tile.nv))
    weights = tile.weight.float().numpy(), s.reference.own.float().numpy()
    half, inverse = _padded(given.half[:levels]), _padded(given.inverse[:levels])
    most = max(1024, int((_LISTED_MEANS if with_means else _LISTED) * tile.norm.numel() * len(tile.vv)))
    rows, draws, values = np.empty(most, np.int64), np.empty(most, np.int64), np.empty((2, most))
    dead = s.dead.float().numpy()
    if with_means:
        levels = _means(s, tile, turn, common, weights, half, inverse, levels)
        found = _living(*common, _onward(given, tile, levels), dead, rows, draws, values)
    else:
        blocks = -(-levels // WIDTH)
        work = np.empty((s.sums.shape[1] + 3, max(blocks, 1) * WIDTH), np.float32)
        found = _class_sums(
            *common, *weights, tile.classes.numpy(), half, inverse, blocks, levels, _onward(given, tile, levels), dead,
            np.float32(ROOM), given.steady, work, *(x.numpy() for x in (s.shift, s.sums, s.squares)), rows, draws,
            values,
        )  # fmt: skip
    if found > most:
        raise TooMany(levels)
    return Pairs(*(torch.from_numpy(x[:found]) for x in (rows, draws, *values))), levels


def _means(s: Sums, tile: Tile, turn: Turn, common, weights, half, inverse, levels: int) -> int:
    """Add a tile to sums and means in blocks of eight levels, while many pairs live; returns the level reached."""
    draws, dead, c = len(tile.vv), s.dead.float().numpy(), s.given.columns
    by_class, rights, every = ClassSums(tile.classes), tile.joined_by_part, torch.arange(s.sums.shape[1])
    ends = [(k, first, part.stop) for k, part in enumerate(c.parts) for first in range(part.start, part.stop, _CHUNK)]
    chunks = [(rights[k], slice(first, min(first + _CHUNK, stop))) for k, first, stop in ends]
    for begin in range(0, levels, WIDTH):
        stop = min(begin + WIDTH, levels)
        wanted = c.few + 1 if stop <= c.few_levels else c.count
        # The block's stages are shared out among the chunks: a tile follows the one before as closely as it can.
        stages = [begin + k * (stop - begin) // len(chunks) for k in range(len(chunks))]
        for stage, some in groupby(zip(stages, chunks, strict=True), itemgetter(0)):
            with turn.stage(stage):
                for _, (right, of) in some:
                    count = of.stop - of.start
                    mass, squares = room("mass", (len(tile.norm), count, WIDTH)), torch.zeros(count, WIDTH)
                    _masses(*common, *weights, half, inverse, begin, of.start, mass.numpy(), squares.numpy())
                    s.squares[of, begin:stop] += squares[:, : stop - begin]
                    for columns, part in by_class.products(mass.flatten(1), right[:, :wanted].contiguous()):
                        apart = part.view(len(part), count, WIDTH, -1)
                        _add_part(apart.numpy(), every[columns].numpy(), of.start, begin, stop, s.means.numpy())
        few = _SPARSE_MEANS * tile.norm.numel() * draws
        if stop < levels and _count(*common, half[stop], inverse[stop], dead) < few:
            return stop
    return levels


def _padded(x: Tensor) -> np.ndarray:
    """To whole blocks of eight; what is computed there is not used."""
    return torch.nn.functional.pad(x, (0, -len(x) % WIDTH)).float().numpy()


def _onward(given: Given, tile: Tile, level: int) -> np.ndarray:
    """The test for pairs that live at a level; beyond the last one, for the nearest."""
    if level == given.levels:
        return np.array([-0.5, 0.0, -4.0 * tile.slack(-0.5) - np.finfo(np.float32).tiny, 0.0], np.float32)
    half = float(given.half[level])
    return np.array([half, float(given.inverse[level]), -tile.slack(half), 1.0], np.float32)


def scatter(s: Sums, tile: Tile, pairs: Pairs, start: int, stop: int) -> None:
    """As :func:`sigmascope.exact.finite.kernel.with_torch.scatter`."""
    if not len(pairs) or start >= stop:
        return
    listed, levels = (pairs.row, pairs.draw, pairs.distance2, pairs.along), (s.given.half, s.given.inverse)
    found = *listed, tile.weight, s.reference.own, tile.classes, *levels
    common = *(x.numpy() for x in found), start, stop, s.dead.numpy()
    if not s.means.numel():
        _scatter(*common, ROOM, s.shift.numpy(), s.sums.numpy(), s.squares.numpy())
        return
    changes = (tile.classes[1:] != tile.classes[:-1]).sum(0) + 1
    is_slow = changes * len(tile.vv) * _HELD_BACK < len(pairs)
    slow, fast = (torch.nonzero(x)[:, 0].numpy() for x in (is_slow, ~is_slow))
    part = torch.repeat_interleave(torch.tensor([p.stop - p.start for p in s.given.columns.parts]))
    held = np.zeros((stop - start, s.means.shape[3]))
    sums = (x.numpy() for x in (s.squares, s.means, part, tile.joined_by_part))
    _scatter_means(*common, *sums, held, slow, fast)


def rescored(given: Given, tile: Tile, pairs: Pairs) -> Pairs:
    """As :func:`sigmascope.exact.finite.kernel.with_torch.rescored`."""
    distance2, along = torch.empty_like(pairs.distance2), torch.empty_like(pairs.distance2)
    _differences(*(x.numpy() for x in (pairs.row, pairs.draw, tile.raw, given.v, given.noise, distance2, along)))
    return Pairs(pairs.row, pairs.draw, distance2, along)
