"""Joins the curves of a model: control variates by its classifier, groups of draws, and the best lower bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from sigmascope.core import Curve, Draws
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.bounds import best_bound, grouped
from sigmascope.information.controls import classifier_controls, controlled
from sigmascope.information.estimator import Estimator
from sigmascope.information.estimators.bounds import classified_attributes, classifier_job
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.levels import AlongJob
from sigmascope.information.jobs.networks import ControlJob
from sigmascope.information.problems import ModelProblem

CHEAP = 16
"""Cheap draws, given to the classifier alone, for each costly one."""
_OWN, _OTHERS, _OTHERS_OF_FIT, _ALONG = "classifier", "other draws", "other draws to choose on", "along paths"


class Joining:
    """Curves of the draws of a problem as means over groups of them, with the classifier's control variates.

    Nothing is subtracted without a classifier, for an attribute that it does not classify, or where an estimator has no
    draws of the problem.

    Args:
        cheap: makes cheap draws: as many, of those that choices are made on or of those that curves are of, of the
            group of this number.
    """

    def __init__(self, problem: ModelProblem, cheap: Callable[[int, bool, int], Draws]) -> None:
        self._problem = problem
        of_draws = [e for e in problem.estimators if isinstance(e, Estimator) and e.columns != "own"]
        self._known = {a.name: a for a in classified_attributes(problem)} if of_draws else {}
        self._bounds = any(e.columns == "all" for e in of_draws)
        self._paths = any(e.controls == "paths" for e in of_draws)
        each = CHEAP * problem.tested // REPLICATES
        self.others = each * REPLICATES if self._known else 0
        self._cheap = partial(cheap, each)

    @property
    def classified(self) -> int:
        """Calls of the classifier, at most."""
        p = self._problem
        return len(p.draws) * (1 + CHEAP + self._paths) * len(p.sigma) if self._known else 0

    def jobs(self) -> Mapping[str, Job]:
        """The jobs of the classifier."""
        p, known = self._problem, list(self._known.values())
        if not known or p.classifier is None:
            return {}
        classifier, sigma = p.classifier, p.sigma

        def others(of_fit: bool, groups: int) -> ControlJob:
            return ControlJob(classifier, partial(self._cheap, of_fit), groups, sigma, known)

        jobs: dict[str, Job] = {
            _OWN: p.job(_OWN, lambda: classifier_job(p)),
            _OTHERS: p.job(_OTHERS, lambda: others(False, REPLICATES)),
        }
        if self._bounds:  # the best of them is chosen
            jobs[_OTHERS_OF_FIT] = p.job(_OTHERS_OF_FIT, lambda: others(True, REPLICATES // 2))
        if self._paths:
            jobs[_ALONG] = p.job(_ALONG, lambda: AlongJob(classifier, p.draws, sigma, known, p.seed))
        return jobs

    def curves(
        self, measured: Sequence[tuple[Estimator[Any], Sequence[Curve]]], done: Mapping[str, Any]
    ) -> list[Curve]:
        """Every curve in groups, lower bounds first, with the best of them, named ``bound``, for each attribute.

        Args:
            measured: curves of each estimator; those of ``columns = "all"`` include the draws that choices are made on.
            done: the jobs.
        """
        bounds: dict[str, list[tuple[Curve, Curve]]] = {}
        others: list[Curve] = []
        for estimator, curves in measured:
            for curve in curves:
                if estimator.columns == "all":
                    bounds.setdefault(curve.attribute, []).append(self._parted(curve, estimator.controls, done))
                else:
                    others.append(curve if estimator.columns == "own" else self._sharper(curve, done))
        best = [best_bound([fit for _, fit in pairs], [test for test, _ in pairs]) for pairs in bounds.values()]
        tested = [test for pairs in bounds.values() for test, _ in pairs]
        rank = {"lower bound": 0, "estimate": 1, "exact": 2}
        return [*tested, *best, *sorted(others, key=lambda c: rank[c.kind])]

    def _sharper(self, curve: Curve, done: Mapping[str, Any]) -> Curve:
        """A curve of the tested draws."""
        x = self._controls(curve.attribute, "draws", done)
        if x is None:
            return grouped(curve, REPLICATES)
        return controlled(curve, x[:, :, : self._problem.tested], done[_OTHERS].means(curve.attribute))

    def _parted(self, curve: Curve, where: str, done: Mapping[str, Any]) -> tuple[Curve, Curve]:
        """A curve of all draws as two: of the tested draws, and of those to choose on."""
        n, name = self._problem.tested, curve.attribute
        test, fit = (
            Curve.of_draws(name, curve.estimator, curve.sigma, part, curve.ceiling, kind=curve.kind)
            for part in (curve.per_draw[:, :n], curve.per_draw[:, n:])
        )
        x = self._controls(name, where, done)
        if x is None:
            return grouped(test, REPLICATES), fit
        other = (fit.per_draw, x[:, :, n:])
        return (
            controlled(test, x[:, :, :n], done[_OTHERS].means(name), other),
            controlled(fit, x[:, :, n:], done[_OTHERS_OF_FIT].means(name)),
        )

    def _controls(self, name: str, where: str, done: Mapping[str, Any]) -> Float[np.ndarray, "2 levels draws"] | None:
        """Controls of all draws at their own noise or along their paths; None for an attribute without."""
        if name not in self._known:
            return None
        if where == "paths":
            along: np.ndarray = done[_ALONG].controls(name)
            return along
        return classifier_controls(self._known[name], done[_OWN].log_q(name), self._problem.draws.labels[name])
