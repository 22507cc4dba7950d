"""Settings of pipelines that others wrote: refused where a number or a type is none that they can have."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from sigmascope.core import InputError

MOST_NUMBER = 10**7
"""The largest whole number of a configuration."""
_MOST_BY_NAME = {"num_train_timesteps": 10**6, "sample_size": 1 << 17}


def check_numbers(config: Mapping[str, Any], name: str) -> None:
    """Refuse numbers that no configuration has, before memory is taken for them.

    Raises: InputError.
    """
    rest: list[tuple[str, Any]] = list(config.items())
    while rest:
        key, value = rest.pop()
        if isinstance(value, Mapping):
            rest += [(str(k), v) for k, v in value.items()]
        elif isinstance(value, (list, tuple)):
            rest += [(key, v) for v in value]
        elif isinstance(value, int) and abs(value) > (most := _MOST_BY_NAME.get(key, MOST_NUMBER)):
            raise InputError(f"{name}: {key} is {value}: expected at most {most:,}")
        elif isinstance(value, float) and (math.isnan(value) or (abs(value) > 1e30 and not math.isinf(value))):
            raise InputError(f"{name}: {key} is {value}: expected a number of reasonable size")


def check_types(config: Mapping[str, Any], made: type, name: str) -> None:
    """Refuse settings of another type than those that a class of diffusers is made with.

    Args:
        config: the settings; those that the class does not have are left alone, and so is what is not set (null).
        made: the class.
        name: of the configuration, in complaints.

    Raises: InputError.
    """
    for key, p in inspect.signature(made).parameters.items():
        value, said = config.get(key), str(p.annotation).lower()
        if value is None or p.default is None or p.default is p.empty:
            continue
        if not _alike(value, p.default, said):
            raise InputError(f"{name}: {key} is {short(value)}: expected {p.default!r} or the like")


def _alike(value: Any, usual: Any, said: str) -> bool:
    """Whether a setting has the type of its default, or one that its annotation names."""
    if isinstance(value, (list, tuple)):
        return isinstance(usual, (tuple, list)) or any(x in said for x in ("tuple", "list", "sequence"))
    for kind in (bool, str):
        if isinstance(usual, kind) or isinstance(value, kind):
            return isinstance(value, kind) and (isinstance(usual, kind) or kind.__name__ in said)
    if isinstance(usual, (int, float)) and isinstance(value, float):
        return isinstance(usual, float) or "float" in said or value.is_integer()
    return isinstance(value, Mapping) == isinstance(usual, Mapping)


def short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:59]}…"
