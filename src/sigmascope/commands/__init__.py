"""The commands: what each takes, and what it does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.commands.handlers import RUNS as RUNS
    from sigmascope.commands.study import StudyCommand as StudyCommand
    from sigmascope.commands.study import TrainCommand as TrainCommand

_HOMES = {
    "RUNS": "sigmascope.commands.handlers",
    "StudyCommand": "sigmascope.commands.study",
    "TrainCommand": "sigmascope.commands.study",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
