"""Variables of results beside the curves of a study."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from sigmascope.core import Curve
from sigmascope.information.jobs import Job

Jobs = Mapping[str, Any]
"""The finished jobs of a study, by key."""


class Extra(ABC):
    """Variables of the results beside the curves; a section of the page shows them.

    Attributes:
        first: whether its jobs come before those of the estimators.
    """

    first: bool = False

    @abstractmethod
    def jobs(self, problem: Any) -> Mapping[str, Job]:
        """The jobs that it needs, by key."""

    @abstractmethod
    def add(self, results: xr.Dataset, problem: Any, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        """The results with its variables.

        Args:
            results: with all curves, and the extras before this one.
            problem: of the study.
            done: all jobs, finished.
            curves: of the study.
        """


class Jobless(Extra):
    """An extra that reads only jobs of others."""

    def jobs(self, problem: Any) -> Mapping[str, Job]:
        return {}
