"""What each rank of a run under test does: several studies in one group of processes; not a test itself."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import sigmascope.distributed as distributed
from sigmascope.data import load, memory
from sigmascope.errors import InputError
from sigmascope.exact.finite import posterior as passes
from sigmascope.information.jobs import levels
from sigmascope.information.jobs import passes as job_passes
from sigmascope.studies import run

sys.path.insert(0, str(Path(__file__).parents[1]))  # this is a program of its own
from asked import study

FOLDER = Path(sys.argv[2])
QUICK = {"draws": 16, "levels": 6, "sigma_min": 0.05, "sigma_max": 20.0}
THREE_BLOCKS = QUICK | {"draws": 24, "estimators": "posterior"}
EVERY = ("posterior", "score_gap", "mmse_gap", "filter", "forks")
STUDIES = {
    "exact": ("packed.npz", {"estimators": EVERY}),
    "stored": ("stored.npz", {}),
    "heldout": ("packed.npz", {"law": "heldout"}),
    "few": ("few.npz", {"estimators": ("posterior", "score_gap", "filter")}),
    "few_heldout": ("few.npz", {"law": "heldout"}),
    "parquet": ("pictures.parquet", {}),
    "missing": ("lacking.npz", {}),
    "missing_stored": ("missing_stored.npz", {}),
    "missing_pictures": ("missing.parquet", {}),
    "hierarchy": ("hierarchy:v=4,m=2,s=2,L=2", {"estimators": EVERY}),
}


def high_water() -> int:
    """Bytes that this process has held at most since the mark was last set back."""
    status = Path("/proc/self/status").read_text()
    found = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(found.split()[1])


def smaller_blocks() -> None:
    """Blocks of 8 draws, of 2 tiles on the first rank and 4 on the second, and a checkpoint at every step."""
    job_passes._BLOCK, run.CHECKPOINT_SECONDS = 2, 0.0  # of posteriors alone a block has four times the draws
    passes.tile_rows = lambda *sizes: 1024


class Interrupted(Exception):
    """In place of a signal."""


def counted(stop: int | None, end: object) -> list[int]:
    """Count the steps of this rank from now on; at the one numbered ``stop`` it ends instead."""
    steps = [0]
    step = levels.InTurn.step

    def counting(self: levels.InTurn) -> None:
        if steps[0] == stop:
            end()
        steps[0] += 1
        step(self)

    run.InTurn.step = counting
    return steps


def interrupt() -> None:
    raise Interrupted


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def everything() -> dict[str, Any]:
    """All studies, and what else the tests look at."""
    said: dict[str, Any] = {}
    high_water()
    before = high_water()
    data = load(str(FOLDER / "large.npz"))
    said |= {"grown": high_water() - before, "resident": data.source.resident_bytes}
    said["fingerprint"] = data.fingerprint
    del data
    for name, (what, options) in STUDIES.items():
        where = what if what.startswith("hierarchy") else str(FOLDER / what)
        results = study(where, **(QUICK | options))
        if distributed.rank() == 0:
            results.to_netcdf(FOLDER / f"{name}.nc", engine="h5netcdf")
    source = load(str(FOLDER / "packed.npz")).source
    items = torch.tensor([5999, 0, 2047, 2048, 0])
    said["taken"] = source.take(items).flatten(1).double().sum(1).tolist()
    free = memory.available_bytes
    for name in ("nan.npz", "missing.npz", "large.npz"):
        if name == "large.npz":  # each half fits, both together do not
            memory.available_bytes = lambda: 200_000_000
        try:
            load(str(FOLDER / name))
        except InputError as error:
            said[name] = str(error)
    memory.available_bytes = free
    return said | resumed()


def resumed() -> dict[str, Any]:
    """A study in three blocks (of 2 and of 4 tiles), interrupted twice, and gone on with."""
    smaller_blocks()
    said: dict[str, Any] = {"pages": []}
    run.write_page = lambda write, *content: said["pages"].append(1)
    step, mine = levels.InTurn.step, f"checkpoint-{distributed.rank()}-of-2.npz"
    for case in ("own", "gone", "older"):
        out = FOLDER / case
        for stop in ((1, 3), (2, 2)):
            counted(stop[distributed.rank()], interrupt)
            with contextlib.suppress(Interrupted):
                study(str(FOLDER / "packed.npz"), **THREE_BLOCKS, out=out)
            run.InTurn.step = step
            distributed.barrier()
            if stop == (1, 3):
                older = (out / mine).read_bytes()
        if case == "own" and distributed.rank() == 0:
            shutil.copytree(out, FOLDER / "kept")
        distributed.barrier()
        if case == "gone" and distributed.rank() == 1:
            (out / mine).unlink()
        if case == "older" and distributed.rank() == 1:
            (out / mine).write_bytes(older)
        distributed.barrier()
        steps = counted(None, interrupt)
        study(str(FOLDER / "packed.npz"), **THREE_BLOCKS, out=out)
        run.InTurn.step = step
        said[f"{case} steps"], said[f"{case} left"] = steps[0], sorted(p.name for p in out.glob("*checkpoint*"))
    return said


if sys.argv[1] == "everything":
    with distributed.joined():
        given = everything()
        (FOLDER / f"said{distributed.rank()}.json").write_text(json.dumps(given))
else:
    from sigmascope.cli import main

    smaller_blocks()
    if sys.argv[1] == "killed" and os.environ["RANK"] == "1":
        counted(5, kill)
    sys.exit(main(sys.argv[3:]))
