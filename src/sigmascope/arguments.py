"""How options are shown on the command line, and read from it.  Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import PrimitiveConstructorSpec

__all__ = ["AsText", "Device", "Flag", "Flat", "Hidden", "HiddenNumber", "Names", "Place", "arg", "group", "listed"]

Flag = Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help_behavior_hint="")]
"""An option without a value: True where it is given."""
Flat: Any = tyro.conf.OmitArgPrefixes
"""Marks a group of options whose names stand without the name of the group."""
Hidden = tyro.conf.Suppress[str]
"""A field that is no option of the command line."""
HiddenNumber = tyro.conf.Suppress[int]
"""A number that is no option of the command line."""
Place: Any = tyro.conf.Positional
"""Marks an argument that is given without a name."""


def arg(metavar: str, hint: str | Callable[[str], str] | None = "", text: str | None = None) -> Any:
    """How the help shows an option.

    Args:
        metavar: the word that stands for its value.
        hint: the text in place of the default, or a function that makes it of the default; empty: no text; None: the
            default itself.
        text: the text of the help, where the docstring of the option is for Python alone; None: the docstring.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, help=text)


def group(name: str) -> Any:
    """The title of a group of options."""
    return tyro.conf.arg(name=name)


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """A tuple of names; a string is split at its commas."""
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
"""Marks an option that is text on the command line and may be an object from Python."""
