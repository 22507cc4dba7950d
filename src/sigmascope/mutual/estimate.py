"""Mutual information of two arrays of samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float

from sigmascope.errors import InputError
from sigmascope.limits import MOST_SEED, MOST_STEPS, whole, within
from sigmascope.mutual.columns import classes_of, entirely_discrete, most_repeated, normal, without_classes
from sigmascope.mutual.contrastive import contrastive_bound
from sigmascope.mutual.counting import counted
from sigmascope.mutual.folds import better
from sigmascope.mutual.gaps import OneWay, one_way
from sigmascope.mutual.judging import doubts_of
from sigmascope.mutual.linear import coordinates
from sigmascope.mutual.results import MutualInformation, Way
from sigmascope.mutual.settings import Settings

__all__ = ["mutual_information"]

_FEWEST = 100  # samples
_MOST_COLUMNS = 512
_CORRECTED = 0.02  # nats, or a tenth of the value: a larger correction of the counts is a doubt
_ABNORMAL = 0.1  # nats beyond the array that is closer to a normal one
_FAR = 0.3  # nats from which the law of an array itself is a source of error
_REPEATED = 0.05  # share of a column that one value may fill
_NORMAL = 1.959964  # quantile of a 95 % interval


def mutual_information(x: Any, y: Any, given: Any = None, *, steps: int = 2000, seed: int = 0) -> MutualInformation:
    r"""Mutual information I(X; Y), or I(X; Y | Z), of arrays of samples, by diffusion.

    .. math:: I(X; Y) = -\tfrac12 \sum_i \ln(1 - \rho_i^2)
              + \int \frac{E\langle X - D, D_Y - D\rangle - (\text{the same of linear denoisers})}{\sigma^2} d\ln\sigma

    :math:`\rho_i` are canonical correlations of the normal scores of the columns, D and :math:`D_Y` denoisers of X +
    σN, learned without and with Y, and :math:`\langle\cdot\rangle` is measured on samples that the networks have not
    seen.  X and Y change roles in turn, and the larger value is kept, chosen by one half of the held-out samples and
    measured by the other.  Columns of classes (at most 64 values that repeat) become indicators.  Where all columns
    are classes, they are counted.

    Args:
        x: samples of X, shape (samples,) or (samples, columns), numbers.
        y: samples of Y, shape (samples,) or (samples, columns), in the same order.
        given: samples of Z; the information is then the conditional one.
        steps: steps of each training.
        seed: of folds, weights, batches and noise; the same seed gives the same numbers.

    Returns: the value with its interval, a lower bound, and a verdict.

    Raises: InputError for arrays that cannot be used.

    Valid when: samples are independent, and enough for the networks to learn the dependence; see the verdict.  The
    value can err to both sides, mostly downward.

    Cost: two trainings of three small networks and that of the bound; a minute or two on two cores for 10,000 samples
    of 5 + 5 columns.

    References: Guo, Shamai, Verdú (2005); Franzese, Bounoua, Michiardi (2024).
    """
    within("steps", whole("steps", steps), 10, MOST_STEPS)
    within("seed", whole("seed", seed), 0, MOST_SEED)
    arrays = [_checked("x", x), _checked("y", y)]
    arrays.append(np.zeros((len(arrays[0]), 0)) if given is None else _checked("given", given))
    _same_length(arrays)
    start = time.perf_counter()
    widths = (arrays[0].shape[1], arrays[1].shape[1], arrays[2].shape[1])
    if all(entirely_discrete(a) for a in arrays):
        return _by_counts(arrays, widths, start)
    return _by_diffusion(arrays, widths, Settings(steps=steps, seed=seed), start)


def _by_diffusion(
    arrays: list[np.ndarray], widths: tuple[int, int, int], settings: Settings, start: float
) -> MutualInformation:
    x, y, z = (normal(a) for a in arrays)
    one, two = coordinates(x, y, z), coordinates(y, x, z)
    # At small noise on classes the value hangs on how sharply networks tell them apart: numbers are noised if possible.
    noised = [name for name, array in zip("xy", arrays, strict=False) if without_classes(array)] or ["x", "y"]
    turns = {"x": lambda: one_way(one, two.x, z, settings, 0), "y": lambda: one_way(two, one.x, z, settings, 1)}
    tasks: list[Callable[[], Any]] = [turns[name] for name in noised]
    if not widths[2]:
        tasks.append(lambda: contrastive_bound(one, two.x, settings))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda task: task(), tasks))
    measured: list[OneWay] = results[: len(noised)]
    bound: tuple[float, float] = results[-1] if not widths[2] else (math.nan, math.nan)
    ways = tuple(_way(name, m) for name, m in zip(noised, measured, strict=True))
    # What is not learned of an array's own law makes its value too large: the array closest to a normal one is noised.
    least = min(m.beyond_normal for m in measured)
    kept = [k for k, m in enumerate(measured) if m.beyond_normal <= least + _ABNORMAL]
    used = tuple(ways[k] for k in kept)
    samples = _chosen([measured[k] for k in kept])
    value, stderr = _mean(samples)
    apart = max(abs(w.score - w.mmse) for w in used)
    between = abs(used[0].mean - used[-1].mean)
    # What the networks have not learned is missing, never added: the interval is widened upward by more.
    low = value - _NORMAL * stderr - 0.25 * apart - 0.5 * between
    high = value + _NORMAL * stderr + apart + 0.5 * between
    doubts = doubts_of(samples, stderr, used, bound, widths) + _of_columns(arrays, [w.noised for w in used])
    if least > _FAR:
        doubts += (f"both arrays are far from normal (by {least:.1f} nats or more): the value may be too large",)
    return MutualInformation(
        max(value, 0.0), max(low, 0.0), max(high, 0.0), stderr, *bound, max(one.information(), 0.0), "diffusion", ways,
        doubts, len(arrays[0]), widths, time.perf_counter() - start,
    )  # fmt: skip


def _chosen(measured: list[OneWay]) -> Float[np.ndarray, "folds samples"]:
    """Of the forms and ways that are too small by what was not learned, the one that is largest on other samples."""
    choices = np.concatenate([m.samples[1:] for m in measured])
    return better(choices, choices)


def _mean(samples: Float[np.ndarray, "folds samples"]) -> tuple[float, float]:
    """The mean, and the larger of its standard errors by samples and by folds."""
    by_samples = samples.var(ddof=1) / samples.size
    by_folds = samples.mean(1).var(ddof=1) / len(samples)
    return float(samples.mean()), float(math.sqrt(max(by_samples, by_folds)))


def _way(name: str, m: OneWay) -> Way:
    score, mmse, mean = (float(v) for v in m.samples.mean((1, 2)))
    return Way(name, score, mmse, mean, m.sigma, m.rate[:2])


def _of_columns(arrays: list[np.ndarray], noised: list[str]) -> tuple[str, ...]:
    """Doubts about the columns that noise was added to."""
    doubts = []
    for name, array in zip("xy", arrays, strict=False):
        if name in noised and not without_classes(array):
            doubts.append(f"{name} mixes or holds classes, as the other array does")
        elif name in noised and most_repeated(array) > _REPEATED:
            doubts.append(f"a value fills {most_repeated(array):.0%} of a column of {name}")
    return tuple(doubts)


def _by_counts(arrays: list[np.ndarray], widths: tuple[int, int, int], start: float) -> MutualInformation:
    x, y, z = (classes_of(a) if a.shape[1] else np.zeros(len(a), dtype=int) for a in arrays)
    value, stderr, correction = counted(x, y, z)
    doubts: tuple[str, ...] = ()
    if abs(correction) > max(_CORRECTED, 0.1 * abs(value)):
        doubts = (f"the counts are few: their correction is {correction:.2f} nats",)
    half = _NORMAL * stderr + abs(correction)
    return MutualInformation(
        max(value, 0.0), max(value - half, 0.0), max(value + half, 0.0), stderr, math.nan, math.nan, math.nan,
        "counts", (), doubts, len(x), widths, time.perf_counter() - start,
    )  # fmt: skip


def _checked(name: str, given: Any) -> np.ndarray:
    """The array as numbers, shape (samples, columns)."""
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"{name} has rows of different lengths: pass an array of numbers") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {array.dtype}: expected numbers; write classes as whole numbers")
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{name} has shape {array.shape}: expected (samples,) or (samples, columns)")
    array = array.reshape(len(array), -1).astype(np.float64)
    if len(array) < _FEWEST:
        raise InputError(f"{name} has {len(array)} samples: expected at least {_FEWEST}")
    if array.shape[1] > _MOST_COLUMNS:
        raise InputError(
            f"{name} has {array.shape[1]:,} columns: expected at most {_MOST_COLUMNS}; pass its principal components"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} has values that are not finite: leave these samples out of all arrays")
    constant = np.flatnonzero((array == array[0]).all(0))
    if len(constant):
        raise InputError(f"column {constant[0]} of {name} is constant: leave it out")
    return array


def _same_length(arrays: list[np.ndarray]) -> None:
    for name, array in zip(("y", "given"), arrays[1:], strict=True):
        if len(array) != len(arrays[0]):
            raise InputError(
                f"x has {len(arrays[0]):,} samples, {name} has {len(array):,}: pass the same number of each"
            )
