"""The checker of types under test; an int passes for a float, as in Python itself.

What a function takes and gives is checked in its first calls of each test, and a function within a function where it
is first made: a loop's thousandth call is of the same types, and checking it takes longer than the call.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from types import CodeType, FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

CALLS, MADE = 40, 3
"""Calls of a function that are checked in each test, and how many of the functions that one line makes."""
_conf = BeartypeConf(is_pep484_tower=True)
_muted: list[Callable] = []
_made: Counter[CodeType] = Counter()
_every = jaxtyping.jaxtyped
_test = 0


def check(signature: Callable) -> Callable:
    """Check what jaxtyping gives: a function of nothing but a signature, which it calls beside the real one."""
    checked: Callable | None = None  # made for the first call: most functions are not called by most tests
    test, left = -1, CALLS

    @wraps(signature)
    def counted(*args: Any, **named: Any) -> Any:
        nonlocal checked, test, left
        checked = checked or beartype(signature, conf=_conf)
        if test != _test:
            test, left = _test, CALLS
        left -= 1
        if left == 0:
            _mute(sys._getframe(1).f_locals.get("fn"))  # of jaxtyping, which asks it whether it is checked
        return checked(*args, **named)

    return counted


def _mute(real: Any) -> None:
    if isinstance(real, FunctionType) and not getattr(real, "__no_type_check__", False):
        real.__no_type_check__ = True  # type: ignore[attr-defined]
        _muted.append(real)


def _sparing(fn: Any = None, *, typechecker: Any) -> Any:
    """``jaxtyping.jaxtyped``, but for functions that are made again and again."""
    if fn is None:
        return partial(_sparing, typechecker=typechecker)
    if isinstance(fn, FunctionType):
        _made[fn.__code__] += 1
        if _made[fn.__code__] > MADE:
            return fn
    return _every(fn, typechecker=typechecker)


def install() -> None:
    """Check the package's functions from here on."""
    jaxtyping.jaxtyped = _sparing
    jaxtyping.install_import_hook("sigmascope", "typechecking.check")


def next_test() -> None:
    """Let every function be checked again."""
    global _test
    _test += 1
    _made.clear()
    while _muted:
        del _muted.pop().__no_type_check__  # type: ignore[attr-defined]
