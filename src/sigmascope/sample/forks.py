r"""Forks: independent continuations of the generative process from one noisy state.

From :math:`Y_\sigma = y` the exact generative SDE ends at a draw of :math:`p(v \mid y)`, so the attributes of K
continuations are K draws of :math:`p(a \mid y)`.  The end of a probability-flow ODE is a function of y, so it cannot
fork directly.  It can after noising y further, to :math:`y'` (the U-turn): its children are then draws of
:math:`p(v \mid Y_{\sigma'} = y')`, over the added noise, and vary more than draws of :math:`p(v \mid y)`.

References: Franzese et al. (2025); Meng et al. (2022), SDEdit; Sclocchi et al. (2025); Biroli et al. (2024), clones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from sigmascope.core import Denoiser, InputError
from sigmascope.sample.schemes import Bridge, Scheme, State, StochasticHeun, checked_levels, sample
from sigmascope.streams import NoiseOf, Streams, Use, generator


def fork(
    denoiser: Denoiser,
    y: Tensor,
    sigmas: Sequence[float] | np.ndarray | Tensor,
    forks: int,
    seed: int,
    scheme: Scheme | None = None,
    *,
    renoise: float | None = None,
    known: Mapping[str, Tensor] | None = None,
    first_parent: int = 0,
    resume: tuple[int, Tensor] | None = None,
) -> Iterator[State]:
    """Sample several independent continuations of each noisy state, its children.

    Args:
        denoiser: the model.
        y: the parents, noisy states at the first level, shape (parents, *event).
        sigmas: decreasing levels; the first is the parents' level, 0 at the end gives clean children.
        forks: how many children each parent has.
        seed: each child's noise depends only on it and on the numbers of the parent and of the child.  (The clean
            values that a Bridge draws come from one stream for all children.)
        scheme: None is StochasticHeun; it must be stochastic, unless ``renoise`` is given.
        renoise: the level to which each child first noises its parent further, with noise of its own; None: no further
            noise.
        known: by name, the values of known attributes, one per parent.
        first_parent: number of the first parent, where parents come in several batches.
        resume: the step and state, as yielded, to resume from; for schemes that draw one noise a step, so not for
            Bridge, and for Churn only without an interval.

    Yields: states of shape (parents · forks, *event), the children of a parent together, at :func:`fork_levels`.

    Raises: InputError for a deterministic scheme without ``renoise``, a ``renoise`` that is not above the first level,
        or a Bridge to be resumed.
    """
    how, levels = scheme or StochasticHeun(), fork_levels(sigmas, renoise)
    if forks < 1:
        raise InputError(f"forks is {forks}: at least 1 is needed")
    if not how.stochastic and renoise is None:
        raise InputError(
            f"{type(how).__name__} is deterministic: all forks of a state would be the same. Use a stochastic sampler, "
            "or noise the state further first (renoise)"
        )
    if resume is not None and isinstance(how, Bridge):
        raise InputError("a Bridge draws clean values from one stream, which cannot be resumed: start again")
    keys = [(NoiseOf.FORKS, first_parent + i, j) for i in range(len(y)) for j in range(forks)]
    streams = Streams(seed, keys, tuple(y.shape[1:]))
    rows = y.double().repeat_interleave(forks, 0)
    if renoise is not None:
        rows = rows + math.sqrt(renoise**2 - float(sigmas[0]) ** 2) * streams().to(rows.device)
    of_children = {name: value.repeat_interleave(forks, 0) for name, value in (known or {}).items()}
    done = 0
    if resume is not None:
        done, rows = resume
        for _ in range(done if how.stochastic else 0):
            streams()
    of_values = generator(seed, Use.CLEAN_VALUES, first_parent)
    return sample(denoiser, rows, levels[done:], how, noise=streams, known=of_children or None, generator=of_values)


def fork_levels(sigmas: Sequence[float] | np.ndarray | Tensor, renoise: float | None = None) -> list[float]:
    """The levels that children pass through: those of ``sigmas``, after the levels down to them from ``renoise``.

    Args:
        sigmas: decreasing levels; the first is that of the parents.
        renoise: the level to which parents are noised first; None: they are not.

    Returns: the decreasing levels.  Those above the first of ``sigmas`` are evenly spaced in ln sigma, about as closely
        as the others are on average.

    Raises: InputError for levels that do not decrease, or a ``renoise`` that is not above the first.
    """
    levels = checked_levels(sigmas)
    if renoise is None:
        return levels
    if not (math.isfinite(renoise) and renoise > levels[0]):
        raise InputError(f"renoise is {renoise:g}, the state is at {levels[0]:g}: noise it to a higher level")
    positive = [s for s in levels if s > 0]  # the levels up to renoise are spaced like these
    step = math.log(positive[0] / positive[-1]) / max(len(positive) - 1, 1) if len(positive) > 1 else 0.2
    count = max(1, math.ceil(math.log(renoise / levels[0]) / max(step, 1e-9)))
    return [*np.geomspace(renoise, levels[0], count + 1)[:-1].tolist(), *levels]


def levels_below(sigma: float, lowest: float, steps: int, zero: bool = True) -> list[float]:
    """Levels for a sampler: from sigma down to a lowest one, evenly spaced in ln sigma, and then 0.

    Args:
        sigma: the first level.
        lowest: the last level above 0.
        steps: how many steps lead from the one to the other.
        zero: whether 0, the clean value, follows.

    Returns: ``steps + 1`` levels, and 0 where it follows.

    Raises: InputError for a lowest level that is not below sigma, or no step.
    """
    if not 0 < lowest < sigma or steps < 1:
        raise InputError(
            f"from sigma {sigma:g} to {lowest:g} in {steps} steps: the last must be lower and above 0, in 1 or more"
        )
    grid = np.geomspace(sigma, lowest, steps + 1).tolist()
    return [*grid, 0.0] if zero else grid
