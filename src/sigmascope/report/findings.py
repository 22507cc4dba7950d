"""The results of a study in the form that the sections of its page read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from sigmascope.analysis.onset import Onset
from sigmascope.core import Agreement, Curve
from sigmascope.information.estimator import Derived, Estimator, in_order, look
from sigmascope.report.explorer import Explored

MOST_DRAWN = 40
"""Attributes in figures; tables hold all."""
_AXES = {"attribute": "attribute", "value": "value_attribute", "first": "first", "second": "second"}
"""Axes of results that attributes lie along, and the variable that names the attribute of each of their entries."""


@dataclass(frozen=True, eq=False)
class Findings:
    """The results of a study with everything that is computed from them for the page.

    Args:
        results: the study's Dataset.
        kind: of its subject, one of :data:`~sigmascope.information.estimator.SUBJECTS` or another that was registered.
        curves: of its main estimator.
        others: of the other estimators.
        onsets: of ``curves``, in order.
        agreements: of the other estimators with the main one, where that is exact.
        conditionals: information about an attribute given another, and given nothing.
        doubts: the verdict on each attribute whose main curve is marked as biased.
        example: an item and a noise, for a strip of images.
        advice: what to do with the results, HTML.
        explored: one image at many levels, for the slider; None where the posterior is not known exactly.
    """

    results: xr.Dataset
    kind: str
    curves: Sequence[Curve]
    others: Sequence[Curve]
    onsets: Sequence[Onset]
    agreements: Sequence[Agreement]
    conditionals: Sequence[tuple[Curve, Curve]]
    doubts: Mapping[str, str]
    example: tuple[np.ndarray, np.ndarray]
    advice: str
    explored: Explored | None = None

    @property
    def of_model(self) -> bool:
        """Whether a network was studied."""
        return "model" in self.results.attrs

    @property
    def of_sampler(self) -> bool:
        """Whether that network is unconditional and was studied through the images that it makes."""
        return "children" in self.results

    @property
    def main(self) -> str:
        """The main estimator of the study."""
        return self.curves[0].estimator

    @property
    def bounded(self) -> bool:
        """Whether the main curves are lower bounds."""
        return self.curves[0].kind == "lower bound"

    def estimators(self, kind: str) -> list[str]:
        """The estimators of one kind, in the order of the register."""
        kinds = dict(zip(map(str, self.results.estimator.values), map(str, self.results.kind.values), strict=True))
        return in_order((e for e, k in kinds.items() if k == kind), self.kind)

    def look(self, estimator: str) -> Estimator[Any] | Derived:
        """The words and the colour of an estimator."""
        return look(estimator, self.kind) or Derived(estimator, (), "estimate")

    def called(self, estimator: str) -> str:
        """Its name in a sentence."""
        return self.look(estimator).called or estimator

    def label(self, estimator: str) -> str:
        """Its name in a legend."""
        return self.look(estimator).label or estimator

    def words(self, estimators: Sequence[str]) -> list[str]:
        """What each estimator measures and how, where that is known."""
        return [w for e in dict.fromkeys(estimators) if (w := self.look(e).words)]

    @cached_property
    def few(self) -> Findings:
        """The same of the first attributes alone, as many as figures show."""
        if len(self.onsets) <= MOST_DRAWN:
            return self
        names = [row.attribute for row in self.onsets[:MOST_DRAWN]]
        axes = {
            d: np.isin(self.results[n].values.astype(str), names) for d, n in _AXES.items() if d in self.results.dims
        }
        return replace(
            self,
            results=self.results.isel(axes),
            curves=[c for c in self.curves if c.attribute in names],
            others=[c for c in self.others if c.attribute in names],
            onsets=self.onsets[:MOST_DRAWN],
            agreements=[a for a in self.agreements if a.attribute in names],
            conditionals=self.conditionals[:MOST_DRAWN],
        )
