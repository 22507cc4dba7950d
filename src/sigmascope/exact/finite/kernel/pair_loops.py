"""Products and differences of listed pairs, compiled.

Importing this module imports numba.  :mod:`sigmascope.exact.finite.kernel.pairs` documents the functions.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import no_type_check

import numpy as np

from sigmascope.exact.finite.kernel.projection_bounds import BLOCK, RUN
from sigmascope.exact.finite.kernel.simd import compiled

_ANY_ORDER = {"reassoc", "contract", "nsz"}  # so that sums are vectorised; the bounds hold for any order


@no_type_check
@compiled(fastmath=_ANY_ORDER)
def _run(stored, query):
    """Sum of RUN products, float32."""
    total = np.float32(0.0)
    for j in range(RUN):  # vectorised, since the length is known and indices are not negative
        total += stored[j] * query[j]
    return total


@no_type_check
@compiled()
def products(stored, item, queries, row, out):
    for p in range(len(out)):
        i, r = np.uint64(item[p]), np.uint64(row[p])
        total = 0.0
        for run in range(stored.shape[1]):
            total += np.float64(_run(stored[i, run], queries[r, run]))
        out[p] = total


@no_type_check
@compiled(fastmath=_ANY_ORDER)
def _difference(value, anchor, query):
    along, square = 0.0, 0.0
    for j in range(len(value)):
        step = np.float64(value[j]) - anchor[j]
        along += query[j] * step
        square += step * step
    return along, square


@no_type_check
@compiled()
def differences(values, anchors, query, row, along, square):
    for p in range(len(along)):
        along[p], square[p] = _difference(values[p], anchors[row[p]], query[row[p]])


@no_type_check
@compiled()
def count_above(scores, peaks, least, start, stop, count):
    for t in range(peaks.shape[0]):
        for r in range(start, stop):
            for b in range(peaks.shape[2]):
                if peaks[t, r, b] > least[r]:
                    above = 0
                    for j in range(BLOCK):
                        above += scores[t, r, b, j] > least[r]
                    count[r] += above


@no_type_check
@compiled()
def list_above(scores, peaks, least, limit, start, stop, count, items):
    listed = 0
    for r in range(start, stop):
        if count[r] > limit:
            continue
        for t in range(peaks.shape[0]):
            for b in range(peaks.shape[2]):
                if peaks[t, r, b] > least[r]:
                    for j in range(BLOCK):
                        if scores[t, r, b, j] > least[r]:
                            items[listed] = (t * scores.shape[2] + b) * BLOCK + j
                            listed += 1
