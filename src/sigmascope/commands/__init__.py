"""The commands: each a module with what it is told, ``Command``, and what it does, ``run``.

torch is loaded only once there is work to do.
"""

from __future__ import annotations

from types import ModuleType

from sigmascope.commands import advise, check, compare, fork, generate, prompts, reproduce, study, train, translate

COMMANDS: dict[str, ModuleType] = {
    "study": study,
    "train": train,
    "compare": compare,
    "generate": generate,
    "fork": fork,
    "check": check,
    "reproduce": reproduce,
    "translate": translate,
    "advise": advise,
    "prompts": prompts,
}
"""By name, in the order of the help."""

__all__ = ["COMMANDS"]
