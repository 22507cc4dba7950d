"""The problem that an estimator is given: a subject, draws of it, noise levels, and jobs that are shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Attribute, Draws, InputError
from sigmascope.information.jobs import Job

S = TypeVar("S")
J = TypeVar("J", bound=Job)
Levels = Float[np.ndarray, " levels"]


def checked_levels(sigma: Levels, least: int = 1) -> Levels:
    """Noise levels in float64.

    Raises: InputError for fewer than ``least``, or some that are not finite, not above 0 or do not decrease.
    """
    levels: np.ndarray = np.asarray(sigma, dtype=np.float64)
    if levels.ndim != 1 or len(levels) < least or not np.all(np.isfinite(levels) & (levels > 0)):
        raise InputError(
            f"sigma has shape {levels.shape}: it must hold {least} or more noise levels, finite and greater than 0; "
            "pass e.g. noise.sigma_grid()"
        )
    if np.any(np.diff(levels) >= 0):
        raise InputError("sigma must decrease: sort it from the largest level down")
    return levels


@runtime_checkable
class EstimatorLike(Protocol):
    """The part of an :class:`~sigmascope.information.estimator.Estimator` that a problem uses."""

    name: str
    needs: frozenset[str]


@dataclass(eq=False, kw_only=True)
class Problem(Generic[S]):
    """A subject, draws that all levels share, and decreasing levels.

    The columns of curves are named by ``items``, or by those of the draws.
    """

    subject: S
    attributes: tuple[Attribute, ...]
    draws: Draws
    sigma: Levels
    seed: int
    estimators: tuple[EstimatorLike, ...] = ()
    items: Tensor | None = None
    shared: dict[str, Job] = field(default_factory=dict, repr=False)

    def job(self, key: str, make: Callable[[], J]) -> J:
        """The job of this key, made at the first request; the same job must have the same key."""
        if key not in self.shared:
            self.shared[key] = make()
        return cast(J, self.shared[key])

    @property
    def column_items(self) -> Tensor:
        """The items that name the columns of curves."""
        return self.draws.items if self.items is None else self.items

    def needs(self, content: str) -> bool:
        """Whether an estimator of the problem needs this in a pass."""
        return any(content in e.needs for e in self.estimators)

    def uses(self, name: str) -> bool:
        """Whether an estimator of this name is among those of the problem."""
        return any(e.name == name for e in self.estimators)


def part(draws: Draws, rows: slice) -> Draws:
    """Some of the draws."""
    return Draws(draws.items[rows], draws.v[rows], draws.noise[rows], {k: x[rows] for k, x in draws.labels.items()})


def joined(first: Draws, second: Draws) -> Draws:
    """Two sets of draws, one after the other."""
    items, v, noise = (torch.cat([getattr(d, n) for d in (first, second)]) for n in ("items", "v", "noise"))
    return Draws(items, v, noise, {k: torch.cat([x, second.labels[k]]) for k, x in first.labels.items()})
