"""What commands share.  Imports nothing heavy."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from sigmascope.arguments import Flat, arg, group
from sigmascope.errors import InputError

__all__ = ["SAMPLER", "Folder", "Sampler", "SamplerOptions", "finish", "folder", "options_of", "write_whole"]

_T = TypeVar("_T")
Folder = Annotated[str, arg("FOLDER", "(required)")]
"""A folder that a command cannot do without."""


@dataclass(frozen=True)
class SamplerOptions:
    """The run of the pipeline, which decides what a step, a timestep or a strength is."""

    steps: int = 50
    """Steps of the sampler."""
    timesteps: Annotated[str, arg("T,T", "(default: by --steps)")] = ""
    """A list of timesteps, if the pipeline is run with its own list."""
    sigmas: Annotated[str, arg("S,S", "(default: by --steps)")] = ""
    """A list of sigmas in the scheduler's unit, if the pipeline is run with its own list."""
    height: Annotated[int, arg("PIXELS", "(default: the pipeline's own)")] = 0
    """Height of the images. It shifts the noise levels of some pipelines (Flux, Stable Diffusion 3.5)."""
    width: Annotated[int, arg("PIXELS", "(default: the pipeline's own)")] = 0
    """Width of the images."""


Sampler = Annotated[SamplerOptions, Flat, group("sampler")]
"""The options of the sampler, as a group of a command."""
SAMPLER = SamplerOptions()


def folder(out: str) -> Path:
    """The folder for the results.

    Raises: InputError where none is named.
    """
    if not out:
        raise InputError("no folder for the results was named: pass --out FOLDER")
    return Path(out)


def options_of(kind: type[_T], command: Any) -> _T:
    """The options of a task, without those of its command alone.

    Args:
        kind: a dataclass that the class of the command extends.
        command: the parsed command.
    """
    return kind(**{f.name: getattr(command, f.name) for f in fields(kind)})  # type: ignore[arg-type]


def write_whole(out: Path, text: str) -> None:
    """Write a file so that it is complete or absent."""
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def finish(words: str, finished: bool, where: Path, verb: str = "See") -> int:
    """Print the results, or that they were there already, and where to look; returns the exit status."""
    if finished:
        print(f"{where.parent} holds these results already; nothing was done. {verb} {where}", file=sys.stderr)
        return 0
    print(words)
    print(f"\n{verb} {where}", file=sys.stderr)
    return 0
