"""Checks of the settings in a pipeline's configurations: refused where a number or a type is impossible."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from sigmascope.core import InputError

MOST_NUMBER = 10**7
"""The largest whole number in a configuration."""
_MOST_BY_NAME = {"num_train_timesteps": 10**6, "sample_size": 1 << 17}


def check_numbers(config: Mapping[str, Any], name: str) -> None:
    """Refuse numbers that no configuration has, before memory is taken for them."""
    queue: list[tuple[str, Any]] = list(config.items())
    while queue:
        key, value = queue.pop()
        if isinstance(value, Mapping):
            queue += [(str(k), v) for k, v in value.items()]
        elif isinstance(value, (list, tuple)):
            queue += [(key, v) for v in value]
        elif isinstance(value, int) and abs(value) > (limit := _MOST_BY_NAME.get(key, MOST_NUMBER)):
            raise InputError(f"{name}: {key} is {value}: expected at most {limit:,}")
        elif isinstance(value, float) and (math.isnan(value) or (abs(value) > 1e30 and not math.isinf(value))):
            raise InputError(f"{name}: {key} is {value}: expected a number of reasonable size")


def check_types(config: Mapping[str, Any], made: type, name: str) -> None:
    """Refuse settings whose type differs from that of the arguments of a class of diffusers; null is left alone."""
    for key, p in inspect.signature(made).parameters.items():
        value = config.get(key)
        if value is None or p.default is None or p.default is p.empty:
            continue
        if not _same_type(value, p.default, str(p.annotation).lower()):
            raise InputError(f"{name}: {key} is {short(value)}: expected {p.default!r} or the like")


def _same_type(value: Any, default: Any, annotation: str) -> bool:
    """Whether a setting has the type of its default, or one that its annotation names."""
    if isinstance(value, (list, tuple)):
        return isinstance(default, (tuple, list)) or any(x in annotation for x in ("tuple", "list", "sequence"))
    for kind in (bool, str):
        if isinstance(default, kind) or isinstance(value, kind):
            return isinstance(value, kind) and (isinstance(default, kind) or kind.__name__ in annotation)
    if isinstance(default, (int, float)) and isinstance(value, float):
        return isinstance(default, float) or "float" in annotation or value.is_integer()
    return isinstance(value, Mapping) == isinstance(default, Mapping)


def short(value: Any) -> str:
    """The representation of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
