"""Products and differences of listed pairs, compiled.

Importing this module imports numba.  What each function does is said in :mod:`sigmascope.exact.finite.kernel.pairs`.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import no_type_check

import numpy as np

from sigmascope.exact.finite.kernel.projection_bounds import BLOCK, RUN
from sigmascope.exact.finite.kernel.with_numba import compiled

_ANY_ORDER = {"reassoc", "contract", "nsz"}  # sums become vectors; the bounds hold for any order


@no_type_check
@compiled(fastmath=_ANY_ORDER)
def _run(stored, query):
    """Sum of RUN products, float32."""
    total = np.float32(0.0)
    for j in range(RUN):  # a length that is known, and indices that cannot be negative, become vectors
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
def _difference(value, anchor, apart):
    along, square = 0.0, 0.0
    for j in range(len(value)):
        step = np.float64(value[j]) - anchor[j]
        along += apart[j] * step
        square += step * step
    return along, square


@no_type_check
@compiled()
def differences(values, anchors, apart, row, along, square):
    for p in range(len(along)):
        along[p], square[p] = _difference(values[p], anchors[row[p]], apart[row[p]])


@no_type_check
@compiled()
def count_living(scores, peaks, least, start, stop, count):
    for t in range(peaks.shape[0]):
        for r in range(start, stop):
            for b in range(peaks.shape[2]):
                if peaks[t, r, b] > least[r]:
                    mine = 0
                    for j in range(BLOCK):
                        mine += scores[t, r, b, j] > least[r]
                    count[r] += mine


@no_type_check
@compiled()
def list_living(scores, peaks, least, limit, start, stop, count, items):
    found = 0
    for r in range(start, stop):
        if count[r] > limit:
            continue
        for t in range(peaks.shape[0]):
            for b in range(peaks.shape[2]):
                if peaks[t, r, b] > least[r]:
                    for j in range(BLOCK):
                        if scores[t, r, b, j] > least[r]:
                            items[found] = (t * scores.shape[2] + b) * BLOCK + j
                            found += 1
