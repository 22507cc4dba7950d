"""Items in memory, of which large pictures can be made smaller."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import ArraySource
from sigmascope.data.memory import require

_BLOCK = 1 << 22  # coordinates read at once


def in_memory(data: LabelledData, size: int = 0) -> LabelledData:
    """The same items in memory, float32, where each pixel of a larger picture is the mean of a block of pixels.

    ``size`` is the side of the pictures in pixels; 0, or pictures of at most this side: they stay as they are.
    """
    event, factor = data.event, 1
    if size and len(event) == 3 and max(event[1:]) > size:
        factor = max(event[1:]) // size
        if any(side % factor for side in event[1:]) or max(event[1:]) != size * factor:
            raise InputError(
                f"{data.name}: pictures of {event[2]} × {event[1]} pixels do not divide into blocks for a side of "
                f"{size}: pass --size 0 to leave them as they are, or a side that divides them"
            )
        event = (event[0], event[1] // factor, event[2] // factor)
    numbers = len(data) * int(np.prod(event))
    purpose = f"holding {len(data):,} items of {' × '.join(map(str, event))} numbers"
    require(4 * numbers, purpose, "use a smaller --size")
    array = np.empty((len(data), *event), dtype=np.float32)
    rows = max(1, _BLOCK // data.size)
    for start in range(0, len(data), rows):
        x = data.source.read(start, min(start + rows, len(data)))
        if factor > 1:
            x = x.reshape(len(x), event[0], event[1], factor, event[2], factor).mean((3, 5))
        array[start : start + len(x)] = x.numpy()
    fingerprint = data.fingerprint if factor == 1 else f"{data.fingerprint}-{event[1]}x{event[2]}"
    return replace(data, source=ArraySource(array), fingerprint=fingerprint)
