r"""Information of classes, from their counts.

.. math:: I(X; Y | Z) = H(X, Z) + H(Y, Z) - H(X, Y, Z) - H(Z)

Each entropy is that of the frequencies plus (cells seen − 1) / 2n.  References: Miller (1955).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

__all__ = ["counted"]


def counted(
    x: Int[np.ndarray, " samples"], y: Int[np.ndarray, " samples"], z: Int[np.ndarray, " samples"]
) -> tuple[float, float, float]:
    """I(X; Y | Z) of classes in nats, its standard error (delta method), and the correction for unseen cells.

    The correction is 0 or below where joint cells are sparse; where it is large beside the value, the counts are too
    few.
    """
    parts = [((x, z), 1.0), ((y, z), 1.0), ((x, y, z), -1.0), ((z,), -1.0)]
    total, correction, rows = 0.0, 0.0, np.zeros(len(x))
    for arrays, sign in parts:
        _, cell, counts = np.unique(np.stack(arrays, 1), axis=0, return_inverse=True, return_counts=True)
        surprise = -np.log(counts / len(x))[cell.reshape(-1)]
        rows += sign * surprise
        total += sign * float(surprise.mean())
        correction += sign * (len(counts) - 1) / (2 * len(x))
    return total + correction, float(rows.std(ddof=1) / np.sqrt(len(x))), correction
