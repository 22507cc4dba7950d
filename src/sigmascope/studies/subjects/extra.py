"""What a study leaves beside its curves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from sigmascope.core import Curve
from sigmascope.information.jobs import Job


class Extra(ABC):
    """What a study leaves beside its curves: variables of the results, and a section of the page that shows them.

    Attributes:
        first: whether its jobs are done before those of the estimators.
    """

    first: bool = False

    @abstractmethod
    def jobs(self, problem: Any) -> Mapping[str, Job]:
        """What it waits for; nothing, as a rule."""

    @abstractmethod
    def add(self, results: xr.Dataset, problem: Any, done: Mapping[str, Any], curves: Sequence[Curve]) -> xr.Dataset:
        """The results with it.

        Args:
            results: with all curves, and the extras before it.
            problem: of the study.
            done: all jobs, done.
            curves: of the study.
        """
