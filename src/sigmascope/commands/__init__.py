"""The commands: each a module with its options, ``Command``, and its action, ``run``.

torch is loaded only when a command starts to compute.
"""

from __future__ import annotations

import inspect
from types import ModuleType

from sigmascope.commands import (
    advise,
    check,
    compare,
    doctor,
    fork,
    generate,
    mi,
    prompts,
    reproduce,
    study,
    train,
    translate,
)

PURPOSES: dict[str, tuple[ModuleType, ...]] = {
    "Measure": (study, compare, prompts, mi),
    "Use a study": (advise, translate),
    "Train and generate": (train, generate, fork),
    "Check": (doctor, check, reproduce),
}
"""The commands by purpose, in the order of the help."""
COMMANDS: dict[str, ModuleType] = {m.__name__.rpartition(".")[2]: m for group in PURPOSES.values() for m in group}
"""The commands by name."""


def description(name: str) -> str:
    """What a command does, as its ``--help`` begins: a line that sums it up, then the details."""
    return inspect.cleandoc(COMMANDS[name].Command.__doc__ or "")


def overview() -> str:
    """The text of ``sigmascope --help``: a line for each command."""
    lines = [
        "usage: sigmascope COMMAND [OPTIONS]",
        "",
        "At which noise level a diffusion model decides each attribute of what it generates, with error bars.",
    ]
    for purpose, modules in PURPOSES.items():
        names = [m.__name__.rpartition(".")[2] for m in modules]
        lines += ["", f"{purpose}:", *(f"  {name:10} {description(name).splitlines()[0]}" for name in names)]
    lines += ["", "Begin with: sigmascope study scenes --out studies/scenes"]
    lines += ["Explain a command: sigmascope COMMAND --help", "Print the version: sigmascope --version"]
    return "\n".join(lines)


__all__ = ["COMMANDS", "PURPOSES", "description", "overview"]
