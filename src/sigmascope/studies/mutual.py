"""The mutual information of two arrays of a file, written into a folder."""

from __future__ import annotations

from pathlib import Path

from sigmascope.core import InputError
from sigmascope.data.npz import arrays_of
from sigmascope.mutual import MutualInformation, mutual_information
from sigmascope.report.mutual import mutual_csv, mutual_figure, mutual_json, mutual_page
from sigmascope.studies.mutual_task import MutualTask
from sigmascope.studies.store import Folder, check_folder

MARKER = "mi.toml"


def measure(task: MutualTask, out: Path) -> tuple[str, bool]:
    """Measure, and write mutual.json, mutual.csv, mutual.png, mutual.svg and report.html.

    Args:
        task: checked.
        out: a folder: new, empty, or that of the same task.

    Returns: the text to print, and whether the folder held the results already.

    Raises: InputError for a file, arrays or a folder that cannot be used.
    """
    check_folder(out, MARKER)
    if (out / MARKER).exists():
        if (out / MARKER).read_text(encoding="utf-8", errors="replace") != task.text():
            raise InputError(f"{out}: it holds the information of other arrays: choose another --out")
        if (out / "report.html").exists():
            return "", True
    names = [n for n in (task.x, task.y, task.given) if n]
    arrays = arrays_of(Path(task.file), names)
    try:
        result = mutual_information(*arrays, steps=task.steps, seed=task.seed)
    except InputError as error:
        shown = f"--x {task.x}, --y {task.y}" + (f", --given {task.given}" if task.given else "")
        raise InputError(f"{task.file} ({shown}): {error}") from error
    _write(Folder(out, MARKER, task.text()), result, task)
    return str(result), False


def _write(store: Folder, result: MutualInformation, task: MutualTask) -> None:
    store.write_text("mutual.csv", mutual_csv(result))
    store.write_text("mutual.json", mutual_json(result, task.x, task.y, task.given))
    if result.ways:
        store.write_figure("mutual", mutual_figure(result, task.x, task.y))
    store.write_text("report.html", mutual_page(result, (task.x, task.y, task.given)))
