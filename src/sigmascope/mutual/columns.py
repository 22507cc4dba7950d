"""Arrays of samples as columns that networks can read: normal scores of numbers, indicators of classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri
from scipy.stats import chi2, rankdata

__all__ = ["classes_of", "entirely_discrete", "is_discrete", "most_repeated", "normal", "without_classes"]

_REPEATS = 10  # values of a discrete column repeat at least so often on average
_CLASSES = 64  # and there are at most so many of them
_ROUNDS = 3  # of the maps to normal distances and columns
_DEPENDENT = 1e-6  # share of the variance below which a direction is no direction of its own


def is_discrete(column: np.ndarray) -> bool:
    """Whether a column holds few values that repeat: classes and not numbers."""
    kinds = len(np.unique(column))
    return kinds <= _CLASSES and kinds * _REPEATS <= len(column)


def classes_of(array: Float[np.ndarray, "samples columns"]) -> np.ndarray:
    """The number of the class of each row, shape (samples,): equal rows share one."""
    return np.asarray(np.unique(array, axis=0, return_inverse=True)[1]).reshape(-1)


def entirely_discrete(array: Float[np.ndarray, "samples columns"]) -> bool:
    """Whether every column holds classes."""
    return all(is_discrete(c) for c in array.T)


def without_classes(array: Float[np.ndarray, "samples columns"]) -> bool:
    """Whether no column holds classes."""
    return not any(is_discrete(c) for c in array.T)


def most_repeated(array: Float[np.ndarray, "samples columns"]) -> float:
    """The largest share of a column that one value fills."""
    return max(float(np.unique(c, return_counts=True)[1].max()) / len(c) for c in array.T)


def normal(array: Float[np.ndarray, "samples columns"]) -> Float[np.ndarray, "samples width"]:
    r"""An invertible map of the rows after which columns, and distances from the centre, are about normal.

    A number becomes the normal score of its rank, :math:`\Phi^{-1}((r_i - \frac12)/n)`, in which tied numbers share
    their mean rank; a class becomes an indicator for each class but the last.  Of several columns of numbers the
    whitened distance from the centre is then mapped to the quantiles of that of a normal law, and the scores are taken
    again.  Normal arrays stay as they are, elliptical ones become normal.

    Information does not change under invertible maps of an array, and increasing maps of a column leave the result
    of this function as it is.
    """
    if array.shape[1] < 2 or not without_classes(array):
        parts = [_indicators(c) if is_discrete(c) else _scores(c)[:, None] for c in array.T]
        return np.concatenate(parts, 1) if parts else np.zeros((len(array), 0))
    scores = _columns(array)
    for _ in range(_ROUNDS - 1):
        scores = _columns(_round(scores))
    return _round(scores)


def _columns(array: np.ndarray) -> np.ndarray:
    return np.stack([_scores(c) for c in array.T], 1)


def _round(rows: np.ndarray) -> np.ndarray:
    """Rows whitened, with distances from the centre as in a normal law."""
    rows = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    if values[0] < _DEPENDENT * values[-1]:
        return rows  # one column is a function of the others: there is no whitening
    white = (rows @ (vectors / np.sqrt(values))) @ vectors.T
    distance = np.sqrt((white**2).sum(1)).clip(1e-9)
    wanted = np.sqrt(chi2.ppf((rankdata(distance) - 0.5) / len(rows), rows.shape[1]))
    return np.asarray(white * (wanted / distance)[:, None])


def _scores(column: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return np.asarray(ndtri(middle / len(column))[places.reshape(-1)])


def _indicators(column: np.ndarray) -> np.ndarray:
    values = np.unique(column)
    return np.asarray((column[:, None] == values[None, :-1]).astype(float))
