"""Computations in parts, between which they can be interrupted and resumed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import TypeVar

import numpy as np

Arrays = Mapping[str, np.ndarray]
"""Arrays by name."""
T = TypeVar("T")
Parts = Generator[Callable[[], Arrays], None, T]
"""A computation in parts of some seconds.  What it yields gives the arrays from which it can go on, until the next part
is begun; it returns the result."""


def whole(parts: Parts[T]) -> T:
    """The result of a computation, all parts of which are done now."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            result: T = end.value
            return result


def _both(outer: Arrays, inner: Callable[[], Arrays]) -> Arrays:
    return {**outer, **inner()}


def within(outer: Arrays, parts: Parts[T]) -> Parts[T]:
    """A computation that goes on from its own arrays and from those of what is done around it."""
    while True:
        try:
            state = next(parts)
        except StopIteration as end:
            result: T = end.value
            return result
        yield partial(_both, outer, state)
