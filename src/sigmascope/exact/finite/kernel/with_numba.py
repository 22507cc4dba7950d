"""The steps of the exact filter's inner loop, compiled: each pair goes down the levels until it is below the threshold.

Importing this module imports numba.  The public functions do what those of the same name in
:mod:`sigmascope.exact.finite.kernel.with_torch` do.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from sigmascope.exact.finite.kernel.class_sums import ClassSums
from sigmascope.exact.finite.kernel.simd import (
    WIDTH,
    add_to,
    compiled,
    exp,
    lane,
    largest_into,
    minus,
    quadratic,
    square,
    store,
    times,
)
from sigmascope.exact.finite.kernel.sums import ROOM, Inputs, LivePairs, Sums, Tile
from sigmascope.exact.finite.kernel.threads import Turn, room

_LISTED = 0.02  # room for listed pairs, as a share of all pairs; with more, with_torch is faster
_LISTED_MEANS, _SPARSE_MEANS = 0.5, 0.4  # the same with means, and the share below which they are added by pairs
_FAST = {"contract", "nsz", "nnan"}  # nothing here is NaN; sums keep their order
_SUMS = {"contract", "reassoc"}  # sums in vectors
_HELD_BACK = 8  # from so many consecutive pairs of one class on average, their sum is added at once
_DRAWS, _ROWS = 16, 64  # of a block that fits the first cache
_CHUNK = 64  # draws whose masses fit the last cache


@no_type_check
@compiled()
def _raise(shift, sums, squares, weighted, d, j, by):
    """Raise the shift of a draw and level."""
    scale = np.exp(-np.float64(by))
    shift[d, j] += by
    squares[d, j] *= scale * scale
    for c in range(sums.shape[1]):
        sums[d, c, j] *= scale
    for k in range(weighted.shape[1]):
        weighted[d, k, j] *= scale


@no_type_check
@compiled(fastmath=_FAST)
# long: one loop over pairs keeps its sums in registers and in the first cache.
def _class_sums(
    product, norm, v_term, noise_term, log_w, log_w0, classes, weights, half, inverse, blocks, levels, last, least,
    most, steady, buffer, shift, sums, squares, weighted, rows, draws, values
):  # fmt: skip
    """Add e^(l - shift) to the sums at the leading levels, in blocks of eight; list the pairs that remain."""
    count, total, attributes, owns = v_term.shape[0], norm.shape[0], classes.shape[1], weights.shape[0]
    columns, width = buffer.shape[0] - 3 - owns, buffer.shape[1]  # then rows: squares, shifts, largest logits, weighted
    shift_row, peak_row, own_row = (columns + 1) * width, (columns + 2) * width, (columns + 3) * width
    listed = 0
    for d in range(count):
        before = listed
        again = True
        while again:
            again = False
            listed = before
            buffer[:] = np.float32(0.0)
            for j in range(levels):
                buffer[columns + 1, j] = shift[d, j]
            for r in range(total):
                d2 = max(norm[r] + v_term[d] - np.float32(2.0) * product[d, r], np.float32(0.0))
                s = product[count + d, r] - noise_term[d]
                w = log_w[r] - log_w0[d]
                if w < np.float32(-1e30):  # the item has weight 0
                    continue
                alive = True
                for b in range(blocks):
                    logit = quadratic(half, inverse, b * WIDTH, d2, s, w)
                    if lane(logit, 0) - w < least[d]:  # without weights: it stays below
                        alive = False
                        break
                    if not steady:
                        logit = minus(logit, buffer, shift_row + b * WIDTH)
                        largest_into(buffer, peak_row + b * WIDTH, logit)
                    mass = exp(logit)
                    add_to(buffer, columns * width + b * WIDTH, square(mass))
                    for a in range(attributes):
                        add_to(buffer, classes[r, a] * width + b * WIDTH, mass)
                    for k in range(owns):
                        add_to(buffer, own_row + k * width + b * WIDTH, times(mass, np.float32(weights[k, d, r])))
                if alive and d2 * last[0] + s * last[1] > last[2] + last[3] * least[d]:
                    if listed < rows.shape[0]:
                        rows[listed], draws[listed], values[0, listed], values[1, listed] = r, d, d2, s
                    listed += 1
            for j in range(levels):
                if buffer[columns + 2, j] > most:  # too large for float32: raise the shift and repeat
                    _raise(shift, sums, squares, weighted, d, j, buffer[columns + 2, j])
                    again = True
        for c in range(columns):
            for j in range(levels):
                sums[d, c, j] += buffer[c, j]
        for j in range(levels):
            squares[d, j] += buffer[columns, j]
        for k in range(owns):
            for j in range(levels):
                weighted[d, k, j] += buffer[columns + 3 + k, j]
    return listed


@no_type_check
@compiled(fastmath=_FAST)
def _masses(product, norm, v_term, noise_term, log_w, log_w0, half, inverse, start, first, out, squares):
    """e^l at eight levels from ``start``, (rows, draws, 8), for draws from ``first``; adds squares."""
    count, chunk, total = v_term.shape[0], out.shape[1], norm.shape[0]
    for d0 in range(0, chunk, _DRAWS):
        for i0 in range(0, total, _ROWS):
            for r in range(i0, min(i0 + _ROWS, total)):
                for d in range(d0, min(d0 + _DRAWS, chunk)):
                    draw = first + d
                    d2 = max(norm[r] + v_term[draw] - np.float32(2.0) * product[draw, r], np.float32(0.0))
                    s = product[count + draw, r] - noise_term[draw]
                    mass = exp(quadratic(half, inverse, start, d2, s, log_w[r] - log_w0[draw]))
                    store(out, (r * chunk + d) * WIDTH, mass)
                    add_to(squares, d * WIDTH, square(mass))


@no_type_check
@compiled(fastmath=_FAST)
def _count(product, norm, v_term, noise_term, half, inverse, least):
    """The number of pairs above the threshold at one level."""
    count = v_term.shape[0]
    listed = 0
    for d in range(count):
        for r in range(norm.shape[0]):
            d2 = norm[r] + v_term[d] - np.float32(2.0) * product[d, r]
            listed += d2 * half + (product[count + d, r] - noise_term[d]) * inverse > least[d]
    return listed


@no_type_check
@compiled()
def _add_part(part, columns, first, start, stop, means):
    """Add products of eight levels of masses to the means of draws."""
    directions = part.shape[3]
    for i in range(columns.shape[0]):
        for d in range(part.shape[1]):
            for j in range(stop - start):
                for k in range(directions):
                    means[first + d, columns[i], start + j, k] += part[i, d, j, k]


@no_type_check
@compiled(fastmath=_FAST)
def _list_live(product, norm, v_term, noise_term, last, least, rows, draws, values):
    """List the pairs whose logit at one level is above the threshold; returns how many there are."""
    count = v_term.shape[0]
    listed = 0
    for d in range(count):
        for r in range(norm.shape[0]):
            d2 = max(norm[r] + v_term[d] - np.float32(2.0) * product[d, r], np.float32(0.0))
            s = product[count + d, r] - noise_term[d]
            if d2 * last[0] + s * last[1] > last[2] + last[3] * least[d]:
                if listed < rows.shape[0]:
                    rows[listed], draws[listed], values[0, listed], values[1, listed] = r, d, d2, s
                listed += 1
    return listed


@no_type_check
@compiled()
def _scatter(
    row, draw, distance2, along, log_w, log_w0, classes, half, inverse, start, stop, least, weights, most, shift, sums,
    squares, weighted
):  # fmt: skip
    """Add e^l of listed pairs to the levels from start to stop, each until it is below the threshold."""
    for i in range(row.shape[0]):
        r, d = row[i], draw[i]
        w = np.float64(log_w[r]) - log_w0[d]
        for j in range(start, stop):
            logit = half[j] * distance2[i] + inverse[j] * along[i]
            if logit < least[d]:
                break
            logit += w - shift[d, j]
            if logit > most:
                _raise(shift, sums, squares, weighted, d, j, logit)
                logit = 0.0
            mass = np.exp(logit)
            squares[d, j] += mass * mass
            for a in range(classes.shape[1]):
                sums[d, classes[r, a], j] += mass
            for k in range(weights.shape[0]):
                weighted[d, k, j] += mass * weights[k, d, r]


@no_type_check
@compiled()
def _flush(deferred, classes, r, d, slow, start, reach, means):
    """Add the deferred sums to the means of a row's slow classes, and clear them."""
    for j in range(reach):
        for a in slow:
            for k in range(deferred.shape[1]):
                means[d, classes[r, a], start + j, k] += deferred[j, k]
        deferred[j] = 0.0


@no_type_check
@compiled()
def _scatter_means(
    row, draw, distance2, along, log_w, log_w0, classes, half, inverse, start, stop, least, squares, means, part,
    with_one, deferred, slow, fast
):  # fmt: skip
    """Add e^l of listed pairs, and of their items, to the means from start to stop, each until below the threshold.

    While the classes of the slow attributes stay the same from pair to pair, their sums are deferred.
    """
    directions, count, reach = means.shape[3], row.shape[0], 0
    for i in range(count):
        r, d = row[i], draw[i]
        p, w = part[d], np.float64(log_w[r]) - log_w0[d]
        for j in range(start, stop):
            logit = half[j] * distance2[i] + inverse[j] * along[i]
            if logit < least[d]:
                break
            mass = np.exp(logit + w)
            squares[d, j] += mass * mass
            for a in fast:
                c = classes[r, a]
                for k in range(directions):
                    means[d, c, j, k] += mass * with_one[p, r, k]
            if slow.shape[0]:
                for k in range(directions):
                    deferred[j - start, k] += mass * with_one[p, r, k]
                reach = max(reach, j - start + 1)
        after = i + 1
        other = after == count or draw[after] != d
        if not other:
            for a in slow:
                other = other or classes[row[after], a] != classes[r, a]
        if other:
            _flush(deferred, classes, r, d, slow, start, reach, means)
            reach = 0


@no_type_check
@compiled(fastmath=_SUMS)
def _differences(row, draw, raw, v, noise, distance2, along):
    """Squared distances and noise products, from float64 differences."""
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
    _weighted(weight.numpy(), tile.contiguous().numpy(), total.numpy())


def centred(raw: Tensor, centre: Tensor, out: Tensor) -> Tensor:
    norm = torch.empty(len(raw))
    _centred(*(x.numpy() for x in (raw.contiguous(), centre, out, norm)))
    return norm


def dense(s: Sums, tile: Tile, turn: Turn) -> tuple[LivePairs | None, int]:
    """Add a tile from the first level on; None in place of more pairs than a list has room for."""
    inputs = s.inputs
    levels = tile.exact_from(inputs.half)
    with_means = s.means.numel() > 0
    if with_means and levels < inputs.levels:
        levels -= levels % WIDTH  # whole blocks, so that tiles with other rounding have the same stages
    common = tuple(x.numpy() for x in (tile.product, tile.square, tile.v_term, tile.noise_term))
    weights = tile.log_weight.float().numpy(), s.reference.log_weight.float().numpy()
    half, inverse = _padded(inputs.half[:levels]), _padded(inputs.inverse[:levels])
    most = max(1024, int((_LISTED_MEANS if with_means else _LISTED) * tile.square.numel() * len(tile.v_term)))
    rows, draws, values = np.empty(most, np.int64), np.empty(most, np.int64), np.empty((2, most))
    threshold = s.threshold.float().numpy()
    if with_means:
        levels = _means(s, tile, turn, common, weights, half, inverse, levels)
        count = _list_live(*common, _onward(inputs, tile, levels), threshold, rows, draws, values)
    else:
        blocks = -(-levels // WIDTH)
        buffer = np.empty((s.sums.shape[1] + 3 + s.weighted.shape[1], max(blocks, 1) * WIDTH), np.float32)
        sums = (x.numpy() for x in (s.shift, s.sums, s.squares, s.weighted))
        count = _class_sums(
            *common, *weights, tile.classes.numpy(), tile.weights.numpy(), half, inverse, blocks, levels,
            _onward(inputs, tile, levels), threshold, np.float32(ROOM), inputs.steady, buffer, *sums, rows, draws,
            values,
        )  # fmt: skip
    if count > most:
        return None, levels
    return LivePairs(*(torch.from_numpy(x[:count]) for x in (rows, draws, *values))), levels


def _means(s: Sums, tile: Tile, turn: Turn, common, weights, half, inverse, levels: int) -> int:
    """Add a tile to the means in blocks of eight levels, while many pairs are above the threshold."""
    draws, threshold, c = len(tile.v_term), s.threshold.float().numpy(), s.inputs.means
    by_class, rights, every = ClassSums(tile.classes), tile.with_one_by_part, torch.arange(s.sums.shape[1])
    ends = [(k, first, part.stop) for k, part in enumerate(c.parts) for first in range(part.start, part.stop, _CHUNK)]
    chunks = [(rights[k], slice(first, min(first + _CHUNK, stop))) for k, first, stop in ends]
    for begin in range(0, levels, WIDTH):
        stop = min(begin + WIDTH, levels)
        wanted = c.coarse + 1 if stop <= c.coarse_levels else c.count
        # The chunks share the block's stages, so that a tile follows the one before closely.
        stages = [begin + k * (stop - begin) // len(chunks) for k in range(len(chunks))]
        for stage, group in groupby(zip(stages, chunks, strict=True), itemgetter(0)):
            with turn.stage(stage):
                for _, (right, part) in group:
                    count = part.stop - part.start
                    mass, squares = room("mass", (len(tile.square), count, WIDTH)), torch.zeros(count, WIDTH)
                    _masses(*common, *weights, half, inverse, begin, part.start, mass.numpy(), squares.numpy())
                    s.squares[part, begin:stop] += squares[:, : stop - begin]
                    for classes, sums in by_class.products(mass.flatten(1), right[:, :wanted].contiguous()):
                        by_draw = sums.view(len(sums), count, WIDTH, -1).numpy()
                        _add_part(by_draw, every[classes].numpy(), part.start, begin, stop, s.means.numpy())
        few = _SPARSE_MEANS * tile.square.numel() * draws
        if stop < levels and _count(*common, half[stop], inverse[stop], threshold) < few:
            return stop
    return levels


def _padded(x: Tensor) -> np.ndarray:
    """Padded to whole blocks of eight; the padding's results are not used."""
    return torch.nn.functional.pad(x, (0, -len(x) % WIDTH)).float().numpy()


def _onward(inputs: Inputs, tile: Tile, level: int) -> np.ndarray:
    """Coefficients of the test for pairs above the threshold; after the last level, for the nearest items."""
    if level == inputs.levels:
        return np.array([-0.5, 0.0, -4.0 * tile.slack(-0.5) - np.finfo(np.float32).tiny, 0.0], np.float32)
    half = float(inputs.half[level])
    return np.array([half, float(inputs.inverse[level]), -tile.slack(half), 1.0], np.float32)


def scatter(s: Sums, tile: Tile, pairs: LivePairs, start: int, stop: int) -> None:
    if not len(pairs) or start >= stop:
        return
    listed, levels = (pairs.row, pairs.draw, pairs.distance2, pairs.along), (s.inputs.half, s.inputs.inverse)
    tensors = *listed, tile.log_weight, s.reference.log_weight, tile.classes, *levels
    common = *(x.numpy() for x in tensors), start, stop, s.threshold.numpy()
    if not s.means.numel():
        sums = (x.numpy() for x in (s.shift, s.sums, s.squares, s.weighted))
        _scatter(*common, tile.weights.numpy(), ROOM, *sums)
        return
    changes = (tile.classes[1:] != tile.classes[:-1]).sum(0) + 1
    is_slow = changes * len(tile.v_term) * _HELD_BACK < len(pairs)
    slow, fast = (torch.nonzero(x)[:, 0].numpy() for x in (is_slow, ~is_slow))
    part = torch.repeat_interleave(torch.tensor([p.stop - p.start for p in s.inputs.means.parts]))
    deferred = np.zeros((stop - start, s.means.shape[3]))
    means = (x.numpy() for x in (s.squares, s.means, part, tile.with_one_by_part))
    _scatter_means(*common, *means, deferred, slow, fast)


def rescored(inputs: Inputs, tile: Tile, pairs: LivePairs) -> LivePairs:
    distance2, along = torch.empty_like(pairs.distance2), torch.empty_like(pairs.distance2)
    _differences(*(x.numpy() for x in (pairs.row, pairs.draw, tile.raw, inputs.v, inputs.noise, distance2, along)))
    return LivePairs(pairs.row, pairs.draw, distance2, along)
