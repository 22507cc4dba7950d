"""How options are shown on the command line, and read from it.  Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import PrimitiveConstructorSpec

Flag = tyro.conf.FlagCreatePairsOff[bool]
"""True where the option is there."""
Flat = tyro.conf.OmitArgPrefixes
"""Of a group of options: they go by their own names."""
Hidden = tyro.conf.Suppress[str]
"""A text that the command line does not have."""
Place = tyro.conf.Positional
"""Of an argument that stands without a name."""


def arg(metavar: str, hint: str | Callable[[str], str] | None = "") -> Any:
    """An option with a word for its value, and what is said of its default.

    Args:
        metavar: the word.
        hint: said in place of the default, or made of its text; empty: nothing; None: the default itself.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


def group(name: str) -> Any:
    """The title of a group of options."""
    return tyro.conf.arg(name=name)


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """A tuple of names, which may come as one string separated by commas."""
    return tuple(n.strip() for n in names.split(",") if n.strip()) if isinstance(names, str) else tuple(names)


Device = Annotated[
    str, tyro.conf.arg(metavar="DEVICE", help="Where to compute: auto (a CUDA GPU where there is one), cpu, cuda.")
]
"""Where to compute."""
Names = Annotated[
    tuple[str, ...],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="A,B",
        instance_from_str=lambda given: listed(given[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(value)],
    ),
]
"""Names, separated by commas."""
AsText = PrimitiveConstructorSpec(
    nargs=1,
    metavar="TEXT",
    instance_from_str=lambda given: given[0],
    is_instance=lambda value: True,
    str_from_instance=lambda value: [str(value)],
)
"""Of an option that is a text on the command line, and more from Python."""
