r"""Whether a network may compute in bfloat16: what it moves is measured before the study, on some of its draws.

At the same y the network is asked in both precisions.  For a model that knows attributes the score gap moves, by draw,
by

.. math:: \int \frac{\|D'_a - D'\|^2 - \|D_a - D\|^2}{\sigma^2}\, d\ln\sigma,

with D' in bfloat16.  For a model that is measured by its generations it is the divergence of the paths of the
generative SDE, which is at least that of anything read off their ends (Girsanov; data processing),

.. math:: D_{KL} = \int \frac{E\|D' - D\|^2}{\sigma^2}\, d\ln\sigma .

The largest mean over all ends of the integral, with two of its standard errors, is compared with a share of the error
that the study aims at.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Draws, InputError
from sigmascope.information.problem import part
from sigmascope.information.together import answers
from sigmascope.learn.calling import BFLOAT16, called, callings
from sigmascope.noise import integral_from_the_top

_DRAWS, _FEWEST, _LEVELS = 24, 6, 10
_CALLS = 4000  # in each precision, about, for an unconditional output of many calls
_SHARE = 0.25  # of the standard error that is aimed at, up to which gaps may move
_OF_ENTROPY = 0.01  # share of H(A): the error that is aimed at where no other is, and the most that paths may diverge
_SLOWER = 1.05  # ratio of the times of a call from which on it is said

ByDraw = Float[np.ndarray, "levels draws"]


@dataclass(frozen=True)
class Choice:
    """A precision, and the reason for it in a sentence."""

    precision: str
    words: str


@dataclass(frozen=True)
class Moved:
    """How far bfloat16 moves what a study measures, where it does most.

    Args:
        nats: mean over draws.
        stderr: its standard error.
        sigma: the level, down to which it is integrated.
        slower: ratio of the times of a call in bfloat16 and in float32.
    """

    nats: float
    stderr: float
    sigma: float
    slower: float


def choose_precision(problem: Any, target: float) -> Choice:
    """bfloat16 where it moves what the study measures by little, and float32 elsewhere.

    Args:
        problem: of a network, with or without attributes.
        target: standard error of the gaps that is aimed at, nats; 0: there is none.

    Raises: InputError for a model whose network cannot be called in another precision.

    Cost: a few thousand rows in each precision.
    """
    if not callings(problem.model):
        raise InputError(
            "precision is bfloat16, and this model is no network that can be called in it: leave --precision out"
        )
    entropy = min(a.entropy for a in problem.attributes)
    if not _has_gaps(problem):
        what, limit, of = "the paths of its generations", _OF_ENTROPY * entropy, f"{100 * _OF_ENTROPY:g} % of H(A)"
    else:
        what, limit = "the score gaps", _SHARE * (target or _OF_ENTROPY * entropy)
        of = f"{_SHARE:g} of " + (
            "the standard error that is aimed at" if target else f"{100 * _OF_ENTROPY:g} % of H(A)"
        )
    moved = moved_by_bfloat16(problem)
    by = f"it moves {what} by {moved.nats:.2g} ± {moved.stderr:.1g} nats at σ {moved.sigma:.3g}"
    if moved.nats + 2 * moved.stderr > limit:
        words = f"bfloat16 would change results: {by}, and at most {limit:.2g}, {of}, is allowed"
        return Choice("float32", f"the network stays at float32, since {words}")
    slower = f"; a call takes {moved.slower:.1f} times as long as in float32 here" if moved.slower > _SLOWER else ""
    return Choice(BFLOAT16, f"the network computes in bfloat16: {by}, less than {limit:.2g}, {of}{slower}")


def moved_by_bfloat16(problem: Any) -> Moved:
    """How far bfloat16 moves the score gaps of a problem, or without attributes the paths of generations."""
    gaps = _has_gaps(problem)
    draws, levels = _some(problem, gaps)
    both, (full, half) = _both(problem, draws, levels, gaps)
    weights = integral_from_the_top(levels)
    each = (_of_gaps if gaps else _of_paths)(both, levels)
    nats, stderr, sigma = max((_largest(weights @ x, levels) for x in each), key=lambda x: x[0] + 2 * x[1])
    return Moved(nats, stderr, sigma, half / max(full, 1e-9))


def _has_gaps(problem: Any) -> bool:
    return hasattr(problem, "gap_job")


def _some(problem: Any, gaps: bool) -> tuple[Draws, Float[np.ndarray, " levels"]]:
    """Some draws of a problem, and some of its levels, the first and the last among them."""
    at = np.unique(np.linspace(0, len(problem.sigma) - 1, _LEVELS).round().astype(int))
    calls = problem.unconditional_calls + (len(problem.attributes) if gaps else 0)
    count = int(np.clip(_CALLS // (len(at) * calls), _FEWEST, _DRAWS))
    return part(problem.draws, slice(0, count)), problem.sigma[at]


def _both(
    problem: Any, draws: Draws, levels: Float[np.ndarray, " levels"], gaps: bool
) -> tuple[list[list[list[Tensor]]], list[float]]:
    """The outputs in float32 and in bfloat16, by level and condition; and the shortest time of a level in each."""
    conditions = [{}, *({a.name: draws.labels[a.name]} for a in problem.attributes if gaps)]
    outputs: list[list[list[Tensor]]] = [[], []]
    seconds = [np.inf, np.inf]
    for sigma in levels.tolist():
        y = draws.v.double() + sigma * draws.noise.double()
        for k, half in enumerate((False, True)):
            with called(problem.model, bfloat16=half):
                begun = time.perf_counter()
                outputs[k].append(_flat(answers(problem.model, y, sigma, conditions)))
                seconds[k] = min(seconds[k], time.perf_counter() - begun)
    return outputs, seconds


def _flat(means: list[Tensor]) -> list[Tensor]:
    return [m.flatten(1).cpu() for m in means]


def _of_gaps(both: list[list[list[Tensor]]], levels: Float[np.ndarray, " levels"]) -> list[ByDraw]:
    """How far each attribute's integrand of the score gap moves."""

    def gaps(level: list[Tensor]) -> Tensor:
        free, *given = level
        return torch.stack([((d - free) ** 2).sum(1) for d in given])

    moved = [gaps(half) - gaps(full) for full, half in zip(*both, strict=True)]
    each = torch.stack([m / s**2 for m, s in zip(moved, levels.tolist(), strict=True)], 1)
    return list(each.numpy())


def _of_paths(both: list[list[list[Tensor]]], levels: Float[np.ndarray, " levels"]) -> list[ByDraw]:
    """The integrand of the divergence of paths."""
    moved = [((half[0] - full[0]) ** 2).sum(1) for full, half in zip(*both, strict=True)]
    return [torch.stack([m / s**2 for m, s in zip(moved, levels.tolist(), strict=True)]).numpy()]


def _largest(curve: ByDraw, levels: Float[np.ndarray, " levels"]) -> tuple[float, float, float]:
    """The mean over draws that is farthest from zero, its standard error, and its level."""
    mean, error = np.abs(curve.mean(1)), curve.std(1, ddof=1) / curve.shape[1] ** 0.5
    k = int((mean + 2 * error).argmax())
    return float(mean[k]), float(error[k]), float(levels[k])
