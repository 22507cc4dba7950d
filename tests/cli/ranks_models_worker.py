"""What each rank of a run under test does with models: several studies in one group of processes; not a test itself."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import sigmascope.distributed as distributed
from sigmascope.information.jobs import levels
from sigmascope.studies import run
from sigmascope.studies.subjects import generated

sys.path.insert(0, str(Path(__file__).parents[1]))  # this is a program of its own
from asked import study

FOLDER = Path(sys.argv[2])
EVERY = ("score_gap", "mmse_gap", "filter", "likelihood", "classifier", "probes", "posterior", "own_path")
PICTURES = {"data": str(FOLDER / "pictures.npz"), "attributes": ("colour",), "draws": 8, "levels": 4}
MANY = {**PICTURES, "data": str(FOLDER / "many" / "pictures.npz")}
FORKED = {"forks": 6, "steps": 4}
FREE = {"model": f"diffusers:{FOLDER / 'free'}", **FORKED}
STUDIES: dict[str, dict[str, Any]] = {
    "bundled": {
        "data": "scenes", "model": "bundled", "draws": 4, "levels": 4, "budget": 6000,
        "estimators": ("score_gap", "mmse_gap", "filter", "likelihood", "classifier"),
        "attributes": ("shape", "scale"),
    },
    "until": {
        "data": "scenes", "model": "bundled", "draws": 4, "levels": 4, "target_stderr": 0.25, "attributes": ("shape",),
        "estimators": ("score_gap",),
    },
    "classes": {
        **PICTURES, "model": f"diffusers:{FOLDER / 'classes'}", "null_class": 3, "classes": "by-order",
        "budget": 2500, "estimators": tuple(e for e in EVERY if e != "classifier"),
    },
    "trained": {
        **MANY, "model": f"diffusers:{FOLDER / 'classes'}", "null_class": 3, "classes": "by-order",
        "budget": 2500, "classifier_steps": 6, "estimators": ("score_gap", "filter", "classifier"),
        "precision": "bfloat16",
    },
    "free and trained": {**MANY, **FREE, "estimators": ("forks", "classifier"), "classifier_steps": 6},
    "free": {**PICTURES, **FREE, "estimators": ("forks", "probes", "posterior", "own_path")},
    "made": {"data": "generated", "labeller": "labels:colour", "draws": 40, "levels": 3, **FREE},
}  # fmt: skip


def counted(stop: int | None) -> list[int]:
    """Count the steps of this rank from now on; at the one numbered ``stop`` it is killed."""
    steps = [0]
    step = levels.InTurn.step

    def counting(self: levels.InTurn) -> None:
        if type(self) is levels.InTurn:
            if steps[0] == stop:
                os.kill(os.getpid(), signal.SIGKILL)
            steps[0] += 1
        step(self)

    levels.InTurn.step = counting
    return steps


def everything() -> dict[str, Any]:
    """All studies, and how many steps each took here."""
    said: dict[str, Any] = {}
    generated._ROWS = 16
    steps = counted(None)
    for name, options in STUDIES.items():
        steps[0] = 0
        results = study(**options)
        said[name] = steps[0]
        if distributed.rank() == 0:
            results.to_netcdf(FOLDER / f"{name}.nc", engine="h5netcdf")
    return said


if __name__ == "__main__":
    os.chdir(FOLDER)
    sys.path.insert(0, str(FOLDER))  # the labeller
    if sys.argv[1] == "everything":
        with distributed.joined():
            given = everything()
            (FOLDER / f"said{distributed.rank()}.json").write_text(json.dumps(given))
    else:
        from sigmascope.cli import main

        run.CHECKPOINT_SECONDS = generated.CHECKPOINT_SECONDS = 0.0
        if sys.argv[1] == "killed" and os.environ["RANK"] == "1":
            counted(int(sys.argv[3]))
        sys.exit(main(sys.argv[4:]))
