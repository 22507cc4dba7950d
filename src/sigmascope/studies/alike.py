"""The draws of an earlier study of a model, to measure another model on the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sigmascope.core import InputError
from sigmascope.information.allocation import Allocation
from sigmascope.learn.settings import NULL
from sigmascope.studies.reading import read_study


def allocation_of(study: Path, names: Sequence[str]) -> Allocation:
    """The allocation of an earlier study, so that two models are measured on the same draws.

    Raises: InputError where there is none, or it has other attributes.
    """
    path = study / "results.nc" if study.is_dir() else study
    file = read_study(path, "pass a study of a model")
    stored = {str(k): v.values for k, v in file.data_vars.items() if str(k).startswith("allocation_")}
    measured = [*map(str, file.attribute.values), *([NULL] if "null_score_gap" in file else [])]
    if not stored or measured != list(names):
        raise InputError(f"{path}: no study of a model with the attributes {', '.join(names)}: pass one to --like")
    try:
        return Allocation.from_state({k.removeprefix("allocation_"): v for k, v in stored.items()})
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise InputError(f"{path}: its draws cannot be read: pass a study of a model to --like") from error
