"""The draws of an earlier study of a model, taken over by another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sigmascope.core import InputError
from sigmascope.information.allocation import Allocation
from sigmascope.learn.settings import NULL
from sigmascope.studies.reading import read_study


def allocation_of(study: Path, names: Sequence[str]) -> Allocation:
    """The allocation of an earlier study, so that two models are measured on the same draws.

    Raises: InputError where there is none, or it is of other attributes than these.
    """
    path = study / "results.nc" if study.is_dir() else study
    file = read_study(path, "pass a study of a model")
    held = {str(k): v.values for k, v in file.data_vars.items() if str(k).startswith("allocation_")}
    asked = [*map(str, file.attribute.values), *([NULL] if "null_score_gap" in file else [])]
    if not held or asked != list(names):
        raise InputError(f"{path}: no study of a model with the attributes {', '.join(names)}: pass one to --like")
    try:
        return Allocation.from_state({k.removeprefix("allocation_"): v for k, v in held.items()})
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise InputError(f"{path}: its draws cannot be read: pass a study of a model to --like") from error
